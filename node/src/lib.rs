//! A Weft node: the pure core of `weft-core` on real links, disk and clock.
//!
//! [`Node::start`] gives a handle, so that an application can embed a node and many nodes can run in one process; the
//! daemon `weft run` is a thin shell around it. This is the only crate with sockets, disk, a clock and randomness.

pub mod control;
pub mod dir;
mod handle;
mod links;

pub use handle::{
    AddPeerError, Config, Delivery, Item, Node, PingError, PublishError, Receipt, StartError,
    SubscribeError, Subscription, TopicName, TopicNameError,
};
