//! What a node needn't hold any more: records that have ended, and records of which it is no replica now. The latter
//! are offered to each of the n settled replicas, brought to those that lack them, and dropped once all n have them, or
//! what covers them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::kv::fingerprint::Item;
use crate::kv::{KvKey, Record, RecordId};
use crate::{Contact, Now, Peer, Time};

use super::config::{BATCH_MAX, DROPS_MAX, RETRY};
use super::disk::{Then, Write};
use super::loads::Reader;
use super::messages::{Answer, Query};
use super::{Purpose, Store};

/// Keys that are looked at in one go: some milliseconds.
const LOOKED_AT_MAX: usize = 2_048;
/// Records that are brought to one replica in one go: those of the largest size fill a message.
const BROUGHT_MAX: usize = 15;

/// A record that others should hold, and who hasn't said so yet.
#[derive(Debug)]
struct Former<P> {
    item: Item,
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
    /// What each replica was offered or brought, as places in `former`.
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

    /// Notes that a replica has records.
    fn confirm(&mut self, by: P, places: impl IntoIterator<Item = usize>) {
        for at in places {
            if let Some(record) = self.former.get_mut(at) {
                record.left.remove(&by);
            }
        }
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
        let ended = self.owned.forget_ended(now.unix);
        if !ended.is_empty() {
            self.disk.write(Write::DropOwned(ended), Then::Nothing);
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

    /// Finds records of which this node is no replica now, and offers them to their replicas.
    fn look_for_former(&mut self, now: Now) {
        let from = self.drops.cursor.take();
        let from = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut former: Vec<Former<C::Peer>> = Vec::new();
        for (looked_at, (key, slot)) in self.holding.index.slots(from).enumerate() {
            if looked_at >= LOOKED_AT_MAX || former.len() >= DROPS_MAX {
                self.drops.cursor = Some(key.clone());
                // The rest is looked at soon.
                self.drops.wake = now.time + RETRY;
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
                        item: Item::of(held),
                        key: key.clone(),
                        id: held.id(),
                        left,
                    });
                }
            }
        }
        self.drops.former = former;
        self.offer_former(now);
    }

    fn offer_former(&mut self, now: Now) {
        let mut asked: BTreeMap<C::Peer, Vec<usize>> = BTreeMap::new();
        for (at, record) in self.drops.former.iter().enumerate() {
            for &peer in &record.left {
                asked.entry(peer).or_default().push(at);
            }
        }
        for (peer, places) in asked {
            let Some(contact) = self.members.get(peer).map(|m| m.contact.clone()) else {
                continue;
            };
            let records = places.iter().filter_map(|&at| self.drops.former.get(at));
            let items = records.map(|record| record.item).collect();
            self.drops.asked.insert(peer, places);
            self.ask(&contact, Query::Offer { items }, Purpose::Former, now);
        }
    }

    pub(super) fn on_former_answer(&mut self, from: C::Peer, answer: &Answer<C>) {
        let Some(asked) = self.drops.asked.remove(&from) else {
            return;
        };
        match answer {
            Answer::Lacks { lacks } => {
                let lacks: BTreeSet<usize> = lacks
                    .iter()
                    .filter_map(|&place| asked.get(usize::try_from(place).ok()?).copied())
                    .collect();
                let held = asked.into_iter().filter(|at| !lacks.contains(at));
                self.drops.confirm(from, held);
                let brought: Vec<usize> = lacks.into_iter().take(BROUGHT_MAX).collect();
                let records = brought.iter().filter_map(|&at| self.drops.former.get(at));
                let records: Vec<_> = records.map(|r| (r.key.clone(), r.id)).collect();
                if !records.is_empty() {
                    self.drops.asked.insert(from, brought);
                    self.load(records, Reader::Former { to: from });
                }
            }
            // Held or covered.
            Answer::Pushed { kept: Ok(()) } => self.drops.confirm(from, asked),
            _ => {}
        }
        self.drop_former();
    }

    /// Brings a replica records that it lacks and this node needn't hold.
    pub(super) fn bring(&mut self, to: C::Peer, records: Vec<Record<C::Peer>>, now: Now) {
        let asked = self.drops.asked.get_mut(&to);
        let contact = self.members.get(to).map(|m| m.contact.clone());
        let (Some(asked), Some(contact)) = (asked, contact) else {
            self.drops.asked.remove(&to);
            return;
        };
        let came = |at: &usize| {
            let record = self.drops.former.get(*at);
            record.is_some_and(|former| records.iter().any(|r| r.header.id() == former.id))
        };
        asked.retain(came);
        self.ask(&contact, Query::Push { records }, Purpose::Former, now);
    }

    /// Drops what all replicas have, once none of them is waited for.
    fn drop_former(&mut self) {
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
