//! Networks in virtual time: how the protocols are shown to be right, and how a network is planned that no machine holds.
//!
//! [`Engine`] is a discrete-event simulation that drives the very values that the daemon drives, one swarm a node
//! ([`swarm::Member`]), its part in the structured layer ([`lookup::Member`]) or a whole node. [`watch`] holds every run against what subscribers are owed, [`graph`] measures the
//! overlay.
//!
//! **Invariant:** this crate is pure. One seed decides everything: same seed, same scenario, same run, event for event.

pub mod crowd;
pub mod duration;
pub mod engine;
pub mod epidemic;
pub mod graph;
pub mod link;
pub mod lookup;
pub mod machine;
pub mod node;
pub mod outcome;
pub mod queue;
mod rejoin;
pub mod reseed;
pub mod run;
pub mod scenario;
pub mod swarm;
pub mod values;
pub mod watch;

pub use engine::Engine;
pub use run::{Progress, run};
