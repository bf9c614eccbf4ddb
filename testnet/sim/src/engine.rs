//! The engine: discrete events in virtual time. One seed decides everything, and the same seed gives the same run, event
//! for event.
//!
//! A link is what `weft_core` takes a link for: frames arrive in order and uncorrupted until it is down, but for the faults
//! that the scenario asks for. A process that dies takes its links down at once, as TCP does; one that hangs or is cut off
//! is noticed after [`LIVENESS`].

mod faults;
mod links;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use weft_overlay::{Now, Time, UnixMicros};

pub use faults::{Blocks, Crash};

use crate::link::Links;
use crate::machine::{Fact, Machine, NodeId, Order};
use crate::queue::Queue;
use crate::reseed::Contacts;
use crate::watch::Watch;
use links::LinkEnd;

/// Where the wall clock stands at virtual time zero: the start of 2026.
const UNIX_START: u64 = 1_767_225_600_000_000;
/// How long an end that is silent goes unnoticed, and a dial into nothing takes to fail (the design's bound).
pub const LIVENESS: Duration = Duration::from_secs(3);
/// Wake-ups in a row after which a machine may ask for the same moment again.
const FUTILE_MAX: u8 = 100;
/// Events whose nodes are looked at before they happen: as many as misses of the cache overlap, and few enough that what
/// was read is still there when it is needed.
const AHEAD: u64 = 16;

/// What happens.
#[derive(Clone, Debug)]
enum Event<F> {
    Frame {
        from: NodeId,
        to: NodeId,
        link: u32,
        frame: F,
    },
    Up {
        at: NodeId,
        peer: NodeId,
        link: u32,
        dialled: bool,
    },
    Down {
        at: NodeId,
        peer: NodeId,
        link: u32,
        why: crate::machine::Down,
    },
    Unreachable {
        at: NodeId,
        peer: NodeId,
    },
    /// An end may have been silent for too long.
    Silent {
        at: NodeId,
        peer: NodeId,
        link: u32,
    },
    Wake {
        at: NodeId,
        life: u32,
    },
    /// Something that the script has planned.
    Cue(u32),
}

impl<F> Event<F> {
    /// Returns the node that it happens to; none where it is the script's.
    const fn at(&self) -> Option<NodeId> {
        match self {
            Self::Frame { to: at, .. }
            | Self::Up { at, .. }
            | Self::Down { at, .. }
            | Self::Unreachable { at, .. }
            | Self::Silent { at, .. }
            | Self::Wake { at, .. } => Some(*at),
            Self::Cue(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Node<M: Machine> {
    /// None while the process doesn't run.
    machine: Option<M>,
    /// How often it was started.
    life: u32,
    /// When it is woken next.
    wake: Time,
    /// When the queue holds another wake-up of it that was planned before that one; `NEVER` if none is known of.
    wake_after: Time,
    /// Wake-ups in a row after which it asked for the same moment again.
    futile: u8,
    links: Vec<LinkEnd>,
    /// What happens to it while it is stopped by a signal; none while it runs.
    held: Option<Vec<Event<M::Frame>>>,
    /// The group that blocks know it by.
    group: u8,
    /// What handling a frame takes, and until when it is busy.
    slowness: Duration,
    busy_until: Time,
    /// Until when its uplink is taken.
    sending_until: Time,
}

/// A network in virtual time.
#[derive(Clone, Debug)]
pub struct Engine<M: Machine> {
    seed: u64,
    now: Time,
    rng: ChaCha8Rng,
    queue: Queue<Event<M::Frame>>,
    nodes: Vec<Node<M>>,
    links: Links,
    links_made: u32,
    /// Whether any node was ever made slow: else nobody's slowness is looked up.
    some_are_slow: bool,
    blocks: Blocks,
    contacts: Contacts,
    events: u64,
    trace: u64,
    /// What is watched and counted.
    pub watch: Watch,
}

impl<M: Machine> Engine<M> {
    /// Makes a network of `nodes` nodes, none of which runs.
    pub fn new(seed: u64, nodes: u32, links: Links, contacts: Contacts) -> Self {
        let idle = || Node {
            machine: None,
            life: 0,
            wake: Time::NEVER,
            wake_after: Time::NEVER,
            futile: 0,
            links: Vec::new(),
            held: None,
            group: 0,
            slowness: Duration::ZERO,
            busy_until: Time::ZERO,
            sending_until: Time::ZERO,
        };
        Self {
            seed,
            now: Time::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: Queue::default(),
            nodes: (0..nodes).map(|_| idle()).collect(),
            links,
            links_made: 0,
            some_are_slow: false,
            blocks: Blocks::default(),
            contacts,
            events: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            watch: Watch::new(nodes),
        }
    }

    /// Returns the same network as it was made; none once anything has happened in it.
    pub fn anew(&self) -> Option<Self> {
        let is_new = self.events == 0 && self.watch.up() == 0;
        is_new.then(|| {
            let mut anew = Self::new(self.seed, self.len(), self.links.clone(), self.contacts);
            anew.watch.lookups = self.watch.lookups.clone();
            anew
        })
    }

    /// Returns the seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the moment.
    pub const fn now(&self) -> Now {
        Now {
            time: self.now,
            unix: UnixMicros(UNIX_START + self.now.as_micros()),
        }
    }

    /// Returns how many events have happened.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Returns a number that two runs share only if their events are the same.
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// Returns how many nodes there are, running or not.
    pub fn len(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Returns whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the generator that the script draws from, too.
    pub const fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// Returns a node's machine; none while it doesn't run.
    pub fn machine(&self, node: NodeId) -> Option<&M> {
        self.nodes.get(node as usize)?.machine.as_ref()
    }

    /// Returns whether a node runs, stopped by a signal or not.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.machine(node).is_some()
    }

    /// Returns whether a node is stopped by a signal.
    pub fn is_hung(&self, node: NodeId) -> bool {
        self.nodes[node as usize].held.is_some()
    }

    /// Returns the nodes that run, ascending.
    pub fn up(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.len()).filter(|node| self.is_up(*node))
    }

    /// Returns the nodes that run and their machines, ascending.
    pub fn machines(&self) -> impl Iterator<Item = (NodeId, &M)> {
        (0..self.len()).filter_map(|node| Some((node, self.machine(node)?)))
    }

    /// Plans a cue for the script.
    pub fn cue(&mut self, at: Time, cue: u32) {
        self.queue.push(at, Event::Cue(cue));
    }

    /// Starts a node; its machine comes from a seed of its own.
    pub fn start(&mut self, node: NodeId, machine: M) {
        let slot = &mut self.nodes[node as usize];
        slot.machine = Some(machine);
        slot.life += 1;
        slot.wake = Time::NEVER;
        slot.wake_after = Time::NEVER;
        slot.busy_until = Time::ZERO;
        slot.sending_until = Time::ZERO;
        self.watch.started(self.now, node);
        self.settle(node);
    }

    /// Tells a node something.
    pub fn tell(&mut self, node: NodeId, fact: Fact<M::Frame>) {
        let now = self.now();
        if let Some(machine) = &mut self.nodes[node as usize].machine {
            machine.handle(fact, now);
            self.settle(node);
        }
    }

    /// Lets time pass until `until`; cues are handed to `script` as they come.
    pub fn run_until(&mut self, until: Time, script: &mut impl FnMut(&mut Self, u32)) {
        while let Some((time, event)) = self.queue.pop(until) {
            if self.events.is_multiple_of(AHEAD) {
                self.look_ahead();
            }
            self.now = self.now.max(time);
            self.events += 1;
            match event {
                Event::Cue(cue) => script(self, cue),
                event => self.happen(event),
            }
        }
        self.now = self.now.max(until);
    }

    /// Reads what the next events will need. Each of them needs it at once and misses the cache for it, one after the other; here
    /// the misses of several overlap.
    fn look_ahead(&self) {
        let coming = || self.queue.coming(AHEAD as usize).filter_map(Event::at);
        let mut read = 0;
        for at in coming() {
            let slot = &self.nodes[at as usize];
            read ^=
                slot.wake.as_micros() ^ slot.links.len() as u64 ^ u64::from(slot.machine.is_some());
        }
        for at in coming() {
            let slot = &self.nodes[at as usize];
            if let Some(machine) = &slot.machine {
                read ^= machine.touch();
            }
            read ^= slot.links.first().map_or(0, |end| u64::from(end.peer));
        }
        std::hint::black_box(read);
    }

    fn happen(&mut self, event: Event<M::Frame>) {
        let (at, kind, other) = match &event {
            Event::Frame { to, from, .. } => (*to, 1, *from),
            Event::Up { at, peer, .. } => (*at, 2, *peer),
            Event::Down { at, peer, .. } => (*at, 3, *peer),
            Event::Unreachable { at, peer } => (*at, 4, *peer),
            Event::Silent { at, peer, .. } => (*at, 5, *peer),
            Event::Wake { at, .. } => (*at, 6, 0),
            Event::Cue(_) => return,
        };
        let slot = &mut self.nodes[at as usize];
        if slot.machine.is_none() {
            return;
        }
        // A stopped process learns of nothing; that its peers have given it up is their own matter.
        if let (Some(held), false) = (&mut slot.held, matches!(event, Event::Silent { .. })) {
            held.push(event);
            return;
        }
        self.fold(self.now.as_micros() ^ (kind << 60));
        self.fold((u64::from(at) << 32) | u64::from(other));
        match event {
            Event::Frame {
                from, link, frame, ..
            } => self.frame(at, from, link, frame),
            Event::Up {
                peer,
                link,
                dialled,
                ..
            } => {
                if self.end(at, peer, link).is_some() {
                    self.tell(at, Fact::Up { peer, dialled });
                }
            }
            Event::Down {
                peer, link, why, ..
            } => self.down(at, peer, link, why),
            Event::Unreachable { peer, .. } => {
                // A link that was made meanwhile the other way round will do.
                if self.link_to(at, peer).is_none() {
                    self.tell(at, Fact::Unreachable { peer });
                }
            }
            Event::Silent { peer, link, .. } => self.silent(at, peer, link),
            Event::Wake { life, .. } => self.wake(at, life),
            Event::Cue(_) => {}
        }
    }

    fn fold(&mut self, part: u64) {
        self.trace = (self.trace ^ part)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(17);
    }

    fn frame(&mut self, at: NodeId, from: NodeId, link: u32, frame: M::Frame) {
        if !self.hear(at, from, link) {
            return self.reset(at, from, link);
        }
        self.watch.arrived(&frame);
        self.tell(at, Fact::Frame { from, frame });
    }

    fn wake(&mut self, at: NodeId, life: u32) {
        let now = self.now();
        let slot = &mut self.nodes[at as usize];
        if slot.life != life || slot.wake > now.time {
            return;
        }
        slot.wake = std::mem::replace(&mut slot.wake_after, Time::NEVER);
        let Some(machine) = &mut slot.machine else {
            return;
        };
        if machine.poll_timeout() <= now.time {
            machine.handle_timeout(now);
            let next = machine.poll_timeout();
            // What was left for the next call is done at once; a machine that leaves something again and again never ends.
            slot.futile = if next <= now.time { slot.futile + 1 } else { 0 };
            if slot.futile >= FUTILE_MAX {
                let what = format!("n{at} asks at {next:?} for {next:?}, again and again");
                return self.watch.violation(now.time, what);
            }
        }
        self.settle(at);
    }

    /// Carries out a node's orders and plans its next wake-up.
    fn settle(&mut self, at: NodeId) {
        let now = self.now();
        while let Some(machine) = &mut self.nodes[at as usize].machine {
            match machine.poll_order(now) {
                Some(order) => self.carry_out(at, order),
                None => break,
            }
        }
        let slot = &mut self.nodes[at as usize];
        let Some(machine) = &slot.machine else {
            return;
        };
        let wake = machine.poll_timeout();
        if wake < slot.wake {
            slot.wake_after = std::mem::replace(&mut slot.wake, wake);
            let life = slot.life;
            self.queue
                .push(wake.max(self.now), Event::Wake { at, life });
        }
    }

    fn carry_out(&mut self, at: NodeId, order: Order<M::Frame>) {
        let time = self.now;
        match order {
            Order::Send { to, frame, dial } => self.send(at, to, frame, dial),
            Order::Dial { to } => self.dial(at, to),
            Order::Close { peer } => self.close(at, peer),
            Order::WantContacts => {
                let contacts = self.contacts.draw(self.seed, at, self.len(), &mut self.rng);
                if !contacts.is_empty() {
                    self.answer(at, Fact::Contacts(contacts));
                }
            }
            Order::WantPartner => {
                if let Some(partner) = self.random_other(at) {
                    self.answer(at, Fact::Partner(partner));
                }
            }
            Order::NeighbourUp(peer) => {
                let rtt = self.latency(at, peer) * 2;
                self.answer(at, Fact::Rtt { peer, rtt });
            }
            Order::Published {
                first,
                messages,
                mark,
            } => self.watch.published(time, first, messages, mark),
            Order::Arrived { place, payload } => self.watch.copy(place, payload),
            Order::OfTopic { bytes } => {
                *self.watch.traffic.topic_bytes.get_or_insert(0) += u64::from(bytes);
            }
            Order::Based => self.watch.based(time, at),
            Order::Delivered {
                first,
                last,
                hops,
                mark,
            } => self.watch.delivered(time, at, first, last, hops, mark),
            Order::Resumed { last } => self.watch.resumed(at, last),
            Order::ReadsAll => self.watch.reads_all(at),
            Order::Gap { first, last } => self.watch.gap(time, at, first, last),
            Order::KvEnded { deed, outcome } => self.watch.deed_ended(time, deed, &outcome),
            Order::LookedUp {
                lookup,
                closest,
                stats,
            } => {
                let nodes = &self.nodes;
                let answers = |node: NodeId| nodes[node as usize].held.is_none();
                self.watch.looked_up(time, lookup, &closest, stats, answers);
            }
            Order::Accused { what } => self.watch.accused(what),
            Order::Violation(what) => self.watch.violation(time, format!("n{at}: {what}")),
        }
    }

    /// Answers an order; the orders that follow from it are drained by whoever drains now.
    fn answer(&mut self, at: NodeId, fact: Fact<M::Frame>) {
        let now = self.now();
        if let Some(machine) = &mut self.nodes[at as usize].machine {
            machine.handle(fact, now);
        }
    }
}
