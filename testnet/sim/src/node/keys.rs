//! Keys of simulated nodes: who is which node.

use std::collections::BTreeMap;

use weft_identity::{Keypair, PeerId};

use crate::link::mix;
use crate::machine::NodeId;

/// The keys of all nodes of a simulation, from its seed.
#[derive(Debug)]
pub struct Keys {
    seed: u64,
    peers: Vec<PeerId>,
    nodes: BTreeMap<PeerId, NodeId>,
}

impl Keys {
    /// The network that they are of.
    pub const NETWORK: &str = "sim";

    /// Makes the keys of so many nodes.
    pub fn new(seed: u64, nodes: u32) -> Self {
        let peers: Vec<PeerId> = (0..nodes)
            .map(|node| keypair(seed, node).peer_id())
            .collect();
        let nodes = peers.iter().copied().zip(0..).collect();
        Self { seed, peers, nodes }
    }

    /// Returns a node's key.
    pub fn keypair(&self, node: NodeId) -> Keypair {
        keypair(self.seed, node)
    }

    /// Returns a node's peer id.
    pub fn peer(&self, node: NodeId) -> PeerId {
        self.peers[node as usize]
    }

    /// Returns whose a peer id is.
    pub fn node(&self, peer: PeerId) -> Option<NodeId> {
        self.nodes.get(&peer).copied()
    }
}

fn keypair(seed: u64, node: NodeId) -> Keypair {
    let mut bytes = [0; 32];
    for (index, part) in bytes.chunks_mut(8).enumerate() {
        let place = (u64::from(node) << 8) | index as u64;
        part.copy_from_slice(&mix(seed ^ mix(place)).to_be_bytes());
    }
    Keypair::from_seed(&bytes)
}
