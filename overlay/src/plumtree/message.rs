//! The messages of a swarm's broadcast: Plumtree's four, the beacons of the shared tree, and the digests that serve announcement, acknowledgement and
//! exchange alike.

use std::time::Duration;

use crate::digest::StreamDigest;
use crate::{Header, Seqs, StreamId, UnixMicros};

/// Why a bundle is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Pushed along a tree.
    Eager,
    /// Supplied because the receiver asked for it.
    Supplied,
}

/// How a digest frame stands to what the receiver has been told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestKind {
    /// The streams named replace what was said of them; others stand as they were.
    Delta,
    /// The first frame of everything the sender has: what was said before is void.
    Full,
}

/// Where the sender stands in the swarm's shared tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon<P> {
    /// The tree's root.
    pub root: P,
    /// When it began to be the root, by its own clock. The eldest root holds.
    pub since: UnixMicros,
    /// How often it has said that it lives, by the newest word that came down the tree.
    pub refresh: u64,
    /// How far away it is, in time; none if there is no way to it any more.
    pub distance: Option<Duration>,
    /// Whether the receiver is the sender's parent on the tree.
    pub to_parent: bool,
}

/// A message between two neighbours in a swarm.
#[derive(Clone, Debug)]
pub enum Message<P, B> {
    /// A bundle.
    Bundle {
        /// The bundle itself.
        bundle: B,
        /// Links it has travelled when it arrives, from 1.
        hops: u8,
        /// Why it comes.
        push: Push,
    },
    /// A bundle that the receiver recognised as one it has verified already. It never stands on the wire: the decoder makes
    /// it of a [`Message::Bundle`], and only its header goes on.
    Duplicate {
        /// Where the bundle stands.
        header: Header<P>,
        /// Why it came.
        push: Push,
    },
    /// What the sender has, cumulative for each stream: a lazy announcement, an acknowledgement, or part of an exchange.
    Digest {
        /// How it stands to earlier ones.
        kind: DigestKind,
        /// The streams, at most [`crate::digest::STREAMS_PER_FRAME_MAX`].
        streams: Vec<StreamDigest<P>>,
        /// Whether the sender knows where the swarm's streams stand (one that has just joined doesn't).
        has_base: bool,
        /// Whether the receiver is asked to answer with everything it has.
        reply: bool,
    },
    /// Opens an exchange: a fingerprint of everything the sender has. A receiver with another fingerprint answers with a full digest.
    Fingerprint {
        /// The first 16 bytes of a hash over the sender's digest; zero for an empty one.
        fingerprint: [u8; 16],
        /// Whether the sender has a base.
        has_base: bool,
        /// Where the sender stands in the shared tree; none if it knows no root.
        beacon: Option<Beacon<P>>,
    },
    /// Something has changed in the shared tree.
    Beacon(Beacon<P>),
    /// The receiver shall push along these publishers' trees from now on.
    Graft {
        /// The publishers.
        trees: Vec<P>,
    },
    /// The receiver shall only announce along these publishers' trees from now on.
    Prune {
        /// The publishers.
        trees: Vec<P>,
    },
    /// The receiver shall supply these seqs.
    Want {
        /// Ranges of seqs for each stream.
        ranges: Vec<(StreamId<P>, Seqs)>,
    },
}
