//! What the methods `dht_*` take and answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What `dht_closest`, `dht_provide`, `dht_stopProviding` and `dht_providers` take: a key of 1 to 256 bytes, as text or in base64.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyParams {
    /// The key as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64 (RFC 4648, section 4), instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
}

impl KeyParams {
    /// Returns the key's bytes; an error says what is wrong.
    pub fn into_bytes(self) -> Result<Vec<u8>, String> {
        let bytes = match (self.key, self.key_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map_err(|error| format!("key_base64 is no base64: {error}"))?,
            (Some(_), Some(_)) => return Err("there are two keys".to_owned()),
            (None, None) => return Err("there is no key".to_owned()),
        };
        if bytes.is_empty() {
            return Err("the key is empty".to_owned());
        }
        Ok(bytes)
    }
}

/// What a lookup cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Lookup {
    /// Peers that were asked.
    pub requests: u32,
    /// Answers that came.
    pub answers: u32,
    /// Peers that took longer than they should.
    pub slow: u32,
    /// Peers that did not answer.
    pub failures: u32,
    /// Hops to the closest peer: 1 if it stood in this node's routing table; null if nobody answered.
    pub hops: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// A peer that a lookup has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPeer {
    /// Its peer id.
    pub peer_id: String,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Whether the peer has signed these addresses: a Weft node has, another libp2p peer has not.
    pub signed: bool,
    /// Whether it is this node.
    pub this_node: bool,
}

/// What `dht_findPeer` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerFound {
    /// The peer.
    #[serde(flatten)]
    pub peer: FoundPeer,
    /// What it cost; all zero where this node knew it.
    pub lookup: Lookup,
}

/// What `dht_closest` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closest {
    /// The key's point, SHA-256 of the key, in hexadecimal.
    pub point: String,
    /// Up to 20 peers, the closest first; this node among them where it belongs there.
    pub peers: Vec<FoundPeer>,
    /// What it cost.
    pub lookup: Lookup,
}

/// What `dht_provide` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provided {
    /// The key's point in hexadecimal.
    pub point: String,
    /// The peers that were told; they don't acknowledge it.
    pub told: Vec<String>,
    /// What it cost.
    pub lookup: Lookup,
}

/// What `dht_stopProviding` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidingStopped {
    /// The key's point in hexadecimal.
    pub point: String,
    /// Whether this node provided the key.
    pub provided: bool,
}

/// What `dht_providers` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Providers {
    /// The key's point in hexadecimal.
    pub point: String,
    /// Up to 20 who say that they provide the key.
    pub providers: Vec<FoundPeer>,
    /// What it cost.
    pub lookup: Lookup,
}

/// What `dht_routingTable` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// This node's peer id.
    pub peer_id: String,
    /// The peers, the closest to this node first.
    pub peers: Vec<RoutingPeer>,
    /// Peers that wait for a place.
    pub spares: usize,
    /// Keys that others provide, of which this node keeps a record: how many records.
    pub provider_records: usize,
}

/// A peer of the routing table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutingPeer {
    /// Its peer id.
    pub peer_id: String,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Whether the peer has signed them.
    pub signed: bool,
    /// Its bucket: how many leading bits its point shares with this node's.
    pub bucket: u32,
    /// Whether it answers.
    pub standing: Standing,
    /// How fast it answers, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Seconds since it was heard.
    pub heard_s: f64,
}

/// Whether a peer of the routing table answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It did when it was asked last.
    Live,
    /// It did not, and is being tried again.
    Suspect,
    /// It did not twice: whoever wants its place gets it.
    Stale,
}

/// The structured layer in `node_status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhtStatus {
    /// `server` or `client`.
    pub mode: DhtMode,
    /// Peers in the routing table that answer.
    pub peers: usize,
    /// Queries of this node that were answered.
    pub answers: u64,
    /// Queries of this node that were not.
    pub failures: u64,
}

/// A node's part in the structured layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhtMode {
    /// It answers others.
    Server,
    /// It only asks.
    Client,
}
