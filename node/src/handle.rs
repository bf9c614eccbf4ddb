//! What an application holds: start a node, publish, subscribe, look, stop.

use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use libp2p::Multiaddr;
use weft_identity::{Keypair, PeerId};
use weft_rpc::types;

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
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNameError(pub String);
impl std::str::FromStr for TopicName {
    type Err = TopicNameError;
    fn from_str(_: &str) -> Result<Self, TopicNameError> {
        todo!()
    }
}
impl TopicName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug)]
pub enum StartError {
    PortInUse { address: Multiaddr },
    Listen { address: Multiaddr, reason: String },
    Disk { path: PathBuf, reason: String },
}
#[derive(Debug)]
pub enum AddPeerError {
    Unreachable { reason: String },
    WrongNetwork { theirs: String, ours: String },
    OtherPeer { answered: PeerId },
    SelfDial,
    Stopped,
}
#[derive(Debug)]
pub enum PingError {
    NotLinked,
    LinkLost,
    Stopped,
}
#[derive(Debug)]
pub enum PublishError {
    TooLarge { index: usize, bytes: usize },
    Busy,
    Stopped,
}
#[derive(Debug)]
pub enum SubscribeError {
    TooMany,
    Stopped,
}

/// A published message's place.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub epoch: u64,
    pub seq: u64,
    pub eager: usize,
    pub lazy: usize,
    pub subscribers_known: usize,
}

/// What a subscriber gets.
#[derive(Debug, Clone)]
pub enum Item {
    Message(Delivery),
    /// From and to are inclusive seqs.
    Lost {
        publisher: PeerId,
        epoch: u64,
        from: u64,
        to: u64,
    },
    /// From and to are inclusive places of the arrival log.
    SlowReader {
        from: u64,
        to: u64,
    },
}
/// A delivered message.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub publisher: PeerId,
    pub epoch: u64,
    pub seq: u64,
    pub hops: u32,
    pub published_at: SystemTime,
    pub received_at: SystemTime,
    pub data: Bytes,
}

/// A running node. Clones share it.
#[derive(Debug, Clone)]
pub struct Node(());

impl Node {
    pub async fn start(_config: Config) -> Result<Self, StartError> {
        todo!()
    }
    pub fn peer_id(&self) -> PeerId {
        todo!()
    }
    pub fn network(&self) -> &str {
        todo!()
    }
    /// Multiaddresses that the node listens on, each ending in `/p2p/PEER_ID`.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        todo!()
    }
    pub async fn status(&self) -> Option<types::Status> {
        todo!()
    }
    pub async fn peers(&self) -> Option<types::Peers> {
        todo!()
    }
    pub async fn add_peer(&self, _address: Multiaddr) -> Result<PeerId, AddPeerError> {
        todo!()
    }
    /// None in Ok: this node is no member of that swarm. `network` is a swarm too, hence a str.
    pub async fn overlay_view(&self, _topic: &str) -> Option<types::OverlayView> {
        todo!()
    }
    /// The trees of a swarm as this node sees them; None: this node is no member of that swarm.
    pub async fn overlay_tree(&self, _topic: &str) -> Option<types::OverlayTree> {
        todo!()
    }
    /// Closes the link to a peer and forgets its addresses (the peer may come back by itself); false: not linked and not known.
    pub async fn remove_peer(&self, _peer: PeerId) -> Option<bool> {
        todo!()
    }
    /// Measures a round trip over the link's heartbeat.
    pub async fn ping(&self, _peer: PeerId) -> Result<std::time::Duration, PingError> {
        todo!()
    }
    pub async fn topics(&self) -> Option<types::Topics> {
        todo!()
    }
    pub async fn publish(
        &self,
        _topic: &TopicName,
        _messages: Vec<Bytes>,
    ) -> Result<Vec<Receipt>, PublishError> {
        todo!()
    }
    /// Resolves once the node is a member and its starting place is fixed.
    pub async fn subscribe(&self, _topic: &TopicName) -> Result<Subscription, SubscribeError> {
        todo!()
    }
    /// Says goodbye to all neighbours and stops; resolves when all tasks have ended. Other clones' calls answer Stopped/None.
    pub async fn shutdown(&self) {
        todo!()
    }
    /// Resolves when the node has stopped (someone called shutdown).
    pub async fn stopped(&self) {
        todo!()
    }
}

/// A reader of a topic's arrival log; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription(());
impl Subscription {
    pub fn place(&self) -> u64 {
        todo!()
    }
    pub fn neighbours(&self) -> usize {
        todo!()
    }
    /// Waits for items; returns at most `items_max` of them with at most about `bytes_max` of payload (at least one item), and the place after the last. None when the node stops.
    pub async fn next(&mut self, _items_max: usize, _bytes_max: usize) -> Option<(Vec<Item>, u64)> {
        todo!()
    }
}
