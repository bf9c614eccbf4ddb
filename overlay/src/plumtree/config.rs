//! The settings of the broadcast.

use std::time::Duration;

use crate::history;

/// Where a member that joins begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the heads of the first neighbour that knows where the streams stand.
    Latest,
    /// At the oldest that neighbours can still supply.
    Retained,
}

/// The timers of the broadcast.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where a member that joins begins.
    pub start: Start,
    /// What is held, and what may enter.
    pub history: history::Config,
    /// How long an announcement waits for others to share its frame: under load the interval makes them share, and what is rare shall
    /// not wait (measured among ten thousand right after joining: a publisher's first message is complete some 50 ms sooner than with 100 ms).
    pub announce_delay: Duration,
    /// How far announcements to one neighbour are apart: four times the first one's delay, so that at a hundred bundles of 256
    /// bytes a second they cost less than a tenth of those (measured, scenario `overhead`).
    pub announce_interval: Duration,
    /// How long an acknowledgement to a neighbour on the tree waits: only flow control and bookkeeping need it.
    pub acknowledge_delay: Duration,
    /// Bytes after which neighbours are told at once, so that a publisher's window of 4 MiB never waits for a timer.
    pub tell_bytes: usize,
    /// How soon after a change a pair compares fingerprints; doubles while nothing changes.
    pub exchange_interval_min: Duration,
    /// How rarely a pair compares fingerprints at rest, by turns: so that it costs less than 1 KiB a minute. A one-sided neighbourhood is
    /// noticed within two of these.
    pub exchange_interval_max: Duration,
    /// How long a joining member waits for a neighbour that has a base.
    pub base_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            start: Start::Latest,
            history: history::Config::default(),
            announce_delay: Duration::from_millis(50),
            announce_interval: Duration::from_millis(400),
            acknowledge_delay: Duration::from_millis(500),
            tell_bytes: 256 * 1024,
            exchange_interval_min: Duration::from_secs(1),
            exchange_interval_max: Duration::from_secs(10),
            base_timeout: Duration::from_secs(1),
        }
    }
}
