//! Reads: enough replicas are asked, this node first if it is one, then the closest, and another one whenever one is slow.
//!
//! What the replicas have is merged. If too few of them answer, what is *found* may still be returned: it is brought to
//! nodes that stand in until as many hold it as were to answer, and the answer says `sloppy`. That nothing is found is
//! for replicas alone to say.

use crate::kv::{Arrival, KvKey, Record, RecordId, Siblings};
use crate::{Contact, Now, Peer, UnixMicros};

use super::config::{READ_AGAIN, REPAIR_AGE_MIN};
use super::disk::{Then, Write};
use super::messages::{Answer, Query, RECORDS_BYTES_MAX, record_bytes};
use super::running::{Answers, Job, Running, Stage};
use super::tally::State;
use super::{CallId, Outcome, Purpose, Store};

/// How a peer fares that is brought what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    /// So many messages are not acknowledged.
    Waits(usize),
    Kept,
    Failed,
}

/// A read.
#[derive(Debug)]
pub(super) struct Read<P> {
    key: KvKey,
    answers: Answers<P, Vec<Record<P>>>,
    back: Answers<P, Back>,
}

impl<P: Peer> Read<P> {
    pub(super) fn new(key: KvKey) -> Self {
        Self {
            key,
            answers: Answers::new(),
            back: Answers::new(),
        }
    }

    /// Returns what all that answered have, taken together. What would exceed the bounds of a key is left out; each
    /// replica keeps to them.
    fn merged(&self, now: UnixMicros) -> Siblings<Record<P>> {
        let mut merged = Siblings::new();
        for record in self.answers.values().flatten() {
            let _crowded = merged.merge(record.clone(), now);
        }
        merged
    }

    fn lacks(&self, peer: P, merged: &Siblings<Record<P>>) -> Vec<Record<P>> {
        let has = self.answers.get(&peer);
        let held = |id: RecordId<P>| {
            has.is_some_and(|has| has.iter().any(|record| record.header.id() == id))
        };
        let lacked = merged.iter().filter(|record| !held(record.header.id()));
        lacked.cloned().collect()
    }
}

/// Divides records into messages.
pub(super) fn messages_of<P: Peer>(records: Vec<Record<P>>) -> Vec<Vec<Record<P>>> {
    let mut messages: Vec<Vec<Record<P>>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in records {
        let more = record_bytes(&record);
        bytes = bytes.saturating_add(more);
        match messages.last_mut().filter(|_| bytes <= RECORDS_BYTES_MAX) {
            Some(message) => message.push(record),
            None => {
                bytes = more;
                messages.push(vec![record]);
            }
        }
    }
    messages
}

impl<C: Contact> Store<C> {
    pub(super) fn on_records(
        &mut self,
        id: CallId,
        running: &mut Running<C>,
        from: C::Peer,
        (records, more): (Vec<Record<C::Peer>>, bool),
        counts: bool,
        now: Now,
    ) {
        let Stage::Read(read) = &mut running.stage else {
            return;
        };
        let records = records.into_iter();
        let good = records.filter(|r| r.header.key == read.key && r.header.check().is_ok());
        let answer = read.answers.entry(from).or_default();
        let before = answer.len();
        answer.extend(good);
        let grew = answer.len() > before;
        let last = answer.last().map(|record| record.header.id());
        if more && grew && last.is_some() {
            let query = Query::Get {
                key: read.key.clone(),
                copies: running.terms.copies,
                after: last,
            };
            self.ask_for(id, running, from, query, None, now);
            return;
        }
        running.tally.set(from, State::Answered { counts });
    }

    /// Asks for a read, or ends it; returns whether it has ended.
    pub(super) fn drive_read(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> bool {
        let need = running.need();
        let counted = running.tally.counted();
        if counted.len() >= need {
            return self.end_read(id, running, counted.len(), now);
        }
        if running.deadline <= now.time {
            return self.miss_read(id, running, now);
        }
        if self.hedge(id, running, counted.len(), now) {
            return false;
        }
        if let Some(got) = self.write_back(id, running, now) {
            return self.end_read(id, running, got, now);
        }
        if running.goes_on_without_quorum() {
            // The time that is left is the write's.
            let looks = self.look_once(id, running);
            return !looks && self.end_read(id, running, counted.len(), now);
        }
        let left = running.deadline.since(now.time);
        let tried = running.terms.timeout.saturating_sub(left);
        if tried < READ_AGAIN && self.look_further(id, running, now) {
            return false;
        }
        while let Some(peer) = running.tally.again(now.time).map(Contact::peer) {
            self.ask_read(id, running, peer, now);
        }
        running.wake = running.tally.again_at();
        let Stage::Read(read) = &running.stage else {
            return false;
        };
        let bringing = read.back.values().any(|b| matches!(b, Back::Waits(_)));
        if running.tally.hopeful() == 0 && !bringing {
            return self.miss_read(id, running, now);
        }
        false
    }

    /// Asks until as many may answer in time as must; returns whether some may.
    fn hedge(&mut self, id: CallId, running: &mut Running<C>, counted: usize, now: Now) -> bool {
        let me = self.members.me();
        while counted + running.tally.waiting() < running.need() {
            let Some(peer) = running.tally.next_to_read(me).map(Contact::peer) else {
                break;
            };
            self.ask_read(id, running, peer, now);
        }
        running.tally.waiting() > 0
    }

    fn ask_read(&mut self, id: CallId, running: &mut Running<C>, peer: C::Peer, now: Now) {
        let Stage::Read(read) = &mut running.stage else {
            return;
        };
        // An answer may have come in part before it failed.
        read.answers.remove(&peer);
        let query = Query::Get {
            key: read.key.clone(),
            copies: running.terms.copies,
            after: None,
        };
        self.ask_for(id, running, peer, query, None, now);
    }

    /// Brings what was found to those that answered without it, the closest first, until enough hold it; returns how
    /// many do once they are enough.
    fn write_back(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> Option<usize> {
        let need = running.need();
        let counted = running.tally.counted();
        if running.terms.strict || matches!(running.job, Job::Lost) {
            return None;
        }
        let peers = running.tally.peers();
        let Stage::Read(read) = &mut running.stage else {
            return None;
        };
        let merged = read.merged(now.unix);
        if merged.is_empty() {
            return None;
        }
        let mut got = counted.len();
        let mut bring = Vec::new();
        for seen in peers {
            let peer = seen.contact.peer();
            if counted.contains(&peer) {
                continue;
            }
            let answered = running.tally.asked(peer).map(|asked| asked.state);
            if !matches!(answered, Some(State::Answered { .. })) {
                continue;
            }
            let lacks = read.lacks(peer, &merged);
            match read.back.get(&peer) {
                Some(Back::Kept) => got += 1,
                Some(Back::Failed) => {}
                Some(Back::Waits(_)) => {}
                None if lacks.is_empty() => got += 1,
                None => bring.push((seen.contact, lacks)),
            }
        }
        let waits = read.back.values().filter(|b| matches!(b, Back::Waits(_)));
        let missing = need.saturating_sub(got + waits.count());
        for (contact, lacks) in bring.into_iter().take(missing) {
            let messages = messages_of(lacks);
            read.back
                .insert(contact.peer(), Back::Waits(messages.len()));
            for records in messages {
                self.ask(
                    &contact,
                    Query::Push { records },
                    Purpose::WriteBack(id),
                    now,
                );
            }
        }
        (got >= need).then_some(got)
    }

    pub(super) fn on_written_back(
        &mut self,
        id: CallId,
        peer: C::Peer,
        answer: &Answer<C>,
        now: Now,
    ) {
        let Some(running) = self.calls.get_mut(&id) else {
            return;
        };
        if let Stage::Read(read) = &mut running.stage
            && let Some(back) = read.back.get_mut(&peer)
        {
            let kept = matches!(answer, Answer::Pushed { kept: Ok(()) });
            *back = match *back {
                Back::Waits(1) if kept => Back::Kept,
                Back::Waits(left) if kept => Back::Waits(left.saturating_sub(1)),
                Back::Waits(_) | Back::Kept | Back::Failed => Back::Failed,
            };
        }
        self.drive(id, now);
    }

    fn miss_read(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> bool {
        let counted = running.tally.counted().len();
        match running.job {
            // Those that answered can be repaired all the same.
            Job::Repair if counted > 0 => return self.end_read(id, running, counted, now),
            Job::Lost => {
                let Stage::Read(read) = &running.stage else {
                    return true;
                };
                self.take_back(read.merged(now.unix));
                return true;
            }
            _ => {}
        }
        self.counters.quorums_missed += 1;
        let replies = running.tally.replies(running.need(), counted, &[]);
        let outcome = Outcome::QuorumNotMet {
            replies,
            possibly_written: false,
            refused: None,
        };
        self.reply(id, outcome);
        true
    }

    fn end_read(&mut self, id: CallId, running: &mut Running<C>, got: usize, now: Now) -> bool {
        let Stage::Read(read) = &running.stage else {
            return true;
        };
        let merged = read.merged(now.unix);
        let holders: Vec<C::Peer> = if merged.is_empty() {
            Vec::new()
        } else {
            let answered = read.answers.keys().copied();
            answered
                .filter(|&peer| {
                    read.lacks(peer, &merged).is_empty()
                        || read.back.get(&peer) == Some(&Back::Kept)
                })
                .collect()
        };
        let replies = running.tally.replies(running.need(), got, &holders);
        self.counters.sloppy += u64::from(replies.sloppy);
        let everything = matches!(running.job, Job::Repair);
        let repaired = self.repair(running, &merged, everything, now);
        match running.job.clone() {
            Job::Put(put) => return self.draft(id, running, put, &merged, now),
            Job::Repair => {
                let records = merged.len();
                self.reply(
                    id,
                    Outcome::Repaired {
                        replies,
                        records,
                        repaired,
                    },
                );
            }
            Job::Lost => {
                // All replicas that there are have said what they have.
                if let Some(key) = running.key() {
                    self.give_up_lost(key, &merged);
                }
                self.take_back(merged);
            }
            Job::Get | Job::Locate | Job::List => {
                let context = merged.context(now.unix);
                let records = merged.into_iter().collect();
                self.reply(
                    id,
                    Outcome::Got {
                        replies,
                        records,
                        context,
                    },
                );
            }
        }
        true
    }

    /// Sends replicas that answered what they lack; returns how many.
    ///
    /// What was written just now its writer's daemon brings them itself.
    fn repair(
        &mut self,
        running: &Running<C>,
        merged: &Siblings<Record<C::Peer>>,
        everything: bool,
        now: Now,
    ) -> usize {
        let Stage::Read(read) = &running.stage else {
            return 0;
        };
        let mut repaired = 0;
        let counted = running.tally.counted();
        for peer in counted {
            let mut lacks = read.lacks(peer, merged);
            lacks.retain(|r| everything || r.header.written_at + REPAIR_AGE_MIN <= now.unix);
            let Some(contact) = running.tally.contact(peer).filter(|_| !lacks.is_empty()) else {
                continue;
            };
            repaired += 1;
            self.counters.read_repairs += u64::from(!everything);
            for records in messages_of(lacks) {
                self.ask(contact, Query::Push { records }, Purpose::Repair, now);
            }
        }
        repaired
    }

    /// Takes back what was damaged here, where others have it.
    fn take_back(&mut self, merged: Siblings<Record<C::Peer>>) {
        if merged.is_empty() {
            return;
        }
        let write = Write::Keep {
            records: merged.into_iter().collect(),
            hint_for: None,
            arrival: Arrival::Passed,
        };
        self.disk.write(write, Then::Nothing);
    }
}
