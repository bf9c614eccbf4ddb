//! A member of an epidemic, as a machine: what trees are compared with. Over HyParView's views, or with partners drawn from
//! everybody.

use std::collections::VecDeque;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use weft_overlay::hyparview::{self, Membership};
use weft_overlay::spread::{self, Carried, Epidemic, Message};
use weft_overlay::{Bundle, Now, Time};

use crate::Engine;
use crate::machine::{Fact, Machine, NodeId, Order, Place, Plan, Weighed, Weight};
use crate::rejoin::Rejoin;
use crate::swarm::{BUNDLE, DIGEST, FRAME, RANGE, STREAM, membership_bytes};
use crate::values::{Publisher, SimBundle, SimContact, mark_of, place_of};

/// What goes from one member to another.
#[derive(Clone, Debug)]
pub enum Frame {
    /// Of the membership.
    Membership(hyparview::Message<SimContact>),
    /// Of the epidemic.
    Epidemic(Message<NodeId, SimBundle>),
}

impl Frame {
    fn bundles(&self) -> &[Carried<SimBundle>] {
        match self {
            Self::Epidemic(Message::Flood(carried)) => std::slice::from_ref(carried),
            Self::Epidemic(Message::Rumors { rumors, .. }) => rumors,
            Self::Epidemic(Message::Supply { bundles }) => bundles,
            Self::Epidemic(_) | Self::Membership(_) => &[],
        }
    }
}

impl Weighed for Frame {
    fn weigh(&self) -> Weight {
        let bundles = self.bundles();
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        if !bundles.is_empty() {
            return Weight {
                payload: bundles.iter().map(|c| c.bundle.payload_bytes()).sum(),
                header: bytes(FRAME + BUNDLE * bundles.len()),
                control: 0,
            };
        }
        let control = match self {
            Self::Membership(message) => membership_bytes(message),
            Self::Epidemic(message) => match message {
                Message::Feedback { verdicts } => (STREAM + 5) * verdicts.len(),
                Message::Digest { streams, .. } => streams
                    .iter()
                    .map(|stream| STREAM + DIGEST + stream.seqs.range_count() * RANGE)
                    .sum(),
                Message::Want { ranges } => ranges
                    .iter()
                    .map(|(_, seqs)| STREAM + seqs.range_count() * RANGE)
                    .sum(),
                Message::Flood(_) | Message::Rumors { .. } | Message::Supply { .. } => 0,
            },
        };
        Weight {
            control: bytes(FRAME + control),
            ..Weight::default()
        }
    }

    fn carried(&self, each: &mut dyn FnMut(Place)) {
        for carried in self.bundles() {
            each(place_of(&carried.bundle.header()));
        }
    }
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    me: NodeId,
    /// None where partners are drawn from everybody.
    membership: Option<Membership<NodeId, SimContact>>,
    epidemic: Epidemic<SimBundle>,
    rejoin: Rejoin,
    orders: VecDeque<Order<Frame>>,
    publisher: Option<Box<Publisher>>,
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
            self.epidemic.handle(spread::Input::Publish(bundle), now);
            self.drain(now);
        }
    }

    fn membership(&mut self, input: hyparview::Input<NodeId, SimContact>, now: Now) {
        if let Some(membership) = &mut self.membership {
            membership.handle(input, now);
        }
    }

    fn drain(&mut self, now: Now) {
        loop {
            let membership = self.membership.as_mut();
            if let Some(output) = membership.and_then(Membership::poll_output) {
                self.membership_output(output, now);
            } else if let Some(output) = self.epidemic.poll_output() {
                self.epidemic_output(output);
            } else {
                break;
            }
        }
        if let Some(membership) = &self.membership {
            let is_alone = membership.active().next().is_none();
            self.rejoin.neighbours(is_alone, now);
        }
    }

    fn membership_output(&mut self, output: hyparview::Output<NodeId, SimContact>, now: Now) {
        match output {
            hyparview::Output::Send { to, message, .. } => {
                let frame = Frame::Membership(message);
                let dial = true;
                self.orders.push_back(Order::Send { to, frame, dial });
            }
            hyparview::Output::NeighborUp { peer } => {
                self.orders.push_back(Order::NeighbourUp(peer));
                self.epidemic.handle(spread::Input::NeighbourUp(peer), now);
            }
            hyparview::Output::NeighborDown { peer } => {
                self.epidemic
                    .handle(spread::Input::NeighbourDown(peer), now);
            }
            hyparview::Output::WantContacts => self.orders.push_back(Order::WantContacts),
            hyparview::Output::Misbehaviour { what, .. } => {
                self.orders.push_back(Order::Accused { what });
            }
        }
    }

    fn epidemic_output(&mut self, output: spread::Output<NodeId, SimBundle>) {
        self.orders.push_back(match output {
            spread::Output::Send { to, message } => Order::Send {
                to,
                frame: Frame::Epidemic(message),
                // Without a membership nobody else makes links.
                dial: self.membership.is_none(),
            },
            spread::Output::New { header, hops } => Order::Delivered {
                first: place_of(&header),
                last: header.last,
                hops,
                mark: mark_of(&header),
            },
            spread::Output::Partner => Order::WantPartner,
        });
    }
}

impl Machine for Member {
    type Frame = Frame;

    const HOLDS_LINKS: bool = false;

    fn build(plan: &Plan, node: NodeId, seed: u64, now: Now) -> Self {
        let rng = ChaCha8Rng::seed_from_u64;
        let contact = SimContact::new(node, now.unix);
        let config = if plan.everybody {
            spread::Config {
                partners: spread::Partners::Owner,
                phase: spread::Phase::Aligned,
            }
        } else {
            spread::Config::default()
        };
        let membership = Membership::new(contact, plan.swarm.membership.clone(), rng(seed), now);
        let epidemic = Epidemic::new(plan.spread, config, rng(seed ^ 1), now);
        Self {
            me: node,
            membership: (!plan.everybody).then_some(membership),
            epidemic: epidemic.expect("trees are run by the swarm's member"),
            rejoin: Rejoin::new(if plan.everybody { 0 } else { plan.vias }, seed ^ 2),
            orders: VecDeque::from([Order::Based]),
            publisher: None,
        }
    }

    fn begin(&mut self, _now: Now) {}

    fn handle(&mut self, fact: Fact<Frame>, now: Now) {
        match fact {
            Fact::Frame {
                from,
                frame: Frame::Membership(message),
            } => self.membership(hyparview::Input::Received { from, message }, now),
            Fact::Frame {
                from,
                frame: Frame::Epidemic(message),
            } => self
                .epidemic
                .handle(spread::Input::Received { from, message }, now),
            Fact::Up { peer, .. } => self.membership(hyparview::Input::PeerUp { peer }, now),
            Fact::Down { peer, .. } | Fact::Unreachable { peer } => {
                self.membership(hyparview::Input::PeerLost { peer }, now);
            }
            Fact::Join { via } if via != self.me => {
                self.membership(hyparview::Input::Join { via }, now);
            }
            Fact::Contacts(peers) => {
                let contacts = peers
                    .into_iter()
                    .map(|peer| SimContact::new(peer, now.unix))
                    .collect();
                self.membership(hyparview::Input::Learned { contacts }, now);
            }
            Fact::Partner(peer) => self.epidemic.handle(spread::Input::Partner(peer), now),
            Fact::Publish { messages, bytes } => self.publish(messages, bytes, now),
            Fact::Rtt { .. }
            | Fact::Join { .. }
            | Fact::LookUp { .. }
            | Fact::Subscribe { .. }
            | Fact::Kv { .. }
            | Fact::SubscribeTo(_)
            | Fact::PublishOn(_)
            | Fact::Woken => {}
        }
        self.drain(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        if let Some(membership) = &mut self.membership
            && membership.poll_timeout() <= now.time
        {
            membership.handle_timeout(now);
        }
        if self.epidemic.poll_timeout() <= now.time {
            self.epidemic.handle_timeout(now);
        }
        if let Some(via) = self.rejoin.due(now).filter(|via| *via != self.me) {
            self.membership(hyparview::Input::Join { via }, now);
        }
        self.drain(now);
    }

    fn poll_timeout(&self) -> Time {
        let membership = self.membership.as_ref().map(Membership::poll_timeout);
        membership
            .unwrap_or(Time::NEVER)
            .min(self.epidemic.poll_timeout())
            .min(self.rejoin.poll_timeout())
    }

    fn poll_order(&mut self, now: Now) -> Option<Order<Frame>> {
        if self.orders.is_empty() {
            self.drain(now);
        }
        self.orders.pop_front()
    }

    fn active(&self, into: &mut Vec<NodeId>) {
        into.extend(self.membership.iter().flat_map(Membership::active));
    }

    fn passive(&self, into: &mut Vec<NodeId>) {
        let views = self.membership.iter().flat_map(Membership::passive_view);
        into.extend(views.map(|entry| entry.peer));
    }

    fn is_neighbour(&self, peer: NodeId) -> bool {
        let membership = self.membership.as_ref();
        membership.is_some_and(|membership| membership.is_active(peer))
    }

    fn check(&self) -> Result<(), String> {
        self.membership.as_ref().map_or(Ok(()), Membership::check)
    }

    fn is_repairing(&self) -> bool {
        false
    }

    fn is_ordered(&self) -> bool {
        false
    }

    fn fork(engine: &Engine<Self>) -> Option<Engine<Self>> {
        Some(engine.clone())
    }
}
