//! Signed parts: read, and verified unless that was done lately.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_dht::kv::Record;
use weft_identity::{Hash, KeyCache, PeerId, Signature};

use super::fields::{Fields, Refused, malformed, once, required};
use super::{KnownBodies, descriptor, record};
use crate::PeerContact;

/// A signed body with its signature, still in the read buffer.
pub(super) struct SignedParts<'a> {
    pub(super) signature: Signature,
    pub(super) body: &'a [u8],
}

impl<'a> SignedParts<'a> {
    /// Reads a SignedDescriptor or SignedBundle; both have the same fields.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Refused> {
        let (mut signature, mut body) = (None, None);
        for field in Fields::new(message) {
            let (number, value) = field?;
            match number {
                1 => once(&mut signature, Signature(value.array()?))?,
                2 => once(&mut body, value.bytes()?)?,
                _ => {}
            }
        }
        Ok(Self {
            signature: required(signature)?,
            body: required(body)?,
        })
    }
}

/// What checking takes: a link's decoded keys, and what the node has checked already.
#[derive(Debug)]
pub(super) struct Checker {
    pub(super) keys: KeyCache,
    known: Arc<Mutex<KnownBodies>>,
    network: Arc<str>,
}

impl Checker {
    pub(super) fn new(known: Arc<Mutex<KnownBodies>>) -> Self {
        let network = known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .network();
        Self {
            keys: KeyCache::default(),
            known,
            network,
        }
    }

    /// Returns the network's name.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    /// Locks what is known: for a look or an insertion, never while a signature is checked.
    pub(super) fn known(&self) -> MutexGuard<'_, KnownBodies> {
        // Each change is one insertion: whoever panicked with the lock held has left the sets whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a SignedDescriptor.
    pub(super) fn contact(&mut self, message: &[u8]) -> Result<PeerContact, Refused> {
        let parts = descriptor::parts(message)?;
        let hash = Hash::of(parts.body);
        if let Some(contact) = self.known().contact(&hash) {
            return Ok(contact);
        }
        let contact = descriptor::verify(&parts, hash, &mut self.keys)?;
        self.known().insert_contact(contact.clone());
        Ok(contact)
    }

    /// Reads a SignedRecord of the network.
    pub(super) fn record(&mut self, message: &[u8]) -> Result<Record<PeerId>, Refused> {
        record::decode(message, &self.network, &mut self.keys)
    }

    /// Reads the SignedDescriptor of the peer that sends it.
    pub(super) fn own_contact(
        &mut self,
        message: &[u8],
        sender: PeerId,
    ) -> Result<PeerContact, Refused> {
        let contact = self.contact(message)?;
        if contact.0.value.peer != sender {
            return malformed("another peer's descriptor for the sender's own");
        }
        Ok(contact)
    }
}
