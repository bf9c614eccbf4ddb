//! A node's part in the structured layer, as a machine: `weft_dht::Dht` driven alone, honest or lying.
//!
//! The adversary: liars have random ids (making an id costs a key, and nobody chose theirs near a target), joined like all
//! others, and collude. A liar answers each query for peers at once with the 20 liars closest to what was asked, all of
//! which exist and answer likewise, and never names an honest node. It says nothing false of itself: its link has proven its
//! id. It doesn't fall silent either: silence is found out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use weft_dht::dht::{Call, CallId, Input, Outcome, Output};
use weft_dht::table::K;
use weft_dht::{Answer, Contact, Dht, Group, Key, Message, Query, RequestId, UnixMicros};
use weft_overlay::{Now, Time};

use crate::Engine;
use crate::crowd::{Crowd, Id};
use crate::machine::{Fact, Machine, NodeId, Order, Place, Plan, Weighed, Weight};
use crate::rejoin::Rejoin;
use crate::swarm::{CONTACT, FRAME};

/// How long a contact is passed on: longer than any scenario.
const CONTACT_VALID: Duration = Duration::from_secs(366 * 86_400);
/// A query: kind, key, and what pairs its answer with it.
const QUERY: usize = 46;

/// A contact without address or signature.
#[derive(Clone, Copy, Debug)]
pub struct LookupContact {
    id: Id,
    /// Seconds since 1970, as a large simulation keeps tens of millions of contacts.
    issued_s: u32,
}

impl LookupContact {
    fn new(id: Id, now: Now) -> Self {
        let issued_s = u32::try_from(now.unix.0 / 1_000_000).unwrap_or(u32::MAX);
        Self { id, issued_s }
    }
}

impl Contact for LookupContact {
    type Peer = Id;

    fn peer(&self) -> Id {
        self.id
    }

    fn issued_at(&self) -> UnixMicros {
        UnixMicros(u64::from(self.issued_s) * 1_000_000)
    }

    fn expires_at(&self) -> UnixMicros {
        self.issued_at() + CONTACT_VALID
    }

    fn serves(&self) -> bool {
        true
    }

    fn group(&self) -> Option<Group> {
        None
    }
}

/// What goes from one node to another.
#[derive(Clone, Debug)]
pub struct Frame {
    request: RequestId,
    sender: LookupContact,
    message: Message<LookupContact>,
}

impl Weighed for Frame {
    /// Estimates what the daemon's encoding takes.
    fn weigh(&self) -> Weight {
        let contacts = match &self.message {
            Message::Query(Query::AddProvider { .. }) => 1,
            Message::Query(_) | Message::Answer(Answer::Pong) => 0,
            Message::Answer(Answer::Closer { contacts }) => contacts.len(),
            Message::Answer(Answer::Providers { providers, closer }) => {
                providers.len() + closer.len()
            }
        };
        let bytes = FRAME + QUERY + contacts * CONTACT;
        Weight {
            control: u32::try_from(bytes).unwrap_or(u32::MAX),
            ..Weight::default()
        }
    }

    fn carried(&self, _: &mut dyn FnMut(Place)) {}
}

/// One node.
#[derive(Debug)]
pub struct Member {
    me: LookupContact,
    dht: Dht<LookupContact>,
    crowd: Arc<Crowd>,
    rejoin: Rejoin,
    orders: VecDeque<Order<Frame>>,
}

impl Member {
    /// Turns the layer's orders into the engine's.
    fn drain(&mut self, now: Now) {
        while let Some(output) = self.dht.poll_output() {
            match output {
                Output::Send {
                    to,
                    request,
                    message,
                    ..
                } => self.send(to, request, message),
                Output::Reply { id, outcome, stats } => {
                    let Outcome::Closest { contacts } = outcome else {
                        let what = format!("a lookup ended in {outcome:?}");
                        self.orders.push_back(Order::Violation(what));
                        continue;
                    };
                    self.orders.push_back(Order::LookedUp {
                        lookup: u32::try_from(id.0).unwrap_or(u32::MAX),
                        closest: contacts.iter().map(|it| it.id.node).collect(),
                        stats,
                    });
                }
                Output::Misbehaviour { what, .. } => {
                    self.orders.push_back(Order::Accused { what });
                }
            }
        }
        self.rejoin.neighbours(self.dht.wants_contacts(), now);
    }

    fn send(&mut self, to: Id, request: RequestId, message: Message<LookupContact>) {
        self.orders.push_back(Order::Send {
            to: to.node,
            frame: Frame {
                request,
                sender: self.me,
                message,
            },
            dial: true,
        });
    }

    fn join(&mut self, via: NodeId, now: Now) {
        if via != self.me.id.node {
            let contacts = vec![LookupContact::new(Id::of(via), now)];
            self.dht.handle(Input::Learned { contacts }, now);
        }
    }

    /// Returns what a liar answers; none where it answers as an honest node does.
    fn lie(
        &self,
        to: NodeId,
        query: &Query<LookupContact>,
        now: Now,
    ) -> Option<Answer<LookupContact>> {
        if !self.crowd.lies(self.me.id.node) {
            return None;
        }
        let friends = |key: &Key| {
            let closest = self.crowd.closest_liars(key.point(), K, to);
            closest
                .into_iter()
                .map(|id| LookupContact::new(id, now))
                .collect()
        };
        match query {
            Query::Ping | Query::AddProvider { .. } => None,
            Query::FindNode { key } => Some(Answer::Closer {
                contacts: friends(key),
            }),
            Query::GetProviders { key } => Some(Answer::Providers {
                providers: Vec::new(),
                closer: friends(key),
            }),
        }
    }

    fn receive(&mut self, from: NodeId, frame: Frame, now: Now) {
        let Frame {
            request,
            sender,
            message,
        } = frame;
        if let Message::Query(query) = &message
            && let Some(answer) = self.lie(from, query, now)
        {
            return self.send(sender.id, request, Message::Answer(answer));
        }
        self.dht.handle(
            Input::Received {
                from: sender.id,
                contact: Some(sender),
                request,
                message,
            },
            now,
        );
    }
}

impl Machine for Member {
    type Frame = Frame;

    const HOLDS_LINKS: bool = false;
    const HEARS_OF_LINKS: bool = false;

    fn build(plan: &Plan, node: NodeId, seed: u64, now: Now) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let me = LookupContact::new(Id::of(node), now);
        let dht_rng = ChaCha8Rng::from_rng(&mut rng);
        Self {
            me,
            dht: Dht::new(me, weft_dht::dht::Config::default(), dht_rng, now),
            crowd: Arc::clone(&plan.crowd),
            rejoin: Rejoin::new(plan.vias, seed),
            orders: VecDeque::new(),
        }
    }

    fn begin(&mut self, _: Now) {}

    fn handle(&mut self, fact: Fact<Frame>, now: Now) {
        match fact {
            Fact::Frame { from, frame } => self.receive(from, frame, now),
            Fact::Down { peer, .. } | Fact::Unreachable { peer } => {
                let peer = Id::of(peer);
                self.dht.handle(Input::PeerLost { peer }, now);
            }
            Fact::Join { via } => self.join(via, now),
            Fact::LookUp { lookup, key, paths } => {
                self.dht.set_paths(paths);
                let id = CallId(u64::from(lookup));
                let call = Call::Closest(Key::from_array(key));
                self.dht.handle(Input::Call { id, call }, now);
            }
            Fact::Up { .. }
            | Fact::Rtt { .. }
            | Fact::Contacts(_)
            | Fact::Partner(_)
            | Fact::Publish { .. }
            | Fact::Kv { .. }
            | Fact::Subscribe { .. }
            | Fact::SubscribeTo(_)
            | Fact::PublishOn(_)
            | Fact::Woken => {}
        }
        self.drain(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.dht.handle_timeout(now);
        if let Some(via) = self.rejoin.due(now) {
            self.join(via, now);
        }
        self.drain(now);
    }

    fn poll_timeout(&self) -> Time {
        self.dht.poll_timeout().min(self.rejoin.poll_timeout())
    }

    fn touch(&self) -> u64 {
        self.dht.table().touch() ^ self.dht.poll_timeout().as_micros()
    }

    fn poll_order(&mut self, _: Now) -> Option<Order<Frame>> {
        self.orders.pop_front()
    }

    fn active(&self, _: &mut Vec<NodeId>) {}

    fn passive(&self, _: &mut Vec<NodeId>) {}

    fn is_neighbour(&self, _: NodeId) -> bool {
        false
    }

    /// No table holds its owner, or a peer twice.
    fn check(&self) -> Result<(), String> {
        let mut peers: Vec<Id> = self
            .dht
            .table()
            .entries()
            .map(weft_dht::table::Entry::peer)
            .collect();
        if peers.contains(&self.me.id) {
            return Err("it stands in its own table".to_owned());
        }
        let all = peers.len();
        peers.sort_unstable();
        peers.dedup();
        if peers.len() < all {
            return Err("a peer stands twice in its table".to_owned());
        }
        Ok(())
    }

    fn is_repairing(&self) -> bool {
        false
    }

    fn is_ordered(&self) -> bool {
        true
    }

    /// Only before anybody runs: a table is much to copy, and what is swept is who lies from the start.
    fn fork(engine: &Engine<Self>) -> Option<Engine<Self>> {
        engine.anew()
    }
}
