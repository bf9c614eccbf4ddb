//! Signatures over domain-separated bytes, and the one place where [`Verified`] is made.
//!
//! What is signed is `len(domain) domain len(context) context sha256(body)`: a signature for one purpose or one topic
//! can't be replayed into another, and the hash that the signature covers is the one that duplicates and predecessors
//! are recognised by, so each body is hashed once.
//! Signatures are checked one by one with ed25519's strict rule: batch verification can be made to accept for one peer
//! what it refuses for another (Chalkias et al., "Taming the many EdDSAs", 2020).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

use crate::PeerId;

/// Decoded keys kept by one [`KeyCache`]: decoding costs a tenth of a check, and 1,024 publishers at once are plenty.
const CACHED_KEYS_MAX: usize = 1_024;

/// What a signature is for. Two kinds of signed bytes never share a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// Names a domain: at most 255 bytes, such as `weft/bundle/1`.
    pub const fn new(name: &'static str) -> Self {
        assert!(name.len() <= 255, "one byte holds the length");
        Self(name)
    }
}

/// A value with an author, who signs its encoded bytes.
pub trait Authored {
    /// What a signature of such a value is for.
    const DOMAIN: Domain;

    /// Returns the peer that must have signed.
    fn author(&self) -> PeerId;
}

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Hashes some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes 32 bytes that are a hash already.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Hash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// An ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

/// A value as it came: decoded from `body`, its signature not checked yet.
#[derive(Clone, Debug)]
pub struct Signed<T> {
    /// What the body says.
    pub value: T,
    /// The bytes that were signed.
    pub body: Bytes,
    /// The hash of the body.
    pub hash: Hash,
    /// The author's signature, as it came.
    pub signature: Signature,
}

impl<T> Signed<T> {
    /// Takes a value as one whose signature was checked, or made, before it was written to this node's own store, which has
    /// found its bytes unchanged. Nothing else may call this.
    pub const fn restored(self) -> Verified<T> {
        Verified(self)
    }
}

impl<T: Authored> Signed<T> {
    /// Checks the author's signature with ed25519's strict rule.
    pub fn verify(self, context: &[u8], keys: &mut KeyCache) -> Result<Verified<T>, BadSignature> {
        let key = keys.key_of(self.value.author())?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(&signing_bytes(T::DOMAIN, context, &self.hash), &signature)
            .map_err(|_| BadSignature)?;
        Ok(Verified(self))
    }
}

/// A value whose author signed it: made by [`Signed::verify`] and by [`crate::Keypair::sign`], and read back from this node's
/// own store by [`Signed::restored`], nowhere else.
#[derive(Clone, Debug)]
pub struct Verified<T>(Signed<T>);

impl<T> Verified<T> {
    pub(crate) const fn made_here(value: T, body: Bytes, hash: Hash, signature: Signature) -> Self {
        Self(Signed {
            value,
            body,
            hash,
            signature,
        })
    }

    /// Returns the value and what proves it.
    pub fn into_signed(self) -> Signed<T> {
        self.0
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = Signed<T>;

    fn deref(&self) -> &Signed<T> {
        &self.0
    }
}

/// The signature is not the author's, or the author's id is no usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not its author's")]
pub struct BadSignature;

/// Decoded keys of recent authors, oldest dropped first.
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: BTreeMap<PeerId, VerifyingKey>,
    order: VecDeque<PeerId>,
}

impl KeyCache {
    fn key_of(&mut self, peer: PeerId) -> Result<VerifyingKey, BadSignature> {
        if let Some(key) = self.keys.get(&peer) {
            return Ok(*key);
        }
        let key = VerifyingKey::from_bytes(peer.as_bytes()).map_err(|_| BadSignature)?;
        if self.order.len() >= CACHED_KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.order.push_back(peer);
        self.keys.insert(peer, key);
        Ok(key)
    }
}

pub(crate) fn signing_bytes(domain: Domain, context: &[u8], hash: &Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + domain.0.len() + 4 + context.len() + 32);
    out.push(domain.0.len() as u8);
    out.extend_from_slice(domain.0.as_bytes());
    out.extend_from_slice(&(context.len() as u32).to_be_bytes());
    out.extend_from_slice(context);
    out.extend_from_slice(hash.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    #[derive(Clone, Debug)]
    struct Note(PeerId);

    impl Authored for Note {
        const DOMAIN: Domain = Domain::new("weft/test-note/1");

        fn author(&self) -> PeerId {
            self.0
        }
    }

    #[derive(Clone, Debug)]
    struct OtherNote(PeerId);

    impl Authored for OtherNote {
        const DOMAIN: Domain = Domain::new("weft/test-other-note/1");

        fn author(&self) -> PeerId {
            self.0
        }
    }

    fn signed() -> Signed<Note> {
        let key = Keypair::from_seed(&[1; 32]);
        let body = Bytes::from_static(b"hello");
        key.sign(Note(key.peer_id()), body, b"topic").into_signed()
    }

    #[test]
    fn the_authors_signature_verifies() {
        assert!(signed().verify(b"topic", &mut KeyCache::default()).is_ok());
    }

    #[test]
    fn another_context_body_author_or_domain_is_refused() {
        let mut keys = KeyCache::default();
        assert!(signed().verify(b"other topic", &mut keys).is_err());

        let mut forged = signed();
        forged.hash = Hash::of(b"hello!");
        assert!(forged.verify(b"topic", &mut keys).is_err());

        let mut forged = signed();
        forged.value = Note(Keypair::from_seed(&[2; 32]).peer_id());
        assert!(forged.verify(b"topic", &mut keys).is_err());

        let note = signed();
        let moved = Signed {
            value: OtherNote(note.value.0),
            body: note.body,
            hash: note.hash,
            signature: note.signature,
        };
        assert!(moved.verify(b"topic", &mut keys).is_err());
    }

    #[test]
    fn an_id_that_is_no_key_is_refused() {
        let mut forged = signed();
        forged.value = Note(PeerId::from_bytes([0xff; 32]));
        assert!(forged.verify(b"topic", &mut KeyCache::default()).is_err());
    }

    #[test]
    fn the_key_cache_is_bounded() {
        let mut keys = KeyCache::default();
        for n in 0..CACHED_KEYS_MAX as u64 + 50 {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&n.to_be_bytes());
            keys.key_of(Keypair::from_seed(&seed).peer_id()).unwrap();
        }
        assert_eq!(keys.keys.len(), CACHED_KEYS_MAX);
        assert_eq!(keys.order.len(), CACHED_KEYS_MAX);
    }
}
