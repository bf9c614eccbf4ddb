//! A Weft node: the pure core of `weft-core` on real links, disk and clock.
//!
//! [`Node::start`] gives a handle, so that an application can embed a node and many nodes can run in one process; the
//! daemon `weft run` is a thin shell around it. This is the only crate with sockets, disk, a clock and randomness.
//!
//! Inside, one task owns the core (`actor`), one owns libp2p's swarm (`links`), and each link has a reader and a writer.

mod actor;
mod arrivals;
mod consumers;
pub mod control;
pub mod dir;
mod disk;
mod handle;
mod links;
pub mod store;

pub use actor::check_network;
pub use consumers::{Begin, ConfirmError, Confirmer, ConsumerName, ConsumerNameError, ForgetError};
pub use libp2p::Multiaddr;
pub use weft_dht::point::{Key, KeyTooLong};
pub use weft_identity::{Keypair, PeerId};
pub use weft_rpc::Start;

pub use handle::{
    Ack, AddPeerError, Attributes, AttributesError, Config, CursorError, Delivery, DhtError,
    History, HistoryError, Item, Message, Node, PingError, PublishError, Published, Receipt, Roles,
    StartError, SubscribeError, Subscription, TopicName, TopicNameError, Via,
};

/// The README's example of a node in a program: it compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
