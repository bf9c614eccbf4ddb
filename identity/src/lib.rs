//! Who a peer is, and how it proves what it says.
//!
//! A peer is its ed25519 public key ([`PeerId`]), shown as libp2p's PeerId. Its private key ([`Keypair`]) lives in an
//! OpenSSH private-key file; this crate parses the bytes, the node reads the file and checks its mode.
//! Everything an author says travels as [`Signed`] bytes and enters a protocol core only as [`Verified`], which is made
//! in one place: [`signed`]. [`time`] stands here because everything above shares it: moments are passed in.
//!
//! **Invariant:** this crate is pure. It reads no file, no clock and no ambient randomness; a new key's seed is passed in.

mod keypair;
mod peer_id;
pub mod signed;
pub mod time;

pub use keypair::{KeyError, Keypair};
pub use peer_id::{ParsePeerIdError, PeerId};
pub use signed::{Authored, BadSignature, Domain, Hash, KeyCache, Signature, Signed, Verified};
pub use time::{Now, Time, UnixMicros};
