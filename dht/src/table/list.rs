//! Peers in the order of their distance to one point: buckets are ranges of it.
//!
//! A table is searched several times for each message, and in a simulation of many nodes each look at an entry is a miss of the
//! cache. So the leading bits of all distances stand side by side, and a search reads little else.

use std::ops::{Deref, DerefMut, Range};

use super::Entry;
use crate::{Contact, Point};

/// Places that a list grows by: doubling would waste half of a large simulation's memory.
const GROWTH: usize = 16;

/// Entries, ascending by distance to a point.
#[derive(Debug)]
pub(super) struct List<C> {
    me: Point,
    entries: Vec<Entry<C>>,
    /// The leading bits of each entry's distance.
    leads: Vec<u64>,
}

impl<C: Contact> List<C> {
    /// Makes the empty list of those around a point.
    pub(super) const fn around(me: Point) -> Self {
        Self {
            me,
            entries: Vec::new(),
            leads: Vec::new(),
        }
    }

    /// Finds the place of a point, or the place that it would take.
    pub(super) fn place(&self, point: Point) -> Result<usize, usize> {
        let distance = self.me ^ point;
        let lead = distance.lead();
        let from = self.leads.partition_point(|other| *other < lead);
        // Two that share so many bits are made up; they are searched one by one.
        let same = self.leads[from..].iter().take_while(|it| **it == lead);
        for (at, _) in (from..).zip(same) {
            match (self.entries[at].point() ^ self.me).cmp(&distance) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(at),
                std::cmp::Ordering::Greater => return Err(at),
            }
        }
        Err(self.leads.partition_point(|other| *other <= lead))
    }

    /// Returns where those lie that share exactly so many bits with the point.
    pub(super) fn range(&self, prefix: u32) -> Range<usize> {
        if prefix < u64::BITS {
            let start = self.leads.partition_point(|it| it.leading_zeros() > prefix);
            let rest = &self.leads[start..];
            return start..start + rest.partition_point(|it| it.leading_zeros() == prefix);
        }
        let shared = |entry: &Entry<C>| self.me.shared_prefix(entry.point());
        let start = self.entries.partition_point(|it| shared(it) > prefix);
        let rest = &self.entries[start..];
        start..start + rest.partition_point(|it| shared(it) == prefix)
    }

    /// Reads a word of each line of the cache that a search may need.
    pub(super) fn touch(&self) -> u64 {
        const WORDS_PER_LINE: usize = 8;
        let lines = self.leads.iter().step_by(WORDS_PER_LINE);
        lines.fold(0, |read, lead| read ^ lead)
    }

    /// Puts an entry in its place; one of the same peer must not be there.
    pub(super) fn insert(&mut self, entry: Entry<C>) {
        let (Ok(at) | Err(at)) = self.place(entry.point());
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(GROWTH);
            self.leads.reserve_exact(GROWTH);
        }
        self.leads.insert(at, (self.me ^ entry.point()).lead());
        self.entries.insert(at, entry);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: usize) -> Entry<C> {
        self.leads.remove(at);
        self.entries.remove(at)
    }

    /// Keeps those that pass.
    pub(super) fn retain(&mut self, pass: impl Fn(&Entry<C>) -> bool) {
        self.entries.retain(pass);
        let me = self.me;
        self.leads.clear();
        let leads = self.entries.iter().map(|it| (me ^ it.point()).lead());
        self.leads.extend(leads);
    }
}

impl<C> Deref for List<C> {
    type Target = [Entry<C>];

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl<C> DerefMut for List<C> {
    /// Entries may change, but for their points.
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestPeer, at, contact};
    use crate::{Distance, Peer};

    const ME: u32 = 1_000_000;

    /// A list of some peers, and their points, the closest first.
    fn list(peers: std::ops::Range<u32>) -> (List<crate::testing::TestContact>, Vec<Point>) {
        let me = TestPeer(ME).point();
        let mut list = List::around(me);
        let mut points = Vec::new();
        for peer in peers {
            let point = TestPeer(peer).point();
            list.insert(Entry::new(point, contact(peer), at(0).time));
            points.push(point);
        }
        points.sort_by_key(|point| me ^ *point);
        (list, points)
    }

    fn points(list: &List<crate::testing::TestContact>) -> Vec<Point> {
        list.iter().map(Entry::point).collect()
    }

    #[test]
    fn each_is_found_in_its_place_whatever_leaves() {
        let (mut list, mut expected) = list(0..200);
        assert_eq!(points(&list), expected);
        for at in [199, 100, 0] {
            list.remove(at);
            expected.remove(at);
        }
        let odd = |point: Point| point.as_bytes()[31] % 2 == 1;
        list.retain(|entry| odd(entry.point()));
        expected.retain(|point| odd(*point));
        assert_eq!(points(&list), expected);
        for (at, point) in expected.iter().enumerate() {
            assert_eq!(list.place(*point), Ok(at));
        }
        let me = TestPeer(ME).point();
        for peer in 200..400 {
            let point = TestPeer(peer).point();
            let before = expected.partition_point(|other| (me ^ *other) < (me ^ point));
            assert_eq!(list.place(point), Err(before));
        }
    }

    #[test]
    fn buckets_are_ranges_and_the_deepest_come_first() {
        let (list, expected) = list(0..200);
        let me = TestPeer(ME).point();
        let mut end = 200;
        for prefix in 0..=256 {
            let members = expected
                .iter()
                .filter(|it| me.shared_prefix(**it) == prefix);
            let range = list.range(prefix);
            assert_eq!((range.len(), range.end), (members.count(), end));
            end = range.start;
        }
        assert_eq!(end, 0);
    }

    /// Nobody can make such peers; the list must stay in order all the same.
    #[test]
    fn points_that_differ_late_are_told_apart() {
        let me = Point::from_bytes([0; 32]);
        let mut list = List::around(me);
        let point = |last: u8| {
            let mut bytes = [0; 32];
            bytes[31] = last;
            Point::from_bytes(bytes)
        };
        for last in [6, 2, 4, 1] {
            list.insert(Entry::new(point(last), contact(0), at(0).time));
        }
        let expected = [1, 2, 4, 6].map(point);
        assert_eq!(points(&list), expected);
        assert_eq!(
            (list.place(point(4)), list.place(point(5))),
            (Ok(2), Err(3))
        );
        assert_eq!((list.range(253), list.range(254)), (2..4, 1..2));
        let distances: Vec<Distance> = expected.iter().map(|it| me ^ *it).collect();
        assert!(distances.is_sorted());
    }
}
