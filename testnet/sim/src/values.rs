//! What a simulated member tells of itself, and what it publishes.

use std::sync::Arc;
use std::time::Duration;

use weft_identity::Hash;
use weft_overlay::{Bundle, Contact, Header, PreviousEpoch, StreamId, UnixMicros};

use crate::machine::{NodeId, Place};

/// How long a contact is passed on: longer than any scenario.
const CONTACT_VALID: Duration = Duration::from_secs(366 * 86_400);

/// A contact without address or signature.
#[derive(Clone, Copy, Debug)]
pub struct SimContact {
    peer: NodeId,
    /// Seconds since 1970: a simulation of a million nodes keeps forty million contacts.
    issued_s: u32,
}

impl SimContact {
    pub(crate) fn new(peer: NodeId, now: UnixMicros) -> Self {
        let issued_s = u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX);
        Self { peer, issued_s }
    }
}

impl Contact for SimContact {
    type Peer = NodeId;

    fn peer(&self) -> NodeId {
        self.peer
    }

    fn issued_at(&self) -> UnixMicros {
        UnixMicros(u64::from(self.issued_s) * 1_000_000)
    }

    fn expires_at(&self) -> UnixMicros {
        self.issued_at() + CONTACT_VALID
    }
}

#[derive(Debug)]
struct Inner {
    header: Header<NodeId>,
    predecessor: Option<Hash>,
    published_at: UnixMicros,
    payload_bytes: u32,
}

/// A bundle of one message whose bytes are only counted.
#[derive(Clone, Debug)]
pub struct SimBundle(Arc<Inner>);

impl SimBundle {
    /// Returns the bytes of its message.
    pub fn payload_bytes(&self) -> u32 {
        self.0.payload_bytes
    }
}

impl Bundle for SimBundle {
    type Peer = NodeId;

    fn header(&self) -> Header<NodeId> {
        self.0.header
    }

    fn predecessor(&self) -> Option<Hash> {
        self.0.predecessor
    }

    fn previous_epoch(&self) -> Option<PreviousEpoch> {
        None
    }

    fn published_at(&self) -> UnixMicros {
        self.0.published_at
    }

    fn cost_bytes(&self) -> usize {
        self.0.payload_bytes as usize + std::mem::size_of::<Inner>()
    }
}

/// One run of a publisher.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    stream: StreamId<NodeId>,
    last: u64,
    head: Option<Hash>,
}

impl Publisher {
    pub(crate) fn begin(publisher: NodeId, now: UnixMicros) -> Self {
        Self {
            stream: StreamId {
                publisher,
                epoch: now.0 / 1_000,
            },
            last: 0,
            head: None,
        }
    }

    pub(crate) fn next(&mut self, payload_bytes: u32, now: UnixMicros) -> SimBundle {
        self.last += 1;
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.stream.publisher.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.stream.epoch.to_be_bytes());
        bytes[12..].copy_from_slice(&self.last.to_be_bytes());
        let header = Header {
            stream: self.stream,
            first: self.last,
            last: self.last,
            hash: Hash::of(&bytes),
        };
        let predecessor = self.head.replace(header.hash);
        SimBundle(Arc::new(Inner {
            header,
            predecessor,
            published_at: now,
            payload_bytes,
        }))
    }
}

pub(crate) fn place_of(header: &Header<NodeId>) -> Place {
    Place {
        publisher: header.stream.publisher,
        epoch: header.stream.epoch,
        seq: header.first,
    }
}

pub(crate) fn mark_of(header: &Header<NodeId>) -> u64 {
    let mut mark = [0; 8];
    mark.copy_from_slice(&header.hash.as_bytes()[..8]);
    u64::from_be_bytes(mark)
}
