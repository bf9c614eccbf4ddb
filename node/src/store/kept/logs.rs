//! What topics' logs keep, as keys and values of the store's log.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Topics` | a log | whether it is whole 1, the topic's name |
//! | `Held` | a log, a stream, the first seq 8 | hops 1, when it came 8, signature 64, the body as it was signed |
//! | `Arrived` | a log, the place 8 | the kind 1; for a bundle a stream, its first seq 8, the first that was due 8, the last 8; for a gap a stream, from 8, to 8; for lost ones how many places 8 |
//! | `Marks` | a log, a stream | base 8, the head's hash 32, next 8, the epoch before 8 and its last seq 8, then for each range of what was seen first 8 and last 8 |
//!
//! A log is the topic's point 32 and its life 8, a stream the publisher 32 and the epoch 8. Integers are big-endian; all ones
//! stand for none.

mod restore;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use weft_core::TopicBundle;
use weft_core::log::{Arrived, LogKey, LogOp};
use weft_identity::PeerId;
use weft_overlay::retained::Mark;
use weft_overlay::{StreamId, UnixMicros};

pub(crate) use restore::restore;

use crate::store::{Op, Table};

/// Bytes of the longest key: of a bundle.
const NAME_BYTES: usize = 40 + 40 + 8;
/// Bytes in front of a bundle's body.
const HELD_BYTES: usize = 1 + 8 + 64;
/// What stands for a number that isn't there; no seq or epoch comes to it.
const NONE: u64 = u64::MAX;

/// What kind of arrival it is.
const BUNDLE: u8 = 1;
const GAP: u8 = 2;
const LOST: u8 = 3;

/// Returns the changes of the store that a batch of changes to logs means.
pub(crate) fn changes(ops: Vec<LogOp>) -> Vec<Op> {
    ops.into_iter().map(change).collect()
}

fn change(op: LogOp) -> Op {
    let put = |table, key, value| Op::Put { table, key, value };
    let remove = |table, key| Op::Remove { table, key };
    match op {
        LogOp::Open {
            log,
            name,
            is_whole,
        } => {
            let mut value = BytesMut::with_capacity(1 + name.as_str().len());
            value.put_u8(is_whole.into());
            value.put_slice(name.as_str().as_bytes());
            put(Table::Topics, Name::of(log).freeze(), value.freeze())
        }
        LogOp::Hold {
            log,
            bundle,
            hops,
            received_at,
        } => {
            let name = Name::of(log).stream(stream_of(&bundle));
            let name = name.number(bundle.0.value.first).freeze();
            put(Table::Held, name, held(&bundle, hops, received_at))
        }
        LogOp::Drop { log, stream, first } => {
            let name = Name::of(log).stream(stream).number(first);
            remove(Table::Held, name.freeze())
        }
        LogOp::Arrive { log, place, what } => {
            let name = Name::of(log).number(place);
            put(Table::Arrived, name.freeze(), arrived(&what))
        }
        LogOp::Trim { log, place } => remove(Table::Arrived, Name::of(log).number(place).freeze()),
        LogOp::Mark { log, stream, mark } => {
            let name = Name::of(log).stream(stream);
            put(Table::Marks, name.freeze(), marked(&mark))
        }
        LogOp::Unmark { log, stream } => {
            remove(Table::Marks, Name::of(log).stream(stream).freeze())
        }
        LogOp::Close { log } => remove(Table::Topics, Name::of(log).freeze()),
    }
}

/// A key under which something lies.
struct Name(BytesMut);

impl Name {
    fn of(log: LogKey) -> Self {
        let mut name = BytesMut::with_capacity(NAME_BYTES);
        name.put_slice(log.topic.as_bytes());
        name.put_u64(log.life);
        Self(name)
    }

    fn stream(mut self, stream: StreamId<PeerId>) -> Self {
        put_stream(stream, &mut self.0);
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    fn freeze(self) -> Bytes {
        self.0.freeze()
    }
}

fn put_stream(stream: StreamId<PeerId>, to: &mut BytesMut) {
    to.put_slice(stream.publisher.as_bytes());
    to.put_u64(stream.epoch);
}

fn stream_of(bundle: &TopicBundle) -> StreamId<PeerId> {
    StreamId {
        publisher: bundle.0.value.publisher,
        epoch: bundle.0.value.epoch,
    }
}

fn held(bundle: &TopicBundle, hops: u8, received_at: UnixMicros) -> Bytes {
    let mut value = BytesMut::with_capacity(HELD_BYTES + bundle.0.body.len());
    value.put_u8(hops);
    value.put_u64(received_at.0);
    value.put_slice(&bundle.0.signature.0);
    value.put_slice(&bundle.0.body);
    value.freeze()
}

fn arrived(what: &Arrived) -> Bytes {
    let mut value = BytesMut::with_capacity(1 + 40 + 24);
    match *what {
        Arrived::Bundle {
            stream,
            first,
            from,
            last,
        } => {
            value.put_u8(BUNDLE);
            put_stream(stream, &mut value);
            value.put_u64(first);
            value.put_u64(from);
            value.put_u64(last);
        }
        Arrived::Gap { stream, from, to } => {
            value.put_u8(GAP);
            put_stream(stream, &mut value);
            value.put_u64(from);
            value.put_u64(to);
        }
        Arrived::Lost { places } => {
            value.put_u8(LOST);
            value.put_u64(places);
        }
    }
    value.freeze()
}

fn marked(mark: &Mark) -> Bytes {
    let mut value = BytesMut::with_capacity(64 + mark.seen.range_count() * 16);
    value.put_u64(mark.base);
    value.put_slice(mark.head.as_bytes());
    value.put_u64(mark.next.unwrap_or(NONE));
    let previous = mark.previous_epoch;
    value.put_u64(previous.map_or(NONE, |previous| previous.epoch));
    let last = previous.and_then(|previous| previous.last);
    value.put_u64(last.unwrap_or(NONE));
    for range in mark.seen.iter() {
        value.put_u64(*range.start());
        value.put_u64(*range.end());
    }
    value.freeze()
}
