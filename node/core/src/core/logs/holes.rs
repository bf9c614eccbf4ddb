//! Arrivals whose bundles history let go of before older ones: a publisher that fills a topic makes room itself, and one of too many
//! epochs is retired.
//!
//! They stand between others, so trimming the front doesn't meet them. Looking for them is a walk through the log, so they gather
//! until that is worth it; until then the shell's arrival log still has them, and readers get them.

use std::collections::VecDeque;
use std::ops::Range;

use weft_overlay::Now;

use super::trim::END;
use super::{Arrival, LOG_BYTES_MAX, Logs, OnDisk, history_beside};
use crate::core::Core;
use crate::log::{Arrived, LogKey, LogOp};
use crate::{Output, TopicId};

/// Bytes of bundles that are gone and still in the arrival log, at most: an eighth of what a log holds.
const HOLES_BYTES_MAX: usize = LOG_BYTES_MAX / 8;
/// As many of them, at least, as an eighth of all arrivals, so that a walk costs each no more than eight steps.
const HOLES_SHARE: usize = 8;
/// And at least so many.
const HOLES_MIN: usize = 1_024;

/// Bundles that have gone and stand in the log, about: those that never arrived are counted too, and those that trimming has met since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holes {
    count: usize,
    bytes: usize,
}

impl Holes {
    /// Adds one; returns whether a walk through so many arrivals is worth it.
    const fn add(&mut self, bytes: usize, arrivals: usize) -> bool {
        self.count += 1;
        self.bytes += bytes;
        let are_many = self.count > HOLES_MIN && self.count > arrivals / HOLES_SHARE;
        are_many || self.bytes > HOLES_BYTES_MAX
    }
}

impl Core {
    /// A bundle isn't held any more: the log ends behind it if it was the oldest arrival, else it is a hole in it.
    pub(super) fn trim_dropped(&mut self, topic: TopicId, bytes: usize, now: Now) {
        let begin = |core: &Self| core.logs.topics.get(&topic).map(super::TopicLog::begin);
        let before = begin(self);
        self.trim_log(topic, now);
        if begin(self) > before {
            return;
        }
        if let Some(log) = self.logs.topics.get_mut(&topic)
            && log.holes.add(bytes, log.arrivals.len())
        {
            self.mark_holes(topic);
            self.trim_log(topic, now);
        }
    }

    fn mark_holes(&mut self, topic: TopicId) {
        let Logs {
            topics, journal, ..
        } = &mut self.logs;
        let Some(log) = topics.get_mut(&topic) else {
            return;
        };
        let Some(history) = history_beside(log.at_rest.as_ref(), topic, &self.swarms) else {
            return;
        };
        log.holes = Holes::default();
        let arrivals = std::mem::take(&mut log.arrivals);
        let mut marking = Marking {
            kept: VecDeque::with_capacity(arrivals.len()),
            ..Marking::default()
        };
        for arrival in arrivals {
            match arrival.what {
                Arrived::Bundle { stream, first, .. } if history.held(stream, first).is_none() => {
                    marking.lose(&arrival);
                }
                _ => marking.kept.push_back(arrival),
            }
        }
        if log.on_disk == OnDisk::Everything {
            for op in marking.ops(log.key) {
                journal.push(op);
            }
        }
        log.arrivals = marking.kept;
        if !marking.lost.is_empty() {
            let (topic, places) = (log.name.clone(), marking.lost);
            self.outputs
                .push_back(Output::LoseArrivals { topic, places });
        }
    }
}

/// A walk through a log's arrivals.
#[derive(Default)]
struct Marking {
    kept: VecDeque<Arrival>,
    /// The places that are lost from here on.
    lost: Vec<Range<u64>>,
    /// Where arrivals begin that have changed, in ascending order.
    changed: Vec<u64>,
    /// Where others began that are part of those now.
    joined: Vec<u64>,
}

impl Marking {
    /// Puts a lost arrival in the place of one whose bundle is gone, or makes it part of a lost one that it follows at once.
    fn lose(&mut self, gone: &Arrival) {
        match self.lost.last_mut().filter(|last| last.end == gone.place) {
            Some(last) => last.end = gone.end(),
            None => self.lost.push(gone.place..gone.end()),
        }
        let before = self.kept.back_mut();
        let before = before.filter(|before| before.is_lost_up_to(gone.place));
        let begin = if let Some(before) = before {
            let places = before.what.places() + gone.what.places();
            (before.what, before.at) = (Arrived::Lost { places }, gone.at);
            self.joined.push(gone.place);
            before.place
        } else {
            let places = gone.what.places();
            self.kept.push_back(Arrival {
                place: gone.place,
                what: Arrived::Lost { places },
                at: gone.at,
            });
            gone.place
        };
        if self.changed.last() != Some(&begin) {
            self.changed.push(begin);
        }
    }

    /// Returns what that means for the disk.
    fn ops(&self, log: LogKey) -> impl Iterator<Item = LogOp> {
        let joined = self.joined.iter();
        let joined = joined.map(move |place| LogOp::Trim { log, place: *place });
        let is_changed = |arrival: &&Arrival| self.changed.binary_search(&arrival.place).is_ok();
        let changed = self.kept.iter().filter(is_changed);
        let changed = changed.map(move |arrival| LogOp::Arrive {
            log,
            place: arrival.place,
            what: arrival.what,
        });
        joined.chain(changed)
    }
}

impl Arrival {
    /// Returns whether this is lost, and what is lost next follows it at once.
    fn is_lost_up_to(&self, place: u64) -> bool {
        let is_lost = matches!(self.what, Arrived::Lost { .. }) && self.what != END;
        is_lost && self.end() == place
    }
}
