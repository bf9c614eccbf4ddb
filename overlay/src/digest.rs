//! What a member says it has: ranges of seqs for each stream.

use std::time::Duration;

use weft_identity::Hash;

use crate::{Seqs, StreamId};

/// Streams in one digest frame: with 64 ranges each it stays well below the frame's 2 MiB.
pub const STREAMS_PER_FRAME_MAX: usize = 1_024;

/// Spans in one frame, of a digest or of an exchange that divides: with their bounds and sums they take some 30 kB at most.
pub const SPANS_PER_FRAME_MAX: usize = 256;

/// What a member has of one stream, cumulative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDigest<P> {
    /// The stream.
    pub stream: StreamId<P>,
    /// The seqs it has received, at most [`crate::seqs::RANGES_MAX`] ranges.
    pub seqs: Seqs,
    /// The first seq that it can still supply; one past its last where it can supply none.
    pub supplies_from: u64,
    /// The hash of the bundle that ends at its last seq.
    pub head: Hash,
    /// How long ago that bundle came to the sender; none where it isn't held any more. A clock's differences don't matter.
    pub head_age: Option<Duration>,
}
