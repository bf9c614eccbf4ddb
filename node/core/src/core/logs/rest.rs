//! Logs of topics that the node is no member of: those that an earlier run had, and those of topics that it has left.
//!
//! They can be read, and go on where they stopped when the node becomes a member again. What is too old goes as it does in a
//! swarm; a log that has nothing left ends.

use weft_identity::PeerId;
use weft_overlay::history::History;
use weft_overlay::retained::{Extent, Retained, Traces};
use weft_overlay::{Now, StreamId};

use super::holes::Holes;
use super::trim::END;
use super::{Arrival, Logs, OnDisk, TRIM_INTERVAL, TopicLog, log_history};
use crate::core::Core;
use crate::core::swarms::TopicSwarm;
use crate::log::{Arrived, FIRST_PLACE, LogKey, RestoredTopic};
use crate::{Delivered, Output, TopicBundle, TopicId, TopicName};

/// Logs at rest, beside which one more is not kept unless somebody goes on with it: some kilobytes each, and four times the topics
/// that a node is a member of.
const AT_REST_MAX: usize = 4_096;
/// Places for each millisecond that has passed since a log began, as bits. A run begins past what they make: what a crash took
/// with it had places too, and readers may remember them. No node delivers a million messages a second for as long as it lives.
const PLACES_A_MS_BITS: u32 = 10;

impl Logs {
    /// Returns the place at which a run goes on with a log: past every place that an earlier one can have given out.
    fn resumed_at(&self, life: u64, end: u64) -> u64 {
        let ms = self.epoch.saturating_sub(life);
        end.max(FIRST_PLACE + (ms << PLACES_A_MS_BITS)) + 1
    }
}

impl Core {
    /// Takes over the logs that the disk had when this run began.
    pub(in crate::core) fn restore_logs(&mut self, topics: Vec<RestoredTopic>, now: Now) {
        for topic in topics {
            self.restore_log(topic, now);
        }
    }

    fn restore_log(&mut self, restored: RestoredTopic, now: Now) {
        let topic = restored.name.id(&self.network);
        let life = restored.life;
        let extent = match restored.is_whole {
            true => Extent::Whole,
            false => Extent::Own,
        };
        let arrivals = with_ends(restored.arrivals);
        let traces = Traces {
            extent,
            marks: restored.marks,
            held: restored.held,
            delivered: arrivals.iter().filter_map(last_of).collect(),
        };
        let retained = Retained::restore(self.me, super::history_of(extent), traces, now);
        let end = arrivals
            .last()
            .map_or(0, |(place, what)| place + what.places());
        let next = self.logs.resumed_at(life, end);
        self.outputs.push_back(Output::BeginLog {
            topic: restored.name.clone(),
            life,
            place: next,
        });
        let mut log = TopicLog {
            key: LogKey { topic, life },
            name: restored.name,
            next,
            arrivals: Default::default(),
            holes: Holes::default(),
            on_disk: match extent {
                Extent::Whole => OnDisk::Everything,
                Extent::Own => OnDisk::Own,
            },
            at_rest: None,
        };
        if let Some((below, _)) = arrivals.first() {
            let (topic, below) = (log.name.clone(), *below);
            self.outputs.push_back(Output::TrimLog { topic, below });
        }
        for (place, what) in arrivals {
            let at = now.time;
            if what == END {
                log.arrivals.push_back(Arrival { place, what, at });
                continue;
            }
            let (item, what) = read_back(what, &retained);
            self.outputs.push_back(Output::Deliver {
                topic: log.name.clone(),
                place,
                item,
            });
            log.arrivals.push_back(Arrival { place, what, at });
        }
        self.logs.rest_bytes += retained.history().bytes();
        log.at_rest = Some(retained);
        self.logs.topics.insert(topic, log);
        // What has become too old meanwhile goes at once.
        self.logs.trim_at = now.time;
    }

    /// Returns the topics whose logs are at rest, and whether they hold messages of this node's own.
    pub(in crate::core) fn logs_at_rest(&self) -> Vec<(TopicName, bool)> {
        let logs = self.logs.topics.values();
        let resting = logs.filter_map(|log| Some((log, log.at_rest.as_ref()?)));
        let own = |retained: &Retained<TopicBundle>| {
            let held = retained.history().held_in_order();
            let mut publishers = held.map(|held| held.bundle.0.value.publisher);
            publishers.any(|publisher| publisher == self.me)
        };
        let named = resting.map(|(log, retained)| (log.name.clone(), own(retained)));
        named.collect()
    }

    /// Returns where the node stopped in a topic, if its log is at rest.
    pub(in crate::core) fn wake_log(&mut self, topic: TopicId) -> Option<Retained<TopicBundle>> {
        let retained = self.logs.topics.get_mut(&topic)?.at_rest.take()?;
        self.logs.rest_bytes -= retained.history().bytes();
        Some(retained)
    }

    /// Keeps the log of a topic whose swarm is closed.
    pub(in crate::core) fn rest_log(&mut self, topic: TopicId, swarm: TopicSwarm) {
        let Some(log) = self.logs.topics.get_mut(&topic) else {
            return;
        };
        let extent = match (log.on_disk, swarm.has_base()) {
            (OnDisk::Everything, true) => Extent::Whole,
            _ => Extent::Own,
        };
        let retained = swarm.retain(extent);
        self.logs.rest_bytes += retained.history().bytes();
        log.at_rest = Some(retained);
    }

    /// Returns whether a topic's log is worth keeping when the node leaves the topic: others would go on anew.
    pub(in crate::core) fn may_rest(&self, topic: TopicId) -> bool {
        let resting = self.logs.topics.values();
        let resting = resting.filter(|log| log.at_rest.is_some()).count();
        let log = self.logs.topics.get(&topic);
        let entry = self.swarms.get(&topic);
        (resting < AT_REST_MAX || self.logs.kept.has(topic))
            && log.is_some_and(|log| log.on_disk == OnDisk::Everything)
            && entry.is_some_and(|entry| entry.swarm.has_base())
    }

    /// Lets go of what is too old in logs at rest, and of logs that have nothing left.
    pub(super) fn shed_at_rest(&mut self, now: Now) {
        let resting = |(topic, log): (&TopicId, &TopicLog)| log.at_rest.is_some().then_some(*topic);
        let topics: Vec<TopicId> = self.logs.topics.iter().filter_map(resting).collect();
        for topic in topics {
            self.change_at_rest(topic, now, |retained| retained.shed(now));
            self.trim_log(topic, now);
            let log = self.logs.topics.get(&topic);
            let is_empty = |log: &TopicLog| {
                let history = log.at_rest.as_ref().map(Retained::history);
                log.arrivals.is_empty() && history.is_some_and(|history| history.bytes() == 0)
            };
            if log.is_some_and(is_empty) && !self.logs.kept.has(topic) {
                self.end_log(topic);
            }
        }
    }

    /// Drops a bundle of the largest log at rest; returns whether there was any.
    pub(in crate::core) fn shorten_at_rest(&mut self, now: Now) -> bool {
        let bytes = |log: &TopicLog| log_history(log, &self.swarms).map_or(0, History::bytes);
        let resting = self.logs.topics.iter();
        let resting = resting.filter(|(_, log)| log.at_rest.is_some());
        let Some((&topic, _)) = resting.max_by_key(|(_, log)| bytes(log)) else {
            return false;
        };
        let before = self.logs.rest_bytes;
        self.change_at_rest(topic, now, |retained| {
            retained.make_room();
        });
        self.logs.rest_bytes < before
    }

    fn change_at_rest(
        &mut self,
        topic: TopicId,
        now: Now,
        change: impl FnOnce(&mut Retained<TopicBundle>),
    ) {
        let log = self.logs.topics.get_mut(&topic);
        let Some(retained) = log.and_then(|log| log.at_rest.as_mut()) else {
            return;
        };
        let before = retained.history().bytes();
        change(retained);
        self.logs.rest_bytes = self.logs.rest_bytes - before + retained.history().bytes();
        let mut changes = Vec::new();
        while let Some(change) = retained.poll_change() {
            changes.push(change);
        }
        for change in changes {
            self.log_changed(topic, change, now);
        }
        self.logs.trim_at = self.logs.trim_at.min(now.time + TRIM_INTERVAL);
    }
}

/// Says of arrivals that are lost how many places they had: all up to the next.
fn with_ends(arrivals: Vec<(u64, Option<Arrived>)>) -> Vec<(u64, Arrived)> {
    let nexts: Vec<u64> = arrivals.iter().skip(1).map(|(place, _)| *place).collect();
    let ends = nexts.into_iter().map(Some).chain([None]);
    let arrivals = arrivals.into_iter().zip(ends);
    let known = arrivals.map(|((place, what), next)| {
        let places = next.map_or(1, |next| next - place);
        (place, what.unwrap_or(Arrived::Lost { places }))
    });
    known.collect()
}

/// Returns up to where a stream has arrived.
fn last_of((_, what): &(u64, Arrived)) -> Option<(StreamId<PeerId>, u64)> {
    match *what {
        Arrived::Bundle { stream, last, .. } => Some((stream, last)),
        Arrived::Gap { stream, to, .. } => Some((stream, to)),
        Arrived::Lost { .. } => None,
    }
}

/// Returns what arrived, or that it can't be read any more.
fn read_back(what: Arrived, retained: &Retained<TopicBundle>) -> (Delivered, Arrived) {
    let places = what.places();
    let missed = (Delivered::Missed { places }, Arrived::Lost { places });
    match what {
        Arrived::Bundle {
            stream,
            first,
            from,
            ..
        } => match retained.history().held(stream, first) {
            Some(held) if held.bundle.0.value.first == first => {
                let item = Delivered::Bundle {
                    bundle: held.bundle.clone(),
                    from,
                    hops: held.hops,
                    received_at: held.received_at,
                };
                (item, what)
            }
            _ => missed,
        },
        Arrived::Gap { stream, from, to } => {
            let item = Delivered::Gap {
                publisher: stream.publisher,
                epoch: stream.epoch,
                from,
                to,
            };
            (item, what)
        }
        Arrived::Lost { .. } => missed,
    }
}
