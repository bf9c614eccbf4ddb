//! Whole swarms in virtual time: links with latencies, order, loss and breaks, members that crash, hang and restart, and
//! checkers that watch every delivery. One seed decides all.

mod check;
mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_identity::Hash;

use super::values::{TestBundle, TestContact, bundle};
use crate::plumtree::Message;
use crate::swarm::{Config, Input, Swarm};
use crate::{Now, PreviousEpoch, Seqs, StreamId, Time, UnixMicros};
use crate::{hyparview, plumtree};

/// Where the wall clock stands at the start.
pub(crate) const UNIX_START: u64 = 1_700_000_000_000_000;
/// How long a link that carries nothing takes to be noticed, and a dial into nothing to fail.
const LIVENESS: Duration = Duration::from_secs(3);
/// How often a member without neighbours joins again.
const REJOIN: Duration = Duration::from_secs(1);

/// What a publisher keeps of its stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId<u32>,
    pub(crate) last: u64,
    head: Option<Hash>,
    previous: Option<PreviousEpoch>,
}

pub(crate) struct Node {
    pub(crate) swarm: Swarm<TestContact, TestBundle>,
    pub(crate) based_at: Option<Time>,
    pub(crate) stream: Option<Stream>,
    /// What was delivered of each stream.
    pub(crate) got: BTreeMap<StreamId<u32>, Seqs>,
    pub(crate) gaps: Vec<(StreamId<u32>, u64, u64)>,
    pub(crate) equivocations: u64,
    pub(crate) refused: u64,
    /// The epoch and seq that each publisher's deliveries have reached.
    reached: BTreeMap<u32, (u64, u64)>,
    up: BTreeSet<u32>,
    wake: Time,
    pumps: BTreeSet<u32>,
    hung: Option<Vec<Event>>,
    /// The most links that any bundle of a stream travelled, and the latest delivery after publication.
    pub(crate) hops: BTreeMap<(StreamId<u32>, u64), u8>,
    pub(crate) slowest: Duration,
}

#[derive(Debug)]
pub(crate) enum Frame {
    Membership(hyparview::Message<TestContact>),
    Broadcast(Message<u32, TestBundle>),
}

#[derive(Debug)]
enum Event {
    Frame {
        from: u32,
        to: u32,
        link: u64,
        frame: Frame,
    },
    Lost {
        at: u32,
        peer: u32,
    },
    Linked {
        at: u32,
        peer: u32,
        link: u64,
    },
    Wake(u32),
    Pump(u32, u32),
    Join(u32),
    Publish(u32, u64),
    Congested(u32, u32, bool),
}

#[derive(Clone, Copy, Debug)]
struct Link {
    number: u64,
    latency: Duration,
    ready_at: Time,
}

pub(crate) struct Network {
    seed: u64,
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<u32, Node>,
    queue: BTreeMap<(Time, u64), Event>,
    next: u64,
    links: BTreeMap<(u32, u32), Link>,
    arrivals: BTreeMap<(u32, u32), Time>,
    /// Through whom members join.
    pub(crate) vias: Vec<u32>,
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    /// Peers on the far side of a partition.
    far: BTreeSet<u32>,
    pub(crate) gaps_allowed: bool,
    /// Whether frames were lost, or members hung or crashed.
    faulty: bool,
    /// Bytes a second that a member supplies to one neighbour.
    pub(crate) pace: usize,
    pub(crate) frames: u64,
    pub(crate) digest_streams: u64,
    trace: u64,
    /// When each bundle was published.
    published: BTreeMap<(StreamId<u32>, u64), Time>,
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            seed,
            config: Config::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            queue: BTreeMap::new(),
            next: 0,
            links: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            vias: vec![1],
            loss: 0.0,
            duplication: 0.0,
            far: BTreeSet::new(),
            gaps_allowed: false,
            faulty: false,
            pace: 8 * 1024 * 1024,
            frames: 0,
            digest_streams: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            published: BTreeMap::new(),
        }
    }

    /// Makes a settled swarm of `size` members that joined through the first three.
    pub(crate) fn settled(seed: u64, size: u32) -> Self {
        let mut network = Self::new(seed);
        network.grow(size);
        network.run(Duration::from_secs(20));
        network.assert_whole();
        network
    }

    /// Starts members `1..=size`, ten milliseconds apart.
    pub(crate) fn grow(&mut self, size: u32) {
        self.vias = vec![1, 2, 3];
        self.start(1);
        self.input(1, Input::Alone);
        for peer in 2..=size {
            self.start(peer);
            self.run(Duration::from_millis(10));
        }
    }

    pub(crate) fn moment(&self) -> Now {
        Now {
            time: self.now,
            unix: UnixMicros(UNIX_START + self.now.as_micros()),
        }
    }

    /// Starts a member, which joins.
    pub(crate) fn start(&mut self, peer: u32) {
        self.start_with(peer, self.config.clone());
    }

    pub(crate) fn start_with(&mut self, peer: u32, config: Config) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.rng.random());
        let now = self.moment();
        let contact = TestContact {
            peer,
            issued_at: now.unix,
        };
        let node = Node {
            swarm: Swarm::new(contact, config, &mut rng, now),
            based_at: None,
            stream: None,
            got: BTreeMap::new(),
            gaps: Vec::new(),
            equivocations: 0,
            refused: 0,
            reached: BTreeMap::new(),
            up: BTreeSet::new(),
            wake: Time::NEVER,
            pumps: BTreeSet::new(),
            hung: None,
            hops: BTreeMap::new(),
            slowest: Duration::ZERO,
        };
        assert!(self.nodes.insert(peer, node).is_none(), "started twice");
        self.at(Duration::ZERO, Event::Join(peer));
        self.settle(peer);
    }

    /// Kills a member: its links break, and their other ends notice after `notice`.
    pub(crate) fn crash(&mut self, peer: u32, notice: Duration) -> Option<Stream> {
        // Its next run may get answers to what this one has asked.
        self.faulty = true;
        let node = self.nodes.remove(&peer).expect("it runs");
        for other in self.linked(peer) {
            self.links.remove(&pair(peer, other));
            self.at(notice, Event::Lost { at: other, peer });
        }
        node.stream
    }

    /// Stops a member: it sees and does nothing until it is woken, and loses its links after a while.
    pub(crate) fn hang(&mut self, peer: u32, span: Duration) {
        self.faulty = true;
        self.node(peer).hung = Some(Vec::new());
        let until = self.now + span;
        let noticed = LIVENESS.min(span);
        self.run(noticed);
        if span > LIVENESS {
            for other in self.linked(peer) {
                self.links.remove(&pair(peer, other));
                self.at(Duration::ZERO, Event::Lost { at: other, peer });
                self.at(
                    until.since(self.now),
                    Event::Lost {
                        at: peer,
                        peer: other,
                    },
                );
            }
            self.run(until.since(self.now));
        }
        let events = self.node(peer).hung.take().unwrap_or_default();
        let now = self.moment();
        self.node(peer).swarm.forgive(now);
        for event in events {
            self.step(event);
        }
        self.settle(peer);
    }

    /// Puts these members on the far side of a partition; links across it break once that is noticed.
    pub(crate) fn partition(&mut self, far: impl IntoIterator<Item = u32>) {
        self.faulty = true;
        self.far = far.into_iter().collect();
        let across: Vec<_> = self.links.keys().copied().collect();
        for (a, b) in across {
            if self.is_cut(a, b) {
                self.links.remove(&(a, b));
                self.at(LIVENESS, Event::Lost { at: a, peer: b });
                self.at(LIVENESS, Event::Lost { at: b, peer: a });
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.far.clear();
    }

    fn is_cut(&self, a: u32, b: u32) -> bool {
        self.far.contains(&a) != self.far.contains(&b)
    }

    fn linked(&self, peer: u32) -> Vec<u32> {
        let pairs = self.links.keys().filter(|(a, b)| *a == peer || *b == peer);
        pairs
            .map(|(a, b)| if *a == peer { *b } else { *a })
            .collect()
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.at_time(self.now + after, event);
    }

    fn at_time(&mut self, time: Time, event: Event) {
        self.queue.insert((time, self.next), event);
        self.next += 1;
    }

    pub(crate) fn node(&mut self, peer: u32) -> &mut Node {
        self.nodes.get_mut(&peer).expect("it runs")
    }

    pub(crate) fn input(&mut self, peer: u32, input: Input<u32, TestContact, TestBundle>) {
        let now = self.moment();
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.swarm.handle(input, now);
            self.settle(peer);
        }
    }

    /// Begins a new epoch of a publisher; `after` names the epoch before, and whether its last seq is known.
    pub(crate) fn begin_epoch(&mut self, peer: u32, after: Option<(&Stream, bool)>) {
        let stream = Stream {
            id: StreamId {
                publisher: peer,
                epoch: self.moment().unix.0 / 1_000,
            },
            last: 0,
            head: None,
            previous: after.map(|(stream, clean)| PreviousEpoch {
                epoch: stream.id.epoch,
                last: clean.then_some(stream.last),
            }),
        };
        self.node(peer).stream = Some(stream);
    }

    /// Makes a member's next bundle of `count` messages without publishing it.
    pub(crate) fn next_bundle(&mut self, peer: u32, count: u64) -> TestBundle {
        if self.node(peer).stream.is_none() {
            self.begin_epoch(peer, None);
        }
        let unix = self.moment().unix;
        let stream = self.node(peer).stream.as_mut().expect("begun above");
        let (first, last) = (stream.last + 1, stream.last + count);
        let mut bundle = bundle(stream.id, (first, last), stream.head, unix, 0);
        bundle.previous_epoch = stream.previous.filter(|_| first == 1);
        stream.last = last;
        stream.head = Some(bundle.header.hash);
        bundle
    }

    pub(crate) fn publish(&mut self, peer: u32, count: u64) -> StreamId<u32> {
        let bundle = self.next_bundle(peer, count);
        self.publish_bundle(peer, bundle)
    }

    pub(crate) fn publish_bundle(&mut self, peer: u32, bundle: TestBundle) -> StreamId<u32> {
        let header = bundle.header;
        self.published
            .insert((header.stream, header.first), self.now);
        let now = self.moment();
        self.node(peer).swarm.publish(bundle, now);
        self.settle(peer);
        header.stream
    }

    /// Plans `count` messages of a member, `each` apart.
    pub(crate) fn publish_at_rate(&mut self, peer: u32, count: u32, each: Duration) {
        for index in 0..count {
            self.at(each * index, Event::Publish(peer, 1));
        }
    }

    pub(crate) fn congest(&mut self, at: u32, peer: u32, span: Duration) {
        self.at(Duration::ZERO, Event::Congested(at, peer, true));
        self.at(span, Event::Congested(at, peer, false));
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.step(event);
        }
        self.now = end;
    }

    fn fold(&mut self, parts: &[u64]) {
        for part in parts {
            self.trace = (self.trace ^ part)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(17);
        }
    }

    /// A number that two runs share only if their events are the same.
    pub(crate) const fn trace(&self) -> u64 {
        self.trace
    }
}

/// The broadcast's settings with a start.
pub(crate) fn starting(start: plumtree::Start) -> Config {
    let mut config = Config::default();
    Arc::make_mut(&mut config.broadcast).start = start;
    config
}
