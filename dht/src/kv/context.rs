//! What a writer had seen: exact sets of dots.
//!
//! A writer's dots count all its writes, and those on one key are few and far between. So a record says which of the
//! writer's dots came before it on its key, where the writer knows: the record stands for the interval from there to
//! its own dot, in which no other write of the key lies. Contexts are unions of such intervals. They cover what they
//! were built from and nothing else, and a writer that writes a key again and again takes one interval.
//!
//! A writer takes one more interval for each run that forgot its last dot; what a context covers may be forgotten once
//! nobody can hold it any more.

use crate::UnixMicros;
use crate::kv::{Dot, LIFE_MAX, SKEW_MAX, Seq};

mod token;

pub use token::TokenError;

/// Intervals of a context in all. The design's bound of 64 writers; each takes up to 60 bytes in every record that
/// cites them.
pub const CONTEXT_INTERVALS_MAX: usize = 64;

/// The dots of one writer after `after`, up to and with `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<P> {
    /// Whose dots.
    pub writer: P,
    /// The place before the first; it is not covered.
    pub after: Seq,
    /// The last; it is covered.
    pub to: Seq,
    /// When nobody holds any more what is covered, but for the clocks' skew; `None` if that may never be.
    pub ends_at: Option<UnixMicros>,
}

impl<P: Copy> Interval<P> {
    /// Returns what a record stands for: its dot, and what lies between it and its writer's dot before it on the key.
    pub fn of_dot(dot: Dot<P>, prev: Option<Seq>, ends_at: Option<UnixMicros>) -> Self {
        Self {
            writer: dot.writer,
            after: prev.unwrap_or(dot.seq.before()),
            to: dot.seq,
            ends_at,
        }
    }
}

/// The later of two ends; one that may never come is the latest.
pub(super) fn later(a: Option<UnixMicros>, b: Option<UnixMicros>) -> Option<UnixMicros> {
    Some(a?.max(b?))
}

/// A set of dots of one key: at each writer disjoint intervals that don't touch, ordered by writer and place.
///
/// The type has no bound, because the union of what siblings cite has none. What a record may cite is bounded by
/// [`CONTEXT_INTERVALS_MAX`], which is checked where records are made, decoded and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context<P>(Vec<Interval<P>>);

impl<P> Default for Context<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Context<P> {
    /// Returns the context of a writer that had seen nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns the intervals, ordered by writer and place.
    pub fn intervals(&self) -> &[Interval<P>] {
        &self.0
    }

    /// Returns whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<P: Copy + Ord> Context<P> {
    /// Returns the union of intervals in any order. Intervals of a writer that touch become one, which ends when the
    /// last of them does; those that cover nothing are left out.
    pub fn union(intervals: impl IntoIterator<Item = Interval<P>>) -> Self {
        let covering = intervals.into_iter().filter(|i| i.after < i.to);
        let mut sorted: Vec<Interval<P>> = covering.collect();
        sorted.sort_unstable_by_key(|interval| (interval.writer, interval.after));
        sorted.dedup_by(|next, kept| {
            let touches = kept.writer == next.writer && next.after <= kept.to;
            if touches {
                kept.to = kept.to.max(next.to);
                kept.ends_at = later(kept.ends_at, next.ends_at);
            }
            touches
        });
        Self(sorted)
    }

    /// Takes intervals as they came from elsewhere; `None` unless they are ordered as a context orders them, cover
    /// something each, and neither overlap nor touch.
    pub fn from_ordered(intervals: Vec<Interval<P>>) -> Option<Self> {
        let covering = intervals
            .iter()
            .all(|interval| interval.after < interval.to);
        let ordered = intervals.windows(2).all(|pair| {
            let [first, second] = pair else { return false };
            (first.writer, first.to) < (second.writer, second.after)
        });
        (covering && ordered).then_some(Self(intervals))
    }

    /// Returns whether a dot is covered.
    pub fn covers(&self, dot: Dot<P>) -> bool {
        let up_to = (dot.writer, dot.seq);
        let before = self
            .0
            .partition_point(|interval| (interval.writer, interval.after) < up_to);
        let last = before.checked_sub(1).and_then(|last| self.0.get(last));
        last.is_some_and(|interval| interval.writer == dot.writer && dot.seq <= interval.to)
    }

    /// Returns a writer's last dot that is covered.
    pub fn last_of(&self, writer: P) -> Option<Seq> {
        let upto = self.0.partition_point(|interval| interval.writer <= writer);
        let last = self.0.get(upto.checked_sub(1)?)?;
        (last.writer == writer).then_some(last.to)
    }

    /// Returns when nobody holds any more what is covered, but for the clocks' skew: `None` if that may never be,
    /// zero if nothing is covered.
    pub fn ends_at(&self) -> Option<UnixMicros> {
        let ends = self.0.iter().map(|interval| interval.ends_at);
        ends.fold(Some(UnixMicros(0)), later)
    }

    /// Returns what a record that is written at a moment may cite of it: without the intervals that ended longer ago
    /// than clocks may differ, and with ends no later than a record's may be.
    pub fn as_of(mut self, now: UnixMicros) -> Self {
        self.0
            .retain(|interval| interval.ends_at.is_none_or(|end| end + SKEW_MAX >= now));
        for interval in &mut self.0 {
            interval.ends_at = interval.ends_at.map(|end| end.min(now + LIFE_MAX));
        }
        self
    }
}

#[cfg(test)]
mod tests;
