//! Which records remain, one rule at a time.

use weft_identity::PeerId;

use super::*;
use crate::kv::{Dot, GRAVE, Interval, KvKey};
use crate::testing::TestPeer;

mod histories;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

/// A header of a shared key for ever.
fn write(writer: u32, counter: u64, context: Context<TestPeer>) -> Header<TestPeer> {
    let seq = Seq { epoch: 1, counter };
    Header {
        key: KvKey::new("colour").unwrap(),
        dot: Dot {
            writer: TestPeer(writer),
            seq,
        },
        prev: None,
        context,
        content: Content::Value { bytes: 1 },
        written_at: NOW,
        expires_at: None,
        copies: 3,
        hash: [0; 32],
    }
}

fn blind(writer: u32, counter: u64) -> Header<TestPeer> {
    write(writer, counter, Context::new())
}

/// A header of the owner's key.
fn owned(counter: u64, hash: u8) -> Header<PeerId> {
    let owner = PeerId::from_bytes([7; 32]);
    Header {
        key: KvKey::new(&format!("@{owner}/colour")).unwrap(),
        dot: Dot {
            writer: owner,
            seq: Seq { epoch: 1, counter },
        },
        prev: None,
        context: Context::new(),
        content: Content::Value { bytes: 1 },
        written_at: NOW,
        expires_at: None,
        copies: 3,
        hash: [hash; 32],
    }
}

fn of<R: Versioned>(records: impl IntoIterator<Item = R>) -> Siblings<R> {
    let mut siblings = Siblings::new();
    for record in records {
        let _ = siblings.merge(record, NOW).unwrap();
    }
    siblings
}

fn new<R>(dropped: Vec<R>) -> Result<Entered<R>, Crowded> {
    Ok(Entered::New { dropped })
}

#[test]
fn writes_that_knew_nothing_of_each_other_are_siblings_until_one_cites_them() {
    let (a, b) = (blind(1, 1), blind(2, 1));
    let mut siblings = of([b.clone(), a.clone()]);
    assert_eq!(siblings.iter().collect::<Vec<_>>(), [&a, &b]);

    let c = write(3, 1, siblings.context(NOW));
    assert_eq!(siblings.merge(c.clone(), NOW), new(vec![a.clone(), b]));
    assert_eq!(siblings.merge(c.clone(), NOW), Ok(Entered::Known));
    assert_eq!(siblings.merge(a, NOW), Ok(Entered::Covered));
    assert_eq!(siblings.iter().collect::<Vec<_>>(), [&c]);
}

#[test]
fn two_clients_of_one_daemon_that_cite_the_same_make_siblings() {
    let base = blind(1, 1);
    let seen = of([base]).context(NOW);
    let mut first = write(1, 2, seen.clone());
    first.prev = Some(Seq {
        epoch: 1,
        counter: 1,
    });
    let mut second = write(1, 3, seen);
    second.prev = Some(Seq {
        epoch: 1,
        counter: 2,
    });
    let siblings = of([blind(1, 1), second, first]);
    assert_eq!(siblings.len(), 2);
    assert_eq!(siblings.context(NOW).intervals().len(), 1);
}

#[test]
fn a_tombstone_is_a_sibling_with_nothing_to_show() {
    let value = blind(1, 1);
    let mut tombstone = blind(2, 1);
    (tombstone.content, tombstone.expires_at) = (Content::Tombstone, Some(NOW + GRAVE));
    let mut siblings = of([value.clone(), tombstone.clone()]);
    assert_eq!(siblings.shown(NOW).collect::<Vec<_>>(), [&value]);
    let ended = NOW + GRAVE + std::time::Duration::from_secs(61);
    assert_eq!(siblings.remove_ended(ended), [tombstone]);
    assert_eq!((siblings.len(), siblings.remove_ended(ended)), (1, vec![]));
}

#[test]
fn a_thirty_third_sibling_is_refused_and_nothing_dropped() {
    let mut siblings = of((0..32).map(|writer| blind(writer, 1)));
    let refused = siblings.merge(blind(32, 1), NOW);
    assert_eq!(refused, Err(Crowded::Siblings { held: 32 }));
    assert_eq!(siblings.len(), 32);

    let merged = write(32, 1, siblings.context(NOW));
    assert!(
        matches!(siblings.merge(merged, NOW), Ok(Entered::New { dropped }) if dropped.len() == 32)
    );
}

/// A value that cites so many writers, each once, from writer 100 on.
fn citing(writer: u32, writers: u32) -> Header<TestPeer> {
    let seen = (0..writers).map(|number| blind(100 + number, 1).interval());
    write(writer, 1, Context::union(seen))
}

#[test]
fn a_sixty_fifth_writer_is_refused_and_nothing_dropped() {
    let full = citing(1, 63);
    let mut siblings = of([full.clone()]);
    let sibling = blind(2, 1);
    let next = write(2, 1, siblings.context(NOW));
    for refused in [sibling, next] {
        let got = siblings.merge(refused, NOW);
        assert_eq!(got, Err(Crowded::Writers { writers: 65 }));
    }
    assert_eq!(siblings.iter().collect::<Vec<_>>(), [&full]);

    // A writer that is among them already takes no more room.
    let mut again = write(1, 2, siblings.context(NOW));
    again.prev = Some(full.dot.seq);
    assert_eq!(siblings.merge(again, NOW), new(vec![full]));
}

#[test]
fn a_key_with_too_many_writers_can_still_be_deleted() {
    let full = citing(1, 63);
    let mut siblings = of([full.clone()]);
    let mut tombstone = write(2, 1, siblings.context(NOW));
    (tombstone.content, tombstone.expires_at) = (Content::Tombstone, Some(NOW + GRAVE));
    assert_eq!(siblings.merge(tombstone, NOW), new(vec![full]));
    assert_eq!(siblings.context(NOW).intervals().len(), 65);
}

#[test]
fn writers_whose_writes_have_ended_take_no_room() {
    let ended = UnixMicros(NOW.0 - 100_000_000);
    let mut old = citing(1, 63);
    old.context = Context::union(old.context.intervals().iter().map(|interval| Interval {
        ends_at: Some(ended),
        ..*interval
    }));
    let mut siblings = of([old]);
    assert_eq!(siblings.context(NOW).intervals().len(), 1);
    assert_eq!(siblings.merge(blind(2, 1), NOW), new(vec![]));
}

#[test]
fn the_owners_last_record_takes_the_place_of_all_before_it() {
    let mut siblings = of([owned(2, 0)]);
    assert_eq!(siblings.merge(owned(1, 0), NOW), Ok(Entered::Covered));
    assert_eq!(siblings.merge(owned(3, 0), NOW), new(vec![owned(2, 0)]));
    assert_eq!(
        siblings.version(),
        Some(Seq {
            epoch: 1,
            counter: 3
        })
    );
    assert!(siblings.context(NOW).is_empty());
}

#[test]
fn two_records_of_one_dot_are_kept_as_proof_and_no_more() {
    for order in [
        [1, 2, 3],
        [3, 2, 1],
        [2, 3, 1],
        [1, 3, 2],
        [3, 1, 2],
        [2, 1, 3],
    ] {
        let mut siblings = of(order.map(|hash| owned(5, hash)));
        assert_eq!(
            siblings.iter().collect::<Vec<_>>(),
            [&owned(5, 1), &owned(5, 2)],
            "{order:?}"
        );
        assert_eq!(
            siblings.merge(owned(6, 9), NOW),
            new(vec![owned(5, 1), owned(5, 2)])
        );
    }
}

#[test]
fn a_dot_that_was_used_twice_hides_no_other_sibling() {
    let twice = |hash| Header {
        hash: [hash; 32],
        ..blind(2, 1)
    };
    let siblings = of([blind(1, 1), twice(3), blind(3, 1), twice(1), twice(2)]);
    let held: Vec<_> = siblings
        .iter()
        .map(|held| (held.dot.writer.0, held.hash[0]))
        .collect();
    assert_eq!(held, [(1, 0), (2, 1), (2, 2), (3, 0)]);
}

#[test]
fn a_record_is_found_and_removed_by_its_id() {
    let mut siblings = of([blind(1, 1), blind(2, 1)]);
    let id = blind(2, 1).id();
    assert_eq!(siblings.find(&id), Some(&blind(2, 1)));
    assert_eq!(siblings.remove(&id), Some(blind(2, 1)));
    assert_eq!(siblings.find(&id), None);
    assert_eq!(siblings.remove(&id), None);
}
