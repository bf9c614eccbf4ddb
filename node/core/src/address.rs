//! Where a peer can be dialled, opaque to the core.

use std::fmt;

use bytes::Bytes;

/// Bytes of one address: a multiaddress with a DNS name and a peer id stays below this.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Addresses of one peer that are kept and passed on: a few transports on a few interfaces.
pub const ADDRESSES_MAX: usize = 8;

/// The binary form of a multiaddress. The core stores and passes it on; only the owner of the links reads it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Bytes);

impl Address {
    /// Takes a multiaddress in binary form; none if it is empty or longer than [`ADDRESS_BYTES_MAX`].
    pub fn new(bytes: Bytes) -> Option<Self> {
        (1..=ADDRESS_BYTES_MAX)
            .contains(&bytes.len())
            .then_some(Self(bytes))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} bytes)", self.0.len())
    }
}
