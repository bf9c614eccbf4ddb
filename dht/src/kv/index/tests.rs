//! The index against what it was told.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::kv::fingerprint::Range;
use crate::kv::{Content, Context, Dot, OverQuota, Quota, Seq, charge};
use crate::testing::TestPeer;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn key(text: &str) -> KvKey {
    KvKey::new(text).unwrap()
}

fn record(key: &KvKey, writer: u32, counter: u64, expires_in_s: Option<u64>) -> Header<TestPeer> {
    Header {
        key: key.clone(),
        dot: Dot {
            writer: TestPeer(writer),
            seq: Seq { epoch: 1, counter },
        },
        prev: None,
        context: Context::new(),
        content: Content::Value { bytes: 100 },
        written_at: NOW,
        expires_at: expires_in_s.map(|seconds| NOW + Duration::from_secs(seconds)),
        copies: 3,
        hash: [0; 32],
    }
}

fn put(index: &mut Index<TestPeer>, record: &Header<TestPeer>) {
    let held = index.slot(&record.key).map(|slot| slot.siblings.clone());
    let mut siblings = held.unwrap_or_default();
    let _ = siblings.merge(record.clone(), NOW).unwrap();
    index.replace(&record.key, siblings);
}

fn index_of(records: &[Header<TestPeer>]) -> Index<TestPeer> {
    let mut index = Index::default();
    for record in records {
        put(&mut index, record);
    }
    index
}

#[test]
fn keys_are_listed_by_a_prefix_page_by_page() {
    let names = [
        "{u}/", "{u}/a", "{u}/b", "{u}/c", "{v}/a", "a", "{u}.", "{u}0",
    ]
    .map(key);
    let index = index_of(&names.each_ref().map(|name| record(name, 1, 1, None)));
    let prefix = KvPrefix::new("{u}/").unwrap();
    let listed = |after: Option<&str>| -> Vec<String> {
        let after = after.map(key);
        let slots = index.begin_with(&prefix, after.as_ref());
        slots.map(|(key, _)| key.to_string()).collect()
    };
    assert_eq!(listed(None), ["{u}/", "{u}/a", "{u}/b", "{u}/c"]);
    assert_eq!(listed(Some("{u}/a")), ["{u}/b", "{u}/c"]);
    assert_eq!(listed(Some("{u}/c")), [""; 0]);
    // A place before the prefix isn't one to go on from.
    assert_eq!(listed(Some("{a}")).len(), 4);
}

#[test]
fn what_ended_can_be_dropped_in_the_order_that_it_ended() {
    let (a, b) = (key("a"), key("b"));
    let mut index = index_of(&[
        record(&a, 1, 1, Some(9)),
        record(&a, 2, 1, None),
        record(&b, 1, 2, Some(5)),
        record(&b, 2, 2, Some(5)),
    ]);
    assert_eq!(index.next_end(), Some(NOW + Duration::from_secs(5)));
    let ended = |index: &Index<TestPeer>, after_s: u64| -> Vec<(String, u32)> {
        let now = NOW + Duration::from_secs(after_s);
        index
            .ended(now)
            .map(|held| (held.key.to_string(), held.dot.writer.0))
            .collect()
    };
    assert_eq!(ended(&index, 65), []);
    let b_ended = [("b".to_owned(), 1), ("b".to_owned(), 2)];
    assert_eq!(ended(&index, 66), b_ended);
    assert_eq!(
        ended(&index, 70),
        [&b_ended[..], &[("a".to_owned(), 1)]].concat()
    );

    // One of two that end together can go before the other.
    let mut one = index.slot(&b).unwrap().siblings.clone();
    one.remove(&record(&b, 1, 2, Some(5)).id()).unwrap();
    index.replace(&b, one);
    assert_eq!(ended(&index, 66), b_ended[1..]);
    index.replace(&b, Siblings::new());
    assert_eq!(ended(&index, 70), [("a".to_owned(), 1)]);
    index.replace(&a, Siblings::new());
    assert_eq!((index.len(), index.next_end()), (0, None));
    assert!(index.usage.is_empty() && index.by_item.is_empty() && index.slots.is_empty());
}

#[test]
fn only_what_both_should_hold_and_others_would_take_is_compared() {
    let names = ["a", "b", "c"].map(key);
    let mut records = names.each_ref().map(|name| record(name, 1, 1, None));
    records[1].copies = 5;
    records[2].expires_at = Some(NOW + Duration::from_secs(5));
    let index = index_of(&records);
    let of =
        |copies: u8, after_s| index.items(|_, of| of == copies, NOW + Duration::from_secs(after_s));
    assert_eq!((of(3, 0).len(), of(5, 0).len(), of(4, 0).len()), (2, 1, 0));
    assert_eq!(of(3, 5).of(Range::ALL), [Item::of(&records[0])]);
    let points = [names[0].point(), names[2].point()];
    let mut asked = Vec::new();
    let some = index.items(
        |point, _| {
            asked.push(point);
            point == points[0]
        },
        NOW,
    );
    assert_eq!(some.of(Range::ALL), [Item::of(&records[0])]);
    assert!(asked.contains(&points[1]));
}

#[test]
fn a_writer_has_what_counts_for_it() {
    let (a, b) = (key("a"), key("b"));
    let records = [
        record(&a, 1, 1, None),
        record(&b, 1, 2, None),
        record(&b, 2, 1, None),
    ];
    let mut index = index_of(&records);
    let held = index.usage(TestPeer(1));
    assert_eq!(
        (held.records, held.bytes),
        (2, charge(&records[0]) + charge(&records[1]))
    );
    index.replace(&b, Siblings::new());
    assert_eq!(index.usage(TestPeer(1)).records, 1);
    assert_eq!(index.usage(TestPeer(2)), Usage::default());
}

#[test]
fn what_a_record_cites_counts_as_well() {
    let alone = record(&key("a"), 1, 1, None);
    let mut citing = alone.clone();
    citing.context =
        Context::union((2..12).map(|writer| record(&key("a"), writer, 1, None).interval()));
    assert_eq!(charge(&alone), 100 + 1 + 256);
    assert_eq!(charge(&citing), charge(&alone) + 800);
}

#[test]
fn a_quota_may_be_used_up_and_not_exceeded() {
    let quota = Quota {
        bytes_max: 1_000,
        records_max: 2,
    };
    let usage = |bytes, records| Usage { bytes, records };
    assert_eq!(quota.check(usage(1_000, 2)), Ok(()));
    for held in [usage(1_001, 1), usage(1, 3)] {
        let refused = quota.check(held);
        assert_eq!(refused, Err(OverQuota { held, quota }));
    }
    let over = quota.check(usage(1_001, 2)).unwrap_err().to_string();
    assert!(
        over.contains("1001 bytes of 1000 in 2 records of 2"),
        "{over}"
    );
}

proptest! {
    #[test]
    fn the_index_is_that_of_what_remains(
        steps in proptest::collection::vec((0..6_u8, 0..4_u32, proptest::option::of(1..5_u64), any::<bool>()), 0..60)
    ) {
        let mut index = Index::default();
        let mut kept: BTreeMap<KvKey, Siblings<Header<TestPeer>>> = BTreeMap::new();
        for (counter, (name, writer, expires_in_s, drops)) in (1..).zip(steps) {
            let key = key(&name.to_string());
            let siblings = kept.entry(key.clone()).or_default();
            if drops {
                let first = siblings.iter().next().map(Header::id);
                first.map(|id| siblings.remove(&id));
            } else {
                let _ = siblings.merge(record(&key, writer, counter, expires_in_s), NOW);
            }
            index.replace(&key, siblings.clone());
        }
        let all: Vec<&Header<TestPeer>> = kept.values().flatten().collect();
        let held: Vec<&Header<TestPeer>> =
            index.slots(Bound::Unbounded).flat_map(|(_, slot)| &slot.siblings).collect();
        prop_assert_eq!(&held, &all);
        prop_assert_eq!(index.len(), all.len());
        for header in &all {
            prop_assert_eq!(index.find(&header.key, &header.id()), Some(*header));
            prop_assert_eq!(index.of_item(Item::of(*header)), Some(*header));
        }
        for writer in (0..4).map(TestPeer) {
            let mut usage = Usage::default();
            all.iter().filter(|header| header.dot.writer == writer).for_each(|header| usage.add(header));
            prop_assert_eq!(index.usage(writer), usage);
        }
        for seconds in 60..67 {
            let now = UnixMicros(NOW.0 + seconds * 1_000_000 + 1);
            let ended: BTreeSet<_> = index.ended(now).map(Header::id).collect();
            let wanted = all.iter().filter(|header| header.has_ended(now));
            prop_assert_eq!(ended, wanted.map(|header| header.id()).collect());
        }
    }
}
