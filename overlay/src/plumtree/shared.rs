//! The shared tree: the shortest ways from one member, the *root*, to all others. A publisher's first message takes it, before
//! the publisher has a tree of its own.
//!
//! It is kept before any message comes, by a distance vector: a member tells its neighbours in a [`Beacon`] which root it knows and
//! how far away it is in time, and has as its *parent* the neighbour over which the root is closest. A link is on the tree
//! if one of its ends says that the other is its parent; that is said in each beacon, so a lost one is made good by the next.
//! Every fingerprint carries a beacon, so that a tree at rest costs nothing but one small frame a link of the tree with each
//! refresh.
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

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::message::Beacon;
use crate::bounds::within;
use crate::{Now, Peer, Time, UnixMicros};

/// How long a nearer past counts: until a rise has reached those below. That takes the time of a link a hop, and eight of the
/// slowest here are more than most branches are deep (a guess).
const HOLD_LINKS: u32 = 8;
pub(crate) const HOLD_MIN: Duration = Duration::from_millis(250);
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(2);
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
/// How long what is told waits for other changes, where nobody depends on it (a guess: a link or two).
const TELL_DELAY: Duration = Duration::from_millis(50);
/// A distance from here on is none: longer than any way through a healthy swarm.
const DISTANCE_MAX: Duration = Duration::from_secs(10);
/// What another parent must gain: less is noise, and a change costs frames.
const GAIN_MIN: Duration = Duration::from_millis(1);
/// What a link costs at least: on a local network the ways with few hops are the short ones.
const COST_MIN: Duration = Duration::from_micros(500);
/// How far a link's round trip must move before distances follow: by half, and by more than the noise of a busy machine.
const COST_MOVE_MIN: Duration = Duration::from_millis(4);
/// A change from a living root to an elder one adds so much unrest, and none is made above the bound: four at once, then one
/// in five seconds. Merging networks need one.
const UNREST: Duration = Duration::from_secs(5);
const UNREST_MAX: Duration = Duration::from_secs(15);
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

/// A neighbour.
#[derive(Clone, Debug)]
struct Link<P> {
    /// The smoothed round trip; none before the first one.
    rtt: Option<Duration>,
    /// What the link adds to a distance.
    cost: Duration,
    heard: Option<Beacon<P>>,
    tell_at: Time,
}

impl<P> Link<P> {
    /// Takes a round trip; returns whether the cost follows it.
    fn measured(&mut self, rtt: Duration) -> bool {
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
}

/// A way to a root.
#[derive(Clone, Copy, Debug)]
struct Way<P> {
    claim: Claim<P>,
    distance: Duration,
    over: P,
    refresh: u64,
}

/// A claim that was given up, and the last refresh that was seen of it.
#[derive(Clone, Copy, Debug)]
struct Buried<P> {
    claim: Claim<P>,
    refresh: u64,
    until: Time,
}

/// This member's place in the shared tree.
#[derive(Clone, Debug)]
pub struct SharedTree<P> {
    me: P,
    links: BTreeMap<P, Link<P>>,
    claim: Option<Claim<P>>,
    /// The refresh that the way has brought, and the newest one that was heard of.
    refresh: u64,
    newest: u64,
    advanced_at: Time,
    /// None without a way.
    distance: Option<Duration>,
    parent: Option<P>,
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
            links: BTreeMap::new(),
            claim: None,
            refresh: 0,
            newest: 0,
            advanced_at: Time::ZERO,
            distance: None,
            parent: None,
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
    pub(crate) fn neighbours(&self) -> BTreeSet<P> {
        let children = self.links.iter().filter(|(_, link)| link.is_child());
        let children = children.map(|(peer, _)| *peer);
        children.chain(self.parent).collect()
    }

    /// Returns what to tell a neighbour now, which counts as told; none where no root is known.
    pub(crate) fn tell(&mut self, to: P) -> Option<Beacon<P>> {
        if let Some(link) = self.links.get_mut(&to) {
            link.tell_at = Time::NEVER;
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
        self.links.remove(&peer);
        if self.parent == Some(peer) {
            self.parent = None;
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
        let Some(beacon) = beacon else {
            link.heard = None;
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
        link.heard = Some(beacon);
        // Whoever has no way may not know of this one.
        if beacon.distance.is_none() && self.distance.is_some() && !beacon.to_parent {
            self.tell_at(from, now.time + TELL_DELAY);
        }
        if beacon.root == self.me {
            self.heard_of_self(beacon, now);
        }
        self.settle(now);
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

    /// Chooses the parent anew, and plans to tell what has changed.
    fn settle(&mut self, now: Now) {
        let way = match self.best_way(now.time) {
            Some(way) => way,
            None if self.is_root() => return,
            None => return self.cut_off(now.time),
        };
        let (old_parent, old_distance, old_refresh) = (self.parent, self.distance, self.refresh);
        let is_other_root = self.claim != Some(way.claim);
        if is_other_root {
            self.follow(way, now.time);
        }
        self.refresh = way.refresh;
        if way.refresh > self.newest || is_other_root {
            self.newest = way.refresh;
            self.advanced_at = now.time;
        }
        self.parent = Some(way.over);
        self.is_makeshift = false;
        self.claim_at = Time::NEVER;
        let rises = old_distance.is_none_or(|old| way.distance > old);
        if rises {
            self.note_floor(now.time);
        }
        self.distance = Some(way.distance);
        if is_other_root {
            self.floor = None;
            self.tell_all(now.time);
        } else if old_distance != self.distance {
            if rises {
                self.tell_children(now.time);
            }
            self.tell_all(now.time + TELL_DELAY);
        } else if old_refresh != self.refresh {
            self.tell_children(now.time);
        }
        if old_parent != self.parent {
            for peer in old_parent.into_iter().chain(self.parent) {
                self.tell_at(peer, now.time);
            }
        }
    }

    /// There is no way left: says so, and keeps the links on the tree until there is another.
    fn cut_off(&mut self, now: Time) {
        if self.distance.is_some() {
            self.note_floor(now);
            self.distance = None;
            self.claim_at = now + CLAIM_AFTER;
            self.tell_all(now);
        }
        let leads_nowhere = |parent| {
            let heard = self.links.get(&parent).and_then(|link| link.heard);
            heard.is_none_or(|beacon| beacon.distance.is_none())
        };
        if self.claim.is_none()
            || self
                .parent
                .is_some_and(|parent| !(self.is_makeshift && leads_nowhere(parent)))
        {
            return;
        }
        let others = self.links.iter().filter_map(|(peer, link)| {
            let beacon = link.heard.filter(|beacon| !beacon.to_parent)?;
            let is_buried = self.is_buried(&beacon, now);
            Some((beacon.distance? + link.cost, *peer)).filter(|_| !is_buried)
        });
        let Some((_, makeshift)) = others.min() else {
            return;
        };
        self.is_makeshift = true;
        if let Some(old) = self.parent.replace(makeshift) {
            self.tell_at(old, now);
        }
        self.tell_at(makeshift, now);
    }

    /// Leaves one root for another.
    fn follow(&mut self, way: Way<P>, now: Time) {
        let is_elder = self.claim.is_some_and(|old| way.claim < old);
        if is_elder && !self.is_root() {
            self.restless_until = self.restless_until.max(now) + UNREST;
        }
        self.claim = Some(way.claim);
    }

    fn hold(&self) -> Duration {
        let slowest = self.links.values().map(|link| link.cost).max();
        (slowest.unwrap_or_default() * HOLD_LINKS).clamp(HOLD_MIN, HOLD_MAX)
    }

    /// Remembers how close the root was.
    fn note_floor(&mut self, now: Time) {
        if let Some(distance) = self.distance {
            let floor = self
                .floor
                .map_or(distance, |(floor, _)| floor.min(distance));
            self.floor = Some((floor, now + self.hold()));
        }
    }

    /// Gives a root up: what is still told of it counts for nothing, unless it says that it lives.
    fn bury(&mut self, now: Time) {
        let Some(claim) = self.claim else {
            return;
        };
        self.buried
            .retain(|buried| buried.claim != claim && buried.until > now);
        if self.buried.len() >= BURIED_MAX {
            self.buried.pop_front();
        }
        self.buried.push_back(Buried {
            claim,
            refresh: self.newest,
            until: now + SILENCE,
        });
    }

    fn is_buried(&self, beacon: &Beacon<P>, now: Time) -> bool {
        self.buried.iter().any(|buried| {
            buried.claim == beacon.claim() && beacon.refresh <= buried.refresh && now < buried.until
        })
    }

    /// Returns the best way there is: to the eldest root, over the neighbour that makes it shortest.
    fn best_way(&mut self, now: Time) -> Option<Way<P>> {
        let own = self.claim.filter(|_| self.distance.is_some());
        self.see_newest(now);
        let ways: Vec<_> = self
            .links
            .iter()
            .filter_map(|(peer, link)| self.way_over(*peer, link, now))
            .collect();
        let best = |ways: &mut dyn Iterator<Item = &Way<P>>| {
            ways.min_by_key(|way| (way.claim, way.distance, way.over))
                .copied()
        };
        let Some(own) = own else {
            // The root may be alive still: somebody with a way to it is worth the wait.
            let may_return = self.floor.is_some();
            let calm_at = self.restless_until.before(UNREST_MAX);
            if calm_at > now {
                self.calm_at = calm_at;
            }
            return best(&mut ways.iter().filter(|way| {
                self.claim.is_none_or(|claim| match way.claim.cmp(&claim) {
                    Ordering::Less => calm_at <= now,
                    Ordering::Equal => true,
                    Ordering::Greater => !may_return,
                })
            }));
        };
        let elder = best(&mut ways.iter().filter(|way| way.claim < own));
        if elder.is_some() {
            let calm_at = self.restless_until.before(UNREST_MAX);
            if calm_at <= now || self.is_root() {
                return elder;
            }
            self.calm_at = calm_at;
        }
        if own.root == self.me {
            return None;
        }
        let shortest = best(&mut ways.iter().filter(|way| way.claim == own));
        let kept = ways
            .iter()
            .find(|way| way.claim == own && Some(way.over) == self.parent);
        match (shortest, kept) {
            (Some(shortest), Some(kept)) if shortest.distance + GAIN_MIN >= kept.distance => {
                Some(*kept)
            }
            (Some(shortest), _) => Some(shortest),
            (None, _) => None,
        }
    }

    /// Notes the newest refresh of the root that anybody tells of.
    fn see_newest(&mut self, now: Time) {
        let heard = self.links.values().filter_map(|link| link.heard.as_ref());
        let of_own = heard.filter(|beacon| {
            Some(beacon.claim()) == self.claim
                && beacon.distance.is_some()
                && !self.is_buried(beacon, now)
        });
        let newest = of_own.map(|beacon| beacon.refresh).max();
        if !self.is_root() && newest > Some(self.newest) {
            self.newest = newest.unwrap_or(self.newest);
            self.advanced_at = now;
        }
    }

    /// Returns the way over a neighbour, if it has one that no loop can come of.
    fn way_over(&self, peer: P, link: &Link<P>, now: Time) -> Option<Way<P>> {
        let beacon = link.heard.filter(|beacon| beacon.root != self.me)?;
        let theirs = beacon.distance?;
        let is_parent = self.parent == Some(peer) && !self.is_makeshift;
        let distance = theirs + link.cost;
        if distance > DISTANCE_MAX || self.is_buried(&beacon, now) {
            return None;
        }
        // Two that chose each other: one of them lets go.
        if beacon.to_parent && (!is_parent || self.me < peer) {
            return None;
        }
        if self.claim == Some(beacon.claim()) {
            let floor = self.floor.map(|(floor, _)| floor);
            let closest = self.distance.into_iter().chain(floor).min();
            let is_feasible = is_parent || closest.is_none_or(|closest| theirs < closest);
            if !is_feasible || beacon.refresh.saturating_add(1) < self.newest {
                return None;
            }
        }
        Some(Way {
            claim: beacon.claim(),
            distance,
            over: peer,
            refresh: beacon.refresh,
        })
    }

    fn tell_at(&mut self, peer: P, at: Time) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.tell_at = link.tell_at.min(at);
        }
    }

    fn tell_all(&mut self, at: Time) {
        for link in self.links.values_mut() {
            link.tell_at = link.tell_at.min(at);
        }
    }

    fn tell_children(&mut self, at: Time) {
        for link in self.links.values_mut().filter(|link| link.is_child()) {
            link.tell_at = link.tell_at.min(at);
        }
    }

    /// Returns what is beyond its bound, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        within("claims given up", self.buried.len(), BURIED_MAX)
    }
}

impl<P> Link<P> {
    /// Returns whether the neighbour has this member as its parent.
    fn is_child(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.to_parent)
    }
}
