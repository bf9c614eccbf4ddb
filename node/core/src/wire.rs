//! Frames: what travels on a link (skeleton).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use weft_identity::PeerId;
use weft_overlay::{hyparview, plumtree};

use crate::{PeerContact, TopicBundle, TopicId};

/// Bytes of one frame: a message of 1 MiB and what surrounds it, with room.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A frame as it came: decoded, every signature in it checked.
#[derive(Debug)]
pub enum Frame {
    /// The first frame of each direction: who speaks. The descriptor's peer is the link's.
    Hello {
        /// The sender's descriptor; none while it knows no address of its own.
        contact: Option<PeerContact>,
    },
    /// Asks for an echo; sent when idle.
    Ping {
        /// What to echo.
        nonce: u64,
    },
    /// Answers a Ping.
    Pong {
        /// The nonce that came.
        nonce: u64,
    },
    /// A message of a swarm's membership.
    Membership {
        /// The swarm.
        topic: TopicId,
        /// The message.
        message: hyparview::Message<PeerContact>,
    },
    /// A message of a swarm's broadcast.
    Broadcast {
        /// The swarm.
        topic: TopicId,
        /// The message.
        message: plumtree::Message<PeerId, TopicBundle>,
    },
    /// A kind that this version doesn't know; counted and skipped.
    Unknown,
}

/// An encoded frame: a head of its own and, for bundles, the shared bytes of the bundle behind it.
#[derive(Debug, Clone)]
pub struct OutFrame {
    /// Length prefix and what differs from frame to frame.
    pub head: Bytes,
    /// The bundle's encoded bytes, shared by all frames that carry it.
    pub tail: Bytes,
}

impl OutFrame {
    /// Returns the bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Returns whether there is nothing to send: never, a frame has a length prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bodies that were verified lately, shared by all links of a node.
#[derive(Debug, Default)]
pub struct KnownBodies;

/// Decodes one link's frames and checks what they carry.
#[derive(Debug)]
pub struct Decoder;

impl Decoder {
    /// Makes a decoder for a link to `peer`.
    pub fn new(_peer: PeerId, _known: Arc<Mutex<KnownBodies>>) -> Self {
        Self
    }

    /// Decodes one frame without its length prefix, at most [`FRAME_BYTES_MAX`] bytes. Signatures are checked here, so call it off the core's task.
    pub fn decode(&mut self, _frame: &[u8]) -> Result<Frame, DecodeError> {
        Err(DecodeError::Malformed("skeleton"))
    }
}

/// Why a frame is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the protobuf of a frame, or a value out of bounds: no honest peer sends it, the link ends.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// A signature is not its author's: the frame is dropped and counted.
    #[error("a {0} whose signature is not its author's")]
    Forged(&'static str),
}
