//! What the methods `peer_*` take and answer.

use serde::{Deserialize, Serialize};

/// What `peer_list` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peers {
    /// Linked peers.
    pub peers: Vec<Peer>,
}

/// A linked peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    /// Its peer id.
    pub peer_id: String,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Who dialled: `in` or `out`.
    pub direction: Direction,
    /// The link's transport, such as `tcp`.
    pub transport: String,
    /// Round trip of the link's heartbeat in milliseconds, once one has come back.
    pub rtt_ms: Option<f64>,
    /// The peer's standing; null until peers are scored.
    pub score: Option<f64>,
    /// The swarms in which it is a neighbour.
    pub swarms: Vec<String>,
}

/// Who dialled a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer dialled this node.
    In,
    /// This node dialled the peer.
    Out,
}

/// What `peer_add` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAddParams {
    /// The peer's multiaddress; `/p2p/PEER_ID` at its end pins who must answer.
    pub address: String,
}

/// What `peer_add` answers once the peer is linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAdded {
    /// Who answered at the address.
    pub peer_id: String,
    /// The address that was dialled.
    pub address: String,
}

/// What `peer_remove` and `peer_ping` take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerParams {
    /// The peer's id.
    pub peer_id: String,
}

/// What `peer_remove` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRemoved {
    /// The peer's id.
    pub peer_id: String,
    /// Whether it was linked or known.
    pub removed: bool,
}

/// What `peer_refuse` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRefuseParams {
    /// Ids of all peers that are refused from now on.
    pub peer_ids: Vec<String>,
}

/// What `peer_refuse` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersRefused {
    /// How many peers are refused now.
    pub refused: usize,
}

/// What `peer_ping` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerPinged {
    /// The peer's id.
    pub peer_id: String,
    /// Round trip over the link's heartbeat in milliseconds.
    pub rtt_ms: f64,
}
