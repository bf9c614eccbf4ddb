//! The order of an owner's writes, over clients that compete, a failing disk and restarts.

use std::time::Duration;

use proptest::prelude::*;
use weft_identity::PeerId;

use super::*;
use crate::kv::{Context, Dot, GRAVE, SKEW_MAX, tombstone_expires_at};

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn key() -> KvKey {
    KvKey::new(&format!("@{}/lock", PeerId::from_bytes([7; 32]))).unwrap()
}

fn seq(counter: u64) -> Seq {
    Seq { epoch: 1, counter }
}

/// A record of the key that takes the place of another.
fn record(counter: u64, replaces: Replaces) -> Header<PeerId> {
    Header {
        key: key(),
        dot: Dot {
            writer: PeerId::from_bytes([7; 32]),
            seq: seq(counter),
        },
        prev: replaces.prev,
        context: Context::new(),
        content: Content::Value { bytes: 1 },
        written_at: NOW,
        expires_at: None,
        copies: 3,
        hash: [0; 32],
    }
}

/// A key with version 1 on disk.
fn written() -> Owned {
    let mut owned = Owned::default();
    let replaces = owned.begin(&key(), Expect::Absent, NOW).unwrap();
    owned.made(&record(1, replaces));
    owned.persisted(&key(), seq(1));
    owned
}

fn conflict(current: Option<u64>) -> Result<Replaces, Unmet> {
    Err(Unmet::Conflict {
        current: current.map(seq),
    })
}

#[test]
fn a_version_is_replaced_only_by_who_knows_it() {
    let mut owned = written();
    assert_eq!(owned.begin(&key(), Expect::Absent, NOW), conflict(Some(1)));
    assert_eq!(
        owned.begin(&key(), Expect::Version(seq(9)), NOW),
        conflict(Some(1))
    );
    let replaces = owned.begin(&key(), Expect::Version(seq(1)), NOW).unwrap();
    assert_eq!((replaces.prev, replaces.ends_at), (Some(seq(1)), None));
}

#[test]
fn nothing_is_there_that_could_be_replaced_before_the_first_write() {
    let mut owned = Owned::default();
    assert_eq!(
        owned.begin(&key(), Expect::Version(seq(1)), NOW),
        conflict(None)
    );
    assert!(owned.is_empty());
    let replaces = owned.begin(&key(), Expect::Absent, NOW).unwrap();
    assert_eq!(
        (replaces.prev, replaces.ends_at),
        (None, Some(UnixMicros(0)))
    );
}

#[test]
fn of_two_that_expect_the_same_one_is_refused() {
    let mut owned = written();
    let replaces = owned.begin(&key(), Expect::Version(seq(1)), NOW).unwrap();
    assert_eq!(
        owned.begin(&key(), Expect::Version(seq(1)), NOW),
        Err(Unmet::Busy)
    );
    owned.made(&record(2, replaces));
    assert_eq!(
        owned.begin(&key(), Expect::Version(seq(1)), NOW),
        conflict(Some(2))
    );
    owned.persisted(&key(), seq(2));
    assert_eq!(
        owned.begin(&key(), Expect::Version(seq(1)), NOW),
        conflict(Some(2))
    );
    assert_eq!(owned.durable(&key()), Some(seq(2)));
}

#[test]
fn a_write_that_the_disk_failed_never_was() {
    let mut owned = written();
    let replaces = owned.begin(&key(), Expect::Anything, NOW).unwrap();
    owned.made(&record(2, replaces));
    owned.failed(&key(), seq(2));
    assert!(owned.begin(&key(), Expect::Version(seq(1)), NOW).is_ok());

    let mut owned = Owned::default();
    let replaces = owned.begin(&key(), Expect::Absent, NOW).unwrap();
    owned.made(&record(1, replaces));
    owned.failed(&key(), seq(1));
    assert!(owned.is_empty());
}

#[test]
fn a_write_that_was_given_up_leaves_the_key_as_it_was() {
    let mut owned = written();
    let _ = owned.begin(&key(), Expect::Anything, NOW).unwrap();
    owned.given_up(&key());
    assert!(owned.begin(&key(), Expect::Version(seq(1)), NOW).is_ok());

    let mut owned = Owned::default();
    let _ = owned.begin(&key(), Expect::Anything, NOW).unwrap();
    owned.given_up(&key());
    assert!(owned.is_empty());
}

#[test]
fn what_was_deleted_or_has_expired_is_absent_and_still_replaced() {
    let mut owned = written();
    let replaces = owned.begin(&key(), Expect::Version(seq(1)), NOW).unwrap();
    let expires_at = tombstone_expires_at(replaces.ends_at, NOW);
    let tombstone = Header {
        content: Content::Tombstone,
        expires_at: Some(expires_at),
        ..record(2, replaces)
    };
    owned.made(&tombstone);
    owned.persisted(&key(), seq(2));
    assert_eq!(
        owned.begin(&key(), Expect::Version(seq(2)), NOW),
        conflict(None)
    );
    let replaces = owned.begin(&key(), Expect::Absent, NOW).unwrap();
    assert_eq!(
        (replaces.prev, replaces.ends_at),
        (Some(seq(2)), Some(NOW + GRAVE))
    );

    let value = Header {
        expires_at: Some(NOW + Duration::from_secs(5)),
        ..record(3, replaces)
    };
    owned.made(&value);
    let later = NOW + Duration::from_secs(6);
    assert_eq!(owned.begin(&key(), Expect::Absent, NOW), conflict(Some(3)));
    assert_eq!(
        owned.begin(&key(), Expect::Absent, later).unwrap().prev,
        Some(seq(3))
    );
}

#[test]
fn what_nobody_can_hold_is_forgotten() {
    let mut owned = Owned::default();
    let replaces = owned.begin(&key(), Expect::Absent, NOW).unwrap();
    let expires_at = NOW + Duration::from_secs(5);
    let value = Header {
        expires_at: Some(expires_at),
        ..record(1, replaces)
    };
    owned.made(&value);
    let ended = UnixMicros((expires_at + SKEW_MAX).0 + 1);
    assert_eq!(owned.forget_ended(ended), []);
    owned.persisted(&key(), seq(1));
    assert_eq!(owned.forget_ended(expires_at + SKEW_MAX), []);
    assert_eq!(
        owned.begin(&key(), Expect::Absent, ended).unwrap().prev,
        None
    );
    owned.given_up(&key());
    assert_eq!(owned.forget_ended(ended), [key()]);
    assert!(owned.is_empty());
}

#[test]
fn writes_under_way_are_bounded() {
    let mut owned = Owned::default();
    for counter in 1..=PENDING_MAX as u64 {
        let replaces = owned.begin(&key(), Expect::Anything, NOW).unwrap();
        owned.made(&record(counter, replaces));
    }
    assert_eq!(owned.begin(&key(), Expect::Anything, NOW), Err(Unmet::Busy));
    owned.persisted(&key(), seq(1));
    assert!(owned.begin(&key(), Expect::Anything, NOW).is_ok());
}

#[test]
fn own_keys_are_bounded() {
    let mut owned = Owned::default();
    let name = |number: usize| KvKey::new(&format!("{}{number}", key().as_str())).unwrap();
    for number in 0..OWN_KEYS_MAX {
        let _ = owned.begin(&name(number), Expect::Absent, NOW).unwrap();
    }
    let one_more = owned.begin(&name(OWN_KEYS_MAX), Expect::Absent, NOW);
    assert_eq!(one_more, Err(Unmet::TooMany));
    owned.given_up(&name(5));
    assert!(
        owned
            .begin(&name(OWN_KEYS_MAX), Expect::Absent, NOW)
            .is_ok()
    );
}

proptest! {
    /// Clients compare and set against whatever versions they have seen, the disk fails some writes, and the daemon
    /// crashes. Of all that were acknowledged each replaced the one acknowledged before it.
    #[test]
    fn acknowledged_writes_form_one_chain(steps in proptest::collection::vec((0..8_u8, 0..4_usize), 0..60)) {
        let mut owned = Owned::default();
        let mut disk: Option<Header<PeerId>> = None;
        let mut under_way: VecDeque<(Header<PeerId>, Option<Seq>)> = VecDeque::new();
        let mut seen: Vec<Option<Seq>> = vec![None];
        let mut counter = 0;
        let mut acknowledged: Option<Seq> = None;
        for (step, which) in steps {
            match step {
                // A client writes what it saw some versions ago.
                0..4 => {
                    let expected = seen[seen.len().saturating_sub(1 + which)];
                    let expect = expected.map_or(Expect::Absent, Expect::Version);
                    if let Ok(replaces) = owned.begin(&key(), expect, NOW) {
                        counter += 1;
                        let record = record(counter, replaces);
                        owned.made(&record);
                        under_way.push_back((record, expected));
                    }
                }
                // The disk writes, and the client is told.
                4..6 => if let Some((record, expected)) = under_way.pop_front() {
                    owned.persisted(&key(), record.dot.seq);
                    prop_assert_eq!(acknowledged, expected);
                    acknowledged = Some(record.dot.seq);
                    seen.push(acknowledged);
                    disk = Some(record);
                },
                // The disk fails one, and with it all that came after: it is full.
                6 => for (record, _) in under_way.drain(..) {
                    owned.failed(&key(), record.dot.seq);
                },
                // The daemon crashes: what was under way is lost.
                _ => {
                    under_way.clear();
                    owned = Owned::default();
                    if let Some(record) = &disk {
                        owned.restore(record);
                    }
                }
            }
            prop_assert_eq!(owned.durable(&key()), acknowledged);
        }
    }
}
