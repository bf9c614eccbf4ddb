//! Topics' logs in the node: what goes to disk, and the one rule of how much is kept. The places of what arrives are [`arrivals`]'s.
//!
//! That rule is the history's: what it lets go of, the disk lets go of, and the arrival log ends in front of the oldest
//! arrival that history still has. The shell's arrival log follows by order ([`Output::TrimLog`]).
//!
//! A log goes to disk while the node subscribes to its topic or keeps it, and from then on until the node leaves the topic.
//! Of other topics it is this node's own bundles that do: it alone may have them.

mod arrivals;
mod holes;
mod kept;
mod rest;
mod trim;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weft_dht::store::DiskError;
use weft_identity::PeerId;
use weft_overlay::history::{self, History, Retention};
use weft_overlay::retained::{Change, Extent, Retained};
use weft_overlay::{Bundle, Header, Now, StreamId, Time};

use super::Core;
use arrivals::Arrival;
use holes::Holes;
use kept::Kept;

use super::journal::{Journal, Ticket, Written};
use super::swarms::Entry;
use crate::log::{FIRST_PLACE, LogKey, LogOp, WriteId};
use crate::{Event, Output, TopicBundle, TopicId, TopicName};

/// How much of a topic's history is held where it goes to disk (the design's bounds).
const LOG_RETENTION: Retention = Retention {
    bytes_max: LOG_BYTES_MAX,
    age_max: LOG_AGE_MAX,
};
/// Bytes of a topic's log.
pub(super) const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a topic's log goes back; also how old a bundle may be to enter.
const LOG_AGE_MAX: Duration = Duration::from_secs(3_600);
/// Arrivals of a topic's log, some 80 bytes each: twice the bundles that fit its bytes. Gaps have no bytes of their own.
const ARRIVALS_MAX: usize = LOG_BYTES_MAX / 128;
/// How often logs are looked through for gaps that are too old.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

/// How much of a topic's log is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
    Nothing,
    Own,
    Everything,
}

/// A topic's log.
#[derive(Debug)]
pub(super) struct TopicLog {
    key: LogKey,
    name: TopicName,
    next: u64,
    arrivals: VecDeque<Arrival>,
    holes: Holes,
    on_disk: OnDisk,
    /// Where the node has stopped, while it is no member.
    at_rest: Option<Retained<TopicBundle>>,
}

/// All topics' logs.
#[derive(Debug)]
pub(super) struct Logs {
    topics: BTreeMap<TopicId, TopicLog>,
    /// Bytes of the histories of those at rest.
    rest_bytes: usize,
    /// The run's epoch.
    epoch: u64,
    /// What the next log is told from earlier ones by: the run's epoch, then one more each. Epochs are milliseconds or more
    /// apart, and no run makes logs as fast as that.
    next_life: u64,
    journal: Journal,
    /// Streams whose marks must be written with what is written next.
    unmarked: BTreeSet<(TopicId, StreamId<PeerId>)>,
    /// Topics whose logs stay though nothing may be left in them.
    kept: Kept,
    trim_at: Time,
}

impl Logs {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            topics: BTreeMap::new(),
            rest_bytes: 0,
            epoch,
            next_life: epoch,
            journal: Journal::new(),
            unmarked: BTreeSet::new(),
            kept: Kept::default(),
            trim_at: Time::NEVER,
        }
    }

    /// Returns the ticket of all that was changed so far, and has it written without delay: [`Core::recorded`] tells of it.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.journal.ticket()
    }

    /// Returns whether bundles of a topic's stream from a seq on can't be on disk, since they were let go of before.
    pub(super) fn lacks(&self, topic: TopicId, id: StreamId<PeerId>, first: u64) -> bool {
        let log = self.topics.get(&topic);
        log.is_none_or(|log| self.journal.lacks(log.key, id, first))
    }

    /// Returns whether a ticket's changes are on disk.
    pub(super) fn is_written(&self, ticket: Ticket) -> bool {
        self.journal.is_written(ticket)
    }

    /// Returns the bytes of the histories of topics that the node is no member of.
    pub(super) const fn rest_bytes(&self) -> usize {
        self.rest_bytes
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.journal.poll_timeout().min(self.trim_at)
    }
}

impl TopicLog {
    /// Returns whether what is published by somebody goes to disk.
    fn records(&self, publisher: PeerId, me: PeerId) -> bool {
        match self.on_disk {
            OnDisk::Nothing => false,
            OnDisk::Own => publisher == me,
            OnDisk::Everything => true,
        }
    }

    /// Returns the first place that is still there, or the next where there is none.
    fn begin(&self) -> u64 {
        self.arrivals.front().map_or(self.next, |front| front.place)
    }

    fn open(&self, is_whole: bool) -> LogOp {
        LogOp::Open {
            log: self.key,
            name: self.name.clone(),
            is_whole,
        }
    }
}

impl Core {
    /// Begins the log of a topic that the node becomes a member of.
    pub(super) fn begin_log(&mut self, topic: TopicId, name: TopicName, now: Now) {
        let life = self.logs.next_life;
        self.logs.next_life += 1;
        let log = TopicLog {
            key: LogKey { topic, life },
            name: name.clone(),
            next: FIRST_PLACE,
            arrivals: VecDeque::new(),
            holes: Holes::default(),
            on_disk: OnDisk::Nothing,
            at_rest: None,
        };
        self.logs.topics.insert(topic, log);
        self.logs.trim_at = self.logs.trim_at.min(now.time + TRIM_INTERVAL);
        self.outputs.push_back(Output::BeginLog {
            topic: name,
            life,
            place: FIRST_PLACE,
        });
    }

    /// Ends the log of a topic.
    pub(super) fn end_log(&mut self, topic: TopicId) {
        let Some(log) = self.logs.topics.remove(&topic) else {
            return;
        };
        let Some(history) = log_history(&log, &self.swarms) else {
            return;
        };
        if log.at_rest.is_some() {
            self.logs.rest_bytes -= history.bytes();
        }
        self.outputs.push_back(Output::EndLog {
            topic: log.name.clone(),
        });
        if log.on_disk == OnDisk::Nothing {
            return;
        }
        let (key, journal) = (log.key, &mut self.logs.journal);
        let me = self.me;
        let on_disk = |id: &StreamId<PeerId>| log.records(id.publisher, me);
        for held in history.held_in_order() {
            let Header { stream, first, .. } = held.bundle.header();
            if on_disk(&stream) {
                journal.push(LogOp::Drop {
                    log: key,
                    stream,
                    first,
                });
            }
        }
        for stream in history.streams().filter(on_disk) {
            journal.push(LogOp::Unmark { log: key, stream });
        }
        if log.on_disk == OnDisk::Everything {
            for arrival in &log.arrivals {
                journal.push(LogOp::Trim {
                    log: key,
                    place: arrival.place,
                });
            }
        }
        journal.push(LogOp::Close { log: key });
    }

    /// Keeps a topic's log on disk from here on, with all that is in it already.
    pub(super) fn record_topic(&mut self, topic: TopicId, now: Now) {
        let (Some(log), Some(entry)) = (
            self.logs.topics.get_mut(&topic),
            self.swarms.get_mut(&topic),
        ) else {
            return;
        };
        if log.on_disk == OnDisk::Everything {
            return;
        }
        let had_own = log.on_disk == OnDisk::Own;
        log.on_disk = OnDisk::Everything;
        entry.swarm.set_retention(LOG_RETENTION, now);
        let (key, journal) = (log.key, &mut self.logs.journal);
        for held in entry.swarm.history().held_in_order() {
            if had_own && held.bundle.header().stream.publisher == self.me {
                continue;
            }
            journal.push(LogOp::Hold {
                log: key,
                bundle: held.bundle.clone(),
                hops: held.hops,
                received_at: held.received_at,
            });
            // Together they may be more than can be written at once. Until the log is opened anew below they are nobody's.
            journal.close_group(now.time);
        }
        for arrival in &log.arrivals {
            journal.push(LogOp::Arrive {
                log: key,
                place: arrival.place,
                what: arrival.what,
            });
        }
        journal.push(log.open(entry.swarm.has_base()));
        let streams = entry.swarm.history().streams();
        self.logs.unmarked.extend(streams.map(|id| (topic, id)));
    }

    /// Where a member begins is fixed: from here on its log is whole.
    pub(super) fn log_based(&mut self, topic: TopicId) {
        let (Some(log), Some(entry)) = (self.logs.topics.get(&topic), self.swarms.get(&topic))
        else {
            return;
        };
        if log.on_disk == OnDisk::Everything {
            self.logs.journal.push(log.open(true));
            let streams = entry.swarm.history().streams();
            self.logs.unmarked.extend(streams.map(|id| (topic, id)));
        }
    }

    /// A bundle was taken into a topic's history.
    pub(super) fn log_held(&mut self, topic: TopicId, header: &Header<PeerId>) {
        self.note_news();
        let (Some(log), Some(entry)) = (self.logs.topics.get_mut(&topic), self.swarms.get(&topic))
        else {
            return;
        };
        // It may be too large to be held.
        let Some(held) = entry.swarm.held(header) else {
            return;
        };
        let publisher = header.stream.publisher;
        if log.on_disk == OnDisk::Nothing && publisher == self.me {
            log.on_disk = OnDisk::Own;
            self.logs.journal.push(log.open(false));
        }
        if log.records(publisher, self.me) {
            self.logs.journal.push(LogOp::Hold {
                log: log.key,
                bundle: held.bundle.clone(),
                hops: held.hops,
                received_at: held.received_at,
            });
        }
    }

    /// What is held of a topic has changed otherwise.
    pub(super) fn log_changed(&mut self, topic: TopicId, change: Change<PeerId>, now: Now) {
        let Some(log) = self.logs.topics.get(&topic) else {
            return;
        };
        let (Change::Dropped { stream, .. } | Change::Moved(stream) | Change::Retired(stream)) =
            change;
        if log.records(stream.publisher, self.me) {
            let (key, journal) = (log.key, &mut self.logs.journal);
            match change {
                Change::Dropped { stream, first, .. } => {
                    journal.push(LogOp::Drop {
                        log: key,
                        stream,
                        first,
                    });
                    self.logs.unmarked.insert((topic, stream));
                }
                Change::Moved(stream) => drop(self.logs.unmarked.insert((topic, stream))),
                Change::Retired(stream) => journal.push(LogOp::Unmark { log: key, stream }),
            }
        }
        if let Change::Dropped { bytes, .. } = change {
            self.trim_dropped(topic, bytes, now);
        }
    }

    /// Ends the group of what a fact has changed, and has written what is due.
    pub(super) fn write_logs(&mut self, now: Now) {
        for (topic, stream) in std::mem::take(&mut self.logs.unmarked) {
            let Some(log) = self.logs.topics.get(&topic) else {
                continue;
            };
            let mark = match &log.at_rest {
                Some(retained) => retained.mark(stream),
                None => self
                    .swarms
                    .get(&topic)
                    .and_then(|entry| entry.swarm.mark(stream)),
            };
            if let Some(mark) = mark {
                self.logs.journal.push(LogOp::Mark {
                    log: log.key,
                    stream,
                    mark,
                });
            }
        }
        self.logs.journal.close_group(now.time);
        if let Some(upto) = self.logs.journal.make_room() {
            let result = Err(DiskError::Full);
            self.recorded(&Written { upto, result });
        }
        if let Some(bytes) = self.logs.journal.dropped_since_told(now.time) {
            *self.counters.entry("topic_log_bytes_dropped").or_default() += bytes;
            self.event(Event::LogsFellBehind { bytes });
        }
        if let Some((id, ops)) = self.logs.journal.next_write(now.time) {
            self.outputs.push_back(Output::Record { id, ops });
        }
    }

    /// Writes what is left of all logs, since this node stops.
    pub(super) fn end_logs(&mut self, now: Now) {
        self.write_logs(now);
        while let Some((id, ops)) = self.logs.journal.last_write() {
            self.outputs.push_back(Output::Record { id, ops });
        }
    }

    /// The shell has carried out an order to write.
    pub(super) fn log_written(&mut self, id: WriteId, result: Result<(), DiskError>, now: Now) {
        self.note_news();
        if let Some(written) = self.logs.journal.ended(id, result, now.time) {
            self.recorded(&written);
        }
    }

    /// Changes are on disk up to a ticket or, where that failed, are not known to be: they are tried again, and whoever waits
    /// for one of these tickets is told now.
    fn recorded(&mut self, written: &Written) {
        if written.result.is_err() {
            self.count("topic_log_errors");
            self.refuse_unwritten(written);
        }
        self.answer_keeping(written);
    }
}

/// Returns the settings of a topic's history, by how much of it goes to disk.
pub(super) fn history_of(extent: Extent) -> history::Config {
    let mut config = history::Config {
        horizon: LOG_AGE_MAX,
        tells_changes: true,
        ..history::Config::default()
    };
    if extent == Extent::Whole {
        config.bytes_max = LOG_RETENTION.bytes_max;
        config.age_max = LOG_RETENTION.age_max;
    }
    config
}

/// Returns the history that a log goes with.
fn log_history<'a>(
    log: &'a TopicLog,
    swarms: &'a BTreeMap<TopicId, Entry>,
) -> Option<&'a History<TopicBundle>> {
    history_beside(log.at_rest.as_ref(), log.key.topic, swarms)
}

/// The same, for whoever changes the log's arrivals meanwhile.
fn history_beside<'a>(
    at_rest: Option<&'a Retained<TopicBundle>>,
    topic: TopicId,
    swarms: &'a BTreeMap<TopicId, Entry>,
) -> Option<&'a History<TopicBundle>> {
    match at_rest {
        Some(retained) => Some(retained.history()),
        None => Some(swarms.get(&topic)?.swarm.history()),
    }
}
