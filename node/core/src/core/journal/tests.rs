//! What is written when, and what becomes of it where the disk is slow or full.

use bytes::Bytes;
use weft_identity::{Hash, Keypair};
use weft_overlay::retained::Mark;
use weft_overlay::{Seqs, UnixMicros};

use super::*;
use crate::bundle::Place;
use crate::{TopicBundle, TopicId};

fn log() -> LogKey {
    LogKey {
        topic: TopicId::from_bytes([1; 32]),
        life: 7,
    }
}

fn stream() -> StreamId<PeerId> {
    StreamId {
        publisher: Keypair::from_seed(&[1; 32]).peer_id(),
        epoch: 1,
    }
}

fn hold(message: &Bytes) -> LogOp {
    let place = Place {
        epoch: 1,
        first: 1,
        predecessor: None,
        previous_epoch: None,
        published_at: UnixMicros(5),
    };
    let messages = [message.clone().into()];
    let keypair = Keypair::from_seed(&[1; 32]);
    LogOp::Hold {
        log: log(),
        bundle: TopicBundle::publish(&keypair, log().topic, place, &messages),
        hops: 1,
        received_at: UnixMicros(6),
    }
}

fn trim(place: u64) -> LogOp {
    LogOp::Trim { log: log(), place }
}

fn mark(base: u64) -> LogOp {
    LogOp::Mark {
        log: log(),
        stream: stream(),
        mark: Mark {
            base,
            seen: Seqs::range(1, base),
            head: Hash::from_bytes([0; 32]),
            previous_epoch: None,
            next: None,
        },
    }
}

fn arrive(place: u64) -> LogOp {
    let what = Arrived::Gap {
        stream: stream(),
        from: place,
        to: place,
    };
    let log = log();
    LogOp::Arrive { log, place, what }
}

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1_000)
}

fn places(ops: &[LogOp]) -> Vec<u64> {
    let place = |op: &LogOp| match op {
        LogOp::Trim { place, .. } => *place,
        other => panic!("{other:?}"),
    };
    ops.iter().map(place).collect()
}

#[test]
fn changes_wait_for_others_unless_somebody_waits_for_them() {
    let mut journal = Journal::new();
    journal.push(trim(1));
    journal.close_group(at(0));
    journal.push(trim(2));
    journal.close_group(at(50));
    assert!(journal.next_write(at(99)).is_none());
    assert_eq!(journal.poll_timeout(), at(100));
    let (id, ops) = journal.next_write(at(100)).unwrap();
    assert_eq!(places(&ops), [1, 2]);
    assert_eq!(journal.ended(id, Ok(()), at(101)).unwrap().upto, Ticket(2));

    journal.push(trim(3));
    let ticket = journal.ticket();
    journal.close_group(at(102));
    assert!(!journal.is_written(ticket));
    let (id, ops) = journal.next_write(at(102)).unwrap();
    assert_eq!(places(&ops), [3]);
    journal.push(trim(4));
    let next = journal.ticket();
    journal.close_group(at(102));
    assert!(next > ticket);
    assert!(
        journal.next_write(at(900)).is_none(),
        "one write is under way"
    );
    assert_eq!(journal.ended(id, Ok(()), at(900)).unwrap().upto, ticket);
    assert!(journal.is_written(ticket) && !journal.is_written(next));
    assert!(journal.next_write(at(900)).is_some());
}

#[test]
fn what_is_on_disk_already_needs_no_write() {
    let mut journal = Journal::new();
    let ticket = journal.ticket();
    assert!(journal.is_written(ticket));
    assert_eq!(journal.poll_timeout(), Time::NEVER);
}

#[test]
fn a_write_that_failed_is_told_and_tried_again_in_order() {
    let mut journal = Journal::new();
    journal.push(trim(1));
    journal.close_group(at(0));
    let (id, _) = journal.next_write(at(100)).unwrap();
    journal.push(trim(2));
    let ticket = journal.ticket();
    journal.close_group(at(100));
    let written = journal.ended(id, Err(DiskError::Full), at(110)).unwrap();
    assert_eq!(
        (written.upto, written.result),
        (Ticket(1), Err(DiskError::Full))
    );
    assert_eq!(journal.poll_timeout(), at(1_110), "however urgent it is");
    let (again, ops) = journal.next_write(at(1_110)).unwrap();
    assert_eq!(places(&ops), [1, 2]);
    assert!(
        journal.ended(id, Ok(()), at(1_111)).is_none(),
        "it has ended"
    );
    journal.ended(again, Ok(()), at(1_112)).unwrap();
    assert!(journal.is_written(ticket));
}

#[test]
fn bundles_that_wait_for_too_long_are_let_go_of_and_told() {
    let mut journal = Journal::new();
    let message = Bytes::from(vec![0; 1_000_000]);
    let mut refused = None;
    for place in 0..20 {
        journal.push(hold(&message));
        journal.push(trim(place));
        journal.close_group(at(place));
        refused = journal.make_room().or(refused);
        assert!(journal.bytes <= WAITING_BYTES_MAX);
    }
    assert!(refused < Some(journal.closed) && refused > None);
    let dropped = journal.dropped_since_told(at(20)).unwrap();
    assert!((4_000_000..8_000_000).contains(&dropped), "{dropped}");
    assert_eq!(journal.dropped_since_told(at(20)), None);
    let (mut trims, mut holds) = (0, 0);
    while let Some((id, ops)) = journal.last_write() {
        trims += ops
            .iter()
            .filter(|op| matches!(op, LogOp::Trim { .. }))
            .count();
        holds += ops
            .iter()
            .filter(|op| matches!(op, LogOp::Hold { .. }))
            .count();
        journal.ended(id, Ok(()), at(20)).unwrap();
    }
    assert_eq!(trims, 20, "everything else is written");
    assert_eq!(holds as u64, 20 - dropped / 1_000_000);
    // All are the same bundle of one message: whatever is asked of it can't be promised, until the stream is anew.
    assert!(journal.lacks(log(), stream(), 1));
    assert!(!journal.lacks(log(), stream(), 2));
    note_unheld(&mut journal.unheld, &[LogOp::Close { log: log() }]);
    assert!(!journal.lacks(log(), stream(), 1));
}

#[test]
fn a_disk_that_takes_nothing_fills_no_memory_and_what_is_known_of_streams_stays() {
    let mut journal = Journal::new();
    for place in 0..70_000 {
        journal.push(arrive(place));
        journal.push(mark(place));
        journal.close_group(at(0));
        journal.make_room();
        assert!(journal.bytes <= WAITING_BYTES_MAX);
    }
    let (mut marked, mut covered) = (0, 0);
    while let Some((id, ops)) = journal.last_write() {
        for op in ops {
            match op {
                LogOp::Mark { mark, .. } => marked = mark.base,
                LogOp::Arrive { place, what, .. } => {
                    assert_eq!(place, covered, "no place is left out");
                    covered += what.places();
                }
                other => panic!("{other:?}"),
            }
        }
        journal.ended(id, Ok(()), at(0)).unwrap();
    }
    assert_eq!((marked, covered), (69_999, 70_000));
}
