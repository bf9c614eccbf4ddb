//! One node's part in the structured layer: it keeps a table, runs lookups, answers queries, keeps provider records.
//!
//! This is Kademlia (Maymounkov & Mazières, IPTPS 2002) with the semantics of libp2p's kad-dht. The parts stand beside
//! it: [`crate::table`], [`crate::lookup`], [`crate::providers`]. This module is their parent: it sends and times the
//! requests, and translates. `serve.rs` answers others, `calls.rs` runs lookups for callers, `probes.rs` pings,
//! `upkeep.rs` joins, refreshes and announces again.
//!
//! - **Server and client.** A node serves if its own contact says so ([`Contact::serves`]); there is no second switch. A
//!   client asks and never answers, and nobody takes it into a table.
//! - **Proven contacts.** A peer gets into the table once it has answered *us*. One that queries us, or that the
//!   overlay has told us of ([`Input::Learned`]), is pinged if there is room for it. The owner should send such a ping
//!   to an address of the contact: an answer over a link that the peer made proves none.
//! - **Bootstrap.** The first peer that answers starts it: a lookup of the own key, then one into each bucket. A node
//!   that lost everybody does so again with the first that is back.
//! - **The other layer.** [`Dht::sample_contacts`] is what the overlay seeds itself with again once its views run dry.

mod calls;
mod config;
mod probes;
mod serve;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::lookup::Stats;
use crate::message::{Message, Query, RequestId};
use crate::point::Key;
use crate::providers::Providers;
use crate::requests::{Overdue, Requests};
use crate::rtt::{PATIENCE_FIRST, PATIENCE_MAX, Rtt};
use crate::table::{Entry, Standing, Table};
use crate::{Contact, Now, Peer, Time};

use calls::Running;
pub use config::Config;
use config::{CONTACT_SKEW, STOPPED_MIN};
use probes::Probe;
use upkeep::Upkeep;

/// Names a caller's request; the caller gives it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a running lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LookupId(u64);

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call<P> {
    /// The contact of a peer.
    FindPeer(P),
    /// The k peers closest to a key.
    Closest(Key),
    /// To be known as a provider of a key, until [`Input::StopProviding`].
    Provide(Key),
    /// Up to 20 providers of a key.
    Providers(Key),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<C: Contact> {
    /// The peer's contact, if it was found and answered.
    Peer {
        /// Its contact.
        contact: Option<C>,
    },
    /// The closest peers that answered, the closest first; this node is not among them.
    Closest {
        /// Their contacts.
        contacts: Vec<C>,
    },
    /// This node was announced as a provider. The protocol has no acknowledgement.
    Provided {
        /// The peers that were told.
        told: Vec<C::Peer>,
    },
    /// Providers of the key; this node is not among them.
    Providers {
        /// Their contacts, at most 20.
        providers: Vec<C>,
        /// The closest peers that answered, as for [`Outcome::Closest`].
        closest: Vec<C>,
    },
    /// There are as many calls running as may be, or as many keys provided; nothing was done.
    Busy,
}

/// A fact that the layer is told.
#[derive(Clone, Debug)]
pub enum Input<C: Contact> {
    /// The own contact was renewed, or this node begins or ceases to serve.
    SetMe(C),
    /// Contacts came from the overlay, an announcement or the address book; they are pinged where there is room.
    Learned {
        /// The contacts.
        contacts: Vec<C>,
    },
    /// A message arrived.
    Received {
        /// From whom, as the link has proven it.
        from: C::Peer,
        /// What the sender says of itself, where its link has told.
        contact: Option<C>,
        /// For an answer the id of our query; for a query whatever pairs our answer with it.
        request: RequestId,
        /// The message.
        message: Message<C>,
    },
    /// A caller asks for something.
    Call {
        /// Pairs the reply with it.
        id: CallId,
        /// What it asks for.
        call: Call<C::Peer>,
    },
    /// This node no longer provides a key. Records of it expire where they are.
    StopProviding {
        /// The key.
        key: Key,
    },
    /// The operator doesn't want a peer: it loses its place. If it is heard of again, it may get one again.
    Forget {
        /// The peer.
        peer: C::Peer,
    },
    /// A peer may have gone: one of the table is pinged, and not named to others until it answers.
    Doubt {
        /// The peer.
        peer: C::Peer,
    },
    /// A peer has shown that it is there: a link to it has come up. If there is room for it, or if it was thought silent,
    /// it is pinged.
    Met {
        /// What it says of itself.
        contact: C,
    },
    /// A question waits until its peer can be reached at all: what that takes says nothing of how fast the peer answers.
    Waits {
        /// The question.
        request: RequestId,
    },
    /// A question that waited has left.
    Left {
        /// The question.
        request: RequestId,
    },
    /// A link to a peer could not be made or went down: what it was asked it won't answer.
    PeerLost {
        /// The peer.
        peer: C::Peer,
    },
    /// A link that nobody seemed to need was closed, perhaps under a question; its peer is as well as before.
    Unlinked {
        /// The peer.
        peer: C::Peer,
    },
}

/// An order that the layer gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<C: Contact> {
    /// Send a message; link to the peer first if needed, and tell [`Input::PeerLost`] if that fails.
    Send {
        /// To whom.
        to: C::Peer,
        /// How to reach it; `None` where the message answers a query and goes back the way that came.
        contact: Option<C>,
        /// For a query the id that its answer must bring back; for an answer what came with the query.
        request: RequestId,
        /// The message.
        message: Message<C>,
    },
    /// A caller's request has ended.
    Reply {
        /// Which one.
        id: CallId,
        /// What became of it.
        outcome: Outcome<C>,
        /// What its lookup cost; all zero where none was needed.
        stats: Stats,
    },
    /// A peer sent what no honest peer sends; it was cut down or ignored.
    Misbehaviour {
        /// The peer.
        peer: C::Peer,
        /// What it did.
        what: &'static str,
    },
}

/// What was refused or ignored, and how requests fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Queries sent that have an answer.
    pub requests: u64,
    /// Answers that came in time.
    pub answers: u64,
    /// Requests that were never answered, or too late.
    pub failures: u64,
    /// Answers that nobody waited for (any more).
    pub unasked: u64,
    /// Contacts in answers that were expired, from the future, no server's, or this node's.
    pub contacts_refused: u64,
    /// Calls refused because too many are running.
    pub calls_refused: u64,
    /// Pings left out because too many are running.
    pub probes_left_out: u64,
    /// Provider records refused.
    pub providers_refused: u64,
    /// Queries ignored because this node is a client.
    pub queries_ignored: u64,
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Lookup(LookupId),
    Probe,
}

/// What is remembered of a request in flight.
#[derive(Clone, Debug)]
struct Asked<C> {
    contact: C,
    purpose: Purpose,
    /// Whether its link was closed under it once.
    is_again: bool,
}

/// One node's part in the structured layer.
#[derive(Debug)]
pub struct Dht<C: Contact> {
    me: C,
    config: Config,
    rng: ChaCha8Rng,
    outputs: VecDeque<Output<C>>,
    counters: Counters,

    table: Table<C>,
    /// The round trips of all peers together.
    everyone: Rtt,
    requests: Requests<C::Peer, Asked<C>>,
    probes: BTreeMap<C::Peer, Probe<C>>,

    lookups: BTreeMap<LookupId, Running<C>>,
    next_lookup: LookupId,

    /// Records that others gave us.
    providers: Providers<C>,
    /// Keys that this node provides, and when each is announced again.
    provided: BTreeMap<Key, Time>,
    upkeep: Upkeep,
}

impl<C: Contact> Dht<C> {
    /// Makes a node's part that knows nobody yet.
    pub fn new(me: C, config: Config, rng: ChaCha8Rng, now: Now) -> Self {
        Self {
            table: Table::new(me.peer().point()),
            me,
            config,
            rng,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            everyone: Rtt::default(),
            requests: Requests::new(),
            probes: BTreeMap::new(),
            lookups: BTreeMap::new(),
            next_lookup: LookupId(0),
            providers: Providers::default(),
            provided: BTreeMap::new(),
            upkeep: Upkeep::new(now.time),
        }
    }

    /// Handles a fact.
    pub fn handle(&mut self, input: Input<C>, now: Now) {
        match input {
            Input::SetMe(me) => self.me = me,
            Input::Learned { contacts } => self.on_learned(contacts, now),
            Input::Received {
                from,
                contact,
                request,
                message,
            } => {
                let contact = contact.filter(|contact| contact.peer() == from);
                match message {
                    Message::Query(query) => self.on_query(from, contact, request, query, now),
                    Message::Answer(answer) => self.on_answer(from, contact, request, answer, now),
                }
            }
            Input::Call { id, call } => self.on_call(id, call, now),
            Input::StopProviding { key } => {
                self.provided.remove(&key);
                self.plan_announcements();
            }
            Input::Doubt { peer } => self.on_doubt(peer, now),
            Input::Forget { peer } => self.table.forget(peer),
            Input::Met { contact } => self.notice(contact.peer(), Some(contact), now),
            Input::Waits { request } => self.requests.waits(request, self.everyone.reaching()),
            Input::Left { request } => self.requests.left(request, now.time),
            Input::PeerLost { peer } => {
                for request in self.requests.lost(peer) {
                    self.on_failed(peer, request.why, now);
                }
            }
            Input::Unlinked { peer } => {
                for request in self.requests.lost(peer) {
                    self.ask_again(peer, request.why, now);
                }
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let late = now.time.since(self.requests.next_due());
        if late >= STOPPED_MIN {
            self.requests.forgive(late);
        }
        while let Some(overdue) = self.requests.overdue(now.time) {
            match overdue {
                Overdue::Slow { peer, why } => self.on_slow(peer, &why, now),
                Overdue::Failed(request) => self.on_failed(request.peer, request.why, now),
            }
        }
        self.keep_up(now);
    }

    /// Returns the next order.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] has something to do next; what lies in the past is due at once.
    pub fn poll_timeout(&self) -> Time {
        self.requests.next_due().min(self.next_upkeep())
    }

    /// Sets the disjoint paths of callers' lookups from now on, 1 to [`crate::lookup::PATHS_MAX`].
    pub fn set_paths(&mut self, paths: usize) {
        self.config.paths = paths.clamp(1, crate::lookup::PATHS_MAX);
    }

    /// Returns the routing table.
    pub fn table(&self) -> &Table<C> {
        &self.table
    }

    /// Returns the provider records that are kept for others.
    pub fn providers(&self) -> &Providers<C> {
        &self.providers
    }

    /// Returns whether a peer has not yet answered a question.
    pub fn awaits(&self, peer: C::Peer) -> bool {
        self.requests.awaits(peer)
    }

    /// Returns whether this node provides a key.
    pub fn provides(&self, key: &Key) -> bool {
        self.provided.contains_key(key)
    }

    /// Returns what was refused or ignored, and how requests fared.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns whether this node knows nobody who answers, and wants [`Input::Learned`].
    pub fn wants_contacts(&self) -> bool {
        !self.has_live()
    }

    /// Returns whether the table has been filled and no lookup of its own is due.
    pub fn is_settled(&self, now: Now) -> bool {
        self.has_live() && self.upkeep.is_idle() && self.next_upkeep() > now.time
    }

    /// Draws up to `n` contacts of live peers for the overlay.
    ///
    /// Each is the peer closest to a random point, so that far buckets, which stand for more peers, are drawn from more
    /// often: the sample is about as even as one over the whole network.
    pub fn sample_contacts(&mut self, n: usize, now: Now) -> Vec<C> {
        let mut sample: Vec<C> = Vec::new();
        // Twice as many draws as contacts: some fall on the same peer.
        for _ in 0..n.saturating_mul(2) {
            if sample.len() >= n {
                break;
            }
            let target = Key::from_array(self.rng.random()).point();
            let closest = self.table.closest(target, 1).first().copied();
            let contact = closest.map(Entry::contact);
            if let Some(contact) = contact.filter(|contact| contact.expires_at() > now.unix)
                && sample.iter().all(|drawn| drawn.peer() != contact.peer())
            {
                sample.push(contact.clone());
            }
        }
        sample
    }

    /// Sends a query that is waited for.
    fn ask(&mut self, contact: C, query: Query<C>, purpose: Purpose, now: Now) {
        let asked = Asked {
            contact,
            purpose,
            is_again: false,
        };
        self.send_query(asked, query, now);
    }

    /// Asks what the end of a link has left open, once.
    fn ask_again(&mut self, peer: C::Peer, asked: Asked<C>, now: Now) {
        let query = match asked.purpose {
            _ if asked.is_again => None,
            Purpose::Lookup(id) => self.lookups.get(&id).map(Running::query),
            Purpose::Probe => Some(Query::Ping),
        };
        match query {
            Some(query) => {
                let is_again = true;
                self.send_query(Asked { is_again, ..asked }, query, now);
            }
            None => self.on_failed(peer, asked, now),
        }
    }

    fn send_query(&mut self, asked: Asked<C>, query: Query<C>, now: Now) {
        let contact = asked.contact.clone();
        let to = contact.peer();
        let patience = match asked.purpose {
            Purpose::Lookup(_) => self.patience(to),
            // Nobody waits for a ping, and a hasty verdict costs a peer its place.
            Purpose::Probe => PATIENCE_MAX,
        };
        let request = self.requests.send(to, asked, patience, now.time);
        self.counters.requests += 1;
        self.outputs.push_back(Output::Send {
            to,
            contact: Some(contact),
            request,
            message: Message::Query(query),
        });
    }

    /// Returns how long a peer may take before it is slow: its own measure, else everyone's, else a second.
    fn patience(&self, peer: C::Peer) -> Duration {
        let own = self
            .table
            .entry(peer)
            .and_then(|entry| entry.rtt().patience());
        own.or_else(|| self.everyone.patience())
            .unwrap_or(PATIENCE_FIRST)
    }

    /// Keeps of a list of contacts what may be believed: at most `most`, not expired, not from the future, not this
    /// node.
    fn believable(&mut self, from: C::Peer, contacts: Vec<C>, most: usize, now: Now) -> Vec<C> {
        if contacts.len() > most {
            self.misbehaved(from, "more contacts in an answer than a bucket holds");
        }
        let issued_max = now.unix + CONTACT_SKEW;
        let me = self.me.peer();
        let given = contacts.len();
        let mut kept = contacts;
        kept.truncate(most);
        kept.retain(|contact| {
            contact.peer() != me
                && contact.expires_at() > now.unix
                && contact.issued_at() <= issued_max
        });
        self.counters.contacts_refused += (given - kept.len()) as u64;
        kept
    }

    fn misbehaved(&mut self, peer: C::Peer, what: &'static str) {
        self.outputs.push_back(Output::Misbehaviour { peer, what });
    }

    fn has_live(&self) -> bool {
        let mut entries = self.table.entries();
        entries.any(|entry| entry.standing() == Standing::Live)
    }
}
