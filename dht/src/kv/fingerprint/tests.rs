//! Two sides that find what only one of them has, and how many bytes that takes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Items that are spread as hashes are.
fn spread(from: u64, to: u64) -> impl Iterator<Item = Item> {
    (from..to).map(|number| {
        let digest: [u8; 32] = Sha256::digest(number.to_be_bytes()).into();
        let (first, _) = digest.split_at(16);
        Item(
            first
                .iter()
                .fold(0, |item, byte| item << 8 | u128::from(*byte)),
        )
    })
}

/// What a comparison took.
#[derive(Debug, Default)]
struct Took {
    bytes: usize,
    messages: usize,
    found: Difference,
}

/// Bytes of a number, seven bits each.
fn number(value: u128) -> usize {
    (128 - value.leading_zeros()).max(1).div_ceil(7) as usize
}

fn bytes_of_range(range: Range) -> usize {
    1 + usize::from(range.bits()).div_ceil(8)
}

fn bytes_of_summary(summary: &Summary) -> usize {
    number(summary.count.into()) + if summary.count == 0 { 0 } else { 16 }
}

/// Compares two sets as two nodes do: one asks about ranges, the other answers each with what it has there.
fn reconcile(asks: &Items, answers: &Items) -> Took {
    let mut took = Took::default();
    let mut ranges = vec![Range::ALL];
    while !ranges.is_empty() {
        took.messages += 2;
        let mut next = Vec::new();
        for range in std::mem::take(&mut ranges) {
            let ours = asks.summary(range);
            took.bytes += bytes_of_range(range) + bytes_of_summary(&ours) + 1;
            match answers.compare(range, ours) {
                None => {}
                Some(Contents::Split(sums)) => {
                    took.bytes += sums.iter().map(bytes_of_summary).sum::<usize>();
                    let parts = range.parts().unwrap().into_iter().zip(*sums);
                    next.extend(parts.filter(|(part, sum)| asks.summary(*part) != *sum));
                }
                Some(Contents::Items(theirs)) => {
                    took.bytes += 1 + 16 * theirs.len();
                    let found = asks.difference(range, &theirs);
                    // What only the other side has is asked for by its item.
                    took.bytes += 16 * found.theirs.len();
                    took.found.theirs.extend(found.theirs);
                    took.found.ours.extend(found.ours);
                }
            }
        }
        ranges = next.into_iter().map(|(part, _)| part).collect();
    }
    took.found.theirs.sort_unstable();
    took.found.ours.sort_unstable();
    took
}

#[test]
fn ten_differences_among_a_hundred_thousand_take_less_than_32_kib() {
    let all: Vec<Item> = spread(0, 100_000).collect();
    let ours: Items = all.iter().skip(5).copied().collect();
    let theirs: Items = all.iter().take(99_995).copied().collect();
    for (asks, answers) in [(&ours, &theirs), (&theirs, &ours)] {
        let took = reconcile(asks, answers);
        assert_eq!((took.found.ours.len(), took.found.theirs.len()), (5, 5));
        assert!(took.bytes < 32 * 1024, "{} bytes", took.bytes);
        assert!(took.messages <= 12, "{} messages", took.messages);
    }
}

#[test]
fn nodes_in_step_spend_next_to_nothing() {
    let items: Items = spread(0, 100_000).collect();
    let took = reconcile(&items, &items);
    assert_eq!((took.messages, took.found), (2, Difference::default()));
    assert!(took.bytes < 32, "{} bytes", took.bytes);
}

#[test]
fn a_node_that_has_nothing_is_told_all() {
    let items: Items = spread(0, 1_000).collect();
    let nothing = Items::default();
    assert_eq!(reconcile(&nothing, &items).found.theirs, items.items);
    assert_eq!(reconcile(&items, &nothing).found.ours, items.items);
    assert_eq!(reconcile(&nothing, &nothing).found, Difference::default());
}

#[test]
fn items_that_hardly_differ_are_told_apart() {
    // Of these no range but the smallest is small enough to be named.
    let crowd: Vec<Item> = (0..40).map(Item).collect();
    let ours: Items = crowd.iter().copied().filter(|item| item.0 != 7).collect();
    let theirs: Items = crowd.iter().copied().filter(|item| item.0 != 9).collect();
    let found = reconcile(&ours, &theirs).found;
    assert_eq!((found.theirs, found.ours), (vec![Item(7)], vec![Item(9)]));
}

#[test]
fn a_range_that_came_must_be_one() {
    assert_eq!(Range::new(0, 0), Some(Range::ALL));
    assert_eq!(
        Range::ALL.parts().unwrap()[10],
        Range::new(0xa << 124, 4).unwrap()
    );
    assert!(Range::new(u128::MAX, 128).is_some_and(|one| one.parts().is_none()));
    for (prefix, bits) in [
        (0, 3),
        (0, 132),
        (0, 255),
        (1, 124),
        (1 << 123, 4),
        (u128::MAX, 0),
    ] {
        assert_eq!(Range::new(prefix, bits), None, "{prefix:x}/{bits}");
    }
}

#[test]
fn what_another_node_says_is_bounded_by_the_range() {
    let items: Items = spread(0, 100).collect();
    let range = Range::ALL.parts().unwrap()[3];
    let outside: Vec<Item> = spread(200, 300)
        .filter(|item| !range.contains(*item))
        .collect();
    let found = items.difference(range, &outside);
    assert_eq!(
        (found.theirs, found.ours),
        (vec![], items.of(range).to_vec())
    );
}

#[test]
fn another_record_of_a_dot_is_another_item() {
    use crate::kv::{Content, Context, Dot, KvKey, Seq};
    use crate::testing::TestPeer;

    let header = Header {
        key: KvKey::new("colour").unwrap(),
        dot: Dot {
            writer: TestPeer(1),
            seq: Seq {
                epoch: 2,
                counter: 3,
            },
        },
        prev: None,
        context: Context::new(),
        content: Content::Tombstone,
        written_at: crate::UnixMicros(5),
        expires_at: None,
        copies: 3,
        hash: [0; 32],
    };
    let changed = |change: fn(&mut Header<TestPeer>)| {
        let mut header = header.clone();
        change(&mut header);
        Item::of(&header)
    };
    let items = [
        changed(|_| ()),
        changed(|header| header.hash = [1; 32]),
        changed(|header| header.key = KvKey::new("colours").unwrap()),
        changed(|header| header.dot.writer = TestPeer(2)),
        changed(|header| header.dot.seq.epoch = 3),
        changed(|header| header.dot.seq.counter = 4),
    ];
    assert_eq!(BTreeSet::from(items).len(), items.len());
}

/// Items of which some share their first 72 bits. All are chance otherwise, as hashes are: sums tell these apart.
fn any_items() -> impl Strategy<Value = BTreeSet<u128>> {
    let item = prop_oneof![
        any::<u128>(),
        any::<u64>().prop_map(|low| u128::from(low >> 8))
    ];
    proptest::collection::btree_set(item, 0..80)
}

proptest! {
    #[test]
    fn what_is_found_is_what_differs(ours in any_items(), theirs in any_items(), both in any_items()) {
        let ours: BTreeSet<Item> = ours.union(&both).map(|item| Item(*item)).collect();
        let theirs: BTreeSet<Item> = theirs.union(&both).map(|item| Item(*item)).collect();
        let found = reconcile(&ours.iter().copied().collect(), &theirs.iter().copied().collect()).found;
        prop_assert_eq!(found.ours, ours.difference(&theirs).copied().collect::<Vec<_>>());
        prop_assert_eq!(found.theirs, theirs.difference(&ours).copied().collect::<Vec<_>>());
    }

    #[test]
    fn a_summary_is_the_count_and_sum_of_what_lies_in_the_range(
        items in any_items(), prefix in any::<u128>(), bits in 0..=32_u8
    ) {
        let bits = bits * 4;
        let prefix = if bits == 0 { 0 } else { prefix >> (128 - bits) << (128 - bits) };
        let range = Range::new(prefix, bits).unwrap();
        let inside: Vec<Item> = items.iter().map(|item| Item(*item)).filter(|item| range.contains(*item)).collect();
        let items: Items = items.into_iter().map(Item).collect();
        let sum = inside.iter().fold(0_u128, |sum, item| sum.wrapping_add(item.0));
        prop_assert_eq!(items.summary(range), Summary { count: inside.len() as u32, sum });
        prop_assert_eq!(items.of(range), inside);
    }
}
