//! What a node needn't hold any more: records that have ended, and records of which it is no replica now. The latter
//! it drops once each of the n settled replicas has confirmed that it holds them, or what covers them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::kv::{KvKey, RecordId};
use crate::{Contact, Now, Peer, Time};

use super::config::{BATCH_MAX, DROPS_MAX};
use super::disk::{Then, Write};
use super::messages::{Answer, Query};
use super::{Purpose, Store};

/// Keys that are looked at in one go: some milliseconds.
const LOOKED_AT_MAX: usize = 2_048;

/// A record that others should hold, and who hasn't said so yet.
#[derive(Debug)]
struct Former<P> {
    key: KvKey,
    id: RecordId<P>,
    left: BTreeSet<P>,
}

/// What may be dropped.
#[derive(Debug)]
pub(super) struct Drops<P> {
    wake: Time,
    /// Up to where the keys were looked at.
    cursor: Option<KvKey>,
    former: Vec<Former<P>>,
    /// What each peer was asked to confirm, as places in `former`.
    asked: BTreeMap<P, Vec<usize>>,
}

impl<P: Peer> Drops<P> {
    pub(super) fn new(wake: Time) -> Self {
        Self {
            wake,
            cursor: None,
            former: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    pub(super) fn wake_at(&self) -> Time {
        self.wake
    }
}

impl<C: Contact> Store<C> {
    /// Drops what has ended.
    pub(super) fn expire(&mut self, now: Now) {
        let ended = self.holding.index.ended(now.unix).take(BATCH_MAX);
        let ended: Vec<_> = ended.map(|held| (held.key.clone(), held.id())).collect();
        self.counters.expired += ended.len() as u64;
        if !ended.is_empty() {
            self.disk.write(Write::Drop(ended), Then::Nothing);
        }
    }

    pub(super) fn drops_due(&mut self, now: Now) {
        if self.drops.wake > now.time {
            return;
        }
        self.drops.wake = now.time + self.config.sync_interval;
        if self.drops.asked.is_empty() && self.members.recovered() {
            self.look_for_former(now);
        }
    }

    /// Finds records of which this node is no replica now, and asks their replicas.
    fn look_for_former(&mut self, now: Now) {
        let from = self.drops.cursor.take();
        let from = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut former: Vec<Former<C::Peer>> = Vec::new();
        let mut last = None;
        for (looked_at, (key, slot)) in self.holding.index.slots(from).enumerate() {
            if looked_at >= LOOKED_AT_MAX || former.len() >= DROPS_MAX {
                last = Some(key.clone());
                break;
            }
            for held in slot.siblings() {
                let n = usize::from(held.copies);
                if !self.members.is_outside(slot.point(), n) || self.holding.is_hint(key, held.id())
                {
                    continue;
                }
                let replicas = self.members.sight(slot.point(), n).peers.into_iter();
                let settled = replicas.filter(|seen| seen.settled && seen.alive);
                let left: BTreeSet<C::Peer> = settled.map(|seen| seen.contact.peer()).collect();
                if left.len() >= n {
                    former.push(Former {
                        key: key.clone(),
                        id: held.id(),
                        left,
                    });
                }
            }
        }
        if last.is_some() {
            // The rest is looked at soon.
            self.drops.wake = now.time + super::config::RETRY;
        }
        self.drops.cursor = last;
        let mut asked: BTreeMap<C::Peer, Vec<usize>> = BTreeMap::new();
        for (at, record) in former.iter().enumerate() {
            for &peer in &record.left {
                asked.entry(peer).or_default().push(at);
            }
        }
        self.drops.former = former;
        self.drops.asked = asked.clone();
        for (peer, places) in asked {
            let Some(contact) = self.members.get(peer).map(|m| m.contact.clone()) else {
                continue;
            };
            let records = places.iter().filter_map(|&at| self.drops.former.get(at));
            let records = records.map(|record| (record.key.clone(), record.id));
            let query = Query::Holds {
                records: records.collect(),
            };
            self.ask(&contact, query, Purpose::Holds, now);
        }
    }

    pub(super) fn on_holds_answer(&mut self, from: C::Peer, answer: &Answer<C>) {
        let Some(asked) = self.drops.asked.remove(&from) else {
            return;
        };
        if let Answer::Holds { held } = answer {
            for &place in held {
                let at = usize::try_from(place).ok().and_then(|at| asked.get(at));
                if let Some(record) = at.and_then(|&at| self.drops.former.get_mut(at)) {
                    record.left.remove(&from);
                }
            }
        }
        if !self.drops.asked.is_empty() {
            return;
        }
        let former = std::mem::take(&mut self.drops.former).into_iter();
        let held = former.filter(|record| record.left.is_empty());
        let held: Vec<_> = held.map(|record| (record.key, record.id)).collect();
        self.counters.former_dropped += held.len() as u64;
        if !held.is_empty() {
            self.disk.write(Write::Drop(held), Then::Nothing);
        }
    }
}
