//! What this member knows of one neighbour, and what it still has to tell it. All of it dies with the neighbourhood.

use std::collections::VecDeque;
use std::time::Duration;

use weft_identity::Hash;

use super::told::Told;
use crate::bounds::within;
use crate::digest::StreamDigest;
use crate::history::STREAMS_MAX;
use crate::small::{SmallMap, SmallSet};
use crate::span::Span;
use crate::{Header, Peer, Seqs, StreamId, Time};

/// What is assumed of a link before its first heartbeat has come back (a guess between a local and a wide network).
const RTT_INITIAL: Duration = Duration::from_millis(50);
/// Ranges in what is remembered of a neighbour's streams, at most as many streams as a member keeps itself: an honest stream has one,
/// and few have holes.
const RANGES_MAX: usize = 2 * STREAMS_MAX;
/// Streams that exchanges may tell a neighbour of at once, and how many more each second: it may join twice, and whoever makes up
/// differences gets no more than 200 kB a second for it.
const TELL_BURST: usize = 2 * STREAMS_MAX;
const TELL_A_SECOND: usize = 2_048;

/// What a neighbour has of one stream, by its own word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Theirs {
    pub(crate) seqs: Seqs,
    pub(crate) supplies_from: u64,
    pub(crate) head: Option<Hash>,
    /// When it last told this by a digest.
    told_at: Option<Time>,
    /// When what ends at its last seq would have come here over it; none where it hasn't said.
    head_at: Option<Time>,
}

#[derive(Clone, Debug)]
pub(crate) struct Neighbour<P> {
    pub(crate) since: Time,
    pub(crate) rtt: Duration,
    pub(crate) has_base: bool,
    /// Its lane for data is full: it gets announcements only.
    pub(crate) congested: bool,
    theirs: SmallMap<StreamId<P>, Theirs>,
    /// Ranges in all of these.
    ranges: usize,
    /// When it last told what it has, span by span.
    pub(crate) told: Told<P>,
    /// When it was last answered that something differs.
    pub(crate) answered_at: Option<Time>,
    /// Streams that exchanges may tell it of, as it was then.
    may_tell: usize,
    may_tell_at: Time,
    /// When a fingerprint was last sent on the timer.
    pub(crate) compared_at: Time,
    /// Streams that changed since it was last told of them.
    pub(crate) untold: SmallSet<StreamId<P>>,
    /// Bytes that came in since it was last told.
    pub(crate) untold_bytes: usize,
    pub(crate) tell_at: Time,
    /// When it was announced to last.
    pub(crate) announced_at: Option<Time>,
    /// When its fingerprint was last the same as ours, and how often it has differed since.
    pub(crate) in_step_at: Option<Time>,
    pub(crate) out_of_step: u8,
    /// When to compare fingerprints, and how long after that again.
    pub(crate) exchange_at: Time,
    pub(crate) exchange_interval: Duration,
    /// What it asked for and hasn't been sent, in the order of asking.
    pub(crate) supplies: VecDeque<(StreamId<P>, Seqs)>,
}

impl<P: Peer> Neighbour<P> {
    pub(crate) fn new(now: Time, exchange_interval: Duration) -> Self {
        Self {
            since: now,
            rtt: RTT_INITIAL,
            has_base: false,
            congested: false,
            theirs: SmallMap::new(),
            ranges: 0,
            told: Told::new(),
            answered_at: None,
            may_tell: TELL_BURST,
            may_tell_at: now,
            compared_at: now,
            untold: SmallSet::new(),
            untold_bytes: 0,
            tell_at: Time::NEVER,
            announced_at: None,
            in_step_at: None,
            out_of_step: 0,
            exchange_at: now + exchange_interval,
            exchange_interval,
            supplies: VecDeque::new(),
        }
    }

    /// Returns the streams that it has said something of.
    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId<P>> {
        self.theirs.keys().copied()
    }

    /// Returns the epochs of a publisher that it has said something of, ascending.
    pub(crate) fn epochs(&self, publisher: P) -> impl Iterator<Item = u64> {
        let from = StreamId {
            publisher,
            epoch: 0,
        };
        let to = StreamId {
            publisher,
            epoch: u64::MAX,
        };
        self.theirs.range(from, to).map(|(id, _)| id.epoch)
    }

    /// Returns the streams that its digests named, with its last seq of each and the head there.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (StreamId<P>, Hash)> {
        self.theirs
            .iter()
            .filter_map(|(id, theirs)| Some((*id, theirs.head?)))
    }

    /// Returns when it last said what it has of a stream, by naming it or by telling all.
    pub(crate) fn told_of(&self, id: StreamId<P>) -> Option<Time> {
        let named = self.theirs.get(&id).and_then(|theirs| theirs.told_at);
        named.max(self.told.of(id))
    }

    /// Returns the last seq that it has of a stream; 0 where it has none.
    pub(crate) fn last(&self, id: StreamId<P>) -> u64 {
        self.theirs
            .get(&id)
            .and_then(|theirs| theirs.seqs.last())
            .unwrap_or(0)
    }

    /// Returns when a stream's head would have come here over it; none where it hasn't said or its last seq is another one.
    pub(crate) fn head_at(&self, id: StreamId<P>, head: u64) -> Option<Time> {
        let theirs = self.theirs.get(&id)?;
        theirs.head_at.filter(|_| theirs.seqs.last() == Some(head))
    }

    /// Returns whether it has said that it has all of `first..=last`.
    pub(crate) fn has(&self, id: StreamId<P>, first: u64, last: u64) -> bool {
        self.theirs
            .get(&id)
            .is_some_and(|theirs| theirs.seqs.covers(first, last))
    }

    /// Returns the first seq that it says it can supply of a stream.
    pub(crate) fn supplies_from(&self, id: StreamId<P>) -> u64 {
        self.theirs
            .get(&id)
            .map_or(1, |theirs| theirs.supplies_from)
    }

    /// Returns what it has seen of a stream, as far as it has said.
    pub(crate) fn seqs(&self, id: StreamId<P>) -> Seqs {
        let theirs = self.theirs.get(&id);
        theirs.map_or_else(Seqs::default, |theirs| theirs.seqs.clone())
    }

    /// Returns what it can supply of a stream.
    pub(crate) fn can_supply(&self, id: StreamId<P>) -> Seqs {
        let Some(theirs) = self.theirs.get(&id) else {
            return Seqs::default();
        };
        let mut seqs = theirs.seqs.clone();
        seqs.remove_below(theirs.supplies_from);
        seqs
    }

    /// Returns up to where it has everything of a stream.
    pub(crate) fn contiguous(&self, id: StreamId<P>) -> u64 {
        self.theirs
            .get(&id)
            .and_then(|theirs| theirs.seqs.iter().next())
            .filter(|range| *range.start() <= 1)
            .map_or(0, |range| *range.end())
    }

    /// Returns whether it has said the same of a stream as a member has that has seen these seqs and this head.
    pub(crate) fn says(&self, id: StreamId<P>, seqs: &Seqs, head: Hash) -> bool {
        let theirs = self.theirs.get(&id);
        theirs.is_some_and(|theirs| theirs.seqs == *seqs && theirs.head == Some(head))
    }

    /// It says whether it has a base: what it told before it had one doesn't count as all that it has.
    pub(crate) fn says_base(&mut self, has_base: bool) {
        if has_base && !self.has_base {
            self.told = Told::new();
        }
        self.has_base = has_base;
    }

    /// It has told of a span: what it has said of other streams there than those that are named is void.
    pub(crate) fn told_span(
        &mut self,
        span: Span<P>,
        is_named: impl Fn(StreamId<P>) -> bool,
        now: Time,
    ) {
        self.told.tell(span, now);
        let gone: Vec<_> = self
            .theirs
            .span(span.first, span.upto)
            .map(|(id, _)| *id)
            .filter(|id| !is_named(*id))
            .collect();
        for id in gone {
            self.forget(id);
        }
    }

    /// Returns whether exchanges may tell it of so many streams now, which counts as done.
    pub(crate) fn may_tell(&mut self, streams: usize, now: Time) -> bool {
        let earned = now.since(self.may_tell_at).as_millis() as usize * TELL_A_SECOND / 1_000;
        if earned > 0 {
            self.may_tell = self.may_tell.saturating_add(earned).min(TELL_BURST);
            self.may_tell_at = now;
        }
        let rest = self.may_tell.checked_sub(streams);
        self.may_tell = rest.unwrap_or(self.may_tell);
        rest.is_some()
    }

    /// Takes its word for a stream, cumulative.
    pub(crate) fn told(&mut self, digest: StreamDigest<P>, now: Time) {
        self.forget(digest.stream);
        self.make_room(1, digest.seqs.range_count());
        self.ranges += digest.seqs.range_count();
        self.theirs.insert(
            digest.stream,
            Theirs {
                seqs: digest.seqs,
                supplies_from: digest.supplies_from,
                head: Some(digest.head),
                told_at: Some(now),
                // The digest and the head take the same way: the head would have been here as long as it has been there.
                head_at: digest.head_age.map(|age| now.before(age)),
            },
        );
    }

    fn forget(&mut self, id: StreamId<P>) {
        if let Some(theirs) = self.theirs.remove(&id) {
            self.ranges -= theirs.seqs.range_count();
        }
    }

    /// Forgets streams until there is room for more of them and of ranges.
    fn make_room(&mut self, streams: usize, ranges: usize) {
        while self.theirs.len() + streams > STREAMS_MAX || self.ranges + ranges > RANGES_MAX {
            let Some((_, theirs)) = self.theirs.pop_first() else {
                return;
            };
            self.ranges -= theirs.seqs.range_count();
        }
    }

    /// It sent a bundle, so it has it.
    pub(crate) fn showed(&mut self, header: &Header<P>) {
        if !self.theirs.contains_key(&header.stream) {
            self.make_room(1, 1);
        }
        let theirs = self.theirs.get_or_insert_with(header.stream, || Theirs {
            supplies_from: header.first,
            ..Theirs::default()
        });
        // A head stands for what it has told; it moves with what it shows.
        if theirs.seqs.last() < Some(header.last) {
            theirs.head_at = None;
            if theirs.head.is_some() {
                theirs.head = Some(header.hash);
            }
        }
        let ranges = theirs.seqs.range_count();
        theirs.seqs.insert(header.first, header.last);
        self.ranges = (self.ranges + theirs.seqs.range_count()) - ranges;
        self.make_room(0, 0);
    }

    /// Marks a stream as changed, to be told at the latest by `at`.
    pub(crate) fn mark_untold(&mut self, id: StreamId<P>, at: Time) {
        self.untold.insert(id);
        self.tell_at = self.tell_at.min(at);
    }

    /// It is told of a stream now.
    pub(crate) fn mark_told(&mut self, id: StreamId<P>) {
        self.untold.remove(&id);
        if self.untold.is_empty() {
            self.untold_bytes = 0;
            self.tell_at = Time::NEVER;
        }
    }

    /// Returns what is beyond its bound, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let supplies_max = super::repair::WANT_STREAMS_MAX;
        within("streams of a neighbour", self.theirs.len(), STREAMS_MAX)?;
        within("ranges of a neighbour", self.ranges, RANGES_MAX)?;
        within("untold streams", self.untold.len(), STREAMS_MAX)?;
        within("supplies", self.supplies.len(), supplies_max)
    }
}
