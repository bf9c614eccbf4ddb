//! What is yet to happen, in the order of time: a calendar queue (Brown, "Calendar queues", CACM 1988).
//!
//! A simulation of a million nodes has some ten million events waiting, and a heap of them misses the cache at each step
//! of each push. Here an event goes into the bucket of its millisecond; a bucket is sorted once, when it is opened.

use std::collections::{BTreeMap, BinaryHeap};

use weft_overlay::Time;

/// A bucket spans 2^10 microseconds: few enough events share one, and few buckets are empty.
const BUCKET_BITS: u32 = 10;
/// The near buckets span 2^23 microseconds (8.4 s): nearly all timers and all frames fall into them.
const NEAR_BITS: u32 = 23;
const NEAR: usize = 1 << (NEAR_BITS - BUCKET_BITS);

/// An event with its place in the order: two of one moment happen in the order in which they were planned.
#[derive(Clone, Debug)]
struct Entry<E> {
    time: u64,
    order: u64,
    event: E,
}

impl<E> Entry<E> {
    const fn key(&self) -> (u64, u64) {
        (self.time, self.order)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// Reversed: the heap gives the largest first, and the earliest is due first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.key().cmp(&self.key())
    }
}

/// Events in the order of time.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    /// The buckets of the current epoch, which spans [`NEAR_BITS`].
    near: Vec<Vec<Entry<E>>>,
    /// Later epochs, unsorted.
    far: BTreeMap<u64, Vec<Entry<E>>>,
    /// The bucket that is open, latest first.
    open: Vec<Entry<E>>,
    /// What was planned for the open bucket since it was opened.
    late: BinaryHeap<Entry<E>>,
    /// The number of the open bucket since time zero.
    bucket: u64,
    planned: u64,
    len: usize,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            near: (0..NEAR).map(|_| Vec::new()).collect(),
            far: BTreeMap::new(),
            open: Vec::new(),
            late: BinaryHeap::new(),
            bucket: 0,
            planned: 0,
            len: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Returns how many events wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Plans an event; one of the past happens next.
    pub fn push(&mut self, time: Time, event: E) {
        let entry = Entry {
            time: time.as_micros(),
            order: self.planned,
            event,
        };
        self.planned += 1;
        self.len += 1;
        let bucket = entry.time >> BUCKET_BITS;
        if bucket <= self.bucket {
            self.late.push(entry);
        } else if epoch_of(bucket) == epoch_of(self.bucket) {
            self.near[index_of(bucket)].push(entry);
        } else {
            self.far.entry(epoch_of(bucket)).or_default().push(entry);
        }
    }

    /// Returns up to so many of the events that are next, but for those that were planned a moment ago.
    pub fn coming(&self, count: usize) -> impl Iterator<Item = &E> {
        let next = self.open.iter().rev().take(count);
        next.map(|entry| &entry.event)
    }

    /// Takes the next event unless it is later than `until`.
    pub fn pop(&mut self, until: Time) -> Option<(Time, E)> {
        loop {
            let open = self.open.last().map(Entry::key);
            let late = self.late.peek().map(Entry::key);
            let next = match (open, late) {
                (Some(open), Some(late)) => open.min(late),
                (Some(key), None) | (None, Some(key)) => key,
                (None, None) => {
                    if !self.open_next(until) {
                        return None;
                    }
                    continue;
                }
            };
            if next.0 > until.as_micros() {
                return None;
            }
            let entry = if open == Some(next) {
                self.open.pop()
            } else {
                self.late.pop()
            };
            self.len -= 1;
            return entry.map(|entry| (Time::from_micros(entry.time), entry.event));
        }
    }

    /// Opens the next bucket that holds something, if it begins by `until`.
    fn open_next(&mut self, until: Time) -> bool {
        if self.len == 0 {
            return false;
        }
        let last = until.as_micros() >> BUCKET_BITS;
        loop {
            if self.bucket >= last {
                return false;
            }
            if index_of(self.bucket) + 1 == NEAR {
                self.enter_next_epoch(last);
            } else {
                self.bucket += 1;
            }
            let bucket = &mut self.near[index_of(self.bucket)];
            if !bucket.is_empty() {
                self.open = std::mem::take(bucket);
                self.open.sort_unstable();
                return true;
            }
        }
    }

    /// Goes on to the next epoch that holds something, but not beyond the bucket `last`.
    fn enter_next_epoch(&mut self, last: u64) {
        let next = epoch_of(self.bucket) + 1;
        let holding = self.far.keys().next().copied().unwrap_or(u64::MAX);
        let epoch = holding.min(epoch_of(last)).max(next);
        self.bucket = epoch << (NEAR_BITS - BUCKET_BITS);
        for entry in self.far.remove(&epoch).unwrap_or_default() {
            self.near[index_of(entry.time >> BUCKET_BITS)].push(entry);
        }
    }
}

const fn epoch_of(bucket: u64) -> u64 {
    bucket >> (NEAR_BITS - BUCKET_BITS)
}

fn index_of(bucket: u64) -> usize {
    usize::try_from(bucket).unwrap_or(0) & (NEAR - 1)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_of_planning() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut queue = Queue::default();
        let mut model = BTreeMap::new();
        let mut now = 0;
        for event in 0..20_000_u64 {
            let delay = match event % 4 {
                0 => 0,
                1 => rng.random_range(0..2_000),
                2 => rng.random_range(0..1_000_000),
                _ => rng.random_range(0..60_000_000),
            };
            queue.push(Time::from_micros(now + delay), event);
            model.insert((now + delay, event), event);
            if event % 3 == 0 {
                let ((time, _), expected) = model.pop_first().unwrap();
                now = time;
                assert_eq!(
                    queue.pop(Time::NEVER),
                    Some((Time::from_micros(time), expected))
                );
            }
        }
        while let Some((time, event)) = queue.pop(Time::NEVER) {
            let ((at, _), expected) = model.pop_first().unwrap();
            assert_eq!((time.as_micros(), event), (at, expected));
        }
        assert!(model.is_empty() && queue.is_empty());
    }

    #[test]
    fn nothing_later_than_asked_for_comes() {
        let mut queue = Queue::default();
        queue.push(Time::from_micros(100_000_000), 'b');
        assert_eq!(queue.pop(Time::from_micros(99_999_999)), None);
        queue.push(Time::from_micros(5), 'a');
        assert_eq!(
            queue.pop(Time::from_micros(5)),
            Some((Time::from_micros(5), 'a'))
        );
        assert_eq!(
            queue.pop(Time::from_micros(100_000_000)),
            Some((Time::from_micros(100_000_000), 'b'))
        );
        assert_eq!(queue.pop(Time::NEVER), None);
    }
}
