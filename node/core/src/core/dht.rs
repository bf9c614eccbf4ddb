//! The structured layer's place in the node: what it is told, how its messages travel, and what callers ask of it.
//!
//! Peers of ours are asked over links, which are made where there is none, a few at a time, and given up when nobody has used
//! them for a while. Any other libp2p peer is asked, and answered, over streams that the shell owns.
//!
//! The table takes only peers that have answered *at an address of theirs*. A link that the peer has dialled proves none, so
//! before a question goes out over it the peer is dialled back once (`reach.rs`).
//!
//! The replicated store orders its lookups with [`weft_dht::dht::Call::Closest`] and call ids of its own (`store.rs`).

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

use super::Core;
use super::reach::Question;
use crate::kad::{KadContact, KadPeer};
use crate::views::{DhtView, RoutingEntry, RoutingView};
use crate::wire::encode_kad;
use crate::wire::kad::encode_packet;
use crate::{Address, Event, KadQueryId, Output, PeerContact, Reply, RequestId};

/// How often a node whose table is empty is told again of all that the other layer knows. A guess.
const LEARN_EVERY: Duration = Duration::from_secs(5);
/// Contacts that the overlay gets at once where it runs short of them. A guess: half of a passive view.
const SAMPLE: usize = 15;

/// Where the answer to a query goes.
#[derive(Clone, Copy, Debug)]
enum Route {
    Link { peer: PeerId, request: u64 },
    Stream(KadQueryId),
}

/// The structured layer and what belongs to it.
#[derive(Debug)]
pub(super) struct Structured {
    pub(super) dht: Dht<KadContact>,
    /// Callers' requests, by the lookup's call.
    calls: BTreeMap<CallId, RequestId>,
    next_call: u64,
    /// The way back of the query that is being handled.
    answering: Option<Route>,
    /// Peers that can't be asked; the layer is told after it was drained.
    pub(super) lost: VecDeque<PeerId>,
    /// Peers whose dials wait for their turn, since when; those that don't any more are left out when theirs comes.
    pub(super) turns: VecDeque<(PeerId, Time)>,
    /// When to look again whose turn it is.
    pub(super) turns_at: Time,
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
            turns_at: Time::NEVER,
            learn_at: now.time,
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let learn = if self.dht.wants_contacts() {
            self.learn_at
        } else {
            Time::NEVER
        };
        self.dht.poll_timeout().min(learn).min(self.turns_at)
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
        if self.structured.turns_at <= now.time {
            self.dial_for_dht(now);
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
                if self.store_found(id, &outcome, now) || self.topic_found(id, &outcome, now) {
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
        if self.link_to(to).is_some() {
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

    /// Returns the routing table.
    pub(super) fn table(&self) -> &Table<KadContact> {
        self.structured.dht.table()
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
