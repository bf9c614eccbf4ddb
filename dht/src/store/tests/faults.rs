//! What is promised when something fails, with the figures that the design asks for.

use std::time::Duration;

use bytes::Bytes;
use rand::seq::IteratorRandom;

use super::basics::{context, get, is_strict, put, put_on, values};
use super::network::{MS, Network, SECOND, key};
use crate::kv::KvKey;
use crate::store::{Basis, Call, Config, DiskError, Event, Level, Outcome, Terms, Written};
use crate::testing::TestPeer;

/// A value of 1 KiB.
fn large(key: &KvKey) -> Call<TestPeer> {
    Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from(vec![7; 1024])),
        ttl: None,
        basis: Basis::Blind,
        terms: Terms::default(),
    }
}

fn missing(network: &Network, node: u32, keys: &[KvKey]) -> usize {
    let lacks = |key: &&KvKey| network.held(node, key).is_empty();
    keys.iter().filter(lacks).count()
}

#[test]
fn all_nodes_killed_at_once_and_restarted_have_lost_nothing_acknowledged() {
    let mut network = Network::of(3, 10);
    let keys: Vec<KvKey> = (0..200).map(|n| key(&format!("key {n}"))).collect();
    for (turn, key) in (0..).zip(&keys) {
        let outcome = network.ask(turn % 10, put(key, "v"));
        assert!(matches!(outcome, Outcome::Put { .. }), "{outcome:?}");
    }
    for node in 0..10 {
        network.crash(node);
    }
    network.run_for(5 * SECOND);
    for node in 0..10 {
        network.start(node);
    }
    let took = network.settle(60 * SECOND);
    assert!(took < 10 * SECOND, "{took:?}");
    for key in &keys {
        assert_eq!(values(&network.ask(4, get(key))), ["v"]);
    }
    network.run_for(5 * SECOND);
    for key in &keys {
        let outcome = network.ask(4, get(key));
        assert_eq!(values(&outcome), ["v"]);
        assert!(is_strict(&outcome), "all are replicas again");
    }
}

#[test]
fn a_replica_down_for_a_minute_of_writes_has_them_all_within_seconds_for_little_more_than_their_bytes()
 {
    let mut network = Network::of(4, 4);
    let keys: Vec<KvKey> = (0..1_000).map(|n| key(&format!("key {n}"))).collect();
    network.run_for(5 * SECOND);
    network.crash(3);
    network.run_for(5 * SECOND);
    for (turn, key) in (0..).zip(&keys) {
        network.ask(turn % 3, large(key));
        network.run_for(50 * MS);
    }
    let own: Vec<KvKey> = keys
        .iter()
        .filter(|key| {
            let mut all: Vec<u32> = vec![0, 1, 2, 3];
            all.sort_by_key(|&id| crate::Peer::point(&TestPeer(id)) ^ key.point());
            all[..3].contains(&3)
        })
        .cloned()
        .collect();
    assert!(own.len() > 600, "{}", own.len());
    let bytes_before = network.bytes;
    let begun = network.time;
    network.start(3);
    while missing(&network, 3, &own) > 0 {
        network.run_for(20 * MS);
        assert!(network.time.since(begun) < 60 * SECOND);
    }
    let took = network.time.since(begun);
    // What follows, the hand-off of hints and the first comparisons, counts as well.
    network.run_for(55 * SECOND);
    let sent = network.bytes - bytes_before;
    let needed = own.len() as u64 * (1024 + 200);
    println!(
        "{} records in {took:?}, {sent} bytes for {needed}",
        own.len()
    );
    assert!(took < 5 * SECOND, "{took:?}");
    assert!(sent * 10 <= needed * 13, "{sent} bytes for {needed}");
    assert_eq!(
        network.store(0).hints() + network.store(1).hints() + network.store(2).hints(),
        0
    );
}

#[test]
fn three_of_ten_killed_leave_puts_and_gets_working_and_not_found_is_never_a_guess() {
    let mut network = Network::of(5, 10);
    let keys: Vec<KvKey> = (0..300).map(|n| key(&format!("key {n}"))).collect();
    for (turn, key) in (0..).zip(&keys) {
        network.ask(turn % 10, put(key, "v"));
    }
    network.run_for(20 * SECOND);
    let killed = (0..10).sample(&mut network.rng, 3);
    let replicas = |network: &Network, key: &KvKey| network.closest(key)[..3].to_vec();
    let placed: Vec<Vec<u32>> = keys.iter().map(|key| replicas(&network, key)).collect();
    for &node in &killed {
        network.crash(node);
    }
    let begun = network.time;
    let (mut puts, mut gets, mut orphans) = (0, 0, 0);
    let mut fresh = 0;
    while network.time.since(begun) < 60 * SECOND {
        let node = network.any_up().unwrap();
        fresh += 1;
        let new = key(&format!("new {fresh}"));
        let asked = network.time;
        let outcome = network.ask(node, put(&new, "v"));
        assert!(matches!(outcome, Outcome::Put { .. }), "{outcome:?}");
        assert!(network.time.since(asked) < 10 * SECOND);
        puts += 1;
        let at = fresh % keys.len();
        let outcome = network.ask(node, get(&keys[at]));
        if placed[at].iter().all(|replica| killed.contains(replica)) {
            orphans += 1;
            assert!(
                matches!(outcome, Outcome::QuorumNotMet { .. }),
                "{outcome:?}"
            );
        } else {
            assert_eq!(values(&outcome), ["v"]);
            gets += 1;
        }
        network.run_for(20 * MS);
    }
    println!("{puts} puts, {gets} gets, {orphans} keys without a live holder");
    assert!(puts > 200 && gets > 200);
}

#[test]
fn a_key_whose_replicas_are_all_dead_is_not_found_missing() {
    let mut network = Network::of(6, 10);
    let key = key("orphan");
    network.ask(0, put(&key, "v"));
    network.run_for(SECOND);
    let dead: Vec<u32> = network.closest(&key)[..3].to_vec();
    for &node in &dead {
        network.crash(node);
    }
    // Also once others have taken their places for all that they could.
    for _ in 0..4 {
        network.run_for(60 * SECOND);
        let outcome = network.ask(network.up()[0], get(&key));
        assert!(
            matches!(outcome, Outcome::QuorumNotMet { .. }),
            "{outcome:?}"
        );
    }
    network.start(dead[0]);
    network.run_for(20 * SECOND);
    let outcome = network.ask(network.up()[0], get(&key));
    assert_eq!(values(&outcome), ["v"]);
}

#[test]
fn a_join_and_a_drain_under_load_make_no_strict_read_fail_or_go_stale() {
    let mut network = Network::of(7, 10);
    let keys: Vec<KvKey> = (0..60).map(|n| key(&format!("key {n}"))).collect();
    let mut newest = vec![String::new(); keys.len()];
    let mut turn = 0;
    let (mut reads, mut strict) = (0, 0);
    let mut load = |network: &mut Network, span: Duration| {
        let until = network.time + span;
        while network.time < until {
            turn += 1;
            let at = turn * 7 % keys.len();
            let node = network.any_up().unwrap();
            let value = format!("v{turn}");
            let outcome = network.ask(node, put(&keys[at], &value));
            assert!(is_strict(&outcome), "{outcome:?}");
            newest[at] = value;
            let node = network.any_up().unwrap();
            let at = turn * 11 % keys.len();
            let outcome = network.ask(node, get(&keys[at]));
            let expected: Vec<&String> = newest[at..=at].iter().filter(|v| !v.is_empty()).collect();
            assert_eq!(values(&outcome).iter().collect::<Vec<_>>(), expected);
            reads += 1;
            strict += usize::from(is_strict(&outcome));
            network.run_for(5 * MS);
        }
    };
    load(&mut network, 5 * SECOND);
    network.join(10, Config::default());
    load(&mut network, 15 * SECOND);
    assert!(network.store(10).settled_round().is_some());
    let leaver = 4;
    let call = network.call(leaver, Call::Leave);
    load(&mut network, 15 * SECOND);
    assert!(matches!(network.outcomes[&call].1, Outcome::Left));
    network.crash(leaver);
    load(&mut network, 15 * SECOND);
    println!("{reads} reads, of which {strict} by replicas alone");
    assert!(strict > 1_000 && strict * 100 > reads * 99);
    // What the leaver had has three copies again.
    network.run_for(130 * SECOND);
    for key in &keys {
        for node in &network.closest(key)[..3] {
            assert_eq!(network.held(*node, key).len(), 1, "{key} at {node}");
        }
    }
}

#[test]
fn who_dies_for_good_is_replaced_and_its_records_have_all_their_copies_again() {
    let mut network = Network::of(8, 8);
    let keys: Vec<KvKey> = (0..100).map(|n| key(&format!("key {n}"))).collect();
    for key in &keys {
        network.ask(0, put(key, "v"));
    }
    network.run_for(SECOND);
    network.crash(5);
    network.run_for(150 * SECOND);
    for key in &keys {
        for node in &network.closest(key)[..3] {
            assert_eq!(network.held(*node, key).len(), 1, "{key} at {node}");
        }
        assert!(is_strict(&network.ask(1, get(key))));
    }
    // Back after all, it is a replica as before, and those that stood in for it drop what was its.
    network.start(5);
    network.run_for(300 * SECOND);
    let copies: usize = (0..8).map(|node| network.store(node).records()).sum();
    assert_eq!(copies, 300);
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_is_used_again_once_there_is_room() {
    let mut network = Network::of(9, 1);
    let (old, new) = (key("old"), key("new"));
    let terms = Terms {
        copies: 1,
        timeout: 4 * SECOND,
        ..Terms::default()
    };
    let call = |key: &KvKey| Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from_static(b"v")),
        ttl: None,
        basis: Basis::Blind,
        terms,
    };
    let read = |key: &KvKey| Call::Get {
        key: key.clone(),
        terms,
    };
    assert!(is_strict(&network.ask(0, call(&old))));
    for (fails, said) in [
        (DiskError::Full, "a disk is full"),
        (DiskError::Failed, "a replica's disk failed"),
    ] {
        network.nodes.get_mut(&0).unwrap().disk.fails = Some(fails);
        let Outcome::Refused { why, .. } = network.ask(0, call(&new)) else {
            panic!("not refused");
        };
        assert_eq!(why.to_string(), said);
        assert_eq!(values(&network.ask(0, read(&old))), ["v"]);
        assert!(values(&network.ask(0, read(&new))).is_empty());
    }
    network.nodes.get_mut(&0).unwrap().disk.fails = None;
    assert!(is_strict(&network.ask(0, call(&new))));
}

#[test]
fn one_full_disk_among_replicas_is_stood_in_for() {
    let mut network = Network::of(10, 6);
    let key = key("k");
    let full = network.closest(&key)[0];
    network.nodes.get_mut(&full).unwrap().disk.fails = Some(DiskError::Full);
    let outcome = network.ask(1, put(&key, "v"));
    assert!(is_strict(&outcome), "the two others are enough");
    network.nodes.get_mut(&full).unwrap().disk.fails = None;
    network.run_for(90 * SECOND);
    assert_eq!(network.held(full, &key).len(), 1);
    assert_eq!(
        network.total(|c| c.hints_kept),
        network.total(|c| c.hints_handed)
    );
}

#[test]
fn a_damaged_record_is_never_served_and_comes_again_from_the_replicas() {
    let mut network = Network::of(11, 5);
    let key = key("k");
    network.ask(0, put(&key, "v"));
    network.run_for(SECOND);
    let damaged = network.closest(&key)[0];
    network.nodes.get_mut(&damaged).unwrap().disk.rot(&key);
    for node in 0..5 {
        let outcome = network.ask(node, get(&key));
        assert_eq!(values(&outcome), ["v"]);
        assert!(is_strict(&outcome));
    }
    network.run_for(5 * SECOND);
    let events = &network.nodes[&damaged].events;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Lost { .. }))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Recovered { .. }))
    );
    assert_eq!(network.store(damaged).counters().lost, 1);
    assert_eq!(network.held(damaged, &key).len(), 1);
}

#[test]
fn what_all_replicas_found_damaged_is_not_found_missing_once_they_have_restarted() {
    let mut network = Network::of(11, 5);
    let key = key("k");
    network.ask(0, put(&key, "v"));
    network.run_for(SECOND);
    let seen = context(&network.ask(0, get(&key)));
    let replicas = network.closest(&key)[..3].to_vec();
    let can_be_read = |network: &mut Network| {
        let outcome = network.ask(4, get(&key));
        matches!(outcome, Outcome::Got { .. })
    };
    for node in &replicas {
        network.nodes.get_mut(node).unwrap().disk.rot(&key);
    }
    assert!(!can_be_read(&mut network));
    for &node in &replicas {
        network.crash(node);
        network.start(node);
    }
    network.settle(60 * SECOND);
    assert!(!can_be_read(&mut network));
    // Whoever had read it can write what takes its place.
    network.ask(0, put_on(&key, "w", Basis::Context(seen)));
    network.run_for(SECOND);
    assert_eq!(values(&network.ask(4, get(&key))), ["w"]);
    for node in &replicas {
        assert_eq!(
            network.nodes[node].disk.records.len(),
            1,
            "its place is free"
        );
    }
}

#[test]
fn what_was_damaged_and_no_other_replica_has_is_given_up_beside_what_they_have() {
    let mut network = Network::of(12, 3);
    let key = key("k");
    network.ask(0, put(&key, "v"));
    network.crash(1);
    network.crash(2);
    let call = network.call(0, put_on(&key, "w", Basis::Blind));
    network.run_for(20 * SECOND);
    let outcome = &network.outcomes[&call].1;
    assert!(
        matches!(outcome, Outcome::QuorumNotMet { .. }),
        "{outcome:?}"
    );
    let at = (key.clone(), network.signed_for[&call]);
    network.nodes.get_mut(&0).unwrap().disk.rot_one(at);
    for node in 1..3 {
        network.start(node);
    }
    network.settle(60 * SECOND);
    network.run_for(120 * SECOND);
    let all = Terms {
        level: Level::All,
        ..Terms::default()
    };
    let outcome = network.ask(1, Call::Get { key, terms: all });
    assert_eq!(values(&outcome), ["v"]);
    assert_eq!(network.store(0).counters().lost, 1);
    assert_eq!(network.nodes[&0].disk.records.len(), 1, "its place is free");
}

#[test]
fn a_stand_in_hands_its_hints_over_once_the_replica_is_back() {
    let mut network = Network::of(12, 6);
    let key = key("k");
    let closest = network.closest(&key);
    let (down, asked) = (&closest[..2], closest[4]);
    for &node in down {
        network.crash(node);
    }
    network.run_for(4 * SECOND);
    let outcome = network.ask(asked, put_on(&key, "v", Basis::Blind));
    let Outcome::Put { replies, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(replies.sloppy, "{replies:?}");
    let hints = replies.replicas.iter().filter_map(|reply| reply.hint_for);
    assert!(hints.clone().all(|peer| down.contains(&peer.0)) && hints.count() > 0);
    let strict = Terms {
        strict: true,
        timeout: 3 * SECOND,
        ..Terms::default()
    };
    let call = Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from_static(b"w")),
        ttl: None,
        basis: Basis::Blind,
        terms: strict,
    };
    let outcome = network.ask(asked, call);
    let Outcome::QuorumNotMet {
        replies,
        possibly_written,
        ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((replies.got, possibly_written), (1, true));
    for &node in down {
        network.start(node);
    }
    network.run_for(20 * SECOND);
    for &node in down {
        assert_eq!(network.held(node, &key).len(), 2);
    }
    assert_eq!(
        network
            .up()
            .iter()
            .map(|&n| network.store(n).hints())
            .sum::<usize>(),
        0
    );
}
#[test]
fn who_joins_cut_off_with_one_replica_is_no_replica_before_it_has_read_a_quorum() {
    let mut network = Network::of(13, 6);
    let near = |name: &String| {
        let mut all: Vec<u32> = (0..7).collect();
        all.sort_by_key(|&id| crate::Peer::point(&TestPeer(id)) ^ key(name).point());
        all[0] == 6
    };
    let name = (0..).map(|n| format!("key {n}")).find(near).unwrap();
    let key = key(&name);
    let replica = network.closest(&key)[0];
    network.join(6, Config::default());
    network.split(&[6, replica]);
    network.run_for(20 * SECOND);
    assert!(!network.store(6).is_settled(&key, 3));
    let strict = Terms {
        strict: true,
        timeout: 5 * SECOND,
        ..Terms::default()
    };
    let call = Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from_static(b"v")),
        ttl: None,
        basis: Basis::Blind,
        terms: strict,
    };
    let outcome = network.ask(6, call);
    assert!(
        matches!(outcome, Outcome::QuorumNotMet { .. }),
        "{outcome:?}"
    );
    network.heal();
    network.run_for(20 * SECOND);
    assert!(network.store(6).is_settled(&key, 3));
}

#[test]
fn a_node_that_was_forgotten_while_it_was_away_is_filled_as_if_it_were_new() {
    let config = Config {
        replace_after: 4 * SECOND,
        forget_after: 20 * SECOND,
        ..Config::default()
    };
    let mut network = Network::with(9, 6, &config);
    let is_old = |network: &Network, node: u32| {
        let own = network.store(node).members.own();
        own.expect("it is settled").claim().old
    };
    for (away, stays_old) in [(SECOND, true), (60 * SECOND, false)] {
        network.crash(2);
        network.run_for(away);
        network.start(2);
        network.settle(60 * SECOND);
        assert_eq!(is_old(&network, 2), stays_old, "away for {away:?}");
        network.run_for(10 * SECOND);
    }
    // What is told twice is no sign of having been known.
    network.weather.doubled = 0.5;
    network.crash(3);
    network.run_for(60 * SECOND);
    network.start(3);
    network.settle(60 * SECOND);
    assert!(!is_old(&network, 3));
}
