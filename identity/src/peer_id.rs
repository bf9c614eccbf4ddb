//! Peer ids: an ed25519 public key, shown as libp2p shows it.
//!
//! libp2p's PeerId of an ed25519 key is the identity multihash of the key's protobuf (libp2p specs, `peer-ids`):
//! `00 24` (identity, 36 bytes) `08 01` (type ed25519) `12 20` (32 bytes of data), then the key; shown in base58btc.

use std::fmt;
use std::str::FromStr;

const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// The longest text of a peer id: 38 bytes in base58 take at most 52 characters.
const TEXT_CHARS_MAX: usize = 52;

/// A peer's ed25519 public key, 32 bytes.
///
/// Any 32 bytes can stand here; whether they are a usable key shows when a signature is checked against them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// Takes the 32 bytes of an ed25519 public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the bytes of libp2p's PeerId: the 38-byte identity multihash.
    pub fn to_multihash(&self) -> [u8; 38] {
        let mut out = [0; 38];
        out[..6].copy_from_slice(&PREFIX);
        out[6..].copy_from_slice(&self.0);
        out
    }

    /// Reads the bytes of libp2p's PeerId; only ed25519 keys are known here.
    pub fn from_multihash(bytes: &[u8]) -> Result<Self, ParsePeerIdError> {
        let key = bytes
            .strip_prefix(&PREFIX)
            .ok_or(ParsePeerIdError::NotEd25519)?;
        key.try_into()
            .map(Self)
            .map_err(|_| ParsePeerIdError::NotEd25519)
    }

    /// Returns the last six characters of the text, for logs and tables.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len().saturating_sub(6)..].to_owned()
    }
}

impl TryFrom<&[u8]> for PeerId {
    type Error = ParsePeerIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| ParsePeerIdError::NotEd25519)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_multihash()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId(…{})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_CHARS_MAX {
            return Err(ParsePeerIdError::NotBase58);
        }
        let mut bytes = [0; 64];
        let len = bs58::decode(text)
            .onto(&mut bytes[..])
            .map_err(|_| ParsePeerIdError::NotBase58)?;
        Self::from_multihash(&bytes[..len])
    }
}

/// Why a text or some bytes are not a peer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParsePeerIdError {
    /// The text is not base58.
    #[error("a peer id is base58 text such as 12D3KooW…")]
    NotBase58,
    /// The bytes are not the identity multihash of an ed25519 key.
    #[error("not the id of an ed25519 key (those begin with 12D3KooW)")]
    NotEd25519,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_there_and_back() {
        let peer = PeerId::from_bytes([7; 32]);
        assert!(peer.to_string().starts_with("12D3KooW"));
        assert_eq!(peer.to_string().parse(), Ok(peer));
    }

    #[test]
    fn text_is_the_one_libp2p_shows() {
        // RFC 8032, test 1: the public key of the all-known first vector.
        let key = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64,
            0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68,
            0xf7, 0x07, 0x51, 0x1a,
        ];
        let text = PeerId::from_bytes(key).to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse(), Ok(PeerId::from_bytes(key)));
    }

    #[test]
    fn other_texts_are_refused() {
        let too_long = "1".repeat(60);
        for (text, error) in [
            ("", ParsePeerIdError::NotEd25519),
            ("0OIl", ParsePeerIdError::NotBase58),
            (
                "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
                ParsePeerIdError::NotEd25519,
            ),
            (&too_long, ParsePeerIdError::NotBase58),
        ] {
            assert_eq!(text.parse::<PeerId>(), Err(error), "{text}");
        }
    }
}
