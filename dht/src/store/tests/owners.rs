//! Owners' keys: one orders their writes, and nobody else can.

use bytes::Bytes;

use super::basics::{put, put_on, values};
use super::network::{Network, SECOND, key};
use crate::kv::{Context, Expect, Invalid, KvKey, Record, Seq, Untimely};
use crate::store::messages::{Answer, Delivery, Query, Refusal};
use crate::store::{Basis, Call, DiskError, Draft, Outcome, Terms, Written};
use crate::testing::{OWNERS, TestContact, TestPeer};

const OWNER: u32 = OWNERS + 1;

fn own_key() -> KvKey {
    key(&format!("@{}/lock", TestPeer(OWNER).id()))
}

fn cas(value: &str, expect: Expect) -> Call<TestPeer> {
    put_on(&own_key(), value, Basis::Expect(expect))
}

fn read() -> Call<TestPeer> {
    super::basics::get(&own_key())
}

#[track_caller]
fn version(outcome: &Outcome<TestPeer>) -> Seq {
    let Outcome::Put { header, .. } = outcome else {
        panic!("{outcome:?}");
    };
    header.dot.seq
}

fn conflict(version: Option<Seq>) -> Outcome<TestPeer> {
    Outcome::Conflict { version }
}

/// A record that the owner signs outside of its store.
fn made(network: &mut Network, value: &str) -> Record<TestPeer> {
    let draft = Draft {
        key: own_key(),
        content: Written::Value(Bytes::copy_from_slice(value.as_bytes())),
        ttl: None,
        context: Context::new(),
        prev: None,
        covered_ends_at: None,
        copies: 3,
    };
    network.sign_apart(OWNER, draft).unwrap()
}

fn write(record: &Record<TestPeer>) -> Query<TestContact> {
    Query::Put {
        record: record.clone(),
        delivery: Delivery::Write,
    }
}

#[track_caller]
fn kept(answer: &Answer<TestContact>) -> Result<(), Refusal> {
    let Answer::Put { kept, .. } = answer else {
        panic!("{answer:?}");
    };
    *kept
}

#[test]
fn the_owner_compares_and_sets_and_nobody_else_does() {
    let mut network = Network::of_owners(1, 5);
    let first = version(&network.ask(OWNER, cas("a", Expect::Absent)));
    assert_eq!(
        network.ask(OWNER, cas("b", Expect::Absent)),
        conflict(Some(first))
    );
    let second = version(&network.ask(OWNER, cas("b", Expect::Version(first))));
    assert!(second > first);
    assert_eq!(
        network.ask(OWNER, cas("c", Expect::Version(first))),
        conflict(Some(second))
    );
    assert_eq!(
        network.ask(OWNERS, cas("d", Expect::Anything)),
        Outcome::NotOwner
    );
    assert_eq!(network.ask(OWNERS, put(&own_key(), "d")), Outcome::NotOwner);
    assert_eq!(values(&network.ask(OWNERS + 2, read())), ["b"]);
    let delete = Call::Put {
        key: own_key(),
        content: Written::Nothing,
        ttl: None,
        basis: Basis::Expect(Expect::Version(second)),
        terms: Terms::default(),
    };
    version(&network.ask(OWNER, delete));
    assert!(values(&network.ask(OWNERS + 3, read())).is_empty());
    version(&network.ask(OWNER, cas("again", Expect::Absent)));
    assert_eq!(values(&network.ask(OWNERS, read())), ["again"]);
}

#[test]
fn of_clients_that_compete_for_a_lock_one_gets_it() {
    let mut network = Network::of_owners(2, 5);
    let calls: Vec<_> = (0..10)
        .map(|client| network.call(OWNER, cas(&format!("{client}"), Expect::Absent)))
        .collect();
    network.run_for(5 * SECOND);
    let won = calls.iter().filter(|call| {
        let (_, outcome) = &network.outcomes[call];
        assert!(matches!(
            outcome,
            Outcome::Put { .. } | Outcome::Conflict { .. } | Outcome::Busy
        ));
        matches!(outcome, Outcome::Put { .. })
    });
    assert_eq!(won.count(), 1);
}

#[test]
fn what_the_owner_decided_without_a_quorum_reaches_its_replicas_once_there_are_some() {
    let mut network = Network::of_owners(6, 8);
    // The owner is none of its replicas, so that it is not theirs to fetch.
    let paths = (0..).map(|path| key(&format!("@{}/{path}", TestPeer(OWNER).id())));
    let far = |of: &KvKey| !network.closest(of)[..4].contains(&OWNER);
    let own = paths.clone().find(far).unwrap();
    let set = |value: &str| {
        let mut call = put_on(&own, value, Basis::Expect(Expect::Anything));
        let Call::Put { terms, .. } = &mut call else {
            unreachable!("it is a put");
        };
        terms.strict = true;
        call
    };
    version(&network.ask(OWNER, set("before")));
    network.split(&[OWNER]);
    let outcome = network.ask(OWNER, set("alone"));
    let Outcome::QuorumNotMet {
        possibly_written: true,
        ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    network.crash(OWNER);
    network.start(OWNER);
    network.run_for(60 * SECOND);
    network.heal();
    network.run_for(10 * SECOND);
    let read = super::basics::get(&own);
    assert_eq!(values(&network.ask(OWNERS, read)), ["alone"]);
}

#[test]
fn what_the_owner_decided_outlives_its_crash_and_even_its_disk() {
    let mut network = Network::of_owners(3, 5);
    let first = version(&network.ask(OWNER, cas("a", Expect::Absent)));
    network.crash(OWNER);
    network.start(OWNER);
    network.settle(30 * SECOND);
    assert_eq!(
        network.ask(OWNER, cas("b", Expect::Absent)),
        conflict(Some(first))
    );
    network.crash(OWNER);
    network.nodes.get_mut(&OWNER).unwrap().disk = super::network::Disk::default();
    network.start(OWNER);
    network.settle(30 * SECOND);
    assert_eq!(
        network.ask(OWNER, cas("b", Expect::Absent)),
        conflict(Some(first))
    );
    let second = version(&network.ask(OWNER, cas("b", Expect::Version(first))));
    assert!(second > first);
}

#[test]
fn an_owners_record_is_sent_only_once_it_is_on_the_owners_disk() {
    let mut network = Network::of_owners(4, 5);
    network.ask(OWNER, cas("a", Expect::Absent));
    network.nodes.get_mut(&OWNER).unwrap().disk.fails = Some(DiskError::Full);
    let outcome = network.ask(OWNER, cas("b", Expect::Anything));
    let why = Refusal::DiskFull;
    let possibly_written = false;
    assert_eq!(
        outcome,
        Outcome::Refused {
            why,
            possibly_written
        }
    );
    assert_eq!(values(&network.ask(OWNERS, read())), ["a"]);
    network.nodes.get_mut(&OWNER).unwrap().disk.fails = None;
    version(&network.ask(OWNER, cas("c", Expect::Anything)));
    assert_eq!(values(&network.ask(OWNERS, read())), ["c"]);
}

#[test]
fn an_equivocating_owner_is_kept_and_shown() {
    let mut network = Network::of_owners(5, 4);
    let one = made(&mut network, "one");
    let mut other = one.clone();
    other.value = Bytes::from_static(b"two");
    other.header.hash = [9; 32];
    for node in 0..4 {
        assert_eq!(kept(&network.query(OWNERS + node, write(&one))), Ok(()));
        assert_eq!(kept(&network.query(OWNERS + node, write(&other))), Ok(()));
    }
    assert_eq!(values(&network.ask(OWNERS, read())), ["one", "two"]);
}

#[test]
fn stale_far_future_and_foreign_records_of_an_owners_key_change_nothing() {
    let mut network = Network::of_owners(6, 4);
    let stale = made(&mut network, "stale");
    version(&network.ask(OWNER, cas("new", Expect::Anything)));
    for node in 0..4 {
        // What covers it is on disk, which is all that its writer may want.
        assert_eq!(kept(&network.query(OWNERS + node, write(&stale))), Ok(()));
    }
    let mut future = stale.clone();
    future.header.dot.seq.epoch = u64::MAX;
    future.header.hash = [1; 32];
    let mut foreign = stale.clone();
    foreign.header.dot.writer = TestPeer(OWNERS);
    foreign.header.hash = [2; 32];
    for node in 0..4 {
        let refused = kept(&network.query(OWNERS + node, write(&future)));
        assert!(matches!(
            refused,
            Err(Refusal::Untimely(Untimely::Ahead { .. }))
        ));
        let refused = kept(&network.query(OWNERS + node, write(&foreign)));
        assert_eq!(refused, Err(Refusal::Invalid(Invalid::WrongOwner)));
    }
    assert_eq!(values(&network.ask(OWNERS + 2, read())), ["new"]);
}
