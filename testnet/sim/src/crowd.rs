//! Where the nodes of a network stand in the key space, and which of them lie: what no single node can know.

use weft_dht::{Key, Peer, Point};

use crate::machine::NodeId;

/// A node's id with its place, which is hashed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The node.
    pub node: NodeId,
    point: Point,
}

impl Id {
    /// Returns a node's id.
    pub fn of(node: NodeId) -> Self {
        let point = Point::of(&node.to_be_bytes());
        Self { node, point }
    }
}

impl Peer for Id {
    fn key(&self) -> Key {
        Key::new(&self.node.to_be_bytes()).expect("four bytes are no long key")
    }

    fn point(&self) -> Point {
        self.point
    }
}

/// All nodes of a network, and the liars among them.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    /// Ascending by point.
    all: Vec<Id>,
    liars: Vec<Id>,
    lies: Vec<bool>,
}

impl Crowd {
    /// Makes a crowd of `nodes` nodes that are honest.
    pub fn new(nodes: u32) -> Self {
        let mut all: Vec<Id> = (0..nodes).map(Id::of).collect();
        all.sort_unstable_by_key(Id::point);
        Self {
            all,
            liars: Vec::new(),
            lies: vec![false; nodes as usize],
        }
    }

    /// Makes these nodes liars, and no others.
    pub fn set_liars(&mut self, liars: &[NodeId]) {
        self.lies.fill(false);
        for liar in liars {
            self.lies[*liar as usize] = true;
        }
        self.liars = self.all.clone();
        self.liars.retain(|id| self.lies[id.node as usize]);
    }

    /// Returns whether a node lies.
    pub fn lies(&self, node: NodeId) -> bool {
        self.lies.get(node as usize).copied().unwrap_or(false)
    }

    /// Returns the `count` liars closest to a point, but for one; the closest first.
    pub fn closest_liars(&self, target: Point, count: usize, but: NodeId) -> Vec<Id> {
        closest(&self.liars, target, count, |node| node != but)
    }

    /// Returns the `count` nodes closest to a point of those that count; the closest first.
    pub fn closest(&self, target: Point, count: usize, counts: impl Fn(NodeId) -> bool) -> Vec<Id> {
        closest(&self.all, target, count, counts)
    }
}

/// Whoever shares a longer prefix with the target is closer to it than whoever shares a shorter one, and those that share
/// one lie side by side: the smallest such part that holds enough holds the closest.
fn closest(sorted: &[Id], target: Point, count: usize, counts: impl Fn(NodeId) -> bool) -> Vec<Id> {
    let around = sorted.partition_point(|id| id.point < target);
    let (mut from, mut to) = (around, around);
    let mut found: Vec<Id> = Vec::new();
    loop {
        // The next prefix worth a look is the longest that the nodes just outside share with the target.
        let shared = |at: Option<&Id>| at.map(|id| id.point.shared_prefix(target));
        let before = shared(from.checked_sub(1).and_then(|at| sorted.get(at)));
        let after = shared(sorted.get(to));
        let Some(bits) = before.max(after).filter(|_| found.len() < count) else {
            break;
        };
        let within = |at: Option<&Id>| at.is_some_and(|id| id.point.shared_prefix(target) >= bits);
        while within(from.checked_sub(1).and_then(|at| sorted.get(at))) {
            from -= 1;
            found.extend(Some(sorted[from]).filter(|id| counts(id.node)));
        }
        while within(sorted.get(to)) {
            found.extend(Some(sorted[to]).filter(|id| counts(id.node)));
            to += 1;
        }
    }
    found.sort_unstable_by_key(|id| id.point ^ target);
    found.truncate(count);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_are_those_that_a_look_at_everybody_finds() {
        let crowd = Crowd::new(500);
        for target in 0..100_u32 {
            let target = Point::of(&[&target.to_be_bytes()[..], b"target"].concat());
            let odd = |node: NodeId| node % 2 == 1;
            let mut all: Vec<Id> = (0..500).filter(|node| odd(*node)).map(Id::of).collect();
            all.sort_by_key(|id| id.point ^ target);
            all.truncate(20);
            assert_eq!(crowd.closest(target, 20, odd), all);
        }
    }

    #[test]
    fn where_too_few_count_all_of_them_are_closest() {
        let mut crowd = Crowd::new(50);
        crowd.set_liars(&[3, 7, 11]);
        let target = Point::of(b"anything");
        let mut closest: Vec<NodeId> = crowd
            .closest_liars(target, 20, 7)
            .into_iter()
            .map(|id| id.node)
            .collect();
        closest.sort_unstable();
        assert_eq!(closest, [3, 11]);
        assert!(crowd.lies(3) && !crowd.lies(4));
    }
}
