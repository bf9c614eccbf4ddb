//! Lanes: how much waits on each link, what is sent all the same, and what is left out.
//!
//! A neighbour whose lane for data is full is pushed nothing more: it hears announcements, asks when it has caught up, and is
//! replaced if it never does. Supplies are ordered as far as the lane for repair has room.

use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::links::Link;
use crate::wire::OutFrame;
use crate::{Lane, Output, TopicId};

/// A lane for data that holds this much takes no pushes: half of what the link queues, so that one more bundle always fits.
const CONGESTED_BYTES: usize = 2 * 1024 * 1024;
/// A lane that holds this much makes this node's own publishers wait, until it is clear.
const BUSY_BYTES: usize = CONGESTED_BYTES / 2;
/// How long publishers wait for a busy lane: whoever needs longer than this for half a mebibyte is left to fill its lane, which
/// turns it lazy, and holds up nobody else (a guess).
const BUSY_MAX: Duration = Duration::from_secs(1);
/// A congested or busy lane takes pushes again below this.
const CLEAR_BYTES: usize = 512 * 1024;
/// Supplies are queued to a link up to this much, so that what is asked for later doesn't wait long.
const REPAIR_BYTES: usize = 1024 * 1024;

/// What a peer may be supplied with at once: half of all that a node holds, so that a neighbour that comes back is served as fast as
/// its link allows.
const SUPPLIES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What it may be supplied with after that (a guess: a tenth of a core, and more than a swarm carries). Whoever asks for the same
/// things again and again shall not keep a node busy.
const SUPPLIES_BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;
/// How long supplies are held back that came to their rate's end: a few frames of the largest size are earned in it.
const SUPPLY_PAUSE: Duration = Duration::from_millis(100);

impl Link {
    /// Returns how many bytes it may be supplied with now.
    fn supplies_allowed(&self, now: Now) -> usize {
        let owed = self.supplies_paid_at.since(now.time).as_micros();
        let owed = owed.saturating_mul(SUPPLIES_BYTES_PER_SECOND.into()) / 1_000_000;
        let owed = u64::try_from(owed).unwrap_or(u64::MAX);
        usize::try_from(SUPPLIES_BYTES_MAX.saturating_sub(owed)).unwrap_or(usize::MAX)
    }

    fn supplied(&mut self, bytes: usize, now: Now) {
        let micros = (bytes as u64).saturating_mul(1_000_000) / SUPPLIES_BYTES_PER_SECOND;
        self.supplies_paid_at = self.supplies_paid_at.max(now.time) + Duration::from_micros(micros);
    }
}

impl Core {
    /// The shell says how a link stands.
    pub(super) fn link_state(
        &mut self,
        peer: PeerId,
        heard: bool,
        data_bytes: usize,
        repair_bytes: usize,
        now: Now,
    ) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return;
        };
        if heard {
            link.heard_at = now.time;
            if link.pinged.is_none() {
                link.plan_ping(now);
            }
        }
        link.data_bytes = data_bytes;
        link.repair_bytes = repair_bytes;
        if data_bytes <= CLEAR_BYTES {
            link.busy_since = None;
        } else if data_bytes > BUSY_BYTES {
            link.busy_since.get_or_insert(now.time);
        }
        if link.congested_since.is_some() && data_bytes <= CLEAR_BYTES {
            link.congested_since = None;
            self.tell_congested(peer, false, now);
        }
        self.supply(peer, now);
    }

    pub(super) fn send_control(&mut self, peer: PeerId, frame: OutFrame) {
        self.outputs.push_back(Output::Send {
            peer,
            lane: Lane::Control,
            frame,
        });
    }

    /// Sends a bundle unless the lane is full: what is left out is announced, and supplied when it is asked for.
    pub(super) fn send_bundle(&mut self, peer: PeerId, lane: Lane, frame: OutFrame, now: Now) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return;
        };
        let bytes = frame.len();
        match lane {
            Lane::Data => {
                if link.data_bytes >= CONGESTED_BYTES {
                    self.count("pushes_left_out");
                    return;
                }
                link.data_bytes += bytes;
                if link.data_bytes > BUSY_BYTES {
                    link.busy_since.get_or_insert(now.time);
                }
                if link.data_bytes >= CONGESTED_BYTES && link.congested_since.is_none() {
                    link.congested_since = Some(now.time);
                    self.count("links_congested");
                    self.newly_congested.push(peer);
                }
            }
            Lane::Control | Lane::Repair => link.repair_bytes += bytes,
        }
        self.outputs.push_back(Output::Send { peer, lane, frame });
    }

    /// Tells the swarms of links that filled up while they were being drained.
    pub(super) fn tell_newly_congested(&mut self, now: Now) {
        while let Some(peer) = self.newly_congested.pop() {
            self.tell_congested(peer, true, now);
        }
    }

    fn tell_congested(&mut self, peer: PeerId, congested: bool, now: Now) {
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Congested { peer, congested }, now);
        }
    }

    pub(super) fn replace_neighbour(&mut self, peer: PeerId, now: Now) {
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Evict(peer), now);
        }
    }

    /// Whether a peer may be supplied with more now.
    pub(super) fn has_room_for_supplies(&self, peer: PeerId) -> bool {
        let link = self.links.get(&peer);
        link.is_some_and(|link| link.repair_bytes < REPAIR_BYTES)
    }

    /// A peer has asked for supplies in a swarm.
    pub(super) fn owe(&mut self, peer: PeerId, topic: TopicId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed_in.insert(topic);
        }
        self.supply(peer, now);
    }

    /// Supplies what a peer asked for, as far as its lane for repair has room.
    pub(super) fn supply(&mut self, peer: PeerId, now: Now) {
        // Follows every word of every link: it looks at the swarms in which something is owed, not at all that are shared.
        let Some(link) = self.links.get(&peer) else {
            return;
        };
        let owed = &link.owed_in;
        // They take turns: the one that was served last comes last.
        let (before, after): (Vec<TopicId>, _) = owed
            .iter()
            .partition(|topic| Some(**topic) <= link.supplied_last);
        for topic in after.into_iter().chain(before) {
            let Some(link) = self.links.get_mut(&peer) else {
                return;
            };
            let room = REPAIR_BYTES.saturating_sub(link.repair_bytes);
            if room == 0 {
                return;
            }
            let allowed = link.supplies_allowed(now);
            if allowed == 0 {
                let at = now.time + SUPPLY_PAUSE;
                link.supply_at = at;
                self.hurry_link(peer, at);
                return self.count("supplies_slowed");
            }
            link.supplied_last = Some(topic);
            if let Some(entry) = self.swarms.get_mut(&topic) {
                let ordered = entry.swarm.supply(peer, room.min(allowed), now);
                link.supplied(ordered, now);
                self.drain(topic, now);
            }
            let entry = self.swarms.get(&topic);
            if !entry.is_some_and(|entry| entry.swarm.owes(peer))
                && let Some(link) = self.links.get_mut(&peer)
            {
                link.owed_in.remove(&topic);
            }
        }
    }

    /// Returns until when a publisher waits for a neighbour's lane at most; none where the lane isn't busy.
    pub(super) fn busy_until(&self, peer: PeerId) -> Option<Time> {
        Some(self.links.get(&peer)?.busy_since? + BUSY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use weft_overlay::UnixMicros;

    use super::*;
    use crate::Direction;

    fn at(millis: u64) -> Now {
        Now {
            time: Time::from_micros(millis * 1_000),
            unix: UnixMicros(millis * 1_000),
        }
    }

    #[test]
    fn a_peer_that_asks_without_end_is_supplied_at_a_rate() {
        let mut link = Link::new(Direction::Inbound, None, "tcp", at(0));
        let mut supplied = 0;
        for millis in 0..10_000 {
            let bytes = link.supplies_allowed(at(millis));
            link.supplied(bytes, at(millis));
            supplied += bytes as u64;
        }
        let rate = SUPPLIES_BYTES_PER_SECOND * 10;
        assert!(
            (rate..=rate + SUPPLIES_BYTES_MAX).contains(&supplied),
            "{supplied}"
        );
    }
}
