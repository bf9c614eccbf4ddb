//! A topic's bundles as signed values.

use std::sync::Arc;

use bytes::Bytes;
use weft_identity::{Authored, Domain, Hash, Keypair, PeerId, Verified};
use weft_overlay::{Bundle, Header, PreviousEpoch, StreamId, UnixMicros};

use crate::{Attributes, Message, TopicId, wire};

/// Bytes of one message, its attributes counted.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one bundle's messages, unless a single message is larger: a bundle is the unit of loss and repair.
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024;
/// Messages of one bundle: empty messages cost memory too.
pub const BUNDLE_MESSAGES_MAX: usize = 1_024;

/// Returns whether so many messages with so many bytes together, attributes counted, can be one bundle.
pub const fn fits(messages: usize, bytes: usize) -> bool {
    match messages {
        0 => false,
        1 => bytes <= MESSAGE_BYTES_MAX,
        _ => messages <= BUNDLE_MESSAGES_MAX && bytes <= BUNDLE_BYTES_MAX,
    }
}

/// Where a bundle stands in its publisher's streams, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which run of the publisher.
    pub epoch: u64,
    /// The seq of the first message, from 1.
    pub first: u64,
    /// The hash of the bundle before it in this epoch; none exactly where `first` is 1.
    pub predecessor: Option<Hash>,
    /// What an epoch's first bundle says of the epoch before it; none where `first` is not 1.
    pub previous_epoch: Option<PreviousEpoch>,
    /// When it is published, by the publisher's clock.
    pub published_at: UnixMicros,
}

/// One or more consecutive messages of one publisher on one topic: what the publisher signs, with the topic's point as context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageBundle {
    /// Who publishes.
    pub publisher: PeerId,
    /// Which run of theirs.
    pub epoch: u64,
    /// The seq of the first message, from 1; the others follow.
    pub first: u64,
    /// The hash of the bundle before it in this epoch; none where `first` is 1.
    pub predecessor: Option<Hash>,
    /// What an epoch's first bundle says of the epoch before it.
    pub previous_epoch: Option<PreviousEpoch>,
    /// When it was published, by the publisher's clock.
    pub published_at: UnixMicros,
    /// The messages, at least one; slices of the signed body.
    pub messages: Vec<Bytes>,
    /// What is said of messages, by their indexes in ascending order; those of which nothing is said are not there.
    pub attributes: Vec<(u32, Attributes)>,
}

impl Authored for MessageBundle {
    const DOMAIN: Domain = Domain::new("weft/bundle/1");

    fn author(&self) -> PeerId {
        self.publisher
    }
}

/// A verified bundle as swarms pass it on: a clone shares the bytes.
#[derive(Clone, Debug)]
pub struct TopicBundle(pub Arc<Verified<MessageBundle>>);

impl TopicBundle {
    /// Makes a bundle of messages that [`fits`] allows: encodes and signs it for a topic.
    ///
    /// # Panics
    /// If the messages don't fit or the place contradicts itself: that is a bug of the caller.
    pub fn publish(keypair: &Keypair, topic: TopicId, place: Place, messages: &[Message]) -> Self {
        wire::publish(keypair, topic, place, messages)
    }

    /// Returns the messages with their seqs.
    pub fn messages(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        (self.0.value.first..).zip(&self.0.value.messages)
    }

    /// Returns what is said of the message with a seq; none where that is nothing.
    pub fn attributes(&self, seq: u64) -> Option<&Attributes> {
        let MessageBundle {
            first, attributes, ..
        } = &self.0.value;
        let index = u32::try_from(seq.checked_sub(*first)?).ok()?;
        let at = attributes.binary_search_by_key(&index, |(index, _)| *index);
        attributes.get(at.ok()?).map(|(_, said)| said)
    }
}

impl Bundle for TopicBundle {
    type Peer = PeerId;

    fn header(&self) -> Header<PeerId> {
        let value = &self.0.value;
        Header {
            stream: StreamId {
                publisher: value.publisher,
                epoch: value.epoch,
            },
            first: value.first,
            last: value.first + (value.messages.len() as u64 - 1),
            hash: self.0.hash,
        }
    }

    fn predecessor(&self) -> Option<Hash> {
        self.0.value.predecessor
    }

    fn previous_epoch(&self) -> Option<PreviousEpoch> {
        self.0.value.previous_epoch
    }

    fn published_at(&self) -> UnixMicros {
        self.0.value.published_at
    }

    fn cost_bytes(&self) -> usize {
        let MessageBundle {
            messages,
            attributes,
            ..
        } = &self.0.value;
        // The signed body, and what decoded messages, their attributes and the book-keeping around a bundle take.
        let decoded =
            messages.len() * size_of::<Bytes>() + attributes.len() * size_of::<(u32, Attributes)>();
        self.0.body.len() + decoded + 256
    }
}
