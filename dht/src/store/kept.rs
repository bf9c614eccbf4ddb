//! What lies on a node's disk, as a value: for nodes that have none, and for networks in virtual time, whose nodes come back
//! with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Contact;
use crate::kv::{KvKey, Record, RecordId, Seq};

use super::{Claim, Loaded, Op, Restored};

/// Which record of which key.
type At<P> = (KvKey, RecordId<P>);

/// What lies on a node's disk. It holds whatever was written, as a disk does: bounds are the store's.
#[derive(Clone, Debug)]
pub struct Kept<C: Contact> {
    records: BTreeMap<At<C::Peer>, Record<C::Peer>>,
    hints: BTreeSet<(C::Peer, KvKey, RecordId<C::Peer>)>,
    owned: BTreeMap<KvKey, Record<C::Peer>>,
    dots: BTreeMap<KvKey, Seq>,
    claims: BTreeMap<C::Peer, (C, Claim<C::Peer>)>,
}

impl<C: Contact> Default for Kept<C> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            hints: BTreeSet::new(),
            owned: BTreeMap::new(),
            dots: BTreeMap::new(),
            claims: BTreeMap::new(),
        }
    }
}

impl<C: Contact> Kept<C> {
    /// Carries out a batch.
    pub fn write(&mut self, ops: Vec<Op<C>>) {
        for op in ops {
            match op {
                Op::PutRecord(record) => {
                    let at = (record.header.key.clone(), record.header.id());
                    self.records.insert(at, record);
                }
                Op::DropRecord { key, id } => drop(self.records.remove(&(key, id))),
                Op::PutHint { replica, key, id } => drop(self.hints.insert((replica, key, id))),
                Op::DropHint { replica, key, id } => drop(self.hints.remove(&(replica, key, id))),
                Op::PutOwned(record) => {
                    self.owned.insert(record.header.key.clone(), record);
                }
                Op::DropOwned { key } => drop(self.owned.remove(&key)),
                Op::PutDot { key, seq } => drop(self.dots.insert(key, seq)),
                Op::DropDot { key } => drop(self.dots.remove(&key)),
                Op::PutClaim { contact, claim } => {
                    self.claims.insert(contact.peer(), (contact, claim));
                }
                Op::DropClaim { peer } => drop(self.claims.remove(&peer)),
            }
        }
    }

    /// Reads records.
    pub fn load(&self, wanted: &[At<C::Peer>]) -> Vec<Loaded<C::Peer>> {
        let found = wanted.iter().map(|at| self.records.get(at).cloned());
        let loaded = found.map(|record| match record {
            Some(record) => Loaded::Record(Box::new(record)),
            None => Loaded::Missing,
        });
        loaded.collect()
    }

    /// Returns which records there are.
    pub fn records(&self) -> impl Iterator<Item = &At<C::Peer>> {
        self.records.keys()
    }

    /// Returns what a store begins with that is started on it, but for its run's number.
    pub fn restore(&self) -> Restored<C> {
        Restored {
            epoch: 0,
            records: self.records.values().map(|r| r.header.clone()).collect(),
            hints: self.hints.iter().cloned().collect(),
            owned: self.owned.values().map(|r| r.header.clone()).collect(),
            dots: self.dots.iter().map(|(k, &seq)| (k.clone(), seq)).collect(),
            claims: self.claims.values().cloned().collect(),
            lost: Vec::new(),
        }
    }
}
