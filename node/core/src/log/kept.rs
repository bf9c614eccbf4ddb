//! A disk in memory that holds topics' logs: what simulated nodes and tests write to, and the model of the real one.

use std::collections::BTreeMap;

use weft_identity::PeerId;
use weft_overlay::StreamId;
use weft_overlay::retained::{Earlier, Mark};

use super::{Arrived, LogKey, LogOp, RestoredTopic};
use crate::{TopicBundle, TopicName};

/// What lies on a node's disk of its topics. It holds whatever was written, as a disk does: bounds are the node's.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    logs: BTreeMap<LogKey, Log>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    /// The topic's name and whether the log is whole; none until it was opened.
    open: Option<(TopicName, bool)>,
    held: BTreeMap<(StreamId<PeerId>, u64), Earlier<TopicBundle>>,
    arrivals: BTreeMap<u64, Arrived>,
    marks: BTreeMap<StreamId<PeerId>, Mark>,
}

impl Kept {
    /// Carries out a batch.
    pub fn write(&mut self, ops: Vec<LogOp>) {
        for op in ops {
            self.write_one(op);
        }
    }

    fn write_one(&mut self, op: LogOp) {
        match op {
            LogOp::Open {
                log,
                name,
                is_whole,
            } => self.log(log).open = Some((name, is_whole)),
            LogOp::Hold {
                log,
                bundle,
                hops,
                received_at,
            } => {
                let value = &bundle.0.value;
                let stream = StreamId {
                    publisher: value.publisher,
                    epoch: value.epoch,
                };
                let at = (stream, value.first);
                let held = Earlier {
                    bundle,
                    hops,
                    received_at,
                };
                self.log(log).held.insert(at, held);
            }
            LogOp::Drop { log, stream, first } => {
                self.log(log).held.remove(&(stream, first));
            }
            LogOp::Arrive { log, place, what } => {
                self.log(log).arrivals.insert(place, what);
            }
            LogOp::Trim { log, place } => {
                self.log(log).arrivals.remove(&place);
            }
            LogOp::Mark { log, stream, mark } => {
                self.log(log).marks.insert(stream, mark);
            }
            LogOp::Unmark { log, stream } => {
                self.log(log).marks.remove(&stream);
            }
            LogOp::Close { log } => self.log(log).open = None,
        }
    }

    fn log(&mut self, key: LogKey) -> &mut Log {
        self.logs.entry(key).or_default()
    }

    /// Returns what a node begins with that is started on it. What is left of logs that were closed goes.
    pub fn restore(&mut self) -> Vec<RestoredTopic> {
        self.logs.retain(|_, log| log.open.is_some());
        let restored = self.logs.iter().filter_map(|(key, log)| {
            let (name, is_whole) = log.open.clone()?;
            Some(RestoredTopic {
                name,
                life: key.life,
                is_whole,
                held: log.held.values().cloned().collect(),
                arrivals: log
                    .arrivals
                    .iter()
                    .map(|(place, what)| (*place, Some(*what)))
                    .collect(),
                marks: log.marks.clone().into_iter().collect(),
            })
        });
        restored.collect()
    }
}
