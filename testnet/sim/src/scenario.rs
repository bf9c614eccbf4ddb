//! What a scenario says: the network, its phases, and what is expected of it. `testnet` reads it from TOML.

mod check;
mod phase;
mod settings;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use phase::{By, From, Kv, Lookups, Measure, Phase, Publish, Topics};
pub use settings::{Direction, Overlay, Partners, Spread};

use crate::link::Links;
use crate::reseed::Contacts;

/// Nodes that a scenario may have: memory ends before this does.
pub const NODES_MAX: u32 = 4_000_000;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as that of its file.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// Where it comes from: paper and section, or a rival's simulation.
    pub source: String,
    /// What each node is.
    #[serde(default)]
    pub engine: EngineKind,
    /// How many nodes.
    pub nodes: u32,
    /// The share of nodes that subscribe as they start, the first ones; the others do when a phase says so. Whole nodes alone.
    #[serde(default = "all")]
    pub subscribed: f64,
    /// The seed where none is given.
    #[serde(default = "one")]
    pub seed: u64,
    /// How bundles spread.
    #[serde(default)]
    pub spread: Spread,
    /// Ways to spread that are compared: everything is run for each, and its figures end in its name.
    #[serde(default)]
    pub variants: BTreeMap<String, Spread>,
    /// Settings of the overlay that differ from the daemon's.
    #[serde(default)]
    pub overlay: Overlay,
    /// The links; none where the seed draws them.
    #[serde(default)]
    pub links: Option<Links>,
    /// Whom a node can ask that runs short of contacts, besides its swarm.
    #[serde(default)]
    pub contacts: Contacts,
    /// What happens, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// Shares of nodes that crash, in per cent: the phases from `fork` on are run for each.
    #[serde(default)]
    pub sweep: Vec<u8>,
    /// What each figure must be.
    #[serde(default)]
    pub expect: BTreeMap<String, Bound>,
}

const fn all() -> f64 {
    1.0
}

const fn one() -> u64 {
    1
}

/// What each node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// One swarm, driven alone.
    #[default]
    Swarm,
    /// The whole node's core, with encoded frames.
    Node,
    /// A part in the structured layer, driven alone: nodes look each other up.
    Lookup,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
    /// In each run, or in the mean of all seeds.
    #[serde(default)]
    pub over: Over,
}

impl Bound {
    /// Returns whether a figure is within.
    pub fn holds(&self, figure: f64) -> bool {
        self.min.is_none_or(|min| figure >= min) && self.max.is_none_or(|max| figure <= max)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min == max => write!(f, "{min}"),
            (Some(min), Some(max)) => write!(f, "from {min} to {max}"),
            (Some(min), None) => write!(f, "at least {min}"),
            (None, Some(max)) => write!(f, "at most {max}"),
            (None, None) => f.write_str("measured"),
        }
    }
}

/// Which runs a bound holds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// Each.
    #[default]
    Each,
    /// Their mean.
    Mean,
}

/// Why a scenario can't be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Out of bounds.
    #[error("{what} is {got}, but must be {must}")]
    OutOfBounds {
        /// Which key.
        what: &'static str,
        /// What it is.
        got: String,
        /// What it must be.
        must: String,
    },
    /// What doesn't go together.
    #[error("{0}")]
    Mismatch(String),
}

impl Scenario {
    /// Checks what types don't.
    pub fn check(&self) -> Result<(), Invalid> {
        let bounds = |what, got: String, must: &str| Invalid::OutOfBounds {
            what,
            got,
            must: must.to_owned(),
        };
        if self.nodes == 0 || self.nodes > NODES_MAX {
            let must = format!("from 1 to {NODES_MAX}");
            return Err(bounds("nodes", self.nodes.to_string(), &must));
        }
        if let Some(links) = &self.links {
            for (what, share) in [
                ("links.loss", links.loss),
                ("links.duplication", links.duplication),
                ("links.reordering", links.reordering),
            ] {
                if !(0.0..=1.0).contains(&share) {
                    return Err(bounds(what, share.to_string(), "from 0 to 1"));
                }
            }
        }
        if self.sweep.iter().any(|share| *share > 99) {
            return Err(bounds(
                "sweep",
                format!("{:?}", self.sweep),
                "per cent below 100",
            ));
        }
        let forks = self.phases.iter().filter(|phase| **phase == Phase::Fork);
        match (forks.count(), self.sweep.is_empty()) {
            (0, true) | (1, false) => {}
            (0, false) => {
                let what = "a sweep needs one phase `fork`, from which on it is run";
                return Err(Invalid::Mismatch(what.to_owned()));
            }
            _ => {
                let what = "`fork` stands once, and needs `sweep`";
                return Err(Invalid::Mismatch(what.to_owned()));
            }
        }
        let spreads = self.variants.values().chain([&self.spread]);
        let only_trees = spreads.into_iter().all(|spread| *spread == Spread::Tree);
        if self.engine == EngineKind::Node && !only_trees {
            let what = "whole nodes spread by trees: `spread` needs engine = \"swarm\"";
            return Err(Invalid::Mismatch(what.to_owned()));
        }
        self.check_engine()?;
        if self.engine == EngineKind::Node && !self.sweep.is_empty() {
            let what = "whole nodes can't be forked: `sweep` needs engine = \"swarm\"";
            return Err(Invalid::Mismatch(what.to_owned()));
        }
        self.check_values()?;
        self.phases
            .iter()
            .try_for_each(|phase| self.check_phase(phase))
    }

    fn check_phase(&self, phase: &Phase) -> Result<(), Invalid> {
        let share = match phase {
            Phase::Crash { share: None, .. } if self.sweep.is_empty() => {
                let what = "`crash` needs `share`, or a `sweep` to take it from";
                return Err(Invalid::Mismatch(what.to_owned()));
            }
            Phase::Lie { share: None, .. } if self.sweep.is_empty() => {
                let what = "`lie` needs `share`, or a `sweep` to take it from";
                return Err(Invalid::Mismatch(what.to_owned()));
            }
            Phase::Crash { share, .. } | Phase::Lie { share, .. } => share.unwrap_or(0.0),
            Phase::Hang { share, .. }
            | Phase::Partition { share, .. }
            | Phase::Slow { share, .. }
            | Phase::Subscribe { share, .. }
            | Phase::FullDisks { share, .. }
            | Phase::Damage { share } => *share,
            Phase::Join { through: 0, .. } => {
                return Err(Invalid::OutOfBounds {
                    what: "through",
                    got: "0".to_owned(),
                    must: "at least 1".to_owned(),
                });
            }
            _ => 0.0,
        };
        if (0.0..=1.0).contains(&share) {
            Ok(())
        } else {
            Err(Invalid::OutOfBounds {
                what: "share",
                got: share.to_string(),
                must: "from 0 to 1".to_owned(),
            })
        }
    }
}
