//! Named consumers: where each stands in a topic's arrival log, over restarts of its own and of the daemon.
//!
//! Where one stands is what it has confirmed, not what it was sent: a consumer that dies gets again what it had not confirmed.
//! One subscription has a name at a time, by a [`Claim`]. The table is shared: subscriptions claim and confirm, the core's task
//! writes what has changed, all of it together and no more often than each [`GATHERED_FOR`], unless somebody leaves or begins.
//!
//! The log in which a consumer stands stays, though nothing may be left in it (`Command::KeepLog`): so what was published while
//! nobody was subscribed is owed, however long that was.

mod claim;
mod name;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use weft_core::TopicName;
use weft_overlay::UnixMicros;

use crate::actor::Gone;

pub use claim::{Begin, ConfirmError, Confirmer};
pub(crate) use claim::{BeginsAt, Claim};
pub use name::{ConsumerName, ConsumerNameError};

/// Consumers of a node, over all topics: some 300 bytes each in memory and on disk, and one log that stays.
const CONSUMERS_MAX: usize = 1_024;
/// How long confirmations wait for others, so that any number of consumers costs five syncs a second.
const GATHERED_FOR: Duration = Duration::from_millis(200);
/// How soon what could not be written is tried again.
const RETRIED_AFTER: Duration = Duration::from_secs(1);

/// Which consumer of which topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) topic: TopicName,
    pub(crate) name: ConsumerName,
}

/// Where a consumer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    /// Which of the topic's logs it is.
    pub(crate) life: u64,
    /// The place of the next item.
    pub(crate) place: u64,
    /// When it last confirmed something, by the wall clock.
    pub(crate) confirmed_at: Option<UnixMicros>,
}

/// A change to be written: where a consumer stands, or that there is none of the name any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) stand: Option<Stand>,
}

/// What is known of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: ConsumerName,
    pub(crate) stand: Stand,
    pub(crate) is_connected: bool,
}

/// Why a consumer was not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// There is none of that name.
    #[error("the topic has no consumer of that name")]
    None,
    /// It is subscribed.
    #[error("the consumer is subscribed")]
    Busy,
    /// It is forgotten, but the disk has not taken that: it may be there again after a restart.
    #[error("the consumer is forgotten, but the disk has not taken that yet")]
    NotWritten,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// All consumers of a node.
#[derive(Debug)]
pub(crate) struct Consumers {
    table: Mutex<Table>,
    /// Wakes the core's task: something is to be written.
    changed: Notify,
    /// Wakes whoever waits for a name.
    freed: Notify,
    written: watch::Sender<Written>,
    /// Tells the core's task that a topic may have no consumer any more.
    gone: mpsc::UnboundedSender<Gone>,
}

#[derive(Debug, Default)]
struct Table {
    consumers: BTreeMap<Key, Consumer>,
    dirty: BTreeSet<Key>,
    /// When something last changed.
    changed_at: Option<Instant>,
    /// Numbers each change.
    changes: u64,
    /// One write, and the last one where the node stops meanwhile.
    under_way: VecDeque<UnderWay>,
    last_write: Option<Instant>,
    /// Whether somebody should not wait for others.
    is_urgent: bool,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct UnderWay {
    upto: u64,
    keys: BTreeSet<Key>,
}

/// A consumer; one that was never placed is being begun, and isn't told of.
#[derive(Debug, Default)]
struct Consumer {
    stand: Option<Stand>,
    is_connected: bool,
}

/// How far changes are on disk.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    upto: u64,
    /// Up to where an attempt to write has failed last.
    failed: u64,
    is_over: bool,
}

/// Why a change isn't known to be on disk; it is in memory, and is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    Disk,
    Stopped,
}

impl Consumers {
    /// Makes the table of those that the disk had.
    pub(crate) fn new(restored: Vec<(Key, Stand)>, gone: mpsc::UnboundedSender<Gone>) -> Self {
        let stands = restored.into_iter().map(|(key, stand)| {
            let stand = Some(stand);
            let consumer = Consumer {
                stand,
                is_connected: false,
            };
            (key, consumer)
        });
        let table = Table {
            consumers: stands.collect(),
            ..Table::default()
        };
        Self {
            table: Mutex::new(table),
            changed: Notify::new(),
            freed: Notify::new(),
            written: watch::Sender::new(Written::default()),
            gone,
        }
    }

    /// Returns the consumers of a topic by name.
    pub(crate) fn of(&self, topic: &TopicName) -> Vec<Known> {
        let table = self.table();
        let of = table
            .consumers
            .iter()
            .filter(|(key, _)| key.topic == *topic);
        let known = of.filter_map(|(key, consumer)| {
            Some(Known {
                name: key.name.clone(),
                stand: consumer.stand?,
                is_connected: consumer.is_connected,
            })
        });
        known.collect()
    }

    /// Returns whether a topic has consumers, one that is being begun included.
    pub(crate) fn has_any(&self, topic: &TopicName) -> bool {
        let table = self.table();
        table.consumers.keys().any(|key| key.topic == *topic)
    }

    /// Removes a consumer; resolves once it is gone from disk too.
    pub(crate) async fn forget(&self, key: Key) -> Result<(), ForgetError> {
        let ticket = {
            let mut table = self.table();
            let consumer = table.consumers.get(&key).ok_or(ForgetError::None)?;
            if consumer.is_connected {
                return Err(ForgetError::Busy);
            }
            table.consumers.remove(&key);
            table.changed(key.clone(), true)
        };
        self.changed.notify_one();
        // A node that has stopped keeps nothing.
        let _ = self.gone.send(Gone::Consumer(key.topic));
        self.written(ticket).await.map_err(|error| match error {
            Unwritten::Disk => ForgetError::NotWritten,
            Unwritten::Stopped => ForgetError::Stopped,
        })
    }

    // For the core's task, which writes.

    /// Resolves when something may be due to be written.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns when something is to be written.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.table().due()
    }

    /// Returns what is to be written now; [`Consumers::wrote`] tells what came of it. None where nothing is due.
    pub(crate) fn take_due(&self, now: Instant) -> Option<Vec<Change>> {
        let mut table = self.table();
        table.due().filter(|due| *due <= now)?;
        table.last_write = Some(now);
        Some(table.take())
    }

    /// Returns what is left to be written, whatever is under way: the node stops.
    pub(crate) fn take_last(&self) -> Vec<Change> {
        self.table().take()
    }

    /// A write has ended.
    pub(crate) fn wrote(&self, is_written: bool) {
        let mut table = self.table();
        let Some(UnderWay { upto, keys }) = table.under_way.pop_front() else {
            return;
        };
        if is_written {
            table.not_before = None;
        } else {
            table.dirty.extend(keys);
            table.not_before = Some(Instant::now() + RETRIED_AFTER);
        }
        drop(table);
        self.written.send_modify(|written| match is_written {
            true => written.upto = upto,
            false => written.failed = upto,
        });
    }

    /// Nothing is written any more: whoever waits hears so.
    pub(crate) fn close(&self) {
        self.written.send_modify(|written| written.is_over = true);
    }

    /// Resolves once a change is on disk.
    async fn written(&self, ticket: u64) -> Result<(), Unwritten> {
        let mut outcome = self.written.subscribe();
        let is_known = |it: &Written| it.upto >= ticket || it.failed >= ticket || it.is_over;
        let Ok(outcome) = outcome.wait_for(is_known).await else {
            return Err(Unwritten::Stopped);
        };
        match *outcome {
            Written { upto, .. } if upto >= ticket => Ok(()),
            Written { failed, .. } if failed >= ticket => Err(Unwritten::Disk),
            _ => Err(Unwritten::Stopped),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change is whole before the lock is given back.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Notes that a consumer's entry has to be written; returns the change's number.
    fn changed(&mut self, key: Key, is_urgent: bool) -> u64 {
        self.changes += 1;
        self.changed_at = Some(Instant::now());
        self.dirty.insert(key);
        self.is_urgent |= is_urgent;
        self.changes
    }

    /// Returns whether a consumer's entry is not on disk as it is here.
    fn is_unwritten(&self, key: &Key) -> bool {
        let mut under_way = self.under_way.iter();
        self.dirty.contains(key) || under_way.any(|it| it.keys.contains(key))
    }

    fn due(&self) -> Option<Instant> {
        if self.dirty.is_empty() || !self.under_way.is_empty() {
            return None;
        }
        let gathered = self.last_write.filter(|_| !self.is_urgent);
        let gathered = gathered.map(|last| last + GATHERED_FOR);
        gathered.max(self.not_before).or(self.changed_at)
    }

    fn take(&mut self) -> Vec<Change> {
        let keys = std::mem::take(&mut self.dirty);
        self.is_urgent = false;
        let stand = |key: &Key| self.consumers.get(key).and_then(|it| it.stand);
        let changes = keys.iter().map(|key| Change {
            key: key.clone(),
            stand: stand(key),
        });
        let changes = changes.collect();
        let upto = self.changes;
        self.under_way.push_back(UnderWay { upto, keys });
        changes
    }
}
