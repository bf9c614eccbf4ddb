//! Spans: they divide what there is, and their sums tell what differs.

use proptest::prelude::*;

use super::*;
use crate::history::Config;
use crate::swarm::tests::network::UNIX_START;
use crate::swarm::tests::values::{TestBundle, bundle};
use crate::{Now, UnixMicros};

fn history(streams: &[(u32, u64)]) -> History<TestBundle> {
    let now = Now {
        time: Time::ZERO,
        unix: UnixMicros(UNIX_START),
    };
    let mut history = History::new(Config::default());
    for &(publisher, back) in streams {
        let epoch = UNIX_START / 1_000 - back;
        let id = StreamId { publisher, epoch };
        history.admit(&bundle(id, (1, 1), None, now.unix, 0), 1, None, now);
    }
    history
}

proptest! {
    #[test]
    fn parts_hold_each_stream_once_and_about_as_many_of_them(
        streams in prop::collection::btree_set((0u32..500, 0u64..3), 0..200), first in 0u32..500, len in 0u32..500,
    ) {
        let streams: Vec<_> = streams.into_iter().collect();
        let history = history(&streams);
        let bound = |publisher| Some(StreamId { publisher, epoch: 0 });
        let some = Span { first: bound(first), upto: bound(first + len) };
        for span in [Span::ALL, some] {
            let all: Vec<_> = history.streams_of(span).collect();
            let parts = history.divide(span);
            prop_assert!(parts.len() <= PARTS);
            prop_assert_eq!((parts[0].first, parts[parts.len() - 1].upto), (span.first, span.upto));
            prop_assert!(parts.windows(2).all(|pair| pair[0].upto.is_some() && pair[0].upto == pair[1].first));
            let held: Vec<Vec<_>> = parts.iter().map(|part| history.streams_of(*part).collect()).collect();
            prop_assert!(held.iter().all(|part| part.len() <= all.len().div_ceil(PARTS)));
            prop_assert_eq!(held.concat(), all);
        }
    }

    #[test]
    fn a_stream_that_differs_changes_the_sum_of_its_part_alone(
        streams in prop::collection::btree_set((0u32..500, 0u64..3), 1..200), which in any::<prop::sample::Index>(), salt in any::<u32>(),
    ) {
        let streams: Vec<_> = streams.into_iter().collect();
        let ours = history(&streams);
        let mut theirs = streams.clone();
        let (publisher, back) = theirs.remove(which.index(streams.len()));
        let mut theirs = history(&theirs);
        let id = StreamId { publisher, epoch: UNIX_START / 1_000 - back };
        for part in ours.divide(Span::ALL) {
            prop_assert_eq!(ours.sum(part, salt) != theirs.sum(part, salt), part.contains(id));
        }
        prop_assert_ne!(ours.clone().fingerprint(), theirs.fingerprint());
    }
}

#[test]
fn a_peers_bound_is_as_short_as_it_can_be() {
    let id = |bytes: &[u8]| {
        let mut id = [0xff; 32];
        id[..bytes.len()].copy_from_slice(bytes);
        weft_identity::PeerId::from_bytes(id)
    };
    let stream = |bytes: &[u8], epoch| StreamId {
        publisher: id(bytes),
        epoch,
    };
    let bound = between(stream(&[7, 1, 9], 5), stream(&[7, 3], 5));
    let mut expected = [0; 32];
    expected[..2].copy_from_slice(&[7, 3]);
    assert_eq!((*bound.publisher.as_bytes(), bound.epoch), (expected, 0));
    let bound = between(stream(&[7], 5), stream(&[7], 6));
    assert_eq!(bound, stream(&[7], 6));
}
