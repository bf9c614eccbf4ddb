//! Networks under loss, crashes and splits, checked against what is true.

use std::collections::BTreeSet;
use std::time::Duration;

use super::network::{Conduct, Network, peers};
use super::*;
use crate::table::Standing;
use crate::{Contact, Key, Peer};

/// Asserts that a lookup by each of some nodes finds exactly the closest peers.
fn assert_exact(network: &mut Network, lookups: u32, what: &str) {
    let honest = network.honest();
    for _ in 0..lookups {
        let by = honest[network.draw(honest.len() as u32) as usize];
        let key = network.random_key();
        let Outcome::Closest { contacts } = network.ask(by, Call::Closest(key.clone())).outcome
        else {
            panic!("another outcome");
        };
        let others = honest.iter().copied().filter(|&other| other != by);
        let truth = network.closest_of(others, key.point(), 20);
        assert_eq!(peers(&contacts), truth, "{what}: {key:?} from {by}");
    }
    network.check();
}

#[test]
fn lookups_of_a_network_that_has_just_joined_are_exact() {
    for seed in 0..4 {
        let mut network = Network::grown(seed, 120, Config::default());
        assert_exact(&mut network, 20, &format!("seed {seed}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut network = Network::grown(9, 60, Config::default());
        let key = network.random_key();
        let reply = network.ask(17, Call::Closest(key));
        (network.sent, peers_of(&reply.outcome), reply.took)
    };
    assert_eq!(run(), run());
}

fn peers_of(outcome: &Outcome<TestContact>) -> Vec<u32> {
    match outcome {
        Outcome::Closest { contacts } => peers(contacts),
        Outcome::Providers { providers, .. } => peers(providers),
        Outcome::Peer { contact } => contact.iter().map(|it| it.peer).collect(),
        Outcome::Provided { told } => told.iter().map(|peer| peer.0).collect(),
        Outcome::Busy => Vec::new(),
    }
}

#[test]
fn a_tenth_of_messages_lost_costs_time_and_not_the_closest() {
    for seed in 0..3 {
        let mut network = Network::new(seed, Config::default());
        network.loss = 0.1;
        network.grow(100, Duration::from_millis(50));
        network.run(Duration::from_secs(60));
        let honest = network.honest();
        let mut found = 0;
        for _ in 0..50 {
            let by = honest[network.draw(100) as usize];
            let key = network.random_key();
            let reply = network.ask(by, Call::Closest(key.clone()));
            let others = honest.iter().copied().filter(|&other| other != by);
            let truth = network.closest_of(others, key.point(), 3);
            let got = peers_of(&reply.outcome);
            found += u32::from(truth.iter().any(|peer| got.contains(peer)));
            assert!(reply.took < Duration::from_secs(10), "{:?}", reply.took);
        }
        network.check();
        // One in five requests fails: now and then all three do.
        assert!(found >= 48, "seed {seed}: {found} of 50");
    }
}

#[test]
fn half_crash_and_the_others_forget_them_and_find_each_other() {
    for seed in 0..2 {
        let mut network = Network::grown(seed, 70, Config::default());
        for node in (0..70).filter(|node| node % 2 == 1) {
            network.crash(node);
        }
        network.run(Duration::from_secs(25 * 60));
        assert_exact(&mut network, 20, &format!("seed {seed}"));
        for node in network.honest() {
            let table = network.dht(node).table();
            let dead = table
                .entries()
                .filter(|entry| entry.standing() == Standing::Live && entry.peer().0 % 2 == 1);
            assert!(dead.count() <= 2, "seed {seed}: node {node}");
        }
    }
}

#[test]
fn a_node_that_was_cut_off_from_everybody_finds_back() {
    let mut network = Network::grown(5, 60, Config::default());
    for node in 1..60 {
        network.turn_into(node, Conduct::Silent);
    }
    network.run(Duration::from_secs(30 * 60));
    assert!(network.dht(0).wants_contacts());
    assert!(network.dht(0).table().len() > 20, "it forgets nobody");
    for node in 1..60 {
        network.turn_into(node, Conduct::Honest);
    }
    network.run(Duration::from_secs(3 * 60));
    assert!(!network.dht(0).wants_contacts());
    network.run(Duration::from_secs(13 * 60));
    assert_exact(&mut network, 20, "after the cut");
}

#[test]
fn two_networks_merge_once_one_node_learns_of_the_other() {
    let mut network = Network::new(6, Config::default());
    for peer in 0..80 {
        network.add(contact(peer));
    }
    for peer in 0..80 {
        network.join(peer, &[if peer < 40 { 0 } else { 40 }]);
    }
    network.run(Duration::from_secs(60));
    network.join(7, &[55]);
    network.run(Duration::from_secs(30 * 60));
    assert_exact(&mut network, 20, "merged");
}

#[test]
fn clients_find_and_are_found_by_nobody() {
    let mut network = Network::grown(7, 60, Config::default());
    let clients: Vec<u32> = (60..65).collect();
    for &peer in &clients {
        let client = TestContact {
            serves: false,
            ..contact(peer)
        };
        network.add(client);
        network.join(peer, &[0, 1, 2]);
    }
    network.run(Duration::from_secs(60));
    let key = network.random_key();
    let found = network.ask(62, Call::Closest(key.clone()));
    let truth = network.closest_of(0..60, key.point(), 20);
    assert_eq!(peers_of(&found.outcome), truth);
    let sought = network.ask(3, Call::FindPeer(TestPeer(62)));
    assert_eq!(peers_of(&sought.outcome), []);
    // No table holds a client, which `check` asserts.
    network.check();
}

#[test]
fn a_peer_is_found_by_its_id_wherever_it_is() {
    let mut network = Network::grown(8, 200, Config::default());
    for _ in 0..30 {
        let (by, sought) = (network.draw(200), network.draw(200));
        let reply = network.ask(by, Call::FindPeer(TestPeer(sought)));
        assert_eq!(peers_of(&reply.outcome), [sought]);
        assert!(reply.stats.requests <= 20, "{:?}", reply.stats);
    }
}

#[test]
fn providers_are_found_from_everywhere_while_they_provide() {
    let hour = Duration::from_secs(60 * 60);
    let config = Config {
        refresh_interval: 6 * hour,
        ..Config::default()
    };
    let mut network = Network::grown(9, 50, config);
    let key = Key::new(b"what they have").unwrap();
    for provider in [11, 22, 33] {
        let reply = network.ask(provider, Call::Provide(key.clone()));
        let others = (0..50).filter(|&other| other != provider);
        let truth = network.closest_of(others, key.point(), 20);
        assert_eq!(peers_of(&reply.outcome), truth);
    }
    let sought = |network: &mut Network, by: u32| -> BTreeSet<u32> {
        let reply = network.ask(by, Call::Providers(key.clone()));
        peers_of(&reply.outcome).into_iter().collect()
    };
    network.run(Duration::from_secs(1));
    for by in 0..10 {
        assert_eq!(sought(&mut network, by), BTreeSet::from([11, 22, 33]));
    }
    // One goes without a word, one says that it stops: their records expire, that of the third is announced again.
    network.crash(11);
    let stop = Input::StopProviding { key: key.clone() };
    network.input(22, stop);
    network.run(47 * hour);
    let after = sought(&mut network, 5);
    assert!(after.contains(&33), "{after:?}");
    network.run(3 * hour);
    assert_eq!(sought(&mut network, 5), BTreeSet::from([33]));
}

#[test]
fn a_sample_for_the_overlay_is_spread_over_the_network() {
    let mut network = Network::grown(10, 300, Config::default());
    let now = network.moment();
    let mut far = 0;
    let me = TestPeer(0).point();
    for _ in 0..50 {
        let sample = network.dht(0).sample_contacts(10, now);
        let distinct: BTreeSet<u32> = sample.iter().map(|it| it.peer).collect();
        assert_eq!((sample.len(), distinct.len()), (10, 10));
        let apart = |it: &&TestContact| it.peer().point().shared_prefix(me) == 0;
        far += sample.iter().filter(apart).count();
    }
    // Half of the network lies in the first bucket, which is a sixth of the table.
    assert!((150..=300).contains(&far), "{far} of 500");
    let mut alone = node();
    assert!(alone.sample_contacts(10, now).is_empty());
}
