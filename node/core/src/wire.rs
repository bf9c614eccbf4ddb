//! Frames: what travels on a link.
//!
//! The schema in `proto/` is the protocol's reference. What is sent is encoded by the code that prost makes of it; what
//! comes is read by hand, field by field ([`fields`]), straight into the core's types. prost would first decode a whole
//! frame into values of its own, and a peer could turn two bytes of an empty list entry into a hundred of memory; here
//! every list is bounded before it grows, and nothing is allocated for what will be refused. The tests hold one against
//! the other.
//!
//! A [`Decoder`] checks the signatures too, so that only verified values reach the core. Every copy of a bundle after the
//! first is recognised by the hash of its body ([`KnownBodies`]) and costs no check.

pub(crate) mod attributes;
mod bundle;
mod checker;
mod encode;
mod fields;
mod hyparview;
pub mod kad;
mod known;
mod plumtree;
mod record;
mod spans;
mod store;
mod topics;

pub mod book;
pub(crate) mod descriptor;
pub mod membership;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use weft_dht::RequestId;
use weft_identity::PeerId;
use weft_overlay::{hyparview as views, plumtree as trees};

pub use self::book::{decode_descriptors, encode_descriptors};
pub(crate) use self::bundle::publish;
pub use self::bundle::restore_bundle;
pub use self::encode::{
    encode_broadcast, encode_hello, encode_kad, encode_membership, encode_ping, encode_pong,
    encode_stopping, encode_store, encode_topics,
};
pub use self::known::KnownBodies;
pub use self::record::{RECORD_BYTES_MAX, read_record, restore_record, write_record};
pub use self::store::{StoreMessage, decode_claim, encode_claim};

use self::checker::Checker;
use self::fields::{Fields, Refused, malformed, once};
use crate::kad::KadPeer;
use crate::{PeerContact, TopicBundle, TopicId, keeping};

/// The messages of `proto/`, as prost sees them.
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from a schema that also describes what is laid out by hand"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/weft.v1.rs"));
}

/// Bytes of one frame: a message of 1 MiB and what surrounds it, with room.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of a frame that isn't a broadcast: 41 descriptors of 4 KiB, with room.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;
/// Descriptors in one list: a shuffle takes 7 by default, and a configured one has room.
pub const CONTACTS_MAX: usize = 32;
/// The largest seq and epoch: 2^53 - 1, up to which JSON's numbers are exact everywhere, and which no publisher reaches.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// The last moment of the year 9999, in microseconds since the Unix epoch: RFC 3339 has four digits for a year.
pub const UNIX_MICROS_MAX: u64 = 253_402_300_799_999_999;

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
        message: views::Message<PeerContact>,
    },
    /// A message of a swarm's broadcast.
    Broadcast {
        /// The swarm.
        topic: TopicId,
        /// The message.
        message: trees::Message<PeerId, TopicBundle>,
    },
    /// A message of the structured layer.
    Kad {
        /// Pairs an answer with its query.
        request: u64,
        /// The message.
        message: weft_dht::Message<KadPeer>,
    },
    /// A message of the replicated store.
    Store {
        /// Pairs an answer with its query.
        request: RequestId,
        /// The message, every record in it verified.
        message: Box<StoreMessage>,
    },
    /// A message between a member of topics and a keeper.
    Topics {
        /// Pairs an answer with its query.
        request: u64,
        /// The message, every bundle in it verified.
        message: Box<keeping::Message>,
    },
    /// The peer stops, which a link's end alone doesn't say.
    Stopping,
    /// A kind that this version doesn't know; counted and skipped.
    Unknown,
}

/// An encoded frame: a head of its own and, for bundles, the shared bytes of the bundle's body behind it.
#[derive(Debug, Clone)]
pub struct OutFrame {
    /// Length prefix and what differs from frame to frame.
    pub head: Bytes,
    /// The bundle's signed body, shared by all frames that carry it; empty for other frames.
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

/// Reads the length that stands before a frame. Returns the bytes that the prefix and the frame have; none while the
/// prefix is incomplete.
pub fn parse_prefix(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    // 2 MiB is 2^21: four bytes of seven bits hold every length that is allowed.
    let mut len = 0usize;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return match len {
                0..=FRAME_BYTES_MAX => Ok(Some((at + 1, len))),
                _ => Err(DecodeError::Malformed("a frame of over 2 MiB")),
            };
        }
    }
    match bytes.len() {
        0..4 => Ok(None),
        _ => Err(DecodeError::Malformed("a frame of over 2 MiB")),
    }
}

/// Decodes one link's frames and checks what they carry.
#[derive(Debug)]
pub struct Decoder {
    peer: PeerId,
    checker: Checker,
}

impl Decoder {
    /// Makes a decoder for a link to `peer`.
    pub fn new(peer: PeerId, known: Arc<Mutex<KnownBodies>>) -> Self {
        Self {
            peer,
            checker: Checker::new(known),
        }
    }

    /// Decodes one frame without its length prefix, at most [`FRAME_BYTES_MAX`] bytes. Signatures are checked here, so call it off the core's task.
    ///
    /// After [`DecodeError::Forged`] the decoder goes on with the next frame; after [`DecodeError::Malformed`] the link ends.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Frame, DecodeError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::Malformed("a frame of over 2 MiB"));
        }
        match self.frame(frame) {
            Ok(frame) => Ok(frame),
            Err(Refused::Unknown) => Ok(Frame::Unknown),
            Err(Refused::Because(error)) => Err(error),
        }
    }

    fn frame(&mut self, frame: &[u8]) -> Result<Frame, Refused> {
        let mut kind = None;
        for field in Fields::new(frame) {
            let (number, value) = field?;
            if let 1..=9 = number {
                once(&mut kind, (number, value.bytes()?))?;
            }
        }
        let (number, bytes) = kind.ok_or(Refused::Unknown)?;
        if !matches!(number, 5 | 7 | 8) && bytes.len() > CONTROL_BYTES_MAX {
            return malformed("a control frame of over 256 KiB");
        }
        match number {
            1 => self.hello(bytes),
            2 => Ok(Frame::Ping {
                nonce: nonce(bytes)?,
            }),
            3 => Ok(Frame::Pong {
                nonce: nonce(bytes)?,
            }),
            4 => {
                let (topic, message) = hyparview::decode(bytes, self.peer, &mut self.checker)?;
                Ok(Frame::Membership { topic, message })
            }
            6 => kad::decode(bytes, self.peer, &mut self.checker),
            7 => store::decode(bytes, self.peer, &mut self.checker),
            8 => topics::decode(bytes, self.peer, &mut self.checker),
            9 => Ok(Frame::Stopping),
            _ => {
                let (topic, message) = plumtree::decode(bytes, &mut self.checker)?;
                Ok(Frame::Broadcast { topic, message })
            }
        }
    }

    fn hello(&mut self, bytes: &[u8]) -> Result<Frame, Refused> {
        let mut contact = None;
        for field in Fields::new(bytes) {
            let (number, value) = field?;
            if number == 1 {
                once(
                    &mut contact,
                    self.checker.own_contact(value.bytes()?, self.peer)?,
                )?;
            }
        }
        Ok(Frame::Hello { contact })
    }
}

fn nonce(bytes: &[u8]) -> Result<u64, Refused> {
    let mut nonce = None;
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        if number == 1 {
            once(&mut nonce, value.fixed64()?)?;
        }
    }
    Ok(nonce.unwrap_or(0))
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
