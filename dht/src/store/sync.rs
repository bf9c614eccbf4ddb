//! Comparison of what two nodes have, and bringing the difference.
//!
//! Each record is an *item* of 16 bytes, its hash; what a node has is a set of them, and a range of the set has a count
//! and a sum. The asking node tells those of everything; where they differ the asked one answers with the sums of 16
//! parts, or with the items themselves where they are few. So two nodes in step exchange one sum, and the cost of a
//! difference grows with it, not with what is held (range-based set reconciliation, Meyer 2022). Items rather than
//! points are divided, because keys of one tag share a point. Both sides reckon with the same peers ([`Scope`]), so that
//! they compare the same records whatever each thinks of the neighbourhood.
//!
//! The asking node drives: it compares, fetches what it lacks, pushes what the other lacks. The asked one keeps nothing
//! but its set for a while. What one of several comparisons fetches, the others leave to it.

mod serve;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;

use crate::kv::fingerprint::{Item, Items};
use crate::kv::{Arrival, KvKey, Record, RecordId};
use crate::{Contact, Now, Peer, Point, Time};

use super::config::{ATTEMPTS_MAX, FETCH_MAX, RANGES_ASKED_MAX, SESSIONS_MAX};
use super::disk::{Then, Write};
use super::loads::Reader;
use super::messages::{AMONG_MAX, Answer, ITEMS_MAX, Query, RECORDS_BYTES_MAX, Refusal, Scope};
use super::{CallId, Outcome, Purpose, Store};
use session::{Session, Step};

/// Peers turned to in the time from one round to the next, if there were so many: twenty take little over a second of a minute, and what
/// they lack waits no longer than that.
const TURNS_PER_INTERVAL: u32 = 1_024;

/// Why two nodes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// To fill this node: it fetches only.
    Fill,
    /// Because it is time.
    Round,
}

/// What another node compares with.
#[derive(Debug)]
struct Snapshot<P> {
    peer: P,
    scope: Scope<P>,
    set: Items,
}

/// A caller that waits for all comparisons.
#[derive(Debug)]
struct Waiting<P> {
    call: CallId,
    left: BTreeSet<P>,
    peers: usize,
    failed: usize,
    fetched_before: u64,
    pushed_before: u64,
}

/// The comparisons of a node.
#[derive(Debug)]
pub(super) struct Sync<P: Peer> {
    sessions: BTreeMap<P, Session<P>>,
    queue: VecDeque<(P, Why)>,
    snapshots: VecDeque<Snapshot<P>>,
    /// What is being fetched, and from whom.
    fetching: BTreeMap<Item, P>,
    round_at: Time,
    /// Whose turn is still to come in this round, and when the next one's is.
    turns: VecDeque<P>,
    turn_at: Time,
    /// Peers that came back, and when to compare with them.
    soon: BTreeMap<P, Time>,
    waiting: Vec<Waiting<P>>,
    pub(super) fetched: u64,
    pushed: u64,
}

impl<P: Peer> Sync<P> {
    pub(super) fn new(round_at: Time) -> Self {
        Self {
            sessions: BTreeMap::new(),
            queue: VecDeque::new(),
            snapshots: VecDeque::new(),
            fetching: BTreeMap::new(),
            round_at,
            turns: VecDeque::new(),
            turn_at: Time::NEVER,
            soon: BTreeMap::new(),
            waiting: Vec::new(),
            fetched: 0,
            pushed: 0,
        }
    }

    pub(super) fn wake_at(&self) -> Time {
        let soon = self.soon.values().min().copied();
        let round = self.round_at.min(self.turn_at);
        round.min(soon.unwrap_or(Time::NEVER))
    }

    /// Plans a comparison with a peer.
    pub(super) fn plan(&mut self, peer: P, why: Why) {
        if !self.queue.contains(&(peer, why)) {
            self.queue.push_back((peer, why));
        }
    }

    /// Plans one at a time to come.
    pub(super) fn plan_at(&mut self, peer: P, at: Time) {
        self.soon.insert(peer, at);
    }
}

impl<C: Contact> Store<C> {
    /// Compares with all neighbours, and tells a caller.
    pub(super) fn synchronise_for(&mut self, call: CallId, now: Now) {
        let alive = self.members.alive().map(|(peer, _)| peer);
        let left: BTreeSet<C::Peer> = alive.collect();
        let waiting = Waiting {
            call,
            peers: left.len(),
            left: left.clone(),
            failed: 0,
            fetched_before: self.sync.fetched,
            pushed_before: self.sync.pushed,
        };
        self.sync.waiting.push(waiting);
        for peer in left {
            self.sync.plan(peer, Why::Round);
        }
        self.tell_synchronised();
        self.start_sessions(now);
    }

    pub(super) fn sync_due(&mut self, now: Now) {
        if self.sync.round_at <= now.time {
            let spread = self.config.sync_interval / 4;
            let jitter = self.rng.random_range(0..=spread.as_micros().max(1) as u64);
            self.sync.round_at = now.time
                + (self.config.sync_interval - spread / 2)
                + std::time::Duration::from_micros(jitter);
            let alive = self.members.alive().map(|(peer, _)| peer);
            self.sync.turns = alive.collect();
            self.sync.turn_at = now.time;
            let lost: Vec<KvKey> = self.loads.lost_keys().take(ITEMS_MAX).cloned().collect();
            for key in lost {
                self.repair_lost(key, now);
            }
            self.release_hints();
            self.expire(now);
        }
        self.take_turns(now);
        let due = self.sync.soon.iter().filter(|(_, at)| **at <= now.time);
        let due: Vec<C::Peer> = due.map(|(&peer, _)| peer).collect();
        for peer in due {
            self.sync.soon.remove(&peer);
            if self.members.is_alive(peer) {
                self.begin_comparison(peer, now);
            }
        }
        self.start_sessions(now);
    }

    /// Turns to the next peer of this round: who turned to all at once would have links to all of them at once.
    fn take_turns(&mut self, now: Now) {
        if self.sync.turn_at > now.time {
            return;
        }
        self.sync.turn_at = Time::NEVER;
        let next = self.sync.turns.pop_front();
        if let Some(peer) = next.filter(|&peer| self.members.is_alive(peer)) {
            self.ask_claim(peer, now);
            self.begin_comparison(peer, now);
        }
        if !self.sync.turns.is_empty() {
            self.sync.turn_at = now.time + self.config.sync_interval / TURNS_PER_INTERVAL;
        }
    }

    /// Brings a peer what is kept for it, and compares with it.
    fn begin_comparison(&mut self, peer: C::Peer, now: Now) {
        self.begin_handoff(peer, now);
        // One of each two begins.
        if self.members.me() < peer {
            self.sync.plan(peer, Why::Round);
        }
    }

    /// Begins what is planned, as far as there is room.
    pub(super) fn start_sessions(&mut self, now: Now) {
        let mut put_off = VecDeque::new();
        while self.sync.sessions.len() < SESSIONS_MAX {
            let Some((peer, why)) = self.sync.queue.pop_front() else {
                break;
            };
            if self.sync.sessions.contains_key(&peer) {
                put_off.push_back((peer, why));
                continue;
            }
            let reachable = self.members.is_alive(peer) && peer != self.members.me();
            let scope = self.scope(why).filter(|_| reachable);
            let Some(scope) = scope else {
                self.session_ended(peer, why, false, now);
                continue;
            };
            self.counters.syncs += 1;
            let set = self.items(&scope, self.members.me(), peer, now);
            self.sync
                .sessions
                .insert(peer, Session::new(why, scope, set));
            self.go_on(peer, now);
        }
        self.sync.queue.extend(put_off);
    }

    /// Returns among whom the replicas are reckoned; `None` where this node can't say.
    fn scope(&self, why: Why) -> Option<Scope<C::Peer>> {
        let mut among: Vec<C::Peer> = match why {
            Why::Fill => self.fill.among()?,
            Why::Round => {
                let claimed = self.members.iter().filter(|(_, m)| m.region.is_some());
                claimed.map(|(peer, _)| peer).collect()
            }
        };
        among.push(self.members.me());
        among.sort_unstable();
        among.dedup();
        among.truncate(AMONG_MAX);
        let behind = u8::from(why == Why::Fill);
        Some(Scope { among, behind })
    }

    /// Returns what this node has within a scope of two.
    fn items(&self, scope: &Scope<C::Peer>, asking: C::Peer, asked: C::Peer, now: Now) -> Items {
        let among: Vec<(C::Peer, Point)> = scope.among.iter().map(|&p| (p, p.point())).collect();
        let rank = |peer: C::Peer, at: Point, point: Point| {
            let own = at ^ point;
            let others = among.iter().filter(|(other, _)| *other != peer);
            others.filter(|(_, at)| (*at ^ point) < own).count()
        };
        let (asking_at, asked_at) = (asking.point(), asked.point());
        let shared = |point: Point, copies: u8| {
            let n = usize::from(copies);
            rank(asking, asking_at, point) < n
                && rank(asked, asked_at, point) < n + usize::from(scope.behind)
        };
        self.holding.index.items(shared, now.unix)
    }

    /// Does a session's next step.
    fn go_on(&mut self, peer: C::Peer, now: Now) {
        let Some(session) = self.sync.sessions.get_mut(&peer) else {
            return;
        };
        session.attempts = 0;
        if !session.todo.is_empty() {
            let count = session.todo.len().min(RANGES_ASKED_MAX);
            session.step = Step::Compares(session.todo.drain(..count).collect());
            self.send_step(peer, now);
            return;
        }
        let mut wanted = Vec::new();
        while wanted.len() < FETCH_MAX {
            let Some(item) = session.lacks.pop_front() else {
                break;
            };
            let elsewhere = self.sync.fetching.get(&item).is_some_and(|by| *by != peer);
            if !elsewhere {
                self.sync.fetching.insert(item, peer);
                wanted.push(item);
            }
        }
        if !wanted.is_empty() {
            session.step = Step::Fetches(wanted);
            self.send_step(peer, now);
            return;
        }
        let mut bytes = 0;
        let mut pushed: Vec<(KvKey, RecordId<C::Peer>)> = Vec::new();
        while let Some(&item) = session.surplus.front() {
            if let Some(held) = self.holding.index.of_item(item) {
                bytes += held.content.value_bytes() as usize + super::messages::head_bytes(held);
                if bytes > RECORDS_BYTES_MAX && !pushed.is_empty() {
                    break;
                }
                pushed.push((held.key.clone(), held.id()));
            }
            session.surplus.pop_front();
        }
        if pushed.is_empty() || session.why == Why::Fill {
            let whole = !session.overfull;
            self.end_session(peer, whole, now);
            return;
        }
        session.step = Step::Reads;
        self.load(pushed, Reader::Push { to: peer });
    }

    /// Sends what a session's step asks for.
    fn send_step(&mut self, peer: C::Peer, now: Now) {
        let Some(contact) = self.members.get(peer).map(|member| member.contact.clone()) else {
            self.end_session(peer, false, now);
            return;
        };
        let Some(session) = self.sync.sessions.get(&peer) else {
            return;
        };
        let query = match &session.step {
            Step::Compares(ranges) => {
                let summed = ranges.iter().map(|&r| (r, session.set.summary(r)));
                Query::Compare {
                    scope: session.scope.clone(),
                    ranges: summed.collect(),
                }
            }
            Step::Fetches(items) => Query::Fetch {
                items: items.clone(),
            },
            Step::Pushes(records) => Query::Push {
                records: records.clone(),
            },
            Step::Keeps | Step::Reads => return,
        };
        self.ask(&contact, query, Purpose::Sync, now);
    }

    pub(super) fn on_sync_answer(&mut self, peer: C::Peer, answer: Answer<C>, now: Now) {
        let Some(session) = self.sync.sessions.get_mut(&peer) else {
            return;
        };
        match (&session.step, answer) {
            (Step::Compares(asked), Answer::Compare { differing }) => {
                let asked = asked.clone();
                for (range, contents) in differing {
                    if asked.contains(&range) {
                        session.differs(range, contents);
                    }
                }
                self.go_on(peer, now);
            }
            (Step::Fetches(asked), Answer::Fetched { records, more }) => {
                let asked: BTreeSet<Item> = asked.iter().copied().collect();
                self.on_fetched(peer, &asked, records, more, now);
            }
            (Step::Pushes(records), Answer::Pushed { kept }) => {
                if kept.is_err_and(Refusal::is_passing) {
                    self.end_session(peer, false, now);
                    return;
                }
                self.sync.pushed += records.len() as u64;
                self.counters.sync_pushed += records.len() as u64;
                self.go_on(peer, now);
            }
            (_, _) => self.on_sync_failed(peer, now),
        }
    }

    fn on_fetched(
        &mut self,
        peer: C::Peer,
        asked: &BTreeSet<Item>,
        records: Vec<Record<C::Peer>>,
        more: bool,
        now: Now,
    ) {
        let mut came = BTreeSet::new();
        let mut wanted = Vec::new();
        for record in records {
            let item = Item::of(&record.header);
            if asked.contains(&item) && came.insert(item) {
                wanted.push(record);
            }
        }
        let Some(session) = self.sync.sessions.get_mut(&peer) else {
            return;
        };
        if more {
            if came.is_empty() {
                self.end_session(peer, false, now);
                return;
            }
            session.lacks.extend(asked.difference(&came));
        }
        if wanted.is_empty() {
            self.go_on(peer, now);
            return;
        }
        session.step = Step::Keeps;
        let write = Write::Keep {
            records: wanted,
            hint_for: None,
            arrival: Arrival::Passed,
        };
        self.disk.write(write, Then::Synchronise(peer));
    }

    pub(super) fn on_sync_kept(&mut self, peer: C::Peer, kept: Result<(), Refusal>, now: Now) {
        if kept.is_err_and(Refusal::is_passing) {
            self.end_session(peer, false, now);
        } else {
            self.go_on(peer, now);
        }
    }

    pub(super) fn push_loaded(&mut self, peer: C::Peer, records: Vec<Record<C::Peer>>, now: Now) {
        let Some(session) = self.sync.sessions.get_mut(&peer) else {
            return;
        };
        if records.is_empty() {
            self.go_on(peer, now);
            return;
        }
        session.step = Step::Pushes(records);
        self.send_step(peer, now);
    }

    pub(super) fn on_sync_failed(&mut self, peer: C::Peer, now: Now) {
        let alive = self.members.is_alive(peer);
        let Some(session) = self.sync.sessions.get_mut(&peer) else {
            return;
        };
        session.attempts += 1;
        if session.attempts >= ATTEMPTS_MAX || !alive {
            self.end_session(peer, false, now);
        } else {
            self.send_step(peer, now);
        }
    }

    pub(super) fn end_session(&mut self, peer: C::Peer, whole: bool, now: Now) {
        let Some(session) = self.sync.sessions.remove(&peer) else {
            return;
        };
        self.sync.fetching.retain(|_, by| *by != peer);
        self.session_ended(peer, session.why, whole, now);
        self.start_sessions(now);
    }

    fn session_ended(&mut self, peer: C::Peer, why: Why, whole: bool, now: Now) {
        match why {
            Why::Fill => self.on_read(peer, whole, now),
            Why::Round => {
                for waiting in &mut self.sync.waiting {
                    if waiting.left.remove(&peer) {
                        waiting.failed += usize::from(!whole);
                    }
                }
                self.tell_synchronised();
            }
        }
    }

    fn tell_synchronised(&mut self) {
        let (done, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sync.waiting)
            .into_iter()
            .partition(|waiting| waiting.left.is_empty());
        self.sync.waiting = left;
        for waiting in done {
            let outcome = Outcome::Synchronised {
                peers: waiting.peers,
                failed: waiting.failed,
                fetched: self.sync.fetched - waiting.fetched_before,
                pushed: self.sync.pushed - waiting.pushed_before,
            };
            self.reply(waiting.call, outcome);
        }
    }
}
