//! What no neighbour holds: members ask each other on, and hand on what comes back.
//!
//! A member that began later than others counts what lies before its base as seen and holds none of it. Whoever has only such
//! neighbours lacks what lies out of sight: somebody may hold it two links away, and no digest says so. So it asks them for what they
//! have seen and can't supply. Whoever has it before its base asks neighbours that can supply it or else all that have seen it, and
//! hands what comes back to those who asked. Nothing is kept on the way, and nothing of what a member has seen changes.
//!
//! **What a hostile neighbour gains.** It can have asked on for what it doesn't lack: each stream once in two seconds, and what is
//! handed on in all has a rate.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::{Message, Push};
use super::repair::WANT_STREAMS_MAX;
use super::wants::ASK_TIMEOUT;
use super::{Broadcast, Output};
use crate::bounds::within;
use crate::small::SmallMap;
use crate::{Bundle, Header, Now, Peer, Seqs, StreamId, Time};

/// How long a neighbour that holds what has come into sight of others is waited for: several announcements.
const RECALL_DELAY: Duration = Duration::from_secs(1);
/// How often neighbours are asked for the same, each time twice as long after the time before: for a minute, four times the bound
/// after which a hole is told.
const RECALLS_MAX: u32 = 6;
/// Streams of which something is out of sight: more are found by later digests.
const RECALLED_MAX: usize = 256;
/// Streams that neighbours have something sought of: as many as one of them asks for in one message.
const SOUGHT_MAX: usize = WANT_STREAMS_MAX;
/// How long what comes is handed on to whoever asked: it comes over a few links, each at the pace of repair.
const SOUGHT_FOR: Duration = Duration::from_secs(10);
/// Bytes that are handed on at once, and how many more a second (a guess: what a split of seconds leaves of a busy topic, and half a
/// megabit a second of a member that somebody abuses).
const HANDED_ON_BURST: usize = 4 * 1024 * 1024;
const HANDED_ON_A_SECOND: usize = 64 * 1024;

/// What this member asks for.
#[derive(Clone, Copy, Debug)]
struct Recall {
    at: Time,
    asked: u32,
}

/// What neighbours ask for.
#[derive(Clone, Debug)]
struct Sought<P> {
    by: Vec<(P, Seqs)>,
    /// What neighbours were asked for on their behalf, and since when.
    asked: Seqs,
    asked_at: Time,
}

/// What is asked for that no neighbour holds.
#[derive(Clone, Debug)]
pub(crate) struct Relay<P> {
    recalls: SmallMap<StreamId<P>, Recall>,
    sought: SmallMap<StreamId<P>, Sought<P>>,
    /// Bytes that may be handed on, as it was then.
    may_hand_on: usize,
    may_hand_on_at: Time,
}

impl<P: Peer> Relay<P> {
    pub(crate) const fn new() -> Self {
        Self {
            recalls: SmallMap::new(),
            sought: SmallMap::new(),
            may_hand_on: HANDED_ON_BURST,
            may_hand_on_at: Time::ZERO,
        }
    }

    /// Something of a stream is out of sight.
    fn out_of_sight(&mut self, id: StreamId<P>, now: Time) {
        if self.recalls.len() >= RECALLED_MAX && !self.recalls.contains_key(&id) {
            // What was asked for in vain makes room.
            self.recalls.retain(|_, recall| recall.at != Time::NEVER);
            if self.recalls.len() >= RECALLED_MAX {
                return;
            }
        }
        self.recalls.get_or_insert_with(id, || Recall {
            at: now + RECALL_DELAY,
            asked: 0,
        });
    }

    /// Returns the streams that neighbours shall be asked for now, which counts as done.
    fn due(&mut self, now: Time) -> Vec<StreamId<P>> {
        let mut due = Vec::new();
        for (id, recall) in self.recalls.iter_mut() {
            if recall.at <= now {
                recall.asked += 1;
                let wait = RECALL_DELAY * (1 << recall.asked);
                let is_last = recall.asked >= RECALLS_MAX;
                recall.at = if is_last { Time::NEVER } else { now + wait };
                due.push(*id);
            }
        }
        due
    }

    pub(crate) fn next_timeout(&self) -> Time {
        let recalls = self.recalls.values().map(|recall| recall.at);
        recalls.min().unwrap_or(Time::NEVER)
    }

    /// A neighbour asks for what lies before this member's base; returns what others are to be asked for.
    fn seek(&mut self, by: P, id: StreamId<P>, seqs: Seqs, now: Time) -> Seqs {
        self.sought
            .retain(|_, sought| now.since(sought.asked_at) < SOUGHT_FOR);
        if self.sought.len() >= SOUGHT_MAX && !self.sought.contains_key(&id) {
            return Seqs::default();
        }
        let sought = self.sought.get_or_insert_with(id, || Sought {
            by: Vec::new(),
            asked: Seqs::default(),
            asked_at: now,
        });
        if now.since(sought.asked_at) >= ASK_TIMEOUT {
            sought.asked = Seqs::default();
            sought.asked_at = now;
        }
        let open = seqs.difference(&sought.asked);
        sought.asked.extend(&open);
        match sought.by.iter_mut().find(|(peer, _)| *peer == by) {
            Some((_, wants)) => *wants = seqs,
            None => sought.by.push((by, seqs)),
        }
        open
    }

    /// Returns to whom a bundle is handed on, each once and as far as the rate allows.
    fn seekers(&mut self, header: &Header<P>, from: P, bytes: usize, now: Time) -> Vec<P> {
        let Some(sought) = self.sought.get_mut(&header.stream) else {
            return Vec::new();
        };
        let came = Seqs::range(header.first, header.last);
        let mut seekers = Vec::new();
        for (peer, wants) in &mut sought.by {
            if wants.intersects(header.first, header.last) {
                *wants = wants.difference(&came);
                seekers.push(*peer);
            }
        }
        seekers.retain(|peer| *peer != from && self.may_hand_on(bytes, now));
        seekers
    }

    fn may_hand_on(&mut self, bytes: usize, now: Time) -> bool {
        let millis = now.since(self.may_hand_on_at).as_millis() as usize;
        let earned = millis.saturating_mul(HANDED_ON_A_SECOND) / 1_000;
        if earned > 0 {
            let most = self.may_hand_on.saturating_add(earned);
            self.may_hand_on = most.min(HANDED_ON_BURST);
            self.may_hand_on_at = now;
        }
        let rest = self.may_hand_on.checked_sub(bytes);
        self.may_hand_on = rest.unwrap_or(self.may_hand_on);
        rest.is_some()
    }

    pub(crate) fn neighbour_down(&mut self, peer: P) {
        for sought in self.sought.values_mut() {
            sought.by.retain(|(by, _)| *by != peer);
        }
    }

    /// Returns what is beyond its bound, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        within("streams out of sight", self.recalls.len(), RECALLED_MAX)?;
        within("streams sought", self.sought.len(), SOUGHT_MAX)
    }
}

/// What each neighbour is to be asked for.
type Asks<P> = BTreeMap<P, Vec<(StreamId<P>, Seqs)>>;

impl<B: Bundle> Broadcast<B> {
    /// A neighbour has told of a stream: notes whether it has seen what this member lacks and nobody can supply.
    pub(super) fn notice_out_of_sight(&mut self, from: B::Peer, id: StreamId<B::Peer>, now: Now) {
        if !self.has_base() {
            return;
        }
        // Nearly always everything that it can't supply was seen here.
        let can_supply = self.neighbours.get(&from).map(|it| it.supplies_from(id));
        let below = can_supply.unwrap_or(1).saturating_sub(1);
        let seen = self.history.seen(id);
        if below == 0 || seen.is_some_and(|seen| seen.covers(1, below)) {
            return;
        }
        if !self.out_of_sight(id).is_empty() {
            self.relay.out_of_sight(id, now.time);
        }
    }

    /// The same of all that neighbours have told so far, as a member does that has just fixed its base.
    pub(super) fn notice_all_out_of_sight(&mut self, now: Now) {
        let streams = |(peer, neighbour): (&B::Peer, &super::Neighbour<B::Peer>)| {
            let peer = *peer;
            neighbour
                .streams()
                .map(move |id| (peer, id))
                .collect::<Vec<_>>()
        };
        let told: Vec<_> = self.neighbours.iter().flat_map(streams).collect();
        for (peer, id) in told {
            self.notice_out_of_sight(peer, id, now);
        }
    }

    /// Returns what neighbours have seen of a stream and can't supply, and this member is owed and hasn't seen.
    fn out_of_sight(&self, id: StreamId<B::Peer>) -> Seqs {
        if id.publisher == self.me {
            return Seqs::default();
        }
        let mut known = self.history.seen(id).cloned().unwrap_or_default();
        known.insert(1, self.history.base(id));
        let mut shown = Seqs::default();
        for (peer, neighbour) in self.neighbours.iter() {
            if !self.wants.distrusts(*peer) {
                shown.extend(&neighbour.seqs(id));
                known.extend(&neighbour.can_supply(id));
            }
        }
        self.wants.acceptable(id, shown.difference(&known))
    }

    /// Asks for what has been out of sight for long enough.
    pub(super) fn recall(&mut self, now: Now) {
        let mut asks = Asks::new();
        for id in self.relay.due(now.time) {
            let seqs = self.out_of_sight(id);
            if seqs.is_empty() {
                self.relay.recalls.remove(&id);
            } else {
                self.ask_on(id, seqs, self.me, &mut asks);
            }
        }
        self.send_asks(asks);
    }

    /// A neighbour asks for what lies before this member's base: others are asked on its behalf.
    pub(super) fn seek(&mut self, from: B::Peer, sought: Vec<(StreamId<B::Peer>, Seqs)>, now: Now) {
        let mut asks = Asks::new();
        for (id, seqs) in sought {
            let open = self.relay.seek(from, id, seqs, now.time);
            self.ask_on(id, open, from, &mut asks);
        }
        self.send_asks(asks);
    }

    /// Asks neighbours that can supply something; for the rest, all that have seen it.
    fn ask_on(
        &self,
        id: StreamId<B::Peer>,
        mut open: Seqs,
        except: B::Peer,
        asks: &mut Asks<B::Peer>,
    ) {
        let others = || {
            let others = self.neighbours.iter();
            others.filter(|(peer, other)| {
                // A request replaces the one before it.
                **peer != except && !other.congested && self.wants.may_ask(id, **peer)
            })
        };
        let mut ask = |peer: &B::Peer, share: Seqs| {
            if !share.is_empty() {
                asks.entry(*peer).or_default().push((id, share));
            }
        };
        for (peer, other) in others() {
            let share = open.intersection(&other.can_supply(id));
            open = open.difference(&share);
            ask(peer, share);
        }
        for (peer, other) in others() {
            let seen = other.seqs(id).difference(&other.can_supply(id));
            ask(peer, open.intersection(&seen));
        }
    }

    fn send_asks(&mut self, asks: Asks<B::Peer>) {
        for (to, ranges) in asks {
            for ranges in ranges.chunks(WANT_STREAMS_MAX) {
                let ranges = ranges.to_vec();
                self.send(to, Message::Want { ranges });
            }
        }
    }

    /// Hands a bundle on to neighbours that asked for it.
    pub(super) fn hand_on(&mut self, from: B::Peer, bundle: &B, hops: u8, now: Now) {
        let header = bundle.header();
        let bytes = bundle.cost_bytes();
        for to in self.relay.seekers(&header, from, bytes, now.time) {
            self.counters.bundles_supplied += 1;
            self.outputs.push_back(Output::Send {
                to,
                message: Message::Bundle {
                    bundle: bundle.clone(),
                    hops: hops.saturating_add(1),
                    push: Push::Supplied,
                },
            });
        }
    }
}
