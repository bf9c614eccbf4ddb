//! Who pushes to whom: the shared tree and one for each publisher.
//!
//! Plumtree's paper (§3.3) has one tree of symmetric eager links that duplicates carve out of a flood. Here
//! - a publisher's tree remembers its *parent*, the neighbour whose pushes arrive first, and never pushes to it. A loop of two can't
//!   form, the parent is never pruned, and a lost parent is replaced at once instead of after a timer;
//! - a member that has lost its parent and pushes to all its other neighbours turns the link to one of them around: that one seeks another
//!   way, or turns a link in its turn, until one is found out of the branch (Gafni, Bertsekas, "Distributed Algorithms for Generating
//!   Loop-Free Routes in Networks with Frequently Changing Topology", IEEE Trans. Comm. 1981). Else the whole branch would wait for an
//!   announcement. No link is turned back before something has come, so it ends;
//! - nothing starts as a flood: a publisher that was not seen before starts on the swarm's [shared tree](super::shared).
//!
//! Links stay eager on both ends (the parent is in `eager` as well), so that when a parent changes, the old one goes on being
//! pushed to, and a whole branch that hung above it is fed again without another graft.

use std::time::Duration;

use crate::small::{SmallMap, SmallSet};
use crate::{Peer, Time};

/// Publishers with a tree of their own: some 300 bytes each; the one used longest ago starts anew from the shared tree.
pub const TREES_MAX: usize = 64;
/// A PRUNE isn't repeated sooner: what was under way when it was sent may take this long to arrive (a guess: many round trips).
pub(crate) const PRUNE_REPEAT: Duration = Duration::from_millis(500);
/// How long a neighbour's word counts for nothing that said it was the better parent and was not: mostly it had a new parent
/// itself meanwhile, so once is short, and doubles each time up to the longest (guesses).
const DOUBTED_MIN: Duration = Duration::from_secs(1);
const DOUBTED_DOUBLINGS: u32 = 6;

#[derive(Clone, Copy, Debug)]
struct Doubt {
    until: Time,
    times: u32,
}

/// One publisher's tree at this member.
#[derive(Clone, Debug)]
pub struct Tree<P> {
    parent: Option<P>,
    eager: SmallSet<P>,
    /// When neighbours were told to stop pushing.
    pruned: SmallMap<P, Time>,
    /// The parent was chosen by its word and has brought nothing first yet.
    on_trial: bool,
    /// Neighbours that did not keep their word, until when it counts for nothing, and how often that was.
    doubted: SmallMap<P, Doubt>,
    /// Neighbours that have lost their way and have asked this member, which they were the parent of: none leads over them until
    /// something comes.
    astray: SmallSet<P>,
    used: u64,
}

impl<P: Peer> Tree<P> {
    /// Returns the neighbour whose pushes arrive first.
    pub fn parent(&self) -> Option<P> {
        self.parent
    }

    /// Returns the neighbours that are pushed to, ascending.
    pub fn pushes_to(&self) -> impl Iterator<Item = P> {
        let parent = self.parent;
        self.eager.iter().filter(move |peer| Some(*peer) != parent)
    }

    /// Returns whether a neighbour has lost its way, and asks this member for one.
    pub(crate) fn is_astray(&self, peer: P) -> bool {
        self.astray.contains(&peer)
    }

    /// Returns whether a neighbour's word of when something came to it counts for nothing now.
    pub(crate) fn doubts(&self, peer: P, now: Time) -> bool {
        let doubt = self.doubted.get(&peer);
        doubt.is_some_and(|doubt| now < doubt.until)
    }

    /// A bundle came first from this neighbour: a parent that was chosen by its word has kept it, or not.
    fn judge(&mut self, from: P, now: Time) {
        let Some(parent) = self.parent.filter(|_| std::mem::take(&mut self.on_trial)) else {
            return;
        };
        if parent == from {
            self.doubted.remove(&parent);
            return;
        }
        let times = self.doubted.get(&parent).map_or(0, |doubt| doubt.times);
        let doubt = Doubt {
            until: now + DOUBTED_MIN * (1 << times.min(DOUBTED_DOUBLINGS)),
            times: times.saturating_add(1),
        };
        self.doubted.insert(parent, doubt);
    }

    fn attach(&mut self, parent: P) {
        self.parent = Some(parent);
        self.eager.insert(parent);
        self.pruned.remove(&parent);
    }
}

/// A control message that a change of the trees asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order<P> {
    /// To a neighbour, for a publisher's tree.
    Graft(P, P),
    /// To a neighbour, for a publisher's tree.
    Prune(P, P),
    /// The publisher's tree has lost its parent: somebody must be grafted now.
    Orphaned(P),
}

/// All trees of a swarm at this member.
#[derive(Clone, Debug)]
pub struct Trees<P> {
    me: P,
    shared: SmallSet<P>,
    publishers: SmallMap<P, Tree<P>>,
    uses: u64,
}

impl<P: Peer> Trees<P> {
    pub(crate) fn new(me: P) -> Self {
        Self {
            me,
            shared: SmallSet::new(),
            publishers: SmallMap::new(),
            uses: 0,
        }
    }

    /// Returns the neighbours on the shared tree, ascending.
    pub fn shared(&self) -> impl Iterator<Item = P> {
        self.shared.iter()
    }

    /// Returns the publishers' trees in ascending order.
    pub fn publishers(&self) -> impl Iterator<Item = (P, &Tree<P>)> {
        self.publishers
            .iter()
            .map(|(publisher, tree)| (*publisher, tree))
    }

    /// Returns whether somebody is expected to push a publisher's messages to this member.
    pub(crate) fn has_parent(&self, publisher: P) -> bool {
        match self.publishers.get(&publisher) {
            Some(tree) => tree.parent.is_some(),
            None => !self.shared.is_empty(),
        }
    }

    /// Returns whether this neighbour was made a publisher's parent and has brought nothing first since.
    pub(crate) fn is_on_trial(&self, publisher: P, parent: P) -> bool {
        let tree = self.publishers.get(&publisher);
        tree.is_some_and(|tree| tree.on_trial && tree.parent == Some(parent))
    }

    /// Returns whom to push a publisher's bundle to.
    pub(crate) fn targets(&mut self, publisher: P, from: Option<P>) -> Vec<P> {
        let tree = self.tree(publisher);
        tree.pushes_to()
            .filter(|peer| Some(*peer) != from)
            .collect()
    }

    /// The shared tree has changed: publishers that come from now on start on it.
    pub(crate) fn set_shared(&mut self, shared: SmallSet<P>) {
        self.shared = shared;
    }

    /// A neighbour that has just joined hangs below this member on the shared tree: it gets what all publish; what comes
    /// twice, it prunes.
    pub(crate) fn adopted(&mut self, child: P) {
        for tree in self.publishers.values_mut() {
            tree.eager.insert(child);
        }
    }

    pub(crate) fn neighbour_up(&mut self, peer: P, orders: &mut Vec<Order<P>>) {
        let me = self.me;
        for (publisher, tree) in self.publishers.iter_mut() {
            if tree.parent.is_none() && *publisher != me {
                tree.attach(peer);
                orders.push(Order::Graft(peer, *publisher));
            }
        }
        // The node's own messages go to whoever pushes to or asks of it; a lone publisher takes its first neighbour.
        if let Some(own) = self.publishers.get_mut(&me)
            && own.eager.is_empty()
        {
            own.eager.insert(peer);
        }
    }

    pub(crate) fn neighbour_down(&mut self, peer: P, orders: &mut Vec<Order<P>>) {
        self.shared.remove(&peer);
        for (publisher, tree) in self.publishers.iter_mut() {
            tree.eager.remove(&peer);
            tree.pruned.remove(&peer);
            tree.doubted.remove(&peer);
            tree.astray.remove(&peer);
            if tree.parent == Some(peer) {
                tree.parent = None;
                orders.push(Order::Orphaned(*publisher));
            }
        }
    }

    /// A publisher's bundle came for the first time, pushed along a tree.
    pub(crate) fn pushed_first(&mut self, publisher: P, from: P, now: Time) {
        let tree = self.tree(publisher);
        tree.astray.clear();
        let stopping = tree
            .pruned
            .get(&from)
            .is_some_and(|told| now.since(*told) < PRUNE_REPEAT);
        if tree.parent.is_none() || !stopping {
            tree.judge(from, now);
            tree.attach(from);
        }
    }

    /// A neighbour says that a publisher's bundle came to it so early that it would be the better parent; returns whether
    /// it is the parent now.
    pub(crate) fn shortcut(
        &mut self,
        publisher: P,
        over: P,
        now: Time,
        orders: &mut Vec<Order<P>>,
    ) -> bool {
        // A tree that has been displaced stays so: what is said of an old head is no use of it.
        let Some(tree) = self.publishers.get_mut(&publisher) else {
            return false;
        };
        let is_doubted = tree.doubts(over, now);
        let Some(old) = tree.parent.filter(|_| !is_doubted) else {
            return false;
        };
        // The parent itself has found a better one.
        if old == over {
            return true;
        }
        tree.attach(over);
        tree.on_trial = true;
        tree.eager.remove(&old);
        tree.pruned.insert(old, now);
        orders.push(Order::Graft(over, publisher));
        orders.push(Order::Prune(old, publisher));
        true
    }

    /// A publisher's bundle came again, pushed along a tree.
    pub(crate) fn pushed_again(
        &mut self,
        publisher: P,
        from: P,
        now: Time,
        orders: &mut Vec<Order<P>>,
    ) {
        let me = self.me;
        let tree = self.tree(publisher);
        if tree.parent == Some(from) {
            return;
        }
        if tree.parent.is_none() && publisher != me {
            tree.attach(from);
            return;
        }
        tree.eager.remove(&from);
        let told = tree.pruned.get(&from).copied();
        if told.is_some_and(|told| now.since(told) < PRUNE_REPEAT) {
            return;
        }
        tree.pruned.insert(from, now);
        orders.push(Order::Prune(from, publisher));
    }

    /// This member wants a neighbour to push along a tree from now on.
    pub(crate) fn graft(&mut self, publisher: P, to: P, orders: &mut Vec<Order<P>>) {
        orders.push(Order::Graft(to, publisher));
        let tree = self.tree(publisher);
        tree.attach(to);
        tree.on_trial = true;
    }

    pub(crate) fn grafted(&mut self, from: P, publisher: P, orders: &mut Vec<Order<P>>) {
        let tree = self.tree(publisher);
        tree.eager.insert(from);
        if tree.parent == Some(from) {
            tree.parent = None;
            tree.astray.insert(from);
            orders.push(Order::Orphaned(publisher));
        }
    }

    pub(crate) fn pruned(&mut self, from: P, publisher: P, orders: &mut Vec<Order<P>>) {
        let Some(tree) = self.publishers.get_mut(&publisher) else {
            return;
        };
        if tree.parent == Some(from) {
            // The prune crossed with pushes that made it the parent: it is upstream, so it is asked again.
            orders.push(Order::Graft(from, publisher));
        } else {
            tree.eager.remove(&from);
        }
    }

    fn tree(&mut self, publisher: P) -> &mut Tree<P> {
        self.uses += 1;
        if !self.publishers.contains_key(&publisher) && self.publishers.len() >= TREES_MAX {
            let oldest = self
                .publishers
                .iter()
                .filter(|(publisher, _)| **publisher != self.me)
                .min_by_key(|(_, tree)| tree.used)
                .map(|(publisher, _)| *publisher);
            if let Some(oldest) = oldest {
                self.publishers.remove(&oldest);
            }
        }
        let tree = self.publishers.get_or_insert_with(publisher, || Tree {
            parent: None,
            eager: self.shared.clone(),
            pruned: SmallMap::new(),
            on_trial: false,
            doubted: SmallMap::new(),
            astray: SmallSet::new(),
            used: 0,
        });
        tree.used = self.uses;
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 0;
    const PUBLISHER: u32 = 9;

    fn trees(neighbours: &[u32]) -> Trees<u32> {
        let mut trees = Trees::new(ME);
        for peer in neighbours {
            trees.neighbour_up(*peer, &mut Vec::new());
        }
        trees
    }

    fn tree(trees: &Trees<u32>) -> &Tree<u32> {
        trees.publishers.get(&PUBLISHER).unwrap()
    }

    #[test]
    fn a_new_neighbour_is_lazy_until_the_shared_tree_has_it() {
        let mut trees = trees(&[1, 2]);
        assert_eq!(trees.targets(7, None), []);
        trees.set_shared([1].into_iter().collect());
        assert_eq!(trees.targets(8, None), [1]);
    }

    #[test]
    fn a_newcomer_below_gets_what_all_publish() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        trees.adopted(2);
        assert_eq!(trees.targets(PUBLISHER, Some(1)), [2]);
    }

    #[test]
    fn a_duplicate_prunes_the_sender_but_never_the_parent() {
        let mut trees = trees(&[1, 2]);
        let mut orders = Vec::new();
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        trees.pushed_again(PUBLISHER, 2, Time::ZERO, &mut orders);
        trees.pushed_again(PUBLISHER, 1, Time::ZERO, &mut orders);
        assert_eq!(orders, [Order::Prune(2, PUBLISHER)]);
        assert_eq!(tree(&trees).parent(), Some(1));
    }

    #[test]
    fn a_prune_is_not_repeated_while_pushes_may_be_under_way() {
        let mut trees = trees(&[1, 2]);
        let mut orders = Vec::new();
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        trees.pushed_again(PUBLISHER, 2, Time::ZERO, &mut orders);
        trees.pushed_again(PUBLISHER, 2, Time::ZERO + PRUNE_REPEAT / 2, &mut orders);
        assert_eq!(orders.len(), 1);
        trees.pushed_again(PUBLISHER, 2, Time::ZERO + PRUNE_REPEAT, &mut orders);
        assert_eq!(orders.len(), 2, "it must have been lost");
    }

    #[test]
    fn what_was_under_way_from_a_pruned_neighbour_does_not_make_it_the_parent() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        trees.pushed_again(PUBLISHER, 2, Time::ZERO, &mut Vec::new());
        trees.pushed_first(PUBLISHER, 2, Time::ZERO);
        assert_eq!(tree(&trees).parent(), Some(1));
    }

    #[test]
    fn the_parent_is_not_pushed_to() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        trees.grafted(2, PUBLISHER, &mut Vec::new());
        assert_eq!(trees.targets(PUBLISHER, Some(3)), [2]);
    }

    #[test]
    fn a_former_parent_is_pushed_to() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        trees.pushed_first(PUBLISHER, 2, Time::ZERO);
        assert_eq!(trees.targets(PUBLISHER, Some(2)), [1]);
    }

    #[test]
    fn a_lost_parent_orphans_its_trees_at_once() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 2, Time::ZERO);
        let mut orders = Vec::new();
        trees.neighbour_down(2, &mut orders);
        assert_eq!(orders, [Order::Orphaned(PUBLISHER)]);
    }

    #[test]
    fn two_that_graft_each_other_do_not_wait_for_each_other() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        let mut orders = Vec::new();
        trees.grafted(1, PUBLISHER, &mut orders);
        assert_eq!(orders, [Order::Orphaned(PUBLISHER)]);
    }

    #[test]
    fn a_parent_that_prunes_is_grafted_again() {
        let mut trees = trees(&[1, 2]);
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        let mut orders = Vec::new();
        trees.pruned(1, PUBLISHER, &mut orders);
        assert_eq!(orders, [Order::Graft(1, PUBLISHER)]);
    }

    #[test]
    fn a_new_publisher_starts_on_the_shared_tree() {
        let mut trees = trees(&[1, 2, 3]);
        trees.set_shared([1, 3].into_iter().collect());
        trees.pushed_first(PUBLISHER, 1, Time::ZERO);
        assert_eq!(trees.targets(PUBLISHER, Some(1)), [3]);
    }

    #[test]
    fn trees_are_bounded_and_the_least_used_goes() {
        let mut trees = trees(&[1]);
        for publisher in 100..100 + TREES_MAX as u32 + 10 {
            trees.pushed_first(publisher, 1, Time::ZERO);
        }
        assert_eq!(trees.publishers.len(), TREES_MAX);
        assert!(!trees.publishers.contains_key(&100));
    }
}
