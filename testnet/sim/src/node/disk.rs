//! A simulated node's disk: what was synced outlives the process, what was not is gone with it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weft_core::PeerContact;
use weft_core::log::{self, LogOp, RestoredTopic};
use weft_dht::kv::{Header, KvKey, RecordId};
use weft_dht::store::{DiskError, Kept, Loaded, Op, Restored};
use weft_identity::PeerId;

use crate::machine::NodeId;

/// Which record of which key.
type At = (KvKey, RecordId<PeerId>);

/// What one node has synced.
#[derive(Debug, Default)]
pub struct Disk {
    kept: Kept<PeerContact>,
    logs: log::Kept,
    /// Records of which a bit has flipped.
    damaged: BTreeSet<At>,
    /// Nothing can be written.
    pub full: bool,
}

impl Disk {
    /// Writes a batch, or nothing of it.
    pub(super) fn write(&mut self, ops: Vec<Op<PeerContact>>) -> Result<(), DiskError> {
        if self.full {
            return Err(DiskError::Full);
        }
        for op in &ops {
            match op {
                Op::PutRecord(record) => {
                    let at = (record.header.key.clone(), record.header.id());
                    self.damaged.remove(&at);
                }
                Op::DropRecord { key, id } => drop(self.damaged.remove(&(key.clone(), *id))),
                _ => {}
            }
        }
        self.kept.write(ops);
        Ok(())
    }

    pub(super) fn read(&self, wanted: &[At]) -> Vec<Loaded<PeerId>> {
        let loaded = self.kept.load(wanted).into_iter().zip(wanted);
        let read = loaded.map(|(loaded, at)| match loaded {
            Loaded::Record(_) if self.damaged.contains(at) => Loaded::Corrupt,
            loaded => loaded,
        });
        read.collect()
    }

    /// Writes changes of topics' logs, or nothing of them.
    pub(super) fn record(&mut self, ops: Vec<LogOp>) -> Result<(), DiskError> {
        if self.full {
            return Err(DiskError::Full);
        }
        self.logs.write(ops);
        Ok(())
    }

    /// Returns what a node begins with that is started on it. All is checked then, and what is damaged is found.
    pub(super) fn begin(&mut self) -> (Restored<PeerContact>, Vec<RestoredTopic>) {
        let mut restored = self.kept.restore();
        let damaged = |header: &mut Header<PeerId>| {
            let at = (header.key.clone(), header.id());
            self.damaged.contains(&at)
        };
        let lost = restored.records.extract_if(.., damaged);
        restored.lost = lost
            .map(|header| (header.key.clone(), header.id()))
            .collect();
        (restored, self.logs.restore())
    }
}

/// The disks of all nodes of a simulation.
#[derive(Debug, Default)]
pub struct Disks(Vec<Mutex<Disk>>);

impl Disks {
    /// Makes the empty disks of so many nodes.
    pub fn new(nodes: u32) -> Self {
        Self((0..nodes).map(|_| Mutex::default()).collect())
    }

    /// Flips a bit of one record of a node's, the how-manyth follows from a number; returns whether there was one.
    ///
    /// No record is damaged at two nodes: a write is acknowledged once two have it, so with both copies gone nothing could be
    /// asked of the store.
    pub fn damage(&self, node: NodeId, number: usize) -> bool {
        let damaged: BTreeSet<At> = (0..self.0.len() as NodeId)
            .flat_map(|node| self.of(node).damaged.clone())
            .collect();
        let mut disk = self.of(node);
        let places = disk.kept.records().filter(|it| !damaged.contains(*it));
        let places: Vec<At> = places.cloned().collect();
        let place = number
            .checked_rem(places.len())
            .map(|at| places[at].clone());
        place.is_some_and(|place| disk.damaged.insert(place))
    }

    /// Returns a node's disk.
    pub fn of(&self, node: NodeId) -> MutexGuard<'_, Disk> {
        let disk = &self.0[node as usize];
        disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
