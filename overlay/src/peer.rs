//! What the overlay needs to know of a peer: an id, and what the peer tells others of itself.

use std::fmt::Debug;

use crate::UnixMicros;

/// A peer's id: small, ordered, comparable.
pub trait Peer: Copy + Ord + Debug {}

impl<T: Copy + Ord + Debug> Peer for T {}

/// What a peer says of itself and others pass on: its id and, for the owner of the links, how to reach it.
///
/// In the daemon this is a descriptor signed by the peer, in a simulation little more than the id.
pub trait Contact: Clone + Debug {
    /// The peer's id.
    type Peer: Peer;

    /// Returns whose contact this is.
    fn peer(&self) -> Self::Peer;

    /// Returns when the peer issued it; of two contacts of one peer the later one holds.
    fn issued_at(&self) -> UnixMicros;

    /// Returns when it stops being worth passing on.
    fn expires_at(&self) -> UnixMicros;
}
