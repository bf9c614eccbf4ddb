//! What the overlay needs to know of a peer: an id, and what the peer tells others of itself.

use std::fmt::Debug;

use weft_identity::PeerId;

use crate::UnixMicros;

/// A peer's id: small, ordered, comparable.
pub trait Peer: Copy + Ord + Debug {
    /// Returns an id, perhaps nobody's, after `before` and not after `upto`: the one that is shortest to say.
    fn between(before: Self, upto: Self) -> Self {
        let _ = before;
        upto
    }
}

/// A peer of a simulation is a number.
impl Peer for u32 {}

impl Peer for PeerId {
    /// Keeps the first bytes that tell the two apart; those that are zero at the end needn't be said.
    fn between(before: Self, upto: Self) -> Self {
        let mut bytes = [0; 32];
        for (at, (&ours, theirs)) in upto.as_bytes().iter().zip(before.as_bytes()).enumerate() {
            bytes[at] = ours;
            if ours != *theirs {
                break;
            }
        }
        Self::from_bytes(bytes)
    }
}

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
