//! A node of a network, and the disk that survives it.

use std::collections::{BTreeMap, BTreeSet};

use super::Id;
use crate::kv::{Header, KvKey, Record, Seq};
use crate::store::{Claim, Config, DiskError, Event, Loaded, Op, OrderId, Restored, Store};
use crate::testing::{TestContact, TestPeer};
use crate::{Contact, Time};

/// What is on a node's disk. It survives the node.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Disk {
    pub(in super::super) records: BTreeMap<(KvKey, Id), Record<TestPeer>>,
    pub(super) hints: BTreeSet<(TestPeer, KvKey, Id)>,
    pub(super) owned: BTreeMap<KvKey, Header<TestPeer>>,
    pub(super) dots: BTreeMap<KvKey, Seq>,
    pub(super) claims: BTreeMap<TestPeer, (TestContact, Claim<TestPeer>)>,
    pub(super) corrupt: BTreeSet<(KvKey, Id)>,
    /// What writing comes to.
    pub(in super::super) fails: Option<DiskError>,
}

impl Disk {
    pub(super) fn apply(&mut self, op: Op<TestContact>) {
        match op {
            Op::PutRecord(record) => {
                let at = (record.header.key.clone(), record.header.id());
                self.corrupt.remove(&at);
                self.records.insert(at, record);
            }
            Op::DropRecord { key, id } => {
                self.corrupt.remove(&(key.clone(), id));
                self.records.remove(&(key, id));
            }
            Op::PutHint { replica, key, id } => {
                self.hints.insert((replica, key, id));
            }
            Op::DropHint { replica, key, id } => {
                self.hints.remove(&(replica, key, id));
            }
            Op::PutOwned(record) => {
                self.owned.insert(record.header.key.clone(), record.header);
            }
            Op::DropOwned { key } => {
                self.owned.remove(&key);
            }
            Op::PutDot { key, seq } => drop(self.dots.insert(key, seq)),
            Op::DropDot { key } => drop(self.dots.remove(&key)),
            Op::PutClaim { contact, claim } => {
                self.claims.insert(contact.peer(), (contact, claim));
            }
            Op::DropClaim { peer } => {
                self.claims.remove(&peer);
            }
        }
    }

    pub(super) fn load(&self, at: &(KvKey, Id)) -> Loaded<TestPeer> {
        if self.corrupt.contains(at) {
            return Loaded::Corrupt;
        }
        let record = self.records.get(at).cloned();
        record.map_or(Loaded::Missing, |record| Loaded::Record(Box::new(record)))
    }

    /// Reads all that there is, as a start does: what has rotted is found.
    pub(super) fn restore(&self, epoch: u64) -> Restored<TestContact> {
        let whole = self.records.iter();
        let whole = whole.filter(|(at, _)| !self.corrupt.contains(*at));
        Restored {
            epoch,
            records: whole.map(|(_, record)| record.header.clone()).collect(),
            hints: self.hints.iter().cloned().collect(),
            owned: self.owned.values().cloned().collect(),
            dots: self.dots.iter().map(|(k, &seq)| (k.clone(), seq)).collect(),
            claims: self.claims.values().cloned().collect(),
            lost: self.corrupt.iter().cloned().collect(),
        }
    }

    /// Lets it forget which dots were given out, as one that was replaced has.
    pub(in super::super) fn lose_dots(&mut self) {
        self.dots.clear();
    }

    /// Lets a record rot.
    pub(in super::super) fn rot(&mut self, of: &KvKey) {
        let at = self.records.keys().find(|(key, _)| key == of);
        self.corrupt.extend(at.cloned());
    }

    /// Lets one record of several rot.
    pub(in super::super) fn rot_one(&mut self, at: (KvKey, Id)) {
        assert!(self.records.contains_key(&at));
        self.corrupt.insert(at);
    }
}

/// A node, running or not.
pub(in super::super) struct Node {
    pub(in super::super) store: Option<Store<TestContact>>,
    pub(in super::super) disk: Disk,
    pub(super) config: Config,
    /// What is being written: nobody knows whether a crash leaves it.
    pub(super) writing: Option<(OrderId, Vec<Op<TestContact>>)>,
    pub(super) runs: u64,
    /// The last record that was signed outside of its store.
    pub(super) apart: u64,
    /// How far its wall clock is ahead, in microseconds.
    pub(in super::super) ahead: i64,
    /// The side of a split on which it is.
    pub(super) side: u8,
    pub(in super::super) events: Vec<Event<TestPeer>>,
    /// When it stopped or started, and when it was settled after that.
    pub(in super::super) unsettled: Vec<(Time, Option<Time>)>,
    /// When it was not running.
    pub(super) away: Vec<(Time, Time)>,
    /// Whether it is on its way out in order, and when others had taken its places.
    pub(super) leaving: bool,
    pub(in super::super) left: Option<Time>,
}

impl Node {
    /// Begins a change of the membership, unless one is under way.
    pub(super) fn changes(&mut self, now: Time) {
        let settled = self.unsettled.last().is_none_or(|last| last.1.is_some());
        if settled && self.left.is_none() {
            self.unsettled.push((now, None));
        }
    }

    /// Ends it.
    pub(super) fn changed(&mut self, now: Time) {
        if let Some(last) = self.unsettled.last_mut() {
            last.1.get_or_insert(now);
        }
    }

    /// Whether it was on its way in or out at a moment.
    pub(in super::super) fn is_changing(&self, at: Time) -> bool {
        let changes = self.unsettled.iter();
        changes
            .filter(|(begun, _)| *begun <= at)
            .any(|(_, settled)| settled.is_none_or(|settled| at <= settled))
    }
}
