//! A network of cores in virtual time: what a shell does with links, without sockets. One seed decides everything.
//!
//! Frames are encoded and decoded as on a real link. A link is in order and keeps a constant latency; a crash breaks a node's
//! links, a hang delays all that happens to it until it resumes.

mod events;
mod faults;
mod got;
mod outputs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_core::config::PreviousRun;
use weft_core::input::{Ack, Reach, Via};
use weft_core::log::Kept;
use weft_core::wire::{Decoder, KnownBodies};
use weft_core::{
    Address, Command, Config, Core, Event as CoreEvent, Input, Reply, RequestId, Roles, TopicName,
};
use weft_identity::{Keypair, PeerId};
use weft_overlay::{Now, Time, UnixMicros};

pub(crate) use events::Event;
pub(crate) use got::Got;

/// The wall clock at virtual time zero: 2026-01-01.
const UNIX_START: u64 = 1_767_225_600_000_000;

/// They serve, and keep nothing for others: the store's networks are those of the simulator.
pub(crate) const LOOKED_UP: Roles = Roles {
    stores: false,
    ..Roles::SERVER
};

#[derive(Debug)]
pub(crate) struct Node {
    pub core: Core,
    pub peer: PeerId,
    pub got: BTreeMap<TopicName, Vec<Got>>,
    pub replies: BTreeMap<u64, Reply>,
    pub events: Vec<CoreEvent>,
    pub epoch: u64,
    known: Arc<Mutex<KnownBodies>>,
    hung_until: Option<Time>,
    wake_at: Time,
}

/// How the nodes of a network differ.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Each one's part in the structured layer.
    pub roles: fn(usize) -> Roles,
    /// Whose address each one gives out as its own.
    pub names: fn(usize) -> usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            roles: |_| LOOKED_UP,
            names: |node| node,
        }
    }
}

#[derive(Debug)]
struct LinkEnd {
    ends: [usize; 2],
    decoders: [Decoder; 2],
    /// Which ends have been told that it is down.
    down: [bool; 2],
}

pub(crate) struct Net {
    pub nodes: Vec<Option<Node>>,
    peers: Vec<PeerId>,
    pub time: Time,
    pub frames: u64,
    /// Of them those of the structured layer.
    pub kad_frames: u64,
    /// Bundles that came to keepers by hand, and questions whether they have some.
    pub hands: u64,
    pub confirms: u64,
    setup: Setup,
    seed: u64,
    rng: ChaCha8Rng,
    queue: BTreeMap<(Time, u64), Event>,
    order: u64,
    links: BTreeMap<u64, LinkEnd>,
    next_link: u64,
    next_request: u64,
    cut: BTreeSet<(usize, usize)>,
    /// What each node's disk has of topics; what isn't synced when a node crashes never will be.
    pub disks: Vec<Kept>,
    /// Topics whose logs nodes keep from their start on.
    pub kept_logs: Vec<TopicName>,
    /// Whether a node's disk takes nothing.
    pub full: BTreeSet<usize>,
    /// The last place that a node has given out in a topic's log of a life.
    pub(super) places: BTreeMap<(usize, TopicName), (u64, u64)>,
    /// Bytes that lie in a node's lane for data to a peer that takes none of them.
    pub stuck: BTreeMap<(usize, PeerId), usize>,
}

fn address(index: usize) -> Address {
    Address::new(Bytes::copy_from_slice(&(index as u32).to_be_bytes())).unwrap()
}

fn keypair(seed: u64, node: usize) -> Keypair {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    Keypair::from_seed(&bytes)
}

fn index(address: &Address) -> usize {
    u32::from_be_bytes(address.as_bytes().try_into().unwrap()) as usize
}

impl Net {
    /// Starts `count` nodes at once; each joins through the first three.
    pub(crate) fn start(count: usize, seed: u64) -> Self {
        Self::start_with(count, seed, Setup::default())
    }

    /// The same, where not all nodes are alike.
    pub(crate) fn start_with(count: usize, seed: u64, setup: Setup) -> Self {
        println!("seed {seed}");
        let mut net = Self {
            nodes: (0..count).map(|_| None).collect(),
            peers: (0..count)
                .map(|node| keypair(seed, node).peer_id())
                .collect(),
            time: Time::from_micros(1_000_000),
            frames: 0,
            kad_frames: 0,
            hands: 0,
            confirms: 0,
            setup,
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            order: 0,
            links: BTreeMap::new(),
            next_link: 0,
            next_request: 0,
            cut: BTreeSet::new(),
            disks: vec![Kept::default(); count],
            kept_logs: Vec::new(),
            full: BTreeSet::new(),
            places: BTreeMap::new(),
            stuck: BTreeMap::new(),
        };
        for node in 0..count {
            net.boot(node, None);
        }
        net
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            time: self.time,
            unix: UnixMicros(UNIX_START + self.time.as_micros()),
        }
    }

    fn boot(&mut self, node: usize, previous_run: Option<PreviousRun>) {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let now = self.now();
        let config = Config {
            network: "test".to_owned(),
            join: (0..3.min(self.nodes.len()))
                .filter(|at| *at != node)
                .map(address)
                .collect(),
            address_book: Vec::new(),
            epoch: now.unix.0 / 1_000,
            previous_run,
            topics: self.disks[node].restore(),
            kept_logs: self.kept_logs.clone(),
            seed,
            roles: (self.setup.roles)(node),
            found: node == 0,
            store: weft_dht::store::Config::default(),
            restored: weft_dht::store::Restored::default(),
            keypair: keypair(self.seed, node),
        };
        let core = Core::new(config, now);
        self.nodes[node] = Some(Node {
            peer: core.peer_id(),
            core,
            got: BTreeMap::new(),
            replies: BTreeMap::new(),
            events: Vec::new(),
            epoch: now.unix.0 / 1_000,
            known: Arc::new(Mutex::new(KnownBodies::new("test"))),
            hung_until: None,
            wake_at: Time::NEVER,
        });
        self.take_restored(node);
        let named = address((self.setup.names)(node));
        self.tell(node, Input::Listening(vec![named]));
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("the node is up")
    }

    pub(crate) fn live(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_some())
            .collect()
    }

    /// Tells a core something and carries out its orders.
    pub(crate) fn tell(&mut self, node: usize, input: Input) {
        let now = self.now();
        if let Some(node) = self.nodes[node].as_mut() {
            node.core.handle(input, now);
        }
        self.carry_out(node);
    }

    pub(crate) fn command(
        &mut self,
        node: usize,
        command: impl FnOnce(RequestId) -> Command,
    ) -> u64 {
        self.next_request += 1;
        let request = self.next_request;
        self.tell(node, Input::Command(command(RequestId(request))));
        request
    }

    pub(crate) fn take_reply(&mut self, node: usize, request: u64) -> Option<Reply> {
        let node = self.nodes[node].as_mut()?;
        node.replies.remove(&request)
    }

    pub(crate) fn subscribe(&mut self, node: usize, topic: &str) -> u64 {
        self.subscribe_from(node, topic, Reach::Base)
    }

    pub(crate) fn subscribe_from(&mut self, node: usize, topic: &str, reach: Reach) -> u64 {
        let topic: TopicName = topic.parse().unwrap();
        self.command(node, |request| Command::Subscribe {
            request,
            topic,
            reach,
        })
    }

    pub(crate) fn keep_log(&mut self, node: usize, topic: &str) -> u64 {
        let topic: TopicName = topic.parse().unwrap();
        self.command(node, |request| Command::KeepLog { request, topic })
    }

    pub(crate) fn publish(&mut self, node: usize, topic: &str, messages: Vec<Bytes>) -> u64 {
        self.publish_for(node, topic, messages, (Via::Both, Ack::Sent))
    }

    pub(crate) fn publish_for(
        &mut self,
        node: usize,
        topic: &str,
        messages: Vec<Bytes>,
        (via, ack): (Via, Ack),
    ) -> u64 {
        let topic: TopicName = topic.parse().unwrap();
        self.command(node, |request| Command::Publish {
            request,
            topic,
            messages: messages.into_iter().map(Into::into).collect(),
            via,
            ack,
        })
    }

    /// Lets virtual time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.time + duration;
        while let Some((&(at, order), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            self.time = self.time.max(at);
            let event = self.queue.remove(&(at, order)).unwrap();
            self.happen(event);
        }
        self.time = until;
    }

    /// Lets time pass until a condition holds; fails after `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let start = self.time;
        while !holds(self) {
            assert!(
                self.time.since(start) < limit,
                "seed {}: not after {limit:?}: {what}",
                self.seed
            );
            self.run(Duration::from_millis(5));
        }
        self.time.since(start)
    }

    /// One way, constant for a pair: 0.2 to 2 ms.
    fn latency(&self, a: usize, b: usize) -> Duration {
        let mut rng =
            ChaCha8Rng::seed_from_u64(self.seed ^ ((a.min(b) as u64) << 32 | a.max(b) as u64));
        Duration::from_micros(rng.random_range(200..2_000))
    }

    pub(super) fn at(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.queue.insert((self.time + delay, self.order), event);
    }

    pub(crate) fn peer_at(&self, node: usize) -> PeerId {
        self.peers[node]
    }

    fn other_end(&self, link: u64, node: usize) -> Option<PeerId> {
        let ends = self.links.get(&link)?.ends;
        let other = ends.into_iter().find(|end| *end != node)?;
        Some(self.peer_at(other))
    }

    fn link_between(&self, a: usize, b: usize) -> Option<u64> {
        self.links
            .iter()
            .find(|(_, link)| {
                link.down == [false; 2] && link.ends.contains(&a) && link.ends.contains(&b)
            })
            .map(|(link, _)| *link)
    }

    fn index_of(&self, peer: PeerId) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.peers[*node] == peer)
    }

    /// Whether the active views of a swarm are symmetric and connect all live nodes that are members of it.
    pub(crate) fn is_whole(&self, topic: &str) -> bool {
        let views: BTreeMap<usize, BTreeSet<usize>> = self
            .live()
            .into_iter()
            .filter_map(|node| {
                let view = self.node(node).core.swarm_view(topic, self.now())?;
                let active = view
                    .active
                    .iter()
                    .filter_map(|active| self.index_of(active.peer));
                Some((node, active.collect()))
            })
            .collect();
        let symmetric = views.iter().all(|(node, active)| {
            active
                .iter()
                .all(|peer| views.get(peer).is_some_and(|back| back.contains(node)))
        });
        let mut reached = BTreeSet::new();
        let mut open: Vec<usize> = views.keys().next().copied().into_iter().collect();
        while let Some(node) = open.pop() {
            if reached.insert(node) {
                open.extend(views[&node].iter().copied());
            }
        }
        symmetric && reached.len() == views.len()
    }
}
