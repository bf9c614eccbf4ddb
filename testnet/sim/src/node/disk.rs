//! A simulated node's disk: what was synced outlives the process, what was not is gone with it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weft_core::log::{self, LogOp, RestoredTopic, WriteId};
use weft_core::{Input, PeerContact};
use weft_dht::kv::{Header, KvKey, RecordId};
use weft_dht::store::{DiskError, Kept, Loaded, Op, OrderId, Restored};
use weft_identity::PeerId;
use weft_overlay::Time;

use crate::machine::NodeId;

/// How long a batch takes to be synced. A guess: a good disk's fdatasync.
const SYNCED_AFTER: Duration = Duration::from_millis(2);
/// How long records take to be read. A guess: from a cache, or from flash.
const READ_AFTER: Duration = Duration::from_micros(200);

/// Which record of which key.
type At = (KvKey, RecordId<PeerId>);

/// What a disk is to do.
#[derive(Debug)]
pub(super) enum DiskOrder {
    Write(OrderId, Vec<Op<PeerContact>>),
    Read(OrderId, Vec<At>),
    Log(WriteId, Vec<LogOp>),
}

impl DiskOrder {
    fn takes(&self) -> Duration {
        match self {
            Self::Write(..) | Self::Log(..) => SYNCED_AFTER,
            Self::Read(..) => READ_AFTER,
        }
    }
}

/// What a process has ordered, and when each order is done. What isn't done when it dies never will be.
#[derive(Debug, Default)]
pub(super) struct DiskOrders(VecDeque<(Time, DiskOrder)>);

impl DiskOrders {
    /// Queues an order. One is done after the other: a disk has one arm.
    pub(super) fn push(&mut self, order: DiskOrder, now: Time) {
        let last = self.0.back().map_or(now, |(at, _)| *at);
        let at = last.max(now) + order.takes();
        self.0.push_back((at, order));
    }

    /// Takes out the next order, if it is done.
    pub(super) fn take_done(&mut self, now: Time) -> Option<DiskOrder> {
        self.0.front().filter(|(at, _)| *at <= now)?;
        self.0.pop_front().map(|(_, order)| order)
    }

    /// Returns when the next order is done.
    pub(super) fn next(&self) -> Time {
        self.0.front().map_or(Time::NEVER, |(at, _)| *at)
    }
}

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
    /// Carries an order out, and returns what the core is told.
    pub(super) fn carry_out(&mut self, order: DiskOrder) -> Input {
        match order {
            DiskOrder::Write(id, ops) => {
                let result = self.write(ops);
                Input::Persisted { id, result }
            }
            DiskOrder::Read(id, wanted) => {
                let records = self.read(&wanted);
                Input::Loaded { id, records }
            }
            DiskOrder::Log(id, ops) => {
                let result = self.record(ops);
                Input::Recorded { id, result }
            }
        }
    }

    /// Writes a batch, or nothing of it.
    fn write(&mut self, ops: Vec<Op<PeerContact>>) -> Result<(), DiskError> {
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

    fn read(&self, wanted: &[At]) -> Vec<Loaded<PeerId>> {
        let loaded = self.kept.load(wanted).into_iter().zip(wanted);
        let read = loaded.map(|(loaded, at)| match loaded {
            Loaded::Record(_) if self.damaged.contains(at) => Loaded::Corrupt,
            loaded => loaded,
        });
        read.collect()
    }

    /// Writes changes of topics' logs, or nothing of them.
    fn record(&mut self, ops: Vec<LogOp>) -> Result<(), DiskError> {
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
