//! The iterative lookup of the k peers closest to a point (Maymounkov & Mazières, "Kademlia", IPTPS 2002, §2.3), over
//! disjoint paths (Baumgart & Mies, "S/Kademlia", ICPADS 2007, §4.3).
//!
//! Each path begins with a share of the closest peers of the own table and learns only from those that it asked itself;
//! a peer is asked once, by one path. So a lying peer misleads its own path and no other. A path has ended when the k
//! closest peers that it knows have answered, itself or another path having asked them (*strict termination*); peers
//! that fail or are slow don't count among them. A lookup has ended when its paths have.
//!
//! Differences from the papers: alpha rises when peers are slow. Each slow request of a path lets it have one more in
//! flight from then on, up to [`SLOW_MAX`], and the peer no longer counts among the k closest that are to be asked. Its
//! answer counts if it comes while the lookup runs, which is a round trip more at least, that of whom is asked instead; it
//! is waited for only where fewer than k answer. Several paths share as many requests in flight as there are paths, so that the last one,
//! which a liar may be leading through all of its friends, isn't slow (S/Kademlia doesn't say).
//!
//! A lookup that nobody waits for asks one peer after the other, so that its node is linked with few of them at once.
//!
//! A lookup knows no clock: whoever sends its requests says which are slow and which have failed. Who is closest among
//! the ids that it is shown it judges by their hash alone; that a peer owns its id was proven before by its link.

mod candidates;
#[cfg(test)]
mod tests;

use candidates::{Candidates, State};

use crate::table::K;
use crate::{Contact, Peer, Point};

/// Requests in flight that aren't slow (Kademlia §2.3: alpha = 3).
pub const ALPHA: usize = 3;
/// Disjoint paths at most. S/Kademlia's figures end at 16; more than 20 would leave paths without a first peer.
pub const PATHS_MAX: usize = 16;
/// How far slow peers raise a path's alpha: to 10. A guess: a lookup among 30% dead peers then takes less than twice as
/// long.
pub const SLOW_MAX: usize = 7;
/// Requests of a lookup in all. An honest lookup takes about 23, and 4 for each path more; this is where one ends whose
/// peers name ever more peers that don't exist.
pub const REQUESTS_MAX: usize = 400;

/// What a lookup looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The k closest peers.
    Closest,
    /// The peer that stands at the point exactly; once it has answered, the rest isn't waited for.
    Exact,
}

/// A fact that a lookup is told.
#[derive(Clone, Debug)]
pub enum Input<C: Contact> {
    /// A peer that was asked has answered.
    Answered {
        /// The peer.
        from: C::Peer,
        /// Whom it named.
        contacts: Vec<C>,
    },
    /// A peer that was asked takes longer than it should.
    Slow {
        /// The peer.
        peer: C::Peer,
    },
    /// A peer that was asked will not answer.
    Failed {
        /// The peer.
        peer: C::Peer,
    },
}

/// What a lookup cost, and how it got there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that were sent.
    pub requests: u32,
    /// Requests that were answered.
    pub answers: u32,
    /// Requests that were slow.
    pub slow: u32,
    /// Requests that failed.
    pub failures: u32,
    /// How the closest peer that answered was found; `None` if nobody answered.
    pub closest: Option<Found>,
}

/// How a peer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Hops to it: 1 from the own table, 2 if a peer of the own table named it, and so on.
    pub hops: u32,
    /// Answers that had come when it was first named, that one included: what it took to find it.
    pub answers: u32,
}

/// How far a path is.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    /// Requests in flight, slow ones among them.
    in_flight: usize,
    /// Requests that were slow, however they ended.
    slowed: usize,
}

impl Path {
    /// Returns whether it may have a request in flight that isn't slow.
    fn awaits_answer(&self) -> bool {
        self.in_flight > self.slowed.min(SLOW_MAX)
    }
}

/// One running lookup.
#[derive(Debug)]
pub struct Lookup<C> {
    me: Point,
    target: Point,
    goal: Goal,
    candidates: Candidates<C>,
    paths: Vec<Path>,
    /// The path whose turn it is to ask.
    turn: usize,
    /// Whether nobody waits for it.
    is_unhurried: bool,
    stats: Stats,
}

impl<C: Contact> Lookup<C> {
    /// Starts a lookup from the closest peers of the own table, the closest first; they are dealt out to at most
    /// `paths` paths.
    pub fn new(me: Point, target: Point, goal: Goal, seeds: Vec<C>, paths: usize) -> Self {
        let paths = paths.min(PATHS_MAX).min(seeds.len()).max(1);
        let mut candidates = Candidates::new(target, paths);
        for (at, seed) in seeds.into_iter().enumerate() {
            let point = seed.peer().point();
            candidates.name(
                seed,
                point,
                at % paths,
                Found {
                    hops: 1,
                    answers: 0,
                },
            );
        }
        Self {
            me,
            target,
            goal,
            candidates,
            paths: vec![Path::default(); paths],
            turn: 0,
            is_unhurried: false,
            stats: Stats::default(),
        }
    }

    /// Has it ask one peer after the other.
    pub fn unhurried(mut self) -> Self {
        self.is_unhurried = true;
        self
    }

    /// Handles a fact. One about a peer that isn't being asked is ignored.
    pub fn handle(&mut self, input: Input<C>) {
        match input {
            Input::Answered { from, contacts } => self.on_answered(from, contacts),
            Input::Slow { peer } => self.on_slow(peer),
            Input::Failed { peer } => self.on_failed(peer),
        }
    }

    /// Returns whom to ask next.
    pub fn poll_output(&mut self) -> Option<C> {
        if self.found_exact() || self.stats.requests as usize >= REQUESTS_MAX {
            return None;
        }
        if self.is_unhurried && self.paths.iter().any(Path::awaits_answer) {
            return None;
        }
        let running = (0..self.paths.len()).filter(|&path| !self.has_ended(path));
        let alpha = ALPHA.max(self.paths.len()).div_ceil(running.count().max(1));
        for _ in 0..self.paths.len() {
            let at = self.turn;
            self.turn = (self.turn + 1) % self.paths.len();
            let path = &mut self.paths[at];
            if path.in_flight >= alpha + path.slowed.min(SLOW_MAX) {
                continue;
            }
            if let Some(contact) = self.candidates.ask_next(at, K) {
                path.in_flight += 1;
                self.stats.requests += 1;
                return Some(contact);
            }
        }
        None
    }

    /// Returns whether there is nothing left to ask or to wait for.
    pub fn is_finished(&self) -> bool {
        self.found_exact() || (0..self.paths.len()).all(|path| self.has_ended(path))
    }

    /// Returns whether the k closest peers that a path knows have answered, those that are slow left out: they have had
    /// their time. Where fewer than k answer, the slow ones are waited for all the same.
    fn has_ended(&self, path: usize) -> bool {
        let exhausted = self.stats.requests as usize >= REQUESTS_MAX;
        let (mut answered, mut slow) = (0, 0);
        for state in self.candidates.known_by(path) {
            match state {
                State::Fresh if exhausted => {}
                State::Fresh | State::Asked { .. } => return false,
                State::Slow { .. } => slow += 1,
                State::Answered => answered += 1,
                State::Failed => {}
            }
            if answered >= K {
                return !self.awaits_exact();
            }
        }
        slow == 0
    }

    /// Returns whether the very peer that is looked for was asked, and may answer yet.
    fn awaits_exact(&self) -> bool {
        self.goal == Goal::Exact && self.candidates.is_exact_asked()
    }

    /// Returns where it leads.
    pub fn target(&self) -> Point {
        self.target
    }

    /// Returns the k closest peers that have answered, on any path, the closest first.
    pub fn closest(&self) -> Vec<C> {
        self.candidates.answered().take(K).cloned().collect()
    }

    /// Returns what it cost so far.
    pub fn stats(&self) -> Stats {
        Stats {
            closest: self.candidates.closest_found(),
            ..self.stats
        }
    }

    /// Returns how many peers are remembered, which is bounded.
    pub fn candidates(&self) -> usize {
        self.candidates.len()
    }

    fn found_exact(&self) -> bool {
        self.goal == Goal::Exact && self.candidates.is_exact_answered()
    }

    fn on_answered(&mut self, from: C::Peer, contacts: Vec<C>) {
        let Some((path, hops)) = self.settle(from, State::Answered) else {
            return;
        };
        self.stats.answers += 1;
        let found = Found {
            hops: hops.saturating_add(1),
            answers: self.stats.answers,
        };
        for contact in contacts.into_iter().take(K) {
            let point = contact.peer().point();
            if contact.serves() && point != self.me {
                self.candidates.name(contact, point, path, found);
            }
        }
        self.candidates.prune();
    }

    fn on_slow(&mut self, peer: C::Peer) {
        if let Some(path) = self.candidates.slow(peer.point()) {
            self.paths[path].slowed += 1;
            self.stats.slow += 1;
        }
    }

    fn on_failed(&mut self, peer: C::Peer) {
        if self.settle(peer, State::Failed).is_some() {
            self.stats.failures += 1;
        }
    }

    /// Ends the request to a peer. Returns the path that had asked it, and how far away the peer was.
    fn settle(&mut self, peer: C::Peer, end: State) -> Option<(usize, u32)> {
        let (was, hops) = self.candidates.settle(peer.point(), end)?;
        let (State::Asked { path } | State::Slow { path }) = was else {
            return None;
        };
        let path = usize::from(path);
        self.paths[path].in_flight -= 1;
        Some((path, hops))
    }
}
