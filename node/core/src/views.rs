//! What a core shows of itself, for status, tables and tests.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::UnixMicros;

use crate::{Address, Direction, KadContact, TopicName};

/// A node at a glance.
#[derive(Debug, Clone, Default)]
pub struct StatusView {
    /// Links that are up.
    pub links: usize,
    /// Neighbours in the root swarm.
    pub active: usize,
    /// Known members of the root swarm that are no neighbours.
    pub passive: usize,
    /// Whether the node has anybody to join: addresses to join, an address book, a passive view.
    pub knows_others: bool,
    /// Topics that the node is a member of.
    pub topics: Vec<TopicName>,
    /// The structured layer.
    pub dht: DhtView,
    /// The replicated store.
    pub store: StoreView,
    /// Counters that aren't zero, by name.
    pub counters: BTreeMap<&'static str, u64>,
}

/// The structured layer at a glance.
#[derive(Debug, Clone, Default)]
pub struct DhtView {
    /// Whether this node answers others.
    pub serves: bool,
    /// Peers in the routing table that answer.
    pub live: usize,
    /// Records of providers that are kept for others.
    pub provider_records: usize,
    /// What was asked and refused.
    pub counters: weft_dht::dht::Counters,
}

/// The replicated store at a glance.
#[derive(Debug, Clone, Default)]
pub struct StoreView {
    /// Whether this node holds records.
    pub stores: bool,
    /// Whether it holds all that it should, and counts as a replica.
    pub settled: bool,
    /// Records that it holds.
    pub records: usize,
    /// Records that it keeps for replicas that are not there.
    pub hints: usize,
    /// What was asked, kept, repaired and refused.
    pub counters: weft_dht::store::Counters,
}

/// The routing table.
#[derive(Debug, Clone)]
pub struct RoutingView {
    /// Its peers, the closest to this node first.
    pub entries: Vec<RoutingEntry>,
    /// Replacements that wait for a place.
    pub spares: usize,
}

/// A peer of the routing table.
#[derive(Debug, Clone)]
pub struct RoutingEntry {
    /// What is known of it.
    pub contact: KadContact,
    /// Its bucket: how many leading bits its point shares with this node's.
    pub bucket: u32,
    /// Whether it answers.
    pub standing: weft_dht::table::Standing,
    /// How fast, smoothed.
    pub rtt: Option<Duration>,
    /// How long ago it was heard.
    pub seen: Duration,
}

/// A linked peer.
#[derive(Debug, Clone)]
pub struct PeerView {
    /// Its id.
    pub peer: PeerId,
    /// Where it can be dialled.
    pub addresses: Vec<Address>,
    /// Who dialled.
    pub direction: Direction,
    /// The transport's name.
    pub transport: &'static str,
    /// Round trip of the heartbeat, smoothed.
    pub rtt: Option<Duration>,
    /// The swarms in which it is a neighbour.
    pub swarms: Vec<TopicName>,
}

/// A swarm's views.
#[derive(Debug, Clone)]
pub struct SwarmView {
    /// Neighbours.
    pub active: Vec<ActiveView>,
    /// Known members that are no neighbours, with the time since they were last heard of.
    pub passive: Vec<(PeerId, Duration)>,
    /// Counters of the swarm.
    pub counters: SwarmCounters,
    /// Places for which their publishers have signed two bundles, as far as the proofs are kept.
    pub equivocations: Vec<Equivocation>,
}

/// A place for which its publisher has signed two bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Equivocation {
    /// Who signed them.
    pub publisher: PeerId,
    /// In which epoch.
    pub epoch: u64,
    /// The first seq of the second bundle.
    pub seq: u64,
}

/// A neighbour.
#[derive(Debug, Clone)]
pub struct ActiveView {
    /// Its id.
    pub peer: PeerId,
    /// For how long.
    pub since: Duration,
    /// Round trip of the link's heartbeat, smoothed.
    pub rtt: Option<Duration>,
    /// Whether the shared tree pushes to it.
    pub eager: bool,
    /// Bytes that wait in the link's lanes.
    pub lane_bytes: usize,
}

/// One tree at this node.
#[derive(Debug, Clone)]
pub struct TreeView {
    /// Whose; none for the shared tree.
    pub publisher: Option<PeerId>,
    /// Who pushes to this node.
    pub parent: Option<PeerId>,
    /// To whom this node pushes.
    pub eager: Vec<PeerId>,
    /// To whom it only announces.
    pub lazy: Vec<PeerId>,
}

/// A topic that the node is a member of or knows members of.
#[derive(Debug, Clone)]
pub struct TopicView {
    /// Its name.
    pub topic: TopicName,
    /// Subscriptions of this node's clients.
    pub subscriptions: usize,
    /// Other members that it knows of.
    pub members_known: usize,
}

/// Somebody else who is known to be a member of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub peer: PeerId,
    /// Whether it is subscribed, or only publishes and forwards; none where it has not announced itself.
    pub subscribed: Option<bool>,
    /// Whether it is this node's neighbour in the topic's swarm.
    pub is_neighbour: bool,
    /// Whether it has said to this node that it keeps the topic.
    pub is_keeper: bool,
    /// How long ago it was last heard to be a member.
    pub age: Duration,
}

/// What a node holds of a topic, and has counted of it since it joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicStatsView {
    /// Whether the node is a member.
    pub is_member: bool,
    /// Whether it keeps the topic for others.
    pub keeps: bool,
    /// Subscriptions of this node's clients.
    pub subscriptions: usize,
    /// Other members that it knows of.
    pub members_known: usize,
    /// Those of them that have said that they keep the topic.
    pub keepers_known: usize,
    /// Streams that are known: runs of publishers.
    pub streams: usize,
    /// Bundles that are held.
    pub bundles_held: u64,
    /// Messages in them.
    pub messages_held: u64,
    /// Bytes that they cost.
    pub bytes_held: usize,
    /// When the first of them came, in the order of their arrival.
    pub oldest: Option<UnixMicros>,
    /// When the last of them came.
    pub newest: Option<UnixMicros>,
    /// What was counted.
    pub counters: SwarmCounters,
}

/// What a node has counted in one swarm since it joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmCounters {
    /// Bundles received for the first time.
    pub bundles_new: u64,
    /// Bundles received again.
    pub bundles_duplicate: u64,
    /// Messages delivered to this node.
    pub messages_delivered: u64,
    /// Bundles pushed along trees.
    pub bundles_pushed: u64,
    /// Bundles supplied on request.
    pub bundles_supplied: u64,
    /// Digest frames sent.
    pub digests_sent: u64,
    /// GRAFTs sent.
    pub grafts_sent: u64,
    /// PRUNEs sent.
    pub prunes_sent: u64,
    /// Messages told as lost.
    pub messages_lost: u64,
    /// Proven cases of two bundles for one place.
    pub equivocations: u64,
    /// Bundles refused (too old, of the future, a ninth epoch, a broken chain).
    pub bundles_refused: u64,
}
