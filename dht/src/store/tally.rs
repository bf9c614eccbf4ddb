//! Who is asked for a call, who has answered, and who counts.
//!
//! Each answer brings its maker's sight of the point. Together they say who the n replicas are: the closest that
//! anybody has shown to be settled. An answer counts if its maker is one of them and says itself that it is settled. So
//! one that was displaced doesn't count once anybody knows who displaced it, and of each quorum somebody does
//! (`claim.rs`).

use std::collections::BTreeMap;

use crate::{Contact, Distance, Peer, Point, RequestId, Time};

use super::calls::{Replies, Reply};
use super::config::{ATTEMPTS_MAX, RETRY, STAND_INS_MAX};
use super::messages::{Seen, Sight};

/// Where a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It may still be answered in time.
    Waiting,
    /// It may still be answered, but somebody else is asked meanwhile.
    Slow,
    Failed {
        at: Time,
    },
    Answered {
        counts: bool,
    },
}

/// A question to one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<P> {
    pub(super) state: State,
    pub(super) request: RequestId,
    pub(super) hint_for: Option<P>,
    attempts: u8,
}

/// Who is asked for a call.
#[derive(Debug)]
pub(super) struct Tally<C: Contact> {
    point: Point,
    n: usize,
    /// The peers that are known, with their distance, which is a hash and so is kept.
    seen: BTreeMap<C::Peer, (Distance, Seen<C>)>,
    asked: BTreeMap<C::Peer, Asked<C::Peer>>,
}

impl<C: Contact> Tally<C> {
    pub(super) fn new(point: Point, n: usize) -> Self {
        Self {
            point,
            n,
            seen: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Begins another round of questions with what is known of the peers.
    pub(super) fn begin_again(&mut self) {
        self.asked.clear();
    }

    /// Begins a round in which those are asked again that failed, or answered and didn't count.
    pub(super) fn begin_round(&mut self) {
        self.asked.retain(|_, asked| match asked.state {
            State::Waiting | State::Slow | State::Answered { counts: true } => true,
            // A stand-in never counts.
            State::Answered { counts: false } => asked.hint_for.is_some(),
            State::Failed { .. } => false,
        });
    }

    /// Takes peers that somebody knows to be close.
    pub(super) fn seed(&mut self, contacts: Vec<C>) {
        for contact in contacts {
            let seen = Seen {
                contact,
                round: 0,
                settled: false,
                alive: true,
            };
            if !self.seen.contains_key(&seen.contact.peer()) {
                self.add(seen);
            }
        }
    }

    /// Takes what an answering peer thinks of the point.
    pub(super) fn merge(&mut self, sight: Sight<C>) {
        for seen in sight.peers {
            let Some((_, known)) = self.seen.get_mut(&seen.contact.peer()) else {
                self.add(seen);
                continue;
            };
            known.alive |= seen.alive;
            match seen.round.cmp(&known.round) {
                std::cmp::Ordering::Less => {}
                // Who says that a claim doesn't hold knows of one that displaced it.
                std::cmp::Ordering::Equal => known.settled &= seen.settled,
                std::cmp::Ordering::Greater => {
                    known.round = seen.round;
                    known.settled = seen.settled;
                    known.contact = seen.contact;
                }
            }
        }
    }

    fn add(&mut self, seen: Seen<C>) {
        let peer = seen.contact.peer();
        self.seen.insert(peer, (peer.point() ^ self.point, seen));
    }

    fn by_distance(&self) -> Vec<(Distance, &Seen<C>)> {
        let seen = self.seen.values();
        let mut all: Vec<_> = seen.map(|(distance, seen)| (*distance, seen)).collect();
        all.sort_unstable_by_key(|&(distance, _)| distance);
        all
    }

    /// Returns the peers that are known, the closest first.
    pub(super) fn peers(&self) -> Vec<Seen<C>> {
        let all = self.by_distance().into_iter();
        all.map(|(_, seen)| seen.clone()).collect()
    }

    /// Returns the replicas: the n closest that are settled.
    pub(super) fn replicas(&self) -> Vec<C::Peer> {
        let all = self.by_distance().into_iter();
        let settled = all.filter(|(_, seen)| seen.settled);
        settled
            .take(self.n)
            .map(|(_, seen)| seen.contact.peer())
            .collect()
    }

    /// Returns those that a write goes to: the replicas, and whoever is closer than the last of them and so becomes one
    /// once it is filled. Where fewer than n are settled, the n closest.
    pub(super) fn targets(&self) -> Vec<C::Peer> {
        let settled = self.seen.values().filter(|(_, seen)| seen.settled);
        let enough = settled.count() >= self.n;
        let most = if enough { 2 * self.n } else { self.n };
        let mut settled = 0;
        let mut targets = Vec::with_capacity(self.n);
        for (_, seen) in self.by_distance() {
            if settled >= self.n {
                break;
            }
            settled += usize::from(seen.settled);
            if seen.settled || seen.alive && targets.len() < most {
                targets.push(seen.contact.peer());
            }
        }
        targets
    }

    pub(super) fn is_alive(&self, peer: C::Peer) -> bool {
        self.seen.get(&peer).is_some_and(|(_, seen)| seen.alive)
    }

    pub(super) fn contact(&self, peer: C::Peer) -> Option<&C> {
        self.seen.get(&peer).map(|(_, seen)| &seen.contact)
    }

    pub(super) fn asked(&self, peer: C::Peer) -> Option<&Asked<C::Peer>> {
        self.asked.get(&peer)
    }

    pub(super) fn all_asked(&self) -> impl Iterator<Item = (C::Peer, &Asked<C::Peer>)> {
        self.asked.iter().map(|(&peer, asked)| (peer, asked))
    }

    /// Returns the closest peer that is there and wasn't asked, if there may be one more.
    pub(super) fn next(&self) -> Option<&C> {
        if self.asked.len() >= self.n + STAND_INS_MAX {
            return None;
        }
        let all = self.by_distance().into_iter();
        let mut left =
            all.filter(|(_, seen)| seen.alive && !self.asked.contains_key(&seen.contact.peer()));
        left.next().map(|(_, seen)| &seen.contact)
    }

    /// Returns whom a read asks next: the reader itself if it is a replica, which takes no way, then the closest.
    pub(super) fn next_to_read(&self, reader: C::Peer) -> Option<&C> {
        let is_left = !self.asked.contains_key(&reader) && self.replicas().contains(&reader);
        let itself = self.contact(reader).filter(|_| is_left);
        itself.or_else(|| self.next())
    }

    /// Returns a peer whose question failed long enough ago to ask again.
    pub(super) fn again(&self, now: Time) -> Option<&C> {
        let mut failed = self.asked.iter().filter(|(_, asked)| match asked.state {
            State::Failed { at } => asked.attempts < ATTEMPTS_MAX && at + RETRY <= now,
            _ => false,
        });
        failed.next().and_then(|(&peer, _)| self.contact(peer))
    }

    /// Returns when a peer may be asked again.
    pub(super) fn again_at(&self) -> Time {
        let at = self.asked.values().filter_map(|asked| match asked.state {
            State::Failed { at } if asked.attempts < ATTEMPTS_MAX => Some(at + RETRY),
            _ => None,
        });
        at.min().unwrap_or(Time::NEVER)
    }

    pub(super) fn ask(&mut self, peer: C::Peer, request: RequestId, hint_for: Option<C::Peer>) {
        let attempts = self.asked.get(&peer).map_or(0, |asked| asked.attempts);
        let asked = Asked {
            state: State::Waiting,
            request,
            hint_for,
            attempts: attempts + 1,
        };
        self.asked.insert(peer, asked);
    }

    pub(super) fn set(&mut self, peer: C::Peer, state: State) {
        if let Some(asked) = self.asked.get_mut(&peer)
            && !matches!(asked.state, State::Answered { .. })
        {
            asked.state = state;
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.count(|state| state == State::Waiting)
    }

    /// Returns how many may still answer, late or after they are asked again.
    pub(super) fn hopeful(&self) -> usize {
        let asked = self.asked.values();
        let hopeful = asked.filter(|asked| match asked.state {
            State::Waiting | State::Slow => true,
            State::Failed { .. } => asked.attempts < ATTEMPTS_MAX,
            State::Answered { .. } => false,
        });
        hopeful.count()
    }

    fn count(&self, of: impl Fn(State) -> bool) -> usize {
        self.asked.values().filter(|asked| of(asked.state)).count()
    }

    /// Returns those that answered and count.
    pub(super) fn counted(&self) -> Vec<C::Peer> {
        let mut replicas = self.replicas();
        replicas.retain(|peer| {
            let asked = self.asked.get(peer);
            asked.is_some_and(|asked| asked.state == State::Answered { counts: true })
        });
        replicas
    }

    /// Makes what a caller is told, of those for which the record is durable.
    pub(super) fn replies(&self, need: usize, got: usize, durable: &[C::Peer]) -> Replies<C::Peer> {
        let counted = self.counted();
        let answered = self.asked.iter().filter(|(peer, asked)| {
            matches!(asked.state, State::Answered { .. }) || durable.contains(peer)
        });
        // Those that are to be asked once more have answered all the same.
        let before = durable.iter().filter(|peer| !self.asked.contains_key(peer));
        let answered = answered.map(|(&peer, asked)| (peer, asked.hint_for));
        let mut replicas: Vec<Reply<C::Peer>> = answered
            .chain(before.map(|&peer| (peer, None)))
            .map(|(peer, hint_for)| Reply {
                peer,
                durable: durable.contains(&peer),
                hint_for,
                counts: counted.contains(&peer),
            })
            .collect();
        replicas.sort_unstable_by_key(|reply| reply.peer.point() ^ self.point);
        let strict = replicas.iter().filter(|reply| reply.counts).count();
        Replies {
            need,
            got,
            sloppy: strict < got,
            replicas,
        }
    }
}
