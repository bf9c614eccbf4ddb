//! What can be set of a node's part in the structured layer, and the bounds that can't.

use std::time::Duration;

/// Lookups of callers at once. Each has up to 10 requests in flight; more callers than this are told to come again.
pub(super) const CALLS_MAX: usize = 64;
/// Pings at once. A guess: contacts that came with one message, twice; those left out are heard of again.
pub(super) const PROBES_MAX: usize = 64;
/// How often a ping is sent before its peer counts as silent: a lost one costs an attempt.
pub(super) const PROBE_ATTEMPTS_MAX: u8 = 2;
/// Keys that this node provides. As many as one provider may have records at a peer.
pub(super) const PROVIDED_MAX: usize = crate::providers::KEYS_PER_PROVIDER_MAX;
/// How far ahead of our clock a contact may have been issued: clocks of honest machines differ by less.
pub(super) const CONTACT_SKEW: Duration = Duration::from_secs(5 * 60);
/// A timer that comes later than this says that the node itself was stopped, and accuses nobody (the design's bound).
pub(super) const STOPPED_MIN: Duration = Duration::from_secs(1);
/// How often what has expired is swept up, and stale peers are tried again. A guess.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Stale peers that are tried again at each sweep. A guess: a node that was cut off finds back within a minute.
pub(super) const STALE_PROBES: usize = 3;
/// Hashes that are tried for a key in a bucket: some 2 ms of work. They suffice for buckets of 12 shared bits; deeper
/// ones are refreshed towards one of their peers.
pub(super) const KEY_TRIES_MAX: u32 = 8_192;

/// What can be set of a node's part in the structured layer.
#[derive(Clone, Debug)]
pub struct Config {
    /// Disjoint paths of a caller's lookup, 1 to 16.
    pub paths: usize,
    /// Disjoint paths of the lookups that fill and refresh the table.
    pub upkeep_paths: usize,
    /// The age at which a bucket into which no lookup led is refreshed, and the own neighbourhood is looked up (kad-dht
    /// specification, "Bootstrap process": every 10 minutes; the paper says an hour).
    pub refresh_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            paths: 1,
            upkeep_paths: 1,
            refresh_interval: Duration::from_secs(10 * 60),
        }
    }
}
