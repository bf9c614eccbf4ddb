//! What the engine drives: a member's protocols as a value, be it one swarm or a whole node.

use std::sync::Arc;
use std::time::Duration;

use weft_dht::lookup::Stats;
use weft_dht::store;
use weft_identity::PeerId;
use weft_overlay::{Now, Time, spread, swarm};

use crate::Engine;
use crate::crowd::Crowd;
use crate::node::{Disks, Keys};

/// A node of a simulation: its index.
pub type NodeId = u32;

/// A place in a publisher's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Who publishes.
    pub publisher: NodeId,
    /// Which run of it.
    pub epoch: u64,
    /// The how-manyth message, from 1.
    pub seq: u64,
}

/// What a frame weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes of messages.
    pub payload: u32,
    /// Bytes that stand around messages in the same frame: headers and signatures.
    pub header: u32,
    /// Bytes of a frame without messages.
    pub control: u32,
}

impl Weight {
    /// Returns all bytes.
    pub const fn bytes(&self) -> u32 {
        self.payload + self.header + self.control
    }
}

/// A frame between two nodes.
pub trait Weighed: Clone {
    /// Returns what it weighs.
    fn weigh(&self) -> Weight;

    /// Names each message that it carries.
    fn carried(&self, each: &mut dyn FnMut(Place));
}

/// Why a link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The other end closed it.
    Closed,
    /// It broke: the other process died, or nothing came through for too long.
    Broken,
}

/// What a machine is told.
#[derive(Clone, Debug)]
pub enum Fact<F> {
    /// A frame came.
    Frame {
        /// From whom.
        from: NodeId,
        /// The frame.
        frame: F,
    },
    /// Its user wants to read the topic, from now on or from the beginning. Whole nodes alone are told.
    Subscribe {
        /// Whether all that is held is wanted.
        all: bool,
    },
    /// A link is up.
    Up {
        /// With whom.
        peer: NodeId,
        /// Whether this end dialled.
        dialled: bool,
    },
    /// A link is down.
    Down {
        /// With whom.
        peer: NodeId,
        /// Why.
        why: Down,
    },
    /// A peer could not be linked to.
    Unreachable {
        /// Who.
        peer: NodeId,
    },
    /// The round trip of a link to a neighbour.
    Rtt {
        /// With whom.
        peer: NodeId,
        /// How long.
        rtt: Duration,
    },
    /// Join through somebody.
    Join {
        /// Through whom.
        via: NodeId,
    },
    /// Contacts that the machine wanted, from outside of its swarm.
    Contacts(Vec<NodeId>),
    /// A partner for a round of gossip that the machine wanted, drawn from all nodes alike.
    Partner(NodeId),
    /// Publish messages.
    Publish {
        /// How many.
        messages: u32,
        /// Bytes of each.
        bytes: u32,
    },
    /// Subscribe to some of many topics.
    SubscribeTo(Vec<u32>),
    /// Publish one message on one of them.
    PublishOn(u32),
    /// Do something with the replicated store.
    Kv {
        /// Names the deed.
        deed: u32,
        /// What.
        call: Box<store::Call<PeerId>>,
    },
    /// Look for the nodes closest to a key.
    LookUp {
        /// Names the lookup.
        lookup: u32,
        /// The key.
        key: [u8; 32],
        /// Over how many disjoint paths.
        paths: usize,
    },
    /// The process had been stopped until now.
    Woken,
}

/// What a machine orders or tells.
#[derive(Clone, Debug)]
pub enum Order<F> {
    /// Send a frame.
    Send {
        /// To whom.
        to: NodeId,
        /// The frame.
        frame: F,
        /// Whether to link first where there is no link; else the frame is dropped.
        dial: bool,
    },
    /// Make a link.
    Dial {
        /// With whom.
        to: NodeId,
    },
    /// Close a link in order.
    Close {
        /// With whom.
        peer: NodeId,
    },
    /// Contacts from outside of the swarm are wanted.
    WantContacts,
    /// A partner for a round of gossip is wanted.
    WantPartner,
    /// A peer has become a neighbour.
    NeighbourUp(NodeId),
    /// Messages were published, and have left.
    Published {
        /// The first.
        first: Place,
        /// How many.
        messages: u32,
        /// Tells these messages from others for the same places.
        mark: u64,
    },
    /// What the member gets from here on begins with all that was ever published.
    ReadsAll,
    /// It is fixed where the member begins: what is published from now on is owed to it.
    Based,
    /// A copy of a message has arrived, first or not: told where frames don't say what they carry.
    Arrived {
        /// Which.
        place: Place,
        /// Bytes of it that were weighed as header.
        payload: u32,
    },
    /// A frame without messages has arrived that belongs to the topic's own swarm: told by nodes, which have others beside it.
    OfTopic {
        /// Its bytes.
        bytes: u32,
    },
    /// A subscriber got messages.
    Delivered {
        /// The first.
        first: Place,
        /// The last seq.
        last: u64,
        /// Links they have travelled.
        hops: u8,
        /// What [`Order::Published`] told of the first.
        mark: u64,
    },
    /// A node that has started again has a publisher's messages up to one of them from before, as it says in its first orders.
    Resumed {
        /// The last.
        last: Place,
    },
    /// A subscriber was told that messages will not come.
    Gap {
        /// The first.
        first: Place,
        /// The last seq.
        last: u64,
    },
    /// Something that was done with the replicated store has ended.
    KvEnded {
        /// Which deed.
        deed: u32,
        /// What became of it.
        outcome: Box<store::Outcome<PeerId>>,
    },
    /// A lookup has ended.
    LookedUp {
        /// Which.
        lookup: u32,
        /// Whom it has found, the closest first.
        closest: Vec<NodeId>,
        /// What it cost.
        stats: Stats,
    },
    /// A peer was accused of what no honest peer does.
    Accused {
        /// Of what.
        what: &'static str,
    },
    /// Something that must never happen in any simulation.
    Violation(String),
}

/// Links of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkCount {
    /// All of them, those for questions included.
    pub all: usize,
    /// Those on which it has a neighbour in any swarm.
    pub shared: usize,
}

/// What a node has of one of many topics.
#[derive(Clone, Debug, Default)]
pub struct OfTopic {
    /// Its neighbours there.
    pub neighbours: Vec<NodeId>,
    /// Bundles that its subscriber got.
    pub delivered: u32,
}

/// What all machines of a scenario are made from.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The swarm's settings.
    pub swarm: swarm::Config,
    /// Nodes that subscribe as they start, the first ones.
    pub subscribers: u32,
    /// How bundles spread.
    pub spread: spread::Spread,
    /// Whether partners are drawn from everybody, in cycles that are in step, without a membership.
    pub everybody: bool,
    /// Nodes without neighbours join through the first so many.
    pub vias: u32,
    /// The keys of whole nodes.
    pub keys: Option<Arc<Keys>>,
    /// The disks of whole nodes.
    pub disks: Option<Arc<Disks>>,
    /// Where all nodes stand in the key space; empty where nobody looks anybody up.
    pub crowd: Arc<Crowd>,
}

/// A member's protocols as a value.
pub trait Machine: Sized {
    /// What it sends.
    type Frame: Weighed;

    /// Whether it watches its links, and makes and closes them, itself. Where it doesn't, the engine links whom it sends
    /// to, drops links that nobody uses, and tells of ends that have fallen silent, as a node's core does.
    const HOLDS_LINKS: bool;

    /// Whether it is told of links that come up ([`Fact::Up`]). Where it has no use for that, half of a large simulation's
    /// events fall away.
    const HEARS_OF_LINKS: bool = true;

    /// Makes the machine of a node that is about to join.
    fn build(plan: &Plan, node: NodeId, seed: u64, now: Now) -> Self;

    /// The node is the first: nobody else is there who could know where the streams stand.
    fn begin(&mut self, now: Now);

    /// Takes a fact.
    fn handle(&mut self, fact: Fact<Self::Frame>, now: Now);

    /// Lets time pass.
    fn handle_timeout(&mut self, now: Now);

    /// Returns when to let time pass.
    fn poll_timeout(&self) -> Time;

    /// Reads a little of all that an event may need, so that it is in the cache when the event comes; returns anything
    /// made of it.
    fn touch(&self) -> u64 {
        0
    }

    /// Returns the next order.
    fn poll_order(&mut self, now: Now) -> Option<Order<Self::Frame>>;

    /// Appends the active view, ascending.
    fn active(&self, into: &mut Vec<NodeId>);

    /// Appends the passive view, ascending.
    fn passive(&self, into: &mut Vec<NodeId>);

    /// Returns whether a peer is in the active view.
    fn is_neighbour(&self, peer: NodeId) -> bool;

    /// Returns what is wrong with its state, if anything: views and queues within their bounds.
    fn check(&self) -> Result<(), String>;

    /// Returns how many links it has; none where the engine holds them.
    fn links(&self) -> LinkCount {
        LinkCount::default()
    }

    /// Returns what it has of one of many topics; none where it is no member of its swarm.
    fn of_topic(&self, _topic: u32) -> Option<OfTopic> {
        None
    }

    /// Returns how its part of the replicated store fares; none where it has none.
    fn store(&self) -> Option<store::Counters> {
        None
    }

    /// Returns whether it still repairs: something is missing that a neighbour has, or owed to one.
    fn is_repairing(&self) -> bool;

    /// Returns whether deliveries are in each publisher's order, as trees promise and epidemics don't.
    fn is_ordered(&self) -> bool;

    /// Returns a network in the same state; none where that can't be had.
    fn fork(engine: &Engine<Self>) -> Option<Engine<Self>>;
}
