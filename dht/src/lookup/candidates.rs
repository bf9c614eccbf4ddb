//! Whom a lookup has heard of, by distance to its target.

use super::{Found, PATHS_MAX};
use crate::table::K;
use crate::{Contact, Distance, Point};

/// Peers that a path keeps without having asked them. Three answers' worth: a path needs k, and what one liar names must
/// not displace all that others named.
pub(super) const SHORTLIST_MAX: usize = 3 * K;

/// What has become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It wasn't asked yet.
    Fresh,
    /// It was asked by a path.
    Asked {
        /// The path.
        path: u8,
    },
    /// It was asked by a path and takes long.
    Slow {
        /// The path.
        path: u8,
    },
    /// It answered.
    Answered,
    /// It didn't.
    Failed,
}

/// The paths that have heard of a candidate, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownBy(u16);

const _: () = assert!(PATHS_MAX <= u16::BITS as usize);

impl KnownBy {
    fn has(self, path: usize) -> bool {
        self.0 & (1 << path) != 0
    }

    fn insert(&mut self, path: usize) {
        self.0 |= 1 << path;
    }

    fn remove(&mut self, path: usize) {
        self.0 &= !(1 << path);
    }
}

#[derive(Debug)]
struct Candidate<C> {
    distance: Distance,
    contact: C,
    known_by: KnownBy,
    state: State,
    found: Found,
}

/// The candidates of a lookup, ascending by distance.
#[derive(Debug)]
pub(super) struct Candidates<C> {
    target: Point,
    paths: usize,
    list: Vec<Candidate<C>>,
}

impl<C: Contact> Candidates<C> {
    pub(super) fn new(target: Point, paths: usize) -> Self {
        Self {
            target,
            paths,
            list: Vec::new(),
        }
    }

    /// Notes that a path has heard of a peer, which stands at a point. What is known of it already stays, but for a
    /// shorter way.
    pub(super) fn name(&mut self, contact: C, point: Point, path: usize, found: Found) {
        let distance = point ^ self.target;
        match self.place(distance) {
            Ok(at) => {
                let known = &mut self.list[at];
                known.known_by.insert(path);
                if known.state == State::Fresh {
                    known.found.hops = known.found.hops.min(found.hops);
                    if contact.issued_at() > known.contact.issued_at() {
                        known.contact = contact;
                    }
                }
            }
            Err(at) => {
                let mut known_by = KnownBy(0);
                known_by.insert(path);
                let candidate = Candidate {
                    distance,
                    contact,
                    known_by,
                    state: State::Fresh,
                    found,
                };
                self.list.insert(at, candidate);
            }
        }
    }

    /// Forgets those not asked that are further than a path's shortlist reaches.
    pub(super) fn prune(&mut self) {
        for path in 0..self.paths {
            let fresh = self
                .list
                .iter_mut()
                .filter(|known| known.state == State::Fresh && known.known_by.has(path));
            for beyond in fresh.skip(SHORTLIST_MAX) {
                beyond.known_by.remove(path);
            }
        }
        self.list
            .retain(|known| known.known_by != KnownBy(0) || known.state != State::Fresh);
    }

    /// Marks the closest peer that a path may ask now, among the `k` closest that neither failed nor are slow, as asked,
    /// and returns its contact.
    pub(super) fn ask_next(&mut self, path: usize, k: usize) -> Option<C> {
        let next = self
            .list
            .iter_mut()
            .filter(|known| known.known_by.has(path))
            .filter(|known| !matches!(known.state, State::Failed | State::Slow { .. }))
            .take(k)
            .find(|known| known.state == State::Fresh)?;
        next.state = State::Asked {
            path: u8::try_from(path).unwrap_or(u8::MAX),
        };
        Some(next.contact.clone())
    }

    /// Returns the states of the peers that a path knows, the closest first.
    pub(super) fn known_by(&self, path: usize) -> impl Iterator<Item = State> + '_ {
        let known = self.list.iter().filter(move |it| it.known_by.has(path));
        known.map(|it| it.state)
    }

    /// Marks a request as slow and returns the path that it belongs to, if it is in flight and wasn't slow.
    pub(super) fn slow(&mut self, peer: Point) -> Option<usize> {
        let at = self.place(peer ^ self.target).ok()?;
        let State::Asked { path } = self.list[at].state else {
            return None;
        };
        self.list[at].state = State::Slow { path };
        Some(path.into())
    }

    /// Ends a request. Returns how it stood and the hops to its peer; `None` if none is in flight.
    pub(super) fn settle(&mut self, peer: Point, end: State) -> Option<(State, u32)> {
        let at = self.place(peer ^ self.target).ok()?;
        let known = &mut self.list[at];
        if !matches!(known.state, State::Asked { .. } | State::Slow { .. }) {
            return None;
        }
        let was = std::mem::replace(&mut known.state, end);
        Some((was, known.found.hops))
    }

    /// Returns those that have answered, the closest first.
    pub(super) fn answered(&self) -> impl Iterator<Item = &C> + '_ {
        let answered = self.list.iter().filter(|c| c.state == State::Answered);
        answered.map(|candidate| &candidate.contact)
    }

    /// Returns how the closest that has answered was found.
    pub(super) fn closest_found(&self) -> Option<Found> {
        let mut answered = self.list.iter().filter(|c| c.state == State::Answered);
        answered.next().map(|candidate| candidate.found)
    }

    /// Returns whether the peer that stands at the target has answered.
    pub(super) fn is_exact_answered(&self) -> bool {
        let first = self.list.first().filter(|c| c.distance.is_zero());
        first.is_some_and(|c| c.state == State::Answered)
    }

    /// Returns whether the peer that stands at the target has been asked and has not answered yet.
    pub(super) fn is_exact_asked(&self) -> bool {
        let first = self.list.first().filter(|c| c.distance.is_zero());
        first.is_some_and(|c| matches!(c.state, State::Asked { .. } | State::Slow { .. }))
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    fn place(&self, distance: Distance) -> Result<usize, usize> {
        self.list
            .binary_search_by_key(&distance, |candidate| candidate.distance)
    }
}
