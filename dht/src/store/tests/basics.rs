//! What calls do on a network in which nothing fails.

use std::time::Duration;

use bytes::Bytes;

use super::network::{Network, SECOND, key};
use crate::kv::{Context, KvKey, KvPrefix};
use crate::store::{Basis, Call, Level, Outcome, Terms, Written};
use crate::testing::TestPeer;

pub(super) fn put(key: &KvKey, value: &str) -> Call<TestPeer> {
    put_on(key, value, Basis::Read)
}

pub(super) fn put_on(key: &KvKey, value: &str, basis: Basis<TestPeer>) -> Call<TestPeer> {
    Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::copy_from_slice(value.as_bytes())),
        ttl: None,
        basis,
        terms: Terms::default(),
    }
}

pub(super) fn get(key: &KvKey) -> Call<TestPeer> {
    Call::Get {
        key: key.clone(),
        terms: Terms::default(),
    }
}

/// The values that a get returned, in order.
#[track_caller]
pub(super) fn values(outcome: &Outcome<TestPeer>) -> Vec<String> {
    let Outcome::Got { records, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let mut values: Vec<String> = records
        .iter()
        .filter(|record| matches!(record.header.content, crate::kv::Content::Value { .. }))
        .map(|record| String::from_utf8(record.value.to_vec()).unwrap())
        .collect();
    values.sort();
    values
}

#[track_caller]
pub(super) fn context(outcome: &Outcome<TestPeer>) -> Context<TestPeer> {
    let Outcome::Got { context, .. } = outcome else {
        panic!("{outcome:?}");
    };
    context.clone()
}

/// Whether a call was answered by replicas alone.
#[track_caller]
pub(super) fn is_strict(outcome: &Outcome<TestPeer>) -> bool {
    match outcome {
        Outcome::Got { replies, .. } | Outcome::Put { replies, .. } => {
            assert!(replies.got >= replies.need);
            !replies.sloppy
        }
        _ => panic!("{outcome:?}"),
    }
}

#[test]
fn a_founder_alone_is_settled_and_one_copy_is_a_copy() {
    let mut network = Network::of(1, 1);
    let key = key("alone");
    let terms = Terms {
        copies: 1,
        ..Terms::default()
    };
    let call = Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from_static(b"v")),
        ttl: None,
        basis: Basis::Read,
        terms,
    };
    assert!(is_strict(&network.ask(0, call)));
    let outcome = network.ask(0, Call::Get { key, terms });
    assert_eq!(values(&outcome), ["v"]);
}

#[test]
fn ten_nodes_that_start_at_once_settle_within_seconds() {
    let mut network = Network::new(1);
    for node in 0..10 {
        let config = crate::store::Config {
            founder: node == 0,
            ..Default::default()
        };
        network.join(node, config);
    }
    let took = network.settle(60 * SECOND);
    assert!(took < 10 * SECOND, "{took:?}");
}

#[test]
fn a_replica_that_reads_asks_itself_first() {
    let mut network = Network::of(1, 10);
    let key = key("k");
    network.ask(0, put(&key, "value"));
    network.run_for(SECOND);
    for replica in network.closest(&key)[..3].to_vec() {
        let outcome = network.ask(replica, get(&key));
        let Outcome::Got { replies, .. } = outcome else {
            panic!("{outcome:?}");
        };
        let mut answered = replies.replicas.iter().map(|reply| reply.peer);
        assert_eq!(answered.len(), 2);
        assert!(answered.any(|peer| peer == TestPeer(replica)));
    }
}

#[test]
fn what_is_put_at_one_node_is_got_at_every_other() {
    let mut network = Network::of(1, 10);
    for number in 0..20 {
        let key = key(&format!("key {number}"));
        let outcome = network.ask(number % 10, put(&key, "value"));
        assert!(is_strict(&outcome), "{outcome:?}");
        for node in 0..10 {
            let outcome = network.ask(node, get(&key));
            assert_eq!(values(&outcome), ["value"]);
            assert!(is_strict(&outcome));
        }
    }
    network.run_for(30 * SECOND);
    assert_eq!(network.total(|c| c.hints_kept), 0);
    assert_eq!(network.total(|c| c.read_repairs), 0);
    assert_eq!(network.total(|c| c.sloppy), 0);
    // Each has exactly its three copies.
    let copies: usize = (0..10).map(|node| network.store(node).records()).sum();
    assert_eq!(copies, 60);
}

#[test]
fn a_key_that_was_never_written_has_no_values_by_the_word_of_a_quorum() {
    let mut network = Network::of(1, 10);
    let outcome = network.ask(3, get(&key("never")));
    assert!(values(&outcome).is_empty() && is_strict(&outcome));
}

#[test]
fn a_write_takes_the_place_of_what_it_has_read_and_stands_beside_what_it_has_not() {
    let mut network = Network::of(1, 5);
    let key = key("k");
    network.ask(0, put(&key, "a"));
    network.ask(1, put(&key, "b"));
    let outcome = network.ask(2, get(&key));
    assert_eq!(values(&outcome), ["b"]);
    let seen = context(&outcome);
    network.ask(3, put_on(&key, "c", Basis::Context(seen.clone())));
    network.ask(4, put_on(&key, "d", Basis::Context(seen)));
    network.ask(4, put_on(&key, "e", Basis::Blind));
    let outcome = network.ask(2, get(&key));
    assert_eq!(values(&outcome), ["c", "d", "e"]);
    network.ask(0, put(&key, "merged"));
    assert_eq!(values(&network.ask(2, get(&key))), ["merged"]);
}

#[test]
fn a_deleted_key_has_no_values_and_can_be_written_again() {
    let mut network = Network::of(1, 5);
    let key = key("k");
    network.ask(0, put(&key, "a"));
    let delete = Call::Put {
        key: key.clone(),
        content: Written::Nothing,
        ttl: None,
        basis: Basis::Read,
        terms: Terms::default(),
    };
    assert!(is_strict(&network.ask(1, delete)));
    assert!(values(&network.ask(2, get(&key))).is_empty());
    network.ask(3, put(&key, "b"));
    assert_eq!(values(&network.ask(2, get(&key))), ["b"]);
}

#[test]
fn a_value_that_has_expired_is_gone_for_readers_and_from_disks() {
    let mut network = Network::of(1, 5);
    let key = key("k");
    let call = Call::Put {
        key: key.clone(),
        content: Written::Value(Bytes::from_static(b"a")),
        ttl: Some(Duration::from_secs(30)),
        basis: Basis::Read,
        terms: Terms::default(),
    };
    network.ask(0, call);
    let Outcome::Got { records, .. } = network.ask(2, get(&key)) else {
        panic!("not got");
    };
    assert!(records[0].header.is_shown(network.now(2).unix));
    network.run_for(Duration::from_secs(31));
    let Outcome::Got { records, .. } = network.ask(2, get(&key)) else {
        panic!("not got");
    };
    let now = network.now(2).unix;
    assert!(records.iter().all(|record| !record.header.is_shown(now)));
    network.run_for(Duration::from_secs(200));
    assert_eq!(network.total(|c| c.expired), 3);
    assert!(
        network
            .nodes
            .values()
            .all(|node| node.disk.records.is_empty())
    );
}

#[test]
fn all_levels_ask_for_as_many_as_they_say() {
    let mut network = Network::of(1, 6);
    let key = key("k");
    for (level, need) in [
        (Level::One, 1),
        (Level::Quorum, 3),
        (Level::All, 5),
        (Level::Exactly(4), 4),
        (Level::Exactly(9), 5),
    ] {
        let terms = Terms {
            copies: 5,
            level,
            ..Terms::default()
        };
        let call = Call::Put {
            key: key.clone(),
            content: Written::Value(Bytes::from_static(b"v")),
            ttl: None,
            basis: Basis::Read,
            terms,
        };
        let Outcome::Put { replies, .. } = network.ask(0, call) else {
            panic!("not put");
        };
        assert_eq!(replies.need, need);
        assert!(replies.replicas.iter().filter(|r| r.durable).count() >= need);
    }
}

#[test]
fn keys_of_a_tag_lie_together_and_are_listed_in_pages() {
    let mut network = Network::of(1, 6);
    let mut names: Vec<String> = (0..1_500).map(|n| format!("{{tag}}/{n:04}")).collect();
    for name in &names {
        network.ask(0, put_on(&key(name), "v", Basis::Blind));
    }
    let delete = Call::Put {
        key: key(&names[7]),
        content: Written::Nothing,
        ttl: None,
        basis: Basis::Read,
        terms: Terms::default(),
    };
    network.ask(0, delete);
    names.remove(7);
    let mut listed: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let call = Call::List {
            prefix: KvPrefix::new("{tag}/").unwrap(),
            after: after.take(),
            terms: Terms::default(),
        };
        let Outcome::Listed { keys, more, .. } = network.ask(1, call) else {
            panic!("not listed");
        };
        listed.extend(keys.iter().map(|key| key.as_str().to_owned()));
        if !more {
            break;
        }
        after = keys.last().cloned();
    }
    assert_eq!(listed, names);
}

#[test]
fn locate_says_who_holds_what() {
    let mut network = Network::of(1, 8);
    let key = key("k");
    network.ask(0, put(&key, "v"));
    network.run_for(SECOND);
    let call = Call::Locate {
        key: key.clone(),
        terms: Terms::default(),
    };
    let Outcome::Located { point, holders } = network.ask(5, call) else {
        panic!("not located");
    };
    assert_eq!(point, key.point());
    let closest = network.closest(&key);
    let named: Vec<u32> = holders.iter().map(|holder| holder.peer.0).collect();
    assert_eq!(named, closest[..3]);
    for holder in holders {
        assert!(holder.settled && holder.alive);
        assert_eq!(holder.heads.unwrap().len(), 1);
    }
}
