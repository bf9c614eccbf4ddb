//! Shuffles: members exchange samples of their views along random walks, so that passive views stay fresh (paper §4.4).

use super::config::OUTSTANDING_MAX;
use super::views::{choose, is_live, sample};
use super::{Membership, Message};
use crate::{Contact, Now, Peer, Time};

/// A shuffle of ours that may still be answered.
#[derive(Clone, Debug)]
pub(super) struct Outstanding<P> {
    sent: Vec<P>,
    expires_at: Time,
}

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// Shuffles with a random neighbour, and plans the next one.
    pub(super) fn shuffle(&mut self, now: Now) {
        self.passive.remove_expired(now.unix);
        self.shuffle_at = self.later(now, self.shuffle_wait);
        self.shuffle_wait = self
            .shuffle_wait
            .saturating_mul(2)
            .min(self.config.shuffle_interval);
        let neighbours: Vec<P> = self.active().collect();
        if let Some(peer) = choose(&neighbours, &mut self.rng) {
            self.shuffle_with(peer, self.config.arwl, now);
        }
    }

    /// Offers a sample of both views to a peer, whose walk goes on for `hops_left` hops.
    pub(super) fn shuffle_with(&mut self, peer: P, hops_left: u8, now: Now) {
        let active: Vec<P> = self.active().filter(|&other| other != peer).collect();
        let passive: Vec<P> = self.passive.live(now.unix);
        let passive: Vec<P> = passive.into_iter().filter(|&other| other != peer).collect();
        let mut sent = sample(active, self.config.shuffle_active, &mut self.rng);
        sent.extend(sample(passive, self.config.shuffle_passive, &mut self.rng));
        let contacts: Vec<C> = sent
            .iter()
            .filter_map(|&peer| self.contact_of(peer))
            .filter(|contact| is_live(contact, now.unix))
            .collect();
        if self.outstanding.len() >= OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        let expires_at = now.time + self.config.shuffle_timeout;
        self.outstanding.push_back(Outstanding { sent, expires_at });
        let contact = self.contact_of(peer).or(self.lost.contact(peer).cloned());
        let message = Message::Shuffle {
            origin: self.me.clone(),
            hops_left,
            sample: contacts,
        };
        self.send(peer, contact, message);
    }

    pub(super) fn on_shuffle(
        &mut self,
        from: P,
        origin: C,
        hops_left: u8,
        sample: Vec<C>,
        now: Now,
    ) {
        let hops_left = self.clamp_hops(from, hops_left);
        let sample = self.clamp_sample(from, sample);
        let peer = origin.peer();
        // A stranger may shuffle for itself (it is joining, or probes); walks come from neighbours only.
        if peer == self.me.peer() || (peer != from && !self.active.contains_key(&from)) {
            return;
        }
        if peer == from {
            self.note_triangle(from, &sample, now);
        }
        let others: Vec<P> = self
            .active()
            .filter(|&other| other != from && other != peer)
            .collect();
        let next = choose(&others, &mut self.rng);
        match next.filter(|_| hops_left > 0 && self.active.len() > 1) {
            Some(next) => {
                let contact = self.contact_of(next);
                let message = Message::Shuffle {
                    origin,
                    hops_left: hops_left - 1,
                    sample,
                };
                self.send(next, contact, message);
            }
            None => self.answer_shuffle(from, origin, sample, now),
        }
    }

    fn answer_shuffle(&mut self, from: P, origin: C, offered: Vec<C>, now: Now) {
        if !is_live(&origin, now.unix) || !self.answers.take(self.config.answers, now.time) {
            return;
        }
        let peer = origin.peer();
        if peer != from && !self.is_linked(peer) {
            // An answer would cost a link. What was offered is worth having all the same.
            for contact in offered.into_iter().chain([origin]) {
                self.add_passive(contact, from, &[], now);
            }
            return;
        }
        let known: Vec<P> = self.passive.live(now.unix);
        let known: Vec<P> = known.into_iter().filter(|&other| other != peer).collect();
        // The origin is part of the offer, though it is not part of the list.
        let count = (offered.len() + 1).min(self.config.sample_max());
        let mut sent = sample(known, count, &mut self.rng);
        let short = count - sent.len();
        // In a young swarm passive views are empty, and neighbours are all that a member can tell of.
        let active: Vec<P> = self.active().filter(|&other| other != peer).collect();
        sent.extend(sample(active, short, &mut self.rng));
        let contacts = sent
            .iter()
            .filter_map(|&peer| self.contact_of(peer))
            .filter(|contact| is_live(contact, now.unix))
            .collect();
        let message = Message::ShuffleReply { sample: contacts };
        self.send(peer, Some(origin.clone()), message);
        for contact in offered.into_iter().chain([origin]) {
            self.add_passive(contact, from, &sent, now);
        }
    }

    pub(super) fn on_shuffle_reply(&mut self, from: P, sample: Vec<C>, now: Now) {
        let sample = self.clamp_sample(from, sample);
        while let Some(oldest) = self.outstanding.front() {
            if oldest.expires_at > now.time {
                break;
            }
            self.outstanding.pop_front();
        }
        // The walk's end is unknown to us, so each shuffle of ours pays for one answer, whoever sends it.
        let Some(answered) = self.outstanding.pop_front() else {
            self.misbehaviour(from, "a ShuffleReply that nobody asked for");
            return;
        };
        for contact in sample {
            self.add_passive(contact, from, &answered.sent, now);
        }
    }

    fn clamp_sample(&mut self, from: P, mut sample: Vec<C>) -> Vec<C> {
        let max = self.config.sample_max();
        if sample.len() > max {
            self.misbehaviour(from, "a sample of more contacts than a shuffle holds");
            sample.truncate(max);
        }
        sample
    }

    /// Starts the doubling of the shuffle's interval anew: the member is new, or short of contacts.
    pub(super) fn hurry_shuffle(&mut self, now: Now) {
        self.shuffle_wait = self.config.shuffle_interval_min;
        let soon = self.later(now, self.shuffle_wait);
        self.shuffle_at = self.shuffle_at.min(soon);
    }

    /// Shuffles need a neighbour: none are planned without one.
    pub(super) fn plan_shuffle(&mut self, now: Now) {
        if self.active.is_empty() {
            self.shuffle_at = Time::NEVER;
        } else if self.shuffle_at == Time::NEVER {
            self.shuffle_at = self.later(now, self.shuffle_wait);
        }
    }
}
