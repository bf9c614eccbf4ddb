//! Pings: when a link is asked for an echo, what the echo tells, and callers that wait for one.

use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::{Now, swarm};

use super::Link;
use crate::core::Core;
use crate::wire::{encode_ping, encode_pong};
use crate::{Direction, Reply, RequestId, TopicId};

/// Silence after which a link is pinged (the design's bound).
pub(super) const PING_AFTER: Duration = Duration::from_millis(500);
/// The side that was dialled leaves the pinging to the other, as long as that does it.
const PING_AFTER_INBOUND: Duration = Duration::from_millis(800);
/// How soon a ping is repeated that has not been answered.
const PING_AGAIN: Duration = Duration::from_millis(500);
/// How often either side pings all the same, to know the round trip, and that the other reads.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// Callers that wait for one link's echo.
const PINGS_MAX: usize = 64;

impl Link {
    /// Something was heard or answered: the next ping can wait.
    pub(in crate::core) fn plan_ping(&mut self, now: Now) {
        let silence = match self.direction {
            Direction::Outbound => PING_AFTER,
            Direction::Inbound => PING_AFTER_INBOUND,
        };
        let measure = self.measure_at.max(now.time);
        self.ping_at = measure.min(now.time + silence);
    }
}

impl Core {
    pub(super) fn send_ping(&mut self, peer: PeerId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            // A repetition asks the same: where the way is longer than its pace, the first answer still counts.
            let (nonce, _) = *link.pinged.get_or_insert_with(|| {
                self.next_nonce += 1;
                (self.next_nonce, now.time)
            });
            link.ping_at = now.time + PING_AGAIN;
            self.send_control(peer, encode_ping(nonce));
        }
    }

    pub(in crate::core) fn ping_came(&mut self, peer: PeerId, nonce: u64) {
        self.send_control(peer, encode_pong(nonce));
    }

    pub(in crate::core) fn pong_came(&mut self, peer: PeerId, nonce: u64, now: Now) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let Some((_, sent)) = link.pinged.filter(|(expected, _)| *expected == nonce) else {
            return;
        };
        let measured = now.time.since(sent);
        let rtt = link
            .rtt
            .map_or(measured, |rtt| rtt - rtt / 8 + measured / 8);
        link.rtt = Some(rtt);
        link.pinged = None;
        link.measure_at = now.time + MEASURE_EVERY;
        link.plan_ping(now);
        let waiting = link.take_waiting();
        let swarms: Vec<TopicId> = link.neighbour_in.iter().copied().collect();
        for request in waiting {
            self.reply(request, Reply::Pong(Some(measured)));
        }
        for topic in swarms {
            self.tell_swarm(topic, swarm::Input::Rtt { peer, rtt }, now);
        }
    }

    pub(in crate::core) fn ping(&mut self, request: RequestId, peer: PeerId, now: Now) {
        match self.links.get_mut(&peer).filter(|link| link.is_alive()) {
            Some(link) if link.waiting.len() < PINGS_MAX => {
                link.waiting.push(request);
                // The answer to one that is under way serves as well.
                if link.pinged.is_none() {
                    self.send_ping(peer, now);
                }
            }
            _ => self.reply(request, Reply::Pong(None)),
        }
    }

    pub(in crate::core) fn forget_ping(&mut self, request: RequestId) {
        for link in self.links.values_mut() {
            link.waiting.retain(|waiting| *waiting != request);
        }
    }
}
