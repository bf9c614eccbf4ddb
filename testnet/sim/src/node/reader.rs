//! What a node's user reads of the topic, from now on or from the front of the node's log, and what the watch is told of it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use weft_core::input::Reach;
use weft_core::{Command, Delivered, Input, Output};
use weft_overlay::Now;

use super::{Member, mark_of, topic};
use crate::machine::{Order, Place};

/// A user, and the log that it may come to read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Whether what comes goes to the user at once; until then it waits in the log.
    reads: bool,
    /// Whether the user has asked to read all that is there.
    wants_all: bool,
    log: VecDeque<(u64, Delivered)>,
}

impl Reader {
    /// Makes one of a user that reads what comes, or of none yet.
    pub(super) fn new(reads: bool) -> Self {
        Self {
            reads,
            ..Self::default()
        }
    }

    /// The user has asked to read; it does once the node has answered.
    pub(super) const fn ask(&mut self, all: bool) {
        self.wants_all = all;
    }

    /// Returns whether the user has asked for all that is there.
    pub(super) const fn wants_all(&self) -> bool {
        self.wants_all
    }

    /// Returns whether the user reads.
    pub(super) const fn reads(&self) -> bool {
        self.reads
    }

    /// The node has answered: returns what is to be read at once; none where the user reads already.
    pub(super) fn begin(&mut self) -> Option<Vec<Delivered>> {
        if std::mem::replace(&mut self.reads, true) {
            return None;
        }
        let log = std::mem::take(&mut self.log);
        let all = log.into_iter().map(|(_, item)| item);
        Some(all.filter(|_| self.wants_all).collect())
    }

    /// Something came for the log; returns it where the user reads it at once.
    pub(super) fn arrived(&mut self, place: u64, item: Delivered) -> Option<Delivered> {
        if self.reads {
            return Some(item);
        }
        self.log.push_back((place, item));
        None
    }

    /// What came before all else is put in front of the log. Who reads already doesn't read it.
    pub(super) fn put_in_front(&mut self, place: u64, items: Vec<Delivered>) {
        if !self.reads {
            for item in items.into_iter().rev() {
                self.log.push_front((place, item));
            }
        }
    }

    /// The front of the log is dropped, up to a place.
    pub(super) fn trim(&mut self, below: u64) {
        while self.log.front().is_some_and(|(place, _)| *place < below) {
            self.log.pop_front();
        }
    }

    /// What stood at some places is gone.
    pub(super) fn lose(&mut self, places: &[Range<u64>]) {
        self.log.retain(|(place, _)| {
            let next = places.partition_point(|lost| lost.end <= *place);
            places.get(next).is_none_or(|lost| *place < lost.start)
        });
    }

    /// The log is dropped.
    pub(super) fn end(&mut self) {
        self.log.clear();
    }
}

impl Member {
    pub(super) fn subscribe(&mut self, reach: Reach, now: Now) {
        let request = self.request();
        let subscribe = Command::Subscribe {
            request,
            topic: topic(),
            reach,
        };
        self.tell(Input::Command(subscribe), now);
    }

    pub(super) fn subscribed(&mut self) {
        let log = self.reader.begin();
        if log.is_some() && self.reader.wants_all() {
            self.orders.push_back(Order::ReadsAll);
        }
        self.orders.push_back(Order::Based);
        for item in log.into_iter().flatten() {
            self.deliver(item);
        }
    }

    pub(super) fn deliver(&mut self, item: Delivered) {
        match item {
            Delivered::Bundle {
                bundle, from, hops, ..
            } => {
                let value = &bundle.0.value;
                let Some(publisher) = self.keys.node(value.publisher) else {
                    return;
                };
                for (seq, data) in bundle.messages().filter(|(seq, _)| *seq >= from) {
                    let first = Place {
                        publisher,
                        epoch: value.epoch,
                        seq,
                    };
                    self.orders.push_back(Order::Delivered {
                        first,
                        last: seq,
                        hops,
                        mark: mark_of(data),
                    });
                }
            }
            Delivered::Gap {
                publisher,
                epoch,
                from,
                to,
            } => {
                let Some(publisher) = self.keys.node(publisher) else {
                    return;
                };
                let first = Place {
                    publisher,
                    epoch,
                    seq: from,
                };
                self.orders.push_back(Order::Gap { first, last: to });
            }
            Delivered::Missed { .. } => {
                let what = format!("n{} has lost what it had", self.me);
                self.orders.push_back(Order::Violation(what));
            }
        }
    }

    /// Takes in what its log has from before: where it goes on with each publisher.
    pub(super) fn resume(&mut self) {
        let mut last: BTreeMap<(weft_identity::PeerId, u64), u64> = BTreeMap::new();
        while let Some(output) = self.core.poll_output() {
            let Output::Deliver { place, item, .. } = output else {
                continue;
            };
            let Some(item) = self.reader.arrived(place, item) else {
                continue;
            };
            match item {
                Delivered::Bundle { bundle, .. } => {
                    let header = weft_overlay::Bundle::header(&bundle);
                    let stream = header.stream;
                    last.insert((stream.publisher, stream.epoch), header.last);
                }
                Delivered::Gap {
                    publisher,
                    epoch,
                    to,
                    ..
                } => drop(last.insert((publisher, epoch), to)),
                Delivered::Missed { .. } => {
                    let what = format!("n{} has lost what it had", self.me);
                    self.orders.push_back(Order::Violation(what));
                }
            }
        }
        for ((publisher, epoch), seq) in last {
            if let Some(publisher) = self.keys.node(publisher) {
                let last = Place {
                    publisher,
                    epoch,
                    seq,
                };
                self.orders.push_back(Order::Resumed { last });
            }
        }
    }
}
