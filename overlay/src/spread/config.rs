//! What can be chosen of a spread, in the words of the field, and the defaults with their sources.

use std::num::NonZeroU8;
use std::time::Duration;

/// How bundles spread in a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Along trees, with repair: [`crate::plumtree::Broadcast`], which nodes use.
    #[default]
    Tree,
    /// To every neighbour but the one it came from, at once, and never again.
    Flood,
    /// Rumor mongering (Demers §1.4): what is new is told to random partners until interest is lost.
    Rumor(Rumor),
    /// Anti-entropy alone (Demers §1.3): random partners resolve all their differences, for ever. An SI epidemic.
    Sync(Sync),
}

/// Which way bundles go when a member contacts a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whom makes contact to the partner.
    Push,
    /// From the partner to whom makes contact.
    Pull,
    /// Both ways.
    PushPull,
}

impl Direction {
    /// Returns whether whoever makes contact gives.
    pub const fn pushes(self) -> bool {
        matches!(self, Self::Push | Self::PushPull)
    }

    /// Returns whether whoever makes contact takes.
    pub const fn pulls(self) -> bool {
        matches!(self, Self::Pull | Self::PushPull)
    }
}

/// Rumor mongering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rumor {
    /// When a member stops telling a rumor.
    pub removal: Removal,
    /// Which way rumors go.
    pub direction: Direction,
    /// Partners in each cycle.
    pub fanout: NonZeroU8,
    /// The length of a cycle.
    pub interval: Duration,
}

impl Default for Rumor {
    /// Demers' push with feedback and a counter of 4, which misses .36% of 1,000 for 5.6 payloads a member (Table 1).
    fn default() -> Self {
        Self {
            removal: Removal::Sir {
                k: NonZeroU8::new(4).unwrap_or(NonZeroU8::MIN),
                notice: Notice::Feedback,
                decision: Decision::Counter,
            },
            direction: Direction::Push,
            // The paper's; its tables hold for no other.
            fanout: NonZeroU8::MIN,
            // The paper counts cycles; a fifth of a second is `GossipInterval` of HashiCorp's memberlist in a LAN.
            interval: Duration::from_millis(200),
        }
    }
}

/// When a member stops telling a rumor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Susceptible, infective, removed: interest is lost over contacts that were unnecessary.
    Sir {
        /// How many of them it takes: exactly with a counter, on average with a coin.
        k: NonZeroU8,
        /// What counts as unnecessary.
        notice: Notice,
        /// How they count.
        decision: Decision,
    },
    /// Without removal: interest is never lost, so a rumor is told until newer ones displace it.
    Sis,
}

/// What counts as an unnecessary contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// One whose recipient says that it knew the rumor.
    Feedback,
    /// Every one; recipients say nothing.
    Blind,
}

/// How unnecessary contacts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Interest is lost after k cycles of them in a row.
    Counter,
    /// Interest is lost with probability 1/k after a cycle of them.
    Coin,
}

/// Anti-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Which way differences are resolved.
    pub direction: Direction,
    /// The length of a cycle; one partner in each.
    pub interval: Duration,
}

impl Default for Sync {
    /// Both ways, once a second: Cassandra's gossip, which is push-pull, runs at that pace.
    fn default() -> Self {
        Self {
            direction: Direction::PushPull,
            interval: Duration::from_secs(1),
        }
    }
}

/// Where partners come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partners {
    /// The member draws from its neighbours.
    #[default]
    Neighbours,
    /// The owner is asked ([`super::Output::Partner`]): Demers draws from everybody, and only a simulation knows everybody.
    Owner,
}

/// When in an interval a member's cycle begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// At a moment of its own, drawn once.
    #[default]
    Jittered,
    /// At each multiple of the interval, as everybody's: the paper's synchronous cycles.
    Aligned,
}

/// What a simulation chooses beside the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where partners come from.
    pub partners: Partners,
    /// When cycles begin.
    pub phase: Phase,
}
