//! Networks of stores in virtual time: messages are late, lost, doubled and out of order, nodes crash and lose what was
//! not synced, disks fill up and rot.

mod engine;
mod look;
mod node;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::kv::{
    Content, Dot, Header, Invalid, KvKey, Record, RecordId, Seq, tombstone_expires_at,
};
use crate::store::messages::{Answer, Query};
use crate::store::{Call, CallId, Config, Draft, Input, Message, OrderId, Outcome, Store, Written};
use crate::testing::{OWNERS, TestContact, TestPeer, UNIX_START, contact};
use crate::{Now, Peer, RequestId, Time, UnixMicros};

pub(super) use node::{Disk, Node};

pub(super) type Id = RecordId<TestPeer>;

/// Somebody who is no node of the network.
pub(super) const STRANGER: u32 = 1_000_000;

pub(super) fn key(text: &str) -> KvKey {
    KvKey::new(text).unwrap()
}

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

enum What {
    Deliver {
        to: u32,
        run: u64,
        input: Box<Input<TestContact>>,
    },
    Persisted {
        node: u32,
        run: u64,
        id: OrderId,
    },
    View {
        node: u32,
    },
}

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) delay: (Duration, Duration),
    pub(super) loss: f64,
    pub(super) doubled: f64,
    /// How long a disk takes to sync.
    pub(super) sync: (Duration, Duration),
    /// How soon others see that a node has come or gone.
    pub(super) seen_after: (Duration, Duration),
}

pub(super) const FAIR: Weather = Weather {
    delay: (Duration::from_millis(1), Duration::from_millis(5)),
    loss: 0.0,
    doubled: 0.0,
    sync: (Duration::from_millis(1), Duration::from_millis(4)),
    seen_after: (Duration::from_millis(100), Duration::from_secs(2)),
};

pub(super) const STORM: Weather = Weather {
    delay: (Duration::from_millis(1), Duration::from_millis(250)),
    loss: 0.03,
    doubled: 0.03,
    sync: (Duration::from_millis(1), Duration::from_millis(60)),
    seen_after: (Duration::from_millis(50), Duration::from_secs(3)),
};

/// A network.
pub(super) struct Network {
    pub(super) rng: ChaCha8Rng,
    pub(super) time: Time,
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) weather: Weather,
    pub(super) bytes: u64,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    what: BTreeMap<u64, What>,
    next: u64,
    calls: u64,
    pub(super) outcomes: BTreeMap<CallId, (Time, Outcome<TestPeer>)>,
    /// What strangers were answered.
    answers: Vec<(RequestId, Message<TestContact>)>,
    /// Every record that was signed.
    pub(super) signed: BTreeMap<Id, Record<TestPeer>>,
    /// Which call a record was signed for.
    pub(super) signed_for: BTreeMap<CallId, Id>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            time: Time::ZERO,
            nodes: BTreeMap::new(),
            weather: FAIR,
            bytes: 0,
            queue: BinaryHeap::new(),
            what: BTreeMap::new(),
            next: 0,
            calls: 0,
            outcomes: BTreeMap::new(),
            answers: Vec::new(),
            signed: BTreeMap::new(),
            signed_for: BTreeMap::new(),
        }
    }

    /// Starts nodes that can own keys.
    pub(super) fn of_owners(seed: u64, nodes: u32) -> Self {
        let mut network = Self::new(seed);
        for node in 0..nodes {
            let founder = node == 0;
            let config = Config {
                founder,
                ..Config::default()
            };
            network.join(OWNERS + node, config);
        }
        network.settle(60 * SECOND);
        network
    }

    /// Starts so many nodes, of which the first founds the network, and waits until all are settled.
    pub(super) fn of(seed: u64, nodes: u32) -> Self {
        Self::with(seed, nodes, &Config::default())
    }

    pub(super) fn with(seed: u64, nodes: u32, config: &Config) -> Self {
        let mut network = Self::new(seed);
        for node in 0..nodes {
            let founder = node == 0;
            network.join(
                node,
                Config {
                    founder,
                    ..config.clone()
                },
            );
        }
        network.settle(60 * SECOND);
        // They all have joined at once, and each has to hear of all others.
        network.run_for(5 * SECOND);
        network
    }

    /// Lets a new node join.
    pub(super) fn join(&mut self, node: u32, config: Config) {
        let new = Node {
            store: None,
            disk: Disk::default(),
            config,
            writing: None,
            runs: 0,
            apart: 0,
            ahead: 0,
            side: 0,
            events: Vec::new(),
            unsettled: Vec::new(),
            away: Vec::new(),
            leaving: false,
            left: None,
        };
        self.nodes.insert(node, new);
        self.start(node);
    }

    /// Starts a node with what its disk holds.
    pub(super) fn start(&mut self, id: u32) {
        let seed = self.rng.random();
        let now = self.now(id);
        let time = self.time;
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.store.is_none());
        if let Some(away) = node.away.last_mut() {
            away.1 = time;
        }
        node.runs += 1;
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let restored = node.disk.restore(1 + node.runs);
        let store = Store::new(contact(id), node.config.clone(), rng, now, restored);
        node.store = Some(store);
        (node.leaving, node.left) = (false, None);
        node.changes(time);
        self.drain(id);
        self.plan_views();
    }

    /// Kills a node: what was being written may be on its disk or not.
    pub(super) fn crash(&mut self, id: u32) {
        let survives = self.rng.random_bool(0.5);
        let time = self.time;
        let node = self.nodes.get_mut(&id).unwrap();
        node.store = None;
        node.away.push((time, Time::NEVER));
        if let Some((_, ops)) = node.writing.take()
            && survives
            && node.disk.fails.is_none()
        {
            for op in ops {
                node.disk.apply(op);
            }
        }
        node.changes(time);
        self.plan_views();
    }

    /// Divides the network: those named from the others.
    pub(super) fn split(&mut self, apart: &[u32]) {
        for (id, node) in &mut self.nodes {
            node.side = u8::from(apart.contains(id));
        }
        self.plan_views();
    }

    pub(super) fn heal(&mut self) {
        self.split(&[]);
    }

    pub(super) fn is_up(&self, id: u32) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.store.is_some())
    }

    pub(super) fn up(&self) -> Vec<u32> {
        let up = self.nodes.iter().filter(|(_, node)| node.store.is_some());
        up.map(|(&id, _)| id).collect()
    }

    pub(super) fn any_up(&mut self) -> Option<u32> {
        self.up().into_iter().choose(&mut self.rng)
    }

    pub(super) fn store(&self, id: u32) -> &Store<TestContact> {
        self.nodes[&id].store.as_ref().unwrap()
    }

    fn reach(&self, a: u32, b: u32) -> bool {
        self.is_up(b) && self.nodes[&a].side == self.nodes[&b].side
    }

    pub(super) fn now(&self, id: u32) -> Now {
        let ahead = self.nodes.get(&id).map_or(0, |node| node.ahead);
        let unix = UNIX_START + self.time.as_micros();
        Now {
            time: self.time,
            unix: UnixMicros(unix.saturating_add_signed(ahead)),
        }
    }

    fn between(&mut self, (from, to): (Duration, Duration)) -> Duration {
        let micros = from.as_micros() as u64..=to.as_micros() as u64;
        Duration::from_micros(self.rng.random_range(micros))
    }

    fn plan(&mut self, after: Duration, what: What) {
        self.next += 1;
        self.queue.push(Reverse((self.time + after, self.next)));
        self.what.insert(self.next, what);
    }

    fn plan_views(&mut self) {
        for node in self.up() {
            let after = self.between(self.weather.seen_after);
            self.plan(after, What::View { node });
        }
    }

    /// Whom a node would have in its table.
    fn view_of(&self, id: u32) -> Vec<TestContact> {
        let own = TestPeer(id).point();
        let others = self.up().into_iter().filter(|&other| other != id);
        let mut near: Vec<u32> = others
            .filter(|&other| self.reach(id, other) && self.nodes[&other].config.stores)
            .collect();
        near.sort_by_key(|&other| TestPeer(other).point() ^ own);
        near.into_iter().take(20).map(contact).collect()
    }

    /// Makes a record as an earlier run than all of a node's store would have made it.
    pub(super) fn sign_apart(
        &mut self,
        id: u32,
        draft: Draft<TestPeer>,
    ) -> Result<Record<TestPeer>, Invalid> {
        let node = self.nodes.get_mut(&id).unwrap();
        node.apart += 1;
        let seq = Seq {
            epoch: 1,
            counter: node.apart,
        };
        self.sign(id, seq, draft)
    }

    /// Makes a record as the core does.
    fn sign(&self, id: u32, seq: Seq, draft: Draft<TestPeer>) -> Result<Record<TestPeer>, Invalid> {
        let written_at = self.now(id).unix;
        let value = match draft.content {
            Written::Value(value) => Some(value),
            Written::Nothing => None,
        };
        let expires_at = match &value {
            Some(_) => draft.ttl.map(|ttl| written_at + ttl),
            None => Some(tombstone_expires_at(draft.covered_ends_at, written_at)),
        };
        let content = match &value {
            Some(value) => Content::Value {
                bytes: u32::try_from(value.len()).unwrap(),
            },
            None => Content::Tombstone,
        };
        let value = value.unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(draft.key.as_str());
        hash.update(id.to_be_bytes());
        hash.update(seq.epoch.to_be_bytes());
        hash.update(seq.counter.to_be_bytes());
        hash.update(&value);
        let record = Record {
            header: Header {
                key: draft.key,
                dot: Dot {
                    writer: TestPeer(id),
                    seq,
                },
                prev: draft.prev,
                context: draft.context,
                content,
                written_at,
                expires_at,
                copies: draft.copies,
                hash: hash.finalize().into(),
            },
            signed: Bytes::from([&[0; 200], &value[..]].concat()),
            value,
        };
        record.header.check().map(|()| record)
    }

    /// Asks a node for something.
    pub(super) fn call(&mut self, node: u32, call: Call<TestPeer>) -> CallId {
        if call == Call::Leave {
            let time = self.time;
            let node = self.nodes.get_mut(&node).unwrap();
            node.changes(time);
            node.leaving = true;
        }
        self.calls += 1;
        let id = CallId(self.calls);
        self.handle(node, Input::Call { id, call });
        id
    }

    /// Asks a node as a stranger does, and waits for the answer.
    pub(super) fn query(&mut self, to: u32, query: Query<TestContact>) -> Answer<TestContact> {
        self.calls += 1;
        let request = RequestId(self.calls);
        let input = Input::Received {
            from: TestPeer(STRANGER),
            request,
            message: Message::Query(query),
        };
        self.handle(to, input);
        let until = self.time + 5 * SECOND;
        loop {
            let answer = self.answers.iter().find(|(id, _)| *id == request);
            match answer {
                Some((_, Message::Answer(answer))) => return answer.clone(),
                Some(_) => panic!("a query for an answer"),
                None => assert!(self.step(until), "no answer"),
            }
        }
    }

    /// Asks and waits for the answer.
    pub(super) fn ask(&mut self, node: u32, call: Call<TestPeer>) -> Outcome<TestPeer> {
        let id = self.call(node, call);
        let until = self.time + 60 * SECOND;
        while !self.outcomes.contains_key(&id) {
            assert!(
                self.time < until && self.step(until),
                "{id:?} has no answer"
            );
        }
        self.outcomes[&id].1.clone()
    }

    /// Waits until all nodes that are up are settled.
    pub(super) fn settle(&mut self, most: Duration) -> Duration {
        let begun = self.time;
        let until = begun + most;
        let settled = |network: &Self| {
            let mut up = network.nodes.values().filter_map(|n| n.store.as_ref());
            up.all(|store| store.settled_round().is_some())
        };
        while !settled(self) {
            assert!(self.step(until), "not settled in {most:?}");
        }
        self.time.since(begun)
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let until = self.time + span;
        while self.step(until) {}
    }
}
