//! The disks of a network's nodes, and the places of their logs: none is given out twice, whatever a crash takes with it.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_core::log::{LogOp, WriteId};
use weft_core::{Output, TopicName};
use weft_dht::store::DiskError;

use super::net::{Event, Net};

/// How long a sync takes: a good disk to a slow one.
const SYNC_MS: std::ops::Range<u64> = 1..40;

impl Net {
    /// Takes in what a node that has just started says of the logs that it had.
    pub(super) fn take_restored(&mut self, node: usize) {
        let mut live = self.nodes[node].take().expect("it was just started");
        let mut rest = Vec::new();
        while let Some(output) = live.core.poll_output() {
            rest.push(output);
        }
        self.nodes[node] = Some(live);
        for output in rest {
            match output {
                Output::BeginLog { topic, life, .. } => self.begin_log(node, topic, life),
                Output::Deliver { topic, place, item } => {
                    let (_, last) = self.places[&(node, topic.clone())];
                    assert!(place <= last, "it was given out before");
                    self.deliver(node, &topic, item);
                }
                // What stood below is gone; readers of this test have read it.
                Output::TrimLog { .. } => {}
                other => panic!("a node that starts orders {other:?}"),
            }
        }
    }

    pub(super) fn begin_log(&mut self, node: usize, topic: TopicName, life: u64) {
        let place = self.places.entry((node, topic)).or_default();
        if place.0 != life {
            *place = (life, 0);
        }
    }

    pub(super) fn gave_out(&mut self, node: usize, topic: &TopicName, place: u64) {
        let given = self.places.get_mut(&(node, topic.clone()));
        let (_, last) = given.expect("its log has begun");
        assert!(place > *last, "n{node}: place {place} after {last}");
        *last = place;
    }

    pub(super) fn order_sync(&mut self, node: usize, id: WriteId, ops: Vec<LogOp>) {
        let epoch = self.node(node).epoch;
        // Of its own, so that disks change nothing else about a seed.
        let mut rng = ChaCha8Rng::seed_from_u64(epoch ^ id.0 << 8 ^ node as u64);
        let after = Duration::from_millis(rng.random_range(SYNC_MS));
        let synced = Event::Synced {
            node,
            epoch,
            id,
            ops,
        };
        self.at(after, synced);
    }

    pub(super) fn sync(&mut self, node: usize, ops: Vec<LogOp>) -> Result<(), DiskError> {
        if self.full.contains(&node) {
            return Err(DiskError::Full);
        }
        self.disks[node].write(ops);
        Ok(())
    }
}
