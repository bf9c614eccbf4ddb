//! What a node would claim now, and whether that says more than what it claims.

use crate::{Contact, Now, Peer};

use super::super::Store;
use super::super::claim::{CLAIM_PEERS_MAX, Claim, Known, Region};
use super::VIEW_FULL;

impl<C: Contact> Store<C> {
    /// Returns the claim that this node would make now, without what it reads for it.
    pub(super) fn draft_claim(&self, now: Now) -> Claim<C::Peer> {
        let own = self.members.own().map(Region::claim);
        let recovered = self.members.recovered();
        let displaced = self.members.displaced() || self.fill.forgotten && !recovered;
        let heard = self.fill.heard;
        let lost = own.is_none_or(|own| own.round < heard);
        let whole = own.is_some_and(|own| {
            let unread = |known: &Known<C::Peer>| !known.reached && !known.before;
            own.old || !own.known.iter().any(unread)
        });
        let old = whole && !displaced && !lost;
        let replace = self.sees_most();
        let known = self.members.iter().filter(|(_, m)| m.region.is_some());
        let known = known.take(CLAIM_PEERS_MAX).map(|(peer, member)| {
            let was = own.and_then(|own| own.of(peer));
            let away = !member.alive && member.since + self.config.replace_after <= now.time;
            let still_gone = was.is_some_and(|was| was.gone && was.round >= member.round());
            Known {
                peer,
                round: member.round(),
                gone: member.leaving || still_gone && !member.alive || away && replace,
                reached: false,
                before: old && recovered && was.is_none_or(|was| was.reached || was.before),
            }
        });
        let mut known: Vec<Known<C::Peer>> = known.collect();
        if !old {
            self.add_strangers(&mut known);
        }
        Claim {
            round: own.map_or(0, |own| own.round).max(heard) + 1,
            old,
            known,
        }
    }

    /// Adds those whom a new node's neighbours know and it doesn't: it may be cut off from most of the replicas that
    /// there are, and what they have acknowledged it has not read.
    fn add_strangers(&self, known: &mut Vec<Known<C::Peer>>) {
        let me = self.members.me();
        let own = me.point();
        let alive: Vec<_> = self.members.alive().collect();
        let farthest = alive.iter().map(|(_, member)| member.point ^ own).max();
        let full = alive.len() >= VIEW_FULL;
        let claims = alive.iter().filter_map(|(_, m)| m.region.as_ref());
        for theirs in claims.flat_map(|region| &region.claim().known) {
            let far = full && Some(theirs.peer.point() ^ own) > farthest;
            if theirs.peer == me || theirs.gone || far || known.len() >= CLAIM_PEERS_MAX {
                continue;
            }
            if let Err(at) = known.binary_search_by_key(&theirs.peer, |k| k.peer) {
                let stranger = Known {
                    reached: false,
                    before: false,
                    ..*theirs
                };
                known.insert(at, stranger);
            }
        }
    }

    /// Returns whether the claim that this node would make says more than the one it has.
    pub(super) fn wants_fill(&self, draft: &Claim<C::Peer>, now: Now) -> bool {
        let Some(own) = self.members.own().filter(|_| self.members.recovered()) else {
            return true;
        };
        let own = own.claim();
        let gone =
            |known: &Known<C::Peer>| known.gone && own.of(known.peer).is_none_or(|was| !was.gone);
        let forgotten = |was: &Known<C::Peer>| draft.of(was.peer).is_none();
        self.members.displaced()
            || draft.known.iter().any(gone)
            || self.fill.unread_at <= now.time && self.has_unread()
            || own.known.iter().any(forgotten)
    }
}
