//! Arrival logs: what came on each topic, in the order in which it came, for subscribers to read at their own pace.
//!
//! A log's items are counted from 0 (their places). A bundle is kept once, as it came, and split into messages when it is
//! read. A log is bounded by age, by bytes and by the node's whole budget; a reader that falls behind what is left is told
//! the places it lost. The core's task writes, subscriptions read; neither waits for the other longer than a copy takes.

mod cursor;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use weft_core::output::Delivered;
use weft_core::{TopicBundle, TopicName};
use weft_identity::PeerId;
use weft_overlay::{Bundle, UnixMicros};
use weft_rpc::Start;

pub use cursor::CursorError;
pub(crate) use cursor::LogId;

use crate::handle::{Delivery, Item};

/// How long arrivals are kept: as long as history.
const AGE_MAX: Duration = Duration::from_secs(300);
/// Bytes of one topic's log: as history.
const TOPIC_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all logs of a node: as history.
const NODE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What an entry costs beside what it holds.
const ENTRY_BYTES: usize = size_of::<Entry>();

/// All arrival logs of a node; owned by the core's task.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Whose logs they are.
    daemon: PeerId,
    /// What the next log is told from earlier ones by: the run's epoch, then one more each.
    next_life: u64,
    logs: BTreeMap<TopicName, Arc<Log>>,
    bytes: usize,
    /// Topics that got something since their readers were last woken.
    fresh: Vec<Arc<Log>>,
}

impl Arrivals {
    /// Makes the logs of a daemon's run. Epochs are milliseconds or more apart, and no run makes logs as fast as that.
    pub(crate) fn new(daemon: PeerId, epoch: u64) -> Self {
        Self {
            daemon,
            next_life: epoch,
            logs: BTreeMap::new(),
            bytes: 0,
            fresh: Vec::new(),
        }
    }

    /// Returns a topic's log; begins one where there is none.
    pub(crate) fn log(&mut self, topic: &TopicName) -> Arc<Log> {
        if let Some(log) = self.logs.get(topic) {
            return log.clone();
        }
        let log = Arc::new(Log::new(LogId::new(self.daemon, topic, self.next_life)));
        self.next_life += 1;
        self.logs.insert(topic.clone(), log.clone());
        log
    }

    /// Returns a topic's log; none where there is none.
    pub(crate) fn existing(&self, topic: &TopicName) -> Option<Arc<Log>> {
        self.logs.get(topic).cloned()
    }

    /// Appends what came; call [`Arrivals::wake`] when the batch is over.
    pub(crate) fn push(&mut self, topic: &TopicName, item: Delivered, now: Instant) {
        let Some(log) = self.logs.get(topic) else {
            // Nobody has subscribed since the log was dropped.
            return;
        };
        let (before, after, was_idle) = log.push(item, now);
        self.bytes = self.bytes - before + after;
        if was_idle {
            self.fresh.push(log.clone());
        }
        while self.bytes > NODE_BYTES_MAX && self.shorten_largest() {}
    }

    /// Wakes the readers of what was pushed.
    pub(crate) fn wake(&mut self) {
        for log in self.fresh.drain(..) {
            log.ring().is_fresh = false;
            log.arrived.notify_waiters();
        }
    }

    /// Drops what is too old, and logs that nobody reads and that hold nothing.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.logs.retain(|_, log| {
            let mut ring = log.ring();
            let before = ring.bytes;
            ring.expire(now);
            self.bytes -= before - ring.bytes;
            // One reference is this map's; the lock keeps no reader from coming, but readers are made by this task.
            !(ring.entries.is_empty() && Arc::strong_count(log) == 1)
        });
    }

    /// Ends every log: readers get what is left, then the end.
    pub(crate) fn close(&mut self) {
        for log in std::mem::take(&mut self.logs).into_values() {
            log.ring().is_closed = true;
            log.arrived.notify_waiters();
        }
    }

    fn shorten_largest(&mut self) -> bool {
        let largest = self.logs.values().max_by_key(|log| log.ring().bytes);
        let Some(freed) = largest.map(|log| log.ring().drop_oldest()) else {
            return false;
        };
        self.bytes -= freed;
        freed > 0
    }
}

/// One topic's arrivals.
#[derive(Debug)]
pub(crate) struct Log {
    id: LogId,
    ring: Mutex<Ring>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The place that the next item gets.
    next: u64,
    is_fresh: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    /// The place of its first item.
    place: u64,
    items: u64,
    bytes: usize,
    at: Instant,
    /// The same by the wall clock: that of the latest before it where the item has none.
    unix: UnixMicros,
    what: Delivered,
}

/// What a read came to.
#[derive(Debug)]
pub(crate) enum Read {
    /// Items, and the place after them.
    Items(Vec<Item>, u64),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

impl Log {
    fn new(id: LogId) -> Self {
        Self {
            id,
            ring: Mutex::default(),
            arrived: Notify::default(),
        }
    }

    /// Returns what tells it from others, and writes cursors.
    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    /// Returns the place after the last item.
    pub(crate) fn end(&self) -> u64 {
        self.ring().next
    }

    /// Returns the place to begin at.
    pub(crate) fn place(&self, start: &Start) -> Result<u64, CursorError> {
        let ring = self.ring();
        let oldest = ring.oldest();
        Ok(match start {
            Start::Latest => ring.next,
            Start::Earliest => oldest,
            Start::Last(items) => ring.next.saturating_sub(*items).max(oldest),
            Start::Since(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                let since = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
                let first = ring.entries.partition_point(|entry| entry.unix.0 < since);
                ring.entries
                    .get(first)
                    .map_or(ring.next, |entry| entry.place)
            }
            // A cursor of a place that is not there yet was never given out.
            Start::After(cursor) => match self.id.place(cursor)? {
                place if place < ring.next => place + 1,
                _ => return Err(CursorError::Malformed),
            },
        })
    }

    /// Resolves when something has come since the future was made and enabled.
    pub(crate) fn arrived(&self) -> tokio::sync::futures::Notified<'_> {
        self.arrived.notified()
    }

    /// Reads from a place: at most `items_max` items with at most about `bytes_max` of payload, but at least one.
    pub(crate) fn read(&self, place: u64, items_max: usize, bytes_max: usize) -> Read {
        let ring = self.ring();
        let oldest = ring.oldest();
        if place < oldest {
            let gap = Item::SlowReader {
                from: place,
                to: oldest - 1,
            };
            return Read::Items(vec![gap], oldest);
        }
        if place >= ring.next {
            return if ring.is_closed {
                Read::End
            } else {
                Read::Nothing
            };
        }
        let (mut items, mut bytes, mut at) = (Vec::new(), 0, place);
        let first = ring
            .entries
            .partition_point(|entry| entry.place + entry.items <= place);
        'entries: for entry in ring.entries.range(first..) {
            let skipped = (at - entry.place) as usize;
            for item in entry.what.items(entry.place).skip(skipped) {
                let size = item.bytes();
                if !items.is_empty() && (items.len() >= items_max || bytes + size > bytes_max) {
                    break 'entries;
                }
                bytes += size;
                at += 1;
                items.push(item);
            }
        }
        Read::Items(items, at)
    }

    /// Appends; returns the bytes before and after, and whether nothing fresh was waiting for a wake.
    fn push(&self, what: Delivered, now: Instant) -> (usize, usize, bool) {
        let mut ring = self.ring();
        let before = ring.bytes;
        let items = what.count();
        if items > 0 {
            let bytes = ENTRY_BYTES + what.bytes();
            let place = ring.next;
            let latest = ring.entries.back().map(|entry| entry.unix);
            let unix = what.received_at().or(latest).unwrap_or(UnixMicros(0));
            ring.next += items;
            ring.bytes += bytes;
            ring.entries.push_back(Entry {
                place,
                items,
                bytes,
                at: now,
                unix: latest.map_or(unix, |latest| latest.max(unix)),
                what,
            });
            while ring.bytes > TOPIC_BYTES_MAX && ring.entries.len() > 1 {
                ring.drop_oldest();
            }
        }
        let was_idle = !std::mem::replace(&mut ring.is_fresh, true);
        (before, ring.bytes, was_idle)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Returns the first place that is still there.
    fn oldest(&self) -> u64 {
        self.entries.front().map_or(self.next, |entry| entry.place)
    }

    /// Drops the oldest entry; returns its bytes.
    fn drop_oldest(&mut self) -> usize {
        let freed = self.entries.pop_front().map_or(0, |entry| entry.bytes);
        self.bytes -= freed;
        freed
    }

    fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.entries.front() {
            if now.saturating_duration_since(oldest.at) < AGE_MAX {
                return;
            }
            self.drop_oldest();
        }
    }
}

/// How the log sees what was delivered.
trait Items {
    fn count(&self) -> u64;
    fn bytes(&self) -> usize;
    /// Returns when it came, where it says so.
    fn received_at(&self) -> Option<UnixMicros>;
    /// Returns its items, the first of which stands at `place`.
    fn items(&self, place: u64) -> impl Iterator<Item = Item>;
}

impl Items for Delivered {
    fn count(&self) -> u64 {
        match self {
            Self::Bundle { bundle, from, .. } => due(bundle, *from).count() as u64,
            Self::Gap { .. } => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Bundle { bundle, .. } => bundle.cost_bytes(),
            Self::Gap { .. } => 0,
        }
    }

    fn received_at(&self) -> Option<UnixMicros> {
        match self {
            Self::Bundle { received_at, .. } => Some(*received_at),
            Self::Gap { .. } => None,
        }
    }

    fn items(&self, place: u64) -> impl Iterator<Item = Item> {
        let (messages, gap) = match self {
            Self::Bundle {
                bundle,
                from,
                hops,
                received_at,
            } => {
                let stream = bundle.header().stream;
                let published_at = system_time(bundle.published_at());
                let received_at = system_time(*received_at);
                let hops = u32::from(*hops);
                let due = (place..).zip(due(bundle, *from));
                let messages = due.map(move |(place, (seq, data))| {
                    Item::Message(Delivery {
                        publisher: stream.publisher,
                        epoch: stream.epoch,
                        seq,
                        hops,
                        place,
                        published_at,
                        received_at,
                        data: data.clone(),
                        attributes: bundle.attributes(seq).cloned().unwrap_or_default(),
                    })
                });
                (Some(messages), None)
            }
            Self::Gap {
                publisher,
                epoch,
                from,
                to,
            } => {
                let lost = Item::Lost {
                    publisher: *publisher,
                    epoch: *epoch,
                    from: *from,
                    to: *to,
                };
                (None, Some(lost))
            }
        };
        messages.into_iter().flatten().chain(gap)
    }
}

/// The messages that are not older than where the node began.
fn due(bundle: &TopicBundle, from: u64) -> impl Iterator<Item = (u64, &bytes::Bytes)> {
    bundle.messages().skip_while(move |&(seq, _)| seq < from)
}

fn system_time(unix: UnixMicros) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_micros(unix.0))
        .unwrap_or(UNIX_EPOCH)
}

impl Item {
    /// Returns the bytes of a message's payload and of what is said of it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Message(delivery) => delivery.data.len() + delivery.attributes.bytes(),
            Self::Lost { .. } | Self::SlowReader { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::PeerId;

    use super::*;

    const PUBLISHER: PeerId = PeerId::from_bytes([1; 32]);

    fn gap(n: u64) -> Delivered {
        Delivered::Gap {
            publisher: PUBLISHER,
            epoch: 1,
            from: n,
            to: n,
        }
    }

    fn arrivals() -> (Arrivals, TopicName, Arc<Log>) {
        let mut arrivals = Arrivals::new(PUBLISHER, 1);
        let topic: TopicName = "logs".parse().unwrap();
        let log = arrivals.log(&topic);
        (arrivals, topic, log)
    }

    fn places(read: Read) -> (usize, u64) {
        match read {
            Read::Items(items, place) => (items.len(), place),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn readers_go_on_where_they_stopped() {
        let (mut arrivals, topic, log) = arrivals();
        assert!(matches!(log.read(0, 10, 10), Read::Nothing));
        for n in 0..5 {
            arrivals.push(&topic, gap(n), Instant::now());
        }
        assert_eq!(places(log.read(0, 3, 1_000)), (3, 3));
        assert_eq!(places(log.read(3, 3, 1_000)), (2, 5));
        assert_eq!(log.end(), 5);
        arrivals.close();
        assert_eq!(places(log.read(4, 3, 0)), (1, 5));
        assert!(matches!(log.read(5, 10, 10), Read::End));
    }

    #[test]
    fn a_reader_that_fell_behind_is_told_what_it_lost() {
        let (mut arrivals, topic, log) = arrivals();
        let now = Instant::now();
        for n in 0..4 {
            arrivals.push(&topic, gap(n), now);
        }
        arrivals.push(&topic, gap(4), now + AGE_MAX);
        arrivals.expire(now + AGE_MAX);
        let Read::Items(items, 4) = log.read(1, 10, 10) else {
            panic!("no gap");
        };
        assert!(matches!(items[..], [Item::SlowReader { from: 1, to: 3 }]));
        assert_eq!(places(log.read(4, 10, 10)), (1, 5));
        assert_eq!(arrivals.bytes, log.ring().bytes);
    }

    #[test]
    fn bundles_are_split_when_read_and_a_topic_is_bounded_in_bytes() {
        let (mut arrivals, topic, log) = arrivals();
        let keypair = weft_identity::Keypair::from_seed(&[2; 32]);
        let data = (0u8..4).map(|n| bytes::Bytes::from(vec![n; 10_000]));
        let messages: Vec<weft_core::Message> = data.map(Into::into).collect();
        let bundle = TopicBundle::publish(
            &keypair,
            topic.id("test"),
            weft_core::bundle::Place {
                epoch: 1,
                first: 1,
                predecessor: None,
                previous_epoch: None,
                published_at: UnixMicros(5),
            },
            &messages,
        );
        let push = |arrivals: &mut Arrivals, from| {
            let item = Delivered::Bundle {
                bundle: bundle.clone(),
                from,
                hops: 2,
                received_at: UnixMicros(6),
            };
            arrivals.push(&topic, item, Instant::now());
        };
        push(&mut arrivals, 3);
        assert_eq!(log.end(), 2, "two of the four are due");
        assert_eq!(places(log.read(0, 10, 15_000)), (1, 1));
        let Read::Items(items, 2) = log.read(1, 10, 0) else {
            panic!("nothing");
        };
        assert!(
            matches!(&items[..], [Item::Message(m)] if m.seq == 4 && m.hops == 2 && m.data[0] == 3)
        );
        for _ in 0..1_000 {
            push(&mut arrivals, 1);
        }
        assert!(arrivals.bytes <= TOPIC_BYTES_MAX && arrivals.bytes > TOPIC_BYTES_MAX / 2);
        assert!(
            matches!(log.read(0, 1, 1), Read::Items(items, _) if matches!(items[..], [Item::SlowReader { from: 0, .. }]))
        );
    }

    #[test]
    fn readers_begin_where_they_want() {
        let (mut arrivals, topic, log) = arrivals();
        let bundle = |at: u64| {
            let keypair = weft_identity::Keypair::from_seed(&[2; 32]);
            let place = weft_core::bundle::Place {
                epoch: 1,
                first: 1,
                predecessor: None,
                previous_epoch: None,
                published_at: UnixMicros(5),
            };
            let messages = [&b"a"[..], b"b"].map(|data| bytes::Bytes::from_static(data).into());
            Delivered::Bundle {
                bundle: TopicBundle::publish(&keypair, topic.id("test"), place, &messages),
                from: 1,
                hops: 0,
                received_at: UnixMicros(at),
            }
        };
        let now = Instant::now();
        arrivals.push(&topic, bundle(100), now);
        arrivals.push(&topic, gap(9), now + AGE_MAX);
        // A clock that was set back doesn't put what came later before what came earlier.
        arrivals.push(&topic, bundle(50), now + AGE_MAX);
        arrivals.push(&topic, bundle(200), now + AGE_MAX);
        let since = |micros| Start::Since(UNIX_EPOCH + Duration::from_micros(micros));
        for (start, place) in [
            (Start::Latest, 7),
            (Start::Earliest, 0),
            (Start::Last(3), 4),
            (Start::Last(99), 0),
            (since(0), 0),
            (since(100), 0),
            (since(101), 5),
            (since(201), 7),
            (Start::After(log.id().cursor(4)), 5),
        ] {
            assert_eq!(log.place(&start), Ok(place), "{start}");
        }
        let unborn = Start::After(log.id().cursor(7));
        assert_eq!(log.place(&unborn), Err(CursorError::Malformed));
        arrivals.expire(now + AGE_MAX);
        assert_eq!(log.place(&Start::Earliest), Ok(2));
        let expired = log.place(&Start::After(log.id().cursor(0)));
        assert_eq!(expired, Ok(1), "it is told what it lost");
        let other = arrivals.log(&"other".parse().unwrap());
        let of_other = Start::After(other.id().cursor(0));
        assert_eq!(log.place(&of_other), Err(CursorError::OtherTopic));
    }

    #[test]
    fn an_idle_log_without_readers_goes() {
        let (mut arrivals, topic, log) = arrivals();
        let now = Instant::now();
        arrivals.push(&topic, gap(0), now);
        drop(log);
        arrivals.wake();
        arrivals.expire(now);
        assert_eq!(arrivals.logs.len(), 1);
        arrivals.expire(now + AGE_MAX);
        assert_eq!((arrivals.logs.len(), arrivals.bytes), (0, 0));
    }
}
