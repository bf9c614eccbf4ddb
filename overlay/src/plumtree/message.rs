//! The messages of a swarm's broadcast: Plumtree's four, the beacons of the shared tree, and the digests that serve announcement, acknowledgement and
//! exchange alike.

use std::time::Duration;

use crate::digest::StreamDigest;
use crate::{Header, Seqs, Span, StreamId, UnixMicros};

/// Why a bundle is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Pushed along a tree.
    Eager,
    /// Supplied because the receiver asked for it.
    Supplied,
}

/// How a digest frame stands to what the receiver has been told before. Spans are at most
/// [`crate::digest::SPANS_PER_FRAME_MAX`], ascending and apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigestKind<P> {
    /// The streams named replace what was said of them; others stand as they were.
    Delta,
    /// The same; and the receiver, which was in step with the sender a while ago, is asked for what it has otherwise of these and of
    /// what has changed since.
    Recent,
    /// The streams named are all that the sender has in these spans, and the receiver is asked for the rest.
    All(Vec<Span<P>>),
    /// The rest: in these spans the sender has the streams named, and of all others what the receiver has said.
    Rest(Vec<Span<P>>),
}

impl<P> DigestKind<P> {
    /// Returns the spans that it is about.
    pub fn spans(&self) -> &[Span<P>] {
        match self {
            Self::Delta | Self::Recent => &[],
            Self::All(spans) | Self::Rest(spans) => spans,
        }
    }
}

/// A span of streams, and what the sender has seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<P> {
    /// The span.
    pub span: Span<P>,
    /// The sum over it; none where it is the same as the receiver's.
    pub sum: Option<u32>,
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
        kind: DigestKind<P>,
        /// The streams, at most [`crate::digest::STREAMS_PER_FRAME_MAX`].
        streams: Vec<StreamDigest<P>>,
        /// Whether the sender knows where the swarm's streams stand (one that has just joined doesn't).
        has_base: bool,
    },
    /// Opens an exchange: a fingerprint of everything the sender has seen. A receiver with another fingerprint answers with digests of
    /// what has changed or, where that is too much, with a [`Message::Split`].
    Fingerprint {
        /// The first 16 bytes of a hash over everything; zero for nothing.
        fingerprint: [u8; 16],
        /// Whether the sender has a base.
        has_base: bool,
        /// Where the sender stands in the shared tree; none if it knows no root.
        beacon: Option<Beacon<P>>,
    },
    /// Goes on with an exchange: sums of spans, each of which the receiver answers for. It says where its own sum is the same, divides
    /// the span further, or tells all that it has there.
    Split {
        /// What the sums are salted with.
        salt: u32,
        /// The spans, at most [`crate::digest::SPANS_PER_FRAME_MAX`], ascending and apart.
        parts: Vec<Part<P>>,
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
