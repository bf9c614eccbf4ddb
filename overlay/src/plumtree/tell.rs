//! Telling neighbours what this member has, and hearing what they have: announcements, acknowledgements, and the base at which a
//! joining member begins.

use std::time::Duration;

use super::message::{DigestKind, Message};
use super::neighbour::Neighbour;
use super::repair::WANT_STREAMS_MAX;
use super::{Broadcast, Output, Start};
use crate::digest::{SPANS_PER_FRAME_MAX, STREAMS_PER_FRAME_MAX, StreamDigest};
use crate::{Bundle, Now, Seqs, StreamId, Time};

/// A change this recent is still on its way through the swarm: fingerprints would differ for that alone (a guess).
pub(super) const QUIET: Duration = Duration::from_millis(500);

/// How often a joining member asks each neighbour for a base before it does without.
pub(super) const BASE_ATTEMPTS: u32 = 4;

/// Half intervals after which a neighbour that says nothing of what it has counts as having nothing: at rest it speaks each second
/// interval, and at once where it has seen other things.
const MUTE_HALF_INTERVALS: u32 = 5;

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
        for digests in digests.chunks(STREAMS_PER_FRAME_MAX) {
            self.send_digest(peer, DigestKind::Delta, digests.to_vec());
        }
    }

    /// Sends a frame of digests.
    pub(super) fn send_digest(
        &mut self,
        to: B::Peer,
        kind: DigestKind<B::Peer>,
        streams: Vec<StreamDigest<B::Peer>>,
    ) {
        self.counters.digests_sent += 1;
        let has_base = self.has_bearings();
        self.send(
            to,
            Message::Digest {
                kind,
                streams,
                has_base,
            },
        );
    }

    /// A neighbour says what it has.
    pub(super) fn digest(
        &mut self,
        from: B::Peer,
        kind: DigestKind<B::Peer>,
        streams: Vec<StreamDigest<B::Peer>>,
        has_base: bool,
        now: Now,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        neighbour.says_base(has_base);
        let mut named = Vec::with_capacity(streams.len().min(STREAMS_PER_FRAME_MAX));
        let mut probes = Vec::new();
        for digest in streams.into_iter().take(STREAMS_PER_FRAME_MAX) {
            if let Some(seq) = self.history.contested_by(&digest, now.time)
                && probes.len() < WANT_STREAMS_MAX
            {
                probes.push((digest.stream, Seqs::range(seq, seq)));
            }
            named.push(digest.stream);
            neighbour.told(digest, now.time);
        }
        self.told_spans(from, &kind, &named, now);
        for &id in &named {
            self.compare_arrivals(from, id, now);
        }
        if !probes.is_empty() {
            self.send(from, Message::Want { ranges: probes });
        }
        for &id in &named {
            self.notice_missing(id, now);
            self.notice_out_of_sight(from, id, now);
            self.ask_new_parent(from, id, now);
        }
        match kind {
            DigestKind::Delta | DigestKind::Rest(_) => {}
            DigestKind::Recent => self.tell_recent(from, named, now),
            DigestKind::All(spans) => self.tell_rest_of(from, &spans, now),
        }
    }

    /// A neighbour has told what it has of spans: it has nothing there but what is named or, where it told the rest, what it was told.
    fn told_spans(
        &mut self,
        from: B::Peer,
        kind: &DigestKind<B::Peer>,
        named: &[StreamId<B::Peer>],
        now: Now,
    ) {
        let (spans, is_rest) = match kind {
            DigestKind::Delta | DigestKind::Recent => return,
            DigestKind::All(spans) => (spans, false),
            DigestKind::Rest(spans) => (spans, true),
        };
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        let mut named = named.to_vec();
        named.sort_unstable();
        let history = &self.history;
        let has = |id| named.binary_search(&id).is_ok() || (is_rest && history.seen(id).is_some());
        for span in spans.iter().take(SPANS_PER_FRAME_MAX) {
            neighbour.told_span(*span, has, now.time);
        }
        if neighbour.told.of_all().is_none() || !neighbour.has_base {
            return;
        }
        if !self.has_base() {
            self.fix_base_at(from, now);
        }
        self.find_its_feet();
    }

    /// Begins where a neighbour stands that has told everything.
    fn fix_base_at(&mut self, from: B::Peer, now: Now) {
        let Some(neighbour) = self.neighbours.get(&from) else {
            return;
        };
        let oldest = self.history.epochs(self.me).next();
        for (id, head) in neighbour.heads() {
            let is_own = id.publisher == self.me && oldest.is_some_and(|oldest| oldest <= id.epoch);
            // What this member publishes itself begins where it began.
            if is_own && self.history.seen(id).is_some() {
                continue;
            }
            let last = neighbour.last(id);
            let before = match self.config.start {
                Start::Latest if !is_own => last,
                // What the neighbour has seen and can't supply any more. A crash may have taken from this member what it has published
                // since: that comes after what is left, as it did.
                Start::Latest | Start::Retained => {
                    neighbour.supplies_from(id).saturating_sub(1).min(last)
                }
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
        self.notice_all_out_of_sight(now);
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
        self.neighbours.values().all(|neighbour| {
            neighbour.told.of_all().is_some() || self.is_mute(neighbour, None, now)
        })
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
        now.since(last) >= self.config.exchange_interval_max / 2 * MUTE_HALF_INTERVALS
    }
}
