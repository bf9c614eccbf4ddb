//! Calls that are running: how they begin, what answers do to them, when they end.

use std::collections::BTreeMap;

use crate::kv::{KvKey, KvPrefix, Record, Seq};
use crate::{Contact, Key, Now, RequestId, Time};

use super::calls::{Basis, Draft, Level, Written};
use super::config::{AFTERWARDS, AFTERWARDS_MAX, CALLS_MAX, RETRY};
use super::get::Read;
use super::list::Scan;
use super::messages::{Answer, Query};
use super::put::Writing;
use super::tally::{State, Tally};
use super::{Call, CallId, OrderId, Outcome, Output, Purpose, Reach, Store, Terms};

/// Calls of the store's own are numbered from here on, beyond all that callers give out.
const OWN_CALLS: u64 = 1 << 63;

/// What a call is for.
#[derive(Clone, Debug)]
pub(super) enum Job<P> {
    Get,
    /// A read comes first, then the write.
    Put(Put<P>),
    Repair,
    /// A damaged record is asked for.
    Lost,
    Locate,
    List,
}

/// A write whose basis isn't known yet.
#[derive(Clone, Debug)]
pub(super) struct Put<P> {
    pub(super) content: Written,
    pub(super) ttl: Option<std::time::Duration>,
    pub(super) basis: Basis<P>,
}

/// Where a call stands.
#[derive(Debug)]
pub(super) enum Stage<P> {
    Read(Read<P>),
    Scan(Scan<P>),
    /// The record is to be made once its dot is reserved on disk.
    Reserve(Draft<P>),
    /// The owner makes and signs the record.
    Sign,
    /// An owner's record goes to this node's own disk first.
    Persist(Record<P>),
    Write(Writing<P>),
}

/// A dot for a record that isn't made yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    pub(super) seq: Seq,
    /// Whether the reservation is on disk.
    pub(super) durable: bool,
}

/// What a call is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    Key(KvKey),
    Prefix(KvPrefix, Option<KvKey>),
}

/// A call that is running.
#[derive(Debug)]
pub(super) struct Running<C: Contact> {
    pub(super) job: Job<C::Peer>,
    pub(super) about: About,
    pub(super) terms: Terms,
    pub(super) lookup_key: Key,
    pub(super) deadline: Time,
    pub(super) wake: Time,
    pub(super) tally: Tally<C>,
    pub(super) stage: Stage<C::Peer>,
    /// The dot of the record that it may come to write.
    pub(super) reserved: Option<Reserved>,
    pub(super) replied: bool,
    /// Whether the network was asked who is close.
    looked: bool,
    /// Whether that lookup is under way.
    pub(super) looking: bool,
    /// When another round of questions begins, where everybody has answered and it was not enough.
    round_at: Time,
}

impl<C: Contact> Running<C> {
    pub(super) fn wake_at(&self) -> Time {
        self.wake.min(self.deadline)
    }

    /// Returns how many must answer: a quorum where a write reads first, whatever its own level.
    pub(super) fn need(&self) -> usize {
        let level = match (&self.job, &self.stage) {
            (Job::Put(_), Stage::Read(_)) => Level::Quorum,
            _ => self.terms.level,
        };
        level.of(self.terms.copies)
    }

    /// Returns whether a write takes what its read has found, be it that too few have answered: it then may come to
    /// stand beside what it didn't find, and is not lost for want of replicas. What a strict write or an owner's
    /// expectation is based on must be certain.
    pub(super) fn goes_on_without_quorum(&self) -> bool {
        let Job::Put(put) = &self.job else {
            return false;
        };
        matches!(put.basis, Basis::Read) && !self.terms.strict
    }

    pub(super) fn key(&self) -> Option<&KvKey> {
        match &self.about {
            About::Key(key) => Some(key),
            About::Prefix(..) => None,
        }
    }
}

impl<C: Contact> Store<C> {
    pub(super) fn on_call(&mut self, id: CallId, call: Call<C::Peer>, now: Now) {
        let asking = self
            .calls
            .values()
            .filter(|running| !running.replied)
            .count();
        if asking >= CALLS_MAX || self.calls.contains_key(&id) {
            self.counters.calls_refused += 1;
            self.reply(id, Outcome::Busy);
            return;
        }
        match call {
            Call::Get { key, terms } => {
                self.counters.gets += 1;
                self.begin(id, Job::Get, About::Key(key), terms, now);
            }
            Call::Put {
                key,
                content,
                ttl,
                basis,
                terms,
            } => {
                self.counters.puts += 1;
                let put = Put {
                    content,
                    ttl,
                    basis,
                };
                self.begin_put(id, &key, put, terms, now);
            }
            Call::Locate { key, terms } => {
                self.begin(id, Job::Locate, About::Key(key), terms, now);
            }
            Call::List {
                prefix,
                after,
                terms,
            } => self.begin(id, Job::List, About::Prefix(prefix, after), terms, now),
            Call::Repair { key, terms } => {
                let terms = Terms {
                    level: Level::All,
                    ..terms
                };
                self.begin(id, Job::Repair, About::Key(key), terms, now);
            }
            Call::Synchronise => self.synchronise_for(id, now),
            Call::Leave => self.leave_for(id, now),
        }
    }

    /// Asks all other replicas for what was damaged here.
    pub(super) fn repair_lost(&mut self, key: KvKey, now: Now) {
        let asked =
            |running: &Running<C>| matches!(running.job, Job::Lost) && running.key() == Some(&key);
        if self.calls.values().any(asked) {
            return;
        }
        self.own_calls += 1;
        let id = CallId(OWN_CALLS + self.own_calls);
        let all = Terms::default();
        let terms = Terms {
            // All but this one.
            level: Level::Exactly(all.copies - 1),
            ..all
        };
        self.begin(id, Job::Lost, About::Key(key), terms, now);
    }

    pub(super) fn begin(
        &mut self,
        id: CallId,
        job: Job<C::Peer>,
        about: About,
        terms: Terms,
        now: Now,
    ) {
        let (lookup_key, stage) = match &about {
            About::Key(key) => (key.lookup_key(), Stage::Read(Read::new(key.clone()))),
            About::Prefix(prefix, _) => (prefix.lookup_key(), Stage::Scan(Scan::default())),
        };
        let stage = match job {
            Job::Locate => Stage::Scan(Scan::default()),
            _ => stage,
        };
        let running = self.running(job, about, lookup_key, terms, stage, now);
        self.calls.insert(id, running);
        self.look(id, Reach::Table);
        self.drive(id, now);
    }

    pub(super) fn running(
        &self,
        job: Job<C::Peer>,
        about: About,
        lookup_key: Key,
        terms: Terms,
        stage: Stage<C::Peer>,
        now: Now,
    ) -> Running<C> {
        let point = lookup_key.point();
        let n = usize::from(terms.copies.max(1));
        let mut tally = Tally::new(point, n);
        tally.merge(self.members.sight(point, n));
        Running {
            job,
            about,
            terms,
            lookup_key,
            deadline: now.time + terms.timeout,
            wake: Time::NEVER,
            tally,
            stage,
            reserved: None,
            replied: false,
            looked: false,
            looking: false,
            round_at: Time::NEVER,
        }
    }

    /// Asks the owner who is close.
    pub(super) fn look(&mut self, call: CallId, reach: Reach) {
        let id = self.next_order();
        let Some(running) = self.calls.get_mut(&call) else {
            return;
        };
        running.looking = true;
        running.looked |= reach == Reach::Network;
        let key = running.lookup_key.clone();
        self.lookups.insert(id, call);
        self.outputs.push_back(Output::Lookup { id, key, reach });
    }

    pub(super) fn on_closest(&mut self, id: OrderId, contacts: Vec<C>, now: Now) {
        let Some(call) = self.lookups.remove(&id) else {
            return;
        };
        if let Some(running) = self.calls.get_mut(&call) {
            running.looking = false;
            running.tally.seed(contacts);
            self.drive(call, now);
        }
    }

    /// Looks in the network once, if that wasn't done; returns whether it is being done.
    pub(super) fn look_once(&mut self, id: CallId, running: &mut Running<C>) -> bool {
        if running.looking || running.looked {
            return running.looking;
        }
        running.looked = true;
        running.looking = true;
        let order = self.next_order();
        self.lookups.insert(order, id);
        self.outputs.push_back(Output::Lookup {
            id: order,
            key: running.lookup_key.clone(),
            reach: Reach::Network,
        });
        true
    }

    /// Looks in the network, again and again; returns whether there is time for it.
    ///
    /// A call isn't over before its time: who fills may be settled by then, and who was away may be back. So those that
    /// didn't count are asked once more, each [`RETRY`].
    pub(super) fn look_further(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> bool {
        if self.look_once(id, running) {
            return true;
        }
        if running.round_at > now.time {
            let at = running.round_at.min(now.time + RETRY);
            if at >= running.deadline {
                return false;
            }
            running.round_at = at;
            running.wake = running.wake.min(at);
            return true;
        }
        running.round_at = Time::NEVER;
        running.looked = false;
        running.tally.merge(self.sight_for(running));
        running.tally.begin_round();
        self.look_once(id, running)
    }

    fn sight_for(&self, running: &Running<C>) -> super::messages::Sight<C> {
        let n = usize::from(running.terms.copies.max(1));
        self.members.sight(running.lookup_key.point(), n)
    }

    /// Asks a peer for a call.
    pub(super) fn ask_for(
        &mut self,
        id: CallId,
        running: &mut Running<C>,
        peer: C::Peer,
        query: Query<C>,
        hint_for: Option<C::Peer>,
        now: Now,
    ) {
        let Some(contact) = running.tally.contact(peer).cloned() else {
            return;
        };
        let request = self.ask(&contact, query, Purpose::Call(id), now);
        running.tally.ask(peer, request, hint_for);
    }

    /// Does what a call can do now.
    pub(super) fn drive(&mut self, id: CallId, now: Now) {
        let Some(mut running) = self.calls.remove(&id) else {
            return;
        };
        // The owner is about to say whom it knows.
        if running.looking && !running.looked && now.time < running.deadline {
            self.calls.insert(id, running);
            return;
        }
        running.wake = Time::NEVER;
        let ended = match running.stage {
            Stage::Read(_) => self.drive_read(id, &mut running, now),
            Stage::Scan(_) => self.drive_scan(id, &mut running, now),
            Stage::Write(_) => self.drive_write(id, &mut running, now),
            Stage::Reserve(_) => self.reserve_overdue(id, &running, now),
            Stage::Sign => false,
            Stage::Persist(_) => {
                self.persist_overdue(id, &mut running, now);
                false
            }
        };
        if ended {
            self.give_up_dot(&running);
        } else {
            self.calls.insert(id, running);
        }
    }

    pub(super) fn calls_due(&mut self, now: Now) {
        let due = self.calls.iter().filter(|(_, r)| r.wake_at() <= now.time);
        let due: Vec<CallId> = due.map(|(&id, _)| id).collect();
        for id in due {
            self.drive(id, now);
        }
    }

    pub(super) fn on_call_answer(
        &mut self,
        id: CallId,
        from: C::Peer,
        answer: Answer<C>,
        now: Now,
    ) {
        let Some(mut running) = self.calls.remove(&id) else {
            return;
        };
        match (&mut running.stage, answer) {
            (
                Stage::Read(_),
                Answer::Got {
                    sight,
                    records,
                    more,
                },
            ) => {
                let counts = sight.counts;
                running.tally.merge(sight);
                self.on_records(id, &mut running, from, (records, more), counts, now);
            }
            (Stage::Scan(scan), Answer::Heads { sight, heads, more }) => {
                let counts = sight.counts;
                running.tally.merge(sight);
                scan.answered(from, heads, more);
                running.tally.set(from, State::Answered { counts });
            }
            (Stage::Write(writing), Answer::Put { sight, kept }) => {
                let counts = sight.counts;
                running.tally.merge(sight);
                writing.answered(from, kept);
                match kept {
                    // It may well take the record when it is asked again.
                    Err(why) if why.is_passing() => {
                        running.tally.set(from, State::Failed { at: now.time });
                    }
                    Ok(()) | Err(_) => running.tally.set(from, State::Answered { counts }),
                }
            }
            (_, Answer::Unable) => running.tally.set(from, State::Failed { at: now.time }),
            (_, _) => {
                running.tally.set(from, State::Failed { at: now.time });
                self.misbehaved(from, "an answer to something else");
            }
        }
        self.calls.insert(id, running);
        self.drive(id, now);
    }

    /// Takes an answer that came after its request had failed: the call may still run.
    pub(super) fn on_late_answer(
        &mut self,
        from: C::Peer,
        request: RequestId,
        answer: Answer<C>,
        now: Now,
    ) {
        let waits = |running: &Running<C>| {
            let asked = running.tally.asked(from);
            asked.is_some_and(|asked| asked.request == request)
        };
        let mut calls = self.calls.iter().filter(|(_, running)| waits(running));
        if let Some(id) = calls.next().map(|(&id, _)| id) {
            self.on_call_answer(id, from, answer, now);
        }
    }

    pub(super) fn on_call_slow(&mut self, id: CallId, peer: C::Peer, now: Now) {
        if let Some(running) = self.calls.get_mut(&id) {
            running.tally.set(peer, State::Slow);
            self.drive(id, now);
        }
    }

    pub(super) fn on_call_failed(&mut self, id: CallId, peer: C::Peer, now: Now) {
        if let Some(running) = self.calls.get_mut(&id) {
            running.tally.set(peer, State::Failed { at: now.time });
            self.drive(id, now);
        }
    }

    /// Ends the oldest of the calls that were answered, if they are too many.
    fn make_room(&mut self) {
        let answered = self.calls.iter().filter(|(_, running)| running.replied);
        let answered = answered.map(|(&id, running)| (running.deadline, id));
        let (count, oldest) = answered.fold((0, None), |(count, oldest), call| {
            (
                count + 1,
                Some(oldest.map_or(call, |oldest: (Time, CallId)| call.min(oldest))),
            )
        });
        if let Some((_, oldest)) = oldest.filter(|_| count >= AFTERWARDS_MAX) {
            self.calls.remove(&oldest);
        }
    }

    /// Replies to a call whose record still has to reach some replicas.
    pub(super) fn reply_early(
        &mut self,
        id: CallId,
        running: &mut Running<C>,
        outcome: Outcome<C::Peer>,
        now: Now,
    ) {
        running.replied = true;
        running.deadline = now.time + AFTERWARDS;
        self.reply(id, outcome);
        self.make_room();
    }
}

/// What each peer has answered.
pub(super) type Answers<P, T> = BTreeMap<P, T>;
