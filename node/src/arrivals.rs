//! Arrival logs: what came on each topic, in the order in which it came, for subscribers to read at their own pace.
//!
//! The core gives each item its place, and says when a log begins, what goes in front, what is dropped and when it ends: how
//! long arrivals are kept is the core's rule alone, as that of history and disk. A bundle is kept once, as it came, and split
//! into messages when it is read; its bytes are those that history holds. A reader that falls behind what is left is told the
//! places it lost. The core's task writes, subscriptions read; neither waits for the other longer than a copy takes.

mod cursor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use weft_core::output::Delivered;
use weft_core::{TopicBundle, TopicName};
use weft_identity::PeerId;
use weft_overlay::{Bundle, UnixMicros};
use weft_rpc::Start;
use weft_rpc::types::TopicLog;

pub use cursor::CursorError;
pub(crate) use cursor::LogId;

use crate::handle::{Delivery, Item};

/// All arrival logs of a node; owned by the core's task.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Whose logs they are.
    daemon: PeerId,
    logs: BTreeMap<TopicName, Arc<Log>>,
    /// Topics that got something since their readers were last woken.
    fresh: Vec<Arc<Log>>,
}

impl Arrivals {
    /// Makes the logs of a daemon, of which it has none.
    pub(crate) fn new(daemon: PeerId) -> Self {
        Self {
            daemon,
            logs: BTreeMap::new(),
            fresh: Vec::new(),
        }
    }

    /// A topic's log begins, or begins again: what comes gets this place at the earliest, and what was there before stands below.
    pub(crate) fn begin(&mut self, topic: TopicName, life: u64, place: u64) {
        let log = Log::new(LogId::new(self.daemon, &topic, life), place);
        self.logs.insert(topic, Arc::new(log));
    }

    /// Returns a topic's log; none where there is none.
    pub(crate) fn log(&self, topic: &TopicName) -> Option<Arc<Log>> {
        self.logs.get(topic).cloned()
    }

    /// Appends what came; call [`Arrivals::wake`] when the batch is over.
    pub(crate) fn push(&mut self, topic: &TopicName, place: u64, item: Delivered) {
        let Some(log) = self.logs.get(topic) else {
            return;
        };
        if log.push(place, item) {
            self.fresh.push(log.clone());
        }
    }

    /// Puts what came before all else in front.
    pub(crate) fn put_in_front(&mut self, topic: &TopicName, place: u64, items: Vec<Delivered>) {
        if let Some(log) = self.logs.get(topic) {
            log.put_in_front(place, items);
        }
    }

    /// Drops what stood below a place.
    pub(crate) fn trim(&mut self, topic: &TopicName, below: u64) {
        if let Some(log) = self.logs.get(topic) {
            log.trim(below);
        }
    }

    /// Drops what stood at some places, between others.
    pub(crate) fn lose(&mut self, topic: &TopicName, places: &[Range<u64>]) {
        if let Some(log) = self.logs.get(topic) {
            log.lose(places);
        }
    }

    /// Wakes the readers of what was pushed.
    pub(crate) fn wake(&mut self) {
        for log in self.fresh.drain(..) {
            log.ring().is_fresh = false;
            log.arrived.notify_waiters();
        }
    }

    /// Ends a topic's log: readers get what is left, then the end.
    pub(crate) fn end(&mut self, topic: &TopicName) {
        if let Some(log) = self.logs.remove(topic) {
            log.close();
        }
    }

    /// Ends every log.
    pub(crate) fn close(&mut self) {
        for log in std::mem::take(&mut self.logs).into_values() {
            log.close();
        }
    }
}

/// One topic's arrivals.
#[derive(Debug)]
pub(crate) struct Log {
    id: LogId,
    ring: Mutex<Ring>,
    arrived: Notify,
}

#[derive(Debug)]
struct Ring {
    entries: VecDeque<Entry>,
    /// How many items they have together.
    items: u64,
    /// The place after the last item; the next one's is no lower.
    next: u64,
    /// The place after the last item that was dropped. It may be lower than the oldest there is: each run leaves places out.
    dropped: u64,
    is_fresh: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    /// The place of its first item.
    place: u64,
    items: u64,
    /// When it came, by the wall clock: that of the latest before it where the item has none.
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
    fn new(id: LogId, place: u64) -> Self {
        Self {
            id,
            ring: Mutex::new(Ring {
                entries: VecDeque::new(),
                items: 0,
                next: place,
                dropped: 0,
                is_fresh: false,
                is_closed: false,
            }),
            arrived: Notify::default(),
        }
    }

    /// Returns what tells it from others, and writes cursors.
    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    /// Returns whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring().entries.is_empty()
    }

    /// Returns the place after the last item.
    pub(crate) fn end(&self) -> u64 {
        self.ring().next
    }

    /// Returns where it begins and ends, and how many items it has.
    pub(crate) fn extent(&self) -> TopicLog {
        let ring = self.ring();
        TopicLog {
            first: ring.oldest(),
            next: ring.next,
            items: ring.items,
        }
    }

    /// Returns how many messages stand at a place and after it.
    pub(crate) fn messages_from(&self, place: u64) -> u64 {
        let ring = self.ring();
        let first = ring.first_past(place);
        let of_entry = |entry: &Entry| match entry.what {
            Delivered::Bundle { .. } => entry.items - place.saturating_sub(entry.place),
            Delivered::Gap { .. } | Delivered::Missed { .. } => 0,
        };
        ring.entries.range(first..).map(of_entry).sum()
    }

    /// Returns the place to begin at.
    pub(crate) fn place(&self, start: &Start) -> Result<u64, CursorError> {
        let ring = self.ring();
        let oldest = ring.oldest();
        Ok(match start {
            Start::Latest => ring.next,
            Start::Earliest => oldest,
            Start::Last(items) => ring.last(*items),
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
        let upto = ring.dropped.min(ring.oldest());
        if place < upto {
            let gap = Item::SlowReader {
                from: place,
                to: upto - 1,
            };
            return Read::Items(vec![gap], upto);
        }
        let (mut items, mut bytes, mut at) = (Vec::new(), 0, place);
        let first = ring.first_past(place);
        'entries: for entry in ring.entries.range(first..) {
            at = at.max(entry.place);
            if let Delivered::Missed { .. } = entry.what {
                if items.len() >= items_max {
                    break;
                }
                let end = entry.place + entry.items;
                items.push(Item::SlowReader {
                    from: at,
                    to: end - 1,
                });
                at = end;
                continue;
            }
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
        // A log that an earlier run had goes on at a later place: before something has come there, there is nothing past its end.
        match (items.is_empty(), ring.is_closed) {
            (false, _) => Read::Items(items, at),
            (true, false) => Read::Nothing,
            (true, true) => Read::End,
        }
    }

    /// Appends; returns whether nothing fresh was waiting for a wake.
    fn push(&self, place: u64, what: Delivered) -> bool {
        let mut ring = self.ring();
        let items = what.count();
        let latest = ring.entries.back().map(|entry| entry.unix);
        let unix = what.received_at().or(latest).unwrap_or(UnixMicros(0));
        ring.next = ring.next.max(place + items);
        ring.items += items;
        ring.entries.push_back(Entry {
            place,
            items,
            unix: latest.map_or(unix, |latest| latest.max(unix)),
            what,
        });
        !std::mem::replace(&mut ring.is_fresh, true)
    }

    fn put_in_front(&self, place: u64, items: Vec<Delivered>) {
        let mut ring = self.ring();
        let first = ring.entries.front().map(|entry| entry.unix);
        let mut place = place + items.iter().map(Items::count).sum::<u64>();
        for what in items.into_iter().rev() {
            let items = what.count();
            place -= items;
            ring.items += items;
            let unix = what.received_at().unwrap_or(UnixMicros(0));
            ring.entries.push_front(Entry {
                place,
                items,
                unix: first.map_or(unix, |first| first.min(unix)),
                what,
            });
        }
    }

    fn trim(&self, below: u64) {
        let mut ring = self.ring();
        let stays = ring.entries.partition_point(|entry| entry.place < below);
        let dropped: u64 = ring.entries.drain(..stays).map(|entry| entry.items).sum();
        ring.items -= dropped;
        ring.dropped = ring.dropped.max(below);
    }

    /// Lets what stands at some places say that it is lost. Those that follow each other become one.
    fn lose(&self, places: &[Range<u64>]) {
        let mut ring = self.ring();
        let mut places = places.iter().peekable();
        let entries = std::mem::take(&mut ring.entries);
        ring.entries.reserve(entries.len());
        for mut entry in entries {
            while places.next_if(|lost| lost.end <= entry.place).is_some() {}
            if places.peek().is_some_and(|lost| lost.start <= entry.place) {
                if let Some(before) = ring.entries.back_mut()
                    && before.is_lost_up_to(entry.place)
                {
                    before.lose(before.items + entry.items);
                    continue;
                }
                entry.lose(entry.items);
            }
            ring.entries.push_back(entry);
        }
    }

    fn close(&self) {
        self.ring().is_closed = true;
        self.arrived.notify_waiters();
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn lose(&mut self, places: u64) {
        self.items = places;
        self.what = Delivered::Missed { places };
    }

    fn is_lost_up_to(&self, place: u64) -> bool {
        let is_lost = matches!(self.what, Delivered::Missed { .. });
        is_lost && self.place + self.items == place
    }
}

impl Ring {
    /// Returns the first place that is still there.
    fn oldest(&self) -> u64 {
        self.entries.front().map_or(self.next, |entry| entry.place)
    }

    /// Returns which entry a reader at a place reads first.
    fn first_past(&self, place: u64) -> usize {
        let is_before = |entry: &Entry| entry.place + entry.items <= place;
        self.entries.partition_point(is_before)
    }

    /// Returns where the last so many items begin.
    fn last(&self, items: u64) -> u64 {
        let mut left = items;
        for entry in self.entries.iter().rev() {
            if left <= entry.items {
                return entry.place + entry.items - left;
            }
            left -= entry.items;
        }
        self.oldest()
    }
}

/// How the log sees what was delivered.
trait Items {
    fn count(&self) -> u64;
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
            Self::Missed { places } => *places,
        }
    }

    fn received_at(&self) -> Option<UnixMicros> {
        match self {
            Self::Bundle { received_at, .. } => Some(*received_at),
            Self::Gap { .. } | Self::Missed { .. } => None,
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
            // Read as one item, wherever in it a reader begins.
            Self::Missed { .. } => (None, None),
        };
        messages.into_iter().flatten().chain(gap)
    }
}

/// The messages that are not older than where the node began.
fn due(bundle: &TopicBundle, from: u64) -> impl Iterator<Item = (u64, &bytes::Bytes)> {
    bundle.messages().skip_while(move |&(seq, _)| seq < from)
}

/// Writes a moment as the system has it.
pub(crate) fn system_time(unix: UnixMicros) -> SystemTime {
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
