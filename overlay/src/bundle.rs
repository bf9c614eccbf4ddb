//! Bundles: the unit that is signed, forwarded and repaired.
//!
//! A publisher's messages on a topic form a stream in each of its epochs (one run of the publisher); a bundle holds one
//! or more consecutive messages of a stream and names its predecessor's hash.

use std::fmt::Debug;

use weft_identity::Hash;

use crate::{Peer, UnixMicros};

/// One run of one publisher on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId<P> {
    /// Who publishes.
    pub publisher: P,
    /// Which run of theirs: larger is later.
    pub epoch: u64,
}

/// What an epoch's first bundle says of the epoch before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousEpoch {
    /// The previous epoch.
    pub epoch: u64,
    /// Its last seq, where the publisher knows it (after a clean stop).
    pub last: Option<u64>,
}

/// Where a bundle stands: what is compared before its signature is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<P> {
    /// Its stream.
    pub stream: StreamId<P>,
    /// The seq of its first message, from 1.
    pub first: u64,
    /// The seq of its last message; at least `first`.
    pub last: u64,
    /// The hash of its signed bytes.
    pub hash: Hash,
}

/// A verified bundle of messages; a clone shares the bytes.
pub trait Bundle: Clone + Debug {
    /// The publisher's id.
    type Peer: Peer;

    /// Returns where the bundle stands.
    fn header(&self) -> Header<Self::Peer>;

    /// Returns the hash of the bundle before it in the stream; none for the first.
    fn predecessor(&self) -> Option<Hash>;

    /// Returns what an epoch's first bundle says of the epoch before it.
    fn previous_epoch(&self) -> Option<PreviousEpoch>;

    /// Returns when the publisher published it, by the publisher's clock.
    fn published_at(&self) -> UnixMicros;

    /// Returns what it costs to keep, in bytes.
    fn cost_bytes(&self) -> usize;
}
