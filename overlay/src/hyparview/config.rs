//! What can be set of a membership, and the bounds that can't.

use std::time::Duration;

use crate::Time;

/// Requests that wait for an answer at once, however they came about. Only [`Config::requests_max`] of them are fresh;
/// the others are repeats to peers that were silent, or invitations to peers that are joining.
pub(super) const PENDING_MAX: usize = 32;
/// How often one request is sent before its peer counts as lost: a lost frame costs one attempt, a hung peer all three.
pub(super) const ATTEMPTS_MAX: u8 = 3;
/// Shuffles of ours that may still be answered: one a second at most within [`Config::shuffle_timeout`], and as many
/// probes as there are lost contacts.
pub(super) const OUTSTANDING_MAX: usize = 48;
/// Lost contacts that are remembered: as many as a passive view holds.
pub(super) const LOST_MAX: usize = 30;
/// Peers that are kept out because they were too slow: more than a few views' worth would be the node's own fault.
pub(super) const SHUNNED_MAX: usize = 32;
/// Candidates that are remembered as having refused in this round: a passive view and what passed through it meanwhile.
pub(super) const REFUSED_MAX: usize = 64;
/// Strangers whose last answer is remembered; beyond it a stranger gets none until the next second.
pub(super) const STRANGERS_MAX: usize = 128;
/// How often a stranger is told that it is no neighbour.
pub(super) const STRANGER_INTERVAL: Duration = Duration::from_secs(1);
/// How often one peer may cost another neighbour its place, and have its join forwarded.
pub(super) const FORCED_INTERVAL: Duration = Duration::from_secs(10);
/// Swaps that break triangles: a triangle is rare, and in a swarm of fifty each swap makes another. Two at once and one each half
/// hour is a guess: twice as many as promotions.
pub(super) const MENDS: Rate = Rate {
    burst: 2,
    interval: Duration::from_secs(1_800),
};
/// The wait up to which rounds of early swaps look for a split in swarms of any size: within two seconds they have mended each of
/// 357 splits of fifty to seventy members (23 were left where only one of all that a member knows took part).
pub(super) const FIRST_ROUNDS: Duration = Duration::from_secs(4);
/// How long a view must have been full before a triangle is broken. A guess: what made the view has come to rest.
pub(super) const REST: Duration = Duration::from_secs(30);
/// How far ahead of our clock a contact may have been issued: clocks of honest machines differ by less.
pub(super) const CONTACT_SKEW: Duration = Duration::from_secs(5 * 60);

/// What can be set of a membership.
#[derive(Clone, Debug)]
pub struct Config {
    /// Neighbours that a member wants and holds at most (paper §5.1: 5 for 10,000 nodes, fanout 4 plus one).
    pub active_max: usize,
    /// Contacts that a member keeps in reserve (paper §5.1: 30, several times log n).
    pub passive_max: usize,
    /// The active random walk length: hops of a join and of a shuffle (paper §5.1: 6).
    pub arwl: u8,
    /// The passive random walk length: hops left at which a join enters passive views (paper §5.1: 3).
    pub prwl: u8,
    /// Ka: neighbours in a shuffle's sample (paper §5.1: 3).
    pub shuffle_active: usize,
    /// Kp: passive peers in a shuffle's sample (paper §5.1: 4).
    pub shuffle_passive: usize,
    /// The time between shuffles of a settled member. A guess: the paper counts rounds; each answer may cost a dial.
    pub shuffle_interval: Duration,
    /// The time before a new or needy member shuffles; it doubles up to the interval. A guess.
    pub shuffle_interval_min: Duration,
    /// How long a shuffle may be answered: two dial timeouts of 5 s.
    pub shuffle_timeout: Duration,
    /// How long one attempt of a request waits for its answer. A guess: several wide-area round trips.
    pub neighbor_timeout: Duration,
    /// Fresh requests in flight, never more than there are vacancies. A guess: enough to outlive a dead candidate.
    pub requests_max: usize,
    /// The oldest neighbours that nobody can force out where there are others. A guess: with two, an attacker who
    /// floods requests cannot cut a member off.
    pub protected: usize,
    /// Neighbours up to which a member is needy: it escalates fast (a guess: at most 2 hold it by a thread).
    pub needy: usize,
    /// The wait before a needy member escalates to a High request. A guess.
    pub walk_needy: Duration,
    /// The first wait before any other member with a vacancy escalates; it doubles. A guess.
    pub walk_min: Duration,
    /// Where that doubling ends: an odd sum of degrees leaves a vacancy for ever, and this is what it may cost. A guess.
    pub walk_max: Duration,
    /// How long a view must first have been full for an early swap; the wait quadruples up to the interval. Members that
    /// come within the same moment fill their views among those of whom they hear first, and two full groups that hear
    /// of each other later look for nobody: so two of thirty topics of 20 real nodes were split. A quarter of a second is a guess: announcements have arrived.
    pub promotion_first: Duration,
    /// About how many members of a swarm that each knows whole take part in a round of early swaps; each member draws.
    /// A swap costs those below it in a tree a repair, so not all do; four rounds of four leave no split of 20 unmended. In later rounds
    /// of large swarms it is one of them (measured: completion among ten thousand right after joining 280 ms, with four 304).
    pub promotion_early: u32,
    /// The wait from which on every member takes part. Three minutes is a guess: a swarm that has just come together publishes
    /// its first messages undisturbed (measured: with one minute, completion among ten thousand right after joining is 520 ms).
    pub promotion_by_all: Duration,
    /// Where the wait between swaps of a full member with a random passive peer ends; `Duration::MAX` turns them off. Each
    /// swap leaves two members short for a second or two, and two rounds mix ten thousand (measured: clustering .0008 without
    /// and little less after), so an hour will do for what changes later.
    pub promotion_interval: Duration,
    /// How often one of the lost peers is probed.
    pub probe_interval: Duration,
    /// When a lost peer is probed again whose probe neither succeeded nor failed. A guess.
    pub probe_timeout: Duration,
    /// How often a peer that is back takes a neighbour's place: a whole half that returns must not shake every view. A guess.
    pub reunion_interval: Duration,
    /// How long after its loss a peer is probed (ten minutes, the design's bound).
    pub lost_for: Duration,
    /// How long a peer that was evicted for being slow stays out. A guess.
    pub shunned_for: Duration,
    /// Forced evictions: how many at once, and the time after which one more is allowed (a guess: 32, then 4 a second).
    pub forced: Rate,
    /// Joins that are forwarded: each costs active view times walk length of frames. A guess for flash crowds.
    pub forwards: Rate,
    /// Shuffles that are answered: each may cost a dial. A guess.
    pub answers: Rate,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            active_max: 5,
            passive_max: 30,
            arwl: 6,
            prwl: 3,
            shuffle_active: 3,
            shuffle_passive: 4,
            shuffle_interval: Duration::from_secs(30),
            shuffle_interval_min: Duration::from_secs(1),
            shuffle_timeout: Duration::from_secs(10),
            neighbor_timeout: Duration::from_secs(1),
            requests_max: 3,
            protected: 2,
            needy: 2,
            walk_needy: Duration::from_secs(1),
            walk_min: Duration::from_secs(5),
            walk_max: Duration::from_secs(60),
            promotion_first: Duration::from_millis(250),
            promotion_early: 4,
            promotion_by_all: Duration::from_secs(180),
            promotion_interval: Duration::from_secs(3_600),
            probe_interval: Duration::from_secs(3),
            probe_timeout: Duration::from_secs(30),
            reunion_interval: Duration::from_secs(2),
            lost_for: Duration::from_secs(600),
            shunned_for: Duration::from_secs(60),
            forced: Rate {
                burst: 32,
                interval: Duration::from_millis(250),
            },
            forwards: Rate {
                burst: 256,
                interval: Duration::from_millis(16),
            },
            answers: Rate {
                burst: 64,
                interval: Duration::from_millis(62),
            },
        }
    }
}

impl Config {
    /// Returns how many contacts a shuffle's sample may hold: Ka, Kp and the origin itself.
    pub(super) fn sample_max(&self) -> usize {
        self.shuffle_active + self.shuffle_passive + 1
    }

    /// Returns how many passive contacts may come from one peer: a third, so that no peer fills the view alone.
    pub(super) fn passive_per_source_max(&self) -> usize {
        (self.passive_max / 3).max(1)
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// The time after which one more is allowed.
    pub interval: Duration,
}

/// A token bucket, kept as the moment at which it is full again.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    full_at: Time,
}

impl Bucket {
    /// Takes a token if there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Time) -> bool {
        let full_at = self.full_at.max(now);
        let room = rate.interval.saturating_mul(rate.burst.saturating_sub(1));
        if full_at.since(now) > room {
            return false;
        }
        self.full_at = full_at + rate.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate {
            burst: 3,
            interval: Duration::from_secs(1),
        };
        let mut bucket = Bucket::default();
        let mut at = |micros| bucket.take(rate, Time::from_micros(micros));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(1_000_000), at(1_000_000)], [true, false]);
    }
}
