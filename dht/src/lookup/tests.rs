//! What a lookup asks, in which order, and when it ends.

use proptest::prelude::*;

use super::*;
use crate::testing::{TestContact, TestPeer, contact};

const ME: u32 = 1_000_000;

fn target() -> Point {
    Point::of(b"target")
}

/// The peers `0..n`, the closest to the target first.
fn ranked(n: u32) -> Vec<u32> {
    let mut peers: Vec<u32> = (0..n).collect();
    peers.sort_by_key(|&peer| TestPeer(peer).point() ^ target());
    peers
}

fn contacts(peers: &[u32]) -> Vec<TestContact> {
    peers.iter().copied().map(contact).collect()
}

fn lookup(seeds: &[u32], paths: usize) -> Lookup<TestContact> {
    let me = TestPeer(ME).point();
    Lookup::new(me, target(), Goal::Closest, contacts(seeds), paths)
}

fn asks(lookup: &mut Lookup<TestContact>) -> Vec<u32> {
    std::iter::from_fn(|| lookup.poll_output())
        .map(|contact| contact.peer)
        .collect()
}

fn answer(lookup: &mut Lookup<TestContact>, from: u32, named: &[u32]) {
    lookup.handle(Input::Answered {
        from: TestPeer(from),
        contacts: contacts(named),
    });
}

fn named(lookup: &Lookup<TestContact>) -> Vec<u32> {
    let closest = lookup.closest();
    closest.iter().map(|contact| contact.peer).collect()
}

#[test]
fn three_are_asked_at_once_the_closest_first() {
    let peers = ranked(100);
    let mut lookup = lookup(&peers[50..60], 1);
    assert_eq!(asks(&mut lookup), peers[50..53]);
    answer(&mut lookup, peers[51], &peers[..20]);
    assert_eq!(asks(&mut lookup), peers[..1]);
}

#[test]
fn one_that_nobody_waits_for_asks_one_after_the_other_on_all_paths() {
    let peers = ranked(100);
    let mut lookup = lookup(&peers[50..60], 4).unhurried();
    assert_eq!(asks(&mut lookup), peers[50..51]);
    answer(&mut lookup, peers[50], &[]);
    assert_eq!(asks(&mut lookup), peers[51..52]);
    // It doesn't wait for one that is slow.
    lookup.handle(Input::Slow {
        peer: TestPeer(peers[51]),
    });
    assert_eq!(asks(&mut lookup), peers[52..53]);
}

#[test]
fn it_ends_once_the_twenty_closest_have_answered_and_not_before() {
    let peers = ranked(40);
    let mut lookup = lookup(&peers[..30], 1);
    let mut asked = 0;
    loop {
        let round = asks(&mut lookup);
        if round.is_empty() {
            break;
        }
        for peer in round {
            assert!(!lookup.is_finished());
            asked += 1;
            answer(&mut lookup, peer, &[]);
        }
    }
    assert!(lookup.is_finished());
    assert_eq!((asked, named(&lookup)), (20, peers[..20].to_vec()));
}

#[test]
fn those_that_fail_make_room_for_the_next() {
    let peers = ranked(40);
    let mut lookup = lookup(&peers[..30], 1);
    let mut turn = 0;
    while !lookup.is_finished() {
        for peer in asks(&mut lookup) {
            turn += 1;
            if turn % 3 == 0 {
                lookup.handle(Input::Failed {
                    peer: TestPeer(peer),
                });
            } else {
                answer(&mut lookup, peer, &[]);
            }
        }
    }
    assert_eq!(named(&lookup).len(), 20);
    assert_eq!(lookup.stats().failures, 9);
}

#[test]
fn each_slow_peer_lets_one_more_be_asked_and_its_answer_still_counts() {
    let peers = ranked(60);
    let mut lookup = lookup(&peers[..20], 1);
    assert_eq!(asks(&mut lookup).len(), 3);
    for &slow in &peers[..2] {
        let peer = TestPeer(slow);
        lookup.handle(Input::Slow { peer });
        lookup.handle(Input::Slow { peer });
    }
    assert_eq!(asks(&mut lookup), peers[3..5]);
    assert_eq!(lookup.stats().slow, 2);
    answer(&mut lookup, peers[0], &[]);
    assert_eq!(asks(&mut lookup), peers[5..6], "alpha stays at five");
    assert_eq!(named(&lookup), peers[..1]);
}

#[test]
fn alpha_rises_to_ten_and_no_further() {
    let peers = ranked(60);
    let mut lookup = lookup(&peers[..20], 1);
    let mut in_flight = 0;
    for _ in 0..10 {
        for peer in asks(&mut lookup) {
            in_flight += 1;
            let peer = TestPeer(peer);
            lookup.handle(Input::Slow { peer });
        }
    }
    assert_eq!(in_flight, ALPHA + SLOW_MAX);
}

/// Plays a lookup to where it waits for nobody but those that are slow.
fn ask_all_but(lookup: &mut Lookup<TestContact>, slow: &[u32]) {
    loop {
        let round = asks(lookup);
        if round.is_empty() {
            return;
        }
        for peer in round {
            if slow.contains(&peer) {
                let peer = TestPeer(peer);
                lookup.handle(Input::Slow { peer });
            } else {
                answer(lookup, peer, &[]);
            }
        }
    }
}

#[test]
fn it_ends_without_the_slow_once_twenty_others_have_answered() {
    let peers = ranked(40);
    let slow = &peers[..6];
    let mut lookup = lookup(&peers, 1);
    ask_all_but(&mut lookup, slow);
    assert!(lookup.is_finished());
    assert_eq!(named(&lookup), peers[6..26]);
}

#[test]
fn where_too_few_answer_the_slow_are_waited_for() {
    let peers = ranked(25);
    let slow = &peers[..6];
    let mut lookup = lookup(&peers, 1);
    ask_all_but(&mut lookup, slow);
    for (turn, &late) in slow.iter().enumerate() {
        assert!(!lookup.is_finished(), "19 have answered, and {turn}");
        if turn == 0 {
            let peer = TestPeer(late);
            lookup.handle(Input::Failed { peer });
        } else {
            answer(&mut lookup, late, &[]);
            break;
        }
    }
    assert!(lookup.is_finished());
    assert_eq!(named(&lookup)[0], slow[1]);
}

#[test]
fn the_very_peer_that_is_looked_for_is_waited_for_however_slow() {
    let all: Vec<u32> = (0..60).collect();
    let wanted = 7;
    let (me, point) = (TestPeer(ME).point(), TestPeer(wanted).point());
    for answers in [true, false] {
        let mut lookup = Lookup::new(me, point, Goal::Exact, contacts(&all), 1);
        ask_all_but(&mut lookup, &[wanted]);
        assert!(!lookup.is_finished());
        if answers {
            answer(&mut lookup, wanted, &[]);
        } else {
            let peer = TestPeer(wanted);
            lookup.handle(Input::Failed { peer });
        }
        assert!(lookup.is_finished());
        assert_eq!(named(&lookup).contains(&wanted), answers);
    }
}

#[test]
fn a_peer_is_asked_by_one_path_only() {
    let peers = ranked(200);
    let mut lookup = lookup(&peers[100..120], 4);
    let mut asked: Vec<u32> = Vec::new();
    while !lookup.is_finished() {
        for peer in asks(&mut lookup) {
            asked.push(peer);
            answer(&mut lookup, peer, &peers[..20]);
        }
    }
    let times = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), times);
    assert_eq!(named(&lookup), peers[..20]);
}

#[test]
fn a_liar_misleads_its_own_path_alone() {
    let peers = ranked(1_000);
    // The closest seed lies: it names peers that are closer than its path's other seeds, and hide the truth.
    let (liars, honest) = (&peers[20..40], &peers[..20]);
    for (paths, expect) in [(1, false), (4, true)] {
        let mut lookup = lookup(&peers[500..520], paths);
        let mut turn = 0;
        while !lookup.is_finished() {
            for peer in asks(&mut lookup) {
                turn += 1;
                let lies = turn == 1 || liars.contains(&peer);
                // With one path, the liar answers before the others that were asked.
                let truthful = if paths == 1 { &[][..] } else { honest };
                answer(&mut lookup, peer, if lies { liars } else { truthful });
            }
        }
        assert_eq!(named(&lookup) == honest, expect, "{paths} paths");
    }
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let peers = ranked(100);
    let mut lookup = lookup(&peers[50..52], 1);
    asks(&mut lookup);
    answer(&mut lookup, peers[70], &peers[..20]);
    answer(&mut lookup, peers[50], &[]);
    answer(&mut lookup, peers[50], &peers[..20]);
    assert_eq!(lookup.candidates(), 2);
    assert_eq!(lookup.stats().answers, 1);
}

#[test]
fn itself_and_clients_are_never_asked() {
    let peers = ranked(100);
    let mut lookup = lookup(&peers[50..51], 1);
    asks(&mut lookup);
    let client = TestContact {
        serves: false,
        ..contact(peers[0])
    };
    lookup.handle(Input::Answered {
        from: TestPeer(peers[50]),
        contacts: vec![contact(ME), client],
    });
    assert_eq!(asks(&mut lookup), []);
    assert!(lookup.is_finished());
}

#[test]
fn the_exact_peer_ends_a_search_for_it() {
    let wanted = 77;
    let me = TestPeer(ME).point();
    let point = TestPeer(wanted).point();
    let seeds = contacts(&[1, 2, 3]);
    let mut lookup = Lookup::new(me, point, Goal::Exact, seeds, 1);
    let first = asks(&mut lookup)[0];
    answer(&mut lookup, first, &[wanted, 5, 6]);
    assert_eq!(asks(&mut lookup), [wanted]);
    assert!(!lookup.is_finished());
    answer(&mut lookup, wanted, &[]);
    assert!(lookup.is_finished());
    assert_eq!(named(&lookup)[0], wanted);
    let found = Found {
        hops: 2,
        answers: 1,
    };
    assert_eq!(lookup.stats().closest, Some(found));
}

#[test]
fn without_anybody_to_ask_it_has_ended() {
    let mut lookup = lookup(&[], 8);
    assert_eq!(asks(&mut lookup), []);
    assert!(lookup.is_finished());
    assert_eq!(lookup.stats(), Stats::default());
}

#[test]
fn peers_that_name_ever_more_peers_are_asked_400_times_at_most() {
    let peers = ranked(40_000);
    // Each names 20 that are closer than all before.
    let mut lookup = lookup(&peers[39_980..], 1);
    let mut next = 39_980;
    while !lookup.is_finished() {
        for peer in asks(&mut lookup) {
            answer(&mut lookup, peer, &peers[next - 20..next]);
            next -= 20;
            assert!(lookup.candidates() <= REQUESTS_MAX + 3 * K);
        }
    }
    assert_eq!(lookup.stats().requests as usize, REQUESTS_MAX);
}

/// What peers do to a lookup.
#[derive(Clone, Debug)]
enum Act {
    Answer(Vec<u32>),
    Slow,
    Fail,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => prop::collection::vec(0..3_000_u32, 0..30).prop_map(Act::Answer),
        1 => Just(Act::Slow),
        1 => Just(Act::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_ends_within_its_bounds_whatever_peers_do(
        seeds in prop::collection::vec(0..3_000_u32, 0..25),
        paths in 1..20_usize,
        acts in prop::collection::vec(act(), 1..50),
    ) {
        let mut lookup = lookup(&seeds, paths);
        let mut in_flight: Vec<u32> = Vec::new();
        let mut turn = 0;
        while !lookup.is_finished() {
            in_flight.extend(asks(&mut lookup));
            prop_assert!(!in_flight.is_empty(), "it waits for nobody");
            prop_assert!(lookup.candidates() <= REQUESTS_MAX + PATHS_MAX * 3 * K);
            let peer = in_flight[turn % in_flight.len()];
            match &acts[turn % acts.len()] {
                Act::Answer(peers) => answer(&mut lookup, peer, peers),
                Act::Fail => lookup.handle(Input::Failed { peer: TestPeer(peer) }),
                Act::Slow => {
                    lookup.handle(Input::Slow { peer: TestPeer(peer) });
                    lookup.handle(Input::Failed { peer: TestPeer(peer) });
                }
            }
            in_flight.retain(|&other| other != peer);
            turn += 1;
        }
        let found = named(&lookup);
        prop_assert!(found.len() <= K);
        let distances: Vec<_> = found.iter().map(|&p| TestPeer(p).point() ^ target()).collect();
        prop_assert!(distances.is_sorted_by(|a, b| a < b));
        let stats = lookup.stats();
        prop_assert!(stats.requests as usize <= REQUESTS_MAX);
        prop_assert!(stats.answers + stats.failures <= stats.requests);
    }
}
