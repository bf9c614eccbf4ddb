//! Exchanges: two neighbours find out what they have seen differently, and tell each other that.
//!
//! One opens with a fingerprint of everything. If the other has another one, it answers with the digests of what has changed since
//! the two were in step; where that is too much, or they never were, with the sums of parts (the module `fingerprint`). Whoever gets
//! sums says where its own are the same, divides what differs, and tells all of a part with few streams; the other answers that with
//! the rest. Nobody remembers an exchange: each message says what its answer needs, so a lost one costs no more than the wait for
//! the next exchange. At its end both know of every stream what the other has.
//!
//! **Pace.** While something changes both open one, ever more rarely. At rest they take turns: whoever has heard the other's
//! fingerprint waits for one interval, whoever has sent its own for two. So a pair in step costs one fingerprint an interval, and each
//! hears from the other within two.
//!
//! **What a hostile neighbour gains.** Its fingerprints that differ are answered once in half a second, an answer to sums is bounded by
//! the streams that there are, and what exchanges tell a neighbour in all has a rate. Spans that overlap never come here.

use std::time::Duration;

use super::Broadcast;
use super::message::{DigestKind, Message, Part};
use super::neighbour::Neighbour;
use super::tell::{BASE_ATTEMPTS, QUIET};
use crate::digest::{SPANS_PER_FRAME_MAX, STREAMS_PER_FRAME_MAX, StreamDigest};
use crate::fingerprint::TOLD_STREAMS_MAX;
use crate::span::{Span, append};
use crate::{Bundle, Now, Peer, StreamId, Time};

/// What a neighbour had changed when it sent the fingerprint that was the same as ours, we may have changed this long before it came.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// Fingerprints in a row that may differ before everything is compared: what differs may have changed without a bundle.
const OUT_OF_STEP_MAX: u8 = 3;

impl<B: Bundle> Broadcast<B> {
    /// Opens an exchange with a neighbour whose time has come.
    pub(super) fn compare_if_due(&mut self, peer: B::Peer, now: Now) {
        let has_bearings = self.has_bearings();
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if neighbour.exchange_at > now.time {
            return;
        }
        neighbour.compared_at = now.time;
        let interval = neighbour.exchange_interval;
        let longest = self.config.exchange_interval_max;
        neighbour.exchange_at = now.time
            + match interval {
                // The answer holds the base, and either frame may have been lost.
                _ if !has_bearings => self.config.base_timeout / BASE_ATTEMPTS,
                _ if interval < longest => interval,
                _ => interval * 2,
            };
        neighbour.exchange_interval = (interval * 2).min(longest);
        self.send_fingerprint(peer);
    }

    pub(super) fn send_fingerprint(&mut self, to: B::Peer) {
        let message = Message::Fingerprint {
            fingerprint: self.history.fingerprint(),
            has_base: self.has_bearings(),
            beacon: self.shared.tell(to),
        };
        self.send(to, message);
    }

    /// A neighbour's fingerprint came.
    pub(super) fn fingerprint(
        &mut self,
        from: B::Peer,
        fingerprint: [u8; 16],
        has_base: bool,
        now: Now,
    ) {
        let in_step = self.history.fingerprint() == fingerprint;
        let ours = self.has_bearings();
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        neighbour.says_base(has_base);
        // Ours is on its way to it: of two that open at once the one with the smaller id keeps its turn, and answers.
        let crossed = now.time.since(neighbour.compared_at) < QUIET;
        let is_first = self.me < from;
        let interval = neighbour.exchange_interval;
        let at_rest = in_step && interval >= self.config.exchange_interval_max;
        if at_rest && !(crossed && is_first) {
            neighbour.exchange_at = now.time + interval;
        }
        if in_step {
            neighbour.in_step_at = Some(now.time);
            neighbour.out_of_step = 0;
            neighbour.told.tell(Span::ALL, now.time);
            // In step with a neighbour that has a base: so has this member, or there is nothing to begin after.
            if has_base && !ours {
                self.fix_base(now);
                self.find_its_feet();
            }
            return;
        }
        neighbour.out_of_step = neighbour.out_of_step.saturating_add(1);
        if neighbour.out_of_step > OUT_OF_STEP_MAX {
            neighbour.in_step_at = None;
        }
        match (ours, has_base) {
            (_, false) => self.tell_everything(from, now),
            // Where it stands comes in answer to our fingerprint; the one on its way may have been lost, or come too early.
            (false, true) => self.send_fingerprint(from),
            (true, true) if self.tells_difference(from, now) => {}
            (true, true) if crossed && !is_first => {}
            (true, true) => self.divide_everything(from, now),
        }
    }

    /// Tells everything to a neighbour without a base.
    fn tell_everything(&mut self, to: B::Peer, now: Now) {
        let Some(neighbour) = self.neighbours.get_mut(&to) else {
            return;
        };
        // It asks more than once, in case one is lost. What is much isn't told twice for that.
        let again = self.config.base_timeout / BASE_ATTEMPTS / 2;
        let is_new = |at: Time| now.time.since(at) < again;
        if neighbour.answered_at.is_some_and(is_new) && !self.history.is_told(Span::ALL) {
            return;
        }
        neighbour.answered_at = Some(now.time);
        self.tell_all_of(to, &[Span::ALL], now);
    }

    /// A neighbour has seen other things than this member. Returns whether it has been told what it may lack, now or just before; where
    /// that is too much, it hasn't.
    fn tells_difference(&mut self, to: B::Peer, now: Now) -> bool {
        let Some(neighbour) = self.neighbours.get_mut(&to) else {
            return true;
        };
        let is_new = |at: Time| now.time.since(at) < QUIET;
        if neighbour.answered_at.is_some_and(is_new) {
            return true;
        }
        neighbour.answered_at = Some(now.time);
        if let Some(since) = neighbour.in_step_at {
            let changed = self.history.changed_since(since.before(IN_FLIGHT));
            let changed: Vec<_> = changed.take(TOLD_STREAMS_MAX + 1).collect();
            if changed.len() <= TOLD_STREAMS_MAX {
                self.send_digests(to, DigestKind::Recent, &changed, now);
                return true;
            }
        }
        let is_told = self.history.is_told(Span::ALL);
        if is_told {
            self.tell_all_of(to, &[Span::ALL], now);
        }
        is_told
    }

    /// Sends the sums of the parts of everything.
    fn divide_everything(&mut self, to: B::Peer, now: Now) {
        let salt = salt(now);
        let parts: Vec<_> = self.sums(Span::ALL, salt).collect();
        self.send_parts(to, salt, &parts);
    }

    /// Divides a span, and sums up the parts.
    fn sums(&self, span: Span<B::Peer>, salt: u32) -> impl Iterator<Item = Part<B::Peer>> {
        let parts = self.history.divide(span).into_iter();
        parts.map(move |span| Part {
            span,
            sum: Some(self.history.sum(span, salt)),
        })
    }

    /// A neighbour goes on with an exchange.
    pub(super) fn split(
        &mut self,
        from: B::Peer,
        theirs: u32,
        parts: Vec<Part<B::Peer>>,
        now: Now,
    ) {
        if !self.has_base() {
            return;
        }
        let salt = salt(now);
        let (mut answer, mut same, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for Part { span, sum } in parts.into_iter().take(SPANS_PER_FRAME_MAX) {
            let is_same = sum.is_none_or(|sum| self.history.sum(span, theirs) == sum);
            if is_same && let Some(neighbour) = self.neighbours.get_mut(&from) {
                neighbour.told.tell(span, now.time);
            }
            match (is_same, sum) {
                (true, None) => {}
                (true, Some(_)) => append(&mut same, span),
                (false, _) if self.history.is_told(span) => append(&mut told, span),
                (false, _) => answer.extend(self.sums(span, salt)),
            }
        }
        answer.extend(same.into_iter().map(|span| Part { span, sum: None }));
        answer.sort_by_key(|part| part.span.first);
        self.send_parts(from, salt, &answer);
        if !told.is_empty() {
            self.tell_all_of(from, &told, now);
        }
    }

    fn send_parts(&mut self, to: B::Peer, salt: u32, parts: &[Part<B::Peer>]) {
        for parts in parts.chunks(SPANS_PER_FRAME_MAX) {
            self.counters.digests_sent += 1;
            let parts = parts.to_vec();
            self.send(to, Message::Split { salt, parts });
        }
    }

    /// Tells all that there is in some spans.
    fn tell_all_of(&mut self, to: B::Peer, spans: &[Span<B::Peer>], now: Now) {
        let streams = |span: &Span<B::Peer>| self.history.streams_of(*span).collect();
        let told = spans.iter().map(|span| (*span, streams(span)));
        for frame in frames(told.collect()) {
            let kind = DigestKind::All(frame.spans);
            self.send_digests(to, kind, &frame.streams, now);
        }
    }

    /// A neighbour has told all that it has in some spans: tells it what is here otherwise.
    pub(super) fn tell_rest_of(&mut self, to: B::Peer, spans: &[Span<B::Peer>], now: Now) {
        let Some(neighbour) = self.neighbours.get(&to) else {
            return;
        };
        let otherwise = |span: &Span<B::Peer>| {
            let streams = self.history.streams_of(*span);
            let differ = streams.filter(|id| self.differs(*id, neighbour));
            differ.collect()
        };
        let rest = spans.iter().map(|span| (*span, otherwise(span)));
        for frame in frames(rest.collect()) {
            let kind = DigestKind::Rest(frame.spans);
            self.send_digests(to, kind, &frame.streams, now);
        }
    }

    /// A neighbour has told what has changed: tells it what is here otherwise.
    pub(super) fn tell_recent(&mut self, to: B::Peer, mut named: Vec<StreamId<B::Peer>>, now: Now) {
        let Some(neighbour) = self.neighbours.get(&to) else {
            return;
        };
        if let Some(since) = neighbour.in_step_at {
            named.extend(self.history.changed_since(since.before(IN_FLIGHT)));
        }
        named.sort_unstable();
        named.dedup();
        named.retain(|id| self.differs(*id, neighbour));
        // More than a frame holds is found by the next exchange.
        named.truncate(STREAMS_PER_FRAME_MAX);
        if !named.is_empty() {
            self.send_digests(to, DigestKind::Delta, &named, now);
        }
    }

    /// Returns whether what was seen of a known stream isn't what a neighbour has said of it.
    fn differs(&self, id: StreamId<B::Peer>, neighbour: &Neighbour<B::Peer>) -> bool {
        let stream = self.history.streams.get(&id);
        stream.is_some_and(|stream| !neighbour.says(id, &stream.seen, stream.head))
    }

    /// Sends digests in one frame, as far as a neighbour may be told of so much.
    fn send_digests(
        &mut self,
        to: B::Peer,
        kind: DigestKind<B::Peer>,
        streams: &[StreamId<B::Peer>],
        now: Now,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&to) else {
            return;
        };
        if !neighbour.may_tell(streams.len(), now.time) {
            return;
        }
        for id in streams {
            neighbour.mark_told(*id);
        }
        let digest = |id: &StreamId<B::Peer>| self.history.digest(*id, now.time);
        let streams: Vec<StreamDigest<B::Peer>> = streams.iter().filter_map(digest).collect();
        self.send_digest(to, kind, streams);
    }
}

/// What one frame tells: spans, and streams of them.
struct Frame<P> {
    spans: Vec<Span<P>>,
    streams: Vec<StreamId<P>>,
}

/// Lays out spans with streams of them in as many frames as they need, each of which says what it is all of.
fn frames<P: Peer>(told: Vec<(Span<P>, Vec<StreamId<P>>)>) -> Vec<Frame<P>> {
    let mut frames = Vec::new();
    let (mut spans, mut streams) = (Vec::new(), Vec::new());
    let mut close = |spans: &mut Vec<Span<P>>, streams: &mut Vec<StreamId<P>>| {
        frames.push(Frame {
            spans: std::mem::take(spans),
            streams: std::mem::take(streams),
        });
    };
    for (Span { mut first, upto }, ids) in told {
        for id in ids {
            if streams.len() >= STREAMS_PER_FRAME_MAX {
                let upto = Some(id);
                spans.push(Span { first, upto });
                first = upto;
                close(&mut spans, &mut streams);
            }
            streams.push(id);
        }
        spans.push(Span { first, upto });
        if spans.len() >= SPANS_PER_FRAME_MAX {
            close(&mut spans, &mut streams);
        }
    }
    if !spans.is_empty() {
        close(&mut spans, &mut streams);
    }
    frames
}

/// Returns what to salt sums with: nobody knows it before they are sent, and it is another one each time.
const fn salt(now: Now) -> u32 {
    now.unix.0 as u32
}
