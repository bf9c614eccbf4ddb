//! What callers wrote to the replicated store and read from it, held against what the store promises.
//!
//! - A write that was acknowledged, be it of a value or a deletion, is never lost: at the end it shows, or what is there has
//!   seen it. A deletion need not outlast what it covers, and may be gone after that.
//! - What an acknowledged deletion covered never shows again.
//! - A read returns only what somebody wrote.
//! - A read that no stand-in helped with returns every write that was acknowledged so before it began, or what has seen it
//!   (*stale* otherwise). The store promises that with at most one change among the replicas at a time; scenarios say
//!   whether they keep to it.
//! - A write that was not acknowledged may show, or not: nothing is asked of it.
//! - At the end all settled replicas hold the same.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_dht::kv::{Content, Context, Header, Record, RecordId};
use weft_dht::store::{Holder, Outcome};
use weft_identity::PeerId;
use weft_overlay::Time;

use super::Watch;
use crate::machine::NodeId;

/// What somebody does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Reads it.
    Get,
    /// Writes a value that has this mark.
    Put(u64),
    /// Deletes it.
    Delete,
    /// Looks at it when all is over.
    Audit,
    /// Asks which replica holds what when all is over.
    Locate,
}

/// Something that was done, or is being done.
#[derive(Clone, Debug)]
struct Entry {
    at: Time,
    by: NodeId,
    key: u32,
    deed: Deed,
    label: u16,
    ended: Option<Ended>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    took: Duration,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Done { sloppy: bool },
    Failed,
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
struct Acknowledged {
    id: RecordId<PeerId>,
    at: Time,
    sloppy: bool,
    /// From when on nobody need hold it.
    ends: Time,
    /// What it covers, where it is a deletion.
    deletes: Option<Context<PeerId>>,
}

impl Acknowledged {
    fn new(header: &Header<PeerId>, begun: Time, at: Time, sloppy: bool) -> Self {
        // It was written after the call had begun.
        let lasts = header.ends_at().map(|end| end.since(header.written_at));
        let deletes = header.content == Content::Tombstone;
        Self {
            id: header.id(),
            at,
            sloppy,
            ends: lasts.map_or(Time::NEVER, |lasts| begun + lasts),
            deletes: deletes.then(|| header.context.clone()),
        }
    }

    /// Returns whether this is a deletion of a record.
    fn deleted(&self, record: &Record<PeerId>) -> bool {
        let covers = |context: &Context<PeerId>| context.covers(record.header.dot);
        self.deletes.as_ref().is_some_and(covers)
    }
}

/// All that was done.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
    acknowledged: BTreeMap<u32, Vec<Acknowledged>>,
    marks: BTreeMap<u64, u32>,
    /// Reads that lacked a write that was acknowledged before.
    pub stale: u64,
    /// Acknowledged writes and deletions that were lost.
    pub lost: u64,
    /// Values that show at the end though an acknowledged deletion had covered them.
    pub resurrected: u64,
    /// Keys that could not be read at the end.
    pub unreadable: u64,
    /// Keys that were read at the end.
    pub audited: u64,
    /// Keys of which the replicas hold different things at the end.
    pub diverged: u64,
    /// The most siblings that a read returned.
    pub siblings_max: usize,
}

/// What became of the deeds of one kind.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were begun by somebody who has not died meanwhile.
    pub begun: usize,
    /// How many succeeded.
    pub done: usize,
    /// How many of them with the help of stand-ins.
    pub sloppy: usize,
    /// How long those that succeeded took, in milliseconds, ascending.
    pub millis: Vec<f64>,
}

impl History {
    /// Returns what became of reads, or of writes and deletions, of a label.
    pub fn tally(&self, label: u16, reads: bool) -> Tally {
        let mut tally = Tally::default();
        for entry in self.entries.iter().filter(|entry| entry.label == label) {
            let is_read = match entry.deed {
                Deed::Get => true,
                Deed::Put(_) | Deed::Delete => false,
                Deed::Audit | Deed::Locate => continue,
            };
            let Some(ended) = entry.ended.filter(|_| is_read == reads) else {
                continue;
            };
            tally.begun += 1;
            if let How::Done { sloppy } = ended.how {
                tally.done += 1;
                tally.sloppy += usize::from(sloppy);
                tally.millis.push(ended.took.as_secs_f64() * 1e3);
            }
        }
        tally.millis.sort_unstable_by(f64::total_cmp);
        tally
    }

    /// Returns whether anything was done.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether a mark is of a value that was written to a key.
    fn was_written(&self, key: u32, record: &Record<PeerId>) -> bool {
        let mark = mark_of(&record.value);
        record.value.is_empty() || self.marks.get(&mark) == Some(&key)
    }
}

/// Returns the mark of a value.
pub fn mark_of(value: &[u8]) -> u64 {
    let mut mark = [0; 8];
    let bytes = value.len().min(8);
    mark[..bytes].copy_from_slice(&value[..bytes]);
    u64::from_be_bytes(mark)
}

/// Returns whether a read shows a record, or has seen it.
fn has_seen(records: &[Record<PeerId>], context: &Context<PeerId>, id: &RecordId<PeerId>) -> bool {
    context.covers(id.dot) || records.iter().any(|record| record.header.id() == *id)
}

impl Watch {
    /// Somebody begins to do something; returns its number.
    pub(crate) fn deed(&mut self, at: Time, by: NodeId, key: u32, deed: Deed, label: u16) -> u32 {
        if let Deed::Put(mark) = deed {
            self.history.marks.insert(mark, key);
        }
        let entries = &mut self.history.entries;
        entries.push(Entry {
            at,
            by,
            key,
            deed,
            label,
            ended: None,
        });
        u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
    }

    /// It has ended.
    pub(crate) fn deed_ended(&mut self, time: Time, number: u32, outcome: &Outcome<PeerId>) {
        let Some(entry) = self.history.entries.get(number as usize) else {
            return self.violation(time, format!("deed {number} was never begun"));
        };
        let Entry {
            at,
            by,
            key,
            deed,
            ended,
            ..
        } = entry.clone();
        if ended.is_some() {
            return self.violation(time, format!("deed {number} of n{by} has ended twice"));
        }
        let how = match outcome {
            Outcome::Got {
                replies,
                records,
                context,
            } => {
                self.read(time, at, by, key, deed, replies.sloppy, records, context);
                How::Done {
                    sloppy: replies.sloppy,
                }
            }
            Outcome::Put { replies, header } => {
                let acknowledged = Acknowledged::new(header, at, time, replies.sloppy);
                let of_key = self.history.acknowledged.entry(key).or_default();
                of_key.push(acknowledged);
                How::Done {
                    sloppy: replies.sloppy,
                }
            }
            Outcome::Located { holders, .. } => {
                self.located(holders);
                How::Done { sloppy: false }
            }
            Outcome::QuorumNotMet { .. } | Outcome::Refused { .. } | Outcome::Busy => {
                self.history.unreadable += u64::from(deed == Deed::Audit);
                How::Failed
            }
            other => {
                let what = format!("deed {number} of n{by} ended in {other:?}");
                return self.violation(time, what);
            }
        };
        self.history.entries[number as usize].ended = Some(Ended {
            took: time.since(at),
            how,
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a read has as many sides")]
    fn read(
        &mut self,
        time: Time,
        begun: Time,
        by: NodeId,
        key: u32,
        deed: Deed,
        sloppy: bool,
        records: &[Record<PeerId>],
        context: &Context<PeerId>,
    ) {
        for record in records {
            if !self.history.was_written(key, record) {
                let what = format!("n{by} read of key {key} what nobody wrote: {record:?}");
                self.violation(time, what);
            }
        }
        let history = &mut self.history;
        history.siblings_max = history.siblings_max.max(records.len());
        let acknowledged = history.acknowledged.get(&key).into_iter().flatten();
        let before = || acknowledged.clone().filter(|it| it.at <= begun);
        let is_unseen = |it: &&Acknowledged| time < it.ends && !has_seen(records, context, &it.id);
        let is_shown = |record: &&Record<PeerId>| {
            let is_value = record.header.content != Content::Tombstone;
            is_value && before().any(|it| it.deleted(record))
        };
        if deed == Deed::Audit {
            let lost = before().filter(is_unseen).count() as u64;
            let resurrected = records.iter().filter(is_shown).count() as u64;
            history.audited += 1;
            history.lost += lost;
            history.resurrected += resurrected;
        } else if !sloppy && before().filter(|it| !it.sloppy).any(|it| is_unseen(&it)) {
            history.stale += 1;
        }
    }

    /// Holds what the replicas of a key hold against each other.
    fn located(&mut self, holders: &[Holder<PeerId>]) {
        let settled = holders.iter().filter(|it| it.settled && it.alive);
        let mut held = settled.filter_map(|holder| {
            let heads = holder.heads.as_ref()?;
            let mut ids: Vec<RecordId<PeerId>> = heads.iter().map(Header::id).collect();
            ids.sort_unstable();
            Some(ids)
        });
        let first = held.next();
        if held.any(|ids| Some(&ids) != first.as_ref()) {
            self.history.diverged += 1;
        }
    }
}

#[cfg(test)]
mod tests;
