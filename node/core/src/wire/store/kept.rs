//! A claim as it lies on a node's own disk: a StoreClaim, as it travels.

use bytes::Bytes;
use prost::Message as _;
use weft_dht::store::Claim;
use weft_identity::{KeyCache, PeerId};

use super::super::fields::{Fields, Refused, once, required};
use super::super::{DecodeError, descriptor, proto};
use super::parts;
use crate::PeerContact;

/// Encodes a claim with the contact of whoever made it.
pub fn encode_claim(contact: &PeerContact, claim: &Claim<PeerId>) -> Bytes {
    let message = proto::StoreClaim {
        contact: Some(descriptor::encode(contact)),
        claim: Some(parts::encode_claim(claim)),
        leaving: false,
    };
    message.encode_to_vec().into()
}

/// Decodes a claim with the contact of whoever made it, whose signature is checked.
pub fn decode_claim(bytes: &[u8]) -> Result<(PeerContact, Claim<PeerId>), DecodeError> {
    Ok(read(bytes)?)
}

fn read(bytes: &[u8]) -> Result<(PeerContact, Claim<PeerId>), Refused> {
    let mut keys = KeyCache::default();
    let (mut contact, mut claim) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut contact, descriptor::decode(value.bytes()?, &mut keys)?)?,
            2 => once(&mut claim, parts::read_claim(value)?)?,
            _ => {}
        }
    }
    Ok((required(contact)?, required(claim)?))
}
