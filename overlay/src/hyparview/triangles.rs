//! Neighbours that add no reach: two of a member's that are each other's.
//!
//! A flood meets itself there, and paths are longer than they need be. Joins make such triangles, since walks end near where they
//! began, and so do passive views, since one sample names peers that know each other. Shuffles tell of them for nothing: one that
//! comes from its origin names neighbours of that neighbour first. Of a triangle that lasts, the smallest corner swaps a neighbour
//! for a random passive peer; and whoever must give up a neighbour gives up one of a triangle first.
//!
//! A neighbour speaks for itself alone: one that lies about its neighbours loses its own place sooner. The oldest ones are
//! protected here as they are from all evictions.

use super::Membership;
use super::config::{MENDS, REST};
use super::views::choose;
use crate::{Contact, Now, Peer};

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// A neighbour shuffles for itself: the first ones of its sample are its neighbours, and some may be ours.
    pub(super) fn note_triangle(&mut self, from: P, sample: &[C], now: Now) {
        let theirs = sample.iter().take(self.config.shuffle_active);
        let common = theirs.map(C::peer).find(|peer| self.is_active(*peer));
        if let Some(neighbour) = self.active.get_mut(&from) {
            neighbour.beside = common;
        }
        if common.is_some() {
            self.mend_triangle(now);
        }
    }

    /// Returns another neighbour that this one has named as its own, last time that it named any.
    fn beside(&self, peer: P) -> Option<P> {
        let beside = self.active.get(&peer).and_then(|n| n.beside);
        beside.filter(|other| self.is_active(*other))
    }

    /// Keeps those neighbours that are in a triangle, if any are.
    pub(super) fn prefer_triangles(&self, neighbours: &mut Vec<P>) {
        if neighbours.iter().any(|peer| self.beside(*peer).is_some()) {
            neighbours.retain(|peer| self.beside(*peer).is_some());
        }
    }

    /// Swaps a neighbour of a triangle for a random passive peer, if the member is at rest, and the triangle's smallest corner: one
    /// swap is enough.
    ///
    /// A swarm of a few dozen has triangles whatever it does: who doesn't know enough to fill the passive view leaves them. So does
    /// whoever has not been here for long, for the sake of the swarm's first messages.
    fn mend_triangle(&mut self, now: Now) {
        let is_young = self.promotion_wait < self.config.promotion_by_all;
        let is_at_rest = now.time.since(self.full_since) >= REST && self.requests.is_empty();
        if is_young || !is_at_rest {
            return;
        }
        let me = self.me.peer();
        let is_mine = |peer: P| {
            let other = self.beside(peer);
            other.is_some_and(|other| me < peer.min(other))
        };
        if !self.evictable(now).into_iter().any(is_mine) {
            return;
        }
        let mut candidates = self.candidates(now);
        let known = self.active.len() + candidates.len();
        if known < self.config.passive_max || !self.mends.take(MENDS, now.time) {
            return;
        }
        self.prefer_linked(&mut candidates, false);
        if let Some(peer) = choose(&candidates, &mut self.rng) {
            self.swap_in(peer, now);
        }
    }
}

#[cfg(test)]
mod tests;
