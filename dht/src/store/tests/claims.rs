//! Where a claim says that its maker is settled.

use crate::store::claim::{Claim, Known, Place, Region};
use crate::testing::TestPeer;
use crate::{Peer, Point};

const COPIES: usize = 3;

fn known(peer: u32) -> Known<TestPeer> {
    Known {
        peer: TestPeer(peer),
        round: 1,
        gone: false,
        reached: true,
        before: false,
    }
}

fn region(maker: u32, old: bool, known: Vec<Known<TestPeer>>) -> Region<TestPeer> {
    let claim = Claim {
        round: 2,
        old,
        known,
    };
    assert!(claim.is_well_formed());
    Region::new(TestPeer(maker), claim)
}

/// A point and the peers 0 to 9 by their distance from it.
fn ring() -> (Point, Vec<u32>) {
    let point = Point::of(b"somewhere");
    let mut peers: Vec<u32> = (0..10).collect();
    peers.sort_by_key(|&peer| TestPeer(peer).point() ^ point);
    (point, peers)
}

/// What the peer at a place claims who knows all others, of which some are as told.
fn claimed(at: usize, old: bool, change: impl Fn(usize, &mut Known<TestPeer>)) -> Region<TestPeer> {
    let (_, peers) = ring();
    let mut others: Vec<Known<TestPeer>> = Vec::new();
    for (place, &peer) in peers.iter().enumerate().filter(|(place, _)| *place != at) {
        let mut other = known(peer);
        change(place, &mut other);
        others.push(other);
    }
    others.sort_by_key(|known| known.peer);
    region(peers[at], old, others)
}

fn place(at: usize, old: bool, change: impl Fn(usize, &mut Known<TestPeer>)) -> Place {
    claimed(at, old, change).place(ring().0, COPIES)
}

#[test]
fn who_has_read_a_quorum_of_the_replicas_before_is_settled_among_the_closest() {
    for at in 0..3 {
        assert_eq!(place(at, false, |_, _| {}), Place::Settled);
    }
    assert_eq!(place(3, false, |_, _| {}), Place::Outside);
    // The first has joined: the replicas before it are the next three.
    let unread = |unread: &'static [usize]| {
        place(0, false, move |place, known| {
            known.reached = !unread.contains(&place);
        })
    };
    assert_eq!(unread(&[3]), Place::Settled);
    assert_eq!(unread(&[2, 3]), Place::Unsettled);
    assert_eq!(unread(&[4, 5, 6, 7]), Place::Settled);
}

#[test]
fn who_was_a_replica_counts_for_itself() {
    let read_one = |place: usize, known: &mut Known<TestPeer>| known.reached = place != 1;
    assert_eq!(place(0, true, read_one), Place::Settled);
    let read_none = |_: usize, known: &mut Known<TestPeer>| known.reached = false;
    assert_eq!(place(0, true, read_none), Place::Unsettled);
    // What it has read before counts where it has been a replica since.
    let before = |_: usize, known: &mut Known<TestPeer>| {
        known.reached = false;
        known.before = true;
    };
    assert_eq!(place(0, true, before), Place::Settled);
}

#[test]
fn the_next_closest_takes_the_place_of_one_that_has_gone_once_it_has_read_the_others() {
    let one_gone = |place: usize, known: &mut Known<TestPeer>| {
        known.gone = place == 1;
        known.reached = place != 1;
    };
    assert_eq!(place(3, true, one_gone), Place::InPlaceOfGone);
    assert_eq!(place(4, true, one_gone), Place::Outside);
    // Of two of three that have gone at once nobody knows what they had acknowledged.
    let two_gone = |place: usize, known: &mut Known<TestPeer>| {
        known.gone = place < 2;
        known.reached = place >= 2;
        known.before = true;
    };
    assert_eq!(place(3, true, two_gone), Place::Unsettled);
    // The third holds what it held.
    assert_eq!(place(2, true, two_gone), Place::Settled);
}

#[test]
fn a_claim_displaces_whom_it_calls_gone_until_that_one_claims_anew() {
    let (point, peers) = ring();
    let claim = claimed(3, true, |place, known| {
        known.gone = place == 1;
        known.reached = place != 1;
    });
    let gone = TestPeer(peers[1]);
    assert!(claim.displaces(gone, 1, point, COPIES));
    assert!(!claim.displaces(gone, 2, point, COPIES));
    assert!(!claim.displaces(TestPeer(peers[2]), 1, point, COPIES));
    // Where its maker is among the closest anyhow it takes nobody's place.
    let own = TestPeer(peers[3]).point();
    assert!(!claim.displaces(gone, 1, own, COPIES));
}

#[test]
fn whoever_joins_makes_a_claim_smaller() {
    let (point, peers) = ring();
    let mut claim = region(peers[3], false, Vec::new());
    assert_eq!(claim.place(point, COPIES), Place::Settled);
    for (joined, settled) in [(4, true), (0, true), (1, true), (2, false)] {
        claim.note(known(peers[joined]));
        let place = claim.place(point, COPIES);
        assert_eq!(place.is_settled(), settled, "after {joined}");
    }
    claim.note(known(peers[0]));
    assert_eq!(claim.claim().known.len(), 4);
}

#[test]
fn the_lists_of_a_claim_are_ordered_and_bounded() {
    let claim = |known: Vec<Known<TestPeer>>| Claim {
        round: 1,
        old: false,
        known,
    };
    assert!(claim(vec![known(1), known(2)]).is_well_formed());
    assert!(!claim(vec![known(2), known(1)]).is_well_formed());
    assert!(!claim(vec![known(1), known(1)]).is_well_formed());
    assert!(claim((0..64).map(known).collect()).is_well_formed());
    assert!(!claim((0..65).map(known).collect()).is_well_formed());
}
