//! The JSON-RPC contract of the control socket: methods, types, errors and a client.
pub mod payload;
pub mod types;
