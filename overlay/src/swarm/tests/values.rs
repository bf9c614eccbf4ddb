//! What a simulated member tells of itself, and what it publishes.

use std::time::Duration;

use weft_identity::Hash;

use crate::{Bundle, Contact, Header, PreviousEpoch, StreamId, UnixMicros};

#[derive(Clone, Debug)]
pub(crate) struct TestContact {
    pub(crate) peer: u32,
    pub(crate) issued_at: UnixMicros,
}

impl Contact for TestContact {
    type Peer = u32;

    fn peer(&self) -> u32 {
        self.peer
    }

    fn issued_at(&self) -> UnixMicros {
        self.issued_at
    }

    fn expires_at(&self) -> UnixMicros {
        self.issued_at + Duration::from_secs(86_400)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TestBundle {
    pub(crate) header: Header<u32>,
    pub(crate) predecessor: Option<Hash>,
    pub(crate) previous_epoch: Option<PreviousEpoch>,
    pub(crate) published_at: UnixMicros,
    pub(crate) bytes: usize,
}

impl Bundle for TestBundle {
    type Peer = u32;

    fn header(&self) -> Header<u32> {
        self.header
    }

    fn predecessor(&self) -> Option<Hash> {
        self.predecessor
    }

    fn previous_epoch(&self) -> Option<PreviousEpoch> {
        self.previous_epoch
    }

    fn published_at(&self) -> UnixMicros {
        self.published_at
    }

    fn cost_bytes(&self) -> usize {
        self.bytes
    }
}

/// Makes a bundle; `variant` tells two for one place apart.
pub(crate) fn bundle(
    stream: StreamId<u32>,
    (first, last): (u64, u64),
    predecessor: Option<Hash>,
    published_at: UnixMicros,
    variant: u8,
) -> TestBundle {
    let mut bytes = stream.publisher.to_be_bytes().to_vec();
    for part in [stream.epoch, first, last] {
        bytes.extend_from_slice(&part.to_be_bytes());
    }
    bytes.push(variant);
    let hash = Hash::of(&bytes);
    TestBundle {
        header: Header {
            stream,
            first,
            last,
            hash,
        },
        predecessor,
        previous_epoch: None,
        published_at,
        bytes: 200,
    }
}
