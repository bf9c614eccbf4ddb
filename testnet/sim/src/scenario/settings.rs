//! What a scenario sets of the overlay: how bundles spread, and what differs from the daemon.

use std::num::NonZeroU8;

use serde::Deserialize;
use weft_overlay::{hyparview, plumtree, spread, swarm};

use crate::duration::Span;

/// How bundles spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub enum Spread {
    /// Along trees, with repair, as nodes do.
    #[default]
    Tree,
    /// To every neighbour but the one it came from.
    Flood,
    /// Rumor mongering with feedback: told in rounds until interest is lost.
    Rumor {
        /// Unnecessary contacts until interest is lost; absent, it never is (SIS).
        k: Option<NonZeroU8>,
        /// Which way.
        #[serde(default)]
        direction: Direction,
        /// The length of a cycle.
        interval: Span,
        /// Whom partners are drawn from.
        #[serde(default)]
        partners: Partners,
    },
    /// Anti-entropy: all differences with one partner in each round.
    Sync {
        /// Which way.
        direction: Direction,
        /// The length of a cycle.
        interval: Span,
        /// Whom partners are drawn from.
        #[serde(default)]
        partners: Partners,
    },
}

/// Which way an epidemic goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From whom makes contact to the partner.
    #[default]
    Push,
    /// From the partner to whom makes contact.
    Pull,
    /// Both ways.
    PushPull,
}

/// Whom partners are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partners {
    /// The active view.
    #[default]
    Neighbours,
    /// All nodes alike, as Demers has it; cycles are in step, and there is no membership.
    Everybody,
}

impl Spread {
    /// Returns the overlay's settings, and whom partners are drawn from.
    pub fn settings(&self) -> (spread::Spread, Partners) {
        let direction = |direction| match direction {
            Direction::Push => spread::Direction::Push,
            Direction::Pull => spread::Direction::Pull,
            Direction::PushPull => spread::Direction::PushPull,
        };
        match *self {
            Self::Tree => (spread::Spread::Tree, Partners::Neighbours),
            Self::Flood => (spread::Spread::Flood, Partners::Neighbours),
            Self::Rumor {
                k,
                direction: way,
                interval,
                partners,
            } => {
                let removal = match k {
                    Some(k) => spread::Removal::Sir {
                        k,
                        notice: spread::Notice::Feedback,
                        decision: spread::Decision::Counter,
                    },
                    None => spread::Removal::Sis,
                };
                let rumor = spread::Rumor {
                    removal,
                    direction: direction(way),
                    interval: interval.0,
                    ..spread::Rumor::default()
                };
                (spread::Spread::Rumor(rumor), partners)
            }
            Self::Sync {
                direction: way,
                interval,
                partners,
            } => {
                let sync = spread::Sync {
                    direction: direction(way),
                    interval: interval.0,
                };
                (spread::Spread::Sync(sync), partners)
            }
        }
    }
}

/// Settings of the overlay that differ from the daemon's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overlay {
    /// Neighbours.
    pub active: Option<usize>,
    /// Contacts in reserve.
    pub passive: Option<usize>,
    /// The active random walk length.
    pub arwl: Option<u8>,
    /// The passive random walk length.
    pub prwl: Option<u8>,
    /// The time between shuffles: a cycle. Members begin with it at once, instead of approaching it.
    pub shuffle_interval: Option<Span>,
    /// The time between random promotions.
    pub promotion_interval: Option<Span>,
    /// How long bundles are held, and accepted.
    pub history_age: Option<Span>,
}

impl Overlay {
    /// Returns a swarm's settings.
    pub fn settings(&self) -> swarm::Config {
        let mut membership = hyparview::Config::default();
        let mut broadcast = plumtree::Config::default();
        if let Some(active) = self.active {
            membership.active_max = active;
        }
        if let Some(passive) = self.passive {
            membership.passive_max = passive;
        }
        if let Some(arwl) = self.arwl {
            membership.arwl = arwl;
        }
        if let Some(prwl) = self.prwl {
            membership.prwl = prwl;
        }
        if let Some(interval) = self.shuffle_interval {
            membership.shuffle_interval = interval.0;
            membership.shuffle_interval_min = interval.0;
        }
        if let Some(interval) = self.promotion_interval {
            membership.promotion_interval = interval.0;
        }
        if let Some(age) = self.history_age {
            broadcast.history.age_max = age.0;
            broadcast.history.horizon = age.0;
        }
        swarm::Config {
            membership: membership.into(),
            broadcast: broadcast.into(),
        }
    }

    /// Returns the length of a cycle.
    pub fn cycle(&self) -> std::time::Duration {
        self.settings().membership.shuffle_interval
    }
}
