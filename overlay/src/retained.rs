//! What is kept of a swarm's streams beside their bundles, so that a member that was away goes on where it stopped.
//!
//! Most of what a member knows of a stream follows from the bundles that it holds. What doesn't is a [`Mark`]: where it
//! began, what it has seen and let go of, and what is due next. A mark is made whenever a bundle goes or a base moves
//! ([`Change`]); one that lags behind costs nothing, since held bundles make good what it doesn't say.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_identity::Hash;

use crate::delivery::Delivery;
use crate::history::{self, History, Retention};
use crate::stream::{Held, Stream};
use crate::{Bundle, Now, Peer, PreviousEpoch, Seqs, StreamId, Time, UnixMicros};

/// What has changed of what is held, other than a bundle that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<P> {
    /// A bundle isn't held any more.
    Dropped {
        /// Of which stream.
        stream: StreamId<P>,
        /// The seq of its first message.
        first: u64,
        /// What it cost.
        bytes: usize,
    },
    /// Where this member begins in a stream has changed.
    Moved(StreamId<P>),
    /// A stream isn't known any more; its bundles were dropped before.
    Retired(StreamId<P>),
}

/// What is known of a stream and doesn't follow from its bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last seq before which this member starts.
    pub base: u64,
    /// Every seq that was received, or lies before the base.
    pub seen: Seqs,
    /// The hash of the bundle that ends at the last of them.
    pub head: Hash,
    /// What the epoch's first bundle says of the epoch before.
    pub previous_epoch: Option<PreviousEpoch>,
    /// The seq that a subscriber gets next; none where none of the epoch is due.
    pub next: Option<u64>,
}

/// A bundle that came earlier: to this member in another run, or to somebody who was there before its base.
#[derive(Clone, Debug)]
pub struct Earlier<B> {
    /// The bundle.
    pub bundle: B,
    /// Links it has travelled to come here.
    pub hops: u8,
    /// When it counts as having come: what is older goes first.
    pub received_at: UnixMicros,
}

impl<B: Bundle> History<B> {
    /// Notes a change for somebody who keeps the same on disk.
    pub(crate) fn note(&mut self, change: Change<B::Peer>) {
        if self.config.tells_changes {
            self.changes.push_back(change);
        }
    }

    /// Returns what has changed, one after the other.
    pub(crate) fn poll_change(&mut self) -> Option<Change<B::Peer>> {
        self.changes.pop_front()
    }

    /// Holds more or less from now on.
    pub(crate) fn set_retention(&mut self, retention: Retention, now: Time) {
        self.config.bytes_max = retention.bytes_max;
        self.config.age_max = retention.age_max;
        self.shed(now);
    }

    /// Returns what is known of a stream and doesn't follow from its bundles; `next` is what a subscriber gets next.
    pub(crate) fn mark(&self, id: StreamId<B::Peer>, next: Option<u64>) -> Option<Mark> {
        let stream = self.streams.get(&id)?;
        Some(Mark {
            base: stream.base,
            seen: stream.seen.clone(),
            head: stream.head,
            previous_epoch: stream.previous_epoch,
            next,
        })
    }

    /// Takes in bundles from before this member's base, oldest first, as if they had come before all others. Returns which
    /// ones are held now: those of known streams that counted as seen and weren't here.
    pub(crate) fn take_earlier(&mut self, earlier: Vec<Earlier<B>>, now: Now) -> Vec<bool> {
        let mut taken: Vec<bool> = earlier
            .into_iter()
            .rev()
            .map(|earlier| self.take_one_earlier(earlier, now))
            .collect();
        taken.reverse();
        taken
    }

    fn take_one_earlier(&mut self, earlier: Earlier<B>, now: Now) -> bool {
        let header = earlier.bundle.header();
        let Some(stream) = self.streams.get_mut(&header.stream) else {
            return false;
        };
        let is_earlier = stream.seen.covers(header.first, header.last);
        if !is_earlier || stream.overlaps(&header) {
            return false;
        }
        self.bytes += earlier.bundle.cost_bytes();
        let older = now.unix.since(earlier.received_at);
        stream.hold(earlier.kept(now.time, older));
        if header.last.saturating_add(1) == stream.supplies_from {
            stream.supplies_from = header.first;
        }
        let messages = header.last - header.first + 1;
        self.arrived
            .push_front(header.stream, header.first, messages);
        self.note_weight(header.stream.publisher);
        true
    }
}

/// Where a member that is away has stopped.
#[derive(Clone, Debug)]
pub struct Retained<B: Bundle> {
    pub(crate) history: History<B>,
    pub(crate) delivery: Delivery<B::Peer>,
    pub(crate) extent: Extent,
}

/// How much of what has come since a member began is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it: whoever resumes is owed what came meanwhile.
    Whole,
    /// What the member has published itself: whoever resumes joins, and has that to supply.
    Own,
}

/// What is known of where a member stopped, as it was kept.
#[derive(Clone, Debug)]
pub struct Traces<B: Bundle> {
    /// How much there is of it.
    pub extent: Extent,
    /// What is known of streams, as far as it doesn't follow from the rest.
    pub marks: Vec<(StreamId<B::Peer>, Mark)>,
    /// The bundles that are held.
    pub held: Vec<Earlier<B>>,
    /// The last seq of each stream that was delivered or told as a gap.
    pub delivered: Vec<(StreamId<B::Peer>, u64)>,
}

impl<B: Bundle> Retained<B> {
    /// Makes it of what was kept by `me`.
    pub fn restore(me: B::Peer, config: history::Config, traces: Traces<B>, now: Now) -> Self {
        let mut history = History::new(config);
        let mut due: BTreeMap<StreamId<B::Peer>, u64> = BTreeMap::new();
        for (id, mark) in traces.marks {
            if let Some(next) = mark.next {
                due.insert(id, next);
            }
            let stream = history.restored(id, me, now.time);
            stream.base = mark.base;
            stream.seen = mark.seen;
            stream.head = mark.head;
            stream.previous_epoch = mark.previous_epoch;
        }
        for (id, last) in traces.delivered {
            let next = due.entry(id).or_default();
            *next = (*next).max(last.saturating_add(1));
        }
        let mut held = traces.held;
        held.sort_by_key(|held| (held.received_at, held.bundle.header().first));
        for held in held {
            history.restore_held(held, me, now);
        }
        for (_, stream) in history.streams.iter_mut() {
            stream.find_supplies();
        }
        Self {
            history,
            delivery: Delivery::restore(due),
            extent: traces.extent,
        }
    }

    /// Returns how much is retained.
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// Returns the history.
    pub const fn history(&self) -> &History<B> {
        &self.history
    }

    /// Drops what is too old or too much.
    pub fn shed(&mut self, now: Now) {
        self.history.shed(now.time);
    }

    /// Drops the bundle that has to go so that others find room; returns the bytes freed.
    pub fn make_room(&mut self) -> usize {
        self.history.make_room()
    }

    /// Returns what has changed, one after the other.
    pub fn poll_change(&mut self) -> Option<Change<B::Peer>> {
        self.history.poll_change()
    }

    /// Returns what is known of a stream and doesn't follow from its bundles; none where the stream isn't known.
    pub fn mark(&self, id: StreamId<B::Peer>) -> Option<Mark> {
        self.history.mark(id, self.delivery.due(id))
    }
}

impl<B: Bundle> History<B> {
    /// Returns a stream that was kept. Whoever made room for it then is not known: its publisher counts as who brought it.
    fn restored(&mut self, id: StreamId<B::Peer>, me: B::Peer, now: Time) -> &mut Stream<B> {
        let source = (id.publisher != me).then_some(id.publisher);
        self.streams
            .get_or_insert_with(id, || Stream::new(source, now))
    }

    fn restore_held(&mut self, held: Earlier<B>, me: B::Peer, now: Now) {
        let header = held.bundle.header();
        let stream = self.restored(header.stream, me, now.time);
        // Only damage can have made them overlap, or seen so full of holes.
        if stream.overlaps(&header) || !stream.seen.insert(header.first, header.last) {
            return;
        }
        if stream.seen.last() == Some(header.last) {
            stream.head = header.hash;
        }
        if header.first == 1 {
            stream.previous_epoch = held.bundle.previous_epoch();
        }
        let cost = held.bundle.cost_bytes();
        let older = now.unix.since(held.received_at);
        stream.hold(held.kept(now.time, older));
        self.bytes += cost;
        let messages = header.last - header.first + 1;
        self.arrived
            .push_back(header.stream, header.first, messages);
        self.note_weight(header.stream.publisher);
    }
}

impl<B> Earlier<B> {
    /// Makes it one that is held.
    fn kept(self, now: Time, older: Duration) -> Held<B> {
        Held {
            bundle: self.bundle,
            hops: self.hops,
            received_at: self.received_at,
            received: now,
            older,
        }
    }
}

impl<P: Peer> Delivery<P> {
    /// Makes a delivery that goes on where it stopped: with the seq that is due next in each stream.
    fn restore(due: BTreeMap<StreamId<P>, u64>) -> Self {
        let mut delivery = Self::new();
        // In ascending order: a publisher's last epoch is where it stands.
        for (id, next) in due {
            delivery.resume(id, next);
        }
        delivery
    }
}
