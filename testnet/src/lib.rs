//! Local networks of real daemons: start them, hurt them, measure them. And networks in virtual time: [`scenario`] says
//! what happens in one, [`sim`] lets it happen with as many seeds as are asked for.
//!
//! A testnet is a directory: `testnet.json` says which daemons it has (pid and start time, port, peer id), and each node
//! `nK` has its own data directory below it. Every command works on that directory, so a network outlives the command
//! that started it. [`Testnet`] is the handle; [`report`] is what people read.
//!
//! **Architecture Invariant:** a process is signalled only by pid *and* start time, so a pid that the system has given
//! to somebody else is never touched. Nothing outside the base directory is written or removed.

pub mod report;
pub mod scenario;
pub mod sim;
pub mod traffic;

mod check;
mod faults;
mod graph;
mod layout;
mod partition;
mod ports;
mod probe;
mod process;
mod status;
mod transport;
mod up;

pub use check::{CheckOptions, CheckReport, Hops, LatencyMs};
pub use faults::FaultError;
pub use graph::Sight;
pub use layout::{Lifetime, OpenError, default_base_dir};
pub use process::{Process, ProcessState};
pub use status::{NodeState, NodeStatus, Status};
pub use transport::Transport;
pub use up::{Options, Progress};
pub use weft_sim::outcome::Outcome;

use std::path::{Path, PathBuf};
use std::process::Child;

use layout::{Layout, Record};

/// A local network of daemons: a handle on its base directory.
#[derive(Debug)]
pub struct Testnet {
    layout: Layout,
    record: Record,
    /// Daemons that this very process started, to be reaped when they end.
    children: Vec<Child>,
    /// The open end of the lifeline: daemons of a foreground testnet end when it closes.
    lifeline: Option<std::fs::File>,
}

impl Testnet {
    /// Opens the testnet whose base directory is given, running or not.
    pub fn open(base_dir: &Path) -> Result<Self, OpenError> {
        let layout = Layout::new(base_dir);
        let record = layout.load()?;
        Ok(Self {
            layout,
            record,
            children: Vec::new(),
            lifeline: None,
        })
    }

    /// Returns the data directory of a node of the testnet in `base_dir`; an unknown name is answered with the known ones.
    pub fn node_dir(base_dir: &Path, name: &str) -> Result<PathBuf, OpenError> {
        let layout = Layout::new(base_dir);
        let record = layout.load()?;
        record.node(name)?;
        Ok(layout.node_dir(name))
    }

    /// The network's name, which no other testnet has.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The base directory, as an absolute path.
    pub fn base_dir(&self) -> &Path {
        self.layout.base_dir()
    }

    /// The names of all nodes, in order.
    pub fn node_names(&self) -> Vec<String> {
        self.record
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .collect()
    }

    /// Reads again what other commands may have changed.
    fn reload(&mut self) -> Result<(), OpenError> {
        self.record = self.layout.load()?;
        Ok(())
    }

    /// Lets the system forget daemons of ours that have ended.
    fn reap(&mut self) {
        self.children
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}
