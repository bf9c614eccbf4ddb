//! One node's part in the replicated store: it keeps records as a replica, and coordinates calls.
//!
//! This is Dynamo (DeCandia et al., SOSP 2007) on Kademlia's distance. The replicas of a key are the n nodes closest to
//! its point that are *settled* there; `claim.rs` says what that means and why quorums meet although nodes disagree
//! about who is there. The parts:
//!
//! - `view.rs` is whom this node knows near itself, and its sight of a point; `fill.rs` how it becomes settled,
//!   `leave.rs` how others take its places.
//! - `serve.rs` answers queries, `disk.rs` writes in batches, `loads.rs` reads values; `holding.rs` is what is held, `kept.rs`
//!   what lies on disk.
//! - `orders.rs` is what a store is told and orders; `calls.rs` what callers may ask, `tally.rs` who has answered what of it, `get.rs`, `put.rs`, `list.rs` the calls.
//! - `sync.rs` compares what two nodes have and brings the difference, `pace.rs` says how often others may ask for that, `hints.rs` hands off what a stand-in keeps,
//!   `drops.rs` drops what others hold for good.
//!
//! **Differences from Dynamo.** Membership isn't told but claimed; a stand-in's acknowledgement counts, and the answer
//! says so ([`Replies::sloppy`]); what only those can answer "not found" that hold everything a quorum acknowledged,
//! so that "not found" is never a guess; comparison is by sums over a set's items (range-based set reconciliation,
//! Meyer 2022) instead of Merkle trees, because two nodes share a different set with each other neighbour.
//!
//! **Invariant:** nothing is acknowledged or read here that isn't on disk.

pub mod calls;
mod claim;
mod config;
mod disk;
mod drops;
mod fill;
mod get;
mod hints;
mod holding;
mod kept;
mod leave;
mod list;
mod loads;
pub mod messages;
mod orders;
mod pace;
mod put;
mod running;
mod serve;
mod sync;
mod tally;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::kv::{Dots, KvKey, Owned};
use crate::requests::{Overdue, Requests};
use crate::rtt::{PATIENCE_FIRST, PATIENCE_MAX, Rtt};
use crate::{Contact, Now, RequestId, Time};

pub use calls::{
    Basis, Call, CallId, Draft, Holder, Level, Outcome, Replies, Reply, Terms, Written,
};
pub use claim::{CLAIM_PEERS_MAX, Claim, Known, Round};
pub use config::Config;
pub use kept::Kept;
pub use messages::Message;
pub use orders::{Counters, DiskError, Event, Input, Loaded, Op, OrderId, Output, Reach, Restored};

use config::STOPPED_MIN;
use disk::Disk;
use drops::Drops;
use fill::Fill;
use hints::Handoff;
use holding::Holding;
use leave::Leaving;
use loads::Loads;
use messages::{Answer, Query};
use pace::Paces;
use running::Running;
use sync::Sync;
use view::Members;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A call's own question.
    Call(CallId),
    /// A call brings a replica what it lacks.
    WriteBack(CallId),
    /// The same, and nobody waits.
    Repair,
    Claim,
    Sync,
    Handoff,
    Former,
}

/// One node's part in the replicated store.
#[derive(Debug)]
pub struct Store<C: Contact> {
    config: Config,
    rng: ChaCha8Rng,
    outputs: VecDeque<Output<C>>,
    /// What this node says to itself.
    loopback: VecDeque<(RequestId, Message<C>)>,
    counters: Counters,
    orders: u64,

    members: Members<C>,
    holding: Holding<C::Peer>,
    owned: Owned,
    dots: Dots,
    disk: Disk<C>,
    loads: Loads<C::Peer>,
    requests: Requests<C::Peer, Purpose>,
    /// The round trips of reads and writes of all peers.
    reads: Rtt,
    writes: Rtt,

    calls: BTreeMap<CallId, Running<C>>,
    /// Calls of the store's own.
    own_calls: u64,
    lookups: BTreeMap<OrderId, CallId>,
    fill: Fill<C::Peer>,
    sync: Sync<C::Peer>,
    handoff: Handoff<C::Peer>,
    drops: Drops<C::Peer>,
    paces: Paces<C::Peer>,
    leaving: Leaving<C::Peer>,
}

impl<C: Contact> Store<C> {
    /// Makes a node's part from what its disk holds.
    pub fn new(me: C, config: Config, rng: ChaCha8Rng, now: Now, restored: Restored<C>) -> Self {
        let mut store = Self {
            members: Members::new(me, config.stores),
            fill: Fill::new(now.time),
            sync: Sync::new(now.time + config.sync_interval),
            drops: Drops::new(now.time + config.sync_interval),
            config,
            rng,
            outputs: VecDeque::new(),
            loopback: VecDeque::new(),
            counters: Counters::default(),
            orders: 0,
            holding: Holding::new(),
            owned: Owned::default(),
            dots: Dots::new(restored.epoch),
            disk: Disk::new(),
            loads: Loads::new(),
            requests: Requests::new(),
            reads: Rtt::default(),
            writes: Rtt::default(),
            calls: BTreeMap::new(),
            own_calls: 0,
            lookups: BTreeMap::new(),
            handoff: Handoff::default(),
            paces: Paces::new(),
            leaving: Leaving::new(),
        };
        store.restore(restored, now);
        store
    }

    /// Handles a fact.
    pub fn handle(&mut self, input: Input<C>, now: Now) {
        match input {
            Input::SetMe(me) => self.members.set_me(me),
            Input::View { contacts } => self.on_view(contacts, now),
            Input::Call { id, call } => self.on_call(id, call, now),
            Input::Signed { id, record } => self.on_signed(id, record, now),
            Input::Received {
                from,
                request,
                message,
            } => self.on_message(from, request, message, now),
            Input::PeerLost { peer } => {
                for request in self.requests.lost(peer) {
                    self.on_failed(peer, request.why, now);
                }
            }
            Input::Closest { id, contacts } => self.on_closest(id, contacts, now),
            Input::Persisted { id, result } => self.on_persisted(id, result, now),
            Input::Loaded { id, records } => self.on_loaded(id, records, now),
            Input::Damaged { records } => {
                for (key, id) in records {
                    self.on_damaged(key, id, now);
                }
            }
        }
        self.run(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let late = now.time.since(self.requests.next_due());
        if late >= STOPPED_MIN {
            self.requests.forgive(late);
        }
        while let Some(overdue) = self.requests.overdue(now.time) {
            match overdue {
                Overdue::Slow { peer, why } => self.on_slow(peer, why, now),
                Overdue::Failed(request) => self.on_failed(request.peer, request.why, now),
            }
        }
        self.calls_due(now);
        self.fill_due(now);
        self.sync_due(now);
        self.drops_due(now);
        self.run(now);
    }

    /// Returns the next order.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] has something to do next; what lies in the past is due at once.
    pub fn poll_timeout(&self) -> Time {
        let calls = self.calls.values().map(Running::wake_at).min();
        let own = [
            self.requests.next_due(),
            calls.unwrap_or(Time::NEVER),
            self.fill.wake_at(),
            self.sync.wake_at(),
            self.drops.wake_at(),
        ];
        own.into_iter().min().unwrap_or(Time::NEVER)
    }

    /// Returns whether a peer has not yet answered a question.
    pub fn awaits(&self, peer: C::Peer) -> bool {
        self.requests.awaits(peer)
    }

    /// Returns how the store fares.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns how many records are held here.
    pub fn records(&self) -> usize {
        self.holding.index.len()
    }

    /// Returns how many records are kept here for replicas that were not there.
    pub fn hints(&self) -> usize {
        self.holding.hints_len()
    }

    /// Returns whether this node is settled for a key with so many copies.
    pub fn is_settled(&self, key: &KvKey, copies: u8) -> bool {
        self.members.is_settled(key.point(), usize::from(copies))
    }

    /// Returns the round of this node's claim once it holds; `None` before that.
    pub fn settled_round(&self) -> Option<Round> {
        let own = self.members.own().filter(|_| self.members.recovered());
        own.map(|own| own.claim().round)
    }

    fn run(&mut self, now: Now) {
        loop {
            self.flush(now);
            let Some((request, message)) = self.loopback.pop_front() else {
                return;
            };
            self.on_message(self.members.me(), request, message, now);
        }
    }

    fn on_message(&mut self, from: C::Peer, request: RequestId, message: Message<C>, now: Now) {
        match message {
            Message::Query(query) => self.on_query(from, request, query, now),
            Message::Answer(answer) => self.on_answer(from, request, answer, now),
        }
    }

    fn on_answer(&mut self, from: C::Peer, id: RequestId, answer: Answer<C>, now: Now) {
        let Some(request) = self.requests.answered(id, from) else {
            self.on_late_answer(from, id, answer, now);
            return;
        };
        let took = now.time.since(request.sent_at);
        match answer {
            Answer::Put { .. } | Answer::Pushed { .. } | Answer::Claim { .. } => {
                self.writes.sample_of_many(took);
            }
            _ if from != self.members.me() => {
                self.reads.sample_of_many(took);
                if let Some(member) = self.members.get_mut(from) {
                    member.rtt.sample(took);
                }
            }
            _ => {}
        }
        match request.why {
            Purpose::Call(call) => self.on_call_answer(call, from, answer, now),
            Purpose::WriteBack(call) => self.on_written_back(call, from, &answer, now),
            Purpose::Repair => {}
            Purpose::Claim => self.on_claim_answer(from, answer, now),
            Purpose::Sync => self.on_sync_answer(from, answer, now),
            Purpose::Handoff => self.on_handoff_answer(from, answer, now),
            Purpose::Former => self.on_former_answer(from, &answer),
        }
    }

    fn on_slow(&mut self, peer: C::Peer, why: Purpose, now: Now) {
        if let Purpose::Call(call) = why {
            self.on_call_slow(call, peer, now);
        }
    }

    fn on_failed(&mut self, peer: C::Peer, why: Purpose, now: Now) {
        self.counters.failures += 1;
        match why {
            Purpose::Call(call) => self.on_call_failed(call, peer, now),
            Purpose::WriteBack(call) => self.on_written_back(call, peer, &Answer::Unable, now),
            Purpose::Repair => {}
            Purpose::Claim => self.on_claim_failed(peer, now),
            Purpose::Sync => self.on_sync_failed(peer, now),
            Purpose::Handoff => self.on_handoff_failed(peer, now),
            Purpose::Former => self.on_former_answer(peer, &Answer::Unable),
        }
    }

    /// Sends a query that is waited for.
    fn ask(&mut self, to: &C, query: Query<C>, why: Purpose, now: Now) -> RequestId {
        let peer = to.peer();
        let patience = self.patience(peer, &query, why);
        let request = self.requests.send(peer, why, patience, now.time);
        let message = Message::Query(query);
        if peer == self.members.me() {
            self.loopback.push_back((request, message));
            return request;
        }
        if why == Purpose::Sync {
            self.counters.sync_bytes += message.bytes() as u64;
        }
        self.outputs.push_back(Output::Send {
            to: peer,
            contact: Some(to.clone()),
            request,
            message,
        });
        request
    }

    fn answer(&mut self, to: C::Peer, request: RequestId, answer: Answer<C>) {
        let message = Message::Answer(answer);
        if to == self.members.me() {
            self.loopback.push_back((request, message));
            return;
        }
        self.outputs.push_back(Output::Send {
            to,
            contact: None,
            request,
            message,
        });
    }

    /// Returns how long a peer may take before another one is asked: its own measure, else everyone's, else a second.
    fn patience(&self, peer: C::Peer, query: &Query<C>, why: Purpose) -> Duration {
        match (why, query) {
            // Nobody waits, and these move much.
            (Purpose::Sync | Purpose::Claim | Purpose::Handoff | Purpose::Former, _)
            | (Purpose::Repair, _) => PATIENCE_MAX,
            (_, Query::Put { .. } | Query::Push { .. }) => {
                self.writes.patience().unwrap_or(PATIENCE_FIRST)
            }
            _ => {
                let own = self.members.get(peer).and_then(|m| m.rtt.patience());
                own.or(self.reads.patience()).unwrap_or(PATIENCE_FIRST)
            }
        }
    }

    fn next_order(&mut self) -> OrderId {
        self.orders += 1;
        OrderId(self.orders)
    }

    fn reply(&mut self, id: CallId, outcome: Outcome<C::Peer>) {
        self.outputs.push_back(Output::Reply { id, outcome });
    }

    fn event(&mut self, event: Event<C::Peer>) {
        self.outputs.push_back(Output::Event(event));
    }

    fn misbehaved(&mut self, peer: C::Peer, what: &'static str) {
        self.event(Event::Misbehaviour { peer, what });
    }
}
