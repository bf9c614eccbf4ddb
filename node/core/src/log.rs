//! What a node keeps of its topics on disk: a *topic log* each.
//!
//! A log has a *life*, which tells it from other logs of the topic that came before it, and whose places start at
//! [`FIRST_PLACE`]. It has the bundles that are held, the arrivals in the order in which they came (a place for each
//! message or gap), and for each stream a mark: what is known of it and doesn't follow from the bundles.
//!
//! The core orders changes ([`LogOp`]), the shell writes them, a batch as a whole. They may be lost from the end only, so
//! that whatever is on disk is what the node knew at some moment.

mod kept;

use weft_identity::PeerId;
use weft_overlay::retained::{Earlier, Mark};
use weft_overlay::{Bundle, StreamId, UnixMicros};

use crate::{TopicBundle, TopicId, TopicName};

pub use kept::Kept;

/// The place that a log's first arrival gets: what is fetched from before it is put in front.
pub const FIRST_PLACE: u64 = 1 << 40;

/// About how many bytes a change takes in memory and on disk beside a bundle or a mark's ranges.
const OP_BYTES: usize = 128;

/// Names one order to write, so that its outcome can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// What stands at a place of an arrival log, and at those after it: each message has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Messages of a bundle.
    Bundle {
        /// Of which stream.
        stream: StreamId<PeerId>,
        /// The seq of the bundle's first message.
        first: u64,
        /// The first seq that was due.
        from: u64,
        /// The seq of its last message.
        last: u64,
    },
    /// Messages that will not come.
    Gap {
        /// Of which stream.
        stream: StreamId<PeerId>,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Arrivals that the disk could not take in time.
    Lost {
        /// How many places.
        places: u64,
    },
}

impl Arrived {
    /// Returns how many places it takes.
    pub const fn places(&self) -> u64 {
        match *self {
            Self::Bundle { from, last, .. } => last - from + 1,
            Self::Gap { .. } => 1,
            Self::Lost { places } => places,
        }
    }
}

/// Names a log: what lies on disk under another life than the topic's is nobody's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogKey {
    /// The topic's point.
    pub topic: TopicId,
    /// What tells the log from others that the topic had.
    pub life: u64,
}

/// A change of what is kept of a topic.
#[derive(Clone, Debug)]
pub enum LogOp {
    /// The topic has this log from here on.
    Open {
        /// Which log.
        log: LogKey,
        /// The topic's name.
        name: TopicName,
        /// Whether everything is in it that came since it began; otherwise it has this node's own bundles alone.
        is_whole: bool,
    },
    /// Hold a bundle.
    Hold {
        /// In which log.
        log: LogKey,
        /// The bundle.
        bundle: TopicBundle,
        /// Links it has travelled to come here.
        hops: u8,
        /// When it came here.
        received_at: UnixMicros,
    },
    /// Let go of a bundle.
    Drop {
        /// In which log.
        log: LogKey,
        /// Of which stream.
        stream: StreamId<PeerId>,
        /// The seq of its first message.
        first: u64,
    },
    /// Something has arrived.
    Arrive {
        /// In which log.
        log: LogKey,
        /// The first of its places.
        place: u64,
        /// What.
        what: Arrived,
    },
    /// Let go of what stands at a place.
    Trim {
        /// In which log.
        log: LogKey,
        /// The first of its places.
        place: u64,
    },
    /// This is known of a stream.
    Mark {
        /// In which log.
        log: LogKey,
        /// Of which stream.
        stream: StreamId<PeerId>,
        /// What.
        mark: Mark,
    },
    /// Nothing is known of a stream any more.
    Unmark {
        /// In which log.
        log: LogKey,
        /// Which stream.
        stream: StreamId<PeerId>,
    },
    /// The topic doesn't have this log any more; all that was in it was let go of before.
    Close {
        /// Which log.
        log: LogKey,
    },
}

impl LogOp {
    /// Returns about how many bytes it takes in memory and on disk.
    pub fn bytes(&self) -> usize {
        OP_BYTES
            + match self {
                Self::Hold { bundle, .. } => bundle.cost_bytes(),
                Self::Mark { mark, .. } => mark.seen.range_count() * size_of::<(u64, u64)>(),
                _ => 0,
            }
    }
}

/// A topic's log as the disk had it when the node started.
#[derive(Clone, Debug)]
pub struct RestoredTopic {
    /// The topic's name.
    pub name: TopicName,
    /// Which log it is.
    pub life: u64,
    /// Whether everything is in it that came since it began; otherwise it has this node's own bundles alone.
    pub is_whole: bool,
    /// The bundles that are held, in any order.
    pub held: Vec<Earlier<TopicBundle>>,
    /// What stands at which places, in ascending order; none where that is lost.
    pub arrivals: Vec<(u64, Option<Arrived>)>,
    /// What is known of streams.
    pub marks: Vec<(StreamId<PeerId>, Mark)>,
}
