//! What is refused, with which words, and that nothing is lost by it.

use std::time::Duration;

use bytes::Bytes;

use super::basics::{context, get, is_strict, put, put_on, values};
use super::network::{Network, SECOND, key};
use crate::kv::{Expect, KvKey, Quota};
use crate::store::{Basis, Call, Config, Outcome, Terms, Written};
use crate::testing::{OWNERS, TestPeer};

fn call(key: &KvKey, bytes: usize, ttl: Option<Duration>, copies: u8) -> Call<TestPeer> {
    Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from(vec![1; bytes])),
        ttl,
        basis: Basis::Blind,
        terms: Terms {
            copies,
            ..Terms::default()
        },
    }
}

#[track_caller]
fn refused(outcome: &Outcome<TestPeer>) -> String {
    let Outcome::Refused { why, .. } = outcome else {
        panic!("{outcome:?}");
    };
    why.to_string()
}

#[test]
fn what_no_record_can_say_is_refused_before_anybody_is_asked() {
    let mut network = Network::of(1, 4);
    let key = key("k");
    let bytes = network.bytes;
    let too_large = network.ask(0, call(&key, 65_537, None, 3));
    assert!(refused(&too_large).contains("65537 bytes"));
    let zero = network.ask(0, call(&key, 1, Some(Duration::ZERO), 3));
    assert!(refused(&zero).contains("lasts"));
    let decades = network.ask(
        0,
        call(&key, 1, Some(Duration::from_secs(20 * 365 * 86_400)), 3),
    );
    assert!(refused(&decades).contains("3660 days"));
    for copies in [0, 9] {
        let outcome = network.ask(0, call(&key, 1, None, copies));
        assert!(refused(&outcome).contains("1 to 8"));
    }
    assert_eq!(network.bytes, bytes);
    let outcome = network.ask(0, call(&key, 65_536, None, 3));
    assert!(matches!(outcome, Outcome::Put { .. }));
}

#[test]
fn a_33rd_sibling_is_refused_and_nothing_is_dropped_until_they_are_merged() {
    let mut network = Network::of(2, 5);
    let key = key("k");
    for number in 0..32 {
        let outcome = network.ask(
            number % 5,
            put_on(&key, &format!("{number:02}"), Basis::Blind),
        );
        assert!(matches!(outcome, Outcome::Put { .. }));
    }
    let outcome = network.ask(0, put_on(&key, "one too many", Basis::Blind));
    assert!(refused(&outcome).contains("32 values that nobody has merged"));
    let outcome = network.ask(1, get(&key));
    assert_eq!(values(&outcome).len(), 32);
    network.ask(1, put_on(&key, "merged", Basis::Context(context(&outcome))));
    assert_eq!(values(&network.ask(2, get(&key))), ["merged"]);
}

#[test]
fn a_65th_writer_is_refused_and_nothing_is_dropped() {
    let mut network = Network::of(3, 4);
    let key = key("k");
    for run in 0..64 {
        // Each run that forgot its last dot is one more writer.
        network.crash(0);
        network.nodes.get_mut(&0).unwrap().disk.lose_dots();
        network.start(0);
        network.settle(60 * SECOND);
        let outcome = network.ask(0, put(&key, &format!("{run}")));
        assert!(matches!(outcome, Outcome::Put { .. }), "{outcome:?}");
    }
    network.crash(0);
    network.nodes.get_mut(&0).unwrap().disk.lose_dots();
    network.start(0);
    network.settle(60 * SECOND);
    let outcome = network.ask(0, put(&key, "65th"));
    assert!(refused(&outcome).contains("writers"), "{outcome:?}");
    assert_eq!(values(&network.ask(1, get(&key))), ["63"]);
    let delete = Call::Put {
        key: key.clone(),
        content: Written::Nothing,
        ttl: None,
        basis: Basis::Read,
        terms: Terms::default(),
    };
    assert!(matches!(network.ask(0, delete), Outcome::Put { .. }));
}

#[test]
fn a_node_that_does_not_store_coordinates_and_is_no_replica() {
    let mut network = Network::of(7, 4);
    let config = Config {
        stores: false,
        ..Config::default()
    };
    network.join(4, config);
    network.run_for(5 * SECOND);
    for number in 0..20 {
        let key = key(&format!("k{number}"));
        assert!(is_strict(&network.ask(4, put(&key, "v"))));
        assert_eq!(values(&network.ask(4, get(&key))), ["v"]);
    }
    assert_eq!(network.store(4).records(), 0);
    assert_eq!(network.store(4).settled_round(), None);
}

#[test]
fn a_clock_an_hour_off_is_told_by_how_much() {
    let mut network = Network::of(4, 5);
    let key = key("k");
    network.ask(1, put(&key, "before"));
    for (ahead, word) in [(3_600_000_000, "ahead"), (-3_600_000_000, "behind")] {
        network.nodes.get_mut(&0).unwrap().ahead = ahead;
        // A key of which this node is no replica itself.
        let outcome = network.ask(0, put(&key, "off"));
        let said = refused(&outcome);
        assert!(said.contains(word) && said.contains("60s"), "{said}");
    }
    network.nodes.get_mut(&0).unwrap().ahead = 30_000_000;
    assert!(matches!(
        network.ask(0, put(&key, "near")),
        Outcome::Put { .. }
    ));
    assert_eq!(values(&network.ask(2, get(&key))), ["near"]);
}

#[test]
fn a_writer_has_a_quota_at_each_replica_and_others_are_not_touched_by_it() {
    let config = Config {
        quota: Quota {
            bytes_max: 20_000,
            records_max: 10,
        },
        ..Config::default()
    };
    let mut network = Network::with(5, 3, &config);
    for number in 0..10 {
        let outcome = network.ask(0, call(&key(&format!("k{number}")), 10, None, 3));
        assert!(matches!(outcome, Outcome::Put { .. }));
    }
    let outcome = network.ask(0, call(&key("one more"), 10, None, 3));
    assert!(refused(&outcome).contains("quota"));
    assert!(matches!(
        network.ask(1, call(&key("k"), 10, None, 3)),
        Outcome::Put { .. }
    ));
    let outcome = network.ask(1, call(&key("large"), 20_000, None, 3));
    assert!(refused(&outcome).contains("quota"));
}

#[test]
fn a_foreign_owners_key_is_not_written_and_shared_keys_have_no_version_to_compare() {
    let mut network = Network::of(6, 3);
    let foreign = key(&format!("@{}/status", TestPeer(OWNERS).id()));
    assert_eq!(network.ask(0, put(&foreign, "v")), Outcome::NotOwner);
    let cas = put_on(&key("shared"), "v", Basis::Expect(Expect::Absent));
    assert_eq!(network.ask(0, cas), Outcome::NotOwner);
}
