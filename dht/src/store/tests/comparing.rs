//! What comparison costs, and what hostile or odd messages come to.

use bytes::Bytes;

use super::basics::{get, is_strict, put, put_on, values};
use super::network::{MS, Network, SECOND, STRANGER, key};
use crate::kv::fingerprint::{Item, Range, Summary};
use crate::kv::{Context, Record};
use crate::store::messages::{Answer, ITEMS_MAX, Query, RANGES_MAX, Scope};
use crate::store::{Basis, Call, Claim, Config, Draft, Event, Known, Outcome, Terms, Written};
use crate::testing::{TestContact, TestPeer, contact};

fn made(network: &mut Network, node: u32, name: &str, value: &[u8]) -> Record<TestPeer> {
    let draft = Draft {
        key: key(name),
        content: Written::Value(Bytes::copy_from_slice(value)),
        ttl: None,
        context: Context::new(),
        prev: None,
        covered_ends_at: None,
        copies: 3,
    };
    network.sign_apart(node, draft).unwrap()
}

/// Puts a record on a node's disk, as if it had always been there.
fn plant(network: &mut Network, node: u32, record: &Record<TestPeer>) {
    let at = (record.header.key.clone(), record.header.id());
    let disk = &mut network.nodes.get_mut(&node).unwrap().disk;
    disk.records.insert(at, record.clone());
}

#[test]
fn two_replicas_with_100_000_equal_keys_but_10_find_and_bring_them_in_32_kib() {
    let mut network = Network::of(1, 2);
    network.crash(0);
    network.crash(1);
    for number in 0..100_000 {
        // Two writers: one has a quota of fewer.
        let record = made(&mut network, number % 2, &format!("key {number}"), b"v");
        if number != 77 * 777 && number % 20_000 != 5 {
            plant(&mut network, 0, &record);
        }
        if number % 25_000 != 7 {
            plant(&mut network, 1, &record);
        }
    }
    assert_eq!(network.nodes[&0].disk.records.len(), 99_994);
    assert_eq!(network.nodes[&1].disk.records.len(), 99_996);
    let begun = network.bytes;
    network.start(0);
    network.start(1);
    network.run_for(20 * SECOND);
    let outcome = network.ask(0, Call::Synchronise);
    let Outcome::Synchronised { peers, failed, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((peers, failed), (1, 0));
    for node in 0..2 {
        assert_eq!(network.store(node).records(), 100_000);
    }
    // The two have filled themselves from each other, twice, and compared again.
    let bytes = network.bytes - begun;
    println!("{bytes} bytes");
    assert!(bytes < 32 * 1024, "{bytes}");
}

#[test]
fn replicas_in_step_compare_for_next_to_nothing() {
    let mut network = Network::of(2, 2);
    for number in 0..500 {
        network.ask(0, put_on(&key(&format!("{number}")), "v", Basis::Blind));
    }
    network.run_for(10 * SECOND);
    let before = network.total(|c| c.sync_bytes);
    let syncs = network.total(|c| c.syncs);
    network.run_for(600 * SECOND);
    let syncs = network.total(|c| c.syncs) - syncs;
    assert!((8..=12).contains(&syncs), "{syncs} in ten minutes");
    let each = (network.total(|c| c.sync_bytes) - before) / syncs;
    assert!(each < 300, "{each} bytes each");
}

#[test]
fn siblings_of_the_largest_size_travel_in_pages() {
    let mut network = Network::of(3, 4);
    let key = key("large");
    for number in 0..32_u8 {
        let call = Call::Put {
            key: key.clone(),
            content: Written::Value(Bytes::from(vec![number; 65_536])),
            ttl: None,
            basis: Basis::Blind,
            terms: Terms::default(),
        };
        assert!(matches!(network.ask(0, call), Outcome::Put { .. }));
    }
    let Outcome::Got { records, .. } = network.ask(3, get(&key)) else {
        panic!("not got");
    };
    let mut first: Vec<u8> = records.iter().map(|record| record.value[0]).collect();
    first.sort_unstable();
    assert_eq!(first, (0..32).collect::<Vec<u8>>());
    network.ask(1, put(&key, "merged"));
    assert_eq!(values(&network.ask(3, get(&key))), ["merged"]);
}

#[test]
fn comparisons_beyond_their_bounds_are_refused() {
    let mut network = Network::of(4, 2);
    let scope = Scope {
        among: vec![TestPeer(0), TestPeer(1)],
        behind: 0,
    };
    let ask = |scope: &Scope<TestPeer>, ranges: usize| Query::Compare {
        scope: scope.clone(),
        ranges: vec![(Range::ALL, Summary::default()); ranges],
    };
    assert!(matches!(
        network.query(0, ask(&scope, 1)),
        Answer::Compare { .. }
    ));
    assert_eq!(
        network.query(0, ask(&scope, RANGES_MAX + 1)),
        Answer::Unable
    );
    let far_behind = Scope {
        behind: 2,
        ..scope.clone()
    };
    assert_eq!(network.query(0, ask(&far_behind, 1)), Answer::Unable);
    let crowd = Scope {
        among: (0..67).map(TestPeer).collect(),
        behind: 0,
    };
    assert_eq!(network.query(0, ask(&crowd, 1)), Answer::Unable);
    let items = vec![Item(1); ITEMS_MAX + 1];
    assert_eq!(network.query(0, Query::Fetch { items }), Answer::Unable);
    let events = &network.nodes[&0].events;
    let misbehaved = |event: &&Event<TestPeer>| matches!(event, Event::Misbehaviour { .. });
    assert_eq!(events.iter().filter(misbehaved).count(), 3);
}

#[test]
fn a_claim_that_is_none_or_somebody_elses_changes_nothing() {
    let mut network = Network::of(5, 3);
    let key = key("k");
    network.ask(0, put(&key, "v"));
    let known = |peer| Known {
        peer: TestPeer(peer),
        round: u64::MAX,
        gone: true,
        reached: true,
        before: true,
    };
    let claim = |known: Vec<Known<TestPeer>>| {
        Some(Claim {
            round: u64::MAX,
            old: true,
            known,
        })
    };
    for (from, claim) in [
        (0, claim(vec![known(1)])),
        (STRANGER, claim(vec![known(2), known(1)])),
    ] {
        let query = Query::Claim {
            contact: contact(from),
            claim,
            leaving: false,
        };
        assert_eq!(network.query(1, query), Answer::Unable);
    }
    let outcome = network.ask(2, get(&key));
    assert!(is_strict(&outcome));
    assert_eq!(values(&outcome), ["v"]);
}

#[test]
fn what_is_asked_of_a_busy_node_is_refused_and_not_forgotten() {
    let mut network = Network::of(6, 3);
    let key = key("k");
    let calls: Vec<_> = (0..300).map(|_| network.call(0, get(&key))).collect();
    network.run_for(5 * SECOND);
    let busy = calls.iter().filter(|call| {
        let (_, outcome) = &network.outcomes[call];
        assert!(matches!(outcome, Outcome::Busy | Outcome::Got { .. }));
        *outcome == Outcome::Busy
    });
    assert_eq!(busy.count(), 300 - 256);
    assert_eq!(network.store(0).counters().calls_refused, 44);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut network = Network::with(7, 6, &Config::default());
        for number in 0..50 {
            network.ask(number % 6, put(&key(&format!("{}", number % 7)), "v"));
        }
        network.crash(2);
        network.run_for(30 * SECOND);
        network.start(2);
        network.run_for(100 * SECOND);
        (network.bytes, network.time, network.total(|c| c.sync_bytes))
    };
    assert_eq!(run(), run());
}

/// Asks a node as a stranger does so often a second, and returns how often it did what it was asked for.
fn served(
    network: &mut Network,
    (queries, every): (u32, std::time::Duration),
    query: impl Fn(u32) -> Query<TestContact>,
) -> u32 {
    let mut served = 0;
    for number in 0..queries {
        served += u32::from(network.query(0, query(number)) != Answer::Unable);
        network.run_for(every);
    }
    served
}

#[test]
fn whoever_compares_claims_and_fetches_without_end_is_held_back_and_nobody_else_is() {
    let mut network = Network::of(8, 4);
    network.crash(0);
    for number in 0..20_000 {
        let record = made(&mut network, 1, &format!("key {number}"), b"v");
        plant(&mut network, 0, &record);
    }
    network.start(0);
    network.settle(60 * SECOND);
    let begun = network.store(0).counters();
    let scope = Scope {
        among: vec![TestPeer(0), TestPeer(STRANGER)],
        behind: 0,
    };
    // Each looks through 20,000 records: 1.2 MiB of 64 at once, and of 16 a second.
    let compared = served(&mut network, (400, 10 * MS), |_| Query::Compare {
        scope: scope.clone(),
        ranges: vec![(Range::ALL, Summary::default())],
    });
    assert!((90..120).contains(&compared), "{compared} in 4 s");
    network.run_for(10 * SECOND);
    let fetched = served(&mut network, (800, MS), |number| Query::Fetch {
        items: vec![Item(number.into()); ITEMS_MAX],
    });
    assert!((250..350).contains(&fetched), "{fetched} in 0.8 s");
    network.run_for(10 * SECOND);
    let claimed = served(&mut network, (1_000, 10 * MS), |number| Query::Claim {
        contact: contact(STRANGER),
        claim: Some(Claim {
            round: u64::from(number) + 1,
            old: false,
            known: Vec::new(),
        }),
        leaving: false,
    });
    assert!((50..60).contains(&claimed), "{claimed} in 10 s");
    let now = network.store(0).counters();
    let asked = u64::from(400 - compared + 800 - fetched + 1_000 - claimed);
    assert_eq!(now.held_back - begun.held_back, asked);
    // The others compare, write and read as ever.
    network.ask(1, put(&key("k"), "v"));
    let outcome = network.ask(1, Call::Synchronise);
    assert!(
        matches!(outcome, Outcome::Synchronised { failed: 0, .. }),
        "{outcome:?}"
    );
    assert_eq!(values(&network.ask(2, get(&key("k")))), ["v"]);
}
