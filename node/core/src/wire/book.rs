//! The address book as it stands on disk: `weft-peers`, the version's byte, SHA-256 of the rest, and the rest.

use bytes::BufMut;
use prost::Message as _;
use weft_identity::{Hash, KeyCache};

use super::fields::{Fields, Refused, malformed};
use super::{DecodeError, descriptor, proto};
use crate::PeerContact;

/// Descriptors in an address book: enough to find a network again of which nine nodes in ten are gone.
pub const BOOK_MAX: usize = 256;

const MAGIC: &[u8] = b"weft-peers";
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;

/// Encodes an address book, its first [`BOOK_MAX`] descriptors.
pub fn encode_descriptors(contacts: &[PeerContact]) -> Vec<u8> {
    let book = proto::AddressBook {
        descriptors: contacts
            .iter()
            .take(BOOK_MAX)
            .map(descriptor::encode)
            .collect(),
    }
    .encode_to_vec();
    let mut out = Vec::with_capacity(MAGIC.len() + 1 + HASH_BYTES + book.len());
    out.put_slice(MAGIC);
    out.put_u8(VERSION);
    out.put_slice(Hash::of(&book).as_bytes());
    out.put_slice(&book);
    out
}

/// Decodes an address book. One that was torn, flipped or written by another version is refused whole; a descriptor whose
/// signature or form doesn't hold is left out.
pub fn decode_descriptors(bytes: &[u8]) -> Result<Vec<PeerContact>, DecodeError> {
    let Some((&VERSION, rest)) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first) else {
        return Err(DecodeError::Malformed("not an address book of version 1"));
    };
    let Some((hash, book)) = rest.split_first_chunk::<HASH_BYTES>() else {
        return Err(DecodeError::Malformed("an address book cut short"));
    };
    if Hash::of(book).as_bytes() != hash {
        return Err(DecodeError::Malformed(
            "an address book whose checksum doesn't hold",
        ));
    }
    Ok(read(book)?)
}

fn read(book: &[u8]) -> Result<Vec<PeerContact>, Refused> {
    let mut keys = KeyCache::default();
    let (mut contacts, mut entries) = (Vec::new(), 0);
    for field in Fields::new(book) {
        let (number, value) = field?;
        if number == 1 {
            entries += 1;
            if entries > BOOK_MAX {
                return malformed("over 256 descriptors");
            }
            contacts.extend(descriptor::decode(value.bytes()?, &mut keys));
        }
    }
    Ok(contacts)
}
