//! What can be set of a store, and the bounds that can't.

use std::time::Duration;

use crate::kv::Quota;

/// Calls at once, each with up to 1 MiB of values. More callers than this are told to come again.
pub(super) const CALLS_MAX: usize = 256;
/// Calls that were answered and whose record is still being brought to replicas. Beyond it the oldest end: hints and
/// comparison bring the rest.
pub(super) const AFTERWARDS_MAX: usize = 1_024;
/// How long a call that was answered goes on to bring its record to all replicas.
pub(super) const AFTERWARDS: Duration = Duration::from_secs(10);
/// How long a read asks again where everybody has answered and it was not enough: what a replica that has just started takes
/// to be settled. A write has nothing better to do than to try until its time is over.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(3);
/// How often one peer is asked the same for a call: a lost message costs an attempt.
pub(super) const ATTEMPTS_MAX: u8 = 3;
/// Peers beyond the replicas that a call turns to. With 3 of 10 nodes dead at once, a point may miss all of 3.
pub(super) const STAND_INS_MAX: usize = 8;
/// Writes that wait for the disk. As many as the calls of some busy peers; more are refused as busy.
pub(super) const WRITES_WAITING_MAX: usize = 4_096;
/// Writes in one batch. The disk's flush takes milliseconds, and a batch of so many no longer.
pub(super) const BATCH_MAX: usize = 1_024;
/// Bytes in one batch. A guess: as much as a disk writes in the time of some flushes.
pub(super) const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Reads that wait for the disk.
pub(super) const LOADS_MAX: usize = 1_024;
/// Hints kept for one replica. A guess: an hour of 18 writes a second; what is beyond reaches it by synchronisation.
pub(super) const HINTS_PER_REPLICA_MAX: usize = 65_536;
/// Hints kept in all: some 40 MB of memory.
pub(super) const HINTS_MAX: usize = 262_144;
/// Synchronisations that this node runs at once. Each holds 32 bytes for each record.
pub(super) const SESSIONS_MAX: usize = 4;
/// What other nodes compare with at once.
pub(super) const SNAPSHOTS_MAX: usize = 8;
/// Ranges in one query; the answer divides each by 16, or names up to as many items.
pub(super) const RANGES_ASKED_MAX: usize = 256;
/// Ranges that a comparison has still to ask for. An honest difference of a million records, evenly spread, has some 16,000
/// ranges at a time; whoever says of each part that it differs would have them grow for ever.
pub(super) const RANGES_WAITING_MAX: usize = 65_536;
/// Items that a comparison has still to fetch: 16 MiB of them. Of a larger difference the rest comes with the next one.
pub(super) const ITEMS_WAITING_MAX: usize = 1 << 20;
/// Items fetched with one query: of 1 KiB each they fill a message.
pub(super) const FETCH_MAX: usize = 1_024;
/// How long after it was written a record may be repaired by a read: its writer's own daemon is at it until then.
pub(super) const REPAIR_AGE_MIN: Duration = Duration::from_secs(10);
/// A timer that comes later than this says that the node itself was stopped, and accuses nobody (the design's bound).
pub(super) const STOPPED_MIN: Duration = Duration::from_secs(1);
/// How soon a fill that came to nothing is tried again, and claims are asked for that are not known. A guess.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How long one waits for more news of the neighbourhood before a fill: peers come and go together. A guess.
pub(super) const CALM: Duration = Duration::from_millis(200);
/// How long after a peer came back, or a hint was kept for it, what it may lack is offered to it: it reads what it missed
/// itself first, and what was slow may arrive.
pub(super) const OFFER_AFTER: Duration = Duration::from_secs(3);
/// Records that are checked at once for whether others hold them.
pub(super) const DROPS_MAX: usize = 1_024;

/// What can be set of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether this node holds records; one that doesn't only makes calls.
    pub stores: bool,
    /// Whether this node began the network: it has nobody to be filled from.
    pub founder: bool,
    /// How long a node that never was settled waits for a neighbour that is, before the first of them begins the store.
    pub found_after: Duration,
    /// How often two replicas compare what they have.
    pub sync_interval: Duration,
    /// How long a peer may be away before others take its places for good. A guess: restarts take less.
    pub replace_after: Duration,
    /// How long a peer may be away before what only it may have counts as lost.
    pub forget_after: Duration,
    /// What one writer may have here.
    pub quota: Quota,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stores: true,
            founder: false,
            found_after: Duration::from_secs(10),
            sync_interval: Duration::from_secs(60),
            replace_after: Duration::from_secs(2 * 60),
            forget_after: Duration::from_secs(10 * 60),
            quota: Quota::default(),
        }
    }
}
