//! The JSON-RPC contract of the control socket: methods, types, errors and a client.
//!
//! Server and client share one table of methods ([`method`]), so that a name, its parameters and its answer are written
//! once. The daemon listens on a Unix socket, `control.sock` in its directory, and speaks HTTP POST and WebSocket there;
//! [`Client`] uses the latter, because subscriptions need it.

pub mod client;
pub mod error;
pub mod limits;
pub mod method;
pub mod nearest;
pub mod payload;
pub mod start;
pub mod types;

pub use client::{CallError, Client, ConnectError, TopicStream};
pub use error::{Error, Kind};
pub use method::Method;
pub use start::Start;

/// The name of the socket in the daemon's directory.
pub const SOCKET_NAME: &str = "control.sock";
