//! The node as a value: every swarm, the liveness of links, topics and who announced to be a member of them.
//!
//! [`Core`] has the shape of every protocol here: [`Core::handle`] takes a fact, [`Core::handle_timeout`] lets time pass,
//! [`Core::poll_output`] gives orders until there are none, [`Core::poll_timeout`] says when to come again. The daemon and the
//! simulator drive the very same value; neither sockets, disk, a clock nor randomness is read here.

pub mod address;
pub mod bundle;
pub mod config;
pub mod core;
pub mod descriptor;
pub mod input;
pub mod kad;
pub mod keeping;
pub mod log;
pub mod message;
pub mod output;
pub mod topic;
pub mod views;
pub mod wire;

pub use address::Address;
pub use bundle::TopicBundle;
pub use config::Config;
pub use core::Core;
pub use descriptor::{Descriptor, PeerContact, Roles};
pub use input::{Command, DialError, DialId, Direction, DownReason, Input, KadQueryId, RequestId};
pub use kad::{KadContact, KadPeer};
pub use message::{Attributes, AttributesError, Message};
pub use output::{
    AddPeerError, Delivered, Event, Lane, Output, PublishError, Published, Receipt, Reply,
};
pub use topic::{TopicId, TopicName, TopicNameError};
