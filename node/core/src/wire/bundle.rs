//! Bundles: their signed body, and their check.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_identity::{Hash, Keypair, PeerId, Signature, Signed};
use weft_overlay::plumtree::{Message, Push};
use weft_overlay::{Header, PreviousEpoch, StreamId, UnixMicros};

use super::attributes::{self, MessageAttributes};
use super::checker::{Checker, SignedParts};
use super::encode::id;
use super::fields::{Fields, Refused, malformed, once, required};
use super::{DecodeError, SEQ_MAX, proto};
use crate::bundle::{BUNDLE_MESSAGES_MAX, MESSAGE_BYTES_MAX, MessageBundle, Place, fits};
use crate::{Attributes, TopicBundle, TopicId};

/// Bytes of a body beside its messages, what is said of them, and the framing of both: the fields that stand before them, and
/// room for what later versions say. Without it, unknown fields would be kept and forwarded at the payload's cost.
const EXTRA_BYTES_MAX: usize = 1_024;
/// Bytes around one message in a body: a key, and a length of at most three bytes.
const FRAMING_BYTES_MAX: usize = 4;
/// Bytes of a Bundle: the largest body, its signature, and room for fields of later versions.
pub(super) const BYTES_MAX: usize = MESSAGE_BYTES_MAX
    + framing_bytes_max(BUNDLE_MESSAGES_MAX, BUNDLE_MESSAGES_MAX)
    + 2 * EXTRA_BYTES_MAX;

/// Returns what may stand around so many messages, and around what is said of so many of them.
const fn framing_bytes_max(messages: usize, attributes: usize) -> usize {
    messages * FRAMING_BYTES_MAX + attributes * attributes::FRAMING_BYTES_MAX
}

/// Reads a Bundle of a topic; one that was verified lately comes as [`Message::Duplicate`].
pub(super) fn decode(
    bytes: &[u8],
    topic: TopicId,
    checker: &mut Checker,
) -> Result<Message<PeerId, TopicBundle>, Refused> {
    let (mut hops, mut push, mut signed) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut hops, value.clamped()?)?,
            2 => once(&mut push, value.varint()?)?,
            3 => once(&mut signed, value.bytes()?)?,
            _ => {}
        }
    }
    let hops = hops.unwrap_or(0).max(1);
    let push = match required(push)? {
        0 => return malformed("no reason for a push"),
        1 => Push::Eager,
        2 => Push::Supplied,
        _ => return Err(Refused::Unknown),
    };
    let parts = SignedParts::read(required(signed)?)?;
    // Before it is hashed: what is out of bounds costs nothing more.
    let outline = Outline::read(parts.body)?;
    let hash = Hash::of(parts.body);
    // What the receiver asked for it does not have, be it that it was verified before: it may have let go of it since.
    if push == Push::Eager && checker.known().contains(topic, hash) {
        return Ok(Message::Duplicate {
            header: outline.header(hash),
            push,
        });
    }
    Ok(Message::Bundle {
        bundle: verified(&parts, outline, hash, topic, checker)?,
        hops,
        push,
    })
}

/// Reads a SignedBundle of a topic that was asked for.
pub(super) fn asked_for(
    bytes: &[u8],
    topic: TopicId,
    checker: &mut Checker,
) -> Result<TopicBundle, Refused> {
    if bytes.len() > BYTES_MAX {
        return malformed("a bundle over its limit");
    }
    let parts = SignedParts::read(bytes)?;
    let outline = Outline::read(parts.body)?;
    verified(&parts, outline, Hash::of(parts.body), topic, checker)
}

fn verified(
    parts: &SignedParts<'_>,
    outline: Outline,
    hash: Hash,
    topic: TopicId,
    checker: &mut Checker,
) -> Result<TopicBundle, Refused> {
    // The one copy: history doesn't keep read buffers, and every frame that forwards the bundle ends in these bytes.
    let body = Bytes::copy_from_slice(parts.body);
    let signed = Signed {
        value: outline.with_messages(&body)?,
        body,
        hash,
        signature: parts.signature,
    };
    let Ok(verified) = signed.verify(topic.as_bytes(), &mut checker.keys) else {
        return Err(Refused::Because(DecodeError::Forged("bundle")));
    };
    checker.known().insert(topic, hash);
    Ok(TopicBundle(Arc::new(verified)))
}

/// Returns what stands for a bundle in an answer. The body is copied when that is encoded.
pub(super) fn value(bundle: &TopicBundle) -> proto::SignedBundle {
    let signed = &bundle.0;
    proto::SignedBundle {
        signature: id(&signed.signature.0),
        body: signed.body.clone(),
    }
}

/// Reads a bundle that this node had, back from its own store: its signature was checked before it was written.
pub fn restore_bundle(signature: Signature, body: Bytes) -> Result<TopicBundle, DecodeError> {
    Ok(restore(signature, body)?)
}

fn restore(signature: Signature, body: Bytes) -> Result<TopicBundle, Refused> {
    let signed = Signed {
        value: Outline::read(&body)?.with_messages(&body)?,
        hash: Hash::of(&body),
        body,
        signature,
    };
    Ok(TopicBundle(Arc::new(signed.restored())))
}

/// Encodes and signs a bundle.
///
/// # Panics
/// If a receiver would refuse it: that is a bug of the caller.
pub(crate) fn publish(
    keypair: &Keypair,
    topic: TopicId,
    place: Place,
    messages: &[crate::Message],
) -> TopicBundle {
    let said_of = |(message, index): (&crate::Message, u32)| proto::MessageAttributes {
        message: index,
        attributes: message.attributes.encoded().clone(),
    };
    let body = Bytes::from(
        proto::BundleBody {
            publisher: id(keypair.peer_id().as_bytes()),
            epoch: place.epoch,
            first: place.first,
            predecessor: place.predecessor.map(|hash| id(hash.as_bytes())),
            previous_epoch: place.previous_epoch.map(|previous| proto::PreviousEpoch {
                epoch: previous.epoch,
                last: previous.last,
            }),
            published_at: place.published_at.0,
            messages: messages
                .iter()
                .map(|message| message.data.clone())
                .collect(),
            attributes: messages
                .iter()
                .zip(0..)
                .filter(|(message, _)| !message.attributes.is_empty())
                .map(said_of)
                .collect(),
        }
        .encode_to_vec(),
    );
    let value = Outline::read(&body)
        .and_then(|outline| outline.with_messages(&body))
        .unwrap_or_else(|refused| panic!("a bundle that no receiver would take: {refused:?}"));
    TopicBundle(Arc::new(keypair.sign(value, body, topic.as_bytes())))
}

/// A body's fields, checked, without its messages: read before anything is allocated.
struct Outline {
    publisher: PeerId,
    place: Place,
    messages: usize,
    attributes: usize,
}

impl Outline {
    fn read(body: &[u8]) -> Result<Self, Refused> {
        let (mut publisher, mut epoch, mut first) = (None, None, None);
        let (mut predecessor, mut previous, mut published_at) = (None, None, None);
        let (mut messages, mut attributes, mut counted) = (0usize, 0usize, 0usize);
        let mut last_said_of = None;
        for field in Fields::new(body) {
            let (number, value) = field?;
            match number {
                1 => once(&mut publisher, PeerId::from_bytes(value.array()?))?,
                2 => once(&mut epoch, value.seq()?)?,
                3 => once(&mut first, value.seq()?)?,
                4 => once(&mut predecessor, Hash::from_bytes(value.array()?))?,
                5 => once(&mut previous, previous_epoch(value.bytes()?)?)?,
                6 => once(&mut published_at, value.moment()?)?,
                7 => {
                    messages += 1;
                    counted += value.bytes()?.len();
                }
                8 => {
                    let entry = MessageAttributes::read(value.bytes()?)?;
                    entry.check()?;
                    if last_said_of.is_some_and(|last| entry.message <= last) {
                        return malformed("attributes out of order, or of one message twice");
                    }
                    last_said_of = Some(entry.message);
                    attributes += 1;
                    counted += entry.attributes.len();
                }
                _ => {}
            }
        }
        if !fits(messages, counted) {
            return malformed("a bundle of no, too many or too large messages");
        }
        if last_said_of.is_some_and(|last| last as usize >= messages) {
            return malformed("attributes of a message that isn't there");
        }
        if body.len() > counted + framing_bytes_max(messages, attributes) + EXTRA_BYTES_MAX {
            return malformed("a bundle with over 1 KiB beside its messages");
        }
        let outline = Self {
            publisher: required(publisher)?,
            place: Place {
                epoch: epoch.unwrap_or(0),
                first: first.unwrap_or(0),
                predecessor,
                previous_epoch: previous,
                published_at: published_at.unwrap_or(UnixMicros(0)),
            },
            messages,
            attributes,
        };
        outline.check()?;
        Ok(outline)
    }

    /// Checks what holds between fields.
    fn check(&self) -> Result<(), Refused> {
        let Place {
            epoch,
            first,
            predecessor,
            previous_epoch,
            ..
        } = &self.place;
        if *first == 0 || self.last() > SEQ_MAX {
            return malformed("a seq of 0, or of 2^53 or more");
        }
        if predecessor.is_none() != (*first == 1) {
            return malformed("a bundle without its predecessor, or a first one with one");
        }
        if let Some(previous) = previous_epoch
            && (*first != 1 || previous.epoch >= *epoch)
        {
            return malformed("a previous epoch out of place");
        }
        Ok(())
    }

    fn last(&self) -> u64 {
        // Both are far from overflow: a seq below 2^53, and at least one and at most 1,024 messages.
        self.place.first + (self.messages as u64 - 1)
    }

    fn header(&self, hash: Hash) -> Header<PeerId> {
        Header {
            stream: StreamId {
                publisher: self.publisher,
                epoch: self.place.epoch,
            },
            first: self.place.first,
            last: self.last(),
            hash,
        }
    }

    /// Completes the value with the messages and what is said of them, slices of the body that was read.
    fn with_messages(self, body: &Bytes) -> Result<MessageBundle, Refused> {
        let mut messages = Vec::with_capacity(self.messages);
        let mut attributes = Vec::with_capacity(self.attributes);
        for field in Fields::new(body) {
            match field? {
                (7, value) => messages.push(body.slice_ref(value.bytes()?)),
                (8, value) => {
                    let entry = MessageAttributes::read(value.bytes()?)?;
                    let said = Attributes::checked(body.slice_ref(entry.attributes));
                    attributes.push((entry.message, said));
                }
                _ => {}
            }
        }
        let place = self.place;
        Ok(MessageBundle {
            publisher: self.publisher,
            epoch: place.epoch,
            first: place.first,
            predecessor: place.predecessor,
            previous_epoch: place.previous_epoch,
            published_at: place.published_at,
            messages,
            attributes,
        })
    }
}

fn previous_epoch(bytes: &[u8]) -> Result<PreviousEpoch, Refused> {
    let (mut epoch, mut last) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut epoch, value.seq()?)?,
            2 => once(&mut last, value.seq()?)?,
            _ => {}
        }
    }
    Ok(PreviousEpoch {
        epoch: epoch.unwrap_or(0),
        last,
    })
}
