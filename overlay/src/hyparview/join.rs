//! Joining: the contact node takes the newcomer in, and random walks introduce it to others (paper §4.2).

use super::config::FORCED_INTERVAL;
use super::neighbor::{Ask, Overflow};
use super::reseed::Reseed;
use super::views::{choose, is_live};
use super::{Membership, Message, Priority};
use crate::{Contact, Now, Peer};

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    pub(super) fn join(&mut self, via: P, now: Now) {
        if self.left {
            self.left = false;
            self.reseed = Reseed::new();
            self.promotion_at = self.later(now, self.config.promotion_interval);
            self.promotion_wait = (self.config.promotion_first).min(self.config.promotion_interval);
        }
        // Whoever is asked to join through a peer wants it, whatever was held against it.
        self.shunned.remove(&via);
        if via == self.me.peer() || self.active.contains_key(&via) || self.vacancies() == 0 {
            return;
        }
        self.request(via, None, Ask::Join, Overflow::Decline, now);
    }

    pub(super) fn on_join(&mut self, from: P, joiner: C, now: Now) {
        if joiner.peer() != from {
            self.misbehaviour(from, "Join with another peer's contact");
            return;
        }
        let accepted = self.accept(from, &joiner, true, now);
        if self.may_forward(from, &joiner, now) {
            let others: Vec<P> = self.active().filter(|&peer| peer != from).collect();
            for peer in others {
                let message = Message::ForwardJoin {
                    joiner: joiner.clone(),
                    hops_left: self.config.arwl,
                };
                let contact = self.contact_of(peer);
                self.send(peer, contact, message);
            }
        }
        if !accepted {
            self.add_passive(joiner, from, &[], now);
        }
    }

    /// Returns whether to start a join's walks: a repeated Join starts no second set of them.
    fn may_forward(&mut self, joiner: P, contact: &C, now: Now) -> bool {
        self.forwarded_for
            .retain(|_, &mut at| now.time.since(at) < FORCED_INTERVAL);
        if self.forwarded_for.contains_key(&joiner)
            || !is_live(contact, now.unix)
            || !self.forwards.take(self.config.forwards, now.time)
        {
            return false;
        }
        self.forwarded_for.insert(joiner, now.time);
        true
    }

    pub(super) fn on_forward_join(&mut self, from: P, joiner: C, hops_left: u8, now: Now) {
        let hops_left = self.clamp_hops(from, hops_left);
        let peer = joiner.peer();
        // One that was a neighbour until just now sends it honestly: no misbehaviour, but no walk either.
        if !self.active.contains_key(&from) || peer == self.me.peer() || peer == from {
            return;
        }
        if !is_live(&joiner, now.unix) || self.is_shunned(peer, now) {
            return;
        }
        if hops_left == self.config.prwl {
            self.add_passive(joiner.clone(), from, &[], now);
        }
        let others: Vec<P> = self
            .active()
            .filter(|&other| other != from && other != peer)
            .collect();
        let next = choose(&others, &mut self.rng);
        match next.filter(|_| hops_left > 0 && self.active.len() > 1) {
            Some(next) => {
                let contact = self.contact_of(next);
                let hops_left = hops_left - 1;
                self.send(next, contact, Message::ForwardJoin { joiner, hops_left });
            }
            None => self.invite(joiner, from, now),
        }
    }

    /// The walk ended here: the joiner is asked, and if the view is full a neighbour gives up its place once it accepts.
    fn invite(&mut self, joiner: C, from: P, now: Now) {
        let peer = joiner.peer();
        if self.active.contains_key(&peer) || self.requests.contains_key(&peer) {
            return;
        }
        let is_dear = self.is_dear(peer, Priority::Low);
        if is_dear || (self.vacancies() == 0 && !self.may_force(peer, now)) {
            self.add_passive(joiner, from, &[], now);
            return;
        }
        self.lost.remove(peer);
        let priority = self.priority();
        self.request(
            peer,
            Some(joiner),
            Ask::Neighbor(priority),
            Overflow::Swap,
            now,
        );
    }

    /// Returns a walk's hops as far as an honest peer can send them.
    pub(super) fn clamp_hops(&mut self, from: P, hops_left: u8) -> u8 {
        if hops_left > self.config.arwl {
            self.misbehaviour(from, "a walk longer than the active random walk length");
        }
        hops_left.min(self.config.arwl)
    }

    pub(super) fn priority(&self) -> Priority {
        if self.active.is_empty() {
            Priority::High
        } else {
            Priority::Low
        }
    }
}
