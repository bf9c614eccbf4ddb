//! A node in many swarms: whom it is linked with anyway.
//!
//! Left alone, each swarm chooses its neighbours among all its members, and a node in hundreds of swarms comes to be linked with
//! everybody, each link with heartbeats of its own. So a node with some links asks the peers at their other ends first, and one that
//! has as many as it wants asks nobody else. Until then swarms choose freely: the links are those of a random graph, and of such a
//! graph the part that a swarm's members make hangs together.
//!
//! A swarm of few members may find nobody there. It comes first: a member that has too few neighbours and knows nobody linked to ask
//! is linked with others all the same, after a moment, and where a promotion finds nobody linked, it takes anybody, so that groups of a
//! swarm that aren't linked meet. Whoever was taken in need stays for a while, though its link be more than wanted.

use std::collections::BTreeSet;
use std::time::Duration;

use super::views::{Neighbour, choose};
use super::{Membership, Priority};
use crate::{Contact, Now, Peer};

/// How long a member that has nobody linked to ask hears of others before it takes anybody: members that subscribe together tell each
/// other of themselves in that time, and the base is still waited for (a guess).
pub(super) const ALONE: Duration = Duration::from_millis(200);

/// How long a neighbour that asked in need counts as linked. Its node may want the link that this one could do without; let go at once
/// by each of few that it can ask, it would be alone most of the time. A guess: it finds others meanwhile, and asks again if not.
const IN_NEED: Duration = Duration::from_secs(20);

/// How much room a node has for more links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Swarms choose freely.
    #[default]
    Free,
    /// They ask whoever is linked first.
    Little,
    /// They ask nobody else.
    None,
}

/// Whom a node is linked with for its swarms, and how much room it has for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links<P> {
    /// Neighbours in any swarm, and whom a swarm is about to be linked with; of more than the node wants those that it would keep.
    pub peers: BTreeSet<P>,
    /// Whether swarms may choose others.
    pub room: Room,
}

impl<P> Default for Links<P> {
    fn default() -> Self {
        Self {
            peers: BTreeSet::new(),
            room: Room::Free,
        }
    }
}

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// Returns whether a link with a peer costs nothing: there is one anyway, or room for one.
    pub(super) fn is_linked(&self, peer: P) -> bool {
        let links = self.links.as_deref();
        links.is_none_or(|links| links.room != Room::None || links.peers.contains(&peer))
    }

    /// Keeps the linked ones of some candidates, where there are any. Where there are none, all stay if there is room for a link, or
    /// need of one.
    pub(super) fn prefer_linked(&self, candidates: &mut Vec<P>, is_needed: bool) {
        let Some(links) = self.links.as_deref() else {
            return;
        };
        let may_link = match links.room {
            Room::Free => return,
            Room::Little => true,
            Room::None => is_needed,
        };
        if !may_link || candidates.iter().any(|peer| links.peers.contains(peer)) {
            candidates.retain(|peer| links.peers.contains(peer));
        }
    }

    /// Returns whether the node has as many links as it wants.
    pub(super) fn has_links_enough(&self) -> bool {
        let links = self.links.as_deref();
        links.is_some_and(|links| links.room == Room::None)
    }

    /// Returns whether one more link is better than one neighbour less.
    pub(super) fn needs_a_link(&self) -> bool {
        self.active.len() <= self.config.needy
    }

    /// Asks somebody linked to take the place of a neighbour who isn't, as far as the node wants.
    ///
    /// Whoever accepts costs the neighbour its place, not another's: that is the one that isn't linked. One at a time, and none while
    /// there are vacancies, so that trees are disturbed little.
    pub(super) fn release(&mut self, peer: P, now: Now) {
        if !self.is_surplus(peer, now) || self.vacancies() > 0 || !self.requests.is_empty() {
            return;
        }
        let mut linked = self.candidates(now);
        linked.retain(|peer| self.is_linked(*peer));
        if let Some(peer) = choose(&linked, &mut self.rng) {
            self.swap_in(peer, now);
        }
    }

    /// Returns whether a neighbour is one whose link this node can do without, and was not taken for the sake of its need just now.
    pub(super) fn is_surplus(&self, peer: P, now: Now) -> bool {
        let neighbour = self.active.get(&peer);
        let is_needed = |it: &Neighbour<P, C>| it.was_in_need && now.time.since(it.since) < IN_NEED;
        neighbour.is_some_and(|it| !is_needed(it)) && !self.is_linked(peer)
    }

    /// Returns whether a peer that asks would cost a link that this node can do without.
    pub(super) fn is_dear(&self, from: P, priority: Priority) -> bool {
        priority == Priority::Low && !self.is_linked(from) && !self.active.is_empty()
    }
}

#[cfg(test)]
mod tests;
