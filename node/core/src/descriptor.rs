//! Descriptors: what a peer says of itself, signed by it.

use std::sync::Arc;

use weft_identity::{Authored, Domain, Keypair, PeerId, Verified};
use weft_overlay::{Contact, UnixMicros};

use crate::{Address, wire};

/// A peer's addresses, signed by the peer; its body is what the wire carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Whose descriptor this is.
    pub peer: PeerId,
    /// Where it can be dialled, at most [`crate::address::ADDRESSES_MAX`].
    pub addresses: Vec<Address>,
    /// When the peer issued it, by its clock.
    pub issued_at: UnixMicros,
    /// When it stops being worth passing on.
    pub expires_at: UnixMicros,
    /// Its part in the structured layer.
    pub roles: Roles,
}

/// What a peer does for others in the structured layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// It answers queries: it is a server. A client only asks.
    pub serves: bool,
    /// It takes part in the replicated store.
    pub stores: bool,
}

impl Roles {
    /// It answers queries, and keeps what others entrust to it.
    pub const SERVER: Self = Self {
        serves: true,
        stores: true,
    };
    /// It only asks.
    pub const CLIENT: Self = Self {
        serves: false,
        stores: false,
    };
}

impl Authored for Descriptor {
    const DOMAIN: Domain = Domain::new("weft/descriptor/1");

    fn author(&self) -> PeerId {
        self.peer
    }
}

/// A verified descriptor as the overlay passes it on: a clone shares it, for views of many swarms hold the same.
#[derive(Clone, Debug)]
pub struct PeerContact(pub Arc<Verified<Descriptor>>);

impl PeerContact {
    /// Makes and signs a peer's descriptor of itself, with its first [`crate::address::ADDRESSES_MAX`] addresses.
    pub fn issue(
        keypair: &Keypair,
        addresses: &[Address],
        issued_at: UnixMicros,
        expires_at: UnixMicros,
        roles: Roles,
    ) -> Self {
        wire::descriptor::issue(keypair, addresses, issued_at, expires_at, roles)
    }
}

impl Contact for PeerContact {
    type Peer = PeerId;

    fn peer(&self) -> PeerId {
        self.0.value.peer
    }

    fn issued_at(&self) -> UnixMicros {
        self.0.value.issued_at
    }

    fn expires_at(&self) -> UnixMicros {
        self.0.value.expires_at
    }
}

impl weft_dht::Contact for PeerContact {
    type Peer = PeerId;

    fn peer(&self) -> PeerId {
        self.0.value.peer
    }

    fn issued_at(&self) -> UnixMicros {
        self.0.value.issued_at
    }

    fn expires_at(&self) -> UnixMicros {
        self.0.value.expires_at
    }

    fn serves(&self) -> bool {
        self.0.value.roles.serves
    }

    /// The store takes whom the table holds, which has judged that.
    fn group(&self) -> Option<weft_dht::Group> {
        None
    }
}

impl PartialEq for PeerContact {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}
