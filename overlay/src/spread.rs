//! The families of epidemics, side by side: how a swarm's bundles could spread if not along trees.
//!
//! Source: Demers et al., "Epidemic Algorithms for Replicated Database Maintenance", PODC 1987: §1.3 anti-entropy, §1.4
//! complex epidemics, there called rumor mongering. Connection limit and hunting are left out. Flooding is the yardstick that
//! HyParView (§5) and Plumtree (§4) are measured with.
//!
//! **For simulation only.** Nodes use [`Spread::Tree`], that is [`crate::plumtree::Broadcast`]. In steady state it sends
//! each bundle to each member once and at once. A flood sends it on over every link but the one it came by: with five
//! neighbours four payloads a member, where one would do. A rumor that is to miss few costs several payloads a member,
//! waits for a cycle at each step, and still has a residue (residue = e^-traffic when pushed). Anti-entropy misses nobody
//! and sends little twice, but waits for cycles too, and compares for ever. So there is no wire encoding here, no order, no
//! proof of equivocation: just enough to show those figures on the types that nodes use.
//!
//! [`Epidemic`] is one member. Its owner tells it of neighbours, messages and bundles to publish, and draws a partner
//! wherever it asks for one ([`Output::Partner`]).

mod config;
mod known;
pub mod message;
mod rumor;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub use config::{
    Config, Decision, Direction, Notice, Partners, Phase, Removal, Rumor, Spread, Sync,
};
pub use known::{HELD_MAX, STREAMS_MAX};
pub use message::{BundleId, Carried, Message, Verdict};

use crate::{Bundle, Header, Now, Seqs, StreamId, Time};
use known::{Admission, Known};
use sync::Asked;

/// What a member is told.
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
    /// This member publishes.
    Publish(B),
    /// The answer to [`Output::Partner`]; one that was not asked for in this cycle is ignored.
    Partner(P),
}

/// What a member orders.
#[derive(Clone, Debug)]
pub enum Output<P, B> {
    /// Send a message.
    Send {
        /// To whom, neighbour or not.
        to: P,
        /// The message.
        message: Message<P, B>,
    },
    /// A bundle came for the first time, or was published here.
    New {
        /// Where it stands.
        header: Header<P>,
        /// Links it has travelled: the generation of the epidemic.
        hops: u8,
    },
    /// Draw a partner and answer with [`Input::Partner`]; without an answer the contact is left out.
    Partner,
}

/// What a member has counted. The paper's traffic is `payloads_sent` of all over their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bundles sent.
    pub payloads_sent: u64,
    /// Bundles received for the first time.
    pub payloads_new: u64,
    /// Bundles received again.
    pub payloads_duplicate: u64,
    /// Frames of feedback sent.
    pub feedback_sent: u64,
    /// Digests sent.
    pub digests_sent: u64,
    /// Questions sent: for rumors, and for what a digest showed.
    pub requests_sent: u64,
    /// Bundles refused because their stream would be one too many.
    pub refused: u64,
    /// Held bundles that newer ones displaced.
    pub displaced: u64,
    /// Holes counted as seen, so that a stream's ranges stay bounded.
    pub written_off: u64,
}

/// Which epidemic a member runs.
#[derive(Clone, Copy, Debug)]
enum Family {
    Flood,
    Rumor(Rumor),
    Sync(Sync),
}

impl Family {
    const fn interval(self) -> Duration {
        match self {
            Self::Flood => Duration::MAX,
            Self::Rumor(rumor) => rumor.interval,
            Self::Sync(sync) => sync.interval,
        }
    }
}

/// When cycles begin, by number.
#[derive(Clone, Copy, Debug)]
struct Cycles {
    interval_micros: u64,
    /// How long before each multiple of the interval a cycle begins.
    lead_micros: u64,
}

impl Cycles {
    fn new(interval: Duration, phase: Phase, rng: &mut ChaCha8Rng) -> Self {
        let interval_micros = u64::try_from(interval.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let lead_micros = match phase {
            Phase::Aligned => 0,
            Phase::Jittered => rng.random_range(0..interval_micros),
        };
        Self {
            interval_micros,
            lead_micros,
        }
    }

    fn at(self, now: Now) -> u64 {
        now.time.as_micros().saturating_add(self.lead_micros) / self.interval_micros
    }

    fn start(self, cycle: u64) -> Time {
        let micros = cycle.saturating_mul(self.interval_micros);
        Time::from_micros(micros.saturating_sub(self.lead_micros))
    }
}

/// Flood, rumor or anti-entropy at one member.
#[derive(Clone, Debug)]
pub struct Epidemic<B: Bundle> {
    family: Family,
    partners: Partners,
    cycles: Cycles,
    rng: ChaCha8Rng,
    neighbours: BTreeSet<B::Peer>,
    known: Known<B>,
    /// When the next cycle begins; `NEVER` while there is nothing to do in it.
    round_at: Time,
    /// Partners that the owner was asked for in this cycle and has not named.
    unanswered: u8,
    asked: Asked<B::Peer>,
    counters: Counters,
    outputs: VecDeque<Output<B::Peer, B>>,
}

impl<B: Bundle> Epidemic<B> {
    /// Makes a member that knows nothing; none for [`Spread::Tree`], which [`crate::plumtree::Broadcast`] runs.
    pub fn new(spread: Spread, config: Config, mut rng: ChaCha8Rng, now: Now) -> Option<Self> {
        let family = match spread {
            Spread::Tree => return None,
            Spread::Flood => Family::Flood,
            Spread::Rumor(rumor) => Family::Rumor(rumor),
            Spread::Sync(sync) => Family::Sync(sync),
        };
        let mut epidemic = Self {
            family,
            partners: config.partners,
            cycles: Cycles::new(family.interval(), config.phase, &mut rng),
            rng,
            neighbours: BTreeSet::new(),
            known: Known::new(),
            round_at: Time::NEVER,
            unanswered: 0,
            asked: Asked::default(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
        };
        epidemic.plan(now);
        Some(epidemic)
    }

    /// Takes a fact.
    pub fn handle(&mut self, input: Input<B::Peer, B>, now: Now) {
        let cycle = self.cycles.at(now);
        match input {
            Input::NeighbourUp(peer) => {
                self.neighbours.insert(peer);
            }
            Input::NeighbourDown(peer) => {
                self.neighbours.remove(&peer);
            }
            Input::Received { from, message } => self.received(from, message, cycle),
            Input::Publish(bundle) => self.publish(&bundle, cycle),
            Input::Partner(peer) => {
                if let Some(left) = self.unanswered.checked_sub(1) {
                    self.unanswered = left;
                    self.contact(peer, cycle);
                }
            }
        }
        self.plan(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.round_at <= now.time {
            self.round(self.cycles.at(now));
            self.round_at = Time::NEVER;
        }
        self.plan(now);
    }

    /// Returns the next order.
    pub fn poll_output(&mut self) -> Option<Output<B::Peer, B>> {
        self.outputs.pop_front()
    }

    /// Returns when to let time pass.
    pub const fn poll_timeout(&self) -> Time {
        self.round_at
    }

    /// Returns what has been seen of a stream; none where nothing was.
    pub fn seen(&self, id: StreamId<B::Peer>) -> Option<&Seqs> {
        self.known.seen(id)
    }

    /// Returns how many bundles are held: the hot rumors, which makes a member of a rumor's epidemic infective, or what
    /// anti-entropy can supply. A flood holds none.
    pub fn held(&self) -> usize {
        self.known.held().len()
    }

    /// Returns what has been counted.
    pub const fn counters(&self) -> Counters {
        Counters {
            displaced: self.known.displaced,
            written_off: self.known.written_off,
            ..self.counters
        }
    }

    /// Plans the next cycle if there is anything to do in it.
    fn plan(&mut self, now: Now) {
        let direction = match self.family {
            Family::Flood => return,
            Family::Rumor(rumor) => rumor.direction,
            Family::Sync(sync) => sync.direction,
        };
        let has_partners = self.partners == Partners::Owner || !self.neighbours.is_empty();
        if !has_partners || !(direction.pulls() || self.held() > 0) {
            self.round_at = Time::NEVER;
        } else if self.round_at == Time::NEVER {
            self.round_at = self.cycles.start(self.cycles.at(now).saturating_add(1));
        }
    }

    /// Begins a cycle.
    fn round(&mut self, cycle: u64) {
        self.unanswered = 0;
        match self.family {
            Family::Flood => {}
            Family::Rumor(rumor) => {
                self.lose_interest(rumor);
                if rumor.direction.pulls() || self.has_hot(cycle) {
                    self.seek(rumor.fanout.get(), cycle);
                }
            }
            Family::Sync(_) => self.seek(1, cycle),
        }
    }

    /// Finds partners for this cycle.
    fn seek(&mut self, count: u8, cycle: u64) {
        match self.partners {
            Partners::Owner => {
                self.unanswered = count;
                for _ in 0..count {
                    self.outputs.push_back(Output::Partner);
                }
            }
            Partners::Neighbours => {
                let mut candidates: Vec<_> = self.neighbours.iter().copied().collect();
                for _ in 0..usize::from(count).min(candidates.len()) {
                    let at = self.rng.random_range(0..candidates.len());
                    let partner = candidates.swap_remove(at);
                    self.contact(partner, cycle);
                }
            }
        }
    }

    fn contact(&mut self, partner: B::Peer, cycle: u64) {
        match self.family {
            Family::Flood => {}
            Family::Rumor(rumor) => self.gossip(partner, rumor, cycle),
            Family::Sync(sync) => self.compare(partner, sync),
        }
    }

    /// Takes a message. Members of one swarm run one strategy: a message of another one says nothing here.
    fn received(&mut self, from: B::Peer, message: Message<B::Peer, B>, cycle: u64) {
        match (self.family, message) {
            (Family::Flood, Message::Flood(carried)) => {
                if self.take(&carried, cycle) == Admission::New {
                    self.flood(&carried.bundle, carried.hops, Some(from));
                }
            }
            (Family::Rumor(rumor), Message::Rumors { rumors, ask }) => {
                self.told(from, rumors, ask, rumor, cycle);
            }
            (Family::Rumor(_), Message::Feedback { verdicts }) => self.judged(verdicts),
            (Family::Sync(_), Message::Digest { streams, direction }) => {
                self.compared(from, streams, direction, cycle);
            }
            (Family::Sync(_), Message::Want { ranges }) => self.wanted(from, ranges),
            (Family::Sync(_), Message::Supply { bundles }) => self.supplied(bundles, cycle),
            (Family::Flood | Family::Rumor(_) | Family::Sync(_), _) => {}
        }
    }

    fn publish(&mut self, bundle: &B, cycle: u64) {
        if self.admit(bundle, 0, cycle) != Admission::New {
            return;
        }
        if matches!(self.family, Family::Flood) {
            self.flood(bundle, 0, None);
        }
    }

    /// Takes in a bundle that came, and counts it.
    fn take(&mut self, carried: &Carried<B>, cycle: u64) -> Admission {
        let admission = self.admit(&carried.bundle, carried.hops, cycle);
        match admission {
            Admission::New => self.counters.payloads_new += 1,
            Admission::Duplicate => self.counters.payloads_duplicate += 1,
            Admission::Refused => {}
        }
        admission
    }

    fn admit(&mut self, bundle: &B, hops: u8, cycle: u64) -> Admission {
        let admission = self.known.see(bundle);
        match admission {
            Admission::New => {
                if !matches!(self.family, Family::Flood) {
                    self.known.hold(bundle.clone(), hops, cycle);
                }
                let header = bundle.header();
                self.outputs.push_back(Output::New { header, hops });
            }
            Admission::Refused => self.counters.refused += 1,
            Admission::Duplicate => {}
        }
        admission
    }

    /// Pushes a bundle to every neighbour but the one it came from.
    fn flood(&mut self, bundle: &B, hops: u8, from: Option<B::Peer>) {
        for &to in self.neighbours.iter().filter(|&&peer| Some(peer) != from) {
            self.counters.payloads_sent += 1;
            let message = Message::Flood(Carried {
                bundle: bundle.clone(),
                hops: hops.saturating_add(1),
            });
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    fn send(&mut self, to: B::Peer, message: Message<B::Peer, B>) {
        self.outputs.push_back(Output::Send { to, message });
    }
}
