//! One swarm at one member, as a machine: `weft_overlay::Swarm` and what a node's core does around it.

use std::collections::VecDeque;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use weft_overlay::delivery::Delivered;
use weft_overlay::swarm::{Input, Output};
use weft_overlay::{Bundle, Header, Now, Swarm, Time, hyparview, plumtree};

use crate::Engine;
use crate::machine::{Fact, Machine, NodeId, Order, Place, Plan, Weighed, Weight};
use crate::rejoin::Rejoin;
use crate::values::{Publisher, SimBundle, SimContact, mark_of, place_of};

/// Bytes that a neighbour is supplied at once, and a second: as a link's lane for repair takes them.
const SUPPLY_BYTES: usize = 64 * 1024;
const SUPPLY_RATE: u64 = 8 * 1024 * 1024;

/// Length, topic and kind of a frame.
pub(crate) const FRAME: usize = 12;
/// A contact with its signature and an address.
pub(crate) const CONTACT: usize = 160;
/// A stream's id, and what a digest says of it beside ranges.
pub(crate) const STREAM: usize = 44;
pub(crate) const DIGEST: usize = 40;
/// A span of streams with its sum.
const SPAN: usize = 14;
/// A range of seqs.
pub(crate) const RANGE: usize = 6;
/// A bundle's signature, predecessor, times and ids.
pub(crate) const BUNDLE: usize = 180;

/// Estimates what a message of the membership takes.
pub(crate) fn membership_bytes(message: &hyparview::Message<SimContact>) -> usize {
    match message {
        hyparview::Message::Join { .. }
        | hyparview::Message::ForwardJoin { .. }
        | hyparview::Message::Neighbor { .. }
        | hyparview::Message::NeighborReply { .. } => CONTACT,
        hyparview::Message::Disconnect { .. } => 2,
        hyparview::Message::Shuffle { sample, .. } => CONTACT * (sample.len() + 1),
        hyparview::Message::ShuffleReply { sample } => CONTACT * sample.len(),
    }
}

/// What goes from one member to another.
#[derive(Clone, Debug)]
pub enum Frame {
    /// Of the membership.
    Membership(hyparview::Message<SimContact>),
    /// Of the broadcast.
    Broadcast(plumtree::Message<NodeId, SimBundle>),
}

impl Weighed for Frame {
    /// Estimates what the daemon's encoding takes; whole nodes (`engine = "core"`) weigh what they encode.
    fn weigh(&self) -> Weight {
        let control = match self {
            Self::Membership(message) => membership_bytes(message),
            Self::Broadcast(message) => match message {
                plumtree::Message::Bundle { bundle, .. } => {
                    return Weight {
                        payload: bundle.payload_bytes(),
                        header: u32::try_from(FRAME + BUNDLE).unwrap_or(u32::MAX),
                        control: 0,
                    };
                }
                plumtree::Message::Duplicate { .. } => 0,
                plumtree::Message::Digest { kind, streams, .. } => {
                    let streams = streams
                        .iter()
                        .map(|stream| STREAM + DIGEST + stream.seqs.range_count() * RANGE);
                    streams.sum::<usize>() + kind.spans().len() * SPAN
                }
                plumtree::Message::Fingerprint { .. } => 68,
                plumtree::Message::Split { parts, .. } => 5 + parts.len() * SPAN,
                plumtree::Message::Beacon(_) => 50,
                plumtree::Message::Graft { trees } | plumtree::Message::Prune { trees } => {
                    trees.len() * 36
                }
                plumtree::Message::Want { ranges } => ranges
                    .iter()
                    .map(|(_, seqs)| STREAM + seqs.range_count() * RANGE)
                    .sum(),
            },
        };
        Weight {
            control: u32::try_from(FRAME + control).unwrap_or(u32::MAX),
            ..Weight::default()
        }
    }

    fn carried(&self, each: &mut dyn FnMut(Place)) {
        if let Self::Broadcast(plumtree::Message::Bundle { bundle, .. }) = self {
            each(place_of(&bundle.header()));
        }
    }
}

/// A neighbour that is being supplied.
#[derive(Clone, Copy, Debug)]
struct Supply {
    peer: NodeId,
    next: Time,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    me: NodeId,
    swarm: Swarm<SimContact, SimBundle>,
    rejoin: Rejoin,
    /// What comes before the swarm's orders: of a publisher alone.
    orders: VecDeque<Order<Frame>>,
    publisher: Option<Box<Publisher>>,
    supplies: Vec<Supply>,
    /// When to let time pass: looked up in everything that it has once an event, not each time that the engine asks.
    timeout: Time,
}

impl Member {
    fn publish(&mut self, messages: u32, bytes: u32, now: Now) {
        for _ in 0..messages {
            let publisher = self
                .publisher
                .get_or_insert_with(|| Box::new(Publisher::begin(self.me, now.unix)));
            let bundle = publisher.next(bytes, now.unix);
            let header = bundle.header();
            self.orders.push_back(Order::Published {
                first: place_of(&header),
                messages: 1,
                mark: mark_of(&header),
            });
            self.swarm.publish(bundle, now);
            // Before the next one: a delivery is told with the hops of the bundle that is held.
            while let Some(order) = self.next_of_swarm() {
                self.orders.push_back(order);
            }
        }
    }

    /// Returns the swarm's next order, as one of the engine's.
    fn next_of_swarm(&mut self) -> Option<Order<Frame>> {
        loop {
            return Some(match self.swarm.poll_output()? {
                Output::Membership { to, message, .. } => Order::Send {
                    to,
                    frame: Frame::Membership(message),
                    dial: true,
                },
                Output::Broadcast { to, message } => Order::Send {
                    to,
                    frame: Frame::Broadcast(message),
                    dial: false,
                },
                Output::NeighbourUp(peer) => Order::NeighbourUp(peer),
                Output::NeighbourDown(peer) => {
                    self.supplies.retain(|supply| supply.peer != peer);
                    continue;
                }
                Output::Based => Order::Based,
                Output::Deliver(Delivered::Bundle { header, from }) => self.delivery(&header, from),
                Output::Deliver(Delivered::Gap { stream, from, to }) => Order::Gap {
                    first: Place {
                        publisher: stream.publisher,
                        epoch: stream.epoch,
                        seq: from,
                    },
                    last: to,
                },
                Output::Equivocation(header) => {
                    let what = format!("an equivocation of n{}", header.stream.publisher);
                    Order::Violation(what)
                }
                Output::WantContacts => Order::WantContacts,
                Output::Refused { .. } | Output::Held(_) | Output::Changed(_) => continue,
                Output::Misbehaviour { what, .. } => Order::Accused { what },
            });
        }
    }

    fn delivery(&self, header: &Header<NodeId>, from: u64) -> Order<Frame> {
        let hops = self.swarm.held(header).map_or(0, |held| held.hops);
        let mut first = place_of(header);
        first.seq = from;
        Order::Delivered {
            first,
            last: header.last,
            hops,
            mark: mark_of(header),
        }
    }

    /// The end of every event: looks whether it has come to be alone, and what is due next.
    fn conclude(&mut self, now: Now) {
        let is_alone = self.swarm.membership().active().next().is_none();
        self.rejoin.neighbours(is_alone, now);
        let supplies = self.supplies.iter().map(|supply| supply.next);
        self.timeout = supplies
            .chain([self.swarm.poll_timeout(), self.rejoin.poll_timeout()])
            .min()
            .unwrap_or(Time::NEVER);
    }

    fn join(&mut self, via: NodeId, now: Now) {
        if via != self.me {
            self.swarm.handle(Input::Join { via }, now);
        }
    }

    /// Supplies the neighbours that have asked, at the pace of a link.
    fn supply(&mut self, now: Now) {
        for index in 0..self.supplies.len() {
            let Supply { peer, next } = self.supplies[index];
            if next > now.time {
                continue;
            }
            let ordered = self.swarm.supply(peer, SUPPLY_BYTES, now) as u64;
            let pause = Duration::from_micros(1 + ordered * 1_000_000 / SUPPLY_RATE);
            self.supplies[index].next = now.time + pause;
        }
        self.supplies.retain(|supply| self.swarm.owes(supply.peer));
    }

    /// Begins to supply a neighbour that has just asked.
    fn note_debt(&mut self, peer: NodeId, now: Now) {
        if self.swarm.owes(peer) && self.supplies.iter().all(|supply| supply.peer != peer) {
            self.supplies.push(Supply {
                peer,
                next: now.time,
            });
            self.supply(now);
        }
    }
}

impl Machine for Member {
    type Frame = Frame;

    const HOLDS_LINKS: bool = false;

    fn build(plan: &Plan, node: NodeId, seed: u64, now: Now) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let contact = SimContact::new(node, now.unix);
        let mut member = Self {
            me: node,
            swarm: Swarm::new(contact, plan.swarm.clone(), &mut rng, now),
            rejoin: Rejoin::new(plan.vias, seed),
            orders: VecDeque::new(),
            publisher: None,
            supplies: Vec::new(),
            timeout: Time::NEVER,
        };
        member.conclude(now);
        member
    }

    fn begin(&mut self, now: Now) {
        self.swarm.handle(Input::Alone, now);
        self.conclude(now);
    }

    fn handle(&mut self, fact: Fact<Frame>, now: Now) {
        match fact {
            Fact::Frame {
                from,
                frame: Frame::Membership(message),
            } => self.swarm.handle(Input::Membership { from, message }, now),
            Fact::Frame {
                from,
                frame: Frame::Broadcast(message),
            } => {
                let asks = matches!(message, plumtree::Message::Want { .. });
                self.swarm.handle(Input::Broadcast { from, message }, now);
                if asks {
                    self.note_debt(from, now);
                }
            }
            Fact::Up { peer, .. } => self.swarm.handle(Input::PeerUp(peer), now),
            Fact::Down { peer, .. } | Fact::Unreachable { peer } => {
                self.swarm.handle(Input::PeerLost(peer), now);
            }
            Fact::Rtt { peer, rtt } => self.swarm.handle(Input::Rtt { peer, rtt }, now),
            Fact::Join { via } => self.join(via, now),
            Fact::Contacts(peers) => {
                let contacts = peers
                    .into_iter()
                    .map(|peer| SimContact::new(peer, now.unix))
                    .collect();
                self.swarm.handle(Input::Learned(contacts), now);
            }
            Fact::Partner(_)
            | Fact::LookUp { .. }
            | Fact::Kv { .. }
            | Fact::Subscribe { .. }
            | Fact::SubscribeTo(_)
            | Fact::PublishOn(_) => {}
            Fact::Publish { messages, bytes } => self.publish(messages, bytes, now),
            Fact::Woken => self.swarm.forgive(now),
        }
        self.conclude(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.swarm.poll_timeout() <= now.time {
            self.swarm.handle_timeout(now);
        }
        if let Some(via) = self.rejoin.due(now) {
            self.join(via, now);
        }
        self.supply(now);
        self.conclude(now);
    }

    fn poll_timeout(&self) -> Time {
        self.timeout
    }

    fn touch(&self) -> u64 {
        self.swarm.poll_timeout().as_micros()
    }

    fn poll_order(&mut self, _now: Now) -> Option<Order<Frame>> {
        if let Some(order) = self.orders.pop_front() {
            return Some(order);
        }
        self.next_of_swarm()
    }

    fn active(&self, into: &mut Vec<NodeId>) {
        into.extend(self.swarm.membership().active());
    }

    fn passive(&self, into: &mut Vec<NodeId>) {
        into.extend(
            self.swarm
                .membership()
                .passive_view()
                .map(|entry| entry.peer),
        );
    }

    fn is_neighbour(&self, peer: NodeId) -> bool {
        self.swarm.membership().is_active(peer)
    }

    fn check(&self) -> Result<(), String> {
        self.swarm.check()
    }

    fn is_repairing(&self) -> bool {
        !self.supplies.is_empty() || self.swarm.lacks()
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn fork(engine: &Engine<Self>) -> Option<Engine<Self>> {
        Some(engine.clone())
    }
}
