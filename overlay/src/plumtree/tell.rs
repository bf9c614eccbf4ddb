//! Telling neighbours what this member has, and hearing what they have: announcements, acknowledgements, exchanges, and
//! the base at which a joining member begins.

use std::time::Duration;

use super::message::{DigestKind, Message};
use super::neighbour::Neighbour;
use super::repair::WANT_STREAMS_MAX;
use super::{Broadcast, Output, Start};
use crate::digest::{STREAMS_PER_FRAME_MAX, StreamDigest};
use crate::{Bundle, Now, Seqs, StreamId, Time};

/// A change this recent is still on its way through the swarm: fingerprints would differ for that alone (a guess).
const QUIET: Duration = Duration::from_millis(500);

/// What a neighbour had changed when it sent the fingerprint that was the same as ours, we may have changed this long before it came.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// Fingerprints in a row that may differ before everything is told again: what differs may have changed without a bundle.
const OUT_OF_STEP_MAX: u8 = 3;

/// How often a joining member asks each neighbour for a base before it does without.
pub(super) const BASE_ATTEMPTS: u32 = 4;

/// Exchanges after which a neighbour that says nothing of what it has counts as having nothing: two may be lost.
const MUTE_EXCHANGES: u32 = 3;

impl<B: Bundle> Broadcast<B> {
    /// Sends the announcements and fingerprints whose time has come.
    pub(super) fn tell_due(&mut self, now: Now) {
        let peers: Vec<_> = self.neighbours.keys().copied().collect();
        for peer in peers {
            self.announce_if_due(peer, now);
            self.compare_if_due(peer, now);
        }
    }

    /// Tells a neighbour now what it hasn't been told.
    pub(super) fn tell_now(&mut self, peer: B::Peer, now: Now) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer)
            && !neighbour.untold.is_empty()
        {
            neighbour.tell_at = now.time;
            self.announce_if_due(peer, now);
        }
    }

    fn announce_if_due(&mut self, peer: B::Peer, now: Now) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if neighbour.tell_at > now.time {
            return;
        }
        let untold = std::mem::take(&mut neighbour.untold);
        neighbour.untold_bytes = 0;
        neighbour.tell_at = Time::NEVER;
        neighbour.announced_at = Some(now.time);
        // The next comparison waits until the swarm is quiet again, but not for ever: frames may have been lost.
        let latest = neighbour.compared_at + self.config.exchange_interval_max;
        let quiet = (now.time + QUIET).min(latest);
        neighbour.exchange_at = neighbour.exchange_at.max(quiet);
        let digests: Vec<_> = untold
            .iter()
            .filter_map(|id| self.history.digest(id, now.time))
            .collect();
        self.send_digests(peer, DigestKind::Delta, digests, false);
    }

    fn compare_if_due(&mut self, peer: B::Peer, now: Now) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if neighbour.exchange_at > now.time {
            return;
        }
        neighbour.compared_at = now.time;
        if self.base_until.is_some() {
            // The answer holds the base, and either frame may have been lost.
            neighbour.exchange_interval = self.config.base_timeout / BASE_ATTEMPTS;
        }
        neighbour.exchange_at = now.time + neighbour.exchange_interval;
        neighbour.exchange_interval =
            (neighbour.exchange_interval * 2).min(self.config.exchange_interval_max);
        self.send_fingerprint(peer);
    }

    pub(super) fn send_fingerprint(&mut self, to: B::Peer) {
        let message = Message::Fingerprint {
            fingerprint: self.history.fingerprint(),
            has_base: self.has_base(),
            beacon: self.shared.tell(to),
        };
        self.send(to, message);
    }

    /// A neighbour's fingerprint came. If it differs from ours, we tell all and ask for all.
    pub(super) fn fingerprint(
        &mut self,
        from: B::Peer,
        fingerprint: [u8; 16],
        has_base: bool,
        now: Now,
    ) {
        let in_step = self.history.fingerprint() == fingerprint;
        let ours = self.has_base();
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        neighbour.has_base = has_base;
        if in_step {
            neighbour.in_step_at = Some(now.time);
            neighbour.out_of_step = 0;
            neighbour.told_all = Some(now.time);
            // In step with a neighbour that has a base: so has this member, or there is nothing to begin after.
            if has_base && !ours {
                self.fix_base(now);
            }
            return;
        }
        neighbour.out_of_step = neighbour.out_of_step.saturating_add(1);
        if neighbour.out_of_step > OUT_OF_STEP_MAX {
            neighbour.in_step_at = None;
        }
        self.send_everything(from, true, now);
    }

    /// Tells a neighbour everything, unless it has just been told: two that meet open the exchange both.
    fn send_everything(&mut self, to: B::Peer, reply: bool, now: Now) {
        let Some(neighbour) = self.neighbours.get_mut(&to) else {
            return;
        };
        let told = neighbour.told_everything_at;
        // One without a base asks again only where the answer was lost.
        if neighbour.has_base && told.is_some_and(|told| now.time.since(told) < QUIET) {
            return;
        }
        neighbour.told_everything_at = Some(now.time);
        neighbour.untold.clear();
        neighbour.untold_bytes = 0;
        neighbour.tell_at = Time::NEVER;
        // Two that were in step differ in nothing but what has changed since.
        let since = neighbour.in_step_at.filter(|_| neighbour.has_base);
        let kind = since.map_or(DigestKind::Full, |_| DigestKind::Delta);
        let changed_since = since.map(|since| since.before(IN_FLIGHT));
        let digests: Vec<_> = self
            .history
            .streams()
            .filter(|id| changed_since.is_none_or(|since| self.history.changed_since(*id, since)))
            .filter_map(|id| self.history.digest(id, now.time))
            .collect();
        self.send_digests(to, kind, digests, reply);
    }

    /// Sends digests in as many frames as they need; a frame that is not full is the last.
    fn send_digests(
        &mut self,
        to: B::Peer,
        kind: DigestKind,
        digests: Vec<StreamDigest<B::Peer>>,
        reply: bool,
    ) {
        let has_base = self.has_base();
        let mut kind = kind;
        let mut rest = digests;
        loop {
            let next = rest.split_off(rest.len().min(STREAMS_PER_FRAME_MAX));
            let last = rest.len() < STREAMS_PER_FRAME_MAX;
            self.counters.digests_sent += 1;
            self.send(
                to,
                Message::Digest {
                    kind,
                    streams: rest,
                    has_base,
                    reply: reply && last,
                },
            );
            if last {
                return;
            }
            kind = DigestKind::Delta;
            rest = next;
        }
    }

    /// A neighbour says what it has.
    pub(super) fn digest(
        &mut self,
        from: B::Peer,
        kind: DigestKind,
        streams: Vec<StreamDigest<B::Peer>>,
        has_base: bool,
        reply: bool,
        now: Now,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        neighbour.has_base = has_base;
        if kind == DigestKind::Full {
            neighbour.forget_all();
            neighbour.telling_all = true;
        }
        let is_last = streams.len() < STREAMS_PER_FRAME_MAX;
        let mut ids = Vec::with_capacity(streams.len().min(STREAMS_PER_FRAME_MAX));
        let mut arrivals = Vec::new();
        let mut probes = Vec::new();
        for digest in streams.into_iter().take(STREAMS_PER_FRAME_MAX) {
            if let Some(seq) = self.history.contested_by(&digest, now.time)
                && probes.len() < WANT_STREAMS_MAX
            {
                probes.push((digest.stream, Seqs::range(seq, seq)));
            }
            ids.push(digest.stream);
            if let (Some(last), Some(age)) = (digest.seqs.last(), digest.head_age) {
                arrivals.push((digest.stream, last, age));
            }
            neighbour.told(digest, now.time);
        }
        let has_told_all = is_last && neighbour.telling_all;
        if has_told_all {
            neighbour.telling_all = false;
            neighbour.told_all = Some(now.time);
            if has_base && !self.has_base() {
                self.fix_base_at(from, now);
            }
        }
        for (id, last, age) in arrivals {
            self.compare_arrivals(from, id, last, age, now);
        }
        if !probes.is_empty() {
            self.send(from, Message::Want { ranges: probes });
        }
        for id in ids {
            self.notice_missing(id, now);
            self.ask_new_parent(from, id, now);
        }
        if reply {
            self.send_everything(from, false, now);
        }
    }

    /// Begins where a neighbour stands that has told everything.
    fn fix_base_at(&mut self, from: B::Peer, now: Now) {
        let Some(neighbour) = self.neighbours.get(&from) else {
            return;
        };
        for (id, head) in neighbour.heads() {
            // What this member publishes itself begins where it began.
            if id.publisher == self.me && self.history.seen(id).is_some() {
                continue;
            }
            let last = neighbour.last(id);
            let before = match self.config.start {
                Start::Latest => last,
                // What it has seen and can't supply any more.
                Start::Retained => neighbour.supplies_from(id).saturating_sub(1).min(last),
            };
            let head = (before == last).then_some(head);
            self.history.start_after(id, (before, head), from, now);
        }
        self.fix_base(now);
    }

    /// Begins with what is known now.
    pub(super) fn fix_base(&mut self, now: Now) {
        if self.base_until.take().is_none() {
            return;
        }
        self.notice_all_missing(now);
        self.outputs.push_back(Output::Based);
        // Neighbours that wait for a base shall know that there is one here now.
        let waiting: Vec<_> = self
            .neighbours
            .iter()
            .filter(|(_, neighbour)| !neighbour.has_base)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in waiting {
            self.send_fingerprint(peer);
        }
    }

    /// Returns whether each neighbour that speaks has told everything it has at least once.
    pub(crate) fn all_told(&self, now: Time) -> bool {
        self.neighbours
            .values()
            .all(|neighbour| neighbour.told_all.is_some() || self.is_mute(neighbour, None, now))
    }

    /// Returns whether there are neighbours and each that speaks has told what it has of a stream since `time`.
    pub(crate) fn all_told_since(&self, id: StreamId<B::Peer>, time: Time, now: Time) -> bool {
        !self.neighbours.is_empty()
            && self.neighbours.values().all(|neighbour| {
                let told = neighbour.told_of(id);
                told >= Some(time) || self.is_mute(neighbour, told, now)
            })
    }

    /// Returns whether a neighbour has not said for several exchanges what it has, which an honest one does at each.
    fn is_mute(&self, neighbour: &Neighbour<B::Peer>, told: Option<Time>, now: Time) -> bool {
        let last = told.unwrap_or_default().max(neighbour.since);
        now.since(last) >= self.config.exchange_interval_max * MUTE_EXCHANGES
    }
}
