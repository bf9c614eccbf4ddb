//! Plumtree (skeleton).
pub mod message;
pub use message::{DigestKind, Message, Push, TreeId};
