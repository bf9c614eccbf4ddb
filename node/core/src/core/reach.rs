//! How peers of the structured layer are reached: links that are made for its questions, a few at a time, and the proof that a
//! peer is where it says.
//!
//! A link that a peer has dialled proves no address. Before a question goes out over it the peer is dialled back once, at the
//! addresses that it has signed ([`Proof`]).

use std::time::Duration;

use weft_dht::dht;
use weft_identity::PeerId;
use weft_overlay::{Now, Time};

use super::dials::{Dial, PendingDial};
use super::{Core, peer_of};
use crate::wire::OutFrame;
use crate::{Output, PeerContact};

/// Dials for this layer under way: two lookups' worth and some pings, and half of what all may have, so that swarms never
/// wait for it.
const DIALS_MAX: usize = 64;
/// The same while there are as many links as this layer may fill: it makes few at a time, so that those which have answered can make
/// room. A guess.
const DIALS_MAX_IF_FULL: usize = 2;
/// A dial that takes longer doesn't count among these few: its peer is far or gone, and the others need not wait for that. A guess.
const SLOW_DIAL: Duration = Duration::from_millis(500);
/// A dial that has waited for its turn as long as this is left out: nobody waits for the answer any more.
const TURN_MAX: Duration = Duration::from_secs(3);
/// Frames that wait for a peer to be dialled back: a question of each lookup that may run.
const HELD_MAX: usize = 64;
/// How long a peer that could not be dialled back is not tried again. A guess: it isn't reachable, and seldom becomes so.
const UNREACHABLE_FOR: Duration = Duration::from_secs(60);

/// A question that is ready to be sent.
#[derive(Debug)]
pub(super) struct Question {
    /// The layer's own number for it; none for a question of the store's or of topics, whose clocks don't ask when it left.
    pub(super) request: Option<weft_dht::RequestId>,
    pub(super) frame: OutFrame,
}

impl Question {
    pub(super) const fn unhurried(frame: OutFrame) -> Self {
        Self {
            request: None,
            frame,
        }
    }
}

/// Whether a linked peer has been reached at an address that it names.
#[derive(Debug)]
pub(super) enum Proof {
    /// Nobody has tried; what it is to be asked waits until it has said who it is.
    Open(Vec<Question>),
    /// It is being dialled, and this waits.
    Trying(Vec<Question>),
    /// It has.
    Reached,
    /// It could not be; it is not tried again before this.
    Failed(Time),
}

impl Proof {
    pub(super) const fn none() -> Self {
        Self::Open(Vec::new())
    }
}

impl Core {
    /// Sends a question over a link once its peer has been reached at an address that it names.
    pub(super) fn ask_linked(&mut self, peer: PeerId, question: Question, now: Now) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return self.structured.lost.push_back(peer);
        };
        link.touch(now);
        let request = question.request;
        match &mut link.proof {
            Proof::Reached => return self.send_question(peer, question, now),
            Proof::Failed(until) if now.time < *until => {
                return self.structured.lost.push_back(peer);
            }
            Proof::Failed(_) => link.proof = Proof::Open(vec![question]),
            Proof::Open(held) | Proof::Trying(held) if held.len() < HELD_MAX => held.push(question),
            Proof::Open(_) | Proof::Trying(_) => return self.count("dht_questions_left_out"),
        }
        if let Some(request) = request {
            let waits = dht::Input::Waits { request };
            self.structured.dht.handle(waits, now);
        }
        self.prove(peer);
    }

    /// Sends a question that may have waited.
    pub(super) fn send_question(&mut self, peer: PeerId, question: Question, now: Now) {
        let Question { request, frame } = question;
        if let Some(request) = request {
            let left = dht::Input::Left { request };
            self.structured.dht.handle(left, now);
        }
        self.send_control(peer, frame);
    }

    /// Has a linked peer dialled back, if it has said where and something waits for it.
    pub(super) fn prove(&mut self, peer: PeerId) {
        let is_full = self.dials.len() >= super::dials::DIALS_MAX;
        let Some(link) = self.links.get_mut(&peer).filter(|_| !is_full) else {
            return;
        };
        let (Proof::Open(held), Some(contact)) = (&mut link.proof, &link.contact) else {
            return;
        };
        if held.is_empty() {
            return;
        }
        let addresses = contact.0.value.addresses.clone();
        link.proof = Proof::Trying(std::mem::take(held));
        let dial = self.next_dial(Dial::Proof(peer));
        self.outputs.push_back(Output::Prove {
            dial,
            peer,
            addresses,
        });
    }

    /// A linked peer was dialled back.
    pub(super) fn proven(&mut self, peer: PeerId, reached: bool, now: Now) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let Proof::Trying(held) = &mut link.proof else {
            return;
        };
        let held = std::mem::take(held);
        if reached {
            link.proof = Proof::Reached;
            for question in held {
                self.send_question(peer, question, now);
            }
        } else {
            link.proof = Proof::Failed(now.time + UNREACHABLE_FOR);
            self.count("dht_peers_unreachable");
            self.dht_lost(peer, now);
        }
    }

    /// Makes a link to a peer of ours, for a question that goes over it once it is there.
    pub(super) fn link_for_dht(
        &mut self,
        contact: &PeerContact,
        question: Option<Question>,
        now: Now,
    ) {
        let peer = peer_of(contact);
        let is_new = !self.pending.contains_key(&peer);
        let pending = self.pending.entry(peer).or_default();
        if let Some(question) = question {
            pending.hold_question(question);
        }
        if is_new {
            pending.addresses.clone_from(&contact.0.value.addresses);
            if !self.is_closing(peer) {
                self.dial_in_turn(peer, now);
            }
        }
    }

    /// Dials a peer for which a question waits, once it is its turn.
    pub(super) fn dial_in_turn(&mut self, peer: PeerId, now: Now) {
        self.make_room(now);
        if let Some(pending) = self.pending.get_mut(&peer) {
            pending.waits_since = now.time;
        }
        self.structured.turns.push_back((peer, now.time));
        self.dial_for_dht(now);
    }

    fn may_dial_for_dht(&self, now: Now) -> bool {
        let ours = self.dials.values().filter_map(|dial| match dial {
            Dial::Dht(peer) => Some(peer),
            _ => None,
        });
        let count = ours.clone().count();
        if count >= DIALS_MAX || self.dials.len() >= super::dials::DIALS_MAX {
            return false;
        }
        let is_quick = |peer: &&PeerId| {
            let begun = self.pending.get(peer).and_then(|it| it.dialled_at);
            begun.is_some_and(|at| now.time.since(at) < SLOW_DIAL)
        };
        !self.is_filled_by(count) || ours.filter(is_quick).count() < DIALS_MAX_IF_FULL
    }

    /// Begins as many dials as may be under way for this layer.
    pub(super) fn dial_for_dht(&mut self, now: Now) {
        self.begin_dials(now);
        self.structured.turns_at = match self.structured.turns.is_empty() {
            true => Time::NEVER,
            false => now.time + SLOW_DIAL,
        };
    }

    fn begin_dials(&mut self, now: Now) {
        while self.may_dial_for_dht(now) {
            let Some((peer, since)) = self.structured.turns.pop_front() else {
                return;
            };
            let waits = |it: &&mut PendingDial| it.dialled_at.is_none() && it.waits_since == since;
            let Some(pending) = self.pending.get_mut(&peer).filter(waits) else {
                continue;
            };
            if now.time.since(since) >= TURN_MAX {
                self.pending.remove(&peer);
                self.count("dht_questions_left_out");
                continue;
            }
            pending.dialled_at = Some(now.time);
            let addresses = std::mem::take(&mut pending.addresses);
            self.dial(Dial::Dht(peer), Some(peer), addresses);
        }
    }
}
