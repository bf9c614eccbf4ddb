//! The JSON that methods take and answer: the shapes that scripts rely on.
//!
//! Each type is written once: the node answers with it, the client reads it, the CLI prints it. Keys whose part has
//! nothing to say yet are null, empty or absent, never invented. Times are RFC 3339 in UTC with microseconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::payload::Payload;

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
    /// One verdict, and why.
    pub health: Health,
    /// Every counter of the node that isn't zero, by name (`bad_frames`, `forged_bundles`, `dropped_frames`, …).
    pub counters: BTreeMap<String, u64>,
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

/// What `peer_ping` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerPinged {
    /// The peer's id.
    pub peer_id: String,
    /// Round trip over the link's heartbeat in milliseconds.
    pub rtt_ms: f64,
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

/// What `topic_list` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Topics {
    /// Topics that this node is a member of or knows members of.
    pub topics: Vec<Topic>,
}

/// A topic as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Subscriptions of this node's clients.
    pub subscriptions: usize,
    /// Other members that have announced themselves.
    pub members_known: usize,
}

/// What `topic_publish` takes: one topic and a batch of messages, published in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishParams {
    /// The topic's name: 1 to 200 bytes of `[A-Za-z0-9._/-]`, not `network`, no leading `@`.
    pub topic: String,
    /// The messages, each at most 1 MiB.
    pub messages: Vec<Payload>,
}

/// What `topic_publish` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// One receipt a message, in order.
    pub receipts: Vec<Receipt>,
}

/// A published message's place and how it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The topic's name.
    pub topic: String,
    /// This node's peer id.
    pub publisher: String,
    /// The publisher's epoch.
    pub epoch: u64,
    /// The message's number in the epoch, from 1.
    pub seq: u64,
    /// Neighbours it was pushed to.
    pub eager: usize,
    /// Neighbours it is announced to.
    pub lazy: usize,
    /// Keepers that hold it; empty until there are keepers.
    pub keepers: Vec<String>,
    /// Subscribed nodes that this node knows of, itself included.
    pub subscribers_known: usize,
}

/// What `topic_subscribe` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscribeParams {
    /// The topic's name.
    pub topic: String,
}

/// One notification of a subscription: items in order. The first notification of each subscription is `Ready`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notification {
    /// The node is a member of the topic's swarm and its starting place is fixed: all that is published from now on
    /// will come. Carries the id that `topic_credit` takes.
    Ready(Ready),
    /// Messages and gaps, and the place after the last of them.
    Items(Items),
}

/// What a subscription says first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// The id that `topic_credit` takes.
    pub credit_id: u64,
    /// The place from which the subscription reads.
    pub place: u64,
    /// Neighbours in the topic's swarm at this moment.
    pub neighbours: usize,
}

/// A batch of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Items {
    /// Messages and gaps in order.
    pub items: Vec<Item>,
    /// The place after the last of them, for `topic_credit`.
    pub place: u64,
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A message.
    Message(Message),
    /// Messages that will not come.
    Gap(Gap),
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The topic's name.
    pub topic: String,
    /// Who published it.
    pub publisher: String,
    /// The publisher's epoch.
    pub epoch: u64,
    /// Its number in the epoch, from 1.
    pub seq: u64,
    /// Links it travelled; 0 on the publishing node.
    pub hops: u32,
    /// When its publisher published it, by the publisher's clock.
    pub published_at: String,
    /// When this node received it.
    pub received_at: String,
    /// The payload.
    #[serde(flatten)]
    pub payload: Payload,
}

/// A range of messages that will not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose messages; null for messages of several publishers that a slow reader let pass.
    pub publisher: Option<String>,
    /// The publisher's epoch; null as above.
    pub epoch: Option<u64>,
    /// The first that is missing (a seq; a place for `slow_reader`).
    pub from: u64,
    /// The last that is missing (a seq; a place for `slow_reader`).
    pub to: u64,
    /// `lost` (nobody has it) or `slow_reader` (history passed this reader by).
    pub reason: GapReason,
}

/// Why messages will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Every neighbour has denied having it, or retention has passed it by.
    Lost,
    /// History was dropped before this reader read it.
    SlowReader,
}

/// What `topic_credit` takes: everything before `up_to` has been read, so more may be sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditParams {
    /// The id that the subscription's `Ready` carried.
    pub credit_id: u64,
    /// A place from an `Items` notification.
    pub up_to: u64,
}
