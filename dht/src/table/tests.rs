//! What a table keeps, gives up and answers, by cases and against brute force.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{TestContact, TestPeer, at, contact};

const ME: u32 = 1_000_000;

fn table() -> Table<TestContact> {
    Table::new(TestPeer(ME).point())
}

/// Peers of the first bucket, those that differ from us in the first bit, in one corner of it.
fn of_corner(corner: usize) -> impl Iterator<Item = u32> {
    let me = TestPeer(ME).point();
    (0..).filter(move |&peer| {
        let distance = TestPeer(peer).point() ^ me;
        distance.leading_zeros() == 0 && distance.bits(1, CORNER_BITS) == corner
    })
}

/// Twenty peers that fill the first bucket evenly.
fn even() -> Vec<u32> {
    (0..K)
        .map(|turn| of_corner(turn % 16).nth(turn / 16).unwrap())
        .collect()
}

fn full() -> (Table<TestContact>, Vec<u32>) {
    let mut table = table();
    let peers = even();
    for (turn, &peer) in peers.iter().enumerate() {
        let entered = table.proven(contact(peer), at(turn as u64));
        assert_eq!(entered, Entered::New);
    }
    (table, peers)
}

/// One more peer of the corners that hold two already.
fn newcomer() -> u32 {
    of_corner(0).nth(2).unwrap()
}

fn is_live(table: &Table<TestContact>, peer: u32) -> bool {
    let entry = table.entry(TestPeer(peer));
    entry.is_some_and(|entry| entry.standing() == Standing::Live)
}

#[test]
fn clients_and_the_node_itself_get_no_place() {
    let mut table = table();
    let client = TestContact {
        serves: false,
        ..contact(1)
    };
    assert_eq!(table.proven(client.clone(), at(0)), Entered::Refused);
    assert_eq!(table.proven(contact(ME), at(0)), Entered::Refused);
    assert!(table.is_empty());
    assert_eq!(table.proven(contact(1), at(0)), Entered::New);
    assert_eq!(table.proven(client, at(1)), Entered::Refused);
    assert!(
        table.is_empty(),
        "a server that became a client keeps no place"
    );
}

#[test]
fn a_full_bucket_keeps_its_old_peers_while_they_answer() {
    let (mut table, peers) = full();
    let soon = table.proven(contact(newcomer()), at(30_000));
    assert_eq!(soon, Entered::Spare { check: None });
    let later = table.proven(contact(newcomer()), at(100_000));
    let oldest = TestPeer(peers[0]);
    assert_eq!(
        later,
        Entered::Spare {
            check: Some(oldest)
        }
    );
    table.heard(oldest, at(100_001));
    let next = table.proven(contact(newcomer()), at(100_002));
    let check = Some(TestPeer(peers[1]));
    assert_eq!(next, Entered::Spare { check });
    assert!(peers.iter().all(|&peer| is_live(&table, peer)));
}

#[test]
fn a_silent_peer_gives_way_to_the_freshest_spare() {
    let (mut table, peers) = full();
    let spares: Vec<u32> = of_corner(0).skip(2).take(3).collect();
    for (turn, &spare) in spares.iter().enumerate() {
        table.proven(contact(spare), at(1_000 + turn as u64));
    }
    assert!(table.suspect(TestPeer(peers[3])));
    assert!(!is_live(&table, peers[3]));
    assert!(
        !table.suspect(TestPeer(peers[3])),
        "it is being pinged already"
    );
    table.silent(TestPeer(peers[3]));
    assert!(table.entry(TestPeer(peers[3])).is_none());
    assert!(is_live(&table, spares[2]));
    assert_eq!((table.len(), table.spares().count()), (K, 2));
}

#[test]
fn a_peer_that_is_forgotten_loses_its_place_until_it_answers_again() {
    let (mut table, peers) = full();
    table.forget(TestPeer(peers[3]));
    assert!(table.entry(TestPeer(peers[3])).is_none());
    assert!(table.has_room_for(&contact(peers[3])));
    assert_eq!(table.proven(contact(peers[3]), at(1_000)), Entered::New);
}

#[test]
fn a_suspect_that_answers_is_suspect_no_longer() {
    let (mut table, peers) = full();
    table.suspect(TestPeer(peers[3]));
    let again = table.proven(contact(peers[3]), at(1_000));
    assert_eq!(again, Entered::Known);
    assert!(is_live(&table, peers[3]));
}

#[test]
fn without_a_spare_a_silent_peer_stays_until_its_place_is_wanted() {
    let (mut table, peers) = full();
    table.silent(TestPeer(peers[3]));
    let standing = table.entry(TestPeer(peers[3])).map(Entry::standing);
    assert_eq!(standing, Some(Standing::Stale));
    let target = TestPeer(peers[3]).point();
    let named = table.closest(target, 1)[0].peer();
    assert_ne!(named, TestPeer(peers[3]), "nobody is sent to it");
    assert!(table.has_room_for(&contact(newcomer())));
    let entered = table.proven(contact(newcomer()), at(1_000));
    assert_eq!((entered, table.len()), (Entered::New, K));
    assert!(table.entry(TestPeer(peers[3])).is_none());
}

#[test]
fn a_stale_peer_whose_contact_has_expired_is_forgotten() {
    let mut table = table();
    let expires_at = at(1_000).unix.0;
    for peer in [1, 2] {
        let short = TestContact {
            expires_at,
            ..contact(peer)
        };
        table.proven(short, at(0));
    }
    table.silent(TestPeer(1));
    table.expire(at(999).unix);
    assert_eq!(table.len(), 2);
    table.expire(at(1_000).unix);
    assert!(table.entry(TestPeer(1)).is_none());
    assert!(is_live(&table, 2), "it may have a newer contact by now");
}

#[test]
fn a_bucket_filled_from_one_corner_becomes_even() {
    let mut table = table();
    let crowd: Vec<u32> = of_corner(5).take(K).collect();
    for (turn, &peer) in crowd.iter().enumerate() {
        table.proven(contact(peer), at(turn as u64));
    }
    for corner in 0..16 {
        for peer in of_corner(corner).take(2) {
            table.proven(contact(peer), at(1_000));
        }
    }
    let me = TestPeer(ME).point();
    let mut held = [0; 16];
    for entry in table.bucket(0) {
        held[(entry.point() ^ me).bits(1, CORNER_BITS)] += 1;
    }
    assert!(held.iter().all(|held| (1..=2).contains(held)), "{held:?}");
    let oldest = is_live(&table, crowd[0]) && !is_live(&table, crowd[19]);
    assert!(oldest, "the youngest of a corner give way first");
}

#[test]
fn an_even_bucket_gives_up_nobody_however_many_come() {
    let (mut table, peers) = full();
    for peer in 0..2_000 {
        table.proven(contact(peer), at(1_000));
    }
    assert!(peers.iter().all(|&peer| is_live(&table, peer)));
    assert_eq!(table.spares.range(0).len(), SPARES_PER_BUCKET_MAX);
}

#[test]
fn a_group_gets_two_places_of_a_bucket_and_ten_of_the_table() {
    let of_group = |peer| TestContact {
        group: Some(7),
        ..contact(peer)
    };
    let mut table = table();
    for peer in 0..5_000 {
        table.proven(of_group(peer), at(0));
    }
    assert_eq!(table.len(), GROUP_PER_TABLE_MAX);
    assert_eq!(table.bucket(0).len(), GROUP_PER_BUCKET_MAX);
    assert!(!table.has_room_for(&of_group(5_001)));
    assert_eq!(table.proven(contact(5_002), at(0)), Entered::New);
    // Who moves into the group afterwards doesn't get around the limit.
    assert_eq!(table.proven(of_group(5_002), at(1)), Entered::Refused);
    assert!(table.entry(TestPeer(5_002)).is_none());
}

#[test]
fn of_two_contacts_the_one_issued_later_stays() {
    let issued = |issued_at| TestContact {
        issued_at,
        ..contact(1)
    };
    let mut table = table();
    for issued_at in [5, 9, 7] {
        table.proven(issued(issued_at), at(0));
    }
    let entry = table.entry(TestPeer(1)).unwrap();
    assert_eq!(entry.contact().issued_at, 9);
}

#[test]
fn depth_is_the_bucket_of_the_twentieth_closest() {
    let mut table = table();
    assert_eq!(table.depth(), 0);
    for peer in 0..4_000 {
        table.proven(contact(peer), at(0));
    }
    let depth = table.depth();
    let deeper = table.entries().filter(|entry| {
        let prefix = table.me.shared_prefix(entry.point());
        prefix > depth
    });
    assert!(deeper.count() < K);
    assert!(!table.bucket(depth).is_empty());
    assert!((6..=9).contains(&depth), "log2 of 4,000 / 20, about");
}

/// What may happen to a table.
#[derive(Clone, Debug)]
enum Step {
    Proven {
        peer: u32,
        serves: bool,
        group: Option<u16>,
    },
    Heard(u32),
    Suspect(u32),
    Silent(u32),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..600_u32;
    prop_oneof![
        8 => (peer.clone(), prop::bool::weighted(0.95), prop::option::of(0..12_u16)).prop_map(
            |(peer, serves, group)| Step::Proven { peer, serves, group }
        ),
        1 => peer.clone().prop_map(Step::Heard),
        1 => peer.clone().prop_map(Step::Suspect),
        1 => peer.prop_map(Step::Silent),
        1 => Just(Step::Expire),
    ]
}

fn take(table: &mut Table<TestContact>, step: &Step, now: Now) {
    match *step {
        Step::Proven {
            peer,
            serves,
            group,
        } => {
            let it = TestContact {
                serves,
                group,
                expires_at: now.unix.0 + u64::from(peer) * 100,
                issued_at: now.unix.0,
                ..contact(peer)
            };
            let room = table.has_room_for(&it);
            let entered = table.proven(it, now);
            assert!(
                !room || entered == Entered::New,
                "promised room, {entered:?}"
            );
        }
        Step::Heard(peer) => table.heard(TestPeer(peer), now),
        Step::Suspect(peer) => {
            table.suspect(TestPeer(peer));
        }
        Step::Silent(peer) => table.silent(TestPeer(peer)),
        Step::Expire => table.expire(now.unix),
    }
}

fn check(table: &Table<TestContact>) {
    let distances: Vec<_> = table.entries.iter().map(|e| e.point() ^ table.me).collect();
    assert!(distances.is_sorted_by(|a, b| a < b));
    let spare_distances: Vec<_> = table.spares.iter().map(|e| e.point() ^ table.me).collect();
    assert!(spare_distances.is_sorted_by(|a, b| a < b));
    let placed: BTreeSet<TestPeer> = table.entries().map(Entry::peer).collect();
    assert!(table.spares().all(|spare| !placed.contains(&spare.peer())));
    let mut held = 0;
    for prefix in 0..32 {
        let bucket = table.bucket(prefix);
        held += bucket.len();
        assert!(bucket.len() <= K);
        assert!(table.spares.range(prefix).len() <= SPARES_PER_BUCKET_MAX);
        for group in 0..12 {
            let of_group = |entry: &&Entry<TestContact>| entry.contact().group == Some(group);
            assert!(bucket.iter().filter(of_group).count() <= GROUP_PER_BUCKET_MAX);
            assert!(table.entries().filter(of_group).count() <= GROUP_PER_TABLE_MAX);
        }
    }
    assert_eq!(held, table.len(), "every peer lies in its bucket");
    assert!(table.entries().all(|entry| entry.contact().serves));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_keeps_its_bounds_whatever_comes(steps in prop::collection::vec(step(), 1..400)) {
        let mut table = table();
        for (turn, step) in steps.into_iter().enumerate() {
            take(&mut table, &step, at(turn as u64 * 500));
            check(&table);
        }
    }

    #[test]
    fn closest_is_what_looking_at_each_finds(
        steps in prop::collection::vec(step(), 1..400),
        targets in prop::collection::vec((any::<u32>(), 0..50_usize), 8),
    ) {
        let mut table = table();
        for (turn, step) in steps.into_iter().enumerate() {
            take(&mut table, &step, at(turn as u64));
        }
        let own = [(ME, 30)];
        for (target, n) in targets.into_iter().chain(own) {
            let target = TestPeer(target).point();
            let mut truth: Vec<&Entry<TestContact>> =
                table.entries().filter(|entry| entry.standing() == Standing::Live).collect();
            truth.sort_by_key(|entry| entry.point() ^ target);
            let truth: Vec<TestPeer> = truth.into_iter().take(n).map(Entry::peer).collect();
            let found: Vec<TestPeer> =
                table.closest(target, n).into_iter().map(Entry::peer).collect();
            prop_assert_eq!(found, truth);
        }
    }
}
