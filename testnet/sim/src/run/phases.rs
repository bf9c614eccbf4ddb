//! What each phase does.

use std::time::Duration;

use rand::RngExt;
use weft_overlay::Time;

use super::script::{Act, random};
use super::{Progress, Runner};
use crate::graph::Graph;
use crate::machine::{Machine, NodeId};
use crate::scenario::{By, Measure, Phase, Publish};
use crate::watch::Traffic;

impl<M: Machine> Runner<'_, M> {
    pub(super) fn phase(&mut self, phase: &Phase, progress: &mut dyn FnMut(Progress)) {
        match phase {
            Phase::Join {
                nodes,
                within,
                through,
                contacts,
            } => {
                self.script.set_vias(*through, *contacts);
                let fresh = self.down(nodes.unwrap_or(u32::MAX));
                self.start_evenly(&fresh, within.0, progress);
            }
            Phase::Run { r#for } => self.pass(r#for.0, progress),
            Phase::Cycles { count } => {
                let cycle = self.scenario.overlay.cycle();
                self.pass(cycle * *count, progress);
            }
            Phase::Publish(publish) => self.publish(publish, progress),
            Phase::Crash {
                share,
                how,
                spare_publishers,
            } => {
                let swept = self.swept.map_or(0.0, |share| f64::from(share) / 100.0);
                let mut victims = self.draw(share.unwrap_or(swept));
                if *spare_publishers {
                    victims.retain(|node| !self.script.publishers().contains(node));
                }
                for node in victims {
                    self.engine.crash(node, *how);
                }
            }
            Phase::Restart { within } => {
                let down = self.down(u32::MAX);
                self.start_evenly(&down, within.0, progress);
            }
            Phase::Hang { share, r#for } => {
                for node in self.draw(*share) {
                    self.engine.hang(node);
                    let at = self.engine.now().time + r#for.0;
                    self.script.plan(&mut self.engine, at, Act::Resume(node));
                }
                self.pass(r#for.0, progress);
            }
            Phase::Partition {
                share,
                r#for,
                one_way,
            } => {
                for node in self.draw(*share) {
                    self.engine.set_group(node, 1);
                }
                self.engine.block(1, 0);
                if !one_way {
                    self.engine.block(0, 1);
                }
                self.pass(r#for.0, progress);
                self.engine.unblock();
                for node in 0..self.engine.len() {
                    self.engine.set_group(node, 0);
                }
            }
            Phase::Slow { share, each } => {
                for node in self.draw(*share) {
                    self.engine.slow(node, each.0);
                }
            }
            Phase::Churn { per_minute, r#for } => {
                let start = self.engine.now().time;
                let apart = Duration::from_secs_f64(60.0 / per_minute.max(1e-3));
                let mut at = start + apart;
                while at <= start + r#for.0 {
                    self.script.plan(&mut self.engine, at, Act::Replace);
                    at = at + apart;
                }
                self.pass(r#for.0, progress);
            }
            Phase::Storm { r#for, every } => self.storm(r#for.0, every.0, progress),
            Phase::Subscribe {
                share,
                from,
                within,
            } => {
                let start = self.engine.now().time;
                let mut fresh: Vec<NodeId> = self.engine.up().collect();
                fresh.retain(|node| !self.engine.watch.is_subscribed(*node));
                let count = (fresh.len() as f64 * share).round() as usize;
                self.shuffle(&mut fresh, count);
                let apart = within.0.as_secs_f64() / count.max(1) as f64;
                for (index, node) in fresh.into_iter().take(count).enumerate() {
                    let at = start + Duration::from_secs_f64(apart * index as f64);
                    let from = *from;
                    let act = Act::Subscribe { node, from };
                    self.script.plan(&mut self.engine, at, act);
                }
                self.pass(within.0.max(Duration::from_micros(1)), progress);
            }
            Phase::Lie { share, spare } => {
                let swept = self.swept.map_or(0.0, |share| f64::from(share) / 100.0);
                self.lie(share.unwrap_or(swept), *spare);
            }
            Phase::Topics(topics) => self.topics(topics, progress),
            Phase::Kv(kv) => self.kv(kv, progress),
            Phase::Audit { copies } => self.audit(*copies, progress),
            Phase::FullDisks { share, r#for } => self.fill_disks(*share, r#for.0),
            Phase::Damage { share } => self.damage(*share),
            Phase::Lookups(lookups) => self.look_up(lookups, progress),
            Phase::Fork => {}
            Phase::Measure { what } => self.measure(*what, progress),
            Phase::Heal {
                messages,
                reliability,
                cycles_max,
            } => self.heal(*messages, *reliability, *cycles_max, progress),
        }
    }

    /// Returns up to so many nodes that don't run, the lowest first: others join through them.
    pub(super) fn down(&self, count: u32) -> Vec<NodeId> {
        (0..self.engine.len())
            .filter(|node| !self.engine.is_up(*node))
            .take(count as usize)
            .collect()
    }

    fn start_evenly(
        &mut self,
        nodes: &[NodeId],
        within: Duration,
        progress: &mut dyn FnMut(Progress),
    ) {
        let start = self.engine.now().time;
        let apart = within.as_secs_f64() / nodes.len().max(1) as f64;
        for (index, node) in nodes.iter().enumerate() {
            let at = start + Duration::from_secs_f64(apart * index as f64);
            self.script.plan(&mut self.engine, at, Act::Start(*node));
        }
        self.pass(within.max(Duration::from_micros(1)), progress);
    }

    /// Draws a share of the nodes that run, in random order.
    pub(super) fn draw(&mut self, share: f64) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.engine.up().collect();
        let count = (nodes.len() as f64 * share).round() as usize;
        self.shuffle(&mut nodes, count);
        nodes.truncate(count);
        nodes
    }

    /// Draws the first so many of some nodes from all of them.
    pub(super) fn shuffle(&mut self, nodes: &mut [NodeId], count: usize) {
        for at in 0..count.min(nodes.len()) {
            let other = self.engine.rng().random_range(at..nodes.len());
            nodes.swap(at, other);
        }
    }

    fn publish(&mut self, publish: &Publish, progress: &mut dyn FnMut(Progress)) {
        /// Labels of messages that don't count begin so; no figure is made of them.
        const WARMUP: &str = super::figures::UNCOUNTED;
        let start = self.engine.now().time;
        let every = publish.every.0;
        let all = publish.warmup + publish.messages;
        for index in 0..all {
            let label = if index < publish.warmup {
                WARMUP.to_owned()
            } else {
                publish.label.clone()
            };
            let act = Act::Publish {
                by: publish.by,
                bytes: publish.bytes,
                label,
            };
            self.script
                .plan(&mut self.engine, start + every * index, act);
        }
        if publish.meanwhile {
            return;
        }
        self.pass(every * publish.warmup, progress);
        let before = self.engine.watch.traffic;
        self.pass(every * publish.messages, progress);
        self.overhead(&before, &publish.label);
        self.pass(publish.settle.0, progress);
    }

    /// What was sent since then beside the bytes of messages, in relation to them.
    fn overhead(&mut self, before: &Traffic, label: &str) {
        let now = self.engine.watch.traffic;
        let payload = (now.payload_bytes - before.payload_bytes).max(1) as f64;
        let end = if label.is_empty() {
            String::new()
        } else {
            format!("_{label}")
        };
        let control = (now.control_bytes - before.control_bytes) as f64;
        let header = (now.header_bytes - before.header_bytes) as f64;
        let of_topic = now
            .topic_bytes
            .map(|bytes| bytes - before.topic_bytes.unwrap_or(0));
        let own = of_topic.map_or(control, |bytes| bytes as f64);
        self.set(&format!("control_share{end}"), own / payload);
        self.set(&format!("control_share_node{end}"), control / payload);
        self.set(&format!("header_share{end}"), header / payload);
    }

    fn measure(&mut self, what: Measure, progress: &mut dyn FnMut(Progress)) {
        /// One end of a link has it a link's latency before the other, and where the answer is lost until it is asked for again.
        const HANDSHAKE: Duration = Duration::from_secs(2);
        match what {
            Measure::Graph => {
                let graph = self.graph();
                self.graph_figures(&graph);
                let mut one_sided = graph.asymmetric();
                if !one_sided.is_empty() {
                    self.pass(HANDSHAKE, progress);
                    let after = self.graph().asymmetric();
                    one_sided.retain(|link| after.contains(link));
                }
                self.set("symmetric_share", graph.symmetric_share(one_sided.len()));
            }
            Measure::Ceiling => {
                let ceiling = Graph::of_both_views(&self.engine).ceiling();
                self.set("ceiling", ceiling);
            }
        }
    }

    /// Counts the cycles until messages from random senders reach so large a share of all again.
    fn heal(
        &mut self,
        messages: u32,
        reliability: f64,
        cycles_max: u32,
        progress: &mut dyn FnMut(Progress),
    ) {
        const EVERY: Duration = Duration::from_millis(100);
        /// A message has reached whom it reaches at once after this long: many times the way through the network.
        const ARRIVES: Duration = Duration::from_secs(2);
        let cycle = self.scenario.overlay.cycle();
        let mut cycles = 0;
        loop {
            let label = format!("healing {cycles}{}", self.suffix);
            let now = self.engine.now().time;
            for index in 0..messages {
                let act = Act::Publish {
                    by: By::Random,
                    bytes: 256,
                    label: label.clone(),
                };
                self.script.plan(&mut self.engine, now + EVERY * index, act);
            }
            self.pass(EVERY * messages + ARRIVES, progress);
            let reached = self.reliability(&label);
            self.point("healing", f64::from(cycles), reached);
            if reached >= reliability || cycles >= cycles_max {
                break;
            }
            let passed = self.engine.now().time.since(now);
            self.pass(cycle.saturating_sub(passed), progress);
            cycles += 1;
        }
        self.set("healing_cycles", f64::from(cycles));
    }

    /// Adds a point to a plot.
    pub(super) fn point(&mut self, series: &str, x: f64, y: f64) {
        let name = format!("{series}{}", self.suffix);
        self.series.entry(name).or_default().push((x, y));
    }

    pub(super) fn random_node(&mut self) -> Option<NodeId> {
        random(&mut self.engine)
    }

    pub(super) fn time(&self) -> Time {
        self.engine.now().time
    }
}
