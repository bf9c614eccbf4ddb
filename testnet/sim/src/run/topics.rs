//! Many topics: whether each swarm is whole and delivers, and how many links its nodes have for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::figures::mean;
use super::{Progress, Runner};
use crate::machine::{Fact, Machine, NodeId};
use crate::scenario::Topics;

/// How long a message has to reach everybody.
const ARRIVES: Duration = Duration::from_secs(5);
/// How often links are counted.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

impl<M: Machine> Runner<'_, M> {
    /// Members of each topic are drawn, subscribe, and settle; then one of each publishes.
    pub(super) fn topics(&mut self, topics: &Topics, progress: &mut dyn FnMut(Progress)) {
        let all: Vec<NodeId> = self.engine.up().collect();
        let mut members = Vec::new();
        let mut of_node: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        for topic in 0..topics.count {
            let mut drawn = all.clone();
            self.shuffle(&mut drawn, topics.members);
            drawn.truncate(topics.members);
            for node in &drawn {
                of_node.entry(*node).or_default().push(topic);
            }
            members.push(drawn);
        }
        let apart = topics.within.0 / u32::try_from(of_node.len().max(1)).unwrap_or(1);
        for (node, topics) in of_node {
            self.engine.tell(node, Fact::SubscribeTo(topics));
            self.pass(apart, progress);
        }
        self.pass(topics.settle.0, progress);
        for (topic, members) in (0..).zip(&members) {
            if let Some(publisher) = members.first() {
                self.engine.tell(*publisher, Fact::PublishOn(topic));
            }
        }
        let (mut shared, mut all) = (BTreeMap::new(), BTreeMap::new());
        let end = self.time() + ARRIVES.max(topics.counted.0);
        while self.time() < end {
            self.pass(COUNTED_EVERY, progress);
            for (node, machine) in self.engine.machines() {
                let links = machine.links();
                for (most, count) in [(&mut shared, links.shared), (&mut all, links.all)] {
                    let most: &mut usize = most.entry(node).or_default();
                    *most = count.max(*most);
                }
            }
        }
        for (name, most) in [("shared_links", shared), ("links", all)] {
            let each = || most.values().map(|count| *count as f64);
            self.set(&format!("{name}_max"), each().fold(0.0, f64::max));
            self.set(&format!("{name}_mean"), mean(each()));
        }
        self.topic_figures(&members);
    }

    fn topic_figures(&mut self, members: &[Vec<NodeId>]) {
        let (mut whole, mut neighbours, mut owed, mut delivered) = (0.0, Vec::new(), 0.0, 0.0);
        for (topic, members) in (0..).zip(members) {
            // Keepers are in the swarm as well, and messages go through them.
            let in_swarm = self.engine.machines();
            let in_swarm =
                in_swarm.filter_map(|(node, it)| Some((node, it.of_topic(topic)?.neighbours)));
            let mut views: BTreeMap<NodeId, Vec<NodeId>> = in_swarm.collect();
            for node in members {
                let machine = self.engine.machine(*node);
                let seen = machine.and_then(|machine| machine.of_topic(topic));
                let seen = seen.unwrap_or_default();
                owed += 1.0;
                delivered += f64::from(seen.delivered.min(1));
                neighbours.push(seen.neighbours.len() as f64);
                // Whoever is not in it, though it should be, is a part of its own.
                views.entry(*node).or_default();
            }
            whole += f64::from(u8::from(is_whole(&views)));
        }
        self.set("swarms_whole", whole / members.len().max(1) as f64);
        self.set("topic_neighbours", mean(neighbours.into_iter()));
        self.set("topics_delivered", delivered / f64::max(owed, 1.0));
    }
}

/// Returns whether all reach each other over links that both ends have.
fn is_whole(views: &BTreeMap<NodeId, Vec<NodeId>>) -> bool {
    let has = |at: &NodeId, peer: &NodeId| views.get(at).is_some_and(|view| view.contains(peer));
    let mut reached: BTreeSet<NodeId> = views.keys().next().copied().into_iter().collect();
    let mut ends: Vec<NodeId> = reached.iter().copied().collect();
    while let Some(end) = ends.pop() {
        for peer in &views[&end] {
            if has(peer, &end) && reached.insert(*peer) {
                ends.push(*peer);
            }
        }
    }
    reached.len() == views.len()
}
