//! Ed25519 key pairs in OpenSSH's private-key format.

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::Ed25519PublicKey;
use ssh_key::{LineEnding, PrivateKey};

use crate::signed::{Authored, Signature, Verified, signing_bytes};
use crate::{Hash, PeerId};

/// A peer's private key and its peer id.
#[derive(Clone)]
pub struct Keypair {
    signing: SigningKey,
    peer_id: PeerId,
}

impl Keypair {
    /// Makes a key from 32 secret random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let peer_id = PeerId::from_bytes(signing.verifying_key().to_bytes());
        Self { signing, peer_id }
    }

    /// Parses an unencrypted OpenSSH private key, as `ssh-keygen -t ed25519 -N ''` writes it.
    pub fn from_openssh(pem: &[u8]) -> Result<Self, KeyError> {
        let key = PrivateKey::from_openssh(pem).map_err(|e| KeyError::Malformed(e.to_string()))?;
        if key.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        let algorithm = key.algorithm();
        let pair = key
            .key_data()
            .ed25519()
            .ok_or_else(|| KeyError::NotEd25519(algorithm.to_string()))?;
        Ok(Self::from_seed(&pair.private.to_bytes()))
    }

    /// Writes the key as an unencrypted OpenSSH private key with a comment.
    pub fn to_openssh(&self, comment: &str) -> Result<String, KeyError> {
        let pair = Ed25519Keypair {
            public: Ed25519PublicKey(*self.peer_id.as_bytes()),
            private: Ed25519PrivateKey::from_bytes(&self.signing.to_bytes()),
        };
        PrivateKey::new(KeypairData::Ed25519(pair), comment)
            .and_then(|key| key.to_openssh(LineEnding::LF))
            .map(|pem| pem.to_string())
            .map_err(|e| KeyError::Malformed(e.to_string()))
    }

    /// Returns the id of this key's peer.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Returns the 32 secret bytes, for the transport's own handshake.
    pub fn to_seed(&self) -> [u8; 32] {
        self.signing.to_bytes()
    }

    /// Signs a value's encoded body; `context` is what both sides know and need not send (a topic's point, say).
    ///
    /// # Panics
    /// If the value names another author: that is a bug of the caller.
    pub fn sign<T: Authored>(&self, value: T, body: Bytes, context: &[u8]) -> Verified<T> {
        assert_eq!(value.author(), self.peer_id, "signed by its author");
        let hash = Hash::of(&body);
        let signature = self.signing.sign(&signing_bytes(T::DOMAIN, context, &hash));
        Verified::made_here(value, body, hash, Signature(signature.to_bytes()))
    }
}

impl std::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keypair")
            .field("peer_id", &self.peer_id)
            .finish_non_exhaustive()
    }
}

/// Why a private key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not an OpenSSH private key.
    #[error("not an OpenSSH private key: {0}")]
    Malformed(String),
    /// The key is protected by a passphrase.
    #[error(
        "the key has a passphrase, and passphrases are not supported; make one without: ssh-keygen -t ed25519 -N ''"
    )]
    Encrypted,
    /// The key is of another kind.
    #[error("the key is {0}, but a peer's key is ed25519: ssh-keygen -t ed25519 -N ''")]
    NotEd25519(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssh_goes_there_and_back() {
        let key = Keypair::from_seed(&[3; 32]);
        let pem = key.to_openssh("weft").unwrap();
        assert!(pem.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        let again = Keypair::from_openssh(pem.as_bytes()).unwrap();
        assert_eq!(again.peer_id(), key.peer_id());
        assert_eq!(again.to_seed(), key.to_seed());
    }

    #[test]
    fn a_key_of_ssh_keygen_is_read() {
        let dir = std::env::temp_dir().join(format!("weft-ssh-keygen-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let made = std::process::Command::new("ssh-keygen")
            .args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "made by ssh-keygen",
                "-f",
            ])
            .arg(dir.join("key"))
            .output();
        let outcome = match made {
            Ok(output) => {
                assert!(output.status.success(), "{output:?}");
                let pem = std::fs::read(dir.join("key")).unwrap();
                let public = std::fs::read_to_string(dir.join("key.pub")).unwrap();
                Some((Keypair::from_openssh(&pem).unwrap(), public))
            }
            Err(_) if std::env::var_os("CI").is_none() => None,
            Err(error) => panic!("CI has ssh-keygen: {error}"),
        };
        std::fs::remove_dir_all(&dir).unwrap();
        let Some((key, public)) = outcome else {
            eprintln!("skipped: no ssh-keygen on this machine");
            return;
        };
        let public = ssh_key::PublicKey::from_openssh(&public).unwrap();
        assert_eq!(
            public.key_data().ed25519().map(|k| k.0),
            Some(*key.peer_id().as_bytes())
        );
    }

    #[test]
    fn garbage_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"] {
            assert!(matches!(
                Keypair::from_openssh(pem),
                Err(KeyError::Malformed(_))
            ));
        }
    }
}
