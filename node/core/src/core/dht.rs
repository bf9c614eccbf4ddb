//! The structured layer's place in the node: what it is told, how its messages travel, and what callers ask of it.
//!
//! Peers of ours are asked over links, which are made where there is none, a few at a time, and given up when nobody has used
//! them for a while. Any other libp2p peer is asked, and answered, over streams that the shell owns.
//!
//! The table takes only peers that have answered *at an address of theirs*. A link that the peer has dialled proves none, so
//! before a question goes out over it the peer is dialled back once ([`Proof`]).
//!
//! The replicated store will order its lookups with [`weft_dht::dht::Call::Closest`] and call ids of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use weft_dht::dht::{self, Call, CallId, Dht, Outcome};
use weft_dht::table::{Standing, Table};
use weft_dht::{Key, Message, Query};
use weft_identity::PeerId;
use weft_overlay::{Now, Time, hyparview};

use super::dials::Dial;
use super::{Core, peer_of};
use crate::kad::{KadContact, KadPeer};
use crate::views::{DhtView, RoutingEntry, RoutingView};
use crate::wire::kad::encode_packet;
use crate::wire::{OutFrame, encode_kad};
use crate::{Address, Event, KadQueryId, Output, PeerContact, Reply, RequestId};

/// Dials for this layer under way: two lookups' worth and some pings, and half of what all may have, so that swarms never
/// wait for it.
const DIALS_MAX: usize = 64;
/// A dial that has waited for its turn as long as this is left out: nobody waits for the answer any more.
const TURN_MAX: Duration = Duration::from_secs(3);
/// Frames that wait for a peer to be dialled back: a question of each lookup that may run.
const HELD_MAX: usize = 64;
/// How long a peer that could not be dialled back is not tried again. A guess: it isn't reachable, and seldom becomes so.
const UNREACHABLE_FOR: Duration = Duration::from_secs(60);
/// How often a node whose table is empty is told again of all that the other layer knows. A guess.
const LEARN_EVERY: Duration = Duration::from_secs(5);
/// Contacts that the overlay gets at once where it runs short of them. A guess: half of a passive view.
const SAMPLE: usize = 15;

/// A question that is ready to be sent.
#[derive(Debug)]
pub(super) struct Question {
    /// The layer's own number for it; none for a question of the store, which has its own clocks.
    request: Option<weft_dht::RequestId>,
    frame: OutFrame,
}

impl Question {
    pub(super) const fn of_store(frame: OutFrame) -> Self {
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

/// Where the answer to a query goes.
#[derive(Clone, Copy, Debug)]
enum Route {
    Link { peer: PeerId, request: u64 },
    Stream(KadQueryId),
}

/// The structured layer and what belongs to it.
#[derive(Debug)]
pub(super) struct Structured {
    dht: Dht<KadContact>,
    /// Callers' requests, by the lookup's call.
    calls: BTreeMap<CallId, RequestId>,
    next_call: u64,
    /// The way back of the query that is being handled.
    answering: Option<Route>,
    /// Peers that can't be asked; the layer is told after it was drained.
    lost: VecDeque<PeerId>,
    /// Peers whose dials wait for their turn, since when. At most as many as the layer has questions out.
    turns: VecDeque<(PeerId, Time)>,
    learn_at: Time,
}

impl Structured {
    pub(super) fn new(me: KadContact, rng: &mut ChaCha8Rng, now: Now) -> Self {
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        Self {
            dht: Dht::new(me, dht::Config::default(), ChaCha8Rng::from_seed(seed), now),
            calls: BTreeMap::new(),
            next_call: 0,
            answering: None,
            lost: VecDeque::new(),
            turns: VecDeque::new(),
            learn_at: now.time,
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let learn = if self.dht.wants_contacts() {
            self.learn_at
        } else {
            Time::NEVER
        };
        self.dht.poll_timeout().min(learn)
    }
}

impl Core {
    /// The own descriptor was issued anew.
    pub(super) fn tell_dht_of_me(&mut self, now: Now) {
        let me = KadContact::new(KadPeer::Signed(self.contact.clone()), now.unix);
        self.tell_dht(dht::Input::SetMe(me), now);
    }

    /// Tells the layer of peers that it may not know; it pings whom it has room for.
    pub(super) fn learned<'a>(
        &mut self,
        contacts: impl IntoIterator<Item = &'a PeerContact>,
        now: Now,
    ) {
        let serving = contacts.into_iter().filter(|it| it.0.value.roles.serves);
        let contacts: Vec<KadContact> = serving
            .map(|contact| KadContact::new(KadPeer::Signed(contact.clone()), now.unix))
            .collect();
        if !contacts.is_empty() {
            self.tell_dht(dht::Input::Learned { contacts }, now);
        }
    }

    /// Learns from what peers of a swarm say of each other.
    pub(super) fn learn_from(&mut self, message: &hyparview::Message<PeerContact>, now: Now) {
        use hyparview::Message as M;
        match message {
            M::Join { joiner: contact }
            | M::ForwardJoin {
                joiner: contact, ..
            }
            | M::Neighbor {
                sender: contact, ..
            }
            | M::NeighborReply {
                sender: contact, ..
            } => self.learned([contact], now),
            M::Shuffle { origin, sample, .. } => self.learned(sample.iter().chain([origin]), now),
            M::ShuffleReply { sample } => self.learned(sample, now),
            M::Disconnect { .. } => {}
        }
    }

    /// Draws contacts for the overlay, whose views run dry.
    pub(super) fn sample_contacts(&mut self, now: Now) -> Vec<PeerContact> {
        let sample = self.structured.dht.sample_contacts(SAMPLE, now);
        let signed = sample.iter().filter_map(KadContact::descriptor);
        signed.cloned().collect()
    }

    pub(super) fn dht_lost(&mut self, peer: PeerId, now: Now) {
        self.tell_dht(dht::Input::PeerLost { peer }, now);
    }

    /// A link's peer has said who it is.
    pub(super) fn met(&mut self, peer: PeerId, now: Now) {
        if let Some(contact) = self.linked_contact(peer, now) {
            self.tell_dht(dht::Input::Met { contact }, now);
        }
    }

    /// The operator has removed a peer.
    pub(super) fn dht_forget(&mut self, peer: PeerId, now: Now) {
        self.tell_dht(dht::Input::Forget { peer }, now);
    }

    pub(super) fn tick_dht(&mut self, now: Now) {
        if self.structured.dht.wants_contacts() && self.structured.learn_at <= now.time {
            self.structured.learn_at = now.time + LEARN_EVERY;
            let known = self.book.newest_first();
            let passive = self.swarms.get(&self.root).into_iter().flat_map(|entry| {
                let contacts = entry.swarm.membership().passive_contacts();
                contacts.cloned().collect::<Vec<_>>()
            });
            let contacts: Vec<PeerContact> = known.into_iter().chain(passive).collect();
            self.learned(&contacts, now);
        }
        if self.structured.dht.poll_timeout() <= now.time {
            self.structured.dht.handle_timeout(now);
            self.drain_dht(now);
        }
    }

    // Messages as they come.

    /// A message came over a link.
    pub(super) fn kad_came(
        &mut self,
        peer: PeerId,
        request: u64,
        message: Message<KadPeer>,
        now: Now,
    ) {
        self.touch_link(peer, now);
        let contact = self.linked_contact(peer, now);
        self.received(
            peer,
            contact,
            request,
            message,
            Route::Link { peer, request },
            now,
        );
    }

    /// A query came over a stream; whoever serves has told where it listens.
    pub(super) fn kad_asked(
        &mut self,
        query: KadQueryId,
        peer: PeerId,
        addresses: Vec<Address>,
        message: Message<KadPeer>,
        now: Now,
    ) {
        if self.stopping {
            let packet = None;
            return self.outputs.push_back(Output::KadReply { query, packet });
        }
        let told = KadPeer::Told { peer, addresses };
        let contact = (!told.addresses().is_empty()).then(|| self.believed(told, now));
        self.received(peer, contact, 0, message, Route::Stream(query), now);
        // A client answers nobody, and some messages have no answer.
        if let Some(Route::Stream(query)) = self.structured.answering.take() {
            let packet = None;
            self.outputs.push_back(Output::KadReply { query, packet });
        }
    }

    /// A peer that was asked over a stream has answered, and where it was reached.
    pub(super) fn kad_answered(
        &mut self,
        peer: PeerId,
        request: u64,
        met_at: &Address,
        message: Message<KadPeer>,
        now: Now,
    ) {
        let told = KadPeer::Told {
            peer,
            addresses: vec![met_at.clone()],
        };
        let contact = self.believed(told, now).met_at(met_at);
        self.received(
            peer,
            Some(contact),
            request,
            message,
            Route::Link { peer, request },
            now,
        );
    }

    fn received(
        &mut self,
        from: PeerId,
        contact: Option<KadContact>,
        request: u64,
        message: Message<KadPeer>,
        route: Route,
        now: Now,
    ) {
        let message = message.map(|peer| self.believed(peer, now));
        if let Message::Query(_) = message {
            self.structured.answering = Some(route);
        }
        let request = weft_dht::RequestId(request);
        self.tell_dht(
            dht::Input::Received {
                from,
                contact,
                request,
                message,
            },
            now,
        );
        if let Some(Route::Link { .. }) = self.structured.answering {
            self.structured.answering = None;
        }
    }

    /// Takes a peer of a message; instead of somebody's word about it its own descriptor, where that is known.
    fn believed(&self, peer: KadPeer, now: Now) -> KadContact {
        let own = match &peer {
            KadPeer::Signed(_) => None,
            KadPeer::Told { peer, .. } => {
                let linked = self.links.get(peer).and_then(|link| link.contact.clone());
                linked.or_else(|| self.book.lasting(*peer, now))
            }
        };
        KadContact::new(own.map_or(peer, KadPeer::Signed), now.unix)
    }

    /// Returns what a linked peer has said of itself, grouped by where it is.
    fn linked_contact(&self, peer: PeerId, now: Now) -> Option<KadContact> {
        let link = self.links.get(&peer)?;
        let contact = KadContact::new(KadPeer::Signed(link.contact.clone()?), now.unix);
        Some(match &link.address {
            Some(address) => contact.met_at(address),
            None => contact,
        })
    }

    // The layer's orders.

    pub(super) fn tell_dht(&mut self, input: dht::Input<KadContact>, now: Now) {
        if self.stopping {
            return;
        }
        self.structured.dht.handle(input, now);
        self.drain_dht(now);
    }

    fn drain_dht(&mut self, now: Now) {
        loop {
            while let Some(output) = self.structured.dht.poll_output() {
                self.dht_output(output, now);
            }
            let Some(peer) = self.structured.lost.pop_front() else {
                return;
            };
            let lost = dht::Input::PeerLost { peer };
            self.structured.dht.handle(lost, now);
        }
    }

    fn dht_output(&mut self, output: dht::Output<KadContact>, now: Now) {
        match output {
            dht::Output::Send {
                contact: None,
                message,
                ..
            } => self.answer(&message),
            dht::Output::Send {
                to,
                contact: Some(contact),
                request,
                message,
            } => self.ask(to, &contact, request, &message, now),
            dht::Output::Reply { id, outcome, stats } => {
                if self.store_found(id, &outcome, now) {
                    return;
                }
                if let Some(request) = self.structured.calls.remove(&id) {
                    self.reply(request, Reply::Dht { outcome, stats });
                }
            }
            dht::Output::Misbehaviour { peer, what } => {
                self.count("misbehaviour");
                self.event(Event::Misbehaviour { peer, what });
            }
        }
    }

    fn answer(&mut self, message: &Message<KadContact>) {
        match self.structured.answering.take() {
            Some(Route::Link { peer, request }) => {
                self.send_control(peer, encode_kad(request, message));
            }
            Some(Route::Stream(query)) => {
                let packet = Some(encode_packet(message, self.me));
                self.outputs.push_back(Output::KadReply { query, packet });
            }
            None => debug_assert!(false, "an answer to no query"),
        }
    }

    fn ask(
        &mut self,
        to: PeerId,
        contact: &KadContact,
        request: weft_dht::RequestId,
        message: &Message<KadContact>,
        now: Now,
    ) {
        let question = || Question {
            request: Some(request),
            frame: encode_kad(request.0, message),
        };
        if self.links.contains_key(&to) {
            return self.ask_linked(to, question(), now);
        }
        let waits = dht::Input::Waits { request };
        self.structured.dht.handle(waits, now);
        match contact.known() {
            KadPeer::Signed(contact) => {
                self.link_for_dht(contact, Some(question()), now);
            }
            KadPeer::Told { addresses, .. } => {
                let addresses = addresses.clone();
                let is_answered = !matches!(message, Message::Query(Query::AddProvider { .. }));
                self.outputs.push_back(Output::KadAsk {
                    peer: to,
                    addresses,
                    request: request.0,
                    packet: encode_packet(message, to),
                    is_answered,
                });
            }
        }
    }

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
            self.structured.turns.push_back((peer, now.time));
            self.dial_for_dht(now);
        }
    }

    /// Returns the routing table.
    pub(super) fn table(&self) -> &Table<KadContact> {
        self.structured.dht.table()
    }

    /// Begins as many dials as may be under way for this layer.
    pub(super) fn dial_for_dht(&mut self, now: Now) {
        loop {
            let ours = self
                .dials
                .values()
                .filter(|dial| matches!(dial, Dial::Dht(_)));
            if ours.count() >= DIALS_MAX || self.dials.len() >= super::dials::DIALS_MAX {
                return;
            }
            let Some((peer, since)) = self.structured.turns.pop_front() else {
                return;
            };
            let Some(pending) = self.pending.get_mut(&peer).filter(|it| !it.is_dialled) else {
                continue;
            };
            if now.time.since(since) >= TURN_MAX {
                self.pending.remove(&peer);
                self.count("dht_questions_left_out");
                continue;
            }
            pending.is_dialled = true;
            let addresses = std::mem::take(&mut pending.addresses);
            self.dial(Dial::Dht(peer), Some(peer), addresses);
        }
    }

    // Callers.

    /// Names a call of the layer.
    pub(super) const fn next_dht_call(&mut self) -> CallId {
        self.structured.next_call += 1;
        CallId(self.structured.next_call)
    }

    pub(super) fn call_dht(&mut self, request: RequestId, call: Call<PeerId>, now: Now) {
        let id = self.next_dht_call();
        self.structured.calls.insert(id, request);
        self.tell_dht(dht::Input::Call { id, call }, now);
    }

    pub(super) fn stop_providing(&mut self, request: RequestId, key: Key, now: Now) {
        let provided = self.structured.dht.provides(&key);
        self.tell_dht(dht::Input::StopProviding { key }, now);
        self.reply(request, Reply::ProvidingStopped(provided));
    }

    /// A caller has gone; its lookup runs to its end.
    pub(super) fn forget_call(&mut self, request: RequestId) {
        self.structured
            .calls
            .retain(|_, waiting| *waiting != request);
    }

    pub(super) fn refuse_calls(&mut self) {
        for request in std::mem::take(&mut self.structured.calls).into_values() {
            self.reply(request, busy());
        }
    }

    /// Returns the layer at a glance.
    pub fn dht(&self) -> DhtView {
        let dht = &self.structured.dht;
        let counters = dht.counters();
        let entries = dht.table().entries();
        DhtView {
            serves: self.roles.serves,
            live: entries
                .filter(|entry| entry.standing() == Standing::Live)
                .count(),
            provider_records: dht.providers().len(),
            counters,
        }
    }

    /// Returns the own contact and the routing table, the closest to this node first.
    pub fn routing_table(&self, now: Now) -> RoutingView {
        let dht = &self.structured.dht;
        let me = weft_dht::Peer::point(&self.me);
        let entries = dht.table().entries().map(|entry| RoutingEntry {
            contact: entry.contact().clone(),
            bucket: me.shared_prefix(entry.point()),
            standing: entry.standing(),
            rtt: entry.rtt().smoothed(),
            seen: now.time.since(entry.seen_at()),
        });
        RoutingView {
            entries: entries.collect(),
            spares: dht.table().spares().count(),
        }
    }

    /// Returns this node's own contact, as lookups of others find it.
    pub fn own_contact(&self) -> &PeerContact {
        &self.contact
    }

    /// Returns live peers of ours in the table.
    pub(super) fn live_descriptors(&self) -> impl Iterator<Item = &PeerContact> {
        let entries = self.structured.dht.table().entries();
        let live = entries.filter(|entry| entry.standing() == Standing::Live);
        live.filter_map(|entry| entry.contact().descriptor())
    }
}

/// What a caller is told that can't be served.
pub(super) fn busy() -> Reply {
    Reply::Dht {
        outcome: Outcome::Busy,
        stats: weft_dht::lookup::Stats::default(),
    }
}
