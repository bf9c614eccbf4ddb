//! What contexts cover, against the intervals that they were built from.

use proptest::prelude::*;

use super::*;
use crate::testing::TestPeer;

fn seq(epoch: u64, counter: u64) -> Seq {
    Seq { epoch, counter }
}

fn dot(writer: u32, epoch: u64, counter: u64) -> Dot<TestPeer> {
    Dot {
        writer: TestPeer(writer),
        seq: seq(epoch, counter),
    }
}

fn one(dot: Dot<TestPeer>, prev: Option<Seq>, ends_at: Option<u64>) -> Interval<TestPeer> {
    Interval::of_dot(dot, prev, ends_at.map(UnixMicros))
}

#[test]
fn a_record_whose_predecessor_is_unknown_stands_for_itself_alone() {
    let context = Context::union([one(dot(1, 5, 3), None, None)]);
    assert!(context.covers(dot(1, 5, 3)));
    for other in [dot(1, 5, 2), dot(1, 5, 4), dot(1, 4, 3), dot(2, 5, 3)] {
        assert!(!context.covers(other), "{other:?}");
    }
}

#[test]
fn a_writer_that_writes_again_and_again_takes_one_interval() {
    let first = one(dot(1, 5, 3), None, None);
    let second = one(dot(1, 5, 9), Some(seq(5, 3)), None);
    let third = one(dot(1, 8, 2), Some(seq(5, 9)), None);
    let context = Context::union([third, first, second]);
    let whole = Interval {
        writer: TestPeer(1),
        after: seq(5, 2),
        to: seq(8, 2),
        ends_at: None,
    };
    assert_eq!(context.intervals(), [whole]);
    assert_eq!(Context::union([first, third]).intervals().len(), 2);
}

#[test]
fn an_interval_ends_when_the_last_that_it_covers_does() {
    let first = one(dot(1, 5, 3), None, Some(100));
    let second = one(dot(1, 5, 9), Some(seq(5, 3)), Some(70));
    let endless = one(dot(1, 5, 10), Some(seq(5, 9)), None);
    assert_eq!(
        Context::union([first, second]).ends_at(),
        Some(UnixMicros(100))
    );
    assert_eq!(Context::union([first, second, endless]).ends_at(), None);
    assert_eq!(Context::<TestPeer>::new().ends_at(), Some(UnixMicros(0)));
}

#[test]
fn what_nobody_can_hold_is_forgotten_only_beyond_the_skew() {
    let end = UnixMicros(100);
    let context = Context::union([
        one(dot(1, 5, 3), None, Some(end.0)),
        one(dot(2, 5, 3), None, None),
    ]);
    assert_eq!(context.clone().as_of(end + SKEW_MAX), context);
    let later = UnixMicros((end + SKEW_MAX).0 + 1);
    let left = context.as_of(later);
    assert!(!left.covers(dot(1, 5, 3)) && left.covers(dot(2, 5, 3)));
}

#[test]
fn an_end_beyond_every_records_life_is_pulled_in() {
    let context = Context::union([one(dot(1, 5, 3), None, Some(u64::MAX))]);
    let now = UnixMicros(7);
    assert_eq!(context.as_of(now).ends_at(), Some(now + LIFE_MAX));
}

#[test]
fn intervals_from_elsewhere_must_be_a_contexts() {
    let (a, b) = (one(dot(1, 5, 3), None, None), one(dot(1, 5, 4), None, None));
    let (c, d) = (one(dot(1, 5, 9), None, None), one(dot(2, 5, 1), None, None));
    assert!(Context::from_ordered(vec![a, c, d]).is_some());
    let nothing = Interval { to: a.after, ..a };
    for wrong in [
        vec![a, b],
        vec![c, a],
        vec![a, a],
        vec![d, a],
        vec![nothing],
    ] {
        assert_eq!(Context::from_ordered(wrong.clone()), None, "{wrong:?}");
    }
}

#[test]
fn the_last_dot_of_a_writer_is_known() {
    let context = Context::union([
        one(dot(1, 5, 3), None, None),
        one(dot(1, 6, 2), None, None),
        one(dot(3, 9, 1), None, None),
    ]);
    assert_eq!(context.last_of(TestPeer(1)), Some(seq(6, 2)));
    assert_eq!(context.last_of(TestPeer(2)), None);
    assert_eq!(context.last_of(TestPeer(0)), None);
    assert_eq!(context.last_of(TestPeer(4)), None);
}

fn any_interval() -> impl Strategy<Value = Interval<TestPeer>> {
    let place = || (1..4_u64, 0..6_u64).prop_map(|(epoch, counter)| seq(epoch, counter));
    (0..3_u32, place(), place(), proptest::option::of(0..9_u64)).prop_map(
        |(writer, after, to, ends_at)| Interval {
            writer: TestPeer(writer),
            after,
            to,
            ends_at: ends_at.map(UnixMicros),
        },
    )
}

fn any_intervals() -> impl Strategy<Value = Vec<Interval<TestPeer>>> {
    proptest::collection::vec(any_interval(), 0..12)
}

proptest! {
    #[test]
    fn a_context_covers_exactly_what_it_was_built_from(intervals in any_intervals()) {
        let context = Context::union(intervals.clone());
        for writer in 0..3 {
            for epoch in 0..5 {
                for counter in 0..7 {
                    let dot = dot(writer, epoch, counter);
                    let built_from = intervals.iter().any(|interval| {
                        interval.writer == dot.writer
                            && interval.after < dot.seq
                            && dot.seq <= interval.to
                    });
                    prop_assert_eq!(context.covers(dot), built_from, "{:?}", dot);
                }
            }
        }
    }

    #[test]
    fn union_is_one_set_in_one_form(a in any_intervals(), b in any_intervals()) {
        let whole = Context::union(a.iter().chain(&b).copied());
        let (a, b) = (Context::union(a), Context::union(b));
        let both = |first: &Context<TestPeer>, second: &Context<TestPeer>| {
            Context::union(first.0.iter().chain(&second.0).copied())
        };
        prop_assert_eq!(both(&a, &b), whole.clone());
        prop_assert_eq!(both(&b, &a), whole.clone());
        prop_assert_eq!(both(&whole, &whole), whole.clone());
        prop_assert_eq!(Context::from_ordered(whole.0.clone()), Some(whole));
    }
}
