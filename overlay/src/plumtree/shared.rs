//! The shared tree: the shortest ways from one member, the *root*, to all others. A publisher's first message takes it, before
//! the publisher has a tree of its own.
//!
//! It is kept before any message comes, by a distance vector: a member tells its neighbours in a [`Beacon`] which root it knows and
//! how far away it is in time, and has as its *parent* the neighbour over which the root is closest. A link is on the tree
//! if one of its ends says that the other is its parent; that is said in each beacon, so a lost one is made good by the next.
//! Every fingerprint carries a beacon, so that a tree at rest costs nothing but one small frame a link of the tree with each
//! refresh; while it moves, neighbours are told in between what matters to them (the private module `tell`).
//!
//! Sources: Perkins, Bhagwat, "Highly Dynamic DSDV", SIGCOMM 1994 (numbers that only the root advances); RFC 8966, "Babel"
//! (a neighbour is feasible if it is closer than this member ever was); Perlman, "An Algorithm for Distributed Computation of
//! a Spanning Tree in an Extended LAN", 1985 (election by beacons). Where this differs:
//! - **Root.** The eldest claim wins, not the smallest id: a newcomer never moves the root, and the first member of a
//!   swarm stays it while it lives. Members claim only where they hear of no root.
//! - **Loops.** "Closer than ever" means *within the last moment* ([`HOLD_MIN`] to [`HOLD_MAX`]): by then all who hang below this member have been
//!   told how far it is now, for rises are passed on at once. So a member that finds nobody closer waits that long instead of a
//!   refresh, with a makeshift parent meanwhile that brings messages but is no way. Where that guess fails, distances count up to [`DISTANCE_MAX`], and whoever misses two refreshes that a neighbour
//!   has got leaves its parent.
//! - **Loss of the way.** A member that has none says so (an infinite distance) and keeps its links on the tree meanwhile: they
//!   still connect what hangs together. If nobody has a way for three seconds, the root is gone and another is claimed.
//!
//! **What a liar gains.** Claims aren't signed. Whoever claims to be the eldest, or to be next to the root, becomes the centre of
//! the tree and sees, delays or withholds what others publish first, which any parent can. What the tree doesn't bring,
//! digests do, and a publisher's own tree leaves a parent that is late. Refreshes that jump are ignored, the root outbids
//! whoever invents one, roots change only so often, and a root that falls silent is forgotten. State is a beacon a neighbour.

mod tell;
#[cfg(test)]
mod tests;
mod ways;

use std::collections::VecDeque;
use std::time::Duration;

use super::message::Beacon;
use crate::bounds::within;
use crate::small::{SmallMap, SmallSet};
use crate::{Now, Peer, Time, UnixMicros};
use tell::{COST_MIN, Link, TELL_DELAY};
use ways::Buried;

/// How long nobody may have a way to the root before another is claimed: whoever can attach again has, by then.
const CLAIM_AFTER: Duration = Duration::from_secs(3);
/// How long two wait that know no root, in case one of them is about to hear of one.
const CLAIM_FIRST_AFTER: Duration = Duration::from_millis(250);
/// How often the root says that it lives: a small frame a link of the tree.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// The root doesn't outbid what it hears of itself sooner than this.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// After how long without a refresh a root is given up: four were lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(125);
/// Refreshes that a claim may be ahead of what is known of it: more than are missed in any silence.
const REFRESH_JUMP_MAX: u64 = 1_024;
/// What another parent must gain: less is noise, and a change costs frames.
const GAIN_MIN: Duration = Duration::from_millis(1);
/// Claims that were given up and are remembered, so that what is still told of them convinces nobody.
const BURIED_MAX: usize = 8;

/// Who claims to be the root, and since when: of two, the smaller one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<P> {
    since: UnixMicros,
    root: P,
}

impl<P: Peer> Beacon<P> {
    const fn claim(&self) -> Claim<P> {
        Claim {
            since: self.since,
            root: self.root,
        }
    }
}

/// This member's place in the shared tree.
#[derive(Clone, Debug)]
pub struct SharedTree<P> {
    me: P,
    links: SmallMap<P, Link<P>>,
    claim: Option<Claim<P>>,
    /// The refresh that the way has brought, and the newest one that was heard of.
    refresh: u64,
    newest: u64,
    advanced_at: Time,
    /// None without a way.
    distance: Option<Duration>,
    parent: Option<P>,
    /// Neighbours have come onto the tree or left it.
    moved: bool,
    /// The parent only connects this member meanwhile: it has no way over it.
    is_makeshift: bool,
    /// How close the root was within the last while, and until when that counts.
    floor: Option<(Duration, Time)>,
    claim_at: Time,
    /// As the root: when it last said that it lives.
    refreshed_at: Time,
    buried: VecDeque<Buried<P>>,
    restless_until: Time,
    /// When a claim that is held back may be followed.
    calm_at: Time,
}

impl<P: Peer> SharedTree<P> {
    pub(crate) const fn new(me: P) -> Self {
        Self {
            me,
            links: SmallMap::new(),
            claim: None,
            refresh: 0,
            newest: 0,
            advanced_at: Time::ZERO,
            distance: None,
            parent: None,
            moved: false,
            is_makeshift: false,
            floor: None,
            claim_at: Time::NEVER,
            refreshed_at: Time::ZERO,
            buried: VecDeque::new(),
            restless_until: Time::ZERO,
            calm_at: Time::NEVER,
        }
    }

    /// Returns the root that this member knows a way to.
    pub fn root(&self) -> Option<P> {
        self.claim
            .filter(|_| self.distance.is_some())
            .map(|claim| claim.root)
    }

    /// Returns how far away the root is, in time; none without a way.
    pub const fn distance(&self) -> Option<Duration> {
        self.distance
    }

    /// Returns the neighbour over which the root is closest; none at the root.
    pub const fn parent(&self) -> Option<P> {
        self.parent
    }

    /// Returns the neighbours on the tree.
    pub(crate) fn neighbours(&self) -> SmallSet<P> {
        let children = self.links.iter().filter(|(_, link)| link.is_child());
        let children = children.map(|(peer, _)| *peer);
        children.chain(self.parent).collect()
    }

    /// Returns whether neighbours have come onto the tree or left it since this was asked.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub(crate) fn poll_timeout(&self) -> Time {
        let tell_at = self.links.values().map(|link| link.tell_at).min();
        let advance = match (self.is_root(), self.distance) {
            (true, _) if self.links.is_empty() => Time::NEVER,
            (true, _) => self.refreshed_at + REFRESH_INTERVAL,
            (false, Some(_)) => self.advanced_at + SILENCE,
            (false, None) => self.claim_at,
        };
        let floor = self.floor.map(|(_, until)| until);
        tell_at
            .unwrap_or(Time::NEVER)
            .min(advance)
            .min(floor.unwrap_or(Time::NEVER))
            .min(self.calm_at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let mut changed = false;
        if self.floor.is_some_and(|(_, until)| until <= now.time) {
            self.floor = None;
            changed = true;
        }
        if self.calm_at <= now.time {
            self.calm_at = Time::NEVER;
            changed = true;
        }
        if self.is_root() {
            if !self.links.is_empty() && self.refreshed_at + REFRESH_INTERVAL <= now.time {
                self.refresh_to(self.refresh.saturating_add(1), now.time);
            }
        } else if self.distance.is_some() && self.advanced_at + SILENCE <= now.time {
            self.bury(now.time);
            changed = true;
        }
        if changed {
            self.settle(now);
        }
        if self.distance.is_none() && self.claim_at <= now.time {
            self.stand(now);
        }
    }

    pub(crate) fn neighbour_up(&mut self, peer: P, rtt: Duration, now: Now) {
        self.links.insert(
            peer,
            Link {
                rtt: None,
                cost: (rtt / 2).max(COST_MIN),
                heard: None,
                told: None,
                tell_at: Time::NEVER,
            },
        );
        if self.distance.is_none() && self.claim_at == Time::NEVER {
            self.claim_at = now.time + CLAIM_AFTER;
        }
        // A root that was alone let its refreshes rest.
        if self.is_root() && self.links.len() == 1 {
            self.refreshed_at = now.time;
        }
    }

    pub(crate) fn neighbour_down(&mut self, peer: P, now: Now) {
        let gone = self.links.remove(&peer);
        self.moved |= gone.is_some_and(|link| link.is_child());
        if self.parent == Some(peer) {
            self.parent = None;
            self.moved = true;
            self.settle(now);
        }
        if self.links.is_empty() {
            self.claim_at = Time::NEVER;
        }
    }

    pub(crate) fn measured(&mut self, peer: P, rtt: Duration, now: Now) {
        if let Some(link) = self.links.get_mut(&peer)
            && link.measured(rtt)
        {
            self.settle(now);
        }
    }

    /// A neighbour says what it knows; none if it knows no root.
    pub(crate) fn heard(&mut self, from: P, beacon: Option<Beacon<P>>, now: Now) {
        let newest = self.newest;
        let own = self.claim;
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        let was_child = link.is_child();
        let Some(beacon) = beacon else {
            link.heard = None;
            self.moved |= was_child;
            if self.distance.is_some() {
                self.tell_at(from, now.time + TELL_DELAY);
                return;
            }
            if own.is_none() && self.me < from {
                self.claim_at = self.claim_at.min(now.time + CLAIM_FIRST_AFTER);
            }
            return;
        };
        let jumps =
            own == Some(beacon.claim()) && beacon.refresh > newest.saturating_add(REFRESH_JUMP_MAX);
        if jumps {
            return;
        }
        let is_news = link.heard.replace(beacon) != Some(beacon);
        self.moved |= was_child != beacon.to_parent;
        // At rest all say what they have said before.
        let is_at_rest = own == Some(beacon.claim()) && self.distance.is_some();
        if is_at_rest && !is_news && beacon.distance.is_some() {
            return;
        }
        // Whoever has no way may not know of this one.
        if beacon.distance.is_none() && self.distance.is_some() && !beacon.to_parent {
            self.tell_at(from, now.time + TELL_DELAY);
        }
        if beacon.root == self.me {
            self.heard_of_self(beacon, now);
        }
        self.settle(now);
        // What did not concern it so far may now.
        if let Some(link) = self.links.get_mut(&from)
            && link.told != self.distance
            && link.is_concerned(self.distance)
        {
            link.tell_at = link.tell_at.min(now.time + TELL_DELAY);
        }
    }

    /// Somebody believes that this member is the root: it was in an earlier life, or somebody lies. It takes the part, and
    /// says so with a refresh that only it can have made.
    fn heard_of_self(&mut self, beacon: Beacon<P>, now: Now) {
        let is_heard = beacon.distance.is_some() && !self.is_buried(&beacon, now.time);
        if self.is_root() && self.claim == Some(beacon.claim()) {
            let may = now.time.since(self.refreshed_at) >= REFRESH_INTERVAL_MIN;
            if beacon.refresh > self.refresh && may {
                self.refresh_to(beacon.refresh.saturating_add(1), now.time);
            }
        } else if is_heard
            && (self.distance.is_none() || self.claim.is_none_or(|own| beacon.claim() < own))
        {
            self.lead(beacon.claim(), beacon.refresh.saturating_add(1), now);
        }
    }

    fn is_root(&self) -> bool {
        self.claim.is_some_and(|claim| claim.root == self.me) && self.distance.is_some()
    }

    /// Claims to be the root, for nobody knows another.
    fn stand(&mut self, now: Now) {
        if self.claim.is_some() {
            self.bury(now.time);
        }
        let claim = Claim {
            since: now.unix,
            root: self.me,
        };
        self.lead(claim, 0, now);
        self.settle(now);
    }

    fn lead(&mut self, claim: Claim<P>, refresh: u64, now: Now) {
        self.claim = Some(claim);
        self.refresh = refresh;
        self.newest = refresh;
        self.distance = Some(Duration::ZERO);
        self.parent = None;
        self.moved = true;
        self.floor = None;
        self.claim_at = Time::NEVER;
        self.refreshed_at = now.time;
        self.tell_all(now.time);
    }

    fn refresh_to(&mut self, refresh: u64, now: Time) {
        self.refresh = refresh;
        self.newest = refresh;
        self.refreshed_at = now;
        self.tell_children(now);
    }

    /// Returns what is beyond its bound, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        within("claims given up", self.buried.len(), BURIED_MAX)
    }
}
