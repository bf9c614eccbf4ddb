//! Frames as they go out.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use weft_dht::RequestId;
use weft_identity::PeerId;
use weft_overlay::hyparview;
use weft_overlay::plumtree::{Message, Push};

use super::{OutFrame, StoreMessage, descriptor, plumtree, proto, store, topics};
use crate::kad::KadContact;
use crate::{PeerContact, TopicBundle, TopicId, keeping};

/// Encodes the first frame of a link's direction.
pub fn encode_hello(contact: Option<&PeerContact>) -> OutFrame {
    whole(proto::frame::Kind::Hello(proto::Hello {
        contact: contact.map(descriptor::encode),
    }))
}

/// Encodes a request for an echo.
pub fn encode_ping(nonce: u64) -> OutFrame {
    whole(proto::frame::Kind::Ping(proto::Ping { nonce }))
}

/// Encodes an echo.
pub fn encode_pong(nonce: u64) -> OutFrame {
    whole(proto::frame::Kind::Pong(proto::Pong { nonce }))
}

/// Encodes the last frame of a node that stops.
pub fn encode_stopping() -> OutFrame {
    whole(proto::frame::Kind::Stopping(proto::Stopping {}))
}

/// Encodes a message of a swarm's membership. Samples have at most [`super::CONTACTS_MAX`] descriptors.
pub fn encode_membership(topic: TopicId, message: &hyparview::Message<PeerContact>) -> OutFrame {
    whole(proto::frame::Kind::Membership(super::hyparview::encode(
        topic, message,
    )))
}

/// Encodes a message of the structured layer; an answer returns its query's `request`. Lists have at most 20 contacts.
pub fn encode_kad(request: u64, message: &weft_dht::Message<KadContact>) -> OutFrame {
    whole(proto::frame::Kind::Kad(super::kad::encode(
        request, message,
    )))
}

/// Encodes a message of a swarm's broadcast. A bundle's signed body is shared, not copied; digests and wants have at most
/// [`weft_overlay::digest::STREAMS_PER_FRAME_MAX`] streams, and grafts and prunes as many trees.
///
/// [`Message::Duplicate`] is what a decoder makes and is never sent: handing it over here is a bug of the caller, and gives
/// a frame that receivers skip.
pub fn encode_broadcast(topic: TopicId, message: &Message<PeerId, TopicBundle>) -> OutFrame {
    if let Message::Bundle { bundle, hops, push } = message {
        return with_bundle(topic, bundle, *hops, *push);
    }
    let message = plumtree::encode(message);
    debug_assert!(message.is_some(), "a duplicate never stands on the wire");
    whole(proto::frame::Kind::Broadcast(proto::Broadcast {
        topic: id(topic.as_bytes()),
        message,
    }))
}

/// Encodes a message of the store. Its lists are within the bounds of [`weft_dht::store::messages`].
pub fn encode_store(request: RequestId, message: &StoreMessage) -> OutFrame {
    whole(proto::frame::Kind::Store(store::encode(request, message)))
}

/// Encodes a message between a member of topics and a keeper; an answer returns its query's `request`. Its lists are within the
/// bounds of [`crate::keeping`].
pub fn encode_topics(request: u64, message: &keeping::Message) -> OutFrame {
    whole(proto::frame::Kind::Topics(topics::encode(request, message)))
}

/// Copies an id, hash or signature into a field.
pub(super) fn id(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Takes what a receiver accepts: senders keep their lists within the bounds, and the rest is told again later.
pub(super) fn bounded<T>(list: &[T], max: usize) -> impl Iterator<Item = &T> {
    debug_assert!(list.len() <= max, "a receiver would refuse it");
    list.iter().take(max)
}

fn whole(kind: proto::frame::Kind) -> OutFrame {
    let frame = proto::Frame { kind: Some(kind) };
    OutFrame {
        head: frame.encode_length_delimited_to_vec().into(),
        tail: Bytes::new(),
    }
}

/// Lays out a frame that ends in a bundle's body: Frame.broadcast(topic, bundle(hops, push, signed(signature, body))).
fn with_bundle(topic: TopicId, bundle: &TopicBundle, hops: u8, push: Push) -> OutFrame {
    let signed = &bundle.0;
    let body = signed.body.len();
    let push = match push {
        Push::Eager => proto::Push::Eager,
        Push::Supplied => proto::Push::Supplied,
    };
    // Keys of fields below 16, and values of push, take a byte.
    let signed_len = nested(signed.signature.0.len()) + nested(body);
    let bundle_len = (1 + encoded_len_varint(hops.into())) + 2 + nested(signed_len);
    let broadcast_len = nested(topic.as_bytes().len()) + nested(bundle_len);
    let frame_len = nested(broadcast_len);
    let total = encoded_len_varint(frame_len as u64) + frame_len;

    let mut head = BytesMut::with_capacity(total - body);
    encode_varint(frame_len as u64, &mut head);
    open(5, broadcast_len, &mut head);
    open(1, topic.as_bytes().len(), &mut head);
    head.put_slice(topic.as_bytes());
    open(2, bundle_len, &mut head);
    encode_key(1, WireType::Varint, &mut head);
    encode_varint(hops.into(), &mut head);
    encode_key(2, WireType::Varint, &mut head);
    encode_varint(push as u64, &mut head);
    open(3, signed_len, &mut head);
    open(1, signed.signature.0.len(), &mut head);
    head.put_slice(&signed.signature.0);
    open(2, body, &mut head);
    debug_assert_eq!(head.len(), total - body, "the lengths add up");
    OutFrame {
        head: head.freeze(),
        tail: signed.body.clone(),
    }
}

/// The bytes of a length-delimited field with its key and length.
fn nested(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn open(number: u32, len: usize, head: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, head);
    encode_varint(len as u64, head);
}
