//! Nodes that leave in order: whoever takes their places counts as a replica by the time that they may stop.

use std::time::Duration;

use super::basics::{is_strict, put_on, values};
use super::network::{FAIR, MS, Network, SECOND, Weather, key};
use crate::Peer;
use crate::kv::KvKey;
use crate::store::{Basis, Call, CallId, Config, Level, Outcome, Terms};
use crate::testing::TestPeer;

/// Runs of each test.
const SEEDS: u64 = 30;
/// An answer that comes later was waited for: those that count were not enough when they were asked first.
const AT_ONCE: Duration = Duration::from_millis(500);

fn keys_on(network: &mut Network) -> Vec<KvKey> {
    let keys: Vec<KvKey> = (0..40).map(|n| key(&format!("key {n}"))).collect();
    for key in &keys {
        network.ask(1, put_on(key, "v", Basis::Blind));
    }
    keys
}

fn read(key: &KvKey, level: Level) -> Call<TestPeer> {
    let terms = Terms {
        level,
        strict: true,
        ..Terms::default()
    };
    let key = key.clone();
    Call::Get { key, terms }
}

/// Lets nodes leave, and stops each as soon as it may.
fn leave(network: &mut Network, leavers: &[u32]) {
    let mut calls: Vec<(u32, CallId)> = Vec::new();
    for &leaver in leavers {
        calls.push((leaver, network.call(leaver, Call::Leave)));
    }
    let until = network.time + 60 * SECOND;
    while !calls.is_empty() {
        assert!(network.step(until), "{calls:?} don't end");
        let outcomes = &network.outcomes;
        let done = calls.extract_if(.., |(_, call)| outcomes.contains_key(call));
        let done: Vec<(u32, CallId)> = done.collect();
        for (leaver, call) in done {
            assert_eq!(network.outcomes[&call].1, Outcome::Left);
            network.crash(leaver);
        }
    }
}

/// Reads all keys at all their replicas.
fn read_at_all(network: &mut Network, seed: u64, keys: &[KvKey]) {
    for key in keys {
        let node = network.any_up().unwrap();
        let asked = network.time;
        let outcome = network.ask(node, read(key, Level::All));
        let took = network.time.since(asked);
        let got = matches!(outcome, Outcome::Got { .. }) && is_strict(&outcome);
        assert!(
            got && took < AT_ONCE,
            "seed {seed}, {key}, after {took:?}: {outcome:?}"
        );
        assert_eq!(values(&outcome), ["v"]);
    }
}

#[test]
fn once_a_node_has_left_whoever_took_its_places_counts() {
    for seed in 0..SEEDS {
        let mut network = Network::of(seed, 6);
        let keys = keys_on(&mut network);
        leave(&mut network, &[(seed % 6) as u32]);
        read_at_all(&mut network, seed, &keys);
    }
}

#[test]
fn two_that_leave_at_once_wait_for_those_that_stay() {
    for seed in 0..SEEDS {
        let mut network = Network::of(seed, 7);
        let keys = keys_on(&mut network);
        let first = (seed % 7) as u32;
        leave(&mut network, &[first, (first + 3) % 7]);
        read_at_all(&mut network, seed, &keys);
    }
}

#[test]
fn who_could_not_be_read_while_a_node_left_is_read_until_its_successor_counts() {
    for seed in 0..SEEDS {
        let mut network = Network::of(seed, 6);
        let keys = keys_on(&mut network);
        network.weather = Weather {
            loss: 0.05,
            doubled: 0.05,
            ..FAIR
        };
        leave(&mut network, &[(seed % 6) as u32]);
        network.weather = FAIR;
        // Who could not be read is read again after one second, two, four.
        network.run_for(10 * SECOND);
        read_at_all(&mut network, seed, &keys);
    }
}

#[test]
fn while_one_joins_and_another_leaves_no_read_at_a_quorum_of_replicas_fails() {
    for seed in 0..SEEDS {
        let mut network = Network::of(seed, 10);
        let keys = keys_on(&mut network);
        let mut turn = 0;
        let mut reads = |network: &mut Network, span: Duration| {
            let until = network.time + span;
            while network.time < until {
                turn += 1;
                let node = network.any_up().unwrap();
                let outcome = network.ask(node, read(&keys[turn % keys.len()], Level::Quorum));
                let got = matches!(outcome, Outcome::Got { .. });
                assert!(got && is_strict(&outcome), "seed {seed}: {outcome:?}");
                assert_eq!(values(&outcome), ["v"], "seed {seed}");
                network.run_for(10 * MS);
            }
        };
        network.join(10, Config::default());
        reads(&mut network, 6 * SECOND);
        let leaver = (seed % 10) as u32;
        let call = network.call(leaver, Call::Leave);
        reads(&mut network, 6 * SECOND);
        assert_eq!(network.outcomes[&call].1, Outcome::Left, "seed {seed}");
        network.crash(leaver);
        reads(&mut network, 4 * SECOND);
    }
}

#[test]
fn who_has_left_and_still_runs_is_no_replica_of_before_to_one_that_joins() {
    let mut network = Network::of(13, 6);
    let near = |name: &String| {
        let mut all: Vec<u32> = (0..7).collect();
        all.sort_by_key(|&id| TestPeer(id).point() ^ key(name).point());
        all[0] == 6
    };
    let name = (0..).map(|n| format!("key {n}")).find(near).unwrap();
    let key = key(&name);
    let [replica, leaver] = network.closest(&key)[..2] else {
        panic!("six nodes");
    };
    assert_eq!(network.ask(leaver, Call::Leave), Outcome::Left);
    network.join(6, Config::default());
    // The two others that a quorum may be of are out of sight.
    network.split(&[6, replica, leaver]);
    network.run_for(20 * SECOND);
    assert!(!network.store(6).is_settled(&key, 3));
    network.heal();
    network.run_for(20 * SECOND);
    assert!(network.store(6).is_settled(&key, 3));
}
