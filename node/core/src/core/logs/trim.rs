//! Ending arrival logs in front of what is kept, and what stays to say where they ended.
//!
//! A reader that comes back to a log at a place below the oldest arrival has missed what lay between. Whether anything lay there
//! doesn't follow from places alone: each run begins past all that an earlier one can have given out. So a log that somebody
//! goes on with ([`super::kept`]) keeps one more entry where its oldest arrivals end and nothing follows at once: an end, which
//! is an arrival without places ([`END`]).

use std::collections::VecDeque;

use weft_overlay::history::History;
use weft_overlay::{Now, Time};

use super::{
    ARRIVALS_MAX, Arrival, LOG_AGE_MAX, Logs, OnDisk, TRIM_INTERVAL, TopicLog, history_beside,
};
use crate::core::Core;
use crate::log::{Arrived, LogKey, LogOp};
use crate::{Output, TopicBundle, TopicId};

/// What stands where arrivals that are gone have ended.
pub(super) const END: Arrived = Arrived::Lost { places: 0 };

impl Arrival {
    pub(super) const fn end(&self) -> u64 {
        self.place + self.what.places()
    }

    /// Returns whether what arrived can still be read.
    fn is_kept(&self, history: &History<TopicBundle>, now: Now) -> bool {
        match self.what {
            Arrived::Bundle { stream, first, .. } => history.held(stream, first).is_some(),
            Arrived::Gap { .. } => now.time.since(self.at) < LOG_AGE_MAX,
            Arrived::Lost { places } => places > 0 && now.time.since(self.at) < LOG_AGE_MAX,
        }
    }
}

/// What is taken from the front of a log, for the disk and for readers.
struct Trimming<'a> {
    arrivals: &'a mut VecDeque<Arrival>,
    /// What goes to disk of it; none where nothing does.
    ops: Option<(LogKey, &'a mut Vec<LogOp>)>,
    /// Where what was taken has ended.
    below: Option<u64>,
}

impl Trimming<'_> {
    fn pop(&mut self) {
        let Some(front) = self.arrivals.pop_front() else {
            return;
        };
        self.below = self.below.max(Some(front.end()));
        if let Some((log, ops)) = &mut self.ops {
            let (log, place) = (*log, front.place);
            ops.push(LogOp::Trim { log, place });
        }
    }

    /// Lets an end stand in the front's place.
    fn end(&mut self, at: Time) {
        let Some(place) = self.arrivals.front().map(Arrival::end) else {
            return;
        };
        self.pop();
        let what = END;
        self.arrivals.push_front(Arrival { place, what, at });
        if let Some((log, ops)) = &mut self.ops {
            let log = *log;
            ops.push(LogOp::Arrive { log, place, what });
        }
    }
}

impl Core {
    /// Ends a topic's arrival log in front of the oldest arrival that is still kept.
    pub(super) fn trim_log(&mut self, topic: TopicId, now: Now) {
        let Logs {
            topics,
            journal,
            kept,
            ..
        } = &mut self.logs;
        let Some(log) = topics.get_mut(&topic) else {
            return;
        };
        let TopicLog {
            arrivals, at_rest, ..
        } = log;
        let Some(history) = history_beside(at_rest.as_ref(), topic, &self.swarms) else {
            return;
        };
        let goes_on = kept.has(topic);
        let mut ops = Vec::new();
        let mut trimming = Trimming {
            arrivals,
            ops: (log.on_disk == OnDisk::Everything).then_some((log.key, &mut ops)),
            below: None,
        };
        while let Some(front) = trimming.arrivals.front() {
            let is_crowded = trimming.arrivals.len() > ARRIVALS_MAX;
            if front.is_kept(history, now) && !is_crowded {
                break;
            }
            let next = trimming.arrivals.get(1);
            let follows = |next: &Arrival| next.place == front.end() || !next.is_kept(history, now);
            if goes_on && !is_crowded && !next.is_some_and(follows) {
                if front.what != END {
                    trimming.end(front.at);
                }
                break;
            }
            trimming.pop();
        }
        if let Some(below) = trimming.below {
            let topic = log.name.clone();
            self.outputs.push_back(Output::TrimLog { topic, below });
        }
        for op in ops {
            journal.push(op);
        }
    }

    pub(in crate::core) fn tick_logs(&mut self, now: Now) {
        if self.logs.trim_at > now.time {
            return;
        }
        let topics: Vec<TopicId> = self.logs.topics.keys().copied().collect();
        self.logs.trim_at = match topics.is_empty() {
            true => Time::NEVER,
            false => now.time + TRIM_INTERVAL,
        };
        for topic in topics {
            self.trim_log(topic, now);
        }
        self.shed_at_rest(now);
    }
}
