//! What the methods `overlay_*` take and answer.

use serde::{Deserialize, Serialize};

/// What `overlay_views` takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayViewsParams {
    /// The swarm: a topic's name, or `network` (the default).
    #[serde(default)]
    pub topic: Option<String>,
}

/// What `overlay_views` answers: one swarm as this node sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverlayView {
    /// The swarm's topic.
    pub topic: String,
    /// Neighbours.
    pub active: Vec<ActivePeer>,
    /// Known members that are no neighbours.
    pub passive: Vec<PassivePeer>,
    /// This node's counters for the swarm.
    pub counters: SwarmCounters,
    /// Places for which this node holds two different bundles that their publisher signed, the newest 16.
    #[serde(default)]
    pub equivocations: Vec<Equivocation>,
}

/// A place for which its publisher has signed two bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// The publisher's peer id.
    pub publisher: String,
    /// Which run of the publisher.
    pub epoch: u64,
    /// The seq of the second bundle's first message.
    pub seq: u64,
}

/// What `overlay_tree` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayTreeParams {
    /// The swarm: a topic's name, or `network`.
    pub topic: String,
}

/// What `overlay_tree` answers: this node's sight of a swarm's trees.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverlayTree {
    /// The swarm's topic.
    pub topic: String,
    /// The shared tree, whose publisher is null, and one for each publisher seen lately.
    pub trees: Vec<Tree>,
}

/// One tree at this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Whose messages travel along it; null for the shared tree, on which a new publisher's first message travels.
    pub publisher: Option<String>,
    /// The neighbour that pushes to this node; null where this node is the root or has received nothing yet.
    pub parent: Option<String>,
    /// Neighbours that this node pushes to.
    pub eager: Vec<String>,
    /// Neighbours that this node announces to.
    pub lazy: Vec<String>,
}

/// A neighbour in a swarm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActivePeer {
    /// Its peer id.
    pub peer_id: String,
    /// Seconds since it became a neighbour.
    pub since_s: f64,
    /// Round trip of the link's heartbeat in milliseconds, once one has come back.
    pub rtt_ms: Option<f64>,
    /// Whether the swarm's shared tree pushes to it.
    pub eager: bool,
    /// Bytes that wait in the link's lanes.
    pub lane_bytes: u64,
}

/// A known member of a swarm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PassivePeer {
    /// Its peer id.
    pub peer_id: String,
    /// Seconds since it was last heard of.
    pub age_s: f64,
}

/// What a node has counted in one swarm since it joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwarmCounters {
    /// Bundles received for the first time.
    pub bundles_new: u64,
    /// Bundles received again.
    pub bundles_duplicate: u64,
    /// Messages delivered to this node.
    pub messages_delivered: u64,
    /// Bundles pushed to eager neighbours.
    pub bundles_pushed: u64,
    /// Bundles sent because a neighbour asked for missing ranges.
    pub bundles_supplied: u64,
    /// Lazy announcements sent.
    pub announcements_sent: u64,
    /// GRAFTs sent.
    pub grafts_sent: u64,
    /// PRUNEs sent.
    pub prunes_sent: u64,
    /// Messages reported as lost in a gap.
    pub messages_lost: u64,
}
