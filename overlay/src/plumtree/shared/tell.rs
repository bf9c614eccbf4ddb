//! What a member keeps of each neighbour, and when it tells it where it stands.
//!
//! A change of distance is told to those that it matters to now. Most neighbours are none of them: the parent, whoever is
//! closer to the root, whoever is further and has a better way. To them it matters once they have lost theirs, so they hear it
//! with the next fingerprint, which costs nothing; and whoever takes this member for its parent on the strength of what is true
//! no more is told at once.

use std::time::Duration;

use super::{GAIN_MIN, SharedTree};
use crate::plumtree::message::Beacon;
use crate::{Peer, Time};

/// How long what is told waits for other changes, where nobody depends on it (a guess: a link or two).
pub(super) const TELL_DELAY: Duration = Duration::from_millis(50);
/// What a link costs at least: on a local network the ways with few hops are the short ones.
pub(super) const COST_MIN: Duration = Duration::from_micros(500);
/// How far a link's round trip must move before distances follow: by half, and by more than the noise of a busy machine.
const COST_MOVE_MIN: Duration = Duration::from_millis(4);

/// A neighbour.
#[derive(Clone, Debug)]
pub(super) struct Link<P> {
    /// The smoothed round trip; none before the first one.
    pub(super) rtt: Option<Duration>,
    /// What the link adds to a distance.
    pub(super) cost: Duration,
    pub(super) heard: Option<Beacon<P>>,
    /// How far away the root was by what it was told last.
    pub(super) told: Option<Duration>,
    pub(super) tell_at: Time,
}

impl<P> Link<P> {
    /// Takes a round trip; returns whether the cost follows it.
    pub(super) fn measured(&mut self, rtt: Duration) -> bool {
        let smooth = self.rtt.map_or(rtt, |old| (old * 7 + rtt) / 8);
        let is_first = self.rtt.replace(smooth).is_none();
        let cost = (smooth / 2).max(COST_MIN);
        let moved = cost.abs_diff(self.cost);
        let follows = is_first || (moved > self.cost / 2 && moved > COST_MOVE_MIN);
        if follows {
            self.cost = cost;
        }
        follows && !moved.is_zero()
    }

    /// Returns whether the neighbour has this member as its parent.
    pub(super) fn is_child(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.to_parent)
    }

    /// Returns whether the neighbour may act on how far away the root is from here: its own way leads here, it has none, or
    /// would have a shorter one here, or takes this member to be closer than itself, which is true no more.
    pub(super) fn is_concerned(&self, distance: Option<Duration>) -> bool {
        let Some(heard) = self.heard.as_ref().filter(|heard| !heard.to_parent) else {
            return true;
        };
        let (Some(theirs), Some(ours)) = (heard.distance, distance) else {
            return true;
        };
        let is_shorter = ours + self.cost + GAIN_MIN < theirs;
        let was_closer = self.told.is_some_and(|told| told < theirs);
        is_shorter || (was_closer && theirs <= ours)
    }
}

impl<P: Peer> SharedTree<P> {
    /// Returns what to tell a neighbour now, which counts as told; none where no root is known.
    pub(crate) fn tell(&mut self, to: P) -> Option<Beacon<P>> {
        if let Some(link) = self.links.get_mut(&to) {
            link.tell_at = Time::NEVER;
            link.told = self.distance;
        }
        let claim = self.claim?;
        Some(Beacon {
            root: claim.root,
            since: claim.since,
            refresh: self.refresh,
            distance: self.distance,
            to_parent: self.parent == Some(to),
        })
    }

    /// Returns a neighbour that is to be told now.
    pub(crate) fn due(&self, now: Time) -> Option<P> {
        let due = self.links.iter().find(|(_, link)| link.tell_at <= now);
        due.map(|(peer, _)| *peer)
    }

    pub(super) fn tell_at(&mut self, peer: P, at: Time) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.tell_at = link.tell_at.min(at);
        }
    }

    pub(super) fn tell_all(&mut self, at: Time) {
        for link in self.links.values_mut() {
            link.tell_at = link.tell_at.min(at);
        }
    }

    /// Plans to tell those to whom the distance matters now. To the others it may in an emergency, and the next fingerprint
    /// tells them.
    pub(super) fn tell_concerned(&mut self, children_at: Time, others_at: Time) {
        let distance = self.distance;
        let links = self.links.values_mut();
        for link in links.filter(|link| link.is_concerned(distance)) {
            let at = match link.is_child() {
                true => children_at,
                false => others_at,
            };
            link.tell_at = link.tell_at.min(at);
        }
    }

    pub(super) fn tell_children(&mut self, at: Time) {
        for link in self.links.values_mut().filter(|link| link.is_child()) {
            link.tell_at = link.tell_at.min(at);
        }
    }
}
