//! A simulated node's disk: what was synced outlives the process, what was not is gone with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weft_core::PeerContact;
use weft_dht::Contact;
use weft_dht::kv::{KvKey, Record, RecordId};
use weft_dht::store::{Claim, DiskError, Loaded, Op, Restored};
use weft_identity::PeerId;

use crate::machine::NodeId;

/// What one node has synced.
#[derive(Debug, Default)]
pub struct Disk {
    records: BTreeMap<(KvKey, RecordId<PeerId>), Record<PeerId>>,
    hints: BTreeSet<(PeerId, KvKey, RecordId<PeerId>)>,
    owned: BTreeMap<KvKey, Record<PeerId>>,
    claims: BTreeMap<PeerId, (PeerContact, Claim<PeerId>)>,
    /// Records of which a bit has flipped.
    damaged: BTreeSet<(KvKey, RecordId<PeerId>)>,
    /// Nothing can be written.
    pub full: bool,
}

impl Disk {
    /// Writes a batch, or nothing of it.
    pub(super) fn write(&mut self, ops: Vec<Op<PeerContact>>) -> Result<(), DiskError> {
        if self.full {
            return Err(DiskError::Full);
        }
        for op in ops {
            self.apply(op);
        }
        Ok(())
    }

    fn apply(&mut self, op: Op<PeerContact>) {
        match op {
            Op::PutRecord(record) => {
                let place = (record.header.key.clone(), record.header.id());
                self.damaged.remove(&place);
                self.records.insert(place, record);
            }
            Op::DropRecord { key, id } => {
                self.damaged.remove(&(key.clone(), id));
                self.records.remove(&(key, id));
            }
            Op::PutHint { replica, key, id } => {
                self.hints.insert((replica, key, id));
            }
            Op::DropHint { replica, key, id } => {
                self.hints.remove(&(replica, key, id));
            }
            Op::PutOwned(record) => {
                self.owned.insert(record.header.key.clone(), record);
            }
            Op::DropOwned { key } => {
                self.owned.remove(&key);
            }
            Op::PutClaim { contact, claim } => {
                self.claims
                    .insert(Contact::peer(&contact), (contact, claim));
            }
            Op::DropClaim { peer } => {
                self.claims.remove(&peer);
            }
        }
    }

    pub(super) fn read(&self, wanted: Vec<(KvKey, RecordId<PeerId>)>) -> Vec<Loaded<PeerId>> {
        let read = |place: (KvKey, RecordId<PeerId>)| match self.records.get(&place) {
            Some(_) if self.damaged.contains(&place) => Loaded::Corrupt,
            Some(record) => Loaded::Record(Box::new(record.clone())),
            None => Loaded::Missing,
        };
        wanted.into_iter().map(read).collect()
    }

    pub(super) fn restored(&self) -> Restored<PeerContact> {
        let headers = |records: &mut dyn Iterator<Item = &Record<PeerId>>| {
            records.map(|record| record.header.clone()).collect()
        };
        Restored {
            records: headers(&mut self.records.values()),
            hints: self.hints.iter().cloned().collect(),
            owned: headers(&mut self.owned.values()),
            claims: self.claims.values().cloned().collect(),
            lost: Vec::new(),
        }
    }

    /// Flips a bit of one record, the how-manyth follows from a number; returns whether there was one.
    pub fn damage(&mut self, number: usize) -> bool {
        let places = self.records.keys().filter(|it| !self.damaged.contains(*it));
        let places: Vec<_> = places.cloned().collect();
        let Some(place) = places.get(number.checked_rem(places.len()).unwrap_or(0)) else {
            return false;
        };
        self.damaged.insert(place.clone())
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

    /// Returns a node's disk.
    pub fn of(&self, node: NodeId) -> MutexGuard<'_, Disk> {
        let disk = &self.0[node as usize];
        disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
