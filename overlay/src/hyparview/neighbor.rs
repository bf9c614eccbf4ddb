//! How neighbourhoods begin and end: requests and their answers, evictions, losses (paper §4.3).

use super::config::{
    ATTEMPTS_MAX, FORCED_INTERVAL, PENDING_MAX, REFUSED_MAX, SHUNNED_MAX, STRANGER_INTERVAL,
    STRANGERS_MAX,
};
use super::views::{Neighbour, choose, is_live};
use super::{Goodbye, Input, Membership, Message, Output, Priority};
use crate::{Contact, Now, Peer, Time};

/// What was asked of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Join,
    Neighbor(Priority),
}

/// What happens when the acceptance finds the view full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The peer that accepted is disconnected.
    Decline,
    /// Another neighbour gives up its place.
    Swap,
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Request<C> {
    contact: Option<C>,
    ask: Ask,
    overflow: Overflow,
    attempts: u8,
    pub(super) deadline: Time,
}

impl<C> Request<C> {
    /// Returns whether it is the first attempt to fill a vacancy: a candidate that was silent once doesn't hold up others.
    pub(super) fn is_fresh(&self) -> bool {
        self.attempts == 1 && self.overflow == Overflow::Decline
    }
}

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// Asks a peer, unless it is asked already.
    pub(super) fn request(
        &mut self,
        peer: P,
        contact: Option<C>,
        ask: Ask,
        overflow: Overflow,
        now: Now,
    ) {
        if self.requests.contains_key(&peer) || self.requests.len() >= PENDING_MAX {
            return;
        }
        let request = Request {
            contact,
            ask,
            overflow,
            attempts: 1,
            deadline: now.time + self.config.neighbor_timeout,
        };
        self.send_request(peer, &request);
        self.requests.insert(peer, request);
    }

    fn send_request(&mut self, peer: P, request: &Request<C>) {
        let me = self.me.clone();
        let message = match request.ask {
            Ask::Join => Message::Join { joiner: me },
            Ask::Neighbor(priority) => Message::Neighbor {
                sender: me,
                priority,
            },
        };
        self.send(peer, request.contact.clone(), message);
    }

    /// Repeats requests that were not answered in time, and gives up those that were repeated enough.
    pub(super) fn repeat_requests(&mut self, now: Now) {
        let due: Vec<P> = self
            .requests
            .iter()
            .filter(|(_, request)| request.deadline <= now.time)
            .map(|(&peer, _)| peer)
            .collect();
        for peer in due {
            let Some(mut request) = self.requests.remove(&peer) else {
                continue;
            };
            if request.attempts >= ATTEMPTS_MAX {
                self.forget_silent(peer, request.contact, now);
                continue;
            }
            request.attempts += 1;
            request.deadline = now.time + self.config.neighbor_timeout;
            self.send_request(peer, &request);
            self.requests.insert(peer, request);
        }
    }

    /// Moves a peer that doesn't answer from the passive view to the lost ones.
    fn forget_silent(&mut self, peer: P, contact: Option<C>, now: Now) {
        let known = self.passive.remove(peer).or(contact);
        if let Some(contact) = known {
            let probe_at = self.later(now, self.config.probe_interval);
            self.lost.add(contact, now.time, probe_at);
        }
    }

    pub(super) fn on_neighbor(&mut self, from: P, sender: C, priority: Priority, now: Now) {
        if sender.peer() != from {
            self.misbehaviour(from, "Neighbor with another peer's contact");
            return;
        }
        let is_dear = self.is_dear(from, priority) && !self.active.contains_key(&from);
        let accepted = match is_dear && !self.requests.contains_key(&from) {
            true => {
                self.reply(from, &sender, false);
                false
            }
            false => self.accept(from, &sender, priority == Priority::High, now),
        };
        if !accepted {
            self.add_passive(sender, from, &[], now);
        }
    }

    /// Accepts a peer that asks if there is room or if it may force its way in, and answers it.
    pub(super) fn accept(&mut self, from: P, sender: &C, force: bool, now: Now) -> bool {
        if self.active.contains_key(&from) {
            let _ = self.is_news(sender, now);
            self.reply(from, sender, true);
            return true;
        }
        // A crossing request of ours is settled by this answer: theirs comes to the same end.
        let ours = self.requests.remove(&from);
        let swaps = ours.is_some_and(|request| request.overflow == Overflow::Swap);
        let accepted = !self.is_shunned(from, now)
            && (self.vacancies() > 0 || swaps || (force && self.may_force(from, now)));
        if accepted && self.vacancies() == 0 {
            self.evict_one(now);
        }
        // Before NeighborUp, so that what the broadcast sends at once comes after it on the link.
        self.reply(from, sender, accepted);
        if accepted {
            self.activate(from, Some(sender.clone()), force, now);
        }
        accepted
    }

    fn reply(&mut self, to: P, contact: &C, accepted: bool) {
        let sender = self.me.clone();
        let message = Message::NeighborReply { sender, accepted };
        self.send(to, Some(contact.clone()), message);
    }

    /// Returns whether a peer may cost a neighbour its place now, and counts it.
    pub(super) fn may_force(&mut self, by: P, now: Now) -> bool {
        self.forced_by
            .retain(|_, &mut at| now.time.since(at) < FORCED_INTERVAL);
        if self.forced_by.contains_key(&by) || !self.forced.take(self.config.forced, now.time) {
            return false;
        }
        self.forced_by.insert(by, now.time);
        true
    }

    pub(super) fn on_reply(&mut self, from: P, sender: C, accepted: bool, now: Now) {
        if sender.peer() != from {
            self.misbehaviour(from, "NeighborReply with another peer's contact");
            return;
        }
        let request = self.requests.remove(&from);
        if self.active.contains_key(&from) {
            let _ = self.is_news(&sender, now);
            if !accepted {
                self.deactivate(from, now);
                self.refused.insert(from);
                self.add_passive(sender, from, &[], now);
            }
            return;
        }
        match (request, accepted) {
            (Some(request), true) => self.accepted(from, Some(sender), request.overflow, now),
            // Nobody waits for it (any more): the sender must give up its half.
            (None, true) => self.disconnect(from, Some(sender), Goodbye::NotNeighbours),
            (Some(_), false) => {
                if self.refused.len() < REFUSED_MAX {
                    self.refused.insert(from);
                }
                self.add_passive(sender, from, &[], now);
            }
            (None, false) => {}
        }
    }

    /// A peer that was asked has accepted.
    fn accepted(&mut self, peer: P, contact: Option<C>, overflow: Overflow, now: Now) {
        if self.vacancies() == 0 {
            if overflow == Overflow::Decline {
                self.disconnect(peer, contact.clone(), Goodbye::NotNeighbours);
                if let Some(contact) = contact {
                    self.add_passive(contact, peer, &[], now);
                }
                return;
            }
            self.evict_one(now);
        }
        self.activate(peer, contact, false, now);
    }

    pub(super) fn on_disconnect(&mut self, from: P, reason: Goodbye, now: Now) {
        let was = self.deactivate(from, now);
        match reason {
            Goodbye::NotNeighbours => {
                // A request to it stays: links keep order, so this was sent before that arrived.
                if let Some(contact) = was {
                    self.refused.insert(from);
                    self.add_passive(contact, from, &[], now);
                }
            }
            Goodbye::Leaving => {
                self.requests.remove(&from);
                self.passive.remove(from);
                self.lost.remove(from);
            }
        }
    }

    pub(super) fn on_stranger(&mut self, from: P, now: Now) {
        if self.active.contains_key(&from) || from == self.me.peer() {
            return;
        }
        if let Some(request) = self.requests.remove(&from) {
            self.accepted(from, request.contact, request.overflow, now);
            return;
        }
        if self.may_answer_stranger(from, now) {
            self.disconnect(from, None, Goodbye::NotNeighbours);
        }
    }

    fn may_answer_stranger(&mut self, from: P, now: Now) -> bool {
        self.strangers
            .retain(|_, &mut at| now.time.since(at) < STRANGER_INTERVAL);
        if self.strangers.contains_key(&from) || self.strangers.len() >= STRANGERS_MAX {
            return false;
        }
        self.strangers.insert(from, now.time);
        true
    }

    pub(super) fn on_lost(&mut self, peer: P, now: Now) {
        let request = self.requests.remove(&peer);
        let was_active = self.active.contains_key(&peer);
        let contact = self.deactivate(peer, now);
        if was_active || request.is_some() {
            let contact = contact.or(request.and_then(|request| request.contact));
            self.forget_silent(peer, contact, now);
        }
    }

    pub(super) fn on_evict(&mut self, peer: P, now: Now) {
        if !self.active.contains_key(&peer) {
            return;
        }
        self.shunned.retain(|_, &mut until| now.time < until);
        if self.shunned.len() >= SHUNNED_MAX {
            let first = self.shunned.iter().min_by_key(|(_, until)| **until);
            if let Some((&first, _)) = first {
                self.shunned.remove(&first);
            }
        }
        self.shunned
            .insert(peer, now.time + self.config.shunned_for);
        self.passive.remove(peer);
        let contact = self.contact_of(peer);
        self.disconnect(peer, contact, Goodbye::NotNeighbours);
        self.deactivate(peer, now);
    }

    pub(super) fn leave(&mut self, now: Now) {
        let told: Vec<P> = self
            .active
            .keys()
            .chain(self.requests.keys())
            .copied()
            .collect();
        for peer in told {
            let contact = self.contact_of(peer);
            self.disconnect(peer, contact, Goodbye::Leaving);
            self.deactivate(peer, now);
        }
        self.left = true;
        self.requests.clear();
        self.passive.clear();
        self.lost.clear();
        self.outstanding.clear();
        self.walk_at = Time::NEVER;
        self.shuffle_at = Time::NEVER;
        self.promotion_at = Time::NEVER;
    }

    /// Answers for a member that has left: who asks it, or thinks it a neighbour, is told.
    pub(super) fn handle_left(&mut self, input: &Input<P, C>, now: Now) {
        let from = match input {
            Input::Received {
                from,
                message:
                    Message::Join { .. }
                    | Message::Neighbor { .. }
                    | Message::NeighborReply { accepted: true, .. },
            }
            | Input::Stranger { from } => *from,
            _ => return,
        };
        if from != self.me.peer() && self.may_answer_stranger(from, now) {
            self.disconnect(from, None, Goodbye::Leaving);
        }
    }

    /// Gives up one neighbour at random for the sake of another, of a triangle if there is one.
    fn evict_one(&mut self, now: Now) {
        let mut victims = self.evictable(now);
        self.prefer_triangles(&mut victims);
        let Some(victim) = choose(&victims, &mut self.rng) else {
            return;
        };
        let contact = self.contact_of(victim);
        self.disconnect(victim, contact, Goodbye::NotNeighbours);
        if let Some(contact) = self.deactivate(victim, now) {
            self.add_passive(contact, victim, &[], now);
        }
    }

    /// Returns the neighbours that may be given up for others; the oldest ones stay where there are others.
    pub(super) fn evictable(&self, now: Now) -> Vec<P> {
        let mut by_age: Vec<(Time, P)> = self
            .active
            .iter()
            .map(|(&peer, neighbour)| (neighbour.since, peer))
            .collect();
        by_age.sort_unstable();
        // Whose link the node can do without goes first, however old it is.
        if by_age.iter().any(|(_, peer)| self.is_surplus(*peer, now)) {
            by_age.retain(|(_, peer)| self.is_surplus(*peer, now));
        }
        let spared = self.config.protected.min(by_age.len().saturating_sub(1));
        let evictable = by_age[spared..].iter();
        evictable.map(|&(_, peer)| peer).collect()
    }

    fn disconnect(&mut self, peer: P, contact: Option<C>, reason: Goodbye) {
        self.send(peer, contact, Message::Disconnect { reason });
    }

    pub(super) fn contact_of(&self, peer: P) -> Option<C> {
        let active = self.active.get(&peer).and_then(|n| n.contact.as_ref());
        active
            .or_else(|| self.requests.get(&peer).and_then(|r| r.contact.as_ref()))
            .or_else(|| self.passive.contact(peer))
            .cloned()
    }

    fn activate(&mut self, peer: P, contact: Option<C>, was_in_need: bool, now: Now) {
        let known = self.passive.remove(peer).into_iter().chain(contact);
        let contact = known
            .filter(|contact| is_live(contact, now.unix))
            .max_by_key(C::issued_at);
        self.lost.remove(peer);
        self.refused.remove(&peer);
        if self.active.is_empty() {
            self.hurry_shuffle(now);
        }
        let since = now.time;
        let neighbour = Neighbour {
            contact,
            since,
            beside: None,
            was_in_need,
        };
        self.active.insert(peer, neighbour);
        if self.vacancies() == 0 {
            self.full_since = now.time;
            if self.promotion_wait < self.config.promotion_interval {
                self.promotion_at = self.promotion_at.min(self.later(now, self.promotion_wait));
            }
        }
        self.outputs.push_back(Output::NeighborUp { peer });
    }

    /// Ends a neighbourhood, if there is one, and begins a new round. Returns the peer's contact.
    fn deactivate(&mut self, peer: P, now: Now) -> Option<C> {
        let neighbour = self.active.remove(&peer)?;
        self.outputs.push_back(Output::NeighborDown { peer });
        self.begin_round(now);
        neighbour.contact
    }
}
