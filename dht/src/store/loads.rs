//! Reads from the disk, and what is damaged there.

use std::collections::BTreeMap;

use crate::kv::{KvKey, Record, RecordId, Siblings};
use crate::{Contact, Now, Peer, RequestId};

use super::config::LOADS_MAX;
use super::disk::{Then, Write};
use super::{Event, Loaded, OrderId, Output, Store};

/// What records are read for.
#[derive(Clone, Debug)]
pub(super) enum Reader<P> {
    /// To answer a peer's get.
    Get {
        to: P,
        request: RequestId,
        key: KvKey,
        copies: u8,
        more: bool,
    },
    /// To answer what a peer fetches.
    Fetch {
        to: P,
        request: RequestId,
        more: bool,
    },
    /// To push them to a peer that lacks them.
    Push { to: P },
    /// To hand them to the replica for which they are kept.
    Handoff { to: P },
    /// To bring them to a replica, which this node is no more.
    Former { to: P },
}

/// The records that are read.
type Wanted<P> = Vec<(KvKey, RecordId<P>)>;

/// Reads that are under way, and damaged records.
#[derive(Debug)]
pub(super) struct Loads<P> {
    reading: BTreeMap<OrderId, (Reader<P>, Wanted<P>)>,
    /// What was damaged and isn't here again: the key can't be answered for. It stays on disk as it is until it is made
    /// good, so that a start finds it again. Bounded by what was held.
    lost: BTreeMap<KvKey, Vec<RecordId<P>>>,
}

impl<P: Peer> Loads<P> {
    pub(super) fn new() -> Self {
        Self {
            reading: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.reading.len() >= LOADS_MAX
    }

    pub(super) fn is_lost(&self, key: &KvKey) -> bool {
        self.lost.contains_key(key)
    }

    pub(super) fn lost_keys(&self) -> impl Iterator<Item = &KvKey> {
        self.lost.keys()
    }

    pub(super) fn lose(&mut self, key: KvKey, id: RecordId<P>) {
        let lost = self.lost.entry(key).or_default();
        if !lost.contains(&id) {
            lost.push(id);
        }
    }

    /// Takes some of what was lost of a key as lost no more; returns it.
    pub(super) fn end(
        &mut self,
        key: &KvKey,
        ends: impl Fn(&RecordId<P>) -> bool,
    ) -> Vec<RecordId<P>> {
        let Some(lost) = self.lost.get_mut(key) else {
            return Vec::new();
        };
        let found = lost.extract_if(.., |id| ends(id)).collect();
        if lost.is_empty() {
            self.lost.remove(key);
        }
        found
    }
}

impl<C: Contact> Store<C> {
    pub(super) fn load(
        &mut self,
        wanted: Vec<(KvKey, RecordId<C::Peer>)>,
        reader: Reader<C::Peer>,
    ) {
        let id = self.next_order();
        self.loads.reading.insert(id, (reader, wanted.clone()));
        self.outputs.push_back(Output::Load { id, wanted });
    }

    pub(super) fn on_loaded(&mut self, id: OrderId, loaded: Vec<Loaded<C::Peer>>, now: Now) {
        let Some((reader, wanted)) = self.loads.reading.remove(&id) else {
            return;
        };
        let mut records: Vec<Record<C::Peer>> = Vec::with_capacity(loaded.len());
        let mut damaged = loaded.len() != wanted.len();
        let mut changed = false;
        for (loaded, (key, id)) in loaded.into_iter().zip(wanted) {
            match loaded {
                Loaded::Record(record) if record.header.id() == id => records.push(*record),
                Loaded::Missing if self.holding.index.find(&key, &id).is_none() => changed = true,
                // What should be there and isn't is as damaged as what is there and isn't what it was.
                Loaded::Record(_) | Loaded::Missing | Loaded::Corrupt => {
                    damaged = true;
                    self.on_damaged(key, id, now);
                }
                Loaded::Failed => damaged = true,
            }
        }
        match reader {
            Reader::Get {
                to,
                request,
                key,
                copies,
                more,
            } => {
                if damaged {
                    self.unable(to, request);
                } else if changed {
                    // Something covered it meanwhile.
                    self.serve_get(to, request, key, copies, None);
                } else {
                    self.answer_get(to, request, &key, copies, records, more);
                }
            }
            Reader::Fetch { to, request, more } => {
                self.answer_fetch(to, request, records, more);
            }
            Reader::Push { to } => self.push_loaded(to, records, now),
            Reader::Handoff { to } => self.hand_over(to, records, now),
            Reader::Former { to } => self.bring(to, records, now),
        }
    }

    /// Gives up a damaged record here and asks the other replicas for it.
    pub(super) fn on_damaged(&mut self, key: KvKey, id: RecordId<C::Peer>, now: Now) {
        if self.holding.index.find(&key, &id).is_none() {
            return;
        }
        self.counters.lost += 1;
        self.loads.lose(key.clone(), id);
        self.event(Event::Lost {
            key: key.clone(),
            id,
        });
        // It can enter again only where it isn't held.
        if let Some(slot) = self.holding.index.slot(&key) {
            let mut siblings = slot.siblings().clone();
            siblings.remove(&id);
            self.holding.index.replace(&key, siblings);
        }
        self.repair_lost(key, now);
    }

    /// Takes what has been written of a key in the place of what was damaged.
    pub(super) fn found_again(&mut self, key: &KvKey) {
        let holding = &self.holding;
        let found = self.loads.end(key, |id| holding.has(key, id));
        if found.is_empty() {
            return;
        }
        if !self.loads.is_lost(key) {
            self.event(Event::Recovered { key: key.clone() });
        }
        let covered = found.into_iter();
        let covered = covered.filter(|id| self.holding.index.find(key, id).is_none());
        self.drop_lost(key, covered.collect());
    }

    /// Gives up on what was damaged here, but for what others have, or something that covers it.
    pub(super) fn give_up_lost(&mut self, key: &KvKey, others: &Siblings<Record<C::Peer>>) {
        let lost = self.loads.end(key, |id| !others.has(id));
        self.drop_lost(key, lost);
    }

    /// Frees the place of damaged records that won't be written again.
    fn drop_lost(&mut self, key: &KvKey, lost: Vec<RecordId<C::Peer>>) {
        let lost: Vec<_> = lost.into_iter().map(|id| (key.clone(), id)).collect();
        if !lost.is_empty() {
            self.disk.write(Write::Drop(lost), Then::Nothing);
        }
    }
}
