//! Memberships: which topics a peer is a member of, as it tells those closest to their points.
//!
//! The link says who tells; the descriptor in it, which others pass on, carries a signature of its own.

use weft_identity::{KeyCache, PeerId};
use weft_overlay::UnixMicros;

use super::fields::{Fields, Refused, malformed, once, required};
use super::{descriptor, proto};
use crate::{PeerContact, TopicName};

/// Topics in one membership; a member of more tells them in several. The answer has room for some members of each, and a keeper that
/// is told of so many new ones at once does other things in between.
pub const TOPICS_MAX: usize = 64;
/// Bytes of one membership: 64 names of 200 bytes and a descriptor of 4 KiB, with room.
const BYTES_MAX: usize = 24 * 1024;

/// What a member tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// The topics, at most [`TOPICS_MAX`].
    pub topics: Vec<TopicMembership>,
    /// The member's own descriptor.
    pub contact: PeerContact,
    /// When it was told, by the member's clock.
    pub issued_at: UnixMicros,
    /// When it stops holding.
    pub expires_at: UnixMicros,
}

/// One topic of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMembership {
    /// The topic.
    pub name: TopicName,
    /// Whether the member is subscribed; else it only publishes and forwards.
    pub subscribed: bool,
}

/// Returns what stands for a membership on the wire.
pub(super) fn value(membership: &Membership) -> proto::TopicMemberships {
    debug_assert!(membership.topics.len() <= TOPICS_MAX, "receivers refuse it");
    proto::TopicMemberships {
        topics: membership
            .topics
            .iter()
            .take(TOPICS_MAX)
            .map(|topic| proto::TopicMembership {
                name: topic.name.as_str().to_owned(),
                subscribed: topic.subscribed,
            })
            .collect(),
        descriptor: Some(descriptor::encode(&membership.contact)),
        issued_at: membership.issued_at.0,
        expires_at: membership.expires_at.0,
    }
}

/// Reads the membership that a `member` tells, at most [`BYTES_MAX`] bytes, and checks that the descriptor in it is its own.
pub(super) fn read(
    bytes: &[u8],
    member: PeerId,
    keys: &mut KeyCache,
) -> Result<Membership, Refused> {
    if bytes.len() > BYTES_MAX {
        return malformed("a membership of over 24 KiB");
    }
    let mut topics = Vec::new();
    let (mut contact, mut issued_at, mut expires_at) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if topics.len() >= TOPICS_MAX => return malformed("over 64 topics"),
            1 => topics.push(topic(value.bytes()?)?),
            2 => once(&mut contact, value.bytes()?)?,
            3 => once(&mut issued_at, value.moment()?)?,
            4 => once(&mut expires_at, value.moment()?)?,
            _ => {}
        }
    }
    let contact = descriptor::decode(required(contact)?, keys)?;
    if contact.0.value.peer != member {
        return malformed("another peer's descriptor for the member's own");
    }
    Ok(Membership {
        topics,
        contact,
        issued_at: issued_at.unwrap_or_default(),
        expires_at: expires_at.unwrap_or_default(),
    })
}

/// Reads a topic's name.
pub(super) fn name(bytes: &[u8]) -> Result<TopicName, Refused> {
    let name = std::str::from_utf8(bytes).ok();
    match name.and_then(|name| name.parse().ok()) {
        Some(name) => Ok(name),
        None => malformed("a topic's name that is none"),
    }
}

fn topic(bytes: &[u8]) -> Result<TopicMembership, Refused> {
    let (mut of, mut subscribed) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut of, name(value.bytes()?)?)?,
            2 => once(&mut subscribed, value.flag()?)?,
            _ => {}
        }
    }
    Ok(TopicMembership {
        name: required(of)?,
        subscribed: subscribed.unwrap_or(false),
    })
}
