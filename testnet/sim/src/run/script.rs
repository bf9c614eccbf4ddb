//! What a scenario has planned for later: starts, messages, ends of faults. Each is a cue in the engine's queue.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use weft_overlay::Time;

use crate::Engine;
use crate::crowd::Crowd;
use crate::engine::Crash;
use crate::machine::{Fact, Machine, NodeId, Plan};
use crate::scenario::{By, From, Kv};

/// A planned act.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Start a node that never ran, or ran before.
    Start(NodeId),
    /// Do something with the store.
    Kv { kv: Box<Kv>, label: String },
    /// Look at a key of the store when all is over.
    Audit { key: u32, copies: u8 },
    /// A node's disk is full, or has room again.
    FillDisk { node: NodeId, full: bool },
    /// Look up a random key.
    LookUp { paths: usize, label: String },
    /// Publish a message.
    Publish { by: By, bytes: u32, label: String },
    /// A node subscribes.
    Subscribe { node: NodeId, from: From },
    /// Let a stopped node go on.
    Resume(NodeId),
    /// Let everything through again.
    Unblock,
    /// A node dies, and another is started in its place.
    Replace,
    /// Make a node as fast as others.
    Quicken(NodeId),
    /// Hold every node against its bounds, and again after a while.
    Inspect(Duration),
}

/// The acts that are planned, and what they need to know.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) plan: Plan,
    /// Nodes that one joins through at once, where there are as many.
    contacts: u32,
    acts: Vec<Option<Act>>,
    /// Labels of messages, by number.
    labels: Vec<String>,
    /// Who publishes where it is always the same ones.
    publishers: Vec<NodeId>,
    /// Messages of each of those so far.
    published: Vec<u32>,
    turn: usize,
    /// Who has published, where each does once.
    strangers: Vec<bool>,
}

/// How many publish in turn ([`By::Twenty`]).
const TWENTY: usize = 20;

impl Script {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            contacts: 0,
            acts: Vec::new(),
            labels: vec![String::new()],
            publishers: Vec::new(),
            published: Vec::new(),
            turn: 0,
            strangers: Vec::new(),
        }
    }

    /// Members without neighbours join through the first so many nodes from now on; one that starts through some at once.
    pub(super) const fn set_vias(&mut self, vias: u32, contacts: u32) {
        self.plan.vias = vias;
        self.contacts = contacts;
    }

    /// Says who of those that start from now on lies.
    pub(super) fn set_liars<M: Machine>(&mut self, engine: &mut Engine<M>, liars: &[NodeId]) {
        let mut crowd = Crowd::clone(&self.plan.crowd);
        crowd.set_liars(liars);
        self.plan.crowd = Arc::new(crowd);
        engine.watch.lookups.set_crowd(&self.plan.crowd);
    }

    /// Returns the labels that messages have had, with their numbers.
    pub(super) fn labels(&self) -> impl Iterator<Item = (u16, &str)> {
        (0..).zip(self.labels.iter().map(String::as_str))
    }

    /// Returns who publishes where it is always the same ones.
    pub(super) fn publishers(&self) -> &[NodeId] {
        &self.publishers
    }

    pub(super) fn plan<M: Machine>(&mut self, engine: &mut Engine<M>, at: Time, act: Act) {
        let cue = u32::try_from(self.acts.len()).expect("memory ends before");
        self.acts.push(Some(act));
        engine.cue(at, cue);
    }

    pub(super) fn inspect_every<M: Machine>(&mut self, engine: &mut Engine<M>, every: Duration) {
        let at = engine.now().time + every;
        self.plan(engine, at, Act::Inspect(every));
    }

    /// Does what was planned.
    pub(super) fn act<M: Machine>(&mut self, engine: &mut Engine<M>, cue: u32) {
        let Some(act) = self.acts.get_mut(cue as usize).and_then(Option::take) else {
            return;
        };
        match act {
            Act::Start(node) => self.start(engine, node),
            Act::Publish { by, bytes, label } => self.publish(engine, by, bytes, &label),
            Act::Kv { kv, label } => self.kv(engine, &kv, &label),
            Act::Audit { key, copies } => self.audit(engine, key, copies),
            Act::FillDisk { node, full } => self.fill_disk(node, full),
            Act::LookUp { paths, label } => self.look_up(engine, paths, &label),
            Act::Subscribe { node, from } => {
                let all = from == From::Earliest;
                engine.tell(node, Fact::Subscribe { all });
            }
            Act::Resume(node) => engine.resume(node),
            Act::Unblock => engine.unblock(),
            Act::Replace => self.replace(engine),
            Act::Quicken(node) => engine.slow(node, Duration::ZERO),
            Act::Inspect(every) => {
                inspect(engine);
                self.inspect_every(engine, every);
            }
        }
    }

    /// Starts a node, which joins.
    pub(super) fn start<M: Machine>(&mut self, engine: &mut Engine<M>, node: NodeId) {
        if engine.is_up(node) {
            return;
        }
        let is_first = engine.watch.up() == 0;
        let seed = engine.rng().random();
        let mut machine = M::build(&self.plan, node, seed, engine.now());
        if is_first {
            machine.begin(engine.now());
        }
        if !machine.is_ordered() {
            engine.watch.expect_no_order();
        }
        engine.start(node, machine);
        let first = engine.rng().random_range(0..self.plan.vias.max(1));
        for index in 0..self.plan.vias.min(self.contacts) {
            let via = (first + index) % self.plan.vias;
            if via != node && engine.is_up(via) {
                engine.tell(node, Fact::Join { via });
            }
        }
    }

    fn look_up<M: Machine>(&mut self, engine: &mut Engine<M>, paths: usize, label: &str) {
        let honest = (0..1_000)
            .filter_map(|_| random(engine))
            .find(|node| !self.plan.crowd.lies(*node));
        let Some(node) = honest else {
            return;
        };
        let key: [u8; 32] = engine.rng().random();
        let label = self.label(label);
        let lookup = engine.watch.look_up(engine.now().time, node, key, label);
        engine.tell(node, Fact::LookUp { lookup, key, paths });
    }

    fn publish<M: Machine>(&mut self, engine: &mut Engine<M>, by: By, bytes: u32, label: &str) {
        let (node, label) = match by {
            By::One => (self.one_of(engine, 1), label.to_owned()),
            By::Random => (random(engine), label.to_owned()),
            By::Strangers => (self.stranger(engine), label.to_owned()),
            By::Twenty => {
                let node = self.one_of(engine, TWENTY);
                let age = match self.published[self.turn] {
                    0 => "cold",
                    1..=9 => "warming",
                    _ => "warm",
                };
                (node, format!("{label}{age}"))
            }
        };
        let Some(node) = node else {
            return;
        };
        let number = self.label(&label);
        engine.watch.label(number);
        if let Some(published) = self.published.get_mut(self.turn) {
            *published += 1;
        }
        engine.tell(node, Fact::Publish { messages: 1, bytes });
    }

    /// Returns the number of a label.
    pub(super) fn label(&mut self, label: &str) -> u16 {
        let found = self.labels.iter().position(|known| known == label);
        let number = found.unwrap_or_else(|| {
            self.labels.push(label.to_owned());
            self.labels.len() - 1
        });
        u16::try_from(number).unwrap_or(0)
    }

    /// Returns the next of a few publishers that stay the same; one that has died is replaced.
    fn one_of<M: Machine>(&mut self, engine: &mut Engine<M>, count: usize) -> Option<NodeId> {
        while self.publishers.len() < count {
            let free = (0..1_000)
                .filter_map(|_| random(engine))
                .find(|node| !self.publishers.contains(node))?;
            self.publishers.push(free);
            self.published.push(0);
        }
        self.turn = (self.turn + 1) % count;
        let at = self.turn;
        if !engine.is_up(self.publishers[at]) {
            self.publishers[at] = random(engine)?;
            self.published[at] = 0;
        }
        Some(self.publishers[at])
    }

    /// Draws a node that hasn't published yet; any where all have.
    fn stranger<M: Machine>(&mut self, engine: &mut Engine<M>) -> Option<NodeId> {
        self.strangers.resize(engine.len() as usize, false);
        let fresh = (0..1_000)
            .filter_map(|_| random(engine))
            .find(|node| !self.strangers[*node as usize]);
        let node = fresh.or_else(|| random(engine))?;
        self.strangers[node as usize] = true;
        Some(node)
    }

    fn replace<M: Machine>(&mut self, engine: &mut Engine<M>) {
        // The nodes that others join through stay: somebody must be known.
        let vias = self.plan.vias;
        let victim = (0..1_000)
            .filter_map(|_| random(engine))
            .find(|node| *node >= vias && !self.publishers.contains(node));
        let down: Vec<NodeId> = (0..engine.len())
            .filter(|node| !engine.is_up(*node))
            .collect();
        if let Some(victim) = victim {
            engine.crash(victim, Crash::Process);
        }
        let fresh = match down.len() {
            0 => victim,
            len => Some(down[engine.rng().random_range(0..len)]),
        };
        if let Some(fresh) = fresh {
            self.start(engine, fresh);
        }
    }
}

/// Draws a node that runs and isn't stopped.
pub(super) fn random<M: Machine>(engine: &mut Engine<M>) -> Option<NodeId> {
    /// Draws before nobody is taken to be there that isn't stopped.
    const DRAWS: usize = 64;
    for _ in 0..DRAWS {
        let node = engine.random_other(NodeId::MAX)?;
        if !engine.is_hung(node) {
            return Some(node);
        }
    }
    None
}

/// Holds every node against its bounds.
pub(super) fn inspect<M: Machine>(engine: &mut Engine<M>) {
    let wrong: Vec<String> = engine
        .machines()
        .filter_map(|(node, machine)| Some((node, machine.check().err()?)))
        .map(|(node, what)| format!("n{node}: {what}"))
        .collect();
    let time = engine.now().time;
    for what in wrong {
        engine.watch.violation(time, what);
    }
}
