//! What a node is started with.

use std::path::PathBuf;

use libp2p::Multiaddr;
use weft_core::Roles;
use weft_identity::Keypair;

/// What a node is started with.
#[derive(Debug)]
pub struct Config {
    /// The node's key.
    pub keypair: Keypair,
    /// The network's name; nodes of another name are refused.
    pub network: String,
    /// Where to listen, such as `/ip4/127.0.0.1/tcp/0`.
    pub listen: Vec<Multiaddr>,
    /// Whom to join; tried for ever.
    pub join: Vec<Multiaddr>,
    /// Where the epoch and the address book are kept; without it they live in memory alone.
    pub dir: Option<PathBuf>,
    /// The node's part in the structured layer: whether it answers queries, and takes part in the store.
    pub roles: Roles,
    /// Whether this node begins a network, so that it waits for nobody who holds what the store holds. A node that has nobody to
    /// join and knows nobody does so without being told.
    pub found: bool,
}
