//! What happens in a scenario, phase by phase.

use serde::Deserialize;

use crate::duration::Span;
use crate::engine::Crash;

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
        #[serde(default = "super::all")]
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

/// Addresses that a node is given to join by.
const fn contacts() -> u32 {
    3
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
