//! What is kept of a swarm's streams beside their bundles, so that a member that was away goes on where it stopped.
//!
//! Most of what a member knows of a stream follows from the bundles that it holds. What doesn't is a [`Mark`]: where it
//! began, what it has seen and let go of, and what is due next. A mark is made whenever a bundle goes or a base moves
//! ([`Change`]); one that lags behind costs nothing, since held bundles make good what it doesn't say.

use weft_identity::Hash;

use crate::history::{History, Retention};
use crate::stream::Held;
use crate::{Bundle, Now, PreviousEpoch, Seqs, StreamId, Time, UnixMicros};

/// What has changed of what is held, other than a bundle that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<P> {
    /// A bundle isn't held any more.
    Dropped {
        /// Of which stream.
        stream: StreamId<P>,
        /// The seq of its first message.
        first: u64,
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

/// A bundle from before this member's base, as somebody had it who was there.
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

    /// Returns what is held, in the order in which it came.
    pub fn held_in_order(&self) -> impl Iterator<Item = &Held<B>> {
        let arrivals = self.arrivals.iter();
        arrivals.filter_map(|&(id, first)| self.held(id, first))
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
        stream.held.insert(
            header.first,
            Held {
                bundle: earlier.bundle,
                hops: earlier.hops,
                received_at: earlier.received_at,
                received: now.time,
                older: now.unix.since(earlier.received_at),
            },
        );
        if header.last.saturating_add(1) == stream.supplies_from {
            stream.supplies_from = header.first;
        }
        self.arrivals.push_front((header.stream, header.first));
        true
    }
}
