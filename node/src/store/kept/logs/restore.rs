//! Reading topics' logs at a start.
//!
//! A log of which nobody knows what is lost is given up as a whole: its places would be wrong. A bundle that is lost by name
//! costs its own places, and comes again from neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, Bytes};
use weft_core::log::{Arrived, LogKey, RestoredTopic};
use weft_core::wire::restore_bundle;
use weft_core::{TopicBundle, TopicId, TopicName};
use weft_identity::{Hash, PeerId};
use weft_overlay::retained::{Earlier, Mark};
use weft_overlay::{PreviousEpoch, Seqs, StreamId, UnixMicros};

use super::{BUNDLE, GAP, HELD_BYTES, LOST, NONE};
use crate::store::{Op, Report, Store, Table};

/// Keys that are removed by one batch: some hundred bytes each.
const REMOVED_AT_ONCE: usize = 16_384;

/// Reads the topics' logs that a network's node begins with, and lets go of what is left of others.
pub(crate) fn restore(
    store: &Store,
    report: &Report,
    network: &str,
) -> io::Result<Vec<RestoredTopic>> {
    let mut reading = Reading {
        is_lossy: report.is_lossy(),
        ..Reading::default()
    };
    reading.topics(store, network)?;
    reading.marks(store)?;
    reading.arrivals(store)?;
    reading.give_up_damaged();
    reading.held(store)?;
    for names in reading.removed.chunks(REMOVED_AT_ONCE) {
        let remove = |(table, key): &(Table, Bytes)| Op::Remove {
            table: *table,
            key: key.clone(),
        };
        // Where that fails they are met again at the next start.
        store.persist(names.iter().map(remove).collect(), |_| {});
    }
    Ok(reading.logs.into_values().map(Reading::restored).collect())
}

#[derive(Default)]
struct Reading {
    logs: BTreeMap<LogKey, RestoredLog>,
    /// Logs that can't be believed.
    damaged: BTreeSet<LogKey>,
    /// Whether anything may be lost that nobody knows of.
    is_lossy: bool,
    removed: Vec<(Table, Bytes)>,
}

struct RestoredLog {
    topic: RestoredTopic,
    arrivals: BTreeMap<u64, Option<Arrived>>,
    /// Names of what would have to go with the log.
    names: Vec<(Table, Bytes)>,
}

impl Reading {
    fn topics(&mut self, store: &Store, network: &str) -> io::Result<()> {
        let mut found = BTreeMap::new();
        let unnamed = store.scan(Table::Topics, |key, value| {
            let topic = value.as_deref().and_then(read_topic);
            let log = read_log(&mut key.clone());
            match log.zip(topic) {
                Some((log, (name, is_whole))) if name.id(network) == log.topic => {
                    found.insert(log, (key, name, is_whole));
                }
                _ => self.removed.push((Table::Topics, key)),
            }
        })?;
        self.is_lossy |= unnamed > 0;
        // Of two logs of a topic the one that was begun later is its log.
        for (log, (key, name, is_whole)) in found {
            let before = LogKey {
                topic: log.topic,
                life: 0,
            };
            let earlier = self
                .logs
                .range(before..log)
                .next_back()
                .map(|(log, _)| *log);
            if let Some(earlier) = earlier.and_then(|earlier| self.logs.remove(&earlier)) {
                self.removed.extend(earlier.names);
            }
            let topic = RestoredTopic {
                name,
                life: log.life,
                is_whole,
                held: Vec::new(),
                arrivals: Vec::new(),
                marks: Vec::new(),
            };
            let log_read = RestoredLog {
                topic,
                arrivals: BTreeMap::new(),
                names: vec![(Table::Topics, key)],
            };
            self.logs.insert(log, log_read);
        }
        Ok(())
    }

    fn marks(&mut self, store: &Store) -> io::Result<()> {
        let unnamed = store.scan(Table::Marks, |key, value| {
            let mut name = key.clone();
            let at = read_log(&mut name).zip(read_stream(&mut name));
            let known = at.and_then(|(log, stream)| Some((self.logs.get_mut(&log)?, log, stream)));
            let Some((read, log, stream)) = known else {
                return self.removed.push((Table::Marks, key));
            };
            read.names.push((Table::Marks, key));
            match value.and_then(read_mark) {
                Some(mark) => read.topic.marks.push((stream, mark)),
                None => drop(self.damaged.insert(log)),
            }
        })?;
        self.is_lossy |= unnamed > 0;
        Ok(())
    }

    fn arrivals(&mut self, store: &Store) -> io::Result<()> {
        let unnamed = store.scan(Table::Arrived, |key, value| {
            let mut name = key.clone();
            let at = read_log(&mut name).zip(name.try_get_u64().ok());
            let known = at.and_then(|(log, place)| Some((self.logs.get_mut(&log)?, place)));
            let Some((read, place)) = known else {
                return self.removed.push((Table::Arrived, key));
            };
            read.names.push((Table::Arrived, key));
            read.arrivals.insert(place, value.and_then(read_arrived));
        })?;
        self.is_lossy |= unnamed > 0;
        Ok(())
    }

    fn give_up_damaged(&mut self) {
        let (all, damaged) = (self.is_lossy, &self.damaged);
        let gone = self
            .logs
            .extract_if(.., |log, _| all || damaged.contains(log));
        for (_, log) in gone {
            tracing::warn!(
                topic = %log.topic.name,
                "the log of a topic is damaged on disk and begins anew; its cursors hold no longer, and look to your disk"
            );
            self.removed.extend(log.names);
        }
    }

    fn held(&mut self, store: &Store) -> io::Result<()> {
        store.scan(Table::Held, |key, value| {
            let log = read_log(&mut key.clone());
            let log = log.and_then(|log| self.logs.get_mut(&log));
            match (log, value.and_then(read_held)) {
                (Some(log), Some(held)) => log.topic.held.push(held),
                _ => self.removed.push((Table::Held, key)),
            }
        })?;
        Ok(())
    }

    fn restored(log: RestoredLog) -> RestoredTopic {
        RestoredTopic {
            arrivals: log.arrivals.into_iter().collect(),
            ..log.topic
        }
    }
}

fn read_log(name: &mut Bytes) -> Option<LogKey> {
    Some(LogKey {
        topic: TopicId::from_bytes(read_array(name)?),
        life: name.try_get_u64().ok()?,
    })
}

fn read_stream(from: &mut Bytes) -> Option<StreamId<PeerId>> {
    Some(StreamId {
        publisher: PeerId::from_bytes(read_array(from)?),
        epoch: from.try_get_u64().ok()?,
    })
}

fn read_array<const N: usize>(from: &mut Bytes) -> Option<[u8; N]> {
    let mut array = [0; N];
    from.try_copy_to_slice(&mut array).ok()?;
    Some(array)
}

fn read_topic(value: &[u8]) -> Option<(TopicName, bool)> {
    let (is_whole, name) = value.split_first()?;
    let name = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some((name, *is_whole != 0))
}

fn read_held(mut value: Bytes) -> Option<Earlier<TopicBundle>> {
    if value.len() < HELD_BYTES {
        return None;
    }
    let (hops, received_at) = (value.get_u8(), UnixMicros(value.get_u64()));
    let signature = weft_identity::Signature(read_array(&mut value)?);
    Some(Earlier {
        bundle: restore_bundle(signature, value).ok()?,
        hops,
        received_at,
    })
}

fn read_arrived(mut value: Bytes) -> Option<Arrived> {
    Some(match value.try_get_u8().ok()? {
        BUNDLE => Arrived::Bundle {
            stream: read_stream(&mut value)?,
            first: value.try_get_u64().ok()?,
            from: value.try_get_u64().ok()?,
            last: value.try_get_u64().ok()?,
        },
        GAP => Arrived::Gap {
            stream: read_stream(&mut value)?,
            from: value.try_get_u64().ok()?,
            to: value.try_get_u64().ok()?,
        },
        LOST => Arrived::Lost {
            places: value.try_get_u64().ok()?,
        },
        _ => return None,
    })
}

fn read_mark(mut value: Bytes) -> Option<Mark> {
    let some = |number: u64| (number != NONE).then_some(number);
    let base = value.try_get_u64().ok()?;
    let head = Hash::from_bytes(read_array(&mut value)?);
    let next = some(value.try_get_u64().ok()?);
    let epoch = some(value.try_get_u64().ok()?);
    let last = some(value.try_get_u64().ok()?);
    let mut seen = Seqs::default();
    while value.has_remaining() {
        seen.insert(value.try_get_u64().ok()?, value.try_get_u64().ok()?);
    }
    Some(Mark {
        base,
        seen,
        head,
        previous_epoch: epoch.map(|epoch| PreviousEpoch { epoch, last }),
        next,
    })
}
