//! What is written is read back as a disk in memory would have it, and damage costs what it must.

use std::path::Path;
use std::sync::mpsc::channel;

use weft_core::bundle::Place;
use weft_core::log::{FIRST_PLACE, Kept, RestoredTopic};
use weft_core::{TopicId, TopicName};
use weft_identity::{Hash, Keypair};
use weft_overlay::{Bundle, PreviousEpoch, Seqs};

use super::*;
use crate::store::{Options, Report, Store};

fn name(text: &str) -> TopicName {
    text.parse().unwrap()
}

fn log(topic: &str, life: u64) -> LogKey {
    LogKey {
        topic: name(topic).id("net"),
        life,
    }
}

fn bundle(topic: TopicId, first: u64) -> TopicBundle {
    let place = Place {
        epoch: 5,
        first,
        predecessor: (first > 1).then(|| Hash::of(b"before")),
        previous_epoch: None,
        published_at: UnixMicros(1_700_000_000_000_000),
    };
    let payload = Bytes::from(vec![first as u8; 300]);
    let messages = [payload.into(), "and another".into()];
    TopicBundle::publish(&Keypair::from_seed(&[1; 32]), topic, place, &messages)
}

fn hold(log: LogKey, first: u64) -> LogOp {
    LogOp::Hold {
        log,
        bundle: bundle(log.topic, first),
        hops: 3,
        received_at: UnixMicros(1_700_000_000_000_000 + first),
    }
}

fn stream() -> StreamId<PeerId> {
    stream_of(&bundle(TopicId::from_bytes([0; 32]), 1))
}

fn arrive(log: LogKey, place: u64, first: u64) -> LogOp {
    let what = Arrived::Bundle {
        stream: stream(),
        first,
        from: first,
        last: first + 1,
    };
    LogOp::Arrive { log, place, what }
}

fn mark(log: LogKey, base: u64) -> LogOp {
    let seen = [1..=base, base + 3..=base + 9].into_iter().collect();
    LogOp::Mark {
        log,
        stream: stream(),
        mark: Mark {
            base,
            seen,
            head: Hash::of(b"head"),
            previous_epoch: Some(PreviousEpoch {
                epoch: 4,
                last: None,
            }),
            next: Some(base + 1),
        },
    }
}

/// A whole log of two bundles and a gap, of which something was let go of.
fn written(log: LogKey, topic: &str) -> Vec<LogOp> {
    let open = LogOp::Open {
        log,
        name: name(topic),
        is_whole: true,
    };
    let gap = Arrived::Gap {
        stream: stream(),
        from: 7,
        to: 9,
    };
    vec![
        open,
        hold(log, 1),
        hold(log, 3),
        hold(log, 5),
        arrive(log, FIRST_PLACE, 1),
        arrive(log, FIRST_PLACE + 2, 3),
        arrive(log, FIRST_PLACE + 4, 5),
        LogOp::Arrive {
            log,
            place: FIRST_PLACE + 6,
            what: gap,
        },
        mark(log, 1),
        mark(log, 2),
        LogOp::Drop {
            log,
            stream: stream(),
            first: 1,
        },
        LogOp::Trim {
            log,
            place: FIRST_PLACE,
        },
    ]
}

fn open(dir: &Path) -> (Store, Report) {
    Store::open(dir, Options::default(), |_| {}).unwrap()
}

fn persist(store: &Store, ops: Vec<LogOp>) {
    let (told, outcome) = channel();
    store.persist(changes(ops), move |outcome| told.send(outcome).unwrap());
    outcome.recv().unwrap().unwrap();
}

/// Opens a store, and returns what its logs are now and how many keys are left once what goes has gone.
fn reopen(dir: &Path) -> (Vec<RestoredTopic>, usize) {
    let (store, report) = open(dir);
    let topics = restore(&store, &report, "net").unwrap();
    // What was let go of is written before this is answered.
    persist(&store, Vec::new());
    let keys = store.stats().keys;
    store.close();
    (topics, keys)
}

fn assert_same(one: &[RestoredTopic], other: &[RestoredTopic]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        let held = |topic: &RestoredTopic| -> Vec<_> {
            let held = topic.held.iter();
            held.map(|held| {
                (
                    held.bundle.header(),
                    held.bundle.0.signature,
                    held.hops,
                    held.received_at,
                )
            })
            .collect()
        };
        assert_eq!(
            (&one.name, one.life, one.is_whole),
            (&other.name, other.life, other.is_whole)
        );
        assert_eq!(held(one), held(other));
        assert_eq!(one.arrivals, other.arrivals);
        assert_eq!(one.marks, other.marks);
    }
}

#[test]
fn a_start_finds_the_logs_that_were_kept_as_a_disk_in_memory_would() {
    let dir = tempfile::tempdir().unwrap();
    let ops = [written(log("a", 7), "a"), written(log("b", 8), "b")].concat();
    let (store, _) = open(dir.path());
    persist(&store, ops.clone());
    store.close();
    let mut memory = Kept::default();
    memory.write(ops);
    let (mut topics, _) = reopen(dir.path());
    for topic in &mut topics {
        topic.held.sort_by_key(|held| held.received_at);
    }
    let mut wanted = memory.restore();
    wanted.sort_by_key(|topic| topic.name.id("net"));
    assert_same(&topics, &wanted);
    let (all, topic) = (&topics[0].arrivals, &topics[0]);
    assert_eq!((all.len(), topic.held.len(), topic.marks.len()), (3, 2, 1));
    assert_eq!(
        topic.marks[0].1.seen,
        [1..=2, 5..=11].into_iter().collect::<Seqs>()
    );
}

#[test]
fn what_is_left_of_a_log_that_was_closed_or_begun_anew_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    persist(&store, written(log("a", 7), "a"));
    persist(&store, vec![LogOp::Close { log: log("a", 7) }]);
    persist(&store, written(log("b", 7), "b"));
    persist(&store, written(log("b", 9), "b"));
    store.close();
    let (topics, keys) = reopen(dir.path());
    assert_eq!(topics.len(), 1);
    assert_eq!((topics[0].name.as_str(), topics[0].life), ("b", 9));
    // The log itself, two bundles, three arrivals, a mark.
    assert_eq!(keys, 7);
}

#[test]
fn a_damaged_bundle_costs_its_own_places_and_a_damaged_mark_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    persist(&store, written(log("a", 7), "a"));
    persist(&store, written(log("b", 8), "b"));
    store.close();
    let path = dir.path().join("00000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).rposition(|it| it == what);
    // The newest mark in the file is one of b, and the first body of seq 3 is of a.
    let of_mark = at(&bytes, Hash::of(b"head").as_bytes()).unwrap();
    bytes[of_mark] ^= 1;
    let of_body = bytes.windows(300).position(|window| window == [3; 300]);
    bytes[of_body.unwrap() + 40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (topics, keys) = reopen(dir.path());
    assert_eq!(topics.len(), 1);
    assert_eq!((topics[0].name.as_str(), topics[0].held.len()), ("a", 1));
    assert_eq!(topics[0].arrivals.len(), 3, "their places are still known");
    assert_eq!(keys, 6);
}
