//! Ways to the root: which there are, which is the best, and what changes with it.

use std::cmp::Ordering;
use std::time::Duration;

use super::tell::{Link, TELL_DELAY};
use super::{BURIED_MAX, CLAIM_AFTER, Claim, GAIN_MIN, SILENCE, SharedTree};
use crate::plumtree::message::Beacon;
use crate::{Now, Peer, Time};

/// How long a nearer past counts: until a rise has reached those below. That takes the time of a link a hop, and eight of the
/// slowest here are more than most branches are deep (a guess).
const HOLD_LINKS: u32 = 8;
const HOLD_MIN: Duration = Duration::from_millis(250);
const HOLD_MAX: Duration = Duration::from_secs(2);
/// A distance from here on is none: longer than any way through a healthy swarm.
const DISTANCE_MAX: Duration = Duration::from_secs(10);
/// A change from a living root to an elder one adds so much unrest, and none is made above the bound: four at once, then one
/// in five seconds. Merging networks need one.
const UNREST: Duration = Duration::from_secs(5);
const UNREST_MAX: Duration = Duration::from_secs(15);

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
pub(super) struct Buried<P> {
    claim: Claim<P>,
    refresh: u64,
    until: Time,
}

impl<P: Peer> SharedTree<P> {
    /// Chooses the parent anew, and plans to tell what has changed.
    pub(super) fn settle(&mut self, now: Now) {
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
            let (for_children, for_others) = match rises {
                true => (now.time, now.time + TELL_DELAY),
                false => (now.time + TELL_DELAY, now.time + TELL_DELAY),
            };
            self.tell_concerned(for_children, for_others);
        } else if old_refresh != self.refresh {
            self.tell_children(now.time);
        }
        if old_parent != self.parent {
            self.moved = true;
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
        self.moved = true;
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
    pub(super) fn bury(&mut self, now: Time) {
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

    pub(super) fn is_buried(&self, beacon: &Beacon<P>, now: Time) -> bool {
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
}
