//! Whom a node knows near itself, what they claim, and so who the replicas of a point are in its sight.

use std::collections::BTreeMap;

use crate::rtt::Rtt;
use crate::{Contact, Peer, Point, Time};

use super::claim::{Claim, Region, Round};
use super::messages::{SIGHT_PEERS_MAX, Seen, Sight};

/// A peer near this node.
#[derive(Clone, Debug)]
pub(super) struct Member<C: Contact> {
    pub(super) contact: C,
    pub(super) point: Point,
    /// Whether the owner counts it among those that are there.
    pub(super) alive: bool,
    /// Since when it is there or not.
    pub(super) since: Time,
    pub(super) region: Option<Region<C::Peer>>,
    /// The round of a claim that came when nothing was known of its maker: it is new, or was away for so long that it has
    /// been forgotten.
    pub(super) unheard: Option<Round>,
    pub(super) leaving: bool,
    pub(super) rtt: Rtt,
}

impl<C: Contact> Member<C> {
    pub(super) fn round(&self) -> Round {
        self.region.as_ref().map_or(0, |r| r.claim().round)
    }

    /// Returns the round of the newest claim that was remembered when it came; 0 for none.
    pub(super) fn remembered(&self) -> Round {
        let round = self.round();
        if self.unheard == Some(round) {
            0
        } else {
            round
        }
    }
}

/// This node and those near it.
#[derive(Debug)]
pub(super) struct Members<C: Contact> {
    me: C,
    point: Point,
    /// What this node claims.
    own: Option<Region<C::Peer>>,
    /// Whether its claim holds since it started: what it missed while it was away has been read.
    recovered: bool,
    leaving: bool,
    /// Whether this node holds records at all.
    stores: bool,
    map: BTreeMap<C::Peer, Member<C>>,
}

impl<C: Contact> Members<C> {
    pub(super) fn new(me: C, stores: bool) -> Self {
        Self {
            point: me.peer().point(),
            me,
            own: None,
            recovered: false,
            leaving: false,
            stores,
            map: BTreeMap::new(),
        }
    }

    pub(super) fn me(&self) -> C::Peer {
        self.me.peer()
    }

    pub(super) fn contact(&self) -> &C {
        &self.me
    }

    pub(super) fn set_me(&mut self, me: C) {
        self.me = me;
    }

    pub(super) fn get(&self, peer: C::Peer) -> Option<&Member<C>> {
        self.map.get(&peer)
    }

    pub(super) fn get_mut(&mut self, peer: C::Peer) -> Option<&mut Member<C>> {
        self.map.get_mut(&peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (C::Peer, &Member<C>)> {
        self.map.iter().map(|(&peer, member)| (peer, member))
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (C::Peer, &Member<C>)> {
        self.iter().filter(|(_, member)| member.alive)
    }

    pub(super) fn is_alive(&self, peer: C::Peer) -> bool {
        peer == self.me() || self.get(peer).is_some_and(|member| member.alive)
    }

    /// Notes that a peer is there; returns whether that is news.
    pub(super) fn appeared(&mut self, contact: C, now: Time) -> bool {
        let peer = contact.peer();
        let member = self.map.entry(peer).or_insert_with(|| Member {
            point: peer.point(),
            contact: contact.clone(),
            alive: false,
            since: now,
            region: None,
            unheard: None,
            leaving: false,
            rtt: Rtt::default(),
        });
        member.contact = contact;
        let news = !member.alive;
        if news {
            member.alive = true;
            member.since = now;
            // One that is back says so itself if it still leaves.
            member.leaving = false;
        }
        news
    }

    /// Notes that a peer is there no more; returns whether that is news.
    pub(super) fn vanished(&mut self, peer: C::Peer, now: Time) -> bool {
        let Some(member) = self.map.get_mut(&peer).filter(|member| member.alive) else {
            return false;
        };
        member.alive = false;
        member.since = now;
        true
    }

    /// Takes a peer and its claim from disk. Whether it is there remains to be seen.
    pub(super) fn restore(&mut self, contact: C, claim: Claim<C::Peer>, now: Time) {
        let peer = contact.peer();
        self.appeared(contact, now);
        self.vanished(peer, now);
        if let Some(member) = self.map.get_mut(&peer) {
            member.region = Some(Region::new(peer, claim));
        }
    }

    pub(super) fn forget(&mut self, peer: C::Peer) {
        self.map.remove(&peer);
    }

    pub(super) fn own(&self) -> Option<&Region<C::Peer>> {
        self.own.as_ref()
    }

    pub(super) fn own_mut(&mut self) -> Option<&mut Region<C::Peer>> {
        self.own.as_mut()
    }

    /// Takes a claim of this node that was on disk when it started: it holds once it was renewed.
    pub(super) fn restore_own(&mut self, claim: Claim<C::Peer>) {
        self.own = Some(Region::new(self.me(), claim));
    }

    pub(super) fn set_own(&mut self, claim: Claim<C::Peer>) {
        self.own = Some(Region::new(self.me(), claim));
        self.recovered = true;
    }

    /// Takes back that this node's claim holds: its disk has lost a later one.
    pub(super) fn unsettle(&mut self) {
        self.recovered = false;
    }

    pub(super) fn recovered(&self) -> bool {
        self.recovered
    }

    pub(super) fn leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn set_leaving(&mut self) {
        self.leaving = true;
    }

    /// Returns whether another one's claim has taken a place of this node's.
    pub(super) fn displaced(&self) -> bool {
        let Some(own) = &self.own else { return false };
        let me = self.me();
        self.map.values().any(|member| {
            let known = member.region.as_ref().and_then(|r| r.claim().of(me));
            known.is_some_and(|known| known.gone && known.round >= own.claim().round)
        })
    }

    /// Returns whether a peer's claim holds for a point: no other one's has taken its place.
    fn stands(&self, peer: C::Peer, round: Round, point: Point, n: usize) -> bool {
        let others = self
            .map
            .values()
            .filter_map(|member| member.region.as_ref());
        let mut regions = others.chain(self.own.as_ref());
        !regions.any(|region| region.displaces(peer, round, point, n))
    }

    /// Returns whether this node is settled for a point.
    pub(super) fn is_settled(&self, point: Point, n: usize) -> bool {
        self.recovered && self.claims(point, n)
    }

    /// Returns whether this node's claim holds for a point, be it that the node must still read what it missed: it
    /// takes a place among the n, although it can't count yet.
    fn claims(&self, point: Point, n: usize) -> bool {
        self.own.as_ref().is_some_and(|own| {
            own.place(point, n).is_settled() && self.stands(self.me(), own.claim().round, point, n)
        })
    }

    /// Returns whether there are n settled replicas without this node.
    pub(super) fn is_outside(&self, point: Point, n: usize) -> bool {
        let own = self.point ^ point;
        let closer = self
            .map
            .values()
            .filter(|member| (member.point ^ point) < own && self.seen(member, point, n).settled);
        closer.take(n).count() >= n
    }

    /// Returns who stands near a point, in this node's sight.
    pub(super) fn sight(&self, point: Point, n: usize) -> Sight<C> {
        let me = self.me();
        let mut near: Vec<(crate::Distance, Option<&Member<C>>)> = self
            .map
            .values()
            .filter(|member| member.alive || member.region.is_some())
            .map(|member| (member.point ^ point, Some(member)))
            .collect();
        if self.stores {
            near.push((self.point ^ point, None));
        }
        near.sort_unstable_by_key(|&(distance, _)| distance);
        let mut sight = Sight {
            counts: false,
            peers: Vec::with_capacity(n),
        };
        let mut settled = 0;
        for (_, member) in near {
            if settled >= n || sight.peers.len() >= SIGHT_PEERS_MAX {
                break;
            }
            let seen = member.map_or_else(
                || Seen {
                    contact: self.me.clone(),
                    round: self.own.as_ref().map_or(0, |own| own.claim().round),
                    settled: self.claims(point, n),
                    alive: true,
                },
                |member| self.seen(member, point, n),
            );
            if !seen.settled && !seen.alive {
                continue;
            }
            settled += usize::from(seen.settled);
            sight.counts |= self.recovered && seen.settled && seen.contact.peer() == me;
            sight.peers.push(seen);
        }
        sight
    }

    fn seen(&self, member: &Member<C>, point: Point, n: usize) -> Seen<C> {
        let peer = member.contact.peer();
        let claims = member
            .region
            .as_ref()
            .is_some_and(|region| region.place(point, n).is_settled());
        Seen {
            contact: member.contact.clone(),
            round: member.round(),
            settled: claims && self.stands(peer, member.round(), point, n),
            alive: member.alive,
        }
    }
}
