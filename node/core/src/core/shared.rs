//! Links that swarms share: a node in many swarms has as many links as it wants, and then they choose among these.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::hyparview::{Links, Room};
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::links::Link;
use crate::TopicId;

/// Links that a node wants for all its swarms. Of a swarm with fifty members in a network of two hundred, eight are at the other ends
/// of so many: enough for five neighbours, and for the swarm to hang together. Some more come from others, and for questions.
const LINKS_WANTED: usize = 32;
/// From how many on those that there are come first: half, so that the others are left for swarms that need them.
const LINKS_MANY: usize = 16;
/// Below how many a node that had as many as it wants takes more: one that lost a link would replace it for each of its swarms that has
/// a vacancy, and release the others again.
const LINKS_FEW: usize = 24;
/// How often the neighbours of one link that is more than wanted are released: in minutes a node of hundreds of topics has moved to the
/// links that it keeps, and no tree loses many branches at once.
const RELEASED_EVERY: Duration = Duration::from_millis(250);
/// How long a link that was made for a swarm counts though it is no neighbour's yet: the request is answered by then.
const BEGINS_WITHIN: Duration = Duration::from_secs(2);

/// What swarms know of links.
#[derive(Debug, Default)]
pub(super) struct Shared {
    told: Arc<Links<PeerId>>,
    /// Whether links have come or gone since.
    has_moved: bool,
    /// Links that are more than wanted, those first that others want least.
    surplus: Vec<PeerId>,
    /// Which of them is released next, and when.
    next: usize,
    release_at: Option<Time>,
}

impl Shared {
    pub(super) fn poll_timeout(&self) -> Time {
        self.release_at.unwrap_or(Time::NEVER)
    }
}

impl Link {
    /// Returns whether a swarm needs it, or may in a moment.
    pub(super) fn is_shared(&self, now: Now) -> bool {
        let begins = self
            .made_for_swarm_at
            .is_some_and(|at| now.time.since(at) < BEGINS_WITHIN);
        self.is_alive() && (begins || !self.neighbour_in.is_empty())
    }
}

impl Core {
    /// A link has come to be a swarm's, or is none's any more.
    pub(super) fn links_moved(&mut self) {
        self.shared.has_moved = true;
    }

    /// Tells swarms whom this node is linked with for them, if that is many or just was.
    pub(super) fn tell_links(&mut self, now: Now) {
        if !self.plan_links(now) {
            return;
        }
        let all: Vec<TopicId> = self.swarms.keys().copied().collect();
        let mut told = 0;
        while let Some(topic) = all.get(told) {
            told += 1;
            let links = Arc::clone(&self.shared.told);
            self.tell_swarm(*topic, swarm::Input::Links(links), now);
            // What little room there is goes to one after the other: each link that is begun leaves less, and everybody hears of it.
            if self.shared.told.room == Room::Little && self.plan_links(now) {
                told = 0;
            }
        }
    }

    /// Decides which links this node wants, if they have changed; returns whether swarms are to be told.
    fn plan_links(&mut self, now: Now) -> bool {
        if !std::mem::take(&mut self.shared.has_moved) {
            return false;
        }
        let links = self.links.iter().filter(|(_, link)| link.is_shared(now));
        let dials = self.pending.iter().filter(|(_, dial)| dial.is_for_swarm());
        let peers = links
            .map(|(peer, _)| *peer)
            .chain(dials.map(|(peer, _)| *peer));
        let peers: BTreeSet<_> = peers.collect();
        let room = match peers.len() {
            LINKS_WANTED.. => Room::None,
            LINKS_FEW.. if self.shared.told.room == Room::None => Room::None,
            LINKS_MANY.. => Room::Little,
            _ => Room::Free,
        };
        let mut by_affinity: Vec<PeerId> = peers.into_iter().collect();
        if by_affinity.len() > LINKS_WANTED {
            let of_me = |peer: &PeerId| Reverse(affinity(self.me, *peer));
            by_affinity.sort_unstable_by_key(of_me);
        }
        self.shared.surplus = by_affinity.split_off(by_affinity.len().min(LINKS_WANTED));
        self.shared.surplus.reverse();
        if self.shared.surplus.is_empty() {
            self.shared.release_at = None;
        } else {
            let at = now.time + RELEASED_EVERY;
            self.shared.release_at.get_or_insert(at);
        }
        let peers = by_affinity.into_iter().collect();
        let links = Links { peers, room };
        let is_free = room == Room::Free && self.shared.told.room == Room::Free;
        let is_news = !is_free && links != *self.shared.told;
        if is_news {
            self.shared.told = Arc::new(links);
        }
        is_news
    }

    /// Has swarms look for somebody else whose neighbour is at the end of a link that is more than wanted, one link at a time.
    pub(super) fn tick_shared(&mut self, now: Now) {
        if self.shared.poll_timeout() > now.time {
            return;
        }
        let shared = &mut self.shared;
        shared.release_at = (!shared.surplus.is_empty()).then(|| now.time + RELEASED_EVERY);
        shared.next = (shared.next + 1) % shared.surplus.len().max(1);
        let Some(&peer) = shared.surplus.get(shared.next) else {
            return;
        };
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Release(peer), now);
        }
    }

    /// Returns what to tell a swarm that is opened now.
    pub(super) fn links_told(&self) -> Option<Arc<Links<PeerId>>> {
        let told = &self.shared.told;
        (told.room != Room::Free).then(|| Arc::clone(told))
    }
}

/// Returns how much two peers are each other's own: the same from both sides, at random between pairs, and the same for all keepers
/// (the highest random weight of Thaler and Ravishankar, 1996).
///
/// Members of many topics that are linked with those closest to them by this need few links for all of them.
pub(super) fn affinity(one: PeerId, other: PeerId) -> u64 {
    let first = |peer: PeerId| peer.as_bytes().first_chunk().copied();
    let half = |peer: PeerId| first(peer).map_or(0, u64::from_le_bytes);
    // The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    let mut mixed = half(one) ^ half(other);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weft_identity::Keypair;

    use super::*;

    #[test]
    fn affinity_is_the_same_from_both_sides_and_another_for_each_pair() {
        let peers: Vec<PeerId> = (0..20)
            .map(|n| Keypair::from_seed(&[n; 32]).peer_id())
            .collect();
        let mut seen = BTreeSet::new();
        for (at, one) in peers.iter().enumerate() {
            for other in &peers[at + 1..] {
                assert_eq!(affinity(*one, *other), affinity(*other, *one));
                seen.insert(affinity(*one, *other));
            }
        }
        assert_eq!(seen.len(), 20 * 19 / 2);
    }
}
