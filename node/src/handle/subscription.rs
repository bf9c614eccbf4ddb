//! Subscriptions: readers of a topic's arrival log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use weft_core::{Attributes, TopicName};
use weft_identity::PeerId;
use weft_overlay::StreamId;
use weft_rpc::Start;

use crate::actor::Gone;
use crate::arrivals::{CursorError, Log, LogId, Read};
use crate::consumers::{Claim, Confirmer};
use crate::handle::HistoryError;

/// Clocks that are kept agree better than this. What was published no longer than that before a reader began counts as new: better
/// a message of the last second that was on its way than one that another's word hides.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

/// How long a reader of history waits for what others have. A guess: a fetch and the half second after which runs that were killed are
/// left take less, and whoever only says that it has something holds nobody up for longer.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of what arrives meanwhile that are looked at together.
const NOTED_BYTES: usize = 1 << 20;

/// What a subscriber gets.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message, next in its publisher's order.
    Message(Delivery),
    /// Messages that will not come: nobody has them.
    Lost {
        /// Whose.
        publisher: PeerId,
        /// Of which epoch.
        epoch: u64,
        /// The first seq that is missing.
        from: u64,
        /// The last seq that is missing.
        to: u64,
    },
    /// Items that were dropped before this reader read them.
    SlowReader {
        /// The first place of the arrival log that was lost.
        from: u64,
        /// The last place that was lost.
        to: u64,
    },
}

impl Item {
    /// Returns of which stream it is, and up to which seq nothing more is to come of it.
    fn settles(&self) -> Option<(StreamId<PeerId>, u64)> {
        let (publisher, epoch, last) = match *self {
            Self::Message(ref message) => (message.publisher, message.epoch, message.seq),
            Self::Lost {
                publisher,
                epoch,
                to,
                ..
            } => (publisher, epoch, to),
            Self::SlowReader { .. } => return None,
        };
        Some((StreamId { publisher, epoch }, last))
    }
}

/// A delivered message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Who published it.
    pub publisher: PeerId,
    /// The publisher's epoch.
    pub epoch: u64,
    /// Its number in the epoch, from 1.
    pub seq: u64,
    /// Links it travelled; 0 on the publishing node.
    pub hops: u32,
    /// Its place in this node's arrival log of the topic.
    pub place: u64,
    /// When it was published, by the publisher's clock.
    pub published_at: SystemTime,
    /// When it came to this node.
    pub received_at: SystemTime,
    /// The payload.
    pub data: Bytes,
    /// What its publisher says of it.
    pub attributes: Attributes,
}

/// A reader of a topic's arrival log; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    topic: TopicName,
    log: Arc<Log>,
    place: u64,
    neighbours: usize,
    /// The last seq of each stream that others had more of than this node when the reader began, and where the log ended then.
    heads: BTreeMap<StreamId<PeerId>, u64>,
    end: u64,
    /// Since when what was published is wanted, for a reader that wants only what is new: up to the heads nothing else is.
    since: Option<SystemTime>,
    /// The name that it has, if it has one.
    claim: Option<Arc<Claim>>,
    gone: mpsc::UnboundedSender<Gone>,
}

impl Subscription {
    pub(crate) fn new(
        topic: TopicName,
        log: Arc<Log>,
        neighbours: usize,
        gone: mpsc::UnboundedSender<Gone>,
    ) -> Self {
        let place = log.end();
        Self {
            topic,
            log,
            place,
            neighbours,
            heads: BTreeMap::new(),
            end: place,
            since: None,
            claim: None,
            gone,
        }
    }

    /// Goes where a reader wants to begin. One that wants only what is new passes over what was published before and comes
    /// late, up to the heads of the streams that it is of.
    pub(crate) fn begin_at(
        mut self,
        start: &Start,
        heads: Vec<(StreamId<PeerId>, u64)>,
    ) -> Result<Self, CursorError> {
        self.place = self.log.place(start)?;
        self.heads = heads.into_iter().collect();
        if *start == Start::Latest {
            let since = SystemTime::now().checked_sub(CLOCKS_AGREE);
            self.since = Some(since.unwrap_or(UNIX_EPOCH));
        }
        Ok(self)
    }

    /// Gives it a consumer's name, which it has for as long as it is there.
    pub(crate) fn named(mut self, claim: Claim) -> Self {
        self.claim = Some(Arc::new(claim));
        self
    }

    /// Returns what confirms what was handled; none where it has no name. While there is one, nobody else gets the name.
    pub fn confirmer(&self) -> Option<Confirmer> {
        let claim = self.claim.clone()?;
        Some(Confirmer::new(claim, self.log.clone()))
    }

    /// Returns the cursor of the item at a place: [`Start::After`] it goes on with the next.
    pub fn cursor(&self, place: u64) -> String {
        self.log.id().cursor(place)
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log.id()
    }

    /// Returns the place of the next item in the topic's arrival log.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// Returns how many neighbours the node had in the topic's swarm when it subscribed.
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    /// Waits until what others had when the reader began is here, or told as lost.
    async fn catch_up(&self) {
        let (mut lacking, mut place) = (self.heads.clone(), self.end);
        while !lacking.is_empty() {
            let mut arrived = std::pin::pin!(self.log.arrived());
            arrived.as_mut().enable();
            match self.log.read(place, usize::MAX, NOTED_BYTES) {
                Read::Items(items, next) => {
                    place = next;
                    for (id, last) in items.iter().filter_map(Item::settles) {
                        if lacking.get(&id).is_some_and(|head| *head <= last) {
                            lacking.remove(&id);
                        }
                    }
                }
                Read::End => return,
                Read::Nothing => arrived.await,
            }
        }
    }

    /// Reads what is there, and for a moment waits for what is still to come of what others have.
    pub(crate) async fn history(
        &self,
        start: &Start,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<History, HistoryError> {
        // Others' word is not waited for any longer.
        let _ = timeout(CATCHES_UP_WITHIN, self.catch_up()).await;
        let history = History::read(&self.log, start, items_max, bytes_max)?;
        if history.items.is_empty() && self.log.is_empty() {
            return Err(HistoryError::None);
        }
        Ok(history)
    }

    /// Waits for items; returns at most `items_max` of them with at most about `bytes_max` of payload (at least one item),
    /// and the place after the last. None when the node stops. Dropping the future loses nothing.
    pub async fn next(&mut self, items_max: usize, bytes_max: usize) -> Option<(Vec<Item>, u64)> {
        loop {
            let mut arrived = std::pin::pin!(self.log.arrived());
            // From here on an arrival is noticed, even one between the read and the wait.
            arrived.as_mut().enable();
            match self.log.read(self.place, items_max, bytes_max) {
                Read::Items(mut items, place) => {
                    self.place = place;
                    if let Some(since) = self.since {
                        let heads = &mut self.heads;
                        items.retain(|item| !passes_over(item, heads, since));
                    }
                    if items.is_empty() {
                        continue;
                    }
                    return Some((items, place));
                }
                Read::End => return None,
                Read::Nothing => {}
            }
            arrived.await;
        }
    }
}

/// Weighs an item for a reader that began with others at `heads`; returns whether it is passed over. Where others stand is their word alone:
/// it hides nothing that was published since, and counts no more for a stream of which such a message has come.
fn passes_over(
    item: &Item,
    heads: &mut BTreeMap<StreamId<PeerId>, u64>,
    since: SystemTime,
) -> bool {
    let Some((id, last)) = item.settles() else {
        return false;
    };
    if matches!(item, Item::Message(message) if message.published_at > since) {
        heads.remove(&id);
    }
    heads.get(&id).is_some_and(|head| last <= *head)
}

/// Items of a topic's arrival log.
#[derive(Debug, Clone)]
pub struct History {
    /// The items, in the order in which they came.
    pub items: Vec<Item>,
    /// The place after the last of them.
    pub place: u64,
    log: LogId,
}

impl History {
    /// Reads at most `items_max` items with at most about `bytes_max` of payload.
    pub(crate) fn read(
        log: &Log,
        start: &Start,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Self, CursorError> {
        let begin = log.place(start)?;
        let (items, place) = match log.read(begin, items_max, bytes_max) {
            Read::Items(items, place) => (items, place),
            Read::Nothing | Read::End => (Vec::new(), begin),
        };
        Ok(Self {
            items,
            place,
            log: log.id(),
        })
    }

    /// Returns the cursor of the item at a place.
    pub fn cursor(&self, place: u64) -> String {
        self.log.cursor(place)
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A node that has stopped has no subscriptions any more.
        let _ = self.gone.send(Gone::Unsubscribed(self.topic.clone()));
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use weft_core::Delivered;
    use weft_identity::Keypair;

    use super::*;
    use crate::arrivals::Arrivals;

    const EPOCH: u64 = 7;

    fn publisher() -> PeerId {
        Keypair::from_seed(&[1; 32]).peer_id()
    }

    fn message(seq: u64, published_s: u64) -> Item {
        Item::Message(Delivery {
            publisher: publisher(),
            epoch: EPOCH,
            seq,
            hops: 0,
            place: 0,
            published_at: UNIX_EPOCH + Duration::from_secs(published_s),
            received_at: UNIX_EPOCH + Duration::from_secs(published_s),
            data: Bytes::new(),
            attributes: Attributes::default(),
        })
    }

    fn lost(from: u64, to: u64) -> Item {
        Item::Lost {
            publisher: publisher(),
            epoch: EPOCH,
            from,
            to,
        }
    }

    #[tokio::test]
    async fn history_is_read_once_all_that_others_had_has_come_or_is_told_as_lost() {
        let topic: TopicName = "past".parse().unwrap();
        let mut arrivals = Arrivals::new(publisher());
        arrivals.begin(topic.clone(), 1, 100);
        let (gone, _unsubscribed) = mpsc::unbounded_channel();
        let log = arrivals.log(&topic).unwrap();
        let id = StreamId {
            publisher: publisher(),
            epoch: EPOCH,
        };
        let reader = Subscription::new(topic.clone(), log, 1, gone);
        let reader = reader.begin_at(&Start::Earliest, vec![(id, 3)]).unwrap();
        let mut history = std::pin::pin!(reader.history(&Start::Earliest, 10, 1_000));
        for (place, seqs) in [(100, 1..=2), (101, 3..=3)] {
            assert!(poll!(&mut history).is_pending(), "{seqs:?} are to come");
            let gap = Delivered::Gap {
                publisher: publisher(),
                epoch: EPOCH,
                from: *seqs.start(),
                to: *seqs.end(),
            };
            arrivals.push(&topic, place, gap);
            arrivals.wake();
        }
        assert_eq!(history.await.unwrap().items.len(), 2);
    }

    #[test]
    fn what_was_published_before_a_reader_began_is_passed_over_and_nothing_else() {
        let id = StreamId {
            publisher: publisher(),
            epoch: EPOCH,
        };
        let since = UNIX_EPOCH + Duration::from_secs(100);
        let passed = |head, items: &[Item]| -> Vec<bool> {
            let mut heads = BTreeMap::from([(id, head)]);
            let passed = items
                .iter()
                .map(|item| passes_over(item, &mut heads, since));
            passed.collect()
        };
        let late = [message(1, 90), lost(2, 3), message(4, 95), message(5, 95)];
        assert_eq!(passed(4, &late), [true, true, true, false]);
        // Nobody can know the seq of what isn't published: such a head is false, and hides no gap either.
        let new = [message(1, 90), message(2, 101), lost(3, 4), message(5, 102)];
        assert_eq!(passed(u64::MAX, &new), [true, false, false, false]);
        // A publisher whose clock is behind.
        assert_eq!(passed(2, &[message(3, 50), lost(4, 4)]), [false, false]);
    }
}
