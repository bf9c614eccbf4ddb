//! One swarm: the members of one topic, how they find each other, and how what one publishes reaches all.
//!
//! [`hyparview`] keeps the views (Leitão, Pereira, Rodrigues: "HyParView", DSN 2007), [`plumtree`] the trees that grow on
//! them and the repair that makes them complete ("Epidemic Broadcast Trees", SRDS 2007), [`delivery`] the order in which
//! a subscriber gets each publisher's messages. [`Swarm`] holds the three and is what a node keeps one of for each topic.
//! [`spread`] runs the other families of epidemics in the trees' place, for comparison in simulation only.
//!
//! Everything here is a value with one shape: `handle` a fact at a moment, `handle_timeout`, drain `poll_output`, ask
//! `poll_timeout` when to come again. The crate is generic over the peer ([`Peer`]), over what a peer tells others of
//! itself ([`Contact`]) and over what it publishes ([`Bundle`]), so that the daemon and a simulation of a million nodes
//! run the same code.
//!
//! **Invariant:** this crate is pure. Same seed and same inputs give the same outputs in the same order.

mod arrived;
mod bounds;
pub mod bundle;
mod claim;
pub mod delivery;
pub mod digest;
pub mod fingerprint;
pub mod history;
pub mod hyparview;
mod outbox;
pub mod peer;
pub mod plumtree;
pub mod retained;
pub mod seqs;
mod small;
pub mod span;
pub mod spread;
mod stream;
pub mod swarm;

pub use bundle::{Bundle, Header, PreviousEpoch, StreamId};
pub use peer::{Contact, Peer};
pub use seqs::Seqs;
pub use span::Span;
pub use swarm::Swarm;
pub use weft_identity::time::{self, Now, Time, UnixMicros};
