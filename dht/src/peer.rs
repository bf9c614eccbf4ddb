//! What the structured layer needs to know of a peer: an id with a place, and what the peer says of itself.
//!
//! The overlay has traits of the same shape. The two layers don't know each other; what stands for a peer in the daemon
//! is both.

use std::fmt::Debug;

use weft_identity::PeerId;

use crate::{Key, Point, UnixMicros};

/// A peer's id: small, ordered, with a key of its own in the key space.
pub trait Peer: Copy + Ord + Debug {
    /// Returns the key that stands for the peer, as it travels: in the daemon the 38 bytes of libp2p's PeerId.
    fn key(&self) -> Key;

    /// Returns where the peer stands: SHA-256 of its key.
    fn point(&self) -> Point {
        self.key().point()
    }
}

impl Peer for PeerId {
    fn key(&self) -> Key {
        Key::new(&self.to_multihash()).expect("38 bytes are no long key")
    }

    fn point(&self) -> Point {
        Point::of(&self.to_multihash())
    }
}

/// Peers that one party may well hold all of: those of one IPv4 /24 or IPv6 /48, say. The owner of the addresses numbers
/// them; equal numbers are one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub u64);

/// What a peer says of itself and others pass on: its id, whether it serves and, for the owner of the links, how to
/// reach it.
///
/// In the daemon this is a descriptor signed by the peer and checked before it comes here, in a simulation little more
/// than the id.
pub trait Contact: Clone + Debug {
    /// The peer's id.
    type Peer: Peer;

    /// Returns whose contact this is.
    fn peer(&self) -> Self::Peer;

    /// Returns when the peer issued it; of two contacts of one peer the later one holds.
    fn issued_at(&self) -> UnixMicros;

    /// Returns when it stops being worth passing on.
    fn expires_at(&self) -> UnixMicros;

    /// Returns whether the peer answers queries. One that doesn't is a client: it stands in nobody's table.
    fn serves(&self) -> bool;

    /// Returns the group whose share of a table is limited; `None` where limits are off (loopback, private ranges).
    fn group(&self) -> Option<Group>;
}
