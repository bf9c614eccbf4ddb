//! Descriptors: their signed body, and their check.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_identity::{Hash, KeyCache, Keypair, PeerId, Signed};
use weft_overlay::UnixMicros;

use super::checker::SignedParts;
use super::fields::{Fields, Refused, malformed, once, required};
use super::{DecodeError, UNIX_MICROS_MAX, proto};
use crate::address::ADDRESSES_MAX;
use crate::{Address, Descriptor, PeerContact, Roles};

/// Bytes of a descriptor's body: 8 addresses of 256 bytes, and room for what later versions say.
pub(super) const BODY_BYTES_MAX: usize = 4 * 1024;

/// What is signed beside a descriptor's body: nothing, it is the same everywhere.
const CONTEXT: &[u8] = b"";

/// Makes and signs a descriptor.
pub(crate) fn issue(
    keypair: &Keypair,
    addresses: &[Address],
    issued_at: UnixMicros,
    expires_at: UnixMicros,
    roles: Roles,
) -> PeerContact {
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let clamp = |moment: UnixMicros| UnixMicros(moment.0.min(UNIX_MICROS_MAX));
    let (issued_at, expires_at) = (clamp(issued_at), clamp(expires_at));
    let body = Bytes::from(
        proto::DescriptorBody {
            peer: Bytes::copy_from_slice(keypair.peer_id().as_bytes()),
            addresses: addresses
                .iter()
                .map(|address| Bytes::copy_from_slice(address.as_bytes()))
                .collect(),
            issued_at: issued_at.0,
            expires_at: expires_at.0,
            serves: roles.serves,
            stores: roles.stores,
        }
        .encode_to_vec(),
    );
    let descriptor = Descriptor {
        peer: keypair.peer_id(),
        addresses: addresses.to_vec(),
        issued_at,
        expires_at,
        roles,
    };
    PeerContact(Arc::new(keypair.sign(descriptor, body, CONTEXT)))
}

/// Reads a SignedDescriptor without looking into its body.
pub(super) fn parts(message: &[u8]) -> Result<SignedParts<'_>, Refused> {
    let parts = SignedParts::read(message)?;
    if parts.body.len() > BODY_BYTES_MAX {
        return malformed("a descriptor of over 4 KiB");
    }
    Ok(parts)
}

/// Reads and verifies a SignedDescriptor where nothing is known of earlier ones.
pub(super) fn decode(message: &[u8], keys: &mut KeyCache) -> Result<PeerContact, Refused> {
    let parts = parts(message)?;
    verify(&parts, Hash::of(parts.body), keys)
}

/// Reads and verifies a descriptor whose body has this hash.
pub(super) fn verify(
    parts: &SignedParts<'_>,
    hash: Hash,
    keys: &mut KeyCache,
) -> Result<PeerContact, Refused> {
    // A copy of its own, so that a descriptor in a view doesn't keep a whole frame.
    let body = Bytes::copy_from_slice(parts.body);
    let value = read(&body)?;
    let signed = Signed {
        value,
        body,
        hash,
        signature: parts.signature,
    };
    match signed.verify(CONTEXT, keys) {
        Ok(verified) => Ok(PeerContact(Arc::new(verified))),
        Err(_) => Err(Refused::Because(DecodeError::Forged("descriptor"))),
    }
}

/// Encodes a verified descriptor; its signed body is shared, not encoded again.
pub(super) fn encode(contact: &PeerContact) -> proto::SignedDescriptor {
    proto::SignedDescriptor {
        signature: Bytes::copy_from_slice(&contact.0.signature.0),
        body: contact.0.body.clone(),
    }
}

fn read(body: &Bytes) -> Result<Descriptor, Refused> {
    let mut addresses = Vec::new();
    let (mut peer, mut issued_at, mut expires_at) = (None, None, None);
    let (mut serves, mut stores) = (None, None);
    for field in Fields::new(body) {
        let (number, value) = field?;
        match number {
            1 => once(&mut peer, PeerId::from_bytes(value.array()?))?,
            2 => {
                if addresses.len() >= ADDRESSES_MAX {
                    return malformed("a descriptor with over 8 addresses");
                }
                match Address::new(body.slice_ref(value.bytes()?)) {
                    Some(address) => addresses.push(address),
                    None => return malformed("an address of no or over 256 bytes"),
                }
            }
            3 => once(&mut issued_at, value.moment()?)?,
            4 => once(&mut expires_at, value.moment()?)?,
            5 => once(&mut serves, value.flag()?)?,
            6 => once(&mut stores, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Descriptor {
        peer: required(peer)?,
        addresses,
        issued_at: issued_at.unwrap_or_default(),
        expires_at: expires_at.unwrap_or_default(),
        roles: Roles {
            serves: serves.unwrap_or(false),
            stores: stores.unwrap_or(false),
        },
    })
}
