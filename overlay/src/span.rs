//! Spans of streams, in the order of their ids: what two neighbours compare, and divide where they differ.

use crate::{Peer, StreamId};

/// Streams that follow each other in the order of their ids, whichever of them there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<P> {
    /// The first stream that may lie in it; none where it begins at the beginning.
    pub first: Option<StreamId<P>>,
    /// The first stream after it; none where it goes to the end.
    pub upto: Option<StreamId<P>>,
}

impl<P: Peer> Span<P> {
    /// All streams.
    pub const ALL: Self = Self {
        first: None,
        upto: None,
    };

    /// Returns whether a stream lies in it.
    pub fn contains(&self, id: StreamId<P>) -> bool {
        self.first.is_none_or(|first| first <= id) && self.upto.is_none_or(|upto| id < upto)
    }

    /// Returns whether no stream can lie in it.
    pub fn is_empty(&self) -> bool {
        matches!((self.first, self.upto), (Some(first), Some(upto)) if upto <= first)
    }

    /// Returns whether it begins where another one ends, or later.
    pub fn follows(&self, other: &Self) -> bool {
        matches!((other.upto, self.first), (Some(upto), Some(first)) if upto <= first)
    }
}

/// Appends a span, to the last one where the two meet.
pub(crate) fn append<P: Peer>(spans: &mut Vec<Span<P>>, span: Span<P>) {
    match spans.last_mut() {
        Some(last) if last.upto.is_some() && last.upto == span.first => last.upto = span.upto,
        _ => spans.push(span),
    }
}

/// Returns where to divide between two streams that follow each other: any id will do, and a plain one is short to say.
pub(crate) fn between<P: Peer>(before: StreamId<P>, upto: StreamId<P>) -> StreamId<P> {
    if before.publisher == upto.publisher {
        return upto;
    }
    StreamId {
        publisher: P::between(before.publisher, upto.publisher),
        epoch: 0,
    }
}
