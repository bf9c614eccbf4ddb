//! Writes: the record goes to all replicas and to whoever becomes one, and enough of them must have it on disk.
//!
//! For a replica that isn't there the closest node beyond them stands in and keeps the record as a hint. Its
//! acknowledgement counts where those of replicas can't come in time, and the answer says `sloppy`. A call goes on after
//! its answer until the record is where it belongs.

use crate::kv::{
    COPIES_MAX, Context, Expect, Invalid, KvKey, Record, Siblings, Unmet, VALUE_BYTES_MAX,
};
use crate::{Contact, Now, Peer, Time};

use super::calls::{Basis, Draft, Written};
use super::config::AFTERWARDS;
use super::disk::{Then, Write};
use super::messages::{Delivery, Query, Refusal};
use super::running::{About, Answers, Job, Put, Reserved, Running, Stage};
use super::tally::State;
use super::{CallId, Outcome, Output, Reach, Store, Terms};

/// A record that is being written.
#[derive(Debug)]
pub(super) struct Writing<P> {
    record: Record<P>,
    answers: Answers<P, Result<(), Refusal>>,
    /// Which replica's place each stand-in takes.
    stand_ins: Answers<P, P>,
}

impl<P: Peer> Writing<P> {
    pub(super) fn new(record: Record<P>) -> Self {
        Self {
            record,
            answers: Answers::new(),
            stand_ins: Answers::new(),
        }
    }

    pub(super) fn answered(&mut self, from: P, kept: Result<(), Refusal>) {
        // What is on disk once stays.
        if self.answers.get(&from) != Some(&Ok(())) {
            self.answers.insert(from, kept);
        }
    }

    fn durable(&self) -> Vec<P> {
        let kept = self.answers.iter().filter(|(_, kept)| kept.is_ok());
        kept.map(|(&peer, _)| peer).collect()
    }

    /// Returns a reason for which it was refused, one that lasts before one that passes.
    fn refusal(&self) -> Option<Refusal> {
        let refused = self.answers.values().filter_map(|kept| kept.err());
        refused.min_by_key(|why| why.is_passing())
    }
}

/// Checks what needs no network.
fn check<P>(put: &Put<P>, terms: &Terms) -> Result<(), Invalid> {
    if put.ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(Invalid::Expiry);
    }
    if !(1..=COPIES_MAX).contains(&terms.copies) {
        return Err(Invalid::Copies(terms.copies));
    }
    match &put.content {
        Written::Value(value) if value.len() > VALUE_BYTES_MAX => Err(Invalid::TooLarge(
            u32::try_from(value.len()).unwrap_or(u32::MAX),
        )),
        Written::Value(_) | Written::Nothing => Ok(()),
    }
}

fn unmet_outcome<P>(unmet: Unmet) -> Outcome<P> {
    match unmet {
        Unmet::Conflict { current } => Outcome::Conflict { version: current },
        Unmet::TooMany | Unmet::Busy => Outcome::Busy,
    }
}

impl<C: Contact> Store<C> {
    pub(super) fn begin_put(
        &mut self,
        id: CallId,
        key: &KvKey,
        mut put: Put<C::Peer>,
        terms: Terms,
        now: Now,
    ) {
        let me = self.members.me();
        let owned = key.is_owned();
        let expects = matches!(put.basis, Basis::Expect(_));
        if owned && !key.may_be_written_by(&me) || expects && !owned {
            self.reply(id, Outcome::NotOwner);
            return;
        }
        if let Err(invalid) = check(&put, &terms) {
            self.refuse(id, Refusal::Invalid(invalid));
            return;
        }
        if owned && !expects {
            put.basis = Basis::Expect(Expect::Anything);
        }
        let known = self.owned.durable(key).is_some();
        let reads = match put.basis {
            Basis::Read => true,
            Basis::Context(_) | Basis::Blind => false,
            Basis::Expect(_) => !known,
        };
        let about = About::Key(key.clone());
        if reads {
            self.begin(id, Job::Put(put), about, terms, now);
            // While it reads.
            self.reserve(id, key);
            return;
        }
        let read = super::get::Read::new(key.clone());
        let job = Job::Put(put.clone());
        let stage = Stage::Read(read);
        let mut running = self.running(job, about, key.lookup_key(), terms, stage, now);
        if !self.draft(id, &mut running, put, &Siblings::new(), now) {
            self.calls.insert(id, running);
            self.reserve(id, key);
            self.look(id, Reach::Table);
        }
    }

    /// Reserves a dot for what a call may come to write of a shared key.
    fn reserve(&mut self, id: CallId, key: &KvKey) {
        let Some(running) = self.calls.get_mut(&id).filter(|_| !key.is_owned()) else {
            return;
        };
        let (seq, forgotten) = self.dots.reserve(key);
        let durable = false;
        running.reserved = Some(Reserved { seq, durable });
        self.disk
            .write(Write::Dot(key.clone(), Some(seq)), Then::Make(id));
        if let Some(key) = forgotten {
            self.disk.write(Write::Dot(key, None), Then::Nothing);
        }
    }

    /// Takes that a call's dot is on disk, or can't be.
    pub(super) fn on_reserved(&mut self, id: CallId, kept: Result<(), Refusal>) {
        let Some(mut running) = self.calls.remove(&id) else {
            return;
        };
        if let Err(why) = kept {
            self.give_up_dot(&running);
            self.refuse(id, why);
            return;
        }
        if let Some(reserved) = &mut running.reserved {
            reserved.durable = true;
        }
        match std::mem::replace(&mut running.stage, Stage::Sign) {
            Stage::Reserve(draft) => self.order_record(id, &mut running, draft),
            stage => running.stage = stage,
        }
        self.calls.insert(id, running);
    }

    /// Ends a call whose dot the disk takes too long for; returns whether it is time. Nothing was sent.
    pub(super) fn reserve_overdue(&mut self, id: CallId, running: &Running<C>, now: Now) -> bool {
        let is_over = running.deadline <= now.time;
        if is_over {
            let outcome = Outcome::QuorumNotMet {
                replies: running.tally.replies(running.need(), 0, &[]),
                possibly_written: false,
                refused: None,
            };
            self.reply(id, outcome);
        }
        is_over
    }

    /// Gives up the dot of a call that writes nothing, if it has one: the next record of the key then says nothing of it.
    pub(super) fn give_up_dot(&mut self, running: &Running<C>) {
        if let Some((reserved, key)) = running.reserved.zip(running.key()) {
            let last = self.dots.give_up(key, reserved.seq);
            self.disk
                .write(Write::Dot(key.clone(), last), Then::Nothing);
        }
    }

    /// Orders the record of a draft, whose dot no later run will give out again.
    fn order_record(&mut self, id: CallId, running: &mut Running<C>, mut draft: Draft<C::Peer>) {
        let seq = if let Some(reserved) = running.reserved.take() {
            draft.prev = self.dots.make(&draft.key, reserved.seq);
            reserved.seq
        } else {
            // An owner's record is on disk before it is sent, and says which came before it.
            self.dots.take()
        };
        running.stage = Stage::Sign;
        self.outputs.push_back(Output::Sign { id, seq, draft });
    }

    fn refuse(&mut self, id: CallId, why: Refusal) {
        let possibly_written = false;
        self.reply(
            id,
            Outcome::Refused {
                why,
                possibly_written,
            },
        );
    }

    /// Orders the record of a write, now that it is known what it takes the place of; returns whether the call has
    /// ended instead.
    pub(super) fn draft(
        &mut self,
        id: CallId,
        running: &mut Running<C>,
        put: Put<C::Peer>,
        found: &Siblings<Record<C::Peer>>,
        now: Now,
    ) -> bool {
        let Some(key) = running.key().cloned() else {
            return true;
        };
        let mut draft = Draft {
            key: key.clone(),
            content: put.content,
            ttl: put.ttl,
            context: Context::new(),
            prev: None,
            covered_ends_at: None,
            copies: running.terms.copies,
        };
        match put.basis {
            Basis::Expect(expect) => {
                // This node has forgotten its own keys, or never had this one.
                let newest = found.iter().max_by_key(|record| record.header.dot.seq);
                if let Some(newest) = newest.filter(|_| self.owned.durable(&key).is_none()) {
                    self.owned.restore(&newest.header);
                }
                match self.owned.begin(&key, expect, now.unix) {
                    Ok(replaces) => {
                        draft.prev = replaces.prev;
                        draft.covered_ends_at = replaces.ends_at;
                    }
                    Err(unmet) => {
                        self.reply(id, unmet_outcome(unmet));
                        return true;
                    }
                }
            }
            Basis::Read => draft.context = found.context(now.unix),
            Basis::Context(context) => draft.context = context,
            Basis::Blind => {}
        }
        if !key.is_owned() {
            draft.covered_ends_at = draft.context.ends_at();
        }
        if key.is_owned() || running.reserved.is_some_and(|reserved| reserved.durable) {
            self.order_record(id, running, draft);
        } else {
            running.stage = Stage::Reserve(draft);
        }
        false
    }

    pub(super) fn on_signed(
        &mut self,
        id: CallId,
        record: Result<Record<C::Peer>, Invalid>,
        now: Now,
    ) {
        let Some(mut running) = self.calls.remove(&id) else {
            return;
        };
        if !matches!(running.stage, Stage::Sign) {
            self.calls.insert(id, running);
            return;
        }
        let record = match record.and_then(|record| record.header.check().map(|()| record)) {
            Ok(record) => record,
            Err(invalid) => {
                if let Some(key) = running.key().filter(|key| key.is_owned()) {
                    self.owned.given_up(key);
                }
                self.refuse(id, Refusal::Invalid(invalid));
                return;
            }
        };
        if record.header.key.is_owned() {
            self.owned.made(&record.header);
            self.disk
                .write(Write::Owned(record.clone()), Then::Send(id));
            running.stage = Stage::Persist(record);
            self.calls.insert(id, running);
            return;
        }
        running.stage = Stage::Write(Writing::new(record));
        running.tally.begin_again();
        self.calls.insert(id, running);
        self.drive(id, now);
    }

    /// Answers a caller whose record the disk takes too long for. It is sent once it is there.
    pub(super) fn persist_overdue(&mut self, id: CallId, running: &mut Running<C>, now: Now) {
        if running.deadline > now.time {
            return;
        }
        let outcome = Outcome::QuorumNotMet {
            replies: running.tally.replies(running.need(), 0, &[]),
            possibly_written: true,
            refused: None,
        };
        self.reply_early(id, running, outcome, now);
        running.deadline = Time::NEVER;
    }

    /// Sends an owner's record that is on disk.
    pub(super) fn on_owned_kept(&mut self, id: CallId, kept: Result<(), Refusal>, now: Now) {
        let Some(mut running) = self.calls.remove(&id) else {
            return;
        };
        let Stage::Persist(record) = running.stage else {
            self.calls.insert(id, running);
            return;
        };
        let (key, seq) = (&record.header.key, record.header.dot.seq);
        if let Err(why) = kept {
            self.owned.failed(key, seq);
            self.refuse(id, why);
            return;
        }
        self.owned.persisted(key, seq);
        if running.replied {
            running.deadline = now.time + AFTERWARDS;
        }
        running.stage = Stage::Write(Writing::new(record));
        running.tally.begin_again();
        self.calls.insert(id, running);
        self.drive(id, now);
    }

    /// Asks for a write, or ends it; returns whether it has ended.
    pub(super) fn drive_write(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> bool {
        let targets = running.tally.targets();
        for &peer in &targets {
            if running.tally.asked(peer).is_none() && running.tally.is_alive(peer) {
                self.ask_write(id, running, peer, None, now);
            }
        }
        self.stand_in(id, running, &targets, now);
        while let Some(peer) = running.tally.again(now.time).map(Contact::peer) {
            let hint_for = running.tally.asked(peer).and_then(|asked| asked.hint_for);
            self.ask_write(id, running, peer, hint_for, now);
        }
        running.wake = running.tally.again_at();
        let Stage::Write(writing) = &running.stage else {
            return true;
        };
        let durable = writing.durable();
        if !running.replied {
            self.judge_write(id, running, &durable, now);
        }
        running.replied && self.is_written(running, &targets, now.time)
    }

    /// Returns whether nothing is left to do for a call that was answered.
    fn is_written(&self, running: &Running<C>, targets: &[C::Peer], now: Time) -> bool {
        let Stage::Write(writing) = &running.stage else {
            return true;
        };
        let answered = |peer: C::Peer| {
            let asked = running.tally.asked(peer);
            asked.is_some_and(|asked| matches!(asked.state, State::Answered { .. }))
        };
        // Who stands in hands the record over.
        let done = |&peer: &C::Peer| {
            let stand_in = writing.stand_ins.get(&peer);
            answered(peer) || stand_in.is_some_and(|&stand_in| answered(stand_in))
        };
        running.deadline <= now || targets.iter().all(done) || running.tally.hopeful() == 0
    }

    fn ask_write(
        &mut self,
        id: CallId,
        running: &mut Running<C>,
        peer: C::Peer,
        hint_for: Option<C::Peer>,
        now: Now,
    ) {
        let Stage::Write(writing) = &running.stage else {
            return;
        };
        let query = Query::Put {
            record: writing.record.clone(),
            delivery: hint_for.map_or(Delivery::Write, Delivery::Hint),
        };
        self.ask_for(id, running, peer, query, hint_for, now);
    }

    /// Asks the closest beyond the replicas in the place of those that aren't there, and of those that are slow where
    /// the others are too few.
    fn stand_in(&mut self, id: CallId, running: &mut Running<C>, targets: &[C::Peer], now: Now) {
        let replicas = running.tally.replicas();
        let need = running.need();
        let n = usize::from(running.terms.copies);
        let counted = running.tally.counted().len();
        let state = |running: &Running<C>, peer| running.tally.asked(peer).map(|a| a.state);
        let waiting = replicas
            .iter()
            .filter(|&&peer| state(running, peer) == Some(State::Waiting))
            .count();
        let short = !running.replied && counted + waiting < need;
        let missed = if replicas.len() < n {
            targets
        } else {
            &replicas
        };
        for &peer in missed {
            let absent = match state(running, peer) {
                None => !running.tally.is_alive(peer),
                Some(State::Failed { .. }) => true,
                Some(State::Slow) => short,
                Some(State::Waiting | State::Answered { .. }) => false,
            };
            let Stage::Write(writing) = &mut running.stage else {
                return;
            };
            if !absent || writing.stand_ins.contains_key(&peer) {
                continue;
            }
            let Some(stand_in) = running.tally.next().map(Contact::peer) else {
                return;
            };
            writing.stand_ins.insert(peer, stand_in);
            self.ask_write(id, running, stand_in, Some(peer), now);
        }
    }

    /// Answers a write once it is clear what became of it.
    fn judge_write(&mut self, id: CallId, running: &mut Running<C>, durable: &[C::Peer], now: Now) {
        let Stage::Write(writing) = &running.stage else {
            return;
        };
        let need = running.need();
        let header = &writing.record.header;
        let strict = running
            .tally
            .counted()
            .iter()
            .filter(|peer| durable.contains(peer))
            .count();
        let replicas = running.tally.replicas();
        let in_time = replicas.iter().filter(|&&peer| {
            let asked = running.tally.asked(peer);
            asked.is_some_and(|asked| asked.state == State::Waiting)
        });
        let possible = strict + in_time.count();
        let got = if running.terms.strict || possible >= need {
            strict
        } else {
            durable.len()
        };
        if got >= need {
            let replies = running.tally.replies(need, got, durable);
            self.counters.sloppy += u64::from(replies.sloppy);
            let outcome = Outcome::Put {
                replies,
                header: header.clone(),
            };
            self.reply_early(id, running, outcome, now);
            return;
        }
        if running.tally.waiting() > 0 && now.time < running.deadline {
            return;
        }
        let lasting = writing.refusal().filter(|why| !why.is_passing());
        let refusal = writing.refusal();
        let over = running.deadline <= now.time;
        let goes_on = lasting.is_none() && !over;
        if goes_on && (self.look_further(id, running, now) || running.tally.hopeful() > 0) {
            return;
        }
        let possibly_written = running.tally.all_asked().next().is_some();
        let outcome = match refusal {
            Some(why) if durable.is_empty() || lasting.is_some() => Outcome::Refused {
                why,
                possibly_written: !durable.is_empty() || running.tally.hopeful() > 0,
            },
            _ => {
                self.counters.quorums_missed += 1;
                let got = if running.terms.strict {
                    strict
                } else {
                    durable.len()
                };
                Outcome::QuorumNotMet {
                    replies: running.tally.replies(need, got, durable),
                    possibly_written,
                    refused: refusal,
                }
            }
        };
        self.reply_early(id, running, outcome, now);
        // What was refused or missed isn't brought anywhere, but for what a stand-in keeps of it.
        running.deadline = now.time;
    }
}
