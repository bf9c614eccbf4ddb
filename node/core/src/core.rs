//! The node as a value: the parent of every swarm, who drains them in one place and translates.
//!
//! The parts are one file each: [`commands`] (what callers order), [`links`] (liveness), [`lanes`] (how much waits on them), [`dials`] (how they are made), [`shared`] (which of them swarms share), [`book`] (own descriptor and known peers), [`join`] (into
//! the network, for ever), [`dht`] (the structured layer), [`topics`] (of which topics the node is a member), [`members`] (who else is), [`look`] (what is shown of all that), [`rendezvous`] (how members find
//! a topic's keepers), [`asking`] (what it asks them), [`keepers`] (what a keeper does), [`exchange`] (what is taken over from one), [`acks`] and [`hand`] (what publishers get of them), [`publish`] (bundles and their pace),
//! [`logs`] (what is kept of topics) and [`journal`] (its way to disk),
//! [`reach`] (how peers of the structured layer are reached), [`store`] (the replicated store's place in the node). They share [`Core`]'s fields and
//! call each other downwards only: topics and publish use swarms, swarms use links.

mod acks;
mod asking;
mod book;
mod commands;
mod dht;
mod dials;
mod exchange;
mod hand;
mod join;
mod journal;
mod keepers;
mod lanes;
mod links;
mod logs;
mod look;
mod members;
mod publish;
mod reach;
mod rendezvous;
mod shared;
mod store;
mod swarms;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use weft_dht::store as kept;
use weft_identity::{Keypair, PeerId};
use weft_overlay::plumtree::Start;
use weft_overlay::{Contact, Now, Time};

use crate::config::PreviousRun;
use crate::wire::Frame;
use crate::{
    Config, DialId, Event, Input, KadContact, KadPeer, Output, PeerContact, Reply, RequestId,
    Roles, TopicId, TopicName,
};
use acks::Unacknowledged;
use asking::Asking;
use book::AddressBook;
use dht::Structured;
use dials::{Dial, PendingDial};
use hand::{Handing, Unspread};
use join::JoinAddress;
use keepers::Keeping;
use links::Link;
use logs::Logs;
use members::Members;
use publish::OwnStream;
use shared::Shared;
use store::Stored;
use swarms::Entry;

/// A wake that comes this much later than it was asked for means that this process was stopped: others are not judged by it.
const STALL: Duration = Duration::from_secs(1);

/// The node as a value.
#[derive(Debug)]
pub struct Core {
    keypair: Keypair,
    me: PeerId,
    network: String,
    /// The root swarm's point.
    root: TopicId,
    epoch: u64,
    previous_run: Option<PreviousRun>,
    rng: ChaCha8Rng,
    stopping: bool,

    links: BTreeMap<PeerId, Link>,
    link_timers: BTreeSet<(Time, PeerId)>,
    shared: Shared,
    dials: BTreeMap<DialId, Dial>,
    /// Frames that wait for a dial.
    pending: BTreeMap<PeerId, PendingDial>,
    /// Links whose lane filled up while a swarm was drained; its other swarms are told after that.
    newly_congested: Vec<PeerId>,
    /// Peers that a swarm's frame could not reach; the swarm is told after it was drained.
    unreachable: VecDeque<(TopicId, PeerId)>,
    dials_ordered: u64,
    next_nonce: u64,

    roles: Roles,
    contact: PeerContact,
    addresses: Vec<crate::Address>,
    renew_at: Time,
    book: AddressBook,
    persist_at: Time,

    joins: Vec<JoinAddress>,

    swarms: BTreeMap<TopicId, Entry>,
    timers: BTreeSet<(Time, TopicId)>,
    /// Topics on which publishes wait.
    publishing: BTreeSet<TopicId>,
    /// Publishes that wait to be acknowledged; each has a caller who waits.
    acks: Vec<Unacknowledged>,
    /// Publishes that are being handed to keepers.
    handing: BTreeMap<RequestId, Handing>,
    unspread: Unspread,
    history_bytes: usize,
    logs: Logs,

    structured: Structured,
    stored: Stored,
    members: Members,
    topics_at: Time,
    asking: Asking,
    keeping: Keeping,
    own_streams: BTreeMap<TopicName, OwnStream>,

    /// By when the caller was asked to wake this core.
    wake_by: Time,
    /// When the caller last called.
    called_at: Time,
    counters: BTreeMap<&'static str, u64>,
    outputs: VecDeque<Output>,
}

impl Core {
    /// Makes a core, a member of the root swarm that knows whom its configuration names.
    pub fn new(config: Config, now: Now) -> Self {
        let me = config.keypair.peer_id();
        let contact = book::issue(&config.keypair, &[], config.roles, now);
        let root = TopicName::network().id(&config.network);
        let mut rng = ChaCha8Rng::from_seed(config.seed);
        let stored = Stored::new(
            contact.clone(),
            weft_dht::store::Config {
                stores: config.roles.stores,
                founder: config.found || config.join.is_empty() && config.address_book.is_empty(),
                ..config.store
            },
            config.restored,
            config.epoch,
            &mut rng,
            now,
        );
        let own = KadContact::new(KadPeer::Signed(contact.clone()), now.unix);
        let mut core = Self {
            structured: Structured::new(own, &mut rng, now),
            stored,
            me,
            root,
            roles: config.roles,
            contact,
            keypair: config.keypair,
            network: config.network,
            epoch: config.epoch,
            previous_run: config.previous_run,
            rng,
            stopping: false,
            links: BTreeMap::new(),
            link_timers: BTreeSet::new(),
            shared: Shared::default(),
            dials: BTreeMap::new(),
            pending: BTreeMap::new(),
            newly_congested: Vec::new(),
            unreachable: VecDeque::new(),
            dials_ordered: 0,
            next_nonce: 0,
            addresses: Vec::new(),
            renew_at: now.time + book::DESCRIPTOR_RENEWED,
            book: AddressBook::new(config.address_book),
            persist_at: Time::NEVER,
            joins: config
                .join
                .into_iter()
                .map(|address| JoinAddress::new(address, now))
                .collect(),
            swarms: BTreeMap::new(),
            timers: BTreeSet::new(),
            publishing: BTreeSet::new(),
            acks: Vec::new(),
            handing: BTreeMap::new(),
            unspread: Unspread::default(),
            history_bytes: 0,
            logs: Logs::new(config.epoch),
            members: Members::default(),
            topics_at: now.time,
            asking: Asking::new(now),
            keeping: Keeping::new(now),
            own_streams: BTreeMap::new(),
            wake_by: Time::NEVER,
            called_at: now.time,
            counters: BTreeMap::new(),
            outputs: VecDeque::new(),
        };
        core.keep_logs(&config.kept_logs);
        core.restore_logs(config.topics, now);
        core.open_swarm(TopicName::network(), Start::Retained, now);
        core.settle(now);
        core
    }

    /// Takes a fact.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.notice_stall(now);
        match input {
            Input::Listening(addresses) => self.listening(addresses, now),
            Input::LinkUp {
                peer,
                direction,
                address,
                transport,
            } => self.link_up(peer, Link::new(direction, address, transport, now), now),
            Input::LinkDown { peer, reason } => self.link_down(peer, &reason, now),
            Input::LinkState {
                peer,
                heard,
                data_bytes,
                repair_bytes,
            } => self.link_state(peer, heard, data_bytes, repair_bytes, now),
            Input::Frame { peer, frame } => self.frame(peer, frame, now),
            Input::Dialled { dial, peer } => self.dialled(dial, peer, now),
            Input::DialFailed { dial, error } => self.dial_failed(dial, error, now),
            Input::KadQuery {
                query,
                peer,
                addresses,
                message,
            } => self.kad_asked(query, peer, addresses, message, now),
            Input::KadAnswer {
                peer,
                request,
                met_at,
                message,
            } => self.kad_answered(peer, request, &met_at, message, now),
            Input::KadFailed { peer } => self.dht_lost(peer, now),
            Input::Persisted { id, result } => {
                self.tell_store(kept::Input::Persisted { id, result }, now);
            }
            Input::Recorded { id, result } => self.log_written(id, result, now),
            Input::Loaded { id, records } => {
                self.tell_store(kept::Input::Loaded { id, records }, now);
            }
            Input::Damaged { records } => self.tell_store(kept::Input::Damaged { records }, now),
            Input::Command(command) => self.command(command, now),
        }
        self.settle(now);
    }

    /// Lets time pass; call it when [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.notice_stall(now);
        if !self.stopping {
            self.tick_links(now);
            self.tick_shared(now);
            self.tick_book(now);
            self.tick_joins(now);
            self.tick_topics(now);
            self.tick_logs(now);
            self.tick_rendezvous(now);
            self.tick_keeping(now);
            self.tick_handing(now);
            self.tick_dht(now);
            self.tick_store(now);
        }
        // Each swarm once: one whose timer doesn't move is called again by whoever calls this, after others had their turn.
        let due = self.timers.iter().take_while(|(at, _)| *at <= now.time);
        for topic in due.map(|(_, topic)| *topic).collect::<Vec<_>>() {
            if let Some(entry) = self.swarms.get_mut(&topic) {
                self.timers.remove(&(entry.timer, topic));
                entry.timer = Time::NEVER;
                entry.swarm.handle_timeout(now);
                self.drain(topic, now);
            }
        }
        self.settle(now);
    }

    /// Returns the next order; none when all are given.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        (self.wake_by != Time::NEVER).then_some(self.wake_by)
    }

    /// Carries on what a fact has made possible, and fixes when to wake.
    fn settle(&mut self, now: Now) {
        self.tell_links(now);
        self.pump_publishing(now);
        self.check_confirming(now);
        self.check_acks(now);
        self.bound_history(now);
        self.write_logs(now);
        let swarms = self.timers.first().map_or(Time::NEVER, |(at, _)| *at);
        self.wake_by = swarms
            .min(self.next_link_tick())
            .min(self.shared.poll_timeout())
            .min(self.renew_at)
            .min(self.persist_at)
            .min(self.next_join_tick())
            .min(self.next_topic_tick())
            .min(self.logs.poll_timeout())
            .min(self.next_ack_tick())
            .min(self.next_handing_tick())
            .min(self.asking.at)
            .min(self.keeping.poll_timeout())
            .min(self.structured.poll_timeout())
            .min(self.stored.poll_timeout());
        if self.stopping {
            self.wake_by = Time::NEVER;
        }
    }

    fn notice_stall(&mut self, now: Now) {
        // Whoever was called since can't have been stopped for longer.
        let due = self
            .wake_by
            .max(std::mem::replace(&mut self.called_at, now.time));
        let late = now.time.since(due);
        if late < STALL {
            return;
        }
        self.count("stalls");
        self.outputs
            .push_back(Output::Event(Event::Stalled { late }));
        for link in self.links.values_mut() {
            link.forgive(now);
        }
        for peer in self.links.keys().copied().collect::<Vec<_>>() {
            self.hurry_link(peer, now.time);
        }
        for entry in self.swarms.values_mut() {
            entry.swarm.forgive(now);
        }
    }

    fn frame(&mut self, peer: PeerId, frame: Frame, now: Now) {
        if !self.links.get(&peer).is_some_and(Link::is_alive) {
            return;
        }
        match frame {
            Frame::Hello { contact } => self.hello(peer, contact, now),
            Frame::Ping { nonce } => self.ping_came(peer, nonce),
            Frame::Pong { nonce } => self.pong_came(peer, nonce, now),
            Frame::Membership { topic, message } => self.membership_came(peer, topic, message, now),
            Frame::Broadcast { topic, message } => self.broadcast_came(peer, topic, message, now),
            Frame::Kad { request, message } => self.kad_came(peer, request, message, now),
            Frame::Store { request, message } => self.store_came(peer, request, *message, now),
            Frame::Topics { request, message } => self.topics_came(peer, request, *message, now),
            Frame::Stopping => self.peer_stops(peer),
            Frame::Unknown => self.count("unknown_frames"),
        }
    }

    /// Returns a duration between half and the whole of `of`.
    pub(super) fn jitter(&mut self, of: Duration) -> Duration {
        let micros = u64::try_from(of.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.random_range(micros / 2..=micros))
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.outputs.push_back(Output::Reply { request, reply });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Counts something under a name that [`Self::status`] shows.
    pub fn count(&mut self, name: &'static str) {
        *self.counters.entry(name).or_default() += 1;
    }

    /// Returns the node's id.
    pub const fn peer_id(&self) -> PeerId {
        self.me
    }

    /// Returns what is wrong with the state of any swarm, if anything: views, and whatever peers can fill, within bounds.
    pub fn check(&self) -> Result<(), String> {
        self.swarms.values().try_for_each(|entry| {
            let told = |what| format!("{}: {what}", entry.name);
            entry.swarm.check().map_err(told)
        })
    }

    /// Returns whether something is missing in a topic's swarm here that a neighbour has.
    pub fn is_repairing(&self, topic: &str) -> bool {
        self.entry_named(topic)
            .is_some_and(|entry| entry.swarm.lacks())
    }

    /// Returns the proven peers to be written to the address book, the one seen last first, at most [`crate::wire::book::BOOK_MAX`].
    ///
    /// Where the book has room, live peers of the routing table follow.
    pub fn address_book(&self) -> Vec<PeerContact> {
        let mut peers = self.book.newest_first();
        let unknown: Vec<PeerContact> = self
            .live_descriptors()
            .filter(|contact| !self.book.knows(peer_of(contact)))
            .cloned()
            .collect();
        peers.extend(unknown);
        peers.truncate(crate::wire::book::BOOK_MAX);
        peers
    }

    fn entry_named(&self, topic: &str) -> Option<&Entry> {
        self.swarms
            .values()
            .find(|entry| entry.name.as_str() == topic)
    }
}

/// Returns whose contact this is; spelled out because both the trait and the field are called so.
fn peer_of(contact: &PeerContact) -> PeerId {
    Contact::peer(contact)
}
