//! Bundles of failed publishes by hand that no keeper is known to have.
//!
//! Their seqs are taken, since somebody may have them all the same. Whoever publishes next on their topic brings them first;
//! else subscribers would be told a gap.

use std::collections::VecDeque;
use std::time::Duration;

use weft_overlay::{Bundle, Now};

use crate::{TopicBundle, TopicId};

/// Bytes of such bundles, of all topics together: as much as a publisher may have under way on one. The oldest make room.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long one is worth bringing: half of the time for which others would still take it.
const KEPT_FOR: Duration = Duration::from_secs(30 * 60);

/// What is brought with the next publish.
#[derive(Debug, Default)]
pub(in crate::core) struct Unspread {
    bundles: VecDeque<(TopicId, TopicBundle)>,
    bytes: usize,
}

impl Unspread {
    pub(super) fn push(&mut self, topic: TopicId, bundle: TopicBundle) {
        self.bytes += bundle.cost_bytes();
        self.bundles.push_back((topic, bundle));
        while self.bytes > BYTES_MAX
            && let Some((_, oldest)) = self.bundles.pop_front()
        {
            self.bytes -= oldest.cost_bytes();
        }
    }

    /// Takes those of a topic, in their order.
    pub(in crate::core) fn take(&mut self, topic: TopicId, now: Now) -> Vec<TopicBundle> {
        let mut taken = Vec::new();
        for (of, bundle) in std::mem::take(&mut self.bundles) {
            if of != topic {
                self.bundles.push_back((of, bundle));
                continue;
            }
            self.bytes -= bundle.cost_bytes();
            if now.unix.since(bundle.published_at()) < KEPT_FOR {
                taken.push(bundle);
            }
        }
        taken.sort_by_key(|bundle| bundle.header().first);
        taken
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::{Hash, Keypair};
    use weft_overlay::{Time, UnixMicros};

    use super::*;
    use crate::TopicName;
    use crate::bundle::Place;

    fn now(seconds: u64) -> Now {
        let time = Time::from_micros(seconds * 1_000_000);
        let unix = UnixMicros(time.as_micros());
        Now { time, unix }
    }

    fn bundle(topic: TopicId, first: u64, bytes: usize) -> TopicBundle {
        let place = Place {
            epoch: 1,
            first,
            predecessor: (first > 1).then(|| Hash::of(b"the one before")),
            previous_epoch: None,
            published_at: now(0).unix,
        };
        let keypair = Keypair::from_seed(&[1; 32]);
        TopicBundle::publish(
            &keypair,
            topic,
            place,
            &[bytes::Bytes::from(vec![0; bytes]).into()],
        )
    }

    fn topic(name: &str) -> TopicId {
        name.parse::<TopicName>().unwrap().id("test")
    }

    fn firsts(bundles: &[TopicBundle]) -> Vec<u64> {
        let headers = bundles.iter().map(Bundle::header);
        headers.map(|header| header.first).collect()
    }

    #[test]
    fn a_topics_bundles_come_once_in_their_order_unless_they_are_old() {
        let (mut unspread, [a, b]) = (Unspread::default(), ["a", "b"].map(topic));
        for (of, first) in [(a, 3), (b, 1), (a, 2)] {
            unspread.push(of, bundle(of, first, 10));
        }
        assert_eq!(firsts(&unspread.take(a, now(60))), [2, 3]);
        assert!(unspread.take(a, now(60)).is_empty());
        assert!(unspread.take(b, now(1_800)).is_empty());
        assert_eq!(unspread.bytes, 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_go_first() {
        let (mut unspread, topic) = (Unspread::default(), topic("a"));
        for first in 1..=9 {
            unspread.push(topic, bundle(topic, first, 500_000));
        }
        assert!(unspread.bytes <= BYTES_MAX);
        assert_eq!(
            firsts(&unspread.take(topic, now(0))),
            [2, 3, 4, 5, 6, 7, 8, 9]
        );
    }
}
