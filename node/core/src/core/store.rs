//! The replicated store's place in the node: what it is told, how its messages travel, who is near it, and the records that
//! it has signed.
//!
//! Its messages go over links, as the structured layer's do, and are answered over the link that they came by. Whom it
//! believes near and alive is the part of the routing table around this node: those peers are kept linked, so that the
//! heartbeat tells within three seconds when one dies, and one whose link breaks is pinged at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use weft_dht::dht::{self, Call as Lookup};
use weft_dht::kv::{Content, Dot, Header, Invalid, Record, Seq, tombstone_expires_at};
use weft_dht::store::{
    self, Call, CallId, Draft, Message, OrderId, Outcome, Reach, Restored, Store, Written,
};
use weft_dht::table::{Entry, K, Standing};
use weft_dht::{Contact, Key, Peer, Point, RequestId as Pairing};
use weft_identity::PeerId;
use weft_overlay::{Now, Time};

use super::Core;
use super::reach::Question;
use crate::views::StoreView;
use crate::wire::{encode_store, write_record};
use crate::{Direction, Event, KadContact, Lane, Output, PeerContact, Reply, RequestId};

/// How often it is looked at who is near. A guess: a tenth of what a killed peer's link takes to be missed.
const VIEW_EVERY: Duration = Duration::from_millis(300);
/// How often links to the nearest are made, and kept until the next time.
const LINKS_EVERY: Duration = Duration::from_secs(3);
/// Peers nearest to this node that are kept linked: the replicas of its records, twice. Those beyond are noticed when they
/// are asked.
const LINKED: usize = 8;
/// How many of them where there are so many links that upkeep leaves others their room; the others may keep theirs to this node.
const LINKED_IF_CROWDED: usize = 4;
/// Bytes of a message above which it goes with what may wait: it holds records.
const LARGE_BYTES: usize = 4 * 1024;

/// The store and what belongs to it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) store: Store<PeerContact>,
    /// Callers' requests, by the store's call.
    calls: BTreeMap<CallId, RequestId>,
    next_call: u64,
    /// Lookups that the store has ordered, by the structured layer's call.
    lookups: BTreeMap<dht::CallId, OrderId>,
    /// Lookups that have ended; the store is told when it has been drained.
    found: VecDeque<(OrderId, Vec<PeerContact>)>,
    /// Peers that can't be reached; likewise.
    lost: VecDeque<PeerId>,
    /// Who was last told to be near, and in which of its descriptors.
    view: Vec<PeerContact>,
    view_at: Time,
    links_at: Time,
}

impl Stored {
    pub(super) fn new(
        me: PeerContact,
        config: store::Config,
        restored: Restored<PeerContact>,
        epoch: u64,
        rng: &mut ChaCha8Rng,
        now: Now,
    ) -> Self {
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        let restored = Restored { epoch, ..restored };
        // One that holds nothing is near to nobody.
        let looks_at = if config.stores { now.time } else { Time::NEVER };
        Self {
            store: Store::new(me, config, ChaCha8Rng::from_seed(seed), now, restored),
            calls: BTreeMap::new(),
            next_call: 0,
            lookups: BTreeMap::new(),
            found: VecDeque::new(),
            lost: VecDeque::new(),
            view: Vec::new(),
            view_at: looks_at,
            links_at: looks_at,
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.store
            .poll_timeout()
            .min(self.view_at)
            .min(self.links_at)
    }
}

/// Whether a peer of the table is alive. A suspect is being pinged; until then it may as well be there.
fn is_there(entry: &Entry<KadContact>) -> bool {
    matches!(entry.standing(), Standing::Live | Standing::Suspect)
}

impl Core {
    /// The own descriptor was issued anew.
    pub(super) fn tell_store_of_me(&mut self, now: Now) {
        let me = self.contact.clone();
        self.tell_store(store::Input::SetMe(me), now);
    }

    pub(super) fn tick_store(&mut self, now: Now) {
        if self.stored.view_at <= now.time {
            self.stored.view_at = now.time + VIEW_EVERY;
            self.look_around(now);
        }
        if self.stored.links_at <= now.time {
            self.stored.links_at = now.time + LINKS_EVERY;
            self.keep_links(now);
        }
        if self.stored.store.poll_timeout() <= now.time {
            self.stored.store.handle_timeout(now);
            self.drain_store(now);
        }
    }

    /// A message came over a link.
    pub(super) fn store_came(
        &mut self,
        peer: PeerId,
        request: Pairing,
        message: Message<PeerContact>,
        now: Now,
    ) {
        if !self.roles.stores && matches!(message, Message::Query(_)) {
            return self.count("store_queries_ignored");
        }
        if let Message::Query(store::messages::Query::Claim { contact, .. }) = &message
            && !contact.0.value.roles.stores
        {
            // Whoever holds nothing has no claim to anything.
            return self.count("store_claims_of_clients");
        }
        self.touch_link(peer, now);
        self.tell_store(
            store::Input::Received {
                from: peer,
                request,
                message,
            },
            now,
        );
    }

    /// A link to a peer went down or could not be made: what it was asked it won't answer.
    pub(super) fn store_lost(&mut self, peer: PeerId, now: Now) {
        self.tell_store(store::Input::PeerLost { peer }, now);
    }

    /// A peer may have died. One that was near is looked after at once.
    pub(super) fn doubt(&mut self, peer: PeerId, now: Now) {
        if self.stored.view.iter().any(|it| Contact::peer(it) == peer) {
            self.tell_dht(dht::Input::Doubt { peer }, now);
            self.stored.view_at = now.time;
        }
    }

    // Who is near.

    /// Tells the store who is near and alive, where that has changed.
    fn look_around(&mut self, now: Now) {
        let view = self.near(self.me.point(), now);
        if view != self.stored.view {
            self.stored.view.clone_from(&view);
            self.tell_store(store::Input::View { contacts: view }, now);
        }
    }

    /// Returns the peers closest to a point that store and are alive, as far as the table knows; the closest first.
    pub(super) fn near(&self, point: Point, now: Now) -> Vec<PeerContact> {
        self.near_where(point, now, KadContact::stores)
    }

    /// Returns the same of all peers of ours that serve, whether they keep things or not.
    pub(super) fn near_serving(&self, point: Point, now: Now) -> Vec<PeerContact> {
        self.near_where(point, now, |_| true)
    }

    fn near_where(
        &self,
        point: Point,
        now: Now,
        holds: impl Fn(&KadContact) -> bool,
    ) -> Vec<PeerContact> {
        let near = self.table().closest_where(point, K, |entry| {
            let contact = entry.contact();
            is_there(entry) && contact.expires_at() > now.unix && holds(contact)
        });
        let near = near.into_iter();
        near.filter_map(|entry| entry.contact().descriptor().cloned())
            .collect()
    }

    /// Returns a mark that differs, in all likelihood, where others are there.
    pub(super) fn near_mark(&self) -> u64 {
        let there = self.table().entries().filter(|entry| is_there(entry));
        there.fold(0, |mark, entry| {
            let peer = entry.peer();
            let first = peer.as_bytes().first_chunk().copied();
            mark ^ first.map_or(0, u64::from_le_bytes)
        })
    }

    /// Keeps the links to the nearest, or makes them.
    fn keep_links(&mut self, now: Now) {
        let nearest: Vec<PeerContact> = self.stored.view.iter().take(LINKED).cloned().collect();
        let wanted = match self.is_crowded() {
            true => LINKED_IF_CROWDED,
            false => LINKED,
        };
        for (rank, contact) in nearest.iter().enumerate() {
            let is_wanted = rank < wanted;
            match self.links.get_mut(&Contact::peer(contact)) {
                Some(link) if is_wanted || link.direction == Direction::Inbound => {
                    link.keep(now.time + LINKS_EVERY);
                }
                None if is_wanted => self.link_for_dht(contact, None, now),
                Some(_) | None => {}
            }
        }
    }

    // The store's orders.

    pub(super) fn tell_store(&mut self, input: store::Input<PeerContact>, now: Now) {
        if self.stopping {
            return;
        }
        self.stored.store.handle(input, now);
        self.drain_store(now);
    }

    fn drain_store(&mut self, now: Now) {
        loop {
            while let Some(output) = self.stored.store.poll_output() {
                self.store_output(output, now);
            }
            if let Some((id, contacts)) = self.stored.found.pop_front() {
                let found = store::Input::Closest { id, contacts };
                self.stored.store.handle(found, now);
            } else if let Some(peer) = self.stored.lost.pop_front() {
                let lost = store::Input::PeerLost { peer };
                self.stored.store.handle(lost, now);
            } else {
                return;
            }
        }
    }

    fn store_output(&mut self, output: store::Output<PeerContact>, now: Now) {
        match output {
            store::Output::Send {
                to,
                contact,
                request,
                message,
            } => self.send_of_store(to, contact.as_ref(), request, &message, now),
            store::Output::Lookup { id, key, reach } => self.look_for_store(id, key, reach, now),
            store::Output::Sign { id, seq, draft } => {
                let record = self.sign(seq, draft, now);
                let signed = store::Input::Signed { id, record };
                self.stored.store.handle(signed, now);
            }
            store::Output::Persist { id, ops } => {
                self.outputs.push_back(Output::Persist { id, ops });
            }
            store::Output::Load { id, wanted } => {
                self.outputs.push_back(Output::Load { id, wanted });
            }
            store::Output::Reply { id, outcome } => {
                if let Some(request) = self.stored.calls.remove(&id) {
                    self.reply(request, Reply::Kv(outcome));
                }
            }
            store::Output::Event(event) => self.store_event(event),
        }
    }

    fn store_event(&mut self, event: store::Event<PeerId>) {
        if let store::Event::Misbehaviour { peer, what } = event {
            self.count("misbehaviour");
            return self.event(Event::Misbehaviour { peer, what });
        }
        self.event(Event::Store(event));
    }

    fn send_of_store(
        &mut self,
        to: PeerId,
        contact: Option<&PeerContact>,
        request: Pairing,
        message: &Message<PeerContact>,
        now: Now,
    ) {
        let frame = encode_store(request, message);
        match self.link_to(to) {
            Some(link) if link.is_alive() => {
                link.touch(now);
                let lane = if frame.len() > LARGE_BYTES {
                    Lane::Repair
                } else {
                    Lane::Control
                };
                let peer = to;
                self.outputs.push_back(Output::Send { peer, lane, frame });
            }
            Some(_) => self.stored.lost.push_back(to),
            // An answer goes back the way its question came, or not at all.
            None => match contact {
                Some(contact) => {
                    self.link_for_dht(contact, Some(Question::unhurried(frame)), now);
                }
                None => self.count("store_answers_left_out"),
            },
        }
    }

    fn look_for_store(&mut self, id: OrderId, key: Key, reach: Reach, now: Now) {
        match reach {
            Reach::Table => {
                let near = self.near(key.point(), now);
                self.stored.found.push_back((id, near));
            }
            Reach::Network => {
                let lookup = self.next_dht_call();
                self.stored.lookups.insert(lookup, id);
                let call = Lookup::Closest(key);
                self.tell_dht(dht::Input::Call { id: lookup, call }, now);
            }
        }
    }

    /// A lookup has ended; returns whether the store had ordered it.
    pub(super) fn store_found(
        &mut self,
        lookup: dht::CallId,
        outcome: &dht::Outcome<KadContact>,
        now: Now,
    ) -> bool {
        let Some(id) = self.stored.lookups.remove(&lookup) else {
            return false;
        };
        let contacts = match outcome {
            dht::Outcome::Closest { contacts } => contacts
                .iter()
                .filter(|contact| contact.stores())
                .filter_map(|contact| contact.descriptor().cloned())
                .collect(),
            // Too many are running: what the table knows must do.
            _ => Vec::new(),
        };
        self.stored.found.push_back((id, contacts));
        // Where the store is being drained, that goes on; elsewhere it is told now.
        self.drain_store(now);
        true
    }

    /// Makes the record of a draft.
    fn sign(&self, seq: Seq, draft: Draft<PeerId>, now: Now) -> Result<Record<PeerId>, Invalid> {
        let written_at = now.unix;
        let (content, value, expires_at) = match &draft.content {
            Written::Value(value) => {
                let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
                let expires_at = draft.ttl.map(|ttl| written_at + ttl);
                (Content::Value { bytes }, value.as_ref(), expires_at)
            }
            Written::Nothing => {
                let expires_at = tombstone_expires_at(draft.covered_ends_at, written_at);
                (Content::Tombstone, [].as_slice(), Some(expires_at))
            }
        };
        let header = Header {
            key: draft.key,
            dot: Dot {
                writer: self.me,
                seq,
            },
            prev: draft.prev,
            context: draft.context,
            content,
            written_at,
            expires_at,
            copies: draft.copies,
            hash: [0; 32],
        };
        write_record(&self.keypair, &self.network, header, value)
    }

    // Callers.

    pub(super) fn call_store(&mut self, request: RequestId, call: Call<PeerId>, now: Now) {
        self.stored.next_call += 1;
        let id = CallId(self.stored.next_call);
        self.stored.calls.insert(id, request);
        self.tell_store(store::Input::Call { id, call }, now);
    }

    /// A caller has gone; what it asked for goes on.
    pub(super) fn forget_store_call(&mut self, request: RequestId) {
        self.stored.calls.retain(|_, waiting| *waiting != request);
    }

    pub(super) fn refuse_store_calls(&mut self) {
        for request in std::mem::take(&mut self.stored.calls).into_values() {
            self.reply(request, Reply::Kv(Outcome::Busy));
        }
    }

    /// Returns the store at a glance.
    pub fn store(&self) -> StoreView {
        let store = &self.stored.store;
        StoreView {
            stores: self.roles.stores,
            settled: store.settled_round().is_some(),
            records: store.records(),
            hints: store.hints(),
            counters: store.counters(),
        }
    }
}
