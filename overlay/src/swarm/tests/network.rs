//! Whole swarms in virtual time: links with latencies, order, loss and breaks, members that crash, hang and restart, and
//! checkers that watch every delivery. One seed decides all.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_identity::Hash;

use super::values::{TestBundle, TestContact, bundle};
use crate::delivery::Delivered;
use crate::plumtree::Message;
use crate::swarm::{Config, Input, Output, Swarm};
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

    fn step(&mut self, event: Event) {
        let actor = match event {
            Event::Frame { to, .. } => to,
            Event::Lost { at, .. } | Event::Linked { at, .. } => at,
            Event::Wake(at) | Event::Pump(at, _) | Event::Join(at) => at,
            Event::Publish(at, _) | Event::Congested(at, ..) => at,
        };
        let Some(node) = self.nodes.get_mut(&actor) else {
            return;
        };
        if let Some(held) = &mut node.hung {
            held.push(event);
            return;
        }
        match event {
            Event::Frame {
                from,
                to,
                link,
                frame,
            } => {
                if self.links.get(&pair(from, to)).map(|l| l.number) == Some(link) {
                    self.frame(from, to, frame);
                }
            }
            Event::Lost { at, peer } => {
                // A link that was made anew meanwhile isn't lost.
                if !self.links.contains_key(&pair(at, peer)) {
                    self.fold(&[self.now.as_micros(), 1, at.into(), peer.into()]);
                    self.input(at, Input::PeerLost(peer));
                }
            }
            Event::Linked { at, peer, link } => {
                if self.links.get(&pair(at, peer)).map(|l| l.number) == Some(link) {
                    self.input(at, Input::PeerUp(peer));
                }
            }
            Event::Wake(at) => {
                let now = self.moment();
                let node = self.node(at);
                if node.wake <= now.time {
                    node.wake = Time::NEVER;
                    node.swarm.handle_timeout(now);
                    let next = node.swarm.poll_timeout();
                    assert!(next > now.time, "{at} woken for nothing at {:?}", now.time);
                    self.settle(at);
                }
            }
            Event::Pump(at, peer) => self.pump(at, peer),
            Event::Join(at) => {
                if self.node(at).up.is_empty() {
                    let runs = |via: &u32| *via != at && self.nodes.contains_key(via);
                    let vias: Vec<u32> = self.vias.iter().copied().filter(runs).collect();
                    if !vias.is_empty() {
                        let via = vias[self.rng.random_range(0..vias.len())];
                        self.input(at, Input::Join { via });
                    }
                }
                self.at(REJOIN, Event::Join(at));
            }
            Event::Publish(at, count) => {
                self.publish(at, count);
            }
            Event::Congested(at, peer, congested) => {
                self.input(at, Input::Congested { peer, congested });
            }
        }
    }

    fn frame(&mut self, from: u32, to: u32, frame: Frame) {
        self.frames += 1;
        let kind = match &frame {
            Frame::Membership(_) => 2,
            Frame::Broadcast(Message::Bundle { bundle, .. }) => 3 + bundle.header.first,
            Frame::Broadcast(_) => 4,
        };
        self.fold(&[self.now.as_micros(), kind, from.into(), to.into()]);
        match frame {
            Frame::Membership(message) => self.input(to, Input::Membership { from, message }),
            Frame::Broadcast(message) => {
                if let Message::Digest { streams, .. } = &message {
                    self.digest_streams += streams.len() as u64;
                }
                self.input(to, Input::Broadcast { from, message });
            }
        }
    }

    fn pump(&mut self, at: u32, peer: u32) {
        let now = self.moment();
        let node = self.node(at);
        node.pumps.remove(&peer);
        if !node.swarm.owes(peer) {
            return;
        }
        let ordered = node.swarm.supply(peer, 64 * 1024, now);
        node.pumps.insert(peer);
        let pause = Duration::from_micros((ordered * 1_000_000 / self.pace) as u64);
        self.at(pause, Event::Pump(at, peer));
        self.settle(at);
    }

    fn send(&mut self, from: u32, to: u32, frame: Frame, may_dial: bool) {
        assert_ne!(from, to, "a message to oneself");
        let key = pair(from, to);
        if !self.links.contains_key(&key) {
            if !may_dial {
                return;
            }
            let latency = Duration::from_micros(self.rng.random_range(500..20_000));
            if self.is_cut(from, to) {
                return self.at(LIVENESS, Event::Lost { at: from, peer: to });
            }
            if !self.nodes.contains_key(&to) {
                return self.at(latency * 2, Event::Lost { at: from, peer: to });
            }
            let link = Link {
                number: self.next,
                latency,
                ready_at: self.now + latency * 2,
            };
            self.next += 1;
            self.links.insert(key, link);
            for (at, peer) in [(from, to), (to, from)] {
                let link = link.number;
                self.at(latency * 2, Event::Linked { at, peer, link });
            }
        }
        let link = self.links[&key];
        if self.rng.random_bool(self.loss) {
            self.faulty = true;
            return;
        }
        let jitter = Duration::from_micros(self.rng.random_range(0..500));
        let last = self.arrivals.entry((from, to)).or_default();
        *last = (self.now.max(link.ready_at) + link.latency + jitter).max(*last);
        let time = *last;
        let again = match &frame {
            Frame::Broadcast(message) if self.rng.random_bool(self.duplication) => {
                Some(Frame::Broadcast(message.clone()))
            }
            _ => None,
        };
        for frame in [Some(frame), again].into_iter().flatten() {
            let link = link.number;
            self.at_time(
                time,
                Event::Frame {
                    from,
                    to,
                    link,
                    frame,
                },
            );
        }
    }

    /// Carries out a member's orders and plans its next wake-up.
    fn settle(&mut self, at: u32) {
        while let Some(output) = self.nodes.get_mut(&at).and_then(|n| n.swarm.poll_output()) {
            self.output(at, output);
        }
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        let owed: Vec<u32> = node
            .up
            .iter()
            .copied()
            .filter(|p| node.swarm.owes(*p))
            .collect();
        let fresh: Vec<u32> = owed.into_iter().filter(|p| node.pumps.insert(*p)).collect();
        let wake = node.swarm.poll_timeout();
        let sooner = wake < node.wake;
        if sooner {
            node.wake = wake;
            let time = wake.max(self.now);
            self.at_time(time, Event::Wake(at));
        }
        for peer in fresh {
            self.at(Duration::ZERO, Event::Pump(at, peer));
        }
    }

    fn output(&mut self, at: u32, output: Output<u32, TestContact, TestBundle>) {
        match output {
            Output::Membership { to, message, .. } => {
                self.send(at, to, Frame::Membership(message), true);
            }
            Output::Broadcast { to, message } => {
                self.send(at, to, Frame::Broadcast(message), false);
            }
            Output::NeighbourUp(peer) => {
                assert!(self.node(at).up.insert(peer), "{at}: {peer} up twice");
                if let Some(link) = self.links.get(&pair(at, peer)).copied() {
                    let rtt = link.latency * 2;
                    let now = self.moment();
                    self.node(at).swarm.handle(Input::Rtt { peer, rtt }, now);
                }
            }
            // Nobody is known outside of the swarm.
            Output::WantContacts | Output::Held(_) | Output::Changed(_) => {}
            Output::NeighbourDown(peer) => {
                assert!(self.node(at).up.remove(&peer), "{at}: {peer} was not up");
            }
            Output::Based => {
                let now = self.now;
                assert!(self.node(at).based_at.replace(now).is_none(), "based twice");
            }
            Output::Deliver(Delivered::Bundle { header, from }) => {
                self.delivered(at, &header, from);
            }
            Output::Deliver(Delivered::Gap { stream, from, to }) => self.gap(at, stream, from, to),
            Output::Equivocation(_) => self.node(at).equivocations += 1,
            Output::Refused { .. } => self.node(at).refused += 1,
            Output::Misbehaviour { peer, what } => {
                // Late answers are the one thing that faults make of honest ones.
                assert!(self.faulty, "honest {peer} accused of {what}");
            }
        }
    }
}

/// The broadcast's settings with a start.
pub(crate) fn starting(start: plumtree::Start) -> Config {
    let mut config = Config::default();
    Arc::make_mut(&mut config.broadcast).start = start;
    config
}
