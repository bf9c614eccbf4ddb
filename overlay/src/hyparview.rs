//! HyParView's membership (Leitão, Pereira, Rodrigues: "HyParView: a membership protocol for reliable gossip-based
//! broadcast", DSN 2007, §4): a small symmetric active view that messages travel on, and a larger passive view that
//! repairs it.
//!
//! Where this differs from the paper, and why:
//! - **Confirm before active.** A peer enters the view once it has accepted (the paper adds it when it asks), so views
//!   are symmetric but for the time of flight. Requests cross, get lost and are repeated: accepting twice is harmless, an
//!   acceptance that nobody waits for is answered with a Disconnect (its sender gives up its half), a broadcast message
//!   from a peer that was asked is its acceptance, and from any other it earns a Disconnect ([`Input::Stranger`]).
//!   So each half of a neighbourhood ends or finds its other half.
//! - **Rounds.** Each vacancy asks every candidate once, a few at a time, and the next one at once on a refusal or loss.
//!   A refused candidate stays in the passive view. A round that found nobody is followed by a *deficit walk*: one random
//!   candidate is asked with high priority and gives up one of its neighbours, so that vacancies wander until two meet.
//!   Needy members walk after a second, others after a growing back-off: an odd sum of degrees leaves one vacancy for ever.
//! - **Joins swap.** The end of a join's walk invites the joiner and gives up a neighbour only once it has accepted. A
//!   contact node that may not evict any more still forwards the join.
//! - **Lost peers** are no candidates, whatever others say of them, until they are heard again; they are probed
//!   for ten minutes, one at a time: with a request while there is a vacancy, else with a shuffle. One that is back takes a
//!   neighbour's place at once: it may stand for the other half of a split network, and so the halves merge in seconds.
//! - **Promotion.** A full member swaps a neighbour for a random passive peer now and then.
//! - **Many swarms.** A node that has as many links as it wants chooses among the peers at their ends (the private module `linked`).
//! - **Hostile input.** Forced evictions are rated, by identity too, and spare the oldest neighbours; hop counts and
//!   samples are clamped; a third of the passive view at most comes from one peer.

mod config;
mod join;
mod linked;
pub mod message;
mod neighbor;
mod refill;
mod reseed;
mod shuffle;
mod triangles;
mod views;

#[cfg(test)]
mod network;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub use config::{Config, Rate};
pub use linked::{Links, Room};
pub use message::{Goodbye, Message, Priority};
pub use reseed::ContactSource;
pub use views::{ActiveEntry, PassiveEntry};

use crate::bounds::within;
use crate::outbox::Outbox;
use crate::small::{SmallMap, SmallSet};
use crate::{Contact, Now, Peer, Time};
use config::Bucket;
use neighbor::Request;
use reseed::Reseed;
use shuffle::Outstanding;
use views::{Lost, Neighbour, Passive};

/// A fact that a membership is told.
#[derive(Clone, Debug)]
pub enum Input<P, C> {
    /// The own contact was renewed.
    SetMe(C),
    /// Join through this peer, which is linked already; ignored while the active view is full.
    Join {
        /// The contact node.
        via: P,
    },
    /// A message arrived.
    Received {
        /// From whom, as the link has proven it.
        from: P,
        /// The message.
        message: Message<C>,
    },
    /// The link to a peer went down, or could not be made.
    PeerLost {
        /// The peer.
        peer: P,
    },
    /// Contacts came from the address book, an announcement or the other layer: candidates for the passive view.
    Learned {
        /// The contacts.
        contacts: Vec<C>,
    },
    /// A broadcast message came from a peer that is not in the active view.
    Stranger {
        /// The peer.
        from: P,
    },
    /// A link to a peer has come up: if it was lost, it is back.
    PeerUp {
        /// The peer.
        peer: P,
    },
    /// Whom the node is linked with for its swarms has changed.
    Links(Arc<Links<P>>),
    /// The node has more links than it wants, and this neighbour's serves few: somebody linked is to take its place, if one is known.
    Release {
        /// The peer.
        peer: P,
    },
    /// This neighbour is too slow: disconnect it, and don't take it back soon.
    Evict {
        /// The peer.
        peer: P,
    },
    /// Whatever was held against this peer is forgotten.
    Pardon {
        /// The peer.
        peer: P,
    },
    /// Leave the swarm. Only [`Input::Join`] comes back from it.
    Leave,
}

/// An order that a membership gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<P, C> {
    /// Send a message; link to the peer first if needed, and tell [`Input::PeerLost`] if that fails.
    Send {
        /// To whom.
        to: P,
        /// How to reach it, where that is known.
        contact: Option<C>,
        /// The message.
        message: Message<C>,
    },
    /// A peer entered the active view.
    NeighborUp {
        /// The peer.
        peer: P,
    },
    /// A peer left the active view.
    NeighborDown {
        /// The peer.
        peer: P,
    },
    /// Contacts from outside of the swarm are wanted ([`Input::Learned`]): this member is short of neighbours and knows nobody
    /// to ask, or looks now and then whether there is another group.
    WantContacts,
    /// A peer sent what no honest peer sends; it was clamped or refused.
    Misbehaviour {
        /// The peer.
        peer: P,
        /// What it did.
        what: &'static str,
    },
}

/// One member's views of its swarm.
#[derive(Clone, Debug)]
pub struct Membership<P, C> {
    me: C,
    config: Arc<Config>,
    rng: ChaCha8Rng,
    outputs: Outbox<Output<P, C>>,
    /// Whom the node is linked with for its swarms; none where nobody says so.
    links: Option<Arc<Links<P>>>,
    left: bool,

    active: SmallMap<P, Neighbour<P, C>>,
    passive: Passive<P, C>,
    lost: Lost<P, C>,
    /// Who was evicted for being slow, and until when it stays out.
    shunned: SmallMap<P, Time>,

    requests: SmallMap<P, Request<C>>,
    /// Who refused in this round.
    refused: SmallSet<P>,
    /// When the next deficit walk starts.
    walk_at: Time,
    /// The back-off of the next deficit walk of a member that isn't needy.
    walk_wait: Duration,
    /// Since when the view is full; `NEVER` while it isn't.
    full_since: Time,
    promotion_at: Time,
    /// The next lost peer is probed no earlier.
    probe_at: Time,
    /// The next peer that is back takes a neighbour's place no earlier.
    reunion_at: Time,
    /// How long the view must be full for the next swap.
    promotion_wait: Duration,

    reseed: Reseed,
    shuffle_at: Time,
    shuffle_wait: Duration,
    /// Own shuffles that may still be answered, oldest first.
    outstanding: VecDeque<Outstanding<P>>,

    forced: Bucket,
    /// Who forced an eviction lately; what the bucket gives in that time bounds it.
    forced_by: SmallMap<P, Time>,
    forwards: Bucket,
    /// Whose join was forwarded lately; what the bucket gives in that time bounds it.
    forwarded_for: SmallMap<P, Time>,
    answers: Bucket,
    /// Swaps that break triangles.
    mends: Bucket,
    /// When strangers were told lately that they are no neighbours.
    strangers: SmallMap<P, Time>,
}

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// Makes a member that knows nobody yet.
    pub fn new(me: C, config: impl Into<Arc<Config>>, rng: ChaCha8Rng, now: Now) -> Self {
        let config = config.into();
        let passive = Passive::new(config.passive_max, config.passive_per_source_max());
        let mut membership = Self {
            me,
            rng,
            outputs: Outbox::new(),
            links: None,
            left: false,
            active: SmallMap::new(),
            passive,
            lost: Lost::new(),
            shunned: SmallMap::new(),
            requests: SmallMap::new(),
            refused: SmallSet::new(),
            walk_at: Time::NEVER,
            walk_wait: config.walk_min,
            full_since: Time::NEVER,
            promotion_at: Time::NEVER,
            probe_at: Time::ZERO,
            reunion_at: Time::ZERO,
            promotion_wait: config.promotion_first.min(config.promotion_interval),
            reseed: Reseed::new(),
            shuffle_at: Time::NEVER,
            shuffle_wait: config.shuffle_interval_min,
            outstanding: VecDeque::new(),
            forced: Bucket::default(),
            forced_by: SmallMap::new(),
            forwards: Bucket::default(),
            forwarded_for: SmallMap::new(),
            answers: Bucket::default(),
            mends: Bucket::default(),
            strangers: SmallMap::new(),
            config,
        };
        membership.promotion_at = membership.later(now, membership.config.promotion_interval);
        membership
    }

    /// Handles a fact.
    pub fn handle(&mut self, input: Input<P, C>, now: Now) {
        let is_heard = matches!(
            input,
            Input::Join { .. } | Input::SetMe(_) | Input::Links(_)
        );
        if self.left && !is_heard {
            self.handle_left(&input, now);
            return;
        }
        match input {
            Input::SetMe(me) => self.me = me,
            Input::Join { via } => self.join(via, now),
            Input::Received { from, message } => self.on_received(from, message, now),
            Input::PeerLost { peer } => self.on_lost(peer, now),
            Input::PeerUp { peer } => self.on_back(peer, now),
            Input::Learned { contacts } => self.on_learned(contacts, now),
            Input::Stranger { from } => self.on_stranger(from, now),
            Input::Links(links) => self.links = Some(links),
            Input::Release { peer } => self.release(peer, now),
            Input::Evict { peer } => self.on_evict(peer, now),
            Input::Pardon { peer } => {
                self.shunned.remove(&peer);
            }
            Input::Leave => self.leave(now),
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.left {
            return;
        }
        self.repeat_requests(now);
        if self.shuffle_at <= now.time {
            self.shuffle(now);
        }
        if self.promotion_at <= now.time {
            self.promote(now);
        }
        if self.walk_at <= now.time {
            self.walk(now);
        }
        if self.reseed.next() <= now.time {
            self.want_contacts(now);
        }
        self.settle(now);
    }

    /// Returns the next order.
    pub fn poll_output(&mut self) -> Option<Output<P, C>> {
        self.outputs.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] has something to do next; `NEVER` if nothing is planned.
    pub fn poll_timeout(&self) -> Time {
        if self.left {
            return Time::NEVER;
        }
        let requests = self.requests.values().map(|request| request.deadline).min();
        requests
            .unwrap_or(Time::NEVER)
            .min(self.shuffle_at)
            .min(self.promotion_at)
            .min(self.walk_at)
            .min(self.reseed.next())
            .min(self.next_probe())
    }

    /// Returns whether the loss of a peer's link is news: it is a neighbour, or was asked to be one.
    pub fn needs(&self, peer: P) -> bool {
        self.active.contains_key(&peer) || self.requests.contains_key(&peer)
    }

    /// Returns whether a link to a peer is news: it was lost.
    pub fn awaits(&self, peer: P) -> bool {
        self.lost.contact(peer).is_some()
    }

    /// Returns the neighbours in ascending order.
    pub fn active(&self) -> impl Iterator<Item = P> + '_ {
        self.active.keys().copied()
    }

    /// Returns whether a peer is a neighbour.
    pub fn is_active(&self, peer: P) -> bool {
        self.active.contains_key(&peer)
    }

    /// Returns the neighbours with their ages, in ascending order of peer.
    pub fn active_view(&self) -> impl Iterator<Item = ActiveEntry<P>> + '_ {
        self.active.iter().map(|(&peer, neighbour)| ActiveEntry {
            peer,
            since: neighbour.since,
        })
    }

    /// Returns the reserve with its ages, in ascending order of peer.
    pub fn passive_view(&self) -> impl Iterator<Item = PassiveEntry<P>> + '_ {
        self.passive.entries()
    }

    /// Returns the contacts in reserve, in ascending order of peer.
    pub fn passive_contacts(&self) -> impl Iterator<Item = &C> {
        self.passive.contacts()
    }

    /// Returns whether the member is short of neighbours and knows nobody to ask.
    pub fn wants_contacts(&self, now: Now) -> bool {
        if self.left || self.vacancies() == 0 || !self.requests.is_empty() {
            return false;
        }
        let live = self.passive.live(now.unix);
        let asked = live.iter().all(|peer| self.refused.contains(peer));
        live.is_empty() || (self.active.is_empty() && asked)
    }

    /// Returns what is wrong with the views, if anything: their bounds, this member itself, a peer in both.
    pub fn check(&self) -> Result<(), String> {
        within("neighbours", self.active.len(), self.config.active_max)?;
        within(
            "contacts",
            self.passive.entries().count(),
            self.config.passive_max,
        )?;
        within("lost contacts", self.lost.len(), config::LOST_MAX)?;
        within("requests", self.requests.len(), config::PENDING_MAX)?;
        let me = self.me.peer();
        if self.active.contains_key(&me) || self.passive.contact(me).is_some() {
            return Err(format!("{me:?} knows itself"));
        }
        match self
            .active()
            .find(|peer| self.passive.contact(*peer).is_some())
        {
            Some(peer) => Err(format!("{peer:?} is in both views")),
            None => Ok(()),
        }
    }

    fn on_received(&mut self, from: P, message: Message<C>, now: Now) {
        if from == self.me.peer() {
            self.misbehaviour(from, "a message from ourselves");
            return;
        }
        self.on_back(from, now);
        match message {
            Message::Join { joiner } => self.on_join(from, joiner, now),
            Message::ForwardJoin { joiner, hops_left } => {
                self.on_forward_join(from, joiner, hops_left, now);
            }
            Message::Neighbor { sender, priority } => self.on_neighbor(from, sender, priority, now),
            Message::NeighborReply { sender, accepted } => {
                self.on_reply(from, sender, accepted, now);
            }
            Message::Disconnect { reason } => self.on_disconnect(from, reason, now),
            Message::Shuffle {
                origin,
                hops_left,
                sample,
            } => self.on_shuffle(from, origin, hops_left, sample, now),
            Message::ShuffleReply { sample } => self.on_shuffle_reply(from, sample, now),
        }
    }

    /// A peer is heard; one that was lost is a candidate again, and swapped in if the view is full.
    fn on_back(&mut self, peer: P, now: Now) {
        let Some(contact) = self.lost.remove(peer) else {
            return;
        };
        self.add_passive(contact, peer, &[], now);
        if self.vacancies() == 0 && self.reunion_at <= now.time {
            self.reunion_at = now.time + self.config.reunion_interval;
            self.swap_in(peer, now);
        }
    }

    /// Adds to the passive view what `source` told of somebody.
    fn add_passive(&mut self, contact: C, source: P, sent: &[P], now: Now) {
        if self.is_news(&contact, now) {
            self.passive.add(contact, source, sent, now, &mut self.rng);
        }
    }

    /// Returns whether a contact is one for the passive view; a neighbour's contact is renewed on the way.
    fn is_news(&mut self, contact: &C, now: Now) -> bool {
        let peer = contact.peer();
        if peer == self.me.peer() || !views::is_live(contact, now.unix) {
            return false;
        }
        if let Some(neighbour) = self.active.get_mut(&peer) {
            let known = neighbour.contact.as_ref().map(C::issued_at);
            if known.is_none_or(|known| contact.issued_at() > known) {
                neighbour.contact = Some(contact.clone());
            }
            return false;
        }
        if let Some(lost) = self.lost.contact(peer) {
            // Others still pass on what they knew before the loss; a contact it has issued since means that it lives.
            if contact.issued_at() <= lost.issued_at() {
                return false;
            }
            self.lost.remove(peer);
        }
        !self.is_shunned(peer, now)
    }

    fn is_shunned(&self, peer: P, now: Now) -> bool {
        self.shunned
            .get(&peer)
            .is_some_and(|&until| now.time < until)
    }

    fn vacancies(&self) -> usize {
        self.config.active_max.saturating_sub(self.active.len())
    }

    fn send(&mut self, to: P, contact: Option<C>, message: Message<C>) {
        self.outputs.push_back(Output::Send {
            to,
            contact,
            message,
        });
    }

    fn misbehaviour(&mut self, peer: P, what: &'static str) {
        self.outputs.push_back(Output::Misbehaviour { peer, what });
    }

    /// Returns a moment about `wait` from now, a quarter more or less, so that members don't act in step.
    fn later(&mut self, now: Now, wait: Duration) -> Time {
        if wait == Duration::MAX {
            return Time::NEVER;
        }
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 2);
        let quarter = micros / 4;
        let jittered = (micros - quarter).saturating_add(self.rng.random_range(0..=2 * quarter));
        now.time + Duration::from_micros(jittered)
    }
}
