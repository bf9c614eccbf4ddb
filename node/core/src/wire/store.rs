//! The store's messages.
//!
//! A record in them is the bytes that its writer signed; they are checked here, so that only verified ones reach the store.

mod answers;
mod kept;
mod parts;
mod queries;
mod refusal;

use weft_dht::RequestId;
use weft_dht::store::Message;
use weft_identity::PeerId;

use super::checker::Checker;
use super::fields::{Fields, Refused, once};
use super::{Frame, proto};
use crate::PeerContact;

pub use self::kept::{decode_claim, encode_claim};

/// A message between two nodes of the store.
pub type StoreMessage = Message<PeerContact>;

/// The numbers of [`proto::store::Message`]'s kinds: queries, then answers.
const QUERIES: std::ops::RangeInclusive<u32> = 2..=10;
const ANSWERS: std::ops::RangeInclusive<u32> = 16..=24;

pub(super) fn encode(request: RequestId, message: &StoreMessage) -> proto::Store {
    proto::Store {
        request: request.0,
        message: Some(match message {
            Message::Query(query) => queries::encode(query),
            Message::Answer(answer) => answers::encode(answer),
        }),
    }
}

/// Reads a Store frame that a peer sent.
pub(super) fn decode(
    bytes: &[u8],
    sender: PeerId,
    checker: &mut Checker,
) -> Result<Frame, Refused> {
    let (mut request, mut message) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        if number == 1 {
            once(&mut request, value.varint()?)?;
        } else if QUERIES.contains(&number) || ANSWERS.contains(&number) {
            once(&mut message, (number, value.bytes()?))?;
        }
    }
    let (number, bytes) = message.ok_or(Refused::Unknown)?;
    let message = if QUERIES.contains(&number) {
        Message::Query(queries::decode(number, bytes, sender, checker)?)
    } else {
        Message::Answer(answers::decode(number, bytes, checker)?)
    };
    Ok(Frame::Store {
        request: RequestId(request.unwrap_or(0)),
        message: Box::new(message),
    })
}

#[cfg(test)]
mod tests;
