//! What a scenario says: the network, its phases, and what is expected of it. `testnet` reads it from TOML.

mod check;
mod settings;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use settings::{Direction, Overlay, Partners, Spread};

use crate::duration::Span;
use crate::engine::Crash;
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

/// Addresses that a node is given to join by.
const fn contacts() -> u32 {
    3
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

/// Something that happens. Each phase begins when the one before has ended.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Phase {
    /// Nodes that have never run are started, evenly over a while.
    Join {
        /// How many; all where absent.
        nodes: Option<u32>,
        /// Over which time.
        within: Span,
        /// Through the first so many nodes.
        through: u32,
        /// So many of them at once, as a node dials all addresses that it was given.
        #[serde(default = "contacts")]
        contacts: u32,
    },
    /// Time passes.
    Run {
        /// How much.
        r#for: Span,
    },
    /// Time passes, in cycles of the membership: each member shuffles once in one.
    Cycles {
        /// How many.
        count: u32,
    },
    /// Messages are published.
    Publish(Publish),
    /// Nodes end without a word.
    Crash {
        /// The share of those that run; the sweep's where absent.
        share: Option<f64>,
        /// How.
        #[serde(default)]
        how: Crash,
        /// The crash of one publisher in mid-stream makes a scenario of its own: they are spared.
        #[serde(default)]
        spare_publishers: bool,
    },
    /// Nodes that have crashed are started again.
    Restart {
        /// Over which time.
        within: Span,
    },
    /// Nodes are stopped by a signal, and resumed.
    Hang {
        /// The share of those that run.
        share: f64,
        /// For how long.
        r#for: Span,
    },
    /// The network falls apart in two, and comes together again.
    Partition {
        /// The share of nodes on the far side.
        share: f64,
        /// For how long.
        r#for: Span,
        /// Whether the far side still hears the near one.
        #[serde(default)]
        one_way: bool,
    },
    /// Nodes become slow for the rest of the run.
    Slow {
        /// The share of those that run.
        share: f64,
        /// How long each frame takes them.
        each: Span,
    },
    /// Nodes crash and others start, at a rate.
    Churn {
        /// How many of each in a minute.
        per_minute: f64,
        /// For how long.
        r#for: Span,
    },
    /// Whatever the seed gives: crashes, restarts, hangs, partitions, one-way blocks, slowness, bursts of messages.
    Storm {
        /// For how long.
        r#for: Span,
        /// The mean time from one fault to the next.
        every: Span,
    },
    /// Nodes subscribe that aren't yet.
    Subscribe {
        /// The share of those that run and aren't; all where absent.
        #[serde(default = "all")]
        share: f64,
        /// Where they begin to read.
        #[serde(default)]
        from: From,
        /// Over which time.
        within: Span,
    },
    /// Nodes that start from now on may be liars: each answers queries for peers with liars alone.
    Lie {
        /// The share of all nodes; the sweep's where absent.
        share: Option<f64>,
        /// The first so many nodes stay honest: others join through them.
        spare: u32,
    },
    /// Nodes drawn at random subscribe to many topics, and one of each publishes.
    Topics(Topics),
    /// Nodes drawn at random read, write and delete keys of the replicated store.
    Kv(Kv),
    /// Every key that was written is read, and its replicas are compared, when all is over.
    Audit {
        /// The copies that there are to be.
        #[serde(default = "three")]
        copies: u8,
    },
    /// Disks are full for a while.
    FullDisks {
        /// The share of nodes whose are.
        share: f64,
        /// For how long.
        r#for: Span,
    },
    /// A bit flips in one record of each of some nodes' disks.
    Damage {
        /// The share of nodes.
        share: f64,
    },
    /// Nodes drawn at random look up random keys.
    Lookups(Lookups),
    /// The rest is run once for each share of the sweep, each from here.
    Fork,
    /// The overlay is measured as a graph.
    Measure {
        /// What.
        what: Measure,
    },
    /// Cycles pass until messages reach as many as before the crash.
    Heal {
        /// Messages that are published after each.
        messages: u32,
        /// The reliability that counts as healed.
        reliability: f64,
        /// Cycles after which it has failed.
        cycles_max: u32,
    },
}

/// Where a subscriber begins to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// At what is published from now on.
    #[default]
    Latest,
    /// At all that is held.
    Earliest,
}

/// Messages that are published.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// How many.
    pub messages: u32,
    /// One every so often.
    pub every: Span,
    /// By whom.
    #[serde(default)]
    pub by: By,
    /// Bytes of each.
    #[serde(default = "payload")]
    pub bytes: u32,
    /// What the figures' names end in.
    #[serde(default)]
    pub label: String,
    /// Messages before those that count, as far apart.
    #[serde(default)]
    pub warmup: u32,
    /// The next phase begins at once, while messages are published.
    #[serde(default)]
    pub meanwhile: bool,
    /// How long the phase goes on after the last message.
    #[serde(default)]
    pub settle: Span,
}

const fn payload() -> u32 {
    256
}

/// Many topics.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// How many.
    pub count: u32,
    /// Members of each.
    pub members: usize,
    /// Within how long all of them subscribe.
    pub within: Span,
    /// How long they settle then.
    pub settle: Span,
    /// For how long links are counted after that, at least until the messages have arrived.
    #[serde(default)]
    pub counted: Span,
}

/// A workload of the replicated store.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kv {
    /// How many calls.
    pub calls: u32,
    /// One every so often.
    pub every: Span,
    /// How many keys there are.
    #[serde(default = "keys")]
    pub keys: u32,
    /// The share of calls that read.
    #[serde(default = "half")]
    pub reads: f64,
    /// The share of calls that delete; the rest writes.
    #[serde(default)]
    pub deletes: f64,
    /// The share of writes that cite nothing.
    #[serde(default)]
    pub blind: f64,
    /// Copies (N).
    #[serde(default = "three")]
    pub copies: u8,
    /// How many must answer (R and W); a quorum where absent.
    pub level: Option<u8>,
    /// Whether stand-ins don't count.
    #[serde(default)]
    pub strict: bool,
    /// Bytes of a value.
    #[serde(default = "payload")]
    pub bytes: u32,
    /// What the figures' names end in.
    #[serde(default)]
    pub label: String,
    /// The next phase begins at once, while calls go on.
    #[serde(default)]
    pub meanwhile: bool,
    /// How long the phase goes on after the last call has begun.
    #[serde(default)]
    pub settle: Span,
}

const fn keys() -> u32 {
    100
}

const fn half() -> f64 {
    0.5
}

const fn three() -> u8 {
    3
}

/// Lookups of random keys.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookups {
    /// How many.
    pub count: u32,
    /// One every so often.
    pub every: Span,
    /// Over how many disjoint paths.
    #[serde(default = "one_path")]
    pub paths: usize,
    /// What the figures' names end in.
    #[serde(default)]
    pub label: String,
    /// The next phase begins at once, while lookups go on.
    #[serde(default)]
    pub meanwhile: bool,
    /// How long the phase goes on after the last lookup has begun.
    #[serde(default)]
    pub settle: Span,
}

const fn one_path() -> usize {
    1
}

/// Who publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// One node, always the same while it runs.
    #[default]
    One,
    /// A node drawn for each message from those that haven't published yet.
    Strangers,
    /// A node drawn for each message.
    Random,
    /// Twenty nodes in turn. Figures end in `cold` for each one's first message, `warming`, and `warm` after its tenth.
    Twenty,
}

/// What is measured of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Paths, clustering, degrees, symmetry, components of the active views.
    Graph,
    /// What a broadcast can reach at most over both views.
    Ceiling,
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
