//! Faults of nodes and of the network between them.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use serde::Deserialize;
use weft_overlay::Time;

use super::{Engine, Event, LIVENESS};
use crate::machine::{Down, Fact, Machine, NodeId};

/// How a node dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crash {
    /// Its process does: its links break at once.
    #[default]
    Process,
    /// Its machine does: others notice after [`LIVENESS`].
    Host,
}

/// Which groups of nodes can't reach which others, one way each.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    blocked: BTreeSet<(u8, u8)>,
}

impl<M: Machine> Engine<M> {
    /// Returns whether nothing comes through from one node to another.
    pub(super) fn cuts(&self, from: NodeId, to: NodeId) -> bool {
        if self.blocks.blocked.is_empty() {
            return false;
        }
        let pair = (self.group(from), self.group(to));
        self.blocks.blocked.contains(&pair)
    }

    /// Returns the group of a node.
    pub fn group(&self, node: NodeId) -> u8 {
        self.nodes[node as usize].group
    }

    /// Puts a node into a group.
    pub fn set_group(&mut self, node: NodeId, group: u8) {
        self.nodes[node as usize].group = group;
    }

    /// Lets nothing through from one group to another.
    pub fn block(&mut self, from: u8, to: u8) {
        self.blocks.blocked.insert((from, to));
        if M::HOLDS_LINKS {
            return;
        }
        let mut deaf = Vec::new();
        for (at, slot) in (0..).zip(&self.nodes) {
            for end in &slot.links {
                if self.group(end.peer) == from && slot.group == to {
                    deaf.push((at, end.peer, end.number));
                }
            }
        }
        for (at, peer, link) in deaf {
            self.watch_silence(at, peer, link);
        }
    }

    /// Lets everything through again.
    pub fn unblock(&mut self) {
        self.blocks.blocked.clear();
    }

    fn watch_silence(&mut self, at: NodeId, peer: NodeId, link: u32) {
        // The heartbeats of different links are not in step.
        let noticed = LIVENESS - Duration::from_micros(self.rng.random_range(0..500_000));
        let event = Event::Silent { at, peer, link };
        self.queue.push(self.now + noticed, event);
    }

    /// Ends a node's process without a word.
    pub fn crash(&mut self, node: NodeId, how: Crash) {
        let slot = &mut self.nodes[node as usize];
        if slot.machine.take().is_none() {
            return;
        }
        slot.held = None;
        let links = std::mem::take(&mut slot.links);
        self.watch.ended(self.now, node);
        for end in links {
            let after = match how {
                Crash::Process => self.latency(node, end.peer),
                Crash::Host => LIVENESS,
            };
            let event = Event::Down {
                at: end.peer,
                peer: node,
                link: end.number,
                why: Down::Broken,
            };
            self.queue.push(self.now + after, event);
        }
    }

    /// Stops a node's process: nothing happens to it until it is resumed.
    pub fn hang(&mut self, node: NodeId) {
        let slot = &mut self.nodes[node as usize];
        if slot.machine.is_none() || slot.held.is_some() {
            return;
        }
        slot.held = Some(Vec::new());
        if M::HOLDS_LINKS {
            return;
        }
        for end in slot.links.clone() {
            self.watch_silence(end.peer, node, end.number);
        }
    }

    /// Lets a stopped process go on: all that has happened to it meanwhile happens now, in order.
    pub fn resume(&mut self, node: NodeId) {
        let Some(held) = self.nodes[node as usize].held.take() else {
            return;
        };
        self.tell(node, Fact::Woken);
        for event in held {
            // Its wake-ups are planned anew below.
            if !matches!(event, Event::Wake { .. }) {
                self.happen(event);
            }
        }
        let slot = &mut self.nodes[node as usize];
        slot.wake = Time::NEVER;
        slot.wake_after = Time::NEVER;
        self.settle(node);
    }

    /// Makes a node take so long for each frame.
    pub fn slow(&mut self, node: NodeId, slowness: Duration) {
        self.some_are_slow |= !slowness.is_zero();
        self.nodes[node as usize].slowness = slowness;
    }

    /// Draws a running node other than this one.
    pub fn random_other(&mut self, than: NodeId) -> Option<NodeId> {
        /// Draws before the running nodes are listed: nearly always the first will do.
        const DRAWS: usize = 64;
        for _ in 0..DRAWS {
            let drawn = self.rng.random_range(0..self.len());
            if drawn != than && self.is_up(drawn) {
                return Some(drawn);
            }
        }
        let others: Vec<NodeId> = self.up().filter(|node| *node != than).collect();
        (!others.is_empty()).then(|| others[self.rng.random_range(0..others.len())])
    }
}
