//! A network of nodes in virtual time: real joins, latencies, loss, crashes, silence and lies, with checkers.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dht::{Call, CallId, Config, Dht, Input, Outcome, Output};
use crate::lookup::Stats;
use crate::message::{Answer, Message, Query, RequestId};
use crate::providers::PROVIDERS_TOLD_MAX;
use crate::table::{K, SPARES_PER_BUCKET_MAX};
use crate::testing::{TestContact, TestPeer, UNIX_START, contact};
use crate::{Contact, Key, Now, Peer, Point, Time, UnixMicros};

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    Honest,
    /// Takes what it is sent and never says a word: the sender isn't told that it is gone.
    Silent,
    /// Answers every query about peers with the 20 liars closest to what was asked, and never names anybody else.
    Liar,
}

struct Node {
    dht: Dht<TestContact>,
    contact: TestContact,
    conduct: Conduct,
    wake: Time,
}

#[derive(Debug)]
enum What {
    Message(u32, RequestId, Message<TestContact>),
    Lost(u32),
    Wake,
    Join(Vec<u32>),
}

#[derive(Debug)]
struct Event {
    at: Time,
    turn: u64,
    node: u32,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.turn) == (other.at, other.turn)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.turn).cmp(&(other.at, other.turn))
    }
}

/// A reply to a call.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) outcome: Outcome<TestContact>,
    pub(super) stats: Stats,
    pub(super) took: Duration,
}

pub(super) struct Network {
    pub(super) config: Config,
    rng: ChaCha8Rng,
    seed: u64,
    now: Time,
    nodes: Vec<Option<Node>>,
    points: Vec<Point>,
    queue: BinaryHeap<Reverse<Event>>,
    turn: u64,
    /// The share of messages that is lost.
    pub(super) loss: f64,
    pub(super) sent: u64,
    calls: BTreeMap<CallId, Time>,
    replies: BTreeMap<CallId, Reply>,
    /// By point.
    liars: BTreeMap<Point, u32>,
}

impl Network {
    pub(super) fn new(seed: u64, config: Config) -> Self {
        Self {
            config,
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            now: Time::ZERO,
            nodes: Vec::new(),
            points: Vec::new(),
            queue: BinaryHeap::new(),
            turn: 0,
            loss: 0.0,
            sent: 0,
            calls: BTreeMap::new(),
            replies: BTreeMap::new(),
            liars: BTreeMap::new(),
        }
    }

    /// Makes a network of `n` honest nodes that joined one after the other, each through the first three.
    pub(super) fn grown(seed: u64, n: u32, config: Config) -> Self {
        let mut network = Self::new(seed, config);
        let each = Duration::from_millis(20);
        network.grow(n, each);
        network.run(each * n);
        network.settle(Duration::from_secs(120));
        network
    }

    pub(super) fn grow(&mut self, n: u32, each: Duration) {
        for peer in 0..n {
            let serves = contact(peer);
            self.add(serves);
            let vias = (0..3).filter(|&via| via != peer).collect();
            self.at(self.now + each * peer, peer, What::Join(vias));
        }
    }

    /// Makes a network of `n` nodes whose buckets hold 20 random peers each, or all that there are: no join gives
    /// better.
    pub(super) fn ideal(seed: u64, n: u32, config: Config) -> Self {
        let mut network = Self::new(seed, config);
        for peer in 0..n {
            network.add(contact(peer));
        }
        let now = network.moment();
        for peer in 0..n {
            let me = network.points[peer as usize];
            let mut room = [K; 64];
            let first = network.draw(n);
            // Points are hashes, so that the order of numbers is as good as any other.
            for other in (first..n).chain(0..first).filter(|&other| other != peer) {
                let prefix = me.shared_prefix(network.points[other as usize]) as usize;
                if room[prefix] > 0 {
                    room[prefix] -= 1;
                    network.dht(peer).table.proven(contact(other), now);
                }
            }
        }
        network
    }

    /// Adds a node that knows nobody.
    pub(super) fn add(&mut self, contact: TestContact) -> u32 {
        let id = u32::try_from(self.nodes.len()).unwrap();
        assert_eq!(id, contact.peer, "nodes are numbered");
        let rng = ChaCha8Rng::seed_from_u64(self.rng.random());
        let dht = Dht::new(contact.clone(), self.config.clone(), rng, self.moment());
        self.points.push(contact.peer().point());
        self.nodes.push(Some(Node {
            dht,
            contact,
            conduct: Conduct::Honest,
            wake: Time::NEVER,
        }));
        id
    }

    pub(super) fn join(&mut self, node: u32, vias: &[u32]) {
        self.at(self.now, node, What::Join(vias.to_vec()));
    }

    /// Ends a node; whoever sends to it is told that it can't be reached.
    pub(super) fn crash(&mut self, node: u32) {
        self.nodes[node as usize] = None;
    }

    pub(super) fn turn_into(&mut self, node: u32, conduct: Conduct) {
        if let Some(node) = self.nodes[node as usize].as_mut() {
            node.conduct = conduct;
        }
        if conduct == Conduct::Liar {
            self.liars.insert(self.points[node as usize], node);
        }
    }

    /// Draws a number below `below` that follows from the seed.
    pub(super) fn draw(&mut self, below: u32) -> u32 {
        self.rng.random_range(0..below)
    }

    pub(super) fn set_paths(&mut self, paths: usize) {
        for node in self.nodes.iter_mut().flatten() {
            node.dht.config.paths = paths;
        }
    }

    pub(super) fn random_key(&mut self) -> Key {
        Key::from_array(self.rng.random())
    }

    pub(super) fn moment(&self) -> Now {
        Now {
            time: self.now,
            unix: UnixMicros(UNIX_START + self.now.as_micros()),
        }
    }

    /// Turns so large a share of the nodes into liars, drawn at random; the first three, whom all join through, stay
    /// honest.
    pub(super) fn turn_liars(&mut self, share: f64) {
        for node in 3..self.nodes.len() as u32 {
            if self.rng.random_bool(share) {
                self.turn_into(node, Conduct::Liar);
            }
        }
    }

    pub(super) fn dht(&mut self, node: u32) -> &mut Dht<TestContact> {
        let node = self.nodes[node as usize].as_mut();
        &mut node.expect("it is there").dht
    }

    /// Returns the nodes that are up, honest and serving.
    pub(super) fn honest(&self) -> Vec<u32> {
        let honest = self.nodes.iter().flatten();
        honest
            .filter(|node| node.conduct == Conduct::Honest && node.contact.serves)
            .map(|node| node.contact.peer)
            .collect()
    }

    pub(super) fn call(&mut self, node: u32, call: Call<TestPeer>) -> CallId {
        let id = CallId(self.calls.len() as u64);
        self.calls.insert(id, self.now);
        self.input(node, Input::Call { id, call });
        id
    }

    /// Calls and runs until the reply is there.
    pub(super) fn ask(&mut self, node: u32, call: Call<TestPeer>) -> Reply {
        let id = self.call(node, call);
        self.reply(id)
    }

    /// Runs until a call's reply is there.
    pub(super) fn reply(&mut self, id: CallId) -> Reply {
        let end = self.now + Duration::from_secs(60);
        while !self.replies.contains_key(&id) {
            assert!(self.now < end, "seed {}: no reply to {id:?}", self.seed);
            self.run(Duration::from_millis(10));
        }
        self.replies.remove(&id).unwrap()
    }

    pub(super) fn input(&mut self, node: u32, input: Input<TestContact>) {
        let now = self.moment();
        if let Some(it) = self.nodes[node as usize].as_mut() {
            it.dht.handle(input, now);
            self.drain(node);
        }
    }

    fn at(&mut self, at: Time, node: u32, what: What) {
        let turn = self.turn;
        self.turn += 1;
        self.queue.push(Reverse(Event {
            at,
            turn,
            node,
            what,
        }));
    }

    /// Returns how long a message takes: 5 to 60 ms by the pair of nodes, and up to 5 ms more.
    fn latency(&mut self, from: u32, to: u32) -> Duration {
        let pair = (u64::from(from.min(to)) << 32 | u64::from(from.max(to))) ^ self.seed;
        let mixed = pair.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        let micros = 5_000 + mixed % 55_000 + self.rng.random_range(0..5_000);
        Duration::from_micros(micros)
    }

    fn drain(&mut self, node: u32) {
        loop {
            let it = self.nodes[node as usize].as_mut().unwrap();
            let Some(output) = it.dht.poll_output() else {
                break;
            };
            match output {
                Output::Send {
                    to,
                    request,
                    message,
                    ..
                } => self.send(node, to.0, request, message),
                Output::Reply { id, outcome, stats } => {
                    let took = self.now.since(self.calls[&id]);
                    self.replies.insert(
                        id,
                        Reply {
                            outcome,
                            stats,
                            took,
                        },
                    );
                }
                Output::Misbehaviour { peer, what } => {
                    panic!("seed {}: {peer:?} accused of {what}", self.seed);
                }
            }
        }
        let now = self.now;
        let it = self.nodes[node as usize].as_mut().unwrap();
        let wake = it.dht.poll_timeout();
        if wake < it.wake || it.wake <= now {
            it.wake = wake.max(now);
            let wake = it.wake;
            self.at(wake, node, What::Wake);
        }
    }

    fn send(&mut self, from: u32, to: u32, request: RequestId, message: Message<TestContact>) {
        assert_ne!(from, to, "a message to oneself");
        self.sent += 1;
        let latency = self.latency(from, to);
        if self.nodes[to as usize].is_none() {
            self.at(self.now + latency, from, What::Lost(to));
        } else if self.loss == 0.0 || !self.rng.random_bool(self.loss) {
            self.at(
                self.now + latency,
                to,
                What::Message(from, request, message),
            );
        }
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse(event)) = self.queue.peek() {
            if event.at > end {
                break;
            }
            let Some(Reverse(event)) = self.queue.pop() else {
                break;
            };
            self.now = event.at;
            if self.nodes[event.node as usize].is_some() {
                self.step(event.node, event.what);
            }
        }
        self.now = end;
    }

    /// Runs until every honest node has filled its table.
    pub(super) fn settle(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.run(Duration::from_millis(500));
            let now = self.moment();
            let busy = self
                .nodes
                .iter()
                .flatten()
                .filter(|node| node.conduct == Conduct::Honest && !node.dht.is_settled(now))
                .count();
            // A few are always refreshing a bucket.
            if busy * 10 <= self.nodes.len() {
                return;
            }
            assert!(self.now < end, "seed {}: {busy} are unsettled", self.seed);
        }
    }

    fn step(&mut self, node: u32, what: What) {
        match what {
            What::Message(from, request, message) => self.deliver(from, node, request, message),
            What::Lost(peer) => {
                let peer = TestPeer(peer);
                self.input(node, Input::PeerLost { peer });
            }
            What::Join(vias) => {
                let contacts = vias.into_iter().map(contact).collect();
                self.input(node, Input::Learned { contacts });
            }
            What::Wake => {
                let now = self.moment();
                let it = self.nodes[node as usize].as_mut().unwrap();
                if it.wake == now.time {
                    it.dht.handle_timeout(now);
                    self.drain(node);
                }
            }
        }
    }

    fn deliver(&mut self, from: u32, to: u32, request: RequestId, message: Message<TestContact>) {
        let conduct = self.nodes[to as usize].as_ref().unwrap().conduct;
        match (conduct, &message) {
            (Conduct::Silent, _) => return,
            (Conduct::Liar, Message::Query(query)) => {
                if let Some(answer) = self.lie(from, query) {
                    self.send(to, from, request, Message::Answer(answer));
                    return;
                }
            }
            (Conduct::Liar | Conduct::Honest, _) => {}
        }
        let contact = self.nodes[from as usize]
            .as_ref()
            .map(|node| node.contact.clone());
        self.input(
            to,
            Input::Received {
                from: TestPeer(from),
                contact,
                request,
                message,
            },
        );
    }

    fn lie(&self, asking: u32, query: &Query<TestContact>) -> Option<Answer<TestContact>> {
        match query {
            Query::Ping | Query::AddProvider { .. } => None,
            Query::FindNode { key } => Some(Answer::Closer {
                contacts: self.closest_liars(key.point(), asking),
            }),
            Query::GetProviders { key } => Some(Answer::Providers {
                providers: Vec::new(),
                closer: self.closest_liars(key.point(), asking),
            }),
        }
    }

    fn closest_liars(&self, target: Point, asking: u32) -> Vec<TestContact> {
        // The smallest part of the space around the target that holds more than twenty liars holds the twenty closest.
        let before = self.liars.range(..target).rev().take(K + 1);
        let after = self.liars.range(target..).take(K + 1);
        let mut shared: Vec<u32> = before
            .chain(after)
            .map(|(point, _)| point.shared_prefix(target))
            .collect();
        shared.sort_unstable_by_key(|&bits| Reverse(bits));
        let bits = shared.get(K).copied().unwrap_or(0);
        let before = self.liars.range(..target).rev();
        let after = self.liars.range(target..);
        let near = |(point, _): &(&Point, &u32)| point.shared_prefix(target) >= bits;
        let near = before.take_while(near).chain(after.take_while(near));
        let liars = near.map(|(_, &liar)| liar).filter(|&liar| liar != asking);
        let closest = self.closest_of(liars, target, K);
        closest.into_iter().map(contact).collect()
    }

    /// Returns the `n` closest of some nodes by looking at each.
    pub(super) fn closest_of(
        &self,
        nodes: impl Iterator<Item = u32>,
        target: Point,
        n: usize,
    ) -> Vec<u32> {
        let mut all: Vec<_> = nodes
            .map(|node| (self.points[node as usize] ^ target, node))
            .collect();
        if all.len() > n {
            all.select_nth_unstable(n);
            all.truncate(n);
        }
        all.sort_unstable();
        all.into_iter().map(|(_, node)| node).collect()
    }

    /// Returns how many peers and spares a node knows on average.
    pub(super) fn mean_table(&self) -> (f64, f64) {
        let tables = self.nodes.iter().flatten().map(|node| node.dht.table());
        let (peers, spares) = tables.fold((0, 0), |(peers, spares), table| {
            (peers + table.len(), spares + table.spares().count())
        });
        let nodes = self.nodes.iter().flatten().count() as f64;
        (peers as f64 / nodes, spares as f64 / nodes)
    }

    /// Asserts what must hold of every node at any time.
    pub(super) fn check(&self) {
        for node in self.nodes.iter().flatten() {
            let me = node.contact.peer();
            let table = node.dht.table();
            for prefix in 0..64 {
                assert!(table.bucket(prefix).len() <= K, "bucket {prefix} of {me:?}");
            }
            let spares = table.spares().count();
            assert!(spares <= 64 * SPARES_PER_BUCKET_MAX, "{spares} spares");
            for entry in table.entries() {
                assert_ne!(entry.peer(), me, "itself in its table");
                assert!(entry.contact().serves, "a client in a table");
            }
        }
        for reply in self.replies.values() {
            let (Outcome::Closest { contacts: named }
            | Outcome::Providers {
                providers: named, ..
            }) = &reply.outcome
            else {
                continue;
            };
            assert!(named.len() <= K.max(PROVIDERS_TOLD_MAX));
        }
    }
}

/// Returns the numbers of contacts.
pub(super) fn peers(contacts: &[TestContact]) -> Vec<u32> {
    contacts.iter().map(|contact| contact.peer).collect()
}
