//! Writes to the disk: what waits goes in one batch while the batch before it is being written (group commit).
//!
//! A record is judged when its batch is made, when no other batch is under way: against what is on disk and what the
//! batch already holds. So what isn't durable refuses, covers and answers nothing, and a batch that fails takes nothing
//! with it.

use std::collections::{BTreeMap, VecDeque};

use crate::kv::{Arrival, Entered, Header, KvKey, Record, RecordId, Seq, Siblings, Slot, Usage};
use crate::{Contact, Now, Point, RequestId};

use super::claim::Claim;
use super::config::{BATCH_BYTES_MAX, BATCH_MAX, WRITES_WAITING_MAX};
use super::messages::{Answer, Refusal, record_bytes};
use super::{CallId, DiskError, Op, OrderId, Output, Store};

/// What follows once something is on disk, or isn't to be.
#[derive(Clone, Debug)]
pub(super) enum Then<P> {
    /// A peer's put is answered.
    AnswerPut(P, RequestId),
    /// A peer's push is answered.
    AnswerPush(P, RequestId),
    /// A peer's claim is answered.
    AnswerClaim(P, RequestId),
    /// A synchronisation with a peer goes on.
    Synchronise(P),
    /// This node is settled.
    Settle,
    /// An owner's record is sent.
    Send(CallId),
    /// A record may be made of a dot.
    Make(CallId),
    Nothing,
}

/// Something to write.
#[derive(Clone, Debug)]
pub(super) enum Write<C: Contact> {
    /// Records as a replica, or for one.
    Keep {
        records: Vec<Record<C::Peer>>,
        hint_for: Option<C::Peer>,
        arrival: Arrival,
    },
    /// Records that others hold, or that have ended.
    Drop(Vec<(KvKey, RecordId<C::Peer>)>),
    /// Hints that were handed off.
    DropHints(C::Peer, Vec<(KvKey, RecordId<C::Peer>)>),
    /// An owner's newest record.
    Owned(Record<C::Peer>),
    /// Own keys whose newest records have ended.
    DropOwned(Vec<KvKey>),
    /// The last dot that a record of this node's of a key may have; `None` where none has one.
    Dot(KvKey, Option<Seq>),
    /// What a peer claims, or this node.
    Claim(C, Claim<C::Peer>),
    DropClaim(C::Peer),
}

/// What a batch changes once it is on disk.
#[derive(Clone, Debug)]
struct Batch<P> {
    order: OrderId,
    slots: BTreeMap<KvKey, Siblings<Header<P>>>,
    hints: Vec<(P, KvKey, RecordId<P>)>,
    unhints: Vec<(P, KvKey, RecordId<P>)>,
    claims: Vec<(P, Claim<P>)>,
    fetched: u64,
    done: Vec<Done<P>>,
}

/// Something that was to be written.
#[derive(Clone, Debug)]
struct Done<P> {
    then: Then<P>,
    /// Where the first record stands that it was about, and its copies.
    at: Option<(Point, u8)>,
    result: Result<(), Refusal>,
}

/// What waits for the disk, and what it is at.
#[derive(Debug)]
pub(super) struct Disk<C: Contact> {
    waiting: VecDeque<(Write<C>, Then<C::Peer>)>,
    writing: Option<Batch<C::Peer>>,
}

impl<C: Contact> Disk<C> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            writing: None,
        }
    }

    /// Returns whether so much waits that a peer's write is refused.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.len() >= WRITES_WAITING_MAX
    }

    pub(super) fn write(&mut self, what: Write<C>, then: Then<C::Peer>) {
        self.waiting.push_back((what, then));
    }
}

/// A batch that is being made.
struct Making<'a, C: Contact> {
    store: &'a Store<C>,
    now: Now,
    ops: Vec<Op<C>>,
    bytes: usize,
    /// What each writer gets with this batch.
    added: BTreeMap<C::Peer, Usage>,
    batch: Batch<C::Peer>,
}

impl<C: Contact> Making<'_, C> {
    fn add(&mut self, what: Write<C>, then: Then<C::Peer>) {
        let mut result = Ok(());
        let mut at = None;
        match what {
            Write::Keep {
                records,
                hint_for,
                arrival,
            } => {
                at = records
                    .first()
                    .map(|r| (r.header.key.point(), r.header.copies));
                let synchronising = matches!(then, Then::Synchronise(_));
                for record in records {
                    let kept = self.keep(record, hint_for, arrival);
                    self.batch.fetched += u64::from(synchronising && kept == Ok(true));
                    result = result.and(kept.map(|_| ()));
                }
            }
            Write::Drop(records) => {
                for (key, id) in records {
                    self.drop_record(key, id);
                }
            }
            Write::DropHints(replica, hints) => {
                for (key, id) in hints {
                    self.ops.push(Op::DropHint {
                        replica,
                        key: key.clone(),
                        id,
                    });
                    self.batch.unhints.push((replica, key, id));
                }
            }
            Write::Owned(record) => {
                self.bytes += record_bytes(&record);
                self.ops.push(Op::PutOwned(record));
            }
            Write::DropOwned(keys) => {
                self.ops
                    .extend(keys.into_iter().map(|key| Op::DropOwned { key }));
            }
            Write::Dot(key, Some(seq)) => self.ops.push(Op::PutDot { key, seq }),
            Write::Dot(key, None) => self.ops.push(Op::DropDot { key }),
            Write::Claim(contact, claim) => {
                self.batch.claims.push((contact.peer(), claim.clone()));
                self.ops.push(Op::PutClaim { contact, claim });
            }
            Write::DropClaim(peer) => self.ops.push(Op::DropClaim { peer }),
        }
        self.batch.done.push(Done { then, at, result });
    }

    /// Takes a record, if it may enter; returns whether it is new.
    fn keep(
        &mut self,
        record: Record<C::Peer>,
        hint_for: Option<C::Peer>,
        arrival: Arrival,
    ) -> Result<bool, Refusal> {
        let now = self.now.unix;
        let header = &record.header;
        header.check()?;
        let (key, id) = (header.key.clone(), header.id());
        let mut siblings = self.siblings(&key);
        if siblings.find(&id).is_none() {
            header.timely(arrival, now)?;
        }
        if hint_for.is_some_and(|replica| !self.store.holding.may_hint(replica)) {
            return Err(Refusal::Hints);
        }
        let entered = siblings.merge(header.clone(), now)?;
        let new = match entered {
            Entered::New { dropped } => {
                self.check_quota(header)?;
                for gone in dropped {
                    self.ops.push(Op::DropRecord {
                        key: key.clone(),
                        id: gone.id(),
                    });
                }
                self.added.entry(header.dot.writer).or_default().add(header);
                self.bytes += record_bytes(&record);
                self.ops.push(Op::PutRecord(record));
                self.batch.slots.insert(key.clone(), siblings);
                true
            }
            Entered::Known => false,
            Entered::Covered => return Ok(false),
        };
        if let Some(replica) = hint_for {
            self.ops.push(Op::PutHint {
                replica,
                key: key.clone(),
                id,
            });
            self.batch.hints.push((replica, key, id));
        }
        Ok(new)
    }

    fn check_quota(&self, header: &Header<C::Peer>) -> Result<(), Refusal> {
        let writer = header.dot.writer;
        let mut usage = self.store.holding.index.usage(writer);
        let added = self.added.get(&writer).copied().unwrap_or_default();
        usage.bytes += added.bytes;
        usage.records += added.records;
        usage.add(header);
        Ok(self.store.config.quota.check(usage)?)
    }

    fn drop_record(&mut self, key: KvKey, id: RecordId<C::Peer>) {
        let mut siblings = self.siblings(&key);
        if siblings.remove(&id).is_some() {
            self.batch.slots.insert(key.clone(), siblings);
        }
        // What is damaged is held no more, and its place on disk is freed all the same.
        self.ops.push(Op::DropRecord { key, id });
    }

    /// Returns what a key will have once the batch is on disk.
    fn siblings(&self, key: &KvKey) -> Siblings<Header<C::Peer>> {
        let changed = self.batch.slots.get(key);
        let held = self.store.holding.index.slot(key).map(Slot::siblings);
        changed.or(held).cloned().unwrap_or_default()
    }
}

impl<C: Contact> Store<C> {
    /// Writes what waits, unless a batch is under way.
    pub(super) fn flush(&mut self, now: Now) {
        while self.disk.writing.is_none() && !self.disk.waiting.is_empty() {
            let order = self.next_order();
            let mut waiting = std::mem::take(&mut self.disk.waiting);
            let mut making = Making {
                store: self,
                now,
                ops: Vec::new(),
                bytes: 0,
                added: BTreeMap::new(),
                batch: Batch {
                    order,
                    slots: BTreeMap::new(),
                    hints: Vec::new(),
                    unhints: Vec::new(),
                    claims: Vec::new(),
                    fetched: 0,
                    done: Vec::new(),
                },
            };
            while making.ops.len() < BATCH_MAX && making.bytes < BATCH_BYTES_MAX {
                let Some((what, then)) = waiting.pop_front() else {
                    break;
                };
                making.add(what, then);
            }
            let Making { ops, batch, .. } = making;
            self.disk.waiting = waiting;
            if ops.is_empty() {
                self.conclude(batch.done, now);
                continue;
            }
            self.disk.writing = Some(batch);
            self.counters.batches += 1;
            self.outputs.push_back(Output::Persist { id: order, ops });
        }
    }

    pub(super) fn on_persisted(&mut self, id: OrderId, result: Result<(), DiskError>, now: Now) {
        if self.disk.writing.as_ref().map(|batch| batch.order) != Some(id) {
            return;
        }
        let Some(mut batch) = self.disk.writing.take() else {
            return;
        };
        if let Err(error) = result {
            self.counters.batches_failed += 1;
            let refusal = match error {
                DiskError::Full => Refusal::DiskFull,
                DiskError::Failed => Refusal::DiskFailed,
            };
            for done in &mut batch.done {
                done.result = Err(refusal);
            }
            self.conclude(batch.done, now);
            return;
        }
        for (key, siblings) in batch.slots {
            self.holding.index.replace(&key, siblings);
            self.found_again(&key);
        }
        self.counters.hints_kept += batch.hints.len() as u64;
        for (replica, key, id) in batch.hints {
            self.holding.hint(replica, key, id);
            self.offer_soon(replica, now);
        }
        for (replica, key, id) in batch.unhints {
            self.holding.drop_hint(replica, &key, id);
        }
        for (peer, claim) in batch.claims {
            self.adopt_claim(peer, claim, now);
        }
        self.counters.sync_fetched += batch.fetched;
        self.sync.fetched += batch.fetched;
        self.conclude(batch.done, now);
    }

    fn conclude(&mut self, done: Vec<Done<C::Peer>>, now: Now) {
        for Done { then, at, result } in done {
            let kept = result;
            self.counters.records_refused += u64::from(kept.is_err());
            match then {
                Then::AnswerPut(to, request) => {
                    let Some((point, copies)) = at else { continue };
                    let sight = self.members.sight(point, usize::from(copies));
                    self.answer(to, request, Answer::Put { sight, kept });
                }
                Then::AnswerPush(to, request) => {
                    self.answer(to, request, Answer::Pushed { kept });
                }
                Then::AnswerClaim(to, request) => self.answer_claim(to, request, kept.is_ok()),
                Then::Synchronise(peer) => self.on_sync_kept(peer, kept, now),
                Then::Settle => self.on_settled(kept.is_ok(), now),
                Then::Send(call) => self.on_owned_kept(call, kept, now),
                Then::Make(call) => self.on_reserved(call, kept),
                Then::Nothing => {}
            }
        }
    }
}
