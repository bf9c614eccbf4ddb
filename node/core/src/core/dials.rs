//! Dials: the links that swarms, addresses to join and callers ask for, and what waits for them.

use std::collections::{BTreeSet, VecDeque};

use weft_identity::PeerId;
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::reach::Question;
use crate::wire::OutFrame;
use crate::{
    AddPeerError, Address, DialError, DialId, Output, PeerContact, Reply, RequestId, TopicId,
};

/// Dials under way: more than an active and a passive view together need at once.
pub(super) const DIALS_MAX: usize = 128;
/// Frames that wait for one dial: a request or two of each shared swarm.
const PENDING_FRAMES_MAX: usize = 64;

/// Why something is dialled.
#[derive(Debug)]
pub(super) enum Dial {
    /// A swarm has something to send.
    Peer(PeerId),
    /// The structured layer has something to ask.
    Dht(PeerId),
    /// A linked peer is to be reached at an address that it names.
    Proof(PeerId),
    /// One of the addresses to join, by index.
    Join(usize),
    /// A peer of the address book, dialled by a node without neighbours.
    Book,
    /// A caller wants the peer.
    Add(RequestId),
}

/// What waits for a dial: frames, and whom to tell if it fails.
#[derive(Debug, Default)]
pub(super) struct PendingDial {
    pub(super) frames: VecDeque<OutFrame>,
    swarms: BTreeSet<TopicId>,
    /// Questions of the structured layer.
    pub(super) questions: VecDeque<Question>,
    /// When the dial was ordered; one for the structured layer may have to wait for its turn.
    pub(super) dialled_at: Option<Time>,
    /// When it began to wait for its turn.
    pub(super) waits_since: Time,
    /// Where to dial when its turn has come.
    pub(super) addresses: Vec<Address>,
}

impl PendingDial {
    /// Returns whether a swarm waits for it.
    pub(super) fn is_for_swarm(&self) -> bool {
        !self.swarms.is_empty()
    }

    pub(super) fn hold_question(&mut self, question: Question) {
        if self.questions.len() < PENDING_FRAMES_MAX {
            self.questions.push_back(question);
        }
    }
}

impl Core {
    /// Sends a swarm's control frame, over a link that is made for it if there is none.
    pub(super) fn send_or_dial(
        &mut self,
        topic: TopicId,
        to: PeerId,
        contact: Option<PeerContact>,
        frame: OutFrame,
        now: Now,
    ) {
        if let Some(link) = self.link_to(to) {
            if !link.is_alive() {
                return self.unreachable(topic, to);
            }
            link.touch(now);
            return self.send_control(to, frame);
        }
        let is_closing = self.is_closing(to);
        if let Some(pending) = self.pending.get_mut(&to) {
            if pending.frames.len() < PENDING_FRAMES_MAX {
                pending.frames.push_back(frame);
            }
            pending.swarms.insert(topic);
            self.links_moved();
            // A swarm doesn't wait for the structured layer's turn.
            if !is_closing {
                self.dial_pending(to, now);
            }
            return;
        }
        let addresses = contact
            .map(|contact| contact.0.value.addresses.clone())
            .filter(|addresses| !addresses.is_empty())
            .or_else(|| self.book.addresses(to))
            .unwrap_or_default();
        if addresses.is_empty() || self.dials.len() >= DIALS_MAX || self.stopping {
            return self.unreachable(topic, to);
        }
        let pending = self.pending.entry(to).or_default();
        pending.frames.push_back(frame);
        pending.swarms.insert(topic);
        pending.addresses = addresses;
        self.links_moved();
        if !is_closing {
            self.dial_pending(to, now);
        }
    }

    /// Dials a peer for which something waits, unless that is done already.
    fn dial_pending(&mut self, to: PeerId, now: Now) {
        let pending = self.pending.get_mut(&to);
        if let Some(pending) = pending.filter(|it| it.dialled_at.is_none()) {
            pending.dialled_at = Some(now.time);
            let addresses = std::mem::take(&mut pending.addresses);
            self.dial(Dial::Peer(to), Some(to), addresses);
        }
    }

    /// A link is gone: the next one is made, if something has waited for that.
    pub(super) fn dial_after_close(&mut self, peer: PeerId, now: Now) {
        let pending = self.pending.get(&peer);
        match pending.filter(|it| it.dialled_at.is_none()) {
            Some(pending) if pending.is_for_swarm() => self.dial_pending(peer, now),
            Some(_) => self.dial_in_turn(peer, now),
            None => {}
        }
    }

    pub(super) fn dial(&mut self, dial: Dial, peer: Option<PeerId>, addresses: Vec<Address>) {
        let dial = self.next_dial(dial);
        self.outputs.push_back(Output::Dial {
            dial,
            peer,
            addresses,
        });
    }

    /// Names a dial that is about to be ordered.
    pub(super) fn next_dial(&mut self, dial: Dial) -> DialId {
        self.dials_ordered += 1;
        let id = DialId(self.dials_ordered);
        self.dials.insert(id, dial);
        id
    }

    pub(super) fn add_peer(&mut self, request: RequestId, address: Address, _now: Now) {
        if self.dials.len() >= DIALS_MAX {
            return self.reply(request, Reply::PeerAdded(Err(AddPeerError::Busy)));
        }
        self.dial(Dial::Add(request), None, vec![address]);
    }

    pub(super) fn dialled(&mut self, dial: DialId, peer: PeerId, now: Now) {
        match self.dials.remove(&dial) {
            None => {}
            Some(Dial::Peer(expected) | Dial::Dht(expected)) if expected == peer => {}
            Some(Dial::Peer(expected) | Dial::Dht(expected)) => self.dial_lost(expected, now),
            Some(Dial::Proof(expected)) => self.proven(expected, expected == peer, now),
            Some(Dial::Join(index)) => self.joined(index, peer, now),
            Some(Dial::Book) => self.tell_swarm(self.root, swarm::Input::Join { via: peer }, now),
            Some(Dial::Add(request)) => {
                // Whoever adds a peer wants it wherever it is a member, whatever was held against it: it may have been removed, and
                // of which topics it is a member may come out later.
                let topics: Vec<_> = self.swarms.keys().copied().collect();
                for topic in topics {
                    self.tell_swarm(topic, swarm::Input::Pardon(peer), now);
                }
                self.tell_swarm(self.root, swarm::Input::Join { via: peer }, now);
                self.reply(request, Reply::PeerAdded(Ok(peer)));
            }
        }
        self.dial_for_dht(now);
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, error: DialError, now: Now) {
        if error == DialError::SelfDial {
            self.count("self_dials");
        }
        match self.dials.remove(&dial) {
            None | Some(Dial::Book) => {}
            Some(Dial::Peer(peer) | Dial::Dht(peer)) => self.dial_lost(peer, now),
            Some(Dial::Proof(peer)) => self.proven(peer, false, now),
            Some(Dial::Join(index)) => self.join_failed(index, error, now),
            Some(Dial::Add(request)) => {
                self.reply(request, Reply::PeerAdded(Err(AddPeerError::Dial(error))));
            }
        }
        self.dial_for_dht(now);
    }

    /// A dial ended without the peer. It may have dialled us meanwhile: then what waited has been sent.
    fn dial_lost(&mut self, peer: PeerId, now: Now) {
        if let Some(pending) = self.pending.remove(&peer) {
            self.links_moved();
            for topic in pending.swarms {
                self.tell_swarm(topic, swarm::Input::PeerLost(peer), now);
            }
            if !pending.questions.is_empty() {
                self.dht_lost(peer, now);
                self.store_lost(peer, now);
                self.keeper_lost(peer, now);
            }
            self.members.forget(peer);
            self.doubt(peer, now);
        }
    }

    pub(super) fn forget_dial(&mut self, request: RequestId) {
        self.dials
            .retain(|_, dial| !matches!(dial, Dial::Add(waiting) if *waiting == request));
    }
}
