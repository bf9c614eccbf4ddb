//! When a neighbour last told what it has, span by span: an exchange tells of some streams by naming them and of others by the
//! sums of the spans in which they lie.

use crate::span::Span;
use crate::{Peer, StreamId, Time};

/// Spans that are told apart: more than the exchange of two that differ here and there leaves. Of more, those told at the closest
/// moments count as told at the earlier one.
const SPANS_MAX: usize = 256;

/// When a neighbour last told of each stream.
#[derive(Clone, Debug)]
pub(crate) struct Told<P> {
    /// Where spans begin, ascending, and when they were told of; each goes to the beginning of the next one, the first begins at the
    /// beginning. Nothing was told of while there is none.
    spans: Vec<(Option<StreamId<P>>, Option<Time>)>,
}

impl<P: Peer> Told<P> {
    pub(crate) const fn new() -> Self {
        Self { spans: Vec::new() }
    }

    /// Returns when it was told of a stream.
    pub(crate) fn of(&self, id: StreamId<P>) -> Option<Time> {
        let after = self.spans.partition_point(|(first, _)| *first <= Some(id));
        self.spans.get(after.checked_sub(1)?)?.1
    }

    /// Returns since when it has been told of everything; none while something is left.
    pub(crate) fn of_all(&self) -> Option<Time> {
        // None comes before any time.
        self.spans.iter().map(|(_, at)| *at).min().flatten()
    }

    /// The neighbour tells of a span now.
    pub(crate) fn tell(&mut self, span: Span<P>, now: Time) {
        if span.is_empty() {
            return;
        }
        if span == Span::ALL {
            self.spans.clear();
            self.spans.push((None, Some(now)));
            return;
        }
        if self.spans.is_empty() {
            self.spans.push((None, None));
        }
        let from = self.cut(span.first);
        let to = match span.upto {
            Some(upto) => self.cut(Some(upto)),
            None => self.spans.len(),
        };
        self.spans.splice(from..to, [(span.first, Some(now))]);
        self.spans.dedup_by(|next, before| next.1 == before.1);
        while self.spans.len() > SPANS_MAX {
            self.melt();
        }
    }

    /// Makes a span begin here; returns its place.
    fn cut(&mut self, first: Option<StreamId<P>>) -> usize {
        let at = self.spans.partition_point(|(begin, _)| *begin < first);
        if self.spans.get(at).is_none_or(|(begin, _)| *begin != first) {
            let told = at.checked_sub(1).and_then(|before| self.spans[before].1);
            self.spans.insert(at, (first, told));
        }
        at
    }

    /// Makes one of the two neighbouring spans that were told of at the closest moments.
    fn melt(&mut self) {
        let apart = |at: &usize| match (self.spans[*at].1, self.spans[*at + 1].1) {
            (Some(a), Some(b)) => a.max(b).since(a.min(b)),
            _ => std::time::Duration::MAX,
        };
        let pairs = 0..self.spans.len().saturating_sub(1);
        if let Some(at) = pairs.min_by_key(apart) {
            let (_, next) = self.spans.remove(at + 1);
            self.spans[at].1 = self.spans[at].1.min(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const fn id(publisher: u32) -> StreamId<u32> {
        StreamId {
            publisher,
            epoch: 0,
        }
    }

    fn spans() -> impl Strategy<Value = Span<u32>> {
        let bound = || prop::option::of((1u32..40).prop_map(id));
        (bound(), bound()).prop_map(|(first, upto)| Span { first, upto })
    }

    proptest! {
        #[test]
        fn each_stream_was_told_of_when_its_last_span_was(told in prop::collection::vec(spans(), 0..30)) {
            let mut spans = Told::new();
            let mut model: BTreeMap<u32, Time> = BTreeMap::new();
            for (at, span) in told.into_iter().enumerate() {
                let now = Time::from_micros(at as u64 / 3);
                spans.tell(span, now);
                model.extend((0..41).filter(|n| span.contains(id(*n))).map(|n| (n, now)));
                for n in 0..41 {
                    prop_assert_eq!(spans.of(id(n)), model.get(&n).copied());
                }
                let all = (model.len() == 41).then(|| *model.values().min().expect("41"));
                prop_assert_eq!(spans.of_all(), all);
                prop_assert!(spans.spans.is_sorted_by(|a, b| a.0 < b.0));
            }
        }
    }

    #[test]
    fn too_many_spans_melt_and_none_counts_as_told_later_than_it_was() {
        let mut told = Told::new();
        for n in 0..1_000 {
            let first = Some(id(2 * n));
            let upto = Some(id(2 * n + 1));
            told.tell(Span { first, upto }, Time::from_micros(u64::from(n)));
        }
        assert_eq!(told.spans.len(), SPANS_MAX);
        for n in 0..1_000 {
            assert!(told.of(id(2 * n)) <= Some(Time::from_micros(u64::from(n))));
            assert_eq!(told.of(id(2 * n + 1)), None);
        }
        told.tell(Span::ALL, Time::from_micros(5));
        assert_eq!(told.of_all(), Some(Time::from_micros(5)));
    }
}
