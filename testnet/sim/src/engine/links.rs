//! Links between the engine's nodes.

use std::time::Duration;

use rand::RngExt;
use weft_overlay::Time;

use super::{Engine, Event, LIVENESS};
use crate::machine::{Down, Fact, Machine, NodeId, Weighed};

/// Links of one node beyond which the engine drops one that neither end uses and that has been idle for [`IDLE`]: a crowd
/// that has just dialled is let speak.
const LINKS_KEPT: usize = 12;
/// How long a link that nobody uses is kept, as a node's core does.
const IDLE: Duration = Duration::from_secs(5);
/// How late a frame may come that later ones overtake.
const REORDERED_MAX: Duration = Duration::from_millis(100);

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkEnd {
    pub(super) peer: NodeId,
    /// Tells this link from earlier ones between the two.
    pub(super) number: u32,
    /// When the last frame that was sent from here arrives: the next doesn't overtake it.
    last: Time,
    /// When the last frame from there has arrived.
    heard: Time,
}

impl<M: Machine> Engine<M> {
    pub(super) fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        self.links.latency.between(self.seed, a, b)
    }

    pub(super) fn link_to(&self, at: NodeId, peer: NodeId) -> Option<&LinkEnd> {
        let links = &self.nodes[at as usize].links;
        let found = links.binary_search_by_key(&peer, |end| end.peer);
        Some(&links[found.ok()?])
    }

    fn link_to_mut(&mut self, at: NodeId, peer: NodeId) -> Option<&mut LinkEnd> {
        let links = &mut self.nodes[at as usize].links;
        let found = links.binary_search_by_key(&peer, |end| end.peer);
        Some(&mut links[found.ok()?])
    }

    /// Returns an end of this very link.
    pub(super) fn end(&self, at: NodeId, peer: NodeId, number: u32) -> Option<&LinkEnd> {
        self.link_to(at, peer).filter(|end| end.number == number)
    }

    /// Notes that a frame has come over a link; returns whether the link is there.
    pub(super) fn hear(&mut self, at: NodeId, peer: NodeId, number: u32) -> bool {
        let now = self.now;
        let end = self.link_to_mut(at, peer);
        let Some(end) = end.filter(|end| end.number == number) else {
            return false;
        };
        end.heard = now;
        true
    }

    fn remove_end(&mut self, at: NodeId, peer: NodeId, number: u32) -> bool {
        let is_there = self.end(at, peer, number).is_some();
        if is_there {
            let links = &mut self.nodes[at as usize].links;
            links.retain(|end| end.peer != peer);
        }
        is_there
    }

    fn insert_end(&mut self, at: NodeId, end: LinkEnd) {
        let links = &mut self.nodes[at as usize].links;
        // An end that hasn't learned yet that its link is gone gives way.
        match links.binary_search_by_key(&end.peer, |end| end.peer) {
            Ok(found) => links[found] = end,
            Err(place) => links.insert(place, end),
        }
    }

    /// Makes a link, or tells the dialler after a while that there is none.
    pub(super) fn dial(&mut self, at: NodeId, to: NodeId) {
        if self.link_to(at, to).is_some() {
            return;
        }
        let latency = self.latency(at, to);
        let target = &self.nodes[to as usize];
        let unreachable = if at == to || target.machine.is_none() {
            Some(latency * 2)
        } else if target.held.is_some() || self.cuts(at, to) || self.cuts(to, at) {
            Some(LIVENESS)
        } else {
            None
        };
        if let Some(after) = unreachable {
            let event = Event::Unreachable { at, peer: to };
            return self.queue.push(self.now + after, event);
        }
        self.links_made = self.links_made.wrapping_add(1);
        let number = self.links_made;
        // A handshake takes a round trip.
        let ready = self.now + latency * 2;
        for (end, peer, dialled) in [(at, to, true), (to, at, false)] {
            self.make_room(end);
            let made = LinkEnd {
                peer,
                number,
                last: ready,
                heard: ready,
            };
            self.insert_end(end, made);
            if M::HEARS_OF_LINKS {
                let up = Event::Up {
                    at: end,
                    peer,
                    link: number,
                    dialled,
                };
                self.queue.push(ready, up);
            }
        }
    }

    /// Drops links that neither end uses if there are many, as a node's core does after a while.
    fn make_room(&mut self, at: NodeId) {
        if M::HOLDS_LINKS || self.nodes[at as usize].links.len() < LINKS_KEPT {
            return;
        }
        let uses = |at: NodeId, peer: NodeId| {
            let machine = self.nodes[at as usize].machine.as_ref();
            machine.is_some_and(|machine| machine.is_neighbour(peer))
        };
        let is_idle = |end: &LinkEnd| end.last + IDLE <= self.now;
        // The other end is looked at last: its node's links are hardly ever in the cache.
        let is_quiet = |end: &LinkEnd| is_idle(end) && end.heard + IDLE <= self.now;
        let unused: Vec<LinkEnd> = self.nodes[at as usize]
            .links
            .iter()
            .filter(|end| is_quiet(end) && self.end(end.peer, at, end.number).is_none_or(is_idle))
            .filter(|end| !uses(at, end.peer) && !uses(end.peer, at))
            .copied()
            .collect();
        for end in unused {
            self.remove_end(at, end.peer, end.number);
            self.remove_end(end.peer, at, end.number);
        }
    }

    pub(super) fn send(&mut self, at: NodeId, to: NodeId, frame: M::Frame, dial: bool) {
        if self.link_to(at, to).is_none() {
            if !dial {
                return;
            }
            self.dial(at, to);
        }
        let Some(end) = self.link_to(at, to).copied() else {
            return;
        };
        let weight = frame.weigh();
        self.watch.sent(weight);
        if self.cuts(at, to) || self.draw(self.links.loss) {
            return;
        }
        let departs = self.departure(at, weight.bytes());
        let mut arrives = departs + self.latency(at, to);
        if !self.links.jitter.0.is_zero() {
            arrives = arrives + self.links.jitter.0.mul_f64(self.rng.random::<f64>());
        }
        let overtaken = self.draw(self.links.reordering);
        if overtaken {
            arrives = arrives + REORDERED_MAX.mul_f64(self.rng.random::<f64>());
        } else {
            arrives = arrives.max(end.last);
        }
        arrives = self.handling(to, arrives);
        if !overtaken && let Some(end) = self.link_to_mut(at, to) {
            end.last = end.last.max(arrives);
        }
        let event = |frame| Event::Frame {
            from: at,
            to,
            link: end.number,
            frame,
        };
        if self.draw(self.links.duplication) {
            self.queue.push(arrives, event(frame.clone()));
        }
        self.queue.push(arrives, event(frame));
    }

    /// Returns whether something happens that has this chance.
    fn draw(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.random_bool(chance.min(1.0))
    }

    /// Returns when a frame has left, if the node's uplink is capped.
    fn departure(&mut self, at: NodeId, bytes: u32) -> Time {
        let Some(bandwidth) = self.links.bandwidth.filter(|cap| *cap > 0) else {
            return self.now;
        };
        let micros = u64::from(bytes) * 1_000_000 / bandwidth;
        let slot = &mut self.nodes[at as usize];
        slot.sending_until = slot.sending_until.max(self.now) + Duration::from_micros(micros);
        slot.sending_until
    }

    /// Returns when a slow node has got round to a frame.
    fn handling(&mut self, to: NodeId, arrives: Time) -> Time {
        if !self.some_are_slow {
            return arrives;
        }
        let slot = &mut self.nodes[to as usize];
        if slot.slowness.is_zero() {
            return arrives;
        }
        slot.busy_until = slot.busy_until.max(arrives) + slot.slowness;
        slot.busy_until
    }

    /// Closes a link in order.
    pub(super) fn close(&mut self, at: NodeId, peer: NodeId) {
        let Some(end) = self.link_to(at, peer).copied() else {
            return;
        };
        let arrives = end.last.max(self.now + self.latency(at, peer));
        for (end_at, peer) in [(at, peer), (peer, at)] {
            let event = Event::Down {
                at: end_at,
                peer,
                link: end.number,
                why: Down::Closed,
            };
            self.queue.push(arrives, event);
        }
    }

    /// A frame came over a link that this end has given up: the sender is told that it is gone, as TCP does.
    pub(super) fn reset(&mut self, at: NodeId, from: NodeId, link: u32) {
        if !self.cuts(at, from) {
            let event = Event::Down {
                at: from,
                peer: at,
                link,
                why: Down::Broken,
            };
            self.queue.push(self.now + self.latency(at, from), event);
        }
    }

    pub(super) fn down(&mut self, at: NodeId, peer: NodeId, link: u32, why: Down) {
        if self.remove_end(at, peer, link) {
            self.tell(at, Fact::Down { peer, why });
        }
    }

    /// Looks whether an end has heard nothing for too long: the other end hangs or is cut off.
    pub(super) fn silent(&mut self, at: NodeId, peer: NodeId, link: u32) {
        let hangs = self.nodes[peer as usize].held.is_some();
        let is_deaf = hangs || self.cuts(peer, at);
        if !is_deaf || self.end(at, peer, link).is_none() {
            return;
        }
        // This end closes the link, and the other learns it if anything comes through to it.
        if !self.cuts(at, peer) {
            let told = Event::Down {
                at: peer,
                peer: at,
                link,
                why: Down::Broken,
            };
            self.queue.push(self.now + self.latency(at, peer), told);
        }
        if self.nodes[at as usize].held.is_none() {
            self.down(at, peer, link, Down::Broken);
        }
    }
}
