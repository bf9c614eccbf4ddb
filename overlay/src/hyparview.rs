//! HyParView's membership (skeleton).
pub mod message;
pub use message::{Goodbye, Message, Priority};
