//! How much other nodes may have this node do to compare and to fill, each for itself.
//!
//! What one query asks for is bounded by its message. These bounds are for how often: a peer that claims something new each
//! moment, or compares again and again, or fetches all that there is in a circle, gets "unable" for what is beyond, as from a
//! node that is busy; an honest one asks again a second later.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Peer, Time};

/// What a peer may make this node read or look through, in bytes a second: an eighth of what a disk without moving parts
/// reads, and much more than a replica needs to follow any stream of writes.
const BYTES_A_SECOND: i64 = 16 << 20;
/// The same at once, after some quiet: a new replica compares twice, and this is twice half a million records.
const BYTES_AT_ONCE: i64 = 64 << 20;
/// What a record costs that is only looked at: a tenth of a microsecond, the time in which a disk reads so many bytes.
const LOOKED_AT_BYTES: usize = 64;
/// Which part of a record that is sent counts: its bytes are those of a link as well, which a peer doesn't get faster than
/// it takes them. So much is a gigabit's 128 MiB a second.
const SENT_SHARE: usize = 8;
/// How often a peer may claim something new in the long run. Each claim is a sync of the disk and may be a fill of this node's;
/// an honest node's follow its fills, which take as long as this or longer, or come to rest.
const CLAIM_EVERY: Duration = Duration::from_millis(500);
/// Claims at once, after some quiet: those of a node around which many come and go.
const CLAIMS_AT_ONCE: u64 = 32;
/// Peers that are remembered. Neighbours are a tenth of it; of more, those that were quiet longest are forgotten, who have their
/// full allowance again in any case.
const PEERS_MAX: usize = 1_024;

/// What is left to a peer.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Less than none where something was more than there was.
    bytes: i64,
    /// Thousandths of claims.
    claims: u64,
    since: Time,
}

impl Left {
    const ALL: Self = Self {
        bytes: BYTES_AT_ONCE,
        claims: CLAIMS_AT_ONCE * 1_000,
        since: Time::ZERO,
    };

    fn grow(&mut self, now: Time) {
        // An hour is as good as for ever.
        let millis = now.since(self.since).as_millis().min(3_600_000) as u32;
        if millis == 0 {
            return;
        }
        self.since = now;
        let claims = u64::from(millis) * 1_000 / CLAIM_EVERY.as_millis() as u64;
        self.claims = (self.claims + claims).min(CLAIMS_AT_ONCE * 1_000);
        let bytes = i64::from(millis) * BYTES_A_SECOND / 1_000;
        self.bytes = (self.bytes + bytes).min(BYTES_AT_ONCE);
    }
}

/// What is left to each peer.
#[derive(Debug)]
pub(super) struct Paces<P> {
    peers: BTreeMap<P, Left>,
}

impl<P: Peer> Paces<P> {
    pub(super) fn new() -> Self {
        Self {
            peers: BTreeMap::new(),
        }
    }

    /// Returns whether a peer may have so many records looked at and so many bytes of them sent. What costs more than is left
    /// is done if anything is left; it is paid off before the next, but for no longer than all at once takes.
    pub(super) fn may_read(&mut self, peer: P, records: usize, sent: usize, now: Time) -> bool {
        let cost = records.saturating_mul(LOOKED_AT_BYTES);
        let cost = cost.saturating_add(sent / SENT_SHARE);
        let left = self.of(peer, now);
        let may = left.bytes > 0;
        if may {
            let rest = left.bytes.saturating_sub_unsigned(cost as u64);
            left.bytes = rest.max(-BYTES_AT_ONCE);
        }
        may
    }

    /// Returns whether a peer may claim something new.
    pub(super) fn may_claim(&mut self, peer: P, now: Time) -> bool {
        let left = self.of(peer, now);
        let rest = left.claims.checked_sub(1_000);
        left.claims = rest.unwrap_or(left.claims);
        rest.is_some()
    }

    fn of(&mut self, peer: P, now: Time) -> &mut Left {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let quiet = self.peers.iter().min_by_key(|(_, left)| left.since);
            if let Some(quiet) = quiet.map(|(&peer, _)| peer) {
                self.peers.remove(&quiet);
            }
        }
        let fresh = Left {
            since: now,
            ..Left::ALL
        };
        let left = self.peers.entry(peer).or_insert(fresh);
        left.grow(now);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestPeer;

    #[test]
    fn a_peer_reads_at_its_pace_and_no_other_pays_for_it() {
        let mut paces = Paces::new();
        let (one, other) = (TestPeer(1), TestPeer(2));
        let mut read = 0;
        let mut now = Time::ZERO;
        for _ in 0..10_000 {
            now = now + Duration::from_millis(1);
            read += i64::from(paces.may_read(one, 16 << 10, 0, now));
        }
        let most = (BYTES_AT_ONCE + 10 * BYTES_A_SECOND) >> 20;
        assert!((most - 2..=most + 1).contains(&read), "{read} MiB in 10 s");
        assert!(paces.may_read(other, 0, 8 << 20, now));
        // More than there ever is at once is done, once.
        assert!(paces.may_read(other, usize::MAX, 0, now));
        let soon = now + Duration::from_secs(3);
        assert!(!paces.may_read(other, 1, 0, soon));
        assert!(paces.may_read(other, 1, 0, soon + Duration::from_secs(2)));
    }

    #[test]
    fn a_peer_claims_at_its_pace() {
        let mut paces = Paces::new();
        let mut claimed = 0;
        for milli in 0..10_000 {
            let now = Time::ZERO + Duration::from_millis(milli);
            claimed += u64::from(paces.may_claim(TestPeer(1), now));
        }
        assert!((51..=53).contains(&claimed), "{claimed} in 10 s");
    }

    #[test]
    fn peers_that_are_remembered_are_bounded() {
        let mut paces = Paces::new();
        for peer in 0..2 * PEERS_MAX as u32 {
            let now = Time::ZERO + Duration::from_millis(peer.into());
            assert!(paces.may_claim(TestPeer(peer), now));
        }
        assert_eq!(paces.peers.len(), PEERS_MAX);
    }
}
