//! Broadcast in one swarm: Plumtree's trees over the active view, and the one repair that makes them complete.
//!
//! Source: Leitão, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007. Where this differs:
//! - a tree for each publisher, directed by a remembered parent ([`trees`]);
//! - the paper's IHAVE is a *digest*: what a member has of a stream, cumulative. It announces, acknowledges and serves the exchange
//!   of two neighbours that meet or compare notes; a lost one is made good by the next;
//! - the paper's missing-message timer and a digest that shows something missing end in the same request (the private module `wants`);
//! - what a neighbour has is known by its word alone: it isn't pushed what it has, and is not assumed to have what was pushed to it.
//!
//! Two neighbours compare a 16-byte fingerprint of everything they have seen once nothing has changed for a while, and find what
//! differs by dividing (the private module `exchange`).

mod claims;
pub mod config;
mod exchange;
mod hold;
pub mod message;
mod neighbour;
mod optimise;
mod push;
mod relay;
mod repair;
mod resume;
pub mod shared;
mod tell;
#[cfg(test)]
mod tests;
mod told;
pub mod trees;
mod wants;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use config::{Config, Start};
pub use message::{Beacon, DigestKind, Message, Part, Push};
pub use shared::SharedTree;
pub use trees::{TREES_MAX, Tree, Trees};

use crate::bounds::within;
use crate::history::{History, Refusal};
use crate::outbox::Outbox;
use crate::small::SmallMap;
use crate::{Bundle, Header, Now, StreamId, Time};
use neighbour::Neighbour;
use relay::Relay;
use trees::Order;
use wants::Wants;

/// What the broadcast is told.
#[derive(Clone, Debug)]
pub enum Input<P, B> {
    /// The membership has a new neighbour.
    NeighbourUp(P),
    /// The membership has lost a neighbour.
    NeighbourDown(P),
    /// A message came.
    Received {
        /// From whom, neighbour or not.
        from: P,
        /// The message.
        message: Message<P, B>,
    },
    /// A bundle came that was asked for outside of the swarm.
    Fetched {
        /// From whom, neighbour or not.
        from: P,
        /// The bundle.
        bundle: B,
    },
    /// This member publishes; the bundle's stream is its own and its seqs follow the last.
    Publish(B),
    /// A neighbour's lane for data has become full, or has room again.
    Congested {
        /// Whose.
        peer: P,
        /// Whether it is full.
        congested: bool,
    },
    /// A link's round trip was measured.
    Rtt {
        /// To whom.
        peer: P,
        /// The round trip.
        rtt: Duration,
    },
    /// Nobody is in the swarm who could have a base: begin at once.
    Alone,
}

/// What the broadcast orders.
#[derive(Clone, Debug)]
pub enum Output<P, B> {
    /// Send a message to a neighbour.
    Send {
        /// To whom.
        to: P,
        /// The message.
        message: Message<P, B>,
    },
    /// A bundle was taken into history.
    New(Header<P>),
    /// It is fixed where this member begins.
    Based,
    /// Where this member began in a stream was a false word; it begins earlier.
    BaseLowered {
        /// In which stream.
        stream: StreamId<P>,
        /// What counted as seen until now.
        from: u64,
    },
    /// Somebody who is no neighbour sent a neighbour's message.
    Stranger(P),
    /// A publisher has signed two bundles for one place.
    Equivocation(Header<P>),
    /// A bundle was refused.
    Refused {
        /// From whom it came.
        from: P,
        /// Why.
        refusal: Refusal,
    },
    /// A neighbour sent what no honest one sends, or broke its word.
    Misbehaviour {
        /// Who.
        peer: P,
        /// What it did.
        what: &'static str,
    },
}

/// What the broadcast has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bundles received for the first time.
    pub bundles_new: u64,
    /// Bundles received again.
    pub bundles_duplicate: u64,
    /// Bundles pushed along trees.
    pub bundles_pushed: u64,
    /// Bundles sent on request.
    pub bundles_supplied: u64,
    /// Digest frames sent.
    pub digests_sent: u64,
    /// GRAFTs sent, a tree each.
    pub grafts_sent: u64,
    /// PRUNEs sent, a tree each.
    pub prunes_sent: u64,
    /// Equivocations proven.
    pub equivocations: u64,
    /// Bundles refused.
    pub bundles_refused: u64,
}

/// How a bundle left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Neighbours it was pushed to.
    pub eager: usize,
    /// Neighbours it is announced to.
    pub lazy: usize,
}

/// The broadcast of one swarm at one member.
#[derive(Clone, Debug)]
pub struct Broadcast<B: Bundle> {
    me: B::Peer,
    config: Arc<Config>,
    history: History<B>,
    neighbours: SmallMap<B::Peer, Neighbour<B::Peer>>,
    shared: SharedTree<B::Peer>,
    trees: Trees<B::Peer>,
    wants: Wants<B::Peer>,
    relay: Relay<B::Peer>,
    /// Until when a base is waited for; none once it is fixed.
    base_until: Option<Time>,
    /// Until when a member that resumes waits to hear where others stand; none once it has heard.
    lost_until: Option<Time>,
    reach: Reach,
    counters: Counters,
    orders: Vec<Order<B::Peer>>,
    outputs: Outbox<Output<B::Peer, B>>,
}

impl<B: Bundle> Broadcast<B> {
    /// Makes the broadcast of a member that joins now.
    pub fn new(me: B::Peer, config: impl Into<Arc<Config>>, now: Now) -> Self {
        let config = config.into();
        Self {
            me,
            history: History::new(config.history.clone()),
            neighbours: SmallMap::new(),
            shared: SharedTree::new(me),
            trees: Trees::new(me),
            wants: Wants::new(),
            relay: Relay::new(),
            base_until: Some(now.time + config.base_timeout),
            lost_until: None,
            reach: Reach::default(),
            counters: Counters::default(),
            orders: Vec::new(),
            outputs: Outbox::new(),
            config,
        }
    }

    /// Takes a fact.
    pub fn handle(&mut self, input: Input<B::Peer, B>, now: Now) {
        match input {
            Input::NeighbourUp(peer) => self.neighbour_up(peer, now),
            Input::NeighbourDown(peer) => self.neighbour_down(peer, now),
            Input::Received { from, message } => self.received(from, message, now),
            Input::Fetched { from, bundle } => self.bundle(from, &bundle, 1, Push::Supplied, now),
            Input::Publish(bundle) => self.publish(&bundle, now),
            Input::Congested { peer, congested } => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.congested = congested;
                }
            }
            Input::Rtt { peer, rtt } => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.rtt = rtt;
                }
                self.shared.measured(peer, rtt, now);
            }
            Input::Alone => {
                self.fix_base(now);
                self.find_its_feet();
            }
        }
        self.tell_beacons(now);
        self.carry_out_orders(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.base_until.is_some_and(|until| until <= now.time) {
            self.fix_base(now);
        }
        if self.lost_until.is_some_and(|until| until <= now.time) {
            self.find_its_feet();
        }
        self.history.shed(now.time);
        self.ask_for_missing(now);
        self.recall(now);
        self.tell_due(now);
        if self.shared.poll_timeout() <= now.time {
            self.shared.handle_timeout(now);
        }
        self.tell_beacons(now);
        self.carry_out_orders(now);
    }

    /// Returns the next order.
    pub fn poll_output(&mut self) -> Option<Output<B::Peer, B>> {
        self.outputs.pop_front()
    }

    /// Returns when to let time pass.
    pub fn poll_timeout(&self) -> Time {
        let neighbours = self
            .neighbours
            .values()
            .map(|neighbour| neighbour.tell_at.min(neighbour.exchange_at))
            .min();
        self.base_until
            .unwrap_or(Time::NEVER)
            .min(self.lost_until.unwrap_or(Time::NEVER))
            .min(neighbours.unwrap_or(Time::NEVER))
            .min(self.wants.next_timeout())
            .min(self.relay.next_timeout())
            .min(self.history.next_expiry())
            .min(self.shared.poll_timeout())
    }

    /// Returns the history.
    pub const fn history(&self) -> &History<B> {
        &self.history
    }

    /// Returns this member's place in the shared tree.
    pub const fn shared(&self) -> &SharedTree<B::Peer> {
        &self.shared
    }

    /// Returns the trees.
    pub const fn trees(&self) -> &Trees<B::Peer> {
        &self.trees
    }

    /// Returns what has been counted.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns how the bundle that was published last left.
    pub const fn last_reach(&self) -> Reach {
        self.reach
    }

    /// Returns whether it is fixed where this member begins.
    pub const fn has_base(&self) -> bool {
        self.base_until.is_none()
    }

    /// Returns whether any neighbour says that it can supply something of `first..=last` that would be accepted.
    pub fn somebody_has(&self, id: StreamId<B::Peer>, first: u64, last: u64) -> bool {
        self.missing(id).intersects(first, last)
    }

    /// Returns the epochs of a publisher that neighbours have told of, in ascending order.
    pub(crate) fn epochs_told(&self, publisher: B::Peer) -> impl Iterator<Item = u64> {
        let epochs: BTreeSet<u64> = self
            .neighbours
            .values()
            .flat_map(|neighbour| neighbour.epochs(publisher))
            .collect();
        epochs.into_iter()
    }

    /// Returns up to which seq at least half of the neighbours have everything of a stream; none without neighbours.
    ///
    /// A publisher that waited only for the first neighbour would run as fast as its fastest one and outrun the history of the others.
    pub fn acknowledged(&self, id: StreamId<B::Peer>) -> Option<u64> {
        let mut upto: Vec<u64> = self
            .neighbours
            .values()
            .filter(|neighbour| !neighbour.congested)
            .map(|neighbour| neighbour.contiguous(id))
            .collect();
        upto.sort_unstable_by(|a, b| b.cmp(a));
        let half = upto.len().div_ceil(2);
        upto.get(half.checked_sub(1)?).copied()
    }

    /// Returns up to which seq the furthest neighbour has everything of a stream.
    pub(crate) fn furthest(&self, id: StreamId<B::Peer>) -> u64 {
        let neighbours = self.neighbours.values();
        let upto = neighbours.map(|neighbour| neighbour.contiguous(id));
        upto.max().unwrap_or(0)
    }

    fn neighbour_up(&mut self, peer: B::Peer, now: Now) {
        if self.neighbours.contains_key(&peer) {
            return;
        }
        let interval = if self.has_bearings() {
            self.config.exchange_interval_min
        } else {
            self.config.base_timeout / tell::BASE_ATTEMPTS
        };
        // The first neighbour gets its time to tell the base, however long it took to find it.
        let waiting = self.base_until.as_mut().or(self.lost_until.as_mut());
        if let Some(until) = waiting
            && self.neighbours.is_empty()
        {
            *until = (*until).max(now.time + self.config.base_timeout);
        }
        let neighbour = Neighbour::new(now.time, interval);
        self.shared.neighbour_up(peer, neighbour.rtt, now);
        self.neighbours.insert(peer, neighbour);
        self.trees.neighbour_up(peer, &mut self.orders);
        self.send_fingerprint(peer);
    }

    fn neighbour_down(&mut self, peer: B::Peer, now: Now) {
        if self.neighbours.remove(&peer).is_none() {
            return;
        }
        self.wants.neighbour_down(peer, now.time);
        self.relay.neighbour_down(peer);
        self.shared.neighbour_down(peer, now);
        self.trees.neighbour_down(peer, &mut self.orders);
    }

    fn received(&mut self, from: B::Peer, message: Message<B::Peer, B>, now: Now) {
        if !self.neighbours.contains_key(&from) {
            self.outputs.push_back(Output::Stranger(from));
            // Control from strangers is ignored; a verified bundle is worth having whoever brings it.
            if let Message::Bundle { bundle, hops, .. } = message {
                self.bundle(from, &bundle, hops, Push::Supplied, now);
            }
            return;
        }
        match message {
            Message::Bundle { bundle, hops, push } => self.bundle(from, &bundle, hops, push, now),
            Message::Duplicate { header, push } => {
                // Verified before, but perhaps refused then or forgotten since: it comes again when it is asked for.
                if self.history.recognises(&header) {
                    self.duplicate(from, &header, push, now);
                }
            }
            Message::Digest {
                kind,
                streams,
                has_base,
            } => self.digest(from, kind, streams, has_base, now),
            Message::Fingerprint {
                fingerprint,
                has_base,
                beacon,
            } => {
                self.beacon(from, beacon, now);
                self.fingerprint(from, fingerprint, has_base, now);
            }
            Message::Split { salt, parts } => self.split(from, salt, parts, now),
            Message::Graft { trees } => {
                for publisher in trees.into_iter().take(TREES_MAX) {
                    // Trees of publishers that nothing was seen of would crowd out those that carry something.
                    if self.knows(publisher) {
                        self.trees.grafted(from, publisher, &mut self.orders);
                    }
                }
                // Whoever grafts shall know at once what it has missed.
                self.tell_now(from, now);
            }
            Message::Prune { trees } => {
                for publisher in trees.into_iter().take(TREES_MAX) {
                    self.trees.pruned(from, publisher, &mut self.orders);
                }
            }
            Message::Beacon(beacon) => self.beacon(from, Some(beacon), now),
            Message::Want { ranges } => self.wanted(from, ranges, now),
        }
    }

    /// A neighbour says where it stands in the shared tree.
    fn beacon(&mut self, from: B::Peer, beacon: Option<Beacon<B::Peer>>, now: Now) {
        self.shared.heard(from, beacon, now);
        // Whoever has no base yet knows no publisher that it could graft.
        let is_child = beacon.is_some_and(|beacon| beacon.to_parent);
        let is_new = self.neighbours.get(&from).is_some_and(|n| !n.has_base);
        if is_child && is_new {
            self.trees.adopted(from);
        }
    }

    /// Tells neighbours what has changed in the shared tree, and lets publishers start on it as it is now.
    fn tell_beacons(&mut self, now: Now) {
        if self.shared.take_moved() {
            self.trees.set_shared(self.shared.neighbours());
        }
        while let Some(to) = self.shared.due(now.time) {
            if let Some(beacon) = self.shared.tell(to) {
                self.send(to, Message::Beacon(beacon));
            }
        }
    }

    fn send(&mut self, to: B::Peer, message: Message<B::Peer, B>) {
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Returns whether something is missing here that a neighbour has.
    pub(crate) fn lacks(&self) -> bool {
        !self.wants.is_empty()
    }

    /// Returns what of the state that peers can fill is beyond its bound, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let history = &self.history.config;
        within("trees", self.trees.publishers().count(), TREES_MAX)?;
        within(
            "streams",
            self.history.streams().count(),
            history.streams_max,
        )?;
        within("bytes of history", self.history.bytes(), history.bytes_max)?;
        for neighbour in self.neighbours.values() {
            neighbour.check()?;
        }
        self.shared.check()?;
        self.relay.check()?;
        self.wants.check()
    }
}
