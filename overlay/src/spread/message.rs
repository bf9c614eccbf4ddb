//! The messages of the epidemics. They have no wire: only simulations send them.

use super::Direction;
use crate::digest::StreamDigest;
use crate::{Seqs, StreamId};

/// Which bundle: its stream and the seq of its first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleId<P> {
    /// Its stream.
    pub stream: StreamId<P>,
    /// The seq of its first message.
    pub first: u64,
}

/// A bundle on its way.
#[derive(Clone, Debug)]
pub struct Carried<B> {
    /// The bundle.
    pub bundle: B,
    /// Links it has travelled when it arrives, from 1: the generation of the epidemic.
    pub hops: u8,
}

/// What a recipient says of a rumor that it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<P> {
    /// Which rumor.
    pub id: BundleId<P>,
    /// Whether the recipient did not know it when its cycle began.
    pub needed: bool,
}

/// A message between two members.
#[derive(Clone, Debug)]
pub enum Message<P, B> {
    /// A bundle that floods.
    Flood(Carried<B>),
    /// Rumors that are hot at the sender: a push, the answer to a pull, or the question itself.
    Rumors {
        /// The rumors, at most [`super::HELD_MAX`].
        rumors: Vec<Carried<B>>,
        /// Whether the receiver's hot rumors are asked for.
        ask: bool,
    },
    /// What the sender thought of the rumors that it was told.
    Feedback {
        /// A verdict for each.
        verdicts: Vec<Verdict<P>>,
    },
    /// Opens the resolution of all differences: what the sender has.
    Digest {
        /// Its streams, at most [`super::STREAMS_MAX`].
        streams: Vec<StreamDigest<P>>,
        /// Which way they shall be resolved.
        direction: Direction,
    },
    /// The receiver shall supply these seqs, which its digest showed.
    Want {
        /// Ranges of seqs for each stream.
        ranges: Vec<(StreamId<P>, Seqs)>,
    },
    /// What the receiver lacks.
    Supply {
        /// The bundles, at most [`super::HELD_MAX`].
        bundles: Vec<Carried<B>>,
    },
}
