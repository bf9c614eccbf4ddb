//! What a network has come to, from outside.

use super::{Network, Node};
use crate::kv::{Header, KvKey, Siblings};
use crate::store::Store;
use crate::testing::{TestContact, TestPeer};
use crate::{Peer, Time};

impl Network {
    /// Notes which of those that are away everybody has given up: that change is settled.
    pub(super) fn note_replaced(&mut self) {
        let up: Vec<&Store<TestContact>> = self
            .nodes
            .values()
            .filter_map(|n| n.store.as_ref())
            .collect();
        let given_up = |id: u32| {
            up.iter().all(|store| {
                let claim = store.members.own().map(crate::store::claim::Region::claim);
                claim.is_none_or(|claim| claim.of(TestPeer(id)).is_none_or(|known| known.gone))
            })
        };
        let down = self.nodes.iter().filter(|(_, node)| node.store.is_none());
        let gone: Vec<u32> = down.map(|(&id, _)| id).filter(|&id| given_up(id)).collect();
        let time = self.time;
        for id in gone {
            self.nodes.get_mut(&id).unwrap().changed(time);
        }
    }

    /// The nodes that were part of the network at a moment: those that had begun to join, without those that everybody had
    /// given up or that had left.
    pub(in super::super) fn members(&self, at: Time) -> Vec<u32> {
        let was_there = |node: &Node| {
            let changes = node.unsettled.iter().rev();
            let mut before = changes.filter(|(begun, _)| *begun <= at);
            let Some((_, settled)) = before.next() else {
                return false;
            };
            let is_away = node.away.iter().any(|&(from, to)| from < at && at < to);
            let given_up = is_away && settled.is_some_and(|settled| settled < at);
            !given_up && node.left.is_none_or(|left| at <= left)
        };
        let there = self.nodes.iter().filter(|(_, node)| was_there(node));
        there.map(|(&id, _)| id).collect()
    }

    /// The nodes that are up by their distance from a key.
    pub(in super::super) fn closest(&self, key: &KvKey) -> Vec<u32> {
        let mut up = self.up();
        up.sort_by_key(|&id| TestPeer(id).point() ^ key.point());
        up
    }

    /// What lies on a node's disk of a key.
    pub(in super::super) fn held(&self, id: u32, of: &KvKey) -> Siblings<Header<TestPeer>> {
        let unix = self.now(id).unix;
        let mut held = Siblings::new();
        for ((key, _), record) in &self.nodes[&id].disk.records {
            if key == of {
                held.merge(record.header.clone(), unix).unwrap();
            }
        }
        held
    }

    /// The sum of a counter over all nodes that are up.
    pub(in super::super) fn total(&self, of: impl Fn(crate::store::Counters) -> u64) -> u64 {
        let up = self.nodes.values().filter_map(|node| node.store.as_ref());
        up.map(|store| of(store.counters())).sum()
    }
}
