//! The places of what arrives: each message and gap gets the next one, and what is from before this member's base those in front.

use weft_overlay::retained::Earlier;
use weft_overlay::{Bundle, Now, StreamId, Time};

use super::{ARRIVALS_MAX, OnDisk, trim};
use crate::core::Core;
use crate::log::{Arrived, LogOp};
use crate::{Delivered, Output, TopicBundle, TopicId};

/// What stands at a place and those after it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) place: u64,
    pub(super) what: Arrived,
    pub(super) at: Time,
}

impl Core {
    /// Gives what is delivered its place; none where the topic has no log.
    pub(in crate::core) fn log_arrival(
        &mut self,
        topic: TopicId,
        item: &Delivered,
        now: Now,
    ) -> Option<u64> {
        let log = self.logs.topics.get_mut(&topic)?;
        let (place, what) = (log.next, arrived(item));
        log.next += what.places();
        let at = now.time;
        // An end is followed at once: on disk this takes its place.
        if log
            .arrivals
            .back()
            .is_some_and(|it| it.what == trim::END && it.place == place)
        {
            log.arrivals.pop_back();
        }
        log.arrivals.push_back(Arrival { place, what, at });
        if log.on_disk == OnDisk::Everything {
            let log = log.key;
            self.logs.journal.push(LogOp::Arrive { log, place, what });
        }
        if self.logs.topics[&topic].arrivals.len() > ARRIVALS_MAX {
            self.trim_log(topic, now);
        }
        Some(place)
    }

    /// Puts bundles from before this member's base in front of a topic's log, oldest first, each from the first seq that is
    /// wanted of it. What is here already or isn't from before is left out.
    pub(in crate::core) fn put_in_front(
        &mut self,
        topic: TopicId,
        earlier: Vec<(Earlier<TopicBundle>, u64)>,
        now: Now,
    ) {
        let (Some(log), Some(entry)) = (
            self.logs.topics.get_mut(&topic),
            self.swarms.get_mut(&topic),
        ) else {
            return;
        };
        let bundles = earlier.iter().map(|(earlier, _)| earlier.clone());
        let taken = entry.swarm.take_earlier(bundles.collect(), now);
        let mut items = Vec::new();
        for ((earlier, from), _) in earlier.into_iter().zip(taken).filter(|(_, taken)| *taken) {
            let Earlier {
                bundle,
                hops,
                received_at,
            } = earlier;
            if log.on_disk == OnDisk::Everything {
                self.logs.journal.push(LogOp::Hold {
                    log: log.key,
                    bundle: bundle.clone(),
                    hops,
                    received_at,
                });
            }
            items.push(Delivered::Bundle {
                bundle,
                from,
                hops,
                received_at,
            });
        }
        let mut place = log.begin();
        for item in items.iter().rev() {
            let what = arrived(item);
            place -= what.places();
            let at = now.time;
            log.arrivals.push_front(Arrival { place, what, at });
            if log.on_disk == OnDisk::Everything {
                let log = log.key;
                self.logs.journal.push(LogOp::Arrive { log, place, what });
            }
        }
        self.outputs.push_back(Output::Backfill {
            topic: log.name.clone(),
            first_place: place,
            items,
        });
        // More than is kept goes again, oldest first.
        self.drain(topic, now);
    }
}

fn arrived(item: &Delivered) -> Arrived {
    match *item {
        Delivered::Bundle {
            ref bundle, from, ..
        } => {
            let header = bundle.header();
            Arrived::Bundle {
                stream: header.stream,
                first: header.first,
                from: from.max(header.first),
                last: header.last,
            }
        }
        Delivered::Gap {
            publisher,
            epoch,
            from,
            to,
        } => Arrived::Gap {
            stream: StreamId { publisher, epoch },
            from,
            to,
        },
        Delivered::Missed { places } => Arrived::Lost { places },
    }
}
