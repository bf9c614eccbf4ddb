//! The journal: changes of topics' logs on their way to disk.
//!
//! What one fact brings about is a group, written as a whole or not at all; groups are written in order, one order at a time.
//! A group waits a little for others, unless somebody waits for it ([`Journal::ticket`]). What could not be written is tried
//! again for as long as it takes: the disk never stops a topic. Meanwhile what waits is bounded. Past that bound bundles are
//! let go of first, then everything but what is known of streams; places whose arrivals were let go of are told as lost.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_dht::store::DiskError;
use weft_identity::PeerId;
use weft_overlay::{Bundle, StreamId, Time};

use crate::log::{Arrived, LogKey, LogOp, WriteId};

/// Bytes of changes that wait. A second of what a disk takes that is slow, and little beside the histories themselves, whose
/// bundles these share.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Past the bound this part of it is made free, so that making room is rare.
const MADE_FREE: usize = WAITING_BYTES_MAX / 8;
/// Bytes of one write past which the rest waits for the next: a group goes over, by a bundle of at most 1 MiB. The store takes
/// 12 MiB at once.
const WRITE_BYTES: usize = 4 * 1024 * 1024;
/// How long a group waits for others where nobody waits for it: a sync each for twenty daemons on one machine is what their disk
/// can't do. What a crash takes with it comes again from neighbours.
const GATHERED_FOR: Duration = Duration::from_millis(100);
/// How soon a write that failed is tried again.
const RETRIED_AFTER: Duration = Duration::from_secs(1);
/// How often it is told that bytes were dropped.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The number of a group: everything up to it is on disk once that one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Changes that are written together.
#[derive(Debug, Default)]
struct Group {
    ticket: Ticket,
    ops: Vec<LogOp>,
    bytes: usize,
}

/// What has come of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Up to where changes are on disk, or are not known to be.
    pub(super) upto: Ticket,
    /// Whether they are.
    pub(super) result: Result<(), DiskError>,
}

/// Changes on their way to disk.
#[derive(Debug)]
pub(super) struct Journal {
    /// What the fact that is being handled brings about.
    open: Group,
    groups: VecDeque<Group>,
    /// Bytes of the groups that wait.
    bytes: usize,
    under_way: Option<(WriteId, Vec<Group>)>,
    writes: u64,
    /// The last group that was closed, and the last that is on disk.
    closed: Ticket,
    written: Ticket,
    /// When the groups that wait are written.
    write_at: Time,
    /// Whether somebody waits for them.
    is_urgent: bool,
    /// Until when nothing is tried, since the last write failed.
    not_before: Time,
    dropped_bytes: u64,
    tell_at: Time,
    /// Up to which seq bundles of a stream were let go of: what is held of them in memory is not on disk.
    unheld: BTreeMap<(LogKey, StreamId<PeerId>), u64>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            open: Group::default(),
            groups: VecDeque::new(),
            bytes: 0,
            under_way: None,
            writes: 0,
            closed: Ticket(0),
            written: Ticket(0),
            write_at: Time::NEVER,
            is_urgent: false,
            not_before: Time::ZERO,
            dropped_bytes: 0,
            tell_at: Time::ZERO,
            unheld: BTreeMap::new(),
        }
    }

    /// Adds a change to what the fact that is being handled brings about.
    pub(super) fn push(&mut self, op: LogOp) {
        self.open.bytes += op.bytes();
        self.open.ops.push(op);
    }

    /// Returns the ticket of all that was changed so far, and has it written without delay.
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = match self.open.ops.is_empty() {
            true => self.closed,
            false => Ticket(self.closed.0 + 1),
        };
        // What is on disk already hurries nothing.
        self.is_urgent |= ticket > self.written;
        ticket
    }

    /// Returns whether a ticket's changes are on disk.
    pub(super) fn is_written(&self, ticket: Ticket) -> bool {
        ticket <= self.written
    }

    /// Closes the group that is open: what was changed so far is of one moment.
    pub(super) fn close_group(&mut self, now: Time) {
        if self.open.ops.is_empty() {
            return;
        }
        self.closed = Ticket(self.closed.0 + 1);
        let mut group = std::mem::take(&mut self.open);
        group.ticket = self.closed;
        self.bytes += group.bytes;
        self.groups.push_back(group);
        self.write_at = self.write_at.min(now + GATHERED_FOR);
    }

    /// Makes room where too much waits; returns up to where something that was to be written will not be.
    pub(super) fn make_room(&mut self) -> Option<Ticket> {
        if self.bytes <= WAITING_BYTES_MAX {
            return None;
        }
        let goal = WAITING_BYTES_MAX - MADE_FREE;
        let mut upto = None;
        for group in &mut self.groups {
            if self.bytes <= goal {
                break;
            }
            let before = group.bytes;
            note_unheld(&mut self.unheld, &group.ops);
            group.ops.retain(|op| !matches!(op, LogOp::Hold { .. }));
            group.bytes = group.ops.iter().map(LogOp::bytes).sum();
            self.bytes -= before - group.bytes;
            self.dropped_bytes += (before - group.bytes) as u64;
            if before > group.bytes {
                upto = Some(group.ticket);
            }
        }
        if self.bytes > goal {
            upto = Some(self.collapse());
        }
        upto
    }

    /// Returns whether bundles of a stream from a seq on were let go of before they were written.
    pub(super) fn lacks(&self, log: LogKey, id: StreamId<PeerId>, first: u64) -> bool {
        let upto = self.unheld.get(&(log, id));
        upto.is_some_and(|upto| first <= *upto)
    }

    /// Lets go of everything that waits but what is known of streams; returns the last group.
    fn collapse(&mut self) -> Ticket {
        let mut opened: BTreeMap<LogKey, LogOp> = BTreeMap::new();
        let mut marks: BTreeMap<(LogKey, StreamId<PeerId>), LogOp> = BTreeMap::new();
        let mut lost: BTreeMap<LogKey, (u64, u64)> = BTreeMap::new();
        let mut ticket = self.closed;
        for group in std::mem::take(&mut self.groups) {
            ticket = group.ticket;
            note_unheld(&mut self.unheld, &group.ops);
            for op in group.ops {
                match &op {
                    LogOp::Open { log, .. } | LogOp::Close { log } => {
                        opened.insert(*log, op);
                    }
                    LogOp::Mark { log, stream, .. } | LogOp::Unmark { log, stream } => {
                        marks.insert((*log, *stream), op);
                    }
                    LogOp::Arrive { log, place, what } => {
                        let end = place + what.places();
                        let range = lost.entry(*log).or_insert((*place, end));
                        *range = (range.0.min(*place), range.1.max(end));
                    }
                    // What stays on disk for that is let go of at the next start.
                    LogOp::Hold { .. } | LogOp::Drop { .. } | LogOp::Trim { .. } => {}
                }
            }
        }
        let arrivals = lost.into_iter().map(|(log, (from, end))| LogOp::Arrive {
            log,
            place: from,
            what: Arrived::Lost { places: end - from },
        });
        let ops: Vec<LogOp> = opened
            .into_values()
            .chain(marks.into_values())
            .chain(arrivals)
            .collect();
        let bytes = ops.iter().map(LogOp::bytes).sum();
        self.bytes = bytes;
        self.groups.push_back(Group { ticket, ops, bytes });
        ticket
    }

    /// Returns how many bytes were let go of since this was last told, at most once a minute.
    pub(super) fn dropped_since_told(&mut self, now: Time) -> Option<u64> {
        if self.dropped_bytes == 0 || self.tell_at > now {
            return None;
        }
        self.tell_at = now + TOLD_EVERY;
        Some(std::mem::take(&mut self.dropped_bytes))
    }

    /// Returns what to write now, if anything.
    pub(super) fn next_write(&mut self, now: Time) -> Option<(WriteId, Vec<LogOp>)> {
        if self.poll_timeout() > now {
            return None;
        }
        Some(self.begin_write())
    }

    /// Returns everything that waits, be another write under way or not: the node stops.
    pub(super) fn last_write(&mut self) -> Option<(WriteId, Vec<LogOp>)> {
        (!self.groups.is_empty()).then(|| self.begin_write())
    }

    fn begin_write(&mut self) -> (WriteId, Vec<LogOp>) {
        let (mut groups, mut bytes) = (Vec::new(), 0);
        while bytes < WRITE_BYTES
            && let Some(group) = self.groups.pop_front()
        {
            bytes += group.bytes;
            groups.push(group);
        }
        self.bytes -= bytes;
        if self.groups.is_empty() {
            self.write_at = Time::NEVER;
            self.is_urgent = false;
        }
        self.writes += 1;
        let id = WriteId(self.writes);
        let ops = groups.iter().flat_map(|group| &group.ops).cloned();
        let ops = ops.collect();
        self.under_way = Some((id, groups));
        (id, ops)
    }

    /// A write has ended; none where it is not the one under way.
    pub(super) fn ended(
        &mut self,
        id: WriteId,
        result: Result<(), DiskError>,
        now: Time,
    ) -> Option<Written> {
        let (_, groups) = self.under_way.take_if(|(under_way, _)| *under_way == id)?;
        let upto = groups.last().map_or(self.written, |group| group.ticket);
        match result {
            Ok(()) => self.written = upto,
            Err(_) => {
                self.not_before = now + RETRIED_AFTER;
                self.write_at = self.not_before;
                for group in groups.into_iter().rev() {
                    self.bytes += group.bytes;
                    self.groups.push_front(group);
                }
            }
        }
        Some(Written { upto, result })
    }

    /// Returns when the next write is due, if nothing happens.
    pub(super) fn poll_timeout(&self) -> Time {
        match (&self.under_way, self.groups.is_empty()) {
            (Some(_), _) | (None, true) => Time::NEVER,
            (None, false) if self.is_urgent => self.not_before,
            (None, false) => self.write_at.max(self.not_before),
        }
    }
}

/// Notes which bundles are let go of that were to be written.
fn note_unheld(unheld: &mut BTreeMap<(LogKey, StreamId<PeerId>), u64>, ops: &[LogOp]) {
    for op in ops {
        match op {
            LogOp::Hold { log, bundle, .. } => {
                let header = bundle.header();
                let upto = unheld.entry((*log, header.stream)).or_default();
                *upto = (*upto).max(header.last);
            }
            LogOp::Unmark { log, stream } => drop(unheld.remove(&(*log, *stream))),
            LogOp::Close { log } => unheld.retain(|(of, _), _| of != log),
            _ => {}
        }
    }
}
