//! What the methods `node_*` take and answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DhtStatus;

/// What `node_status` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The node's peer id, as libp2p shows it.
    pub peer_id: String,
    /// The network's name.
    pub network: String,
    /// The daemon's version.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// Seconds since the node was ready.
    pub uptime_s: f64,
    /// Multiaddresses that the node listens on, each ending in `/p2p/PEER_ID`.
    pub addresses: Vec<String>,
    /// Established links.
    pub links: usize,
    /// Size of the active view of the swarm `network`.
    pub active: usize,
    /// Size of the passive view of the swarm `network`.
    pub passive: usize,
    /// The topics that the node is a member of.
    pub topics: Vec<String>,
    /// The structured layer.
    pub dht: DhtStatus,
    /// The replicated store.
    pub store: StoreStatus,
    /// One verdict, and why.
    pub health: Health,
    /// Every counter of the node that isn't zero, by name (`bad_frames`, `forged`, `dropped_frames`, …).
    pub counters: BTreeMap<String, u64>,
}

/// A node's part in the replicated store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Whether it holds records.
    pub stores: bool,
    /// Whether it holds all that it should, and counts as a replica.
    pub settled: bool,
    /// Records that it holds.
    pub records: usize,
    /// Records that it keeps for replicas that are not there.
    pub hints: usize,
    /// Writes that were begun here.
    pub puts: u64,
    /// Reads that were begun here.
    pub gets: u64,
    /// Of both, those that too few replicas answered.
    pub quorums_missed: u64,
    /// Of both, those that were answered with the help of stand-ins.
    pub sloppy: u64,
    /// Hints that it ever took.
    pub hints_kept: u64,
    /// Replicas that its reads found behind.
    pub read_repairs: u64,
    /// Bytes that it sent to compare what it has with others, records included.
    pub sync_bytes: u64,
    /// Records that it found damaged on its disk.
    pub damaged: u64,
    /// Queries of other nodes that it didn't answer because they ask for too much.
    pub held_back: u64,
}

/// A plain verdict on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, `alone` (no neighbour, nobody to join) or `isolated` (no neighbour although others are known).
    pub verdict: Verdict,
    /// What speaks against `ok`.
    pub reasons: Vec<String>,
}

/// A node's condition in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The node has neighbours.
    Ok,
    /// The node knows no other node.
    Alone,
    /// The node knows others, but none is its neighbour.
    Isolated,
}

/// What `node_identity` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's peer id.
    pub peer_id: String,
    /// The network's name.
    pub network: String,
    /// Multiaddresses that the node listens on, each ending in `/p2p/PEER_ID`.
    pub addresses: Vec<String>,
}

/// What a method without parameters takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// What `node_shutdown` answers before the node says goodbye to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Always true.
    pub stopping: bool,
}

/// What `node_leave` takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveParams {
    /// Whether to wait until others hold what this node holds of the store; absent, no.
    #[serde(default)]
    pub drain: bool,
}

/// What `node_leave` answers before the node says goodbye to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Whether others hold what this node held; false where nobody asked for it.
    pub drained: bool,
    /// Records of the store that this node held.
    pub records: usize,
}

/// What `node_setLogLevel` takes and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or directives such as `info,weft_node=debug`.
    pub level: String,
}
