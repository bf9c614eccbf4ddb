//! Filling vacancies: rounds over the passive view, deficit walks, promotions, probes of lost peers.

use std::time::Duration;

use rand::RngExt;

use super::config::FIRST_ROUNDS;
use super::linked::ALONE;
use super::neighbor::{Ask, Overflow, Request};
use super::views::choose;
use super::{Membership, Priority};
use crate::{Contact, Now, Peer, Time};

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// Brings what is planned in line with the views; the end of every input.
    pub(super) fn settle(&mut self, now: Now) {
        if self.left {
            return;
        }
        self.plan_shuffle(now);
        if self.vacancies() == 0 {
            self.walk_at = Time::NEVER;
            self.probe_by_shuffle(now);
            self.plan_reseed(now);
            return;
        }
        self.fill(now);
        self.plan_reseed(now);
        let exhausted = self.fresh_requests() == 0;
        if exhausted && self.walk_at == Time::NEVER && !self.candidates(now).is_empty() {
            self.plan_walk(now);
        }
    }

    /// Asks candidates as long as there are vacancies and requests to spare.
    fn fill(&mut self, now: Now) {
        let limit = self.config.requests_max.min(self.vacancies());
        if self.fresh_requests() >= limit {
            return;
        }
        let mut unasked = self.candidates(now);
        unasked.retain(|peer| !self.refused.contains(peer));
        self.prefer_linked(&mut unasked, false);
        while self.fresh_requests() < limit {
            let before = self.requests.len();
            if let Some(peer) = choose(&unasked, &mut self.rng) {
                unasked.retain(|&other| other != peer);
                self.ask(peer, self.priority(), Overflow::Decline, now);
            } else if let Some(peer) = self.due_probe(now) {
                self.ask(peer, self.priority(), Overflow::Decline, now);
            } else {
                return;
            }
            if self.requests.len() == before {
                return;
            }
        }
    }

    fn ask(&mut self, peer: P, priority: Priority, overflow: Overflow, now: Now) {
        let contact = self.passive.contact(peer).or(self.lost.contact(peer));
        let contact = contact.cloned();
        self.request(peer, contact, Ask::Neighbor(priority), overflow, now);
    }

    /// Returns who of the passive view could be asked, whether or not it has refused in this round.
    pub(super) fn candidates(&self, now: Now) -> Vec<P> {
        let mut live = self.passive.live(now.unix);
        live.retain(|peer| !self.requests.contains_key(peer) && !self.is_shunned(*peer, now));
        live
    }

    fn fresh_requests(&self) -> usize {
        self.requests
            .values()
            .filter(|request| Request::is_fresh(request))
            .count()
    }

    /// A vacancy arose: everybody may be asked again.
    pub(super) fn begin_round(&mut self, now: Now) {
        self.refused.clear();
        // Whether the member is needy now decides when it walks.
        self.walk_at = Time::NEVER;
        // A vacancy that wanders from member to member must not wander fast; one after a long rest is another one.
        if now.time.since(self.full_since) >= self.config.walk_max {
            self.walk_wait = self.config.walk_min;
        }
        self.full_since = Time::NEVER;
        if self.passive.is_empty() || self.active.is_empty() {
            self.hurry_shuffle(now);
        }
    }

    fn plan_walk(&mut self, now: Now) {
        let wait = if self.active.is_empty() && self.has_links_enough() {
            ALONE
        } else if self.needs_a_link() {
            self.config.walk_needy
        } else {
            let wait = self.walk_wait;
            self.walk_wait = wait.saturating_mul(2).min(self.config.walk_max);
            wait
        };
        self.walk_at = self.later(now, wait);
    }

    /// Asks one random candidate with high priority; one that has no neighbour left also shuffles with it.
    pub(super) fn walk(&mut self, now: Now) {
        self.walk_at = Time::NEVER;
        let mut candidates = self.candidates(now);
        if self.vacancies() == 0 {
            return;
        }
        let is_needy = self.needs_a_link();
        if is_needy {
            self.refused.clear();
        }
        self.prefer_linked(&mut candidates, is_needy);
        let Some(peer) = choose(&candidates, &mut self.rng) else {
            return;
        };
        if self.active.is_empty() {
            self.shuffle_with(peer, self.config.arwl, now);
        }
        self.ask(peer, Priority::High, Overflow::Decline, now);
    }

    /// Swaps a neighbour for a random passive peer, if the member is at rest.
    pub(super) fn promote(&mut self, now: Now) {
        let interval = self.config.promotion_interval;
        if self.vacancies() > 0 {
            self.promotion_at = self.later(now, interval);
            return;
        }
        if !self.requests.is_empty() {
            self.promotion_at = self.later(now, self.promotion_wait);
            return;
        }
        let wait = self.promotion_wait;
        self.promotion_wait = wait.saturating_mul(4).min(interval);
        self.promotion_at = self.later(now, self.promotion_wait);
        let mut candidates = self.candidates(now);
        let is_early = wait < interval.min(self.config.promotion_by_all);
        if is_early && !self.takes_part(wait, candidates.len()) {
            return;
        }
        self.prefer_linked(&mut candidates, true);
        if let Some(peer) = choose(&candidates, &mut self.rng) {
            self.swap_in(peer, now);
        }
        self.want_contacts_for_swap();
    }

    /// Draws whether this member takes part in a round of early swaps, so that a few of those that it knows do.
    ///
    /// Who knows enough to fill its views may be one of ten thousand, of whom a few are enough as well. The first rounds find any split;
    /// in later ones, when there are trees to disturb, such a member seldom takes part.
    fn takes_part(&mut self, wait: Duration, candidates: usize) -> bool {
        let known = self.active.len() + candidates;
        let is_one_of_many = known >= self.config.passive_max && wait > FIRST_ROUNDS;
        let swaps = match is_one_of_many {
            true => 1,
            false => self.config.promotion_early,
        };
        let known = u32::try_from(known).unwrap_or(u32::MAX);
        self.rng.random_range(0..known.max(1)) < swaps
    }

    /// Asks somebody from outside of the swarm to take the place of a neighbour.
    pub(super) fn swap_in_contact(&mut self, contact: C, now: Now) {
        let (peer, ask) = (contact.peer(), Ask::Neighbor(Priority::High));
        self.request(peer, Some(contact), ask, Overflow::Swap, now);
    }

    /// Asks a peer to take the place of a neighbour.
    pub(super) fn swap_in(&mut self, peer: P, now: Now) {
        if !self.requests.contains_key(&peer) && !self.active.contains_key(&peer) {
            self.ask(peer, Priority::High, Overflow::Swap, now);
        }
    }

    fn due_probe(&mut self, now: Now) -> Option<P> {
        if self.probe_at > now.time {
            return None;
        }
        let mut due = self.lost.due(self.config.lost_for, now);
        due.retain(|peer| !self.requests.contains_key(peer));
        let peer = choose(&due, &mut self.rng)?;
        // Its failure sets the next one; this is for the case that it is never told.
        let probe_at = self.later(now, self.config.probe_timeout);
        self.lost.postpone(peer, probe_at);
        self.probe_at = self.later(now, self.config.probe_interval);
        Some(peer)
    }

    /// A full member needs nobody, but a lost peer may stand for the other half of a split network: it exchanges
    /// contacts with it, and hears that it is back.
    fn probe_by_shuffle(&mut self, now: Now) {
        if let Some(peer) = self.due_probe(now) {
            self.shuffle_with(peer, 0, now);
        }
    }

    /// Returns when a lost peer is to be probed next; `NEVER` while an answer must come first.
    pub(super) fn next_probe(&self) -> Time {
        let limit = self.config.requests_max.min(self.vacancies());
        if limit > 0 && self.fresh_requests() >= limit {
            return Time::NEVER;
        }
        self.lost
            .next_probe(|peer| self.requests.contains_key(&peer))
            .max(self.probe_at)
    }
}
