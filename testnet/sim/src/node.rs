//! A whole node, as a machine: `weft_core::Core` with what its shell does, and encoded frames. It subscribes to one topic.

mod arrivals;
mod disk;
mod keys;
mod outputs;
mod reader;
mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use weft_core::input::{Ack, Reach, Via};
use weft_core::wire::{self, Decoder, KnownBodies};
use weft_core::{
    Address, Command, Config, Core, DialError, DialId, Direction, DownReason, Input, Lane,
    RequestId, Roles, TopicName,
};
use weft_overlay::{Now, Time};

use crate::Engine;
use crate::machine::{
    Down, Fact, LinkCount, Machine, NodeId, OfTopic, Order, Place, Plan, Weighed, Weight,
};
use disk::DiskOrders;
pub use disk::{Disk, Disks};
pub use keys::Keys;
use reader::Reader;
use topics::Topics;

/// The topic that everybody subscribes to.
const TOPIC: &str = "sim";
/// The bytes of a message that tell it from all others: shorter ones aren't made.
const MARK_BYTES: u32 = 8;

/// An encoded frame.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    lane: Lane,
}

impl Weighed for Frame {
    /// All bytes of a bundle's frame count as headers until it is decoded ([`Order::Arrived`]).
    fn weigh(&self) -> Weight {
        let bytes = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        match self.lane {
            Lane::Control => Weight {
                control: bytes,
                ..Weight::default()
            },
            Lane::Data | Lane::Repair => Weight {
                header: bytes,
                ..Weight::default()
            },
        }
    }

    fn carried(&self, _each: &mut dyn FnMut(Place)) {}
}

/// One node.
#[derive(Debug)]
pub struct Member {
    me: NodeId,
    core: Core,
    keys: Arc<Keys>,
    known: Arc<Mutex<KnownBodies>>,
    links: BTreeMap<NodeId, Decoder>,
    dials: Vec<(DialId, NodeId)>,
    orders: VecDeque<Order<Frame>>,
    requests: u64,
    /// Marks of messages whose receipts have not come, by request.
    publishing: BTreeMap<u64, Vec<u64>>,
    messages: u32,
    topics: Topics,
    /// Peers whose lanes hold what was sent lately, and when that has been written.
    written_at: Time,
    unwritten: Vec<NodeId>,
    disks: Arc<Disks>,
    disk_orders: DiskOrders,
    /// What its user reads of the topic.
    reader: Reader,
    /// Deeds with the store that have not ended, by request.
    deeds: BTreeMap<u64, u32>,
}

fn topic() -> TopicName {
    TOPIC.parse().expect("a valid name")
}

fn address(node: NodeId) -> Address {
    let bytes = Bytes::copy_from_slice(&node.to_be_bytes());
    Address::new(bytes).expect("four bytes are few enough")
}

fn node_at(address: &Address) -> Option<NodeId> {
    Some(NodeId::from_be_bytes(address.as_bytes().try_into().ok()?))
}

fn mark_of(message: &Bytes) -> u64 {
    let mut mark = [0; 8];
    let len = message.len().min(8);
    mark[..len].copy_from_slice(&message[..len]);
    u64::from_be_bytes(mark)
}

impl Member {
    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn tell(&mut self, input: Input, now: Now) {
        self.core.handle(input, now);
    }

    fn publish(&mut self, messages: u32, bytes: u32, now: Now) {
        let request = self.request();
        let mut marks = Vec::new();
        let mut data = Vec::new();
        for _ in 0..messages {
            self.messages += 1;
            let mark = (u64::from(self.me) << 32) | u64::from(self.messages);
            let mut message = BytesMut::with_capacity(bytes.max(MARK_BYTES) as usize);
            message.put_u64(mark);
            message.resize(bytes.max(MARK_BYTES) as usize, 0);
            marks.push(mark);
            data.push(message.freeze().into());
        }
        self.publishing.insert(request.0, marks);
        let command = Command::Publish {
            request,
            topic: topic(),
            messages: data,
            via: Via::Both,
            ack: Ack::Sent,
        };
        self.tell(Input::Command(command), now);
    }

    fn link_state(&mut self, peer: NodeId, heard: bool, now: Now) {
        let state = Input::LinkState {
            peer: self.keys.peer(peer),
            heard,
            data_bytes: 0,
            repair_bytes: 0,
        };
        self.tell(state, now);
    }

    fn frame(&mut self, from: NodeId, frame: &Frame, now: Now) {
        let Some(decoder) = self.links.get_mut(&from) else {
            return;
        };
        let whole = wire::parse_prefix(&frame.bytes).ok().flatten();
        let decoded = whole.and_then(|(prefix, _)| decoder.decode(&frame.bytes[prefix..]).ok());
        let Some(decoded) = decoded else {
            let what = format!("n{from} sent what can't be decoded");
            return self.orders.push_back(Order::Violation(what));
        };
        self.note_arrival(&decoded, frame.bytes.len());
        self.link_state(from, true, now);
        let peer = self.keys.peer(from);
        let frame = decoded;
        self.tell(Input::Frame { peer, frame }, now);
    }

    fn view(&self, now: Time) -> Option<weft_core::views::SwarmView> {
        let unix = weft_overlay::UnixMicros(0);
        self.core.swarm_view(TOPIC, Now { time: now, unix })
    }
}

impl Machine for Member {
    type Frame = Frame;

    const HOLDS_LINKS: bool = true;

    fn build(plan: &Plan, node: NodeId, seed: u64, now: Now) -> Self {
        let keys = plan.keys.clone().expect("made with the plan");
        let disks = plan.disks.clone().expect("made with the plan");
        let (restored, topics) = disks.of(node).begin();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let config = Config {
            keypair: keys.keypair(node),
            network: Keys::NETWORK.to_owned(),
            join: (0..plan.vias)
                .filter(|via| *via != node)
                .map(address)
                .collect(),
            address_book: Vec::new(),
            epoch: now.unix.0 / 1_000,
            previous_run: None,
            kept_logs: Vec::new(),
            seed: bytes,
            roles: Roles {
                stores: true,
                ..Roles::SERVER
            },
            found: node == 0,
            store: weft_dht::store::Config::default(),
            restored,
            topics,
        };
        let mut member = Self {
            me: node,
            core: Core::new(config, now),
            keys,
            known: Arc::new(Mutex::new(KnownBodies::new(Keys::NETWORK))),
            links: BTreeMap::new(),
            dials: Vec::new(),
            orders: VecDeque::new(),
            requests: 0,
            publishing: BTreeMap::new(),
            messages: 0,
            topics: Topics::default(),
            written_at: Time::NEVER,
            unwritten: Vec::new(),
            disks,
            disk_orders: DiskOrders::default(),
            reader: Reader::new(node < plan.subscribers),
            deeds: BTreeMap::new(),
        };
        member.resume();
        member.tell(Input::Listening(vec![address(node)]), now);
        if member.reader.reads() {
            member.subscribe(Reach::Base, now);
        }
        member
    }

    fn begin(&mut self, _now: Now) {}

    fn handle(&mut self, fact: Fact<Frame>, now: Now) {
        match fact {
            Fact::Frame { from, frame } => self.frame(from, &frame, now),
            Fact::Up { peer, dialled } => {
                let id = self.keys.peer(peer);
                let decoder = Decoder::new(id, Arc::clone(&self.known));
                self.links.insert(peer, decoder);
                let up = Input::LinkUp {
                    peer: id,
                    direction: if dialled {
                        Direction::Outbound
                    } else {
                        Direction::Inbound
                    },
                    address: dialled.then(|| address(peer)),
                    transport: "virtual",
                };
                self.tell(up, now);
                for dial in self.dials_to(peer) {
                    self.tell(Input::Dialled { dial, peer: id }, now);
                }
            }
            Fact::Down { peer, why } => {
                self.links.remove(&peer);
                let reason = match why {
                    Down::Closed => DownReason::Closed,
                    Down::Broken => DownReason::Broken("the link broke".to_owned()),
                };
                let peer = self.keys.peer(peer);
                self.tell(Input::LinkDown { peer, reason }, now);
            }
            Fact::Unreachable { peer } => {
                for dial in self.dials_to(peer) {
                    let error = DialError::Unreachable("nobody answers".to_owned());
                    self.tell(Input::DialFailed { dial, error }, now);
                }
            }
            Fact::Subscribe { all } => {
                self.reader.ask(all);
                let reach = if all { Reach::All } else { Reach::Base };
                self.subscribe(reach, now);
            }
            Fact::Publish { messages, bytes } => self.publish(messages, bytes, now),
            Fact::SubscribeTo(topics) => self.subscribe_to(topics, now),
            Fact::PublishOn(topic) => self.publish_on(topic, now),
            Fact::Kv { deed, call } => {
                let request = self.request();
                self.deeds.insert(request.0, deed);
                let call = *call;
                self.tell(Input::Command(Command::Kv { request, call }), now);
            }
            // Joining, waking, contacts and round trips are the core's own business.
            Fact::Rtt { .. }
            | Fact::Join { .. }
            | Fact::Contacts(_)
            | Fact::Partner(_)
            | Fact::LookUp { .. }
            | Fact::Woken => {}
        }
        self.drain(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.written_at <= now.time {
            self.written_at = Time::NEVER;
            let mut unwritten = std::mem::take(&mut self.unwritten);
            unwritten.sort_unstable();
            unwritten.dedup();
            for peer in unwritten {
                self.link_state(peer, false, now);
            }
        }
        while let Some(order) = self.disk_orders.take_done(now.time) {
            let done = self.disks.of(self.me).carry_out(order);
            self.tell(done, now);
        }
        if self.core.poll_timeout().is_some_and(|at| at <= now.time) {
            self.core.handle_timeout(now);
        }
        self.drain(now);
    }

    fn poll_timeout(&self) -> Time {
        let core = self.core.poll_timeout().unwrap_or(Time::NEVER);
        core.min(self.written_at).min(self.disk_orders.next())
    }

    fn poll_order(&mut self, now: Now) -> Option<Order<Frame>> {
        if self.orders.is_empty() {
            self.drain(now);
        }
        self.orders.pop_front()
    }

    fn active(&self, into: &mut Vec<NodeId>) {
        let view = self.view(Time::ZERO);
        let peers = view.iter().flat_map(|view| &view.active);
        let mut peers: Vec<NodeId> = peers.filter_map(|a| self.keys.node(a.peer)).collect();
        peers.sort_unstable();
        into.extend(peers);
    }

    fn passive(&self, into: &mut Vec<NodeId>) {
        let view = self.view(Time::ZERO);
        let peers = view.iter().flat_map(|view| &view.passive);
        let mut peers: Vec<NodeId> = peers
            .filter_map(|(peer, _)| self.keys.node(*peer))
            .collect();
        peers.sort_unstable();
        into.extend(peers);
    }

    fn is_neighbour(&self, peer: NodeId) -> bool {
        let peer = self.keys.peer(peer);
        let view = self.view(Time::ZERO);
        view.is_some_and(|view| view.active.iter().any(|active| active.peer == peer))
    }

    fn check(&self) -> Result<(), String> {
        self.core.check()
    }

    fn links(&self) -> LinkCount {
        let peers = self.core.peers();
        LinkCount {
            all: peers.len(),
            shared: peers.iter().filter(|peer| !peer.swarms.is_empty()).count(),
        }
    }

    fn of_topic(&self, topic: u32) -> Option<OfTopic> {
        let now = Now {
            time: Time::ZERO,
            unix: weft_overlay::UnixMicros(0),
        };
        self.look_at(topic, now)
    }

    fn store(&self) -> Option<weft_dht::store::Counters> {
        Some(self.core.store().counters)
    }

    fn is_repairing(&self) -> bool {
        self.core.is_repairing(TOPIC)
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn fork(_engine: &Engine<Self>) -> Option<Engine<Self>> {
        None
    }
}
