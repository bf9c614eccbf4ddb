//! Peers as the structured layer knows them.
//!
//! A peer of ours signs what it says of itself. Any other libp2p peer doesn't: of it there is the word of whoever named it,
//! or its own over its own connection. Such a word lasts an hour, and never stands in the way of a signed one.

use std::sync::Arc;
use std::time::Duration;

use weft_dht::{Contact, Group};
use weft_identity::PeerId;
use weft_overlay::UnixMicros;

use crate::address::Prefix;
use crate::{Address, PeerContact};

/// How long the word of a peer that signs nothing is passed on: as long as a signed descriptor.
const WORD_LASTS: Duration = Duration::from_secs(3_600);

/// A peer as it stands in a message.
#[derive(Clone, Debug, PartialEq)]
pub enum KadPeer {
    /// What the peer says of itself, verified.
    Signed(PeerContact),
    /// What somebody says of it.
    Told {
        /// The peer.
        peer: PeerId,
        /// Where it may be dialled, at least one and at most [`crate::address::ADDRESSES_MAX`].
        addresses: Vec<Address>,
    },
}

impl KadPeer {
    /// Returns whom it is about.
    pub fn peer(&self) -> PeerId {
        match self {
            Self::Signed(contact) => contact.0.value.peer,
            Self::Told { peer, .. } => *peer,
        }
    }

    /// Returns where the peer may be dialled.
    pub fn addresses(&self) -> &[Address] {
        match self {
            Self::Signed(contact) => &contact.0.value.addresses,
            Self::Told { addresses, .. } => addresses,
        }
    }
}

/// A peer as it stands in the routing table.
#[derive(Clone, Debug)]
pub struct KadContact {
    /// Shared, because lookups and tables hold the same.
    peer: Arc<KadPeer>,
    expires_at: UnixMicros,
    group: Option<Group>,
}

impl KadContact {
    /// Takes what came in a message at a moment.
    pub fn new(peer: KadPeer, now: UnixMicros) -> Self {
        let expires_at = match &peer {
            KadPeer::Signed(contact) => contact.0.value.expires_at,
            KadPeer::Told { .. } => now + WORD_LASTS,
        };
        let group = peer.addresses().iter().find_map(Address::public_prefix);
        Self {
            peer: Arc::new(peer),
            expires_at,
            group: group.map(group_of),
        }
    }

    /// Groups the peer by the address at which it was met, whatever addresses it names.
    #[must_use]
    pub fn met_at(mut self, address: &Address) -> Self {
        self.group = address.public_prefix().map(group_of);
        self
    }

    /// Returns what is known of the peer.
    pub fn known(&self) -> &KadPeer {
        &self.peer
    }

    /// Returns the signed descriptor of a peer of ours.
    pub fn descriptor(&self) -> Option<&PeerContact> {
        match &*self.peer {
            KadPeer::Signed(contact) => Some(contact),
            KadPeer::Told { .. } => None,
        }
    }

    /// Returns whether the peer takes part in the replicated store.
    pub fn stores(&self) -> bool {
        let descriptor = self.descriptor();
        descriptor.is_some_and(|contact| contact.0.value.roles.stores)
    }
}

fn group_of(prefix: Prefix) -> Group {
    Group(prefix.0)
}

impl Contact for KadContact {
    type Peer = PeerId;

    fn peer(&self) -> PeerId {
        self.peer.peer()
    }

    /// A word that isn't the peer's own is older than any that is.
    fn issued_at(&self) -> UnixMicros {
        self.descriptor()
            .map_or(UnixMicros(0), |contact| contact.0.value.issued_at)
    }

    fn expires_at(&self) -> UnixMicros {
        self.expires_at
    }

    /// A peer that signs nothing serves as far as anyone knows: it stands in the table once it has answered.
    fn serves(&self) -> bool {
        let descriptor = self.descriptor();
        descriptor.is_none_or(|contact| contact.0.value.roles.serves)
            && !self.peer.addresses().is_empty()
    }

    fn group(&self) -> Option<Group> {
        self.group
    }
}
