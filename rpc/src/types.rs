//! The JSON that methods take and answer: the shapes that scripts rely on.
//!
//! Each type is written once: the node answers with it, the client reads it, the CLI prints it. Keys whose part has
//! nothing to say yet are null, empty or absent, never invented. Times are RFC 3339 in UTC with microseconds.

mod consumer;
mod dht;
mod kv;
mod node;
mod overlay;
mod peer;
mod topic;

pub use consumer::{
    ConfirmParams, Confirmed, ForgetParams, Forgotten, TopicConsumer, TopicConsumers,
};
pub use dht::{
    Closest, DhtMode, DhtStatus, FoundPeer, KeyParams, Lookup, PeerFound, Provided, Providers,
    ProvidingStopped, RoutingPeer, RoutingTable, Standing,
};
pub use kv::{
    KvCasParams, KvData, KvDeleteParams, KvGetParams, KvGot, KvHolder, KvKeyParams, KvKeys,
    KvLevel, KvListParams, KvLocated, KvPutParams, KvRepaired, KvReplica, KvValue, KvVersion,
    KvWritten,
};
pub use node::{
    Health, Identity, LeaveParams, Left, LogLevel, NoParams, Status, Stopping, StoreStatus, Verdict,
};
pub use overlay::{
    ActivePeer, Equivocation, OverlayTree, OverlayTreeParams, OverlayView, OverlayViewsParams,
    PassivePeer, SwarmCounters, Tree,
};
pub use peer::{
    Direction, Peer, PeerAddParams, PeerAdded, PeerParams, PeerPinged, PeerRefuseParams,
    PeerRemoved, Peers, PeersRefused,
};
pub use topic::{
    Ack, CreditParams, Credited, Gap, GapReason, History, HistoryParams, Item, Items, Message,
    NewMessage, Notification, PublishParams, Published, Ready, Receipt, SubscribeParams, Topic,
    TopicLog, TopicMember, TopicMembers, TopicParams, TopicStats, Topics, UnsubscribeParams, Via,
};
