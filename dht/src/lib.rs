//! The structured layer: Kademlia of our own, because a simulation must run it and the store on top of it needs what a
//! library's doesn't give.
//!
//! [`point`] is the key space, [`table`] whom a node knows there, [`lookup`] how it finds the peers closest to a key,
//! [`providers`] who says that they have what a key names. [`Dht`] holds them all: it asks, answers, and keeps its
//! table fresh. What peers say to each other ([`message`]) means what libp2p's kad-dht specification says, so that any
//! libp2p peer can query a node. [`kv`] is what the replicated store keeps: records, their versions and their merging.
//!
//! Everything here is a value with one shape: `handle` a fact at a moment, `handle_timeout`, drain `poll_output`, ask
//! `poll_timeout` when to come again. The crate is generic over the peer ([`Peer`]) and over what it says of itself
//! ([`Contact`]), so that the daemon and a simulation run the same code.
//!
//! **Invariant:** this crate is pure. Same seed and same inputs give the same outputs in the same order.

pub mod dht;
pub mod kv;
pub mod lookup;
pub mod message;
pub mod peer;
pub mod point;
pub mod providers;
mod requests;
pub mod rtt;
pub mod store;
pub mod table;

#[cfg(test)]
mod testing;

pub use dht::Dht;
pub use message::{Answer, Message, Query, RequestId};
pub use peer::{Contact, Group, Peer};
pub use point::{Distance, Key, Point};
pub use weft_identity::time::{self, Now, Time, UnixMicros};
