//! One swarm at one member: membership, broadcast and delivery, drained and translated in one place.

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::delivery::{Delivered, Delivery};
use crate::history::{Held, History, Refusal, Retention};
use crate::hyparview::{self, Membership};
use crate::outbox::Outbox;
use crate::plumtree::{self, Broadcast, Counters, Reach, SharedTree, Trees};
use crate::retained::{Change, Earlier, Extent, Mark, Retained};
use crate::{Bundle, Contact, Header, Now, StreamId, Time};

/// The settings of a swarm, shared by all members of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The views.
    pub membership: Arc<hyparview::Config>,
    /// The trees, repair and history.
    pub broadcast: Arc<plumtree::Config>,
}

/// What a swarm is told.
#[derive(Clone, Debug)]
pub enum Input<P, C, B> {
    /// A message of the membership came.
    Membership {
        /// From whom.
        from: P,
        /// The message.
        message: hyparview::Message<C>,
    },
    /// A message of the broadcast came.
    Broadcast {
        /// From whom.
        from: P,
        /// The message.
        message: plumtree::Message<P, B>,
    },
    /// A bundle came that was asked for outside of the swarm, of somebody who need not be a neighbour.
    Fetched {
        /// From whom.
        from: P,
        /// The bundle.
        bundle: B,
    },
    /// A peer's link went down, or could not be made.
    PeerLost(P),
    /// A link to a peer has come up.
    PeerUp(P),
    /// Join through a peer.
    Join {
        /// Through whom.
        via: P,
    },
    /// Contacts that may be members.
    Learned(Vec<C>),
    /// This member's own contact was renewed.
    SetMe(C),
    /// Whom the node is linked with for its swarms has changed.
    Links(Arc<hyparview::Links<P>>),
    /// A neighbour's link is more than the node wants: somebody linked takes its place, if one is known.
    Release(P),
    /// A neighbour is too slow: it is disconnected and replaced.
    Evict(P),
    /// Whatever was held against a peer is forgotten.
    Pardon(P),
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
    /// Nobody else is known to be in the swarm: begin with an empty base.
    Alone,
    /// Leave: say goodbye to all neighbours.
    Leave,
}

/// What a swarm orders.
#[derive(Clone, Debug)]
pub enum Output<P, C, B> {
    /// Send a message of the membership; link to the peer first where there is no link (the contact says how).
    Membership {
        /// To whom.
        to: P,
        /// How to reach it, where it is known.
        contact: Option<C>,
        /// The message.
        message: hyparview::Message<C>,
    },
    /// Send a message of the broadcast to a neighbour.
    Broadcast {
        /// To whom.
        to: P,
        /// The message.
        message: plumtree::Message<P, B>,
    },
    /// A peer has become a neighbour.
    NeighbourUp(P),
    /// A peer has ceased to be a neighbour.
    NeighbourDown(P),
    /// It is fixed where this member begins: what is published from now on will be delivered. One that resumes has also heard
    /// where others stand.
    Based,
    /// A bundle was taken into history; told where changes are ([`crate::history::Config::tells_changes`]).
    Held(Header<P>),
    /// What is held has changed otherwise; told where changes are.
    Changed(Change<P>),
    /// A subscriber gets this. The bundle is in history until time or the next bundle passes.
    Deliver(Delivered<P>),
    /// A publisher has signed two bundles for one place.
    Equivocation(Header<P>),
    /// A peer sent a bundle that was refused.
    Refused {
        /// Who.
        from: P,
        /// Why.
        refusal: Refusal,
    },
    /// Contacts from outside of the swarm are wanted ([`Input::Learned`]).
    WantContacts,
    /// A peer sent what no honest peer sends.
    Misbehaviour {
        /// Who.
        peer: P,
        /// What, as a counter's name.
        what: &'static str,
    },
}

/// The output type of a swarm of bundles `B` whose members have contacts `C`.
type OutputOf<C, B> = Output<<B as Bundle>::Peer, C, B>;

/// One swarm at one member.
#[derive(Clone, Debug)]
pub struct Swarm<C: Contact, B: Bundle<Peer = C::Peer>> {
    membership: Membership<C::Peer, C>,
    broadcast: Broadcast<B>,
    delivery: Delivery<C::Peer>,
    tells_changes: bool,
    outputs: Outbox<OutputOf<C, B>>,
}

impl<C: Contact, B: Bundle<Peer = C::Peer>> Swarm<C, B> {
    /// Makes the swarm of a member that joins now.
    pub fn new(me: C, config: Config, rng: &mut ChaCha8Rng, now: Now) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self {
            tells_changes: config.broadcast.history.tells_changes,
            broadcast: Broadcast::new(me.peer(), config.broadcast, now),
            membership: Membership::new(me, config.membership, ChaCha8Rng::from_seed(seed), now),
            delivery: Delivery::new(),
            outputs: Outbox::new(),
        }
    }

    /// Makes the swarm of a member that was away, and goes on where it stopped.
    pub fn resume(
        me: C,
        config: Config,
        retained: Retained<B>,
        rng: &mut ChaCha8Rng,
        now: Now,
    ) -> Self {
        let (peer, settings) = (me.peer(), Arc::clone(&config.broadcast));
        let mut swarm = Self::new(me, config, rng, now);
        let mut history = retained.history;
        history.config = settings.history.clone();
        swarm.broadcast = match retained.extent {
            Extent::Whole => Broadcast::resume(peer, settings, history, now),
            Extent::Own => Broadcast::join_with(peer, settings, history, now),
        };
        swarm.delivery = retained.delivery;
        if swarm.broadcast.has_base() {
            swarm.delivery.start(&swarm.broadcast, now);
            swarm.drain_delivery();
        }
        swarm
    }

    /// Ends the swarm; returns where this member stops.
    pub fn retain(self, extent: Extent) -> Retained<B> {
        Retained {
            history: self.broadcast.into_history(),
            delivery: self.delivery,
            extent,
        }
    }

    /// Returns whether it is known where this member begins and, where that is in the past, where others stand.
    pub const fn has_bearings(&self) -> bool {
        self.broadcast.has_bearings()
    }

    /// Returns, of each stream that this member or a neighbour has more of than was delivered here, the last seq of it.
    pub fn heads(&self) -> Vec<(StreamId<C::Peer>, u64)> {
        let mut heads = self.broadcast.heads();
        let history = self.broadcast.history();
        heads.retain(|(id, last)| {
            let begun = history.base(*id).saturating_add(1);
            self.delivery.due(*id).unwrap_or(begun) <= *last
        });
        heads
    }

    /// Takes a fact.
    pub fn handle(&mut self, input: Input<C::Peer, C, B>, now: Now) {
        match input {
            Input::Membership { from, message } => {
                self.membership
                    .handle(hyparview::Input::Received { from, message }, now);
            }
            Input::Broadcast { from, message } => {
                self.broadcast
                    .handle(plumtree::Input::Received { from, message }, now);
            }
            Input::Fetched { from, bundle } => {
                self.broadcast
                    .handle(plumtree::Input::Fetched { from, bundle }, now);
            }
            Input::PeerLost(peer) => self
                .membership
                .handle(hyparview::Input::PeerLost { peer }, now),
            Input::PeerUp(peer) => self
                .membership
                .handle(hyparview::Input::PeerUp { peer }, now),
            Input::Join { via } => self.membership.handle(hyparview::Input::Join { via }, now),
            Input::Learned(contacts) => {
                self.membership
                    .handle(hyparview::Input::Learned { contacts }, now);
            }
            Input::SetMe(me) => self.membership.handle(hyparview::Input::SetMe(me), now),
            Input::Links(links) => self.membership.handle(hyparview::Input::Links(links), now),
            Input::Release(peer) => self
                .membership
                .handle(hyparview::Input::Release { peer }, now),
            Input::Evict(peer) => self
                .membership
                .handle(hyparview::Input::Evict { peer }, now),
            Input::Pardon(peer) => self
                .membership
                .handle(hyparview::Input::Pardon { peer }, now),
            Input::Leave => self.membership.handle(hyparview::Input::Leave, now),
            Input::Congested { peer, congested } => {
                self.broadcast
                    .handle(plumtree::Input::Congested { peer, congested }, now);
            }
            Input::Rtt { peer, rtt } => self
                .broadcast
                .handle(plumtree::Input::Rtt { peer, rtt }, now),
            Input::Alone => self.broadcast.handle(plumtree::Input::Alone, now),
        }
        self.drain(now);
    }

    /// Publishes a bundle of this member's own stream; returns how it left.
    pub fn publish(&mut self, bundle: B, now: Now) -> Reach {
        self.broadcast.handle(plumtree::Input::Publish(bundle), now);
        let reach = self.broadcast.last_reach();
        self.drain(now);
        reach
    }

    /// Returns whether a publisher's messages wait for earlier ones.
    pub fn is_blocked(&self) -> bool {
        self.delivery.is_blocked()
    }

    /// Supplies what a neighbour asked for, up to `bytes`; returns the bytes that were ordered.
    pub fn supply(&mut self, peer: C::Peer, bytes: usize, now: Now) -> usize {
        let ordered = self.broadcast.supply(peer, bytes);
        self.drain(now);
        ordered
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.membership.poll_timeout() <= now.time {
            self.membership.handle_timeout(now);
        }
        if self.broadcast.poll_timeout() <= now.time {
            self.broadcast.handle_timeout(now);
        }
        self.drain(now);
        if self.broadcast.has_base() {
            self.delivery.handle_timeout(&self.broadcast, now);
            self.drain_delivery();
        }
    }

    /// This process was stopped for a while: deadlines that ran meanwhile begin anew.
    pub fn forgive(&mut self, now: Now) {
        self.delivery.forgive(now);
    }

    /// Returns the next order.
    pub fn poll_output(&mut self) -> Option<OutputOf<C, B>> {
        self.outputs.pop_front()
    }

    /// Returns when to let time pass.
    pub fn poll_timeout(&self) -> Time {
        self.membership
            .poll_timeout()
            .min(self.broadcast.poll_timeout())
            .min(self.delivery.poll_timeout())
    }

    /// Returns the membership.
    pub const fn membership(&self) -> &Membership<C::Peer, C> {
        &self.membership
    }

    /// Returns this member's place in the shared tree.
    pub const fn shared(&self) -> &SharedTree<C::Peer> {
        self.broadcast.shared()
    }

    /// Returns the trees.
    pub const fn trees(&self) -> &Trees<C::Peer> {
        self.broadcast.trees()
    }

    /// Returns the history.
    pub const fn history(&self) -> &History<B> {
        self.broadcast.history()
    }

    /// Returns a held bundle by the place that was delivered.
    pub fn held(&self, header: &Header<C::Peer>) -> Option<&Held<B>> {
        self.broadcast.history().held(header.stream, header.first)
    }

    /// Drops the bundle of the history that has to go so that others find room; returns the bytes freed.
    pub fn make_room(&mut self) -> usize {
        let freed = self.broadcast.make_room();
        self.drain_changes();
        freed
    }

    /// Holds more or less from now on.
    pub fn set_retention(&mut self, retention: Retention, now: Now) {
        self.broadcast.set_retention(retention, now.time);
        self.drain_changes();
    }

    /// Takes in bundles from before this member's base, oldest first; returns which ones are held now. They aren't delivered.
    pub fn take_earlier(&mut self, earlier: Vec<Earlier<B>>, now: Now) -> Vec<bool> {
        self.broadcast.take_earlier(earlier, now)
    }

    /// Returns what is known of a stream and doesn't follow from its bundles; none where the stream isn't known.
    pub fn mark(&self, id: StreamId<C::Peer>) -> Option<Mark> {
        let history = self.broadcast.history();
        history.mark(id, self.delivery.due(id))
    }

    /// Returns what has been counted.
    pub const fn counters(&self) -> Counters {
        self.broadcast.counters()
    }

    /// Returns whether it is fixed where this member begins.
    pub const fn has_base(&self) -> bool {
        self.broadcast.has_base()
    }

    /// Returns whether a neighbour waits for supplies.
    pub fn owes(&self, peer: C::Peer) -> bool {
        self.broadcast.owes(peer)
    }

    /// Returns up to which seq at least half of the neighbours have a stream; none without neighbours.
    pub fn acknowledged(&self, id: StreamId<C::Peer>) -> Option<u64> {
        self.broadcast.acknowledged(id)
    }

    /// Returns up to which seq the furthest neighbour has everything of a stream; 0 where none has its beginning.
    pub fn furthest(&self, id: StreamId<C::Peer>) -> u64 {
        self.broadcast.furthest(id)
    }

    /// Returns whether something is missing here that a neighbour has.
    pub fn lacks(&self) -> bool {
        self.broadcast.lacks()
    }

    /// Returns what is wrong with the state, if anything: views, and whatever peers can fill, within their bounds.
    pub fn check(&self) -> Result<(), String> {
        self.membership.check()?;
        self.broadcast.check()
    }

    fn drain(&mut self, now: Now) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.membership_output(output, now);
            } else if let Some(output) = self.broadcast.poll_output() {
                self.broadcast_output(output, now);
            } else {
                break;
            }
        }
        self.drain_changes();
    }

    fn drain_changes(&mut self) {
        while let Some(change) = self.broadcast.poll_change() {
            self.outputs.push_back(Output::Changed(change));
        }
    }

    fn membership_output(&mut self, output: hyparview::Output<C::Peer, C>, now: Now) {
        match output {
            hyparview::Output::Send {
                to,
                contact,
                message,
            } => {
                self.outputs.push_back(Output::Membership {
                    to,
                    contact,
                    message,
                });
            }
            hyparview::Output::NeighborUp { peer } => {
                self.outputs.push_back(Output::NeighbourUp(peer));
                self.broadcast
                    .handle(plumtree::Input::NeighbourUp(peer), now);
            }
            hyparview::Output::NeighborDown { peer } => {
                self.outputs.push_back(Output::NeighbourDown(peer));
                self.broadcast
                    .handle(plumtree::Input::NeighbourDown(peer), now);
            }
            hyparview::Output::WantContacts => self.outputs.push_back(Output::WantContacts),
            hyparview::Output::Misbehaviour { peer, what } => {
                self.outputs.push_back(Output::Misbehaviour { peer, what });
            }
        }
    }

    fn broadcast_output(&mut self, output: plumtree::Output<C::Peer, B>, now: Now) {
        match output {
            plumtree::Output::Send { to, message } => {
                self.outputs.push_back(Output::Broadcast { to, message });
            }
            plumtree::Output::New(header) => {
                if self.tells_changes {
                    self.outputs.push_back(Output::Held(header));
                }
                if self.broadcast.has_base() {
                    self.delivery.received(&header, &self.broadcast, now);
                    self.drain_delivery();
                }
            }
            plumtree::Output::Based => {
                self.outputs.push_back(Output::Based);
                self.delivery.start(&self.broadcast, now);
                self.drain_delivery();
            }
            plumtree::Output::BaseLowered { stream, from } => {
                self.delivery.base_lowered(stream, from);
            }
            plumtree::Output::Stranger(from) => {
                self.membership
                    .handle(hyparview::Input::Stranger { from }, now);
            }
            plumtree::Output::Equivocation(header) => {
                self.outputs.push_back(Output::Equivocation(header));
            }
            plumtree::Output::Misbehaviour { peer, what } => {
                self.outputs.push_back(Output::Misbehaviour { peer, what });
            }
            plumtree::Output::Refused { from, refusal } => {
                self.outputs.push_back(Output::Refused { from, refusal });
            }
        }
    }

    fn drain_delivery(&mut self) {
        while let Some(delivered) = self.delivery.poll_output() {
            if let Delivered::Gap { stream, from, to } = delivered {
                self.broadcast.gap_told(stream, from, to);
            }
            self.outputs.push_back(Output::Deliver(delivered));
        }
    }
}
