//! What happens, and what members order: frames on links, breaks, dials, timers.

use std::time::Duration;

use rand::RngExt;

use super::super::values::{TestBundle, TestContact};
use super::{Event, Frame, LIVENESS, Link, Network, REJOIN, pair};
use crate::Time;
use crate::delivery::Delivered;
use crate::plumtree::Message;
use crate::swarm::{Input, Output};

impl Network {
    pub(super) fn step(&mut self, event: Event) {
        let actor = match event {
            Event::Frame { to, .. } => to,
            Event::Lost { at, .. } | Event::Linked { at, .. } => at,
            Event::Wake(at) | Event::Pump(at, _) | Event::Join(at) => at,
            Event::Publish(at, _) | Event::Congested(at, ..) => at,
        };
        let Some(node) = self.nodes.get_mut(&actor) else {
            return;
        };
        if let Some(held) = &mut node.hung {
            held.push(event);
            return;
        }
        match event {
            Event::Frame {
                from,
                to,
                link,
                frame,
            } => {
                if self.links.get(&pair(from, to)).map(|l| l.number) == Some(link) {
                    self.frame(from, to, frame);
                }
            }
            Event::Lost { at, peer } => {
                // A link that was made anew meanwhile isn't lost.
                if !self.links.contains_key(&pair(at, peer)) {
                    self.fold(&[self.now.as_micros(), 1, at.into(), peer.into()]);
                    self.input(at, Input::PeerLost(peer));
                }
            }
            Event::Linked { at, peer, link } => {
                if self.links.get(&pair(at, peer)).map(|l| l.number) == Some(link) {
                    self.input(at, Input::PeerUp(peer));
                }
            }
            Event::Wake(at) => {
                let now = self.moment();
                let node = self.node(at);
                if node.wake <= now.time {
                    node.wake = Time::NEVER;
                    node.swarm.handle_timeout(now);
                    let next = node.swarm.poll_timeout();
                    assert!(next > now.time, "{at} woken for nothing at {:?}", now.time);
                    self.settle(at);
                }
            }
            Event::Pump(at, peer) => self.pump(at, peer),
            Event::Join(at) => {
                if self.node(at).up.is_empty() {
                    let runs = |via: &u32| *via != at && self.nodes.contains_key(via);
                    let vias: Vec<u32> = self.vias.iter().copied().filter(runs).collect();
                    if !vias.is_empty() {
                        let via = vias[self.rng.random_range(0..vias.len())];
                        self.input(at, Input::Join { via });
                    }
                }
                self.at(REJOIN, Event::Join(at));
            }
            Event::Publish(at, count) => {
                self.publish(at, count);
            }
            Event::Congested(at, peer, congested) => {
                self.input(at, Input::Congested { peer, congested });
            }
        }
    }

    fn frame(&mut self, from: u32, to: u32, frame: Frame) {
        self.frames += 1;
        let kind = match &frame {
            Frame::Membership(_) => 2,
            Frame::Broadcast(Message::Bundle { bundle, .. }) => 3 + bundle.header.first,
            Frame::Broadcast(_) => 4,
        };
        self.fold(&[self.now.as_micros(), kind, from.into(), to.into()]);
        match frame {
            Frame::Membership(message) => self.input(to, Input::Membership { from, message }),
            Frame::Broadcast(message) => {
                if let Message::Digest { streams, .. } = &message {
                    self.digest_streams += streams.len() as u64;
                }
                self.input(to, Input::Broadcast { from, message });
            }
        }
    }

    fn pump(&mut self, at: u32, peer: u32) {
        let now = self.moment();
        let node = self.node(at);
        node.pumps.remove(&peer);
        if !node.swarm.owes(peer) {
            return;
        }
        let ordered = node.swarm.supply(peer, 64 * 1024, now);
        node.pumps.insert(peer);
        let pause = Duration::from_micros((ordered * 1_000_000 / self.pace) as u64);
        self.at(pause, Event::Pump(at, peer));
        self.settle(at);
    }

    fn send(&mut self, from: u32, to: u32, frame: Frame, may_dial: bool) {
        assert_ne!(from, to, "a message to oneself");
        let key = pair(from, to);
        if !self.links.contains_key(&key) {
            if !may_dial {
                return;
            }
            let latency = Duration::from_micros(self.rng.random_range(500..20_000));
            if self.is_cut(from, to) {
                return self.at(LIVENESS, Event::Lost { at: from, peer: to });
            }
            if !self.nodes.contains_key(&to) {
                return self.at(latency * 2, Event::Lost { at: from, peer: to });
            }
            let link = Link {
                number: self.next,
                latency,
                ready_at: self.now + latency * 2,
            };
            self.next += 1;
            self.links.insert(key, link);
            for (at, peer) in [(from, to), (to, from)] {
                let link = link.number;
                self.at(latency * 2, Event::Linked { at, peer, link });
            }
        }
        let link = self.links[&key];
        if self.rng.random_bool(self.loss) {
            self.faulty = true;
            return;
        }
        let jitter = Duration::from_micros(self.rng.random_range(0..500));
        let last = self.arrivals.entry((from, to)).or_default();
        *last = (self.now.max(link.ready_at) + link.latency + jitter).max(*last);
        let time = *last;
        let again = match &frame {
            Frame::Broadcast(message) if self.rng.random_bool(self.duplication) => {
                Some(Frame::Broadcast(message.clone()))
            }
            _ => None,
        };
        for frame in [Some(frame), again].into_iter().flatten() {
            let link = link.number;
            self.at_time(
                time,
                Event::Frame {
                    from,
                    to,
                    link,
                    frame,
                },
            );
        }
    }

    /// Carries out a member's orders and plans its next wake-up.
    pub(super) fn settle(&mut self, at: u32) {
        while let Some(output) = self.nodes.get_mut(&at).and_then(|n| n.swarm.poll_output()) {
            self.output(at, output);
        }
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        let owed: Vec<u32> = node
            .up
            .iter()
            .copied()
            .filter(|p| node.swarm.owes(*p))
            .collect();
        let fresh: Vec<u32> = owed.into_iter().filter(|p| node.pumps.insert(*p)).collect();
        let wake = node.swarm.poll_timeout();
        let sooner = wake < node.wake;
        if sooner {
            node.wake = wake;
            let time = wake.max(self.now);
            self.at_time(time, Event::Wake(at));
        }
        for peer in fresh {
            self.at(Duration::ZERO, Event::Pump(at, peer));
        }
    }

    fn output(&mut self, at: u32, output: Output<u32, TestContact, TestBundle>) {
        match output {
            Output::Membership { to, message, .. } => {
                self.send(at, to, Frame::Membership(message), true);
            }
            Output::Broadcast { to, message } => {
                self.send(at, to, Frame::Broadcast(message), false);
            }
            Output::NeighbourUp(peer) => {
                assert!(self.node(at).up.insert(peer), "{at}: {peer} up twice");
                if let Some(link) = self.links.get(&pair(at, peer)).copied() {
                    let rtt = link.latency * 2;
                    let now = self.moment();
                    self.node(at).swarm.handle(Input::Rtt { peer, rtt }, now);
                }
            }
            // Nobody is known outside of the swarm.
            Output::WantContacts | Output::Held(_) | Output::Changed(_) => {}
            Output::NeighbourDown(peer) => {
                assert!(self.node(at).up.remove(&peer), "{at}: {peer} was not up");
            }
            Output::Based => {
                let now = self.now;
                assert!(self.node(at).based_at.replace(now).is_none(), "based twice");
            }
            Output::Deliver(Delivered::Bundle { header, from }) => {
                self.delivered(at, &header, from);
            }
            Output::Deliver(Delivered::Gap { stream, from, to }) => self.gap(at, stream, from, to),
            Output::Equivocation(_) => self.node(at).equivocations += 1,
            Output::Refused { .. } => self.node(at).refused += 1,
            Output::Misbehaviour { peer, what } => {
                // Late answers are the one thing that faults make of honest ones.
                assert!(self.faulty, "honest {peer} accused of {what}");
            }
        }
    }
}
