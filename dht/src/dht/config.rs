//! What can be set of a node's part in the structured layer, and the bounds that can't.

use std::time::Duration;

/// Lookups of callers at once. Each has up to 10 requests in flight; more callers than this are told to come again.
pub(super) const CALLS_MAX: usize = 64;
/// Pings at once. A guess: contacts that came with one message, twice; those left out are heard of again.
pub(super) const PROBES_MAX: usize = 64;
/// How often a ping is sent before its peer counts as silent: a lost one costs an attempt.
pub(super) const PROBE_ATTEMPTS_MAX: u8 = 2;
/// How long the first peer that answers is alone before the own key is looked up. A guess: the other contacts that came
/// with its own answer meanwhile, and each is a path.
pub(super) const JOIN_WAIT: Duration = Duration::from_millis(500);
/// How long after a join the own key is looked up once more. A guess: the buckets have been filled, so that there are
/// more peers to begin with than those that the node joined through.
pub(super) const JOIN_AGAIN: Duration = Duration::from_secs(30);
/// Keys that this node provides. As many as one provider may have records at a peer.
pub(super) const PROVIDED_MAX: usize = crate::providers::KEYS_PER_PROVIDER_MAX;
/// How far ahead of our clock a contact may have been issued: clocks of honest machines differ by less.
pub(super) const CONTACT_SKEW: Duration = Duration::from_secs(5 * 60);
/// A timer that comes later than this says that the node itself was stopped, and accuses nobody (the design's bound).
pub(super) const STOPPED_MIN: Duration = Duration::from_secs(1);
/// How often what has expired is swept up, and stale peers are tried again. A guess.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Stale peers that are tried again at each sweep, and as many live ones that were not heard for a refresh interval. A
/// guess: a node that was cut off finds back within a minute, and a table of 300 whose lookups touch most stays true.
pub(super) const CHECKS_PER_SWEEP: usize = 4;
/// Hashes that are tried for a key in a bucket: some 2 ms of work. They suffice for buckets of 12 shared bits; deeper
/// ones are refreshed towards one of their peers.
pub(super) const KEY_TRIES_MAX: u32 = 8_192;

/// What can be set of a node's part in the structured layer.
#[derive(Clone, Debug)]
pub struct Config {
    /// Disjoint paths of a caller's lookup, 1 to 16. With 10,000 nodes a lookup takes 23 requests with 1 path and 47
    /// with 8, but then a fifth of lying nodes hardly ever misleads it (S/Kademlia §4.3: 4 to 8).
    pub paths: usize,
    /// Disjoint paths of the lookup by which a node makes itself known to its neighbours. One that was led to liars
    /// alone is found by nobody. Of 10,000 nodes a fifth lied from the start: right after the joins 6% of lookups
    /// missed the closest when all 8 paths began with the oldest peers, 2% with 16 of which half begin elsewhere.
    pub own_key_paths: usize,
    /// The age at which a bucket into which no lookup led is refreshed, and the own neighbourhood is looked up (kad-dht
    /// specification, "Bootstrap process": every 10 minutes; the paper says an hour).
    pub refresh_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            paths: 1,
            own_key_paths: 16,
            refresh_interval: Duration::from_secs(10 * 60),
        }
    }
}
