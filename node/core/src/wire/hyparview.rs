//! The messages of a swarm's membership.

use weft_identity::PeerId;
use weft_overlay::hyparview::{Goodbye, Message, Priority};

use super::checker::Checker;
use super::fields::{Fields, Refused, malformed, once, required};
use super::{CONTACTS_MAX, descriptor, proto};
use crate::{PeerContact, TopicId};

/// Encodes a message of a swarm's membership.
pub(super) fn encode(topic: TopicId, message: &Message<PeerContact>) -> proto::Membership {
    use proto::membership::Message as M;
    let contact = |contact: &PeerContact| Some(descriptor::encode(contact));
    let message = match message {
        Message::Join { joiner } => M::Join(proto::Join {
            contact: contact(joiner),
        }),
        Message::ForwardJoin { joiner, hops_left } => M::ForwardJoin(proto::ForwardJoin {
            contact: contact(joiner),
            hops_left: (*hops_left).into(),
        }),
        Message::Neighbor { sender, priority } => M::Neighbor(proto::Neighbor {
            contact: contact(sender),
            priority: match priority {
                Priority::High => proto::Priority::High,
                Priority::Low => proto::Priority::Low,
            }
            .into(),
        }),
        Message::NeighborReply { sender, accepted } => M::NeighborReply(proto::NeighborReply {
            contact: contact(sender),
            accepted: *accepted,
        }),
        Message::Disconnect { reason } => M::Disconnect(proto::Disconnect {
            reason: match reason {
                Goodbye::NotNeighbours => proto::Goodbye::NotNeighbours,
                Goodbye::Leaving => proto::Goodbye::Leaving,
            }
            .into(),
        }),
        Message::Shuffle {
            origin,
            hops_left,
            sample,
        } => M::Shuffle(proto::Shuffle {
            contact: contact(origin),
            hops_left: (*hops_left).into(),
            sample: contacts(sample),
        }),
        Message::ShuffleReply { sample } => M::ShuffleReply(proto::ShuffleReply {
            sample: contacts(sample),
        }),
    };
    proto::Membership {
        topic: super::encode::id(topic.as_bytes()),
        message: Some(message),
    }
}

fn contacts(sample: &[PeerContact]) -> Vec<proto::SignedDescriptor> {
    debug_assert!(sample.len() <= CONTACTS_MAX, "a receiver would refuse it");
    sample
        .iter()
        .take(CONTACTS_MAX)
        .map(descriptor::encode)
        .collect()
}

/// Reads a Membership that `peer` sent.
pub(super) fn decode(
    bytes: &[u8],
    peer: PeerId,
    checker: &mut Checker,
) -> Result<(TopicId, Message<PeerContact>), Refused> {
    let (mut topic, mut kind) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut topic, TopicId::from_bytes(value.array()?))?,
            2..=8 => once(&mut kind, (number, value.bytes()?))?,
            _ => {}
        }
    }
    let topic = required(topic)?;
    let (number, bytes) = kind.ok_or(Refused::Unknown)?;
    let parts = Parts::read(bytes)?;
    let message = match number {
        2 => Message::Join {
            joiner: checker.own_contact(required(parts.contact)?, peer)?,
        },
        3 => Message::ForwardJoin {
            joiner: checker.contact(required(parts.contact)?)?,
            hops_left: parts.hops_left,
        },
        4 => Message::Neighbor {
            priority: priority(parts.priority)?,
            sender: checker.own_contact(required(parts.contact)?, peer)?,
        },
        5 => Message::NeighborReply {
            sender: checker.own_contact(required(parts.contact)?, peer)?,
            accepted: parts.accepted,
        },
        6 => Message::Disconnect {
            reason: goodbye(parts.reason)?,
        },
        7 => Message::Shuffle {
            origin: checker.contact(required(parts.contact)?)?,
            hops_left: parts.hops_left,
            sample: parts.sample(checker)?,
        },
        _ => Message::ShuffleReply {
            sample: parts.sample(checker)?,
        },
    };
    Ok((topic, message))
}

/// What the messages of a membership are made of: one field number means one thing in all of them.
struct Parts<'a> {
    contact: Option<&'a [u8]>,
    hops_left: u8,
    sample: Vec<&'a [u8]>,
    priority: u64,
    accepted: bool,
    reason: u64,
}

impl<'a> Parts<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Refused> {
        let mut sample = Vec::new();
        let (mut contact, mut hops_left) = (None, None);
        let (mut priority, mut accepted, mut reason) = (None, None, None);
        for field in Fields::new(message) {
            let (number, value) = field?;
            match number {
                1 => once(&mut contact, value.bytes()?)?,
                2 => once(&mut hops_left, value.clamped()?)?,
                3 if sample.len() >= CONTACTS_MAX => return malformed("over 32 descriptors"),
                3 => sample.push(value.bytes()?),
                4 => once(&mut priority, value.varint()?)?,
                5 => once(&mut accepted, value.flag()?)?,
                6 => once(&mut reason, value.varint()?)?,
                _ => {}
            }
        }
        Ok(Self {
            contact,
            hops_left: hops_left.unwrap_or(0),
            sample,
            priority: priority.unwrap_or(0),
            accepted: accepted.unwrap_or(false),
            reason: reason.unwrap_or(0),
        })
    }

    fn sample(&self, checker: &mut Checker) -> Result<Vec<PeerContact>, Refused> {
        self.sample
            .iter()
            .map(|descriptor| checker.contact(descriptor))
            .collect()
    }
}

fn priority(value: u64) -> Result<Priority, Refused> {
    match value {
        0 => malformed("no priority"),
        1 => Ok(Priority::High),
        2 => Ok(Priority::Low),
        _ => Err(Refused::Unknown),
    }
}

fn goodbye(value: u64) -> Result<Goodbye, Refused> {
    match value {
        0 => malformed("no reason"),
        1 => Ok(Goodbye::NotNeighbours),
        2 => Ok(Goodbye::Leaving),
        _ => Err(Refused::Unknown),
    }
}
