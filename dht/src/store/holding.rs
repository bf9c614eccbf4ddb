//! What a replica holds, and for whom else it keeps some of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Peer;
use crate::kv::{Index, KvKey, RecordId};

use super::config::{HINTS_MAX, HINTS_PER_REPLICA_MAX};

/// What a replica holds. Hints are records like others, with a mark.
#[derive(Debug)]
pub(super) struct Holding<P> {
    pub(super) index: Index<P>,
    /// For whom this node stands in, with which records.
    hints: BTreeMap<P, BTreeSet<(KvKey, RecordId<P>)>>,
    hints_len: usize,
}

impl<P: Peer> Holding<P> {
    pub(super) fn new() -> Self {
        Self {
            index: Index::default(),
            hints: BTreeMap::new(),
            hints_len: 0,
        }
    }

    /// Returns whether a record, or one that covers it, is held.
    pub(super) fn has(&self, key: &KvKey, id: &RecordId<P>) -> bool {
        let slot = self.index.slot(key);
        slot.is_some_and(|slot| slot.siblings().has(id))
    }

    /// Returns whether one more hint may be kept for a replica.
    pub(super) fn may_hint(&self, replica: P) -> bool {
        let for_it = self.hints.get(&replica).map_or(0, BTreeSet::len);
        for_it < HINTS_PER_REPLICA_MAX && self.hints_len < HINTS_MAX
    }

    pub(super) fn hint(&mut self, replica: P, key: KvKey, id: RecordId<P>) {
        let new = self.hints.entry(replica).or_default().insert((key, id));
        self.hints_len += usize::from(new);
    }

    pub(super) fn drop_hint(&mut self, replica: P, key: &KvKey, id: RecordId<P>) {
        let Some(hints) = self.hints.get_mut(&replica) else {
            return;
        };
        self.hints_len -= usize::from(hints.remove(&(key.clone(), id)));
        if hints.is_empty() {
            self.hints.remove(&replica);
        }
    }

    /// Returns the hints that are kept for a replica.
    pub(super) fn hints_for(&self, replica: P) -> impl Iterator<Item = &(KvKey, RecordId<P>)> {
        self.hints.get(&replica).into_iter().flatten()
    }

    /// Returns for whom hints are kept.
    pub(super) fn hinted(&self) -> impl Iterator<Item = P> {
        self.hints.keys().copied()
    }

    /// Returns whether a record is kept as a hint for anybody.
    pub(super) fn is_hint(&self, key: &KvKey, id: RecordId<P>) -> bool {
        let hint = (key.clone(), id);
        self.hints.values().any(|hints| hints.contains(&hint))
    }

    /// Returns how many hints are kept.
    pub(super) fn hints_len(&self) -> usize {
        self.hints_len
    }
}
