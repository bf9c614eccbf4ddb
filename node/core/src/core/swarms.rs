//! The swarms: opening and closing them, telling them facts, and translating their orders.

use std::sync::Arc;

use weft_identity::PeerId;
use weft_overlay::delivery::Delivered as Due;
use weft_overlay::history::Refusal;
use weft_overlay::plumtree::{self, Push, Start};
use weft_overlay::retained::{Extent, Retained};
use weft_overlay::{Now, Swarm, Time, hyparview, swarm};

use super::Core;
use super::exchange::Exchange;
use super::logs::history_of;
use super::publish::Publishing;
use super::rendezvous::Rendezvous;
use crate::input::Reach;
use crate::wire::{OutFrame, encode_broadcast, encode_membership};
use crate::{
    Delivered, Event, Lane, Output, PeerContact, Reply, RequestId, TopicBundle, TopicId, TopicName,
};

/// Bytes of history that a node holds over all topics: bodies are in memory, whether they are on disk too or not.
const HISTORY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How often a topic's swarm probes a lost peer itself.
const TOPIC_PROBES: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) type TopicSwarm = Swarm<PeerContact, TopicBundle>;

/// A swarm that the node is a member of.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: TopicName,
    pub(super) swarm: TopicSwarm,
    pub(super) timer: Time,
    pub(super) joined_at: Time,
    pub(super) used_at: Time,
    pub(super) subscriptions: usize,
    /// Whether this node is one of those that keep the topic's history.
    pub(super) keeps: bool,
    /// Subscribers that wait for the base, and for what lies before it.
    pub(super) waiting: Vec<Waiting>,
    pub(super) rendezvous: Rendezvous,
    pub(super) exchange: Option<Exchange>,
    /// How far before the base the history reaches that keepers had.
    pub(super) reached: Reach,
    pub(super) publishing: Publishing,
    pub(super) history_bytes: usize,
    pub(super) messages_delivered: u64,
    pub(super) messages_lost: u64,
}

/// A subscriber that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) request: RequestId,
    pub(super) reach: Reach,
}

impl Core {
    /// Becomes a member of a topic's swarm.
    pub(super) fn open_swarm(&mut self, name: TopicName, start: Start, now: Now) -> TopicId {
        let topic = name.id(&self.network);
        if self.swarms.contains_key(&topic) {
            return topic;
        }
        let mut config = swarm::Config::default();
        let broadcast = Arc::make_mut(&mut config.broadcast);
        broadcast.start = start;
        if topic != self.root {
            // The root swarm looks for lost peers; a topic's hears of the link that it makes.
            Arc::make_mut(&mut config.membership).probe_interval = TOPIC_PROBES;
        }
        let entry = Entry {
            swarm: self.make_swarm(topic, &name, config, now),
            name,
            timer: Time::NEVER,
            joined_at: now.time,
            used_at: now.time,
            subscriptions: 0,
            keeps: false,
            waiting: Vec::new(),
            rendezvous: Rendezvous::new(now),
            exchange: None,
            reached: Reach::Base,
            publishing: Publishing::default(),
            history_bytes: 0,
            messages_delivered: 0,
            messages_lost: 0,
        };
        self.swarms.insert(topic, entry);
        if let Some(links) = self.links_told() {
            self.tell_swarm(topic, swarm::Input::Links(links), now);
        }
        self.drain(topic, now);
        topic
    }

    /// Makes a topic's swarm, which goes on where the node stopped in it earlier, and the log where there is none.
    fn make_swarm(
        &mut self,
        topic: TopicId,
        name: &TopicName,
        mut config: swarm::Config,
        now: Now,
    ) -> TopicSwarm {
        let me = self.contact.clone();
        if topic == self.root {
            return Swarm::new(me, config, &mut self.rng, now);
        }
        let retained = self.wake_log(topic);
        let extent = retained.as_ref().map_or(Extent::Own, Retained::extent);
        Arc::make_mut(&mut config.broadcast).history = history_of(extent);
        if let Some(retained) = retained {
            return Swarm::resume(me, config, retained, &mut self.rng, now);
        }
        self.begin_log(topic, name.clone(), now);
        Swarm::new(me, config, &mut self.rng, now)
    }

    /// Leaves a swarm with a goodbye to its neighbours.
    pub(super) fn close_swarm(&mut self, topic: TopicId, now: Now) {
        self.tell_swarm(topic, swarm::Input::Leave, now);
        if let Some(entry) = self.swarms.remove(&topic) {
            if entry.rendezvous.is_provided {
                self.stop_providing_topic(topic, now);
            }
            self.timers.remove(&(entry.timer, topic));
            self.history_bytes -= entry.history_bytes;
            self.rest_log(topic, entry.swarm);
        }
        for link in self.links.values_mut() {
            if link.neighbour_in.remove(&topic) {
                link.touch(now);
            }
        }
        self.links_moved();
    }

    /// Tells a swarm a fact and carries out what it orders.
    pub(super) fn tell_swarm(
        &mut self,
        topic: TopicId,
        input: swarm::Input<PeerId, PeerContact, TopicBundle>,
        now: Now,
    ) {
        if let Some(entry) = self.swarms.get_mut(&topic) {
            entry.swarm.handle(input, now);
            self.drain(topic, now);
        }
    }

    /// A link has gone: every swarm that needs its peer shall know.
    pub(super) fn peer_lost(&mut self, peer: PeerId, now: Now) {
        let needs = |entry: &Entry| entry.swarm.membership().needs(peer);
        for topic in self.swarms_where(needs) {
            self.tell_swarm(topic, swarm::Input::PeerLost(peer), now);
        }
    }

    /// Returns the topics of the swarms of which something holds: a node in hundreds of them tells each only what concerns it.
    pub(super) fn swarms_where(&self, holds: impl Fn(&Entry) -> bool) -> Vec<TopicId> {
        let swarms = self.swarms.iter().filter(|(_, entry)| holds(entry));
        swarms.map(|(topic, _)| *topic).collect()
    }

    /// A swarm's frame can't reach its peer; told when what is being drained has been.
    pub(super) fn unreachable(&mut self, topic: TopicId, peer: PeerId) {
        self.unreachable.push_back((topic, peer));
    }

    pub(super) fn membership_came(
        &mut self,
        peer: PeerId,
        topic: TopicId,
        message: hyparview::Message<PeerContact>,
        now: Now,
    ) {
        if self.swarms.contains_key(&topic) {
            self.touch_link(peer, now);
            self.learn_from(&message, now);
            return self.tell_swarm(
                topic,
                swarm::Input::Membership {
                    from: peer,
                    message,
                },
                now,
            );
        }
        self.count("frames_of_other_swarms");
        // Who asks for something here learns that this node is no member. A Disconnect is never answered.
        if !matches!(message, hyparview::Message::Disconnect { .. }) {
            self.send_not_a_member(peer, topic);
        }
    }

    pub(super) fn broadcast_came(
        &mut self,
        peer: PeerId,
        topic: TopicId,
        message: plumtree::Message<PeerId, TopicBundle>,
        now: Now,
    ) {
        if !self.swarms.contains_key(&topic) {
            self.count("frames_of_other_swarms");
            return self.send_not_a_member(peer, topic);
        }
        let is_bundle = matches!(message, plumtree::Message::Bundle { .. });
        if is_bundle && topic == self.root {
            self.count("bundles_on_the_root");
            let what = "a bundle in the swarm of all nodes, where nobody publishes";
            return self.event(Event::Misbehaviour { peer, what });
        }
        if !is_bundle && !self.neighbour_in(peer).contains(&topic) {
            self.strange_frame(peer);
        }
        let wants = matches!(message, plumtree::Message::Want { .. });
        self.tell_swarm(
            topic,
            swarm::Input::Broadcast {
                from: peer,
                message,
            },
            now,
        );
        if wants {
            self.owe(peer, topic, now);
        }
    }

    fn send_not_a_member(&mut self, peer: PeerId, topic: TopicId) {
        let message = hyparview::Message::Disconnect {
            reason: hyparview::Goodbye::Leaving,
        };
        self.send_control(peer, encode_membership(topic, &message));
    }

    /// Carries out a swarm's orders, and those that follow from them, until there are none.
    pub(super) fn drain(&mut self, topic: TopicId, now: Now) {
        self.drain_one(topic, now);
        // An order may have filled a lane or met a peer that can't be reached; other swarms hear of that too.
        self.tell_newly_congested(now);
        while let Some((topic, peer)) = self.unreachable.pop_front() {
            if let Some(entry) = self.swarms.get_mut(&topic) {
                entry.swarm.handle(swarm::Input::PeerLost(peer), now);
                self.drain_one(topic, now);
            }
        }
    }

    fn drain_one(&mut self, topic: TopicId, now: Now) {
        loop {
            let Some(entry) = self.swarms.get_mut(&topic) else {
                return;
            };
            let Some(output) = entry.swarm.poll_output() else {
                break;
            };
            self.swarm_output(topic, output, now);
        }
        if let Some(entry) = self.swarms.get_mut(&topic) {
            let at = entry.swarm.poll_timeout();
            if at != entry.timer {
                self.timers.remove(&(entry.timer, topic));
                entry.timer = at;
                if at != Time::NEVER {
                    self.timers.insert((at, topic));
                }
            }
            let bytes = entry.swarm.history().bytes();
            self.history_bytes = self.history_bytes - entry.history_bytes + bytes;
            entry.history_bytes = bytes;
        }
    }

    fn swarm_output(
        &mut self,
        topic: TopicId,
        output: swarm::Output<PeerId, PeerContact, TopicBundle>,
        now: Now,
    ) {
        match output {
            swarm::Output::Membership {
                to,
                contact,
                message,
            } => {
                if let hyparview::Message::NeighborReply {
                    accepted: false, ..
                } = message
                {
                    self.count("neighbours_refused");
                }
                let frame = encode_membership(topic, &message);
                self.send_or_dial(topic, to, contact, frame, now);
            }
            swarm::Output::Broadcast { to, message } => {
                self.send_broadcast(topic, to, &message, now);
            }
            swarm::Output::NeighbourUp(peer) => self.neighbour_up(topic, peer, now),
            swarm::Output::NeighbourDown(peer) => self.neighbour_down(topic, peer, now),
            swarm::Output::Based => {
                self.log_based(topic);
                self.based(topic, now);
            }
            swarm::Output::WantContacts => self.feed(topic, now),
            swarm::Output::Held(header) => self.log_held(topic, &header),
            swarm::Output::Changed(change) => self.log_changed(topic, change, now),
            swarm::Output::Deliver(due) => self.deliver(topic, due, now),
            swarm::Output::Equivocation(header) => {
                self.count("equivocations");
                if let Some(entry) = self.swarms.get(&topic) {
                    let event = Event::Equivocation {
                        topic: entry.name.clone(),
                        publisher: header.stream.publisher,
                        epoch: header.stream.epoch,
                        seq: header.first,
                    };
                    self.event(event);
                }
            }
            swarm::Output::Refused { from, refusal } => {
                let what = refusal_name(refusal);
                self.count(what);
                self.event(Event::Misbehaviour { peer: from, what });
            }
            swarm::Output::Misbehaviour { peer, what } => {
                self.count("misbehaviour");
                self.event(Event::Misbehaviour { peer, what });
            }
        }
    }

    fn send_broadcast(
        &mut self,
        topic: TopicId,
        to: PeerId,
        message: &plumtree::Message<PeerId, TopicBundle>,
        now: Now,
    ) {
        let frame: OutFrame = encode_broadcast(topic, message);
        match message {
            plumtree::Message::Bundle {
                push: Push::Eager, ..
            } => self.send_bundle(to, Lane::Data, frame, now),
            plumtree::Message::Bundle { .. } => self.send_bundle(to, Lane::Repair, frame, now),
            _ => self.send_control(to, frame),
        }
    }

    fn neighbour_up(&mut self, topic: TopicId, peer: PeerId, now: Now) {
        let was_alone = topic == self.root && self.count_neighbours(topic) == 0;
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let is_first = link.neighbour_in.is_empty();
        link.neighbour_in.insert(topic);
        let (rtt, congested) = (link.rtt, link.congested_since.is_some());
        if is_first {
            self.links_moved();
        }
        if was_alone {
            self.event(Event::Joined { peer });
        }
        if let Some(entry) = self.swarms.get_mut(&topic) {
            if let Some(rtt) = rtt {
                entry.swarm.handle(swarm::Input::Rtt { peer, rtt }, now);
            }
            if congested {
                entry
                    .swarm
                    .handle(swarm::Input::Congested { peer, congested }, now);
            }
        }
    }

    fn neighbour_down(&mut self, topic: TopicId, peer: PeerId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.neighbour_in.remove(&topic);
            link.touch(now);
        }
        self.links_moved();
        if topic == self.root && !self.stopping && self.root_is_alone() {
            self.event(Event::Isolated);
        }
    }

    fn count_neighbours(&self, topic: TopicId) -> usize {
        self.links
            .values()
            .filter(|link| link.neighbour_in.contains(&topic))
            .count()
    }

    fn based(&mut self, topic: TopicId, now: Now) {
        self.exchange_if_due(topic, now);
        self.answer_subscribers(topic);
    }

    fn deliver(&mut self, topic: TopicId, due: Due<PeerId>, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let item = match due {
            Due::Bundle { header, from } => {
                entry.messages_delivered += header.last - from + 1;
                let Some(held) = entry.swarm.held(&header) else {
                    debug_assert!(false, "what is delivered is held");
                    return;
                };
                Delivered::Bundle {
                    bundle: held.bundle.clone(),
                    from,
                    hops: held.hops,
                    received_at: held.received_at,
                }
            }
            Due::Gap { stream, from, to } => {
                entry.messages_lost += to - from + 1;
                Delivered::Gap {
                    publisher: stream.publisher,
                    epoch: stream.epoch,
                    from,
                    to,
                }
            }
        };
        let name = entry.name.clone();
        if let Delivered::Gap {
            publisher,
            epoch,
            from,
            to,
        } = item
        {
            self.event(Event::Lost {
                topic: name.clone(),
                publisher,
                epoch,
                from,
                to,
            });
        }
        if let Some(place) = self.log_arrival(topic, &item, now) {
            self.outputs.push_back(Output::Deliver {
                topic: name,
                place,
                item,
            });
        }
    }

    /// Keeps the histories of all topics together within their bound.
    pub(super) fn bound_history(&mut self, now: Now) {
        while self.history_bytes + self.logs.rest_bytes() > HISTORY_BYTES_MAX {
            // What is at rest goes first: nobody reads it just now.
            if self.shorten_at_rest(now) {
                continue;
            }
            let largest = self
                .swarms
                .iter_mut()
                .max_by_key(|(_, entry)| entry.history_bytes);
            let Some((&topic, entry)) = largest else {
                return;
            };
            if entry.swarm.make_room() == 0 {
                return;
            }
            self.drain(topic, now);
        }
    }
}

impl Entry {
    /// Returns what a subscriber is answered.
    pub(super) fn subscribed(&self) -> Reply {
        Reply::Subscribed {
            neighbours: self.swarm.membership().active().count(),
            heads: self.swarm.heads(),
        }
    }
}

const fn refusal_name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TooOld => "bundles_too_old",
        Refusal::Future => "bundles_of_the_future",
        Refusal::RetiredEpoch => "bundles_of_retired_epochs",
        Refusal::BrokenChain => "bundles_with_a_broken_chain",
        Refusal::TooManyHoles => "bundles_past_too_many_holes",
        Refusal::TooManyStreams => "bundles_past_too_many_streams",
    }
}
