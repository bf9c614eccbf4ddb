//! Links that no swarm needs: how many there may be, and how long they are kept for the next question.

use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::Now;

use super::{Ended, Link};
use crate::Direction;
use crate::core::Core;

/// A link that no swarm needs is closed after this long: longer than a join's walk and a shuffle take, and than the lookups
/// that follow each other when a table is filled.
pub(super) const IDLE_AFTER: Duration = Duration::from_secs(15);
/// Links that no swarm needs, above which those not used lately are closed: each costs a heartbeat and a descriptor at both ends. Half
/// of those that are kept for the store, and some for a lookup.
const SPARE_MAX: usize = 16;
/// What "lately" is then: longer than a question waits for its answer.
const IDLE_AFTER_SOONER: Duration = Duration::from_secs(4);
/// Links in all above which those that no swarm needs are closed once a question that they were used for has its answer: three quarters
/// of the 64 that a node in hundreds of topics is to have.
const CROWDED: usize = 48;
/// Links in all from which on what can wait makes none. Others make some, whatever this node does.
const FULL: usize = 56;
/// How long those may be idle that no swarm needs: longer than a question and its answer take with a peer that is well. A guess.
const IDLE_AFTER_IF_CROWDED: Duration = Duration::from_secs(1);
/// How long one that this node made has been idle when it makes room for another: a round trip or so, in which what has just been sent
/// over it arrives. A guess.
const IDLE_IF_FULL: Duration = Duration::from_millis(200);
/// The same of one that its peer made: longer than a keeper waits before it says that it hasn't got something, since what is not yet
/// answered would be lost.
const IDLE_IF_FULL_INBOUND: Duration = Duration::from_millis(500);

impl Link {
    /// Whether no swarm needs it.
    pub(super) fn is_spare(&self) -> bool {
        self.is_alive() && self.neighbour_in.is_empty()
    }
}

impl Core {
    /// Returns how long a link that no swarm needs may be idle.
    pub(super) fn idle_after(&self) -> Duration {
        let spare = self.links.values().filter(|link| link.is_spare());
        if self.is_crowded() {
            IDLE_AFTER_IF_CROWDED
        } else if spare.count() > SPARE_MAX {
            IDLE_AFTER_SOONER
        } else {
            IDLE_AFTER
        }
    }

    /// Returns whether there are so many links that few are kept which no swarm needs.
    pub(in crate::core) fn is_crowded(&self) -> bool {
        self.links.len() + self.pending.len() > CROWDED
    }

    /// Returns whether a peer has not yet answered a question.
    pub(super) fn awaits(&self, peer: PeerId) -> bool {
        self.asking.awaits(peer)
            || self.structured.dht.awaits(peer)
            || self.stored.store.awaits(peer)
    }

    /// Where links are many, one more takes the place of one that no swarm needs and that was not used lately. Those that this node made
    /// go first.
    pub(in crate::core) fn make_room(&mut self, now: Now) {
        // Each that goes may change what is needed of the others.
        while self.is_filled_by(self.dials_begun())
            && let Some(peer) = self.least_needed(now)
        {
            self.close_link(peer, "others need its place", Ended::Spared, now);
        }
    }

    fn least_needed(&self, now: Now) -> Option<PeerId> {
        let idle = self.links.iter().filter(|(peer, link)| {
            let idle_for = match link.direction {
                Direction::Outbound => IDLE_IF_FULL,
                Direction::Inbound => IDLE_IF_FULL_INBOUND,
            };
            link.is_spare()
                && !link.is_shared(now)
                && now.time.since(link.used_at) >= idle_for
                && !self.awaits(**peer)
        });
        let least =
            idle.min_by_key(|(_, link)| (link.direction == Direction::Inbound, link.used_at));
        least.map(|(peer, _)| *peer)
    }

    fn dials_begun(&self) -> usize {
        let begun = self.pending.values();
        begun.filter(|it| it.dialled_at.is_some()).count()
    }

    fn links_alive(&self) -> usize {
        let alive = self.links.values().filter(|link| link.is_alive());
        alive.count()
    }

    /// Returns whether there are so many links once some dials have ended that others wait for their turn.
    pub(in crate::core) fn is_filled_by(&self, dials: usize) -> bool {
        self.links_alive() + dials >= FULL
    }

    /// Returns whether there are so many links that what can wait makes no more.
    pub(in crate::core) fn is_full(&self) -> bool {
        self.links.len() + self.pending.len() >= FULL
    }
}
