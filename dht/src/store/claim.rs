//! What a node says of where it is *settled*: where it holds whatever a quorum has acknowledged.
//!
//! Dynamo's membership is told by an administrator; ours moves by itself, and nodes disagree about it. So a place among
//! the n replicas of a point is not a matter of who is alive in whose sight, but of claims. A [`Claim`] says whom its
//! maker knew when it last made sure that it has everything (a *fill*, see `fill.rs`), from which follows for each
//! point:
//!
//! - The maker stands among the n closest of those it knew, without those that were *gone*.
//! - Of the n replicas that there were before, it has read a quorum. Whatever a quorum of them has acknowledged is on
//!   one of those that it read.
//!
//! Nodes that join make the region of others smaller, and a claim that knows more only says less. A node that died is
//! still a replica, in everybody's sight, until the claim of another one takes its place; until then quorums are made
//! of those that remain.

use crate::{Distance, Peer, Point};

/// Peers that a claim knows, at most: the closest peers of a node (k is 20), those that left in the last ten minutes,
/// and room.
pub const CLAIM_PEERS_MAX: usize = 64;

/// Numbers the claims of one peer, from 1 upwards.
pub type Round = u64;

/// A peer as a claim knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<P> {
    /// The peer.
    pub peer: P,
    /// Its own claim's round, as far as it was known.
    pub round: Round,
    /// It was away for too long, or leaves: others take its places.
    pub gone: bool,
    /// What it holds was read for this claim.
    pub reached: bool,
    /// What it held was read for an earlier claim, and where the maker was a replica then it has been one since.
    pub before: bool,
}

/// Where a node is settled, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<P> {
    /// Which of its maker's claims this is.
    pub round: Round,
    /// Whether the maker had made a claim before, and has kept what it held.
    pub old: bool,
    /// Whom it knew, ordered by peer, without itself; at most [`CLAIM_PEERS_MAX`].
    pub known: Vec<Known<P>>,
}

impl<P: Peer> Claim<P> {
    /// Returns what the claim says of a peer.
    pub fn of(&self, peer: P) -> Option<&Known<P>> {
        let at = self.known.binary_search_by_key(&peer, |known| known.peer);
        at.ok().and_then(|at| self.known.get(at))
    }

    /// Returns those whose contents must still be read for the claim to hold wherever it can: what was read for an earlier
    /// claim is enough for the places that the maker had, and not for those of a peer that has gone.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Known<P>> {
        let takes = self.known.iter().any(|known| known.gone);
        let known = self.known.iter();
        known.filter(move |known| !known.reached && (takes || !known.before))
    }

    /// Returns whether the lists keep to what a claim is; a claim that came from elsewhere may not.
    pub fn is_well_formed(&self) -> bool {
        let ordered = self
            .known
            .is_sorted_by(|earlier, later| earlier.peer < later.peer);
        ordered && self.known.len() <= CLAIM_PEERS_MAX && self.round > 0
    }
}

/// How many of n are a quorum.
pub(super) const fn quorum(n: usize) -> usize {
    n / 2 + 1
}

/// Where a claim's maker stands for a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Others are closer.
    Outside,
    /// Among the n, but it may lack what was acknowledged.
    Unsettled,
    /// Among the n, with everything that was acknowledged.
    Settled,
    /// The same, in the place of a peer that has gone.
    InPlaceOfGone,
}

impl Place {
    pub(crate) const fn is_settled(self) -> bool {
        matches!(self, Self::Settled | Self::InPlaceOfGone)
    }
}

/// A claim with the points of those that it names, which are hashes and so are kept.
#[derive(Clone, Debug)]
pub(crate) struct Region<P> {
    maker: Point,
    claim: Claim<P>,
    points: Vec<Point>,
}

impl<P: Peer> Region<P> {
    pub(crate) fn new(maker: P, claim: Claim<P>) -> Self {
        Self {
            maker: maker.point(),
            points: claim.known.iter().map(|k| k.peer.point()).collect(),
            claim,
        }
    }

    pub(crate) fn claim(&self) -> &Claim<P> {
        &self.claim
    }

    /// Notes what has become known of a peer. That one more is there, or is back, needs no fill.
    pub(crate) fn note(&mut self, known: Known<P>) {
        let list = &mut self.claim.known;
        match list.binary_search_by_key(&known.peer, |k| k.peer) {
            Ok(at) => list[at] = known,
            Err(at) if list.len() < CLAIM_PEERS_MAX => {
                list.insert(at, known);
                self.points.insert(at, known.peer.point());
            }
            Err(_) => {}
        }
    }

    /// Returns where the maker stands for a point of which there are to be n copies.
    pub(crate) fn place(&self, point: Point, n: usize) -> Place {
        let own = self.maker ^ point;
        let known = self.claim.known.iter().zip(&self.points);
        let mut known: Vec<(Distance, &Known<P>)> =
            known.map(|(known, &at)| (at ^ point, known)).collect();
        let closer = known.iter().filter(|(distance, _)| *distance < own);
        let (all, here) = closer.fold((0, 0), |(all, here), (_, known)| {
            (all + 1, here + usize::from(!known.gone))
        });
        if here >= n {
            return Place::Outside;
        }
        // The replicas that there were before this claim: the closest that were known, gone or not.
        let was_replica = self.claim.old && all < n;
        let own_copy = usize::from(was_replica);
        let others = known.len().min(n - own_copy);
        if others < known.len() {
            known.select_nth_unstable_by_key(others, |&(distance, _)| distance);
        }
        let replicas = known.iter().take(others);
        let unread = replicas.filter(|(_, k)| !(k.reached || was_replica && k.before));
        if unread.count() > (others + own_copy).saturating_sub(quorum(n)) {
            Place::Unsettled
        } else if all < n {
            Place::Settled
        } else {
            Place::InPlaceOfGone
        }
    }

    /// Returns whether the maker takes the place of a peer, as that peer was at a round.
    pub(crate) fn displaces(&self, peer: P, round: Round, point: Point, n: usize) -> bool {
        let known = self.claim.of(peer);
        known.is_some_and(|known| known.gone && known.round >= round)
            && self.place(point, n) == Place::InPlaceOfGone
    }
}
