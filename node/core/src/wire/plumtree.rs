//! The messages of a swarm's broadcast, bundles apart.

use std::time::Duration;

use weft_identity::{Hash, PeerId};
use weft_overlay::digest::{SPANS_PER_FRAME_MAX, STREAMS_PER_FRAME_MAX, StreamDigest};
use weft_overlay::plumtree::{Beacon, DigestKind, Message};
use weft_overlay::seqs::RANGES_MAX;
use weft_overlay::{Seqs, StreamId, UnixMicros};

use super::checker::Checker;
use super::encode::{bounded, id};
use super::fields::{Fields, Refused, malformed, once, required, varint};
use super::{CONTROL_BYTES_MAX, SEQ_MAX, bundle, proto, spans};
use crate::{TopicBundle, TopicId};

/// Bytes of what lists streams: 1,024 of them with 64 ranges of two 8-byte varints each and 128 bytes beside them, and 256 spans of
/// two bounds.
pub(super) const STREAMS_BYTES_MAX: usize =
    STREAMS_PER_FRAME_MAX * (RANGES_MAX * 16 + 128) + SPANS_PER_FRAME_MAX * spans::BYTES_MAX;
/// Trees in one frame: as many as a frame can tell of streams.
pub(super) const TREES_MAX: usize = STREAMS_PER_FRAME_MAX;

type Broadcast = Message<PeerId, TopicBundle>;

/// Encodes a message of a swarm's broadcast; none for bundles, which are laid out in [`bundle`], and for duplicates,
/// which never stand on the wire.
pub(super) fn encode(message: &Broadcast) -> Option<proto::broadcast::Message> {
    use proto::broadcast::Message as M;
    Some(match message {
        Message::Bundle { .. } | Message::Duplicate { .. } => return None,
        Message::Digest {
            kind,
            streams,
            has_base,
        } => M::Digest(proto::Digest {
            kind: match kind {
                DigestKind::Delta => proto::DigestKind::Delta,
                DigestKind::Recent => proto::DigestKind::Recent,
                DigestKind::All(_) => proto::DigestKind::All,
                DigestKind::Rest(_) => proto::DigestKind::Rest,
            }
            .into(),
            streams: bounded(streams, STREAMS_PER_FRAME_MAX)
                .map(encode_digest)
                .collect(),
            has_base: *has_base,
            spans: spans::encode(kind.spans()),
        }),
        Message::Split { salt, parts } => M::Split(proto::Split {
            salt: *salt,
            parts: spans::encode_parts(parts),
        }),
        Message::Fingerprint {
            fingerprint,
            has_base,
            beacon,
        } => M::Fingerprint(proto::Fingerprint {
            fingerprint: id(fingerprint),
            has_base: *has_base,
            beacon: beacon.as_ref().map(encode_beacon),
        }),
        Message::Beacon(beacon) => M::Beacon(encode_beacon(beacon)),
        Message::Graft { trees } => M::Graft(proto::Graft {
            trees: bounded(trees, TREES_MAX)
                .map(|publisher| id(publisher.as_bytes()))
                .collect(),
        }),
        Message::Prune { trees } => M::Prune(proto::Prune {
            trees: bounded(trees, TREES_MAX)
                .map(|publisher| id(publisher.as_bytes()))
                .collect(),
        }),
        Message::Want { ranges } => M::Want(proto::Want {
            streams: bounded(ranges, STREAMS_PER_FRAME_MAX)
                .map(|(stream, seqs)| encode_stream_seqs(*stream, seqs))
                .collect(),
        }),
    })
}

pub(super) fn encode_stream_seqs(stream: StreamId<PeerId>, seqs: &Seqs) -> proto::StreamSeqs {
    proto::StreamSeqs {
        publisher: id(stream.publisher.as_bytes()),
        epoch: stream.epoch,
        seqs: encode_seqs(seqs),
    }
}

pub(super) fn encode_digest(digest: &StreamDigest<PeerId>) -> proto::StreamDigest {
    proto::StreamDigest {
        publisher: id(digest.stream.publisher.as_bytes()),
        epoch: digest.stream.epoch,
        seqs: encode_seqs(&digest.seqs),
        supplies_from: digest.supplies_from,
        head: id(digest.head.as_bytes()),
        head_age: micros_and_one(digest.head_age),
    }
}

fn encode_beacon(beacon: &Beacon<PeerId>) -> proto::Beacon {
    proto::Beacon {
        root: id(beacon.root.as_bytes()),
        since: beacon.since.0,
        refresh: beacon.refresh,
        distance: micros_and_one(beacon.distance),
        to_parent: beacon.to_parent,
    }
}

/// A duration that may be missing: zero says that it is.
fn micros_and_one(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| {
        u64::try_from(duration.as_micros()).map_or(u64::MAX, |micros| micros.saturating_add(1))
    })
}

/// Reads what [`micros_and_one`] wrote.
fn without_one(micros: Option<u64>) -> Option<Duration> {
    micros
        .and_then(|micros| micros.checked_sub(1))
        .map(Duration::from_micros)
}

/// Each range as its distance from the end of the one before it and its length less one: ranges that touch or overlap
/// can't be said, and most numbers take a byte.
fn encode_seqs(seqs: &Seqs) -> Vec<u64> {
    let mut out = Vec::with_capacity(2 * seqs.range_count());
    let mut end = 0;
    for range in seqs.iter() {
        let (first, last) = range.into_inner();
        out.extend([first - end, last - first]);
        end = last;
    }
    out
}

/// Reads a Broadcast.
pub(super) fn decode(bytes: &[u8], checker: &mut Checker) -> Result<(TopicId, Broadcast), Refused> {
    let (mut topic, mut kind) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut topic, TopicId::from_bytes(value.array()?))?,
            2..=9 => once(&mut kind, (number, value.bytes()?))?,
            _ => {}
        }
    }
    let topic = required(topic)?;
    let (number, bytes) = kind.ok_or(Refused::Unknown)?;
    let bytes_max = match number {
        2 => bundle::BYTES_MAX,
        3 | 7 => STREAMS_BYTES_MAX,
        _ => CONTROL_BYTES_MAX,
    };
    if bytes.len() > bytes_max {
        return malformed("a broadcast message over its limit");
    }
    let message = match number {
        2 => bundle::decode(bytes, topic, checker)?,
        3 => digest(bytes)?,
        4 => fingerprint(bytes)?,
        5 => Message::Graft {
            trees: trees(bytes)?,
        },
        6 => Message::Prune {
            trees: trees(bytes)?,
        },
        7 => want(bytes)?,
        9 => split(bytes)?,
        _ => Message::Beacon(beacon(bytes)?),
    };
    Ok((topic, message))
}

fn digest(bytes: &[u8]) -> Result<Broadcast, Refused> {
    let mut streams = Vec::new();
    let (mut kind, mut has_base) = (None, None);
    let mut spans = spans::Reader::default();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut kind, value.varint()?)?,
            2 if streams.len() >= STREAMS_PER_FRAME_MAX => return malformed("over 1,024 streams"),
            2 => streams.push(stream_digest(value.bytes()?)?),
            3 => once(&mut has_base, value.flag()?)?,
            5 => spans.read(value.bytes()?)?,
            _ => {}
        }
    }
    Ok(Message::Digest {
        kind: match required(kind)? {
            0 => return malformed("no kind of digest"),
            1 => DigestKind::Delta,
            2 => DigestKind::All(spans.spans()),
            3 => DigestKind::Recent,
            4 => DigestKind::Rest(spans.spans()),
            _ => return Err(Refused::Unknown),
        },
        streams,
        has_base: has_base.unwrap_or(false),
    })
}

fn split(bytes: &[u8]) -> Result<Broadcast, Refused> {
    let mut salt = None;
    let mut parts = spans::Reader::default();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut salt, value.fixed32()?)?,
            2 => parts.read(value.bytes()?)?,
            _ => {}
        }
    }
    Ok(Message::Split {
        salt: salt.unwrap_or(0),
        parts: parts.parts(),
    })
}

pub(super) fn stream_digest(bytes: &[u8]) -> Result<StreamDigest<PeerId>, Refused> {
    let (mut publisher, mut epoch, mut ranges) = (None, None, None);
    let (mut supplies_from, mut head, mut head_age) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut publisher, PeerId::from_bytes(value.array()?))?,
            2 => once(&mut epoch, value.seq()?)?,
            3 => once(&mut ranges, seqs(value.bytes()?)?)?,
            4 => once(&mut supplies_from, value.varint()?)?,
            5 => once(&mut head, Hash::from_bytes(value.array()?))?,
            6 => once(&mut head_age, value.varint()?)?,
            _ => {}
        }
    }
    let supplies_from = supplies_from.unwrap_or(0);
    if supplies_from > SEQ_MAX + 1 {
        return malformed("a seq beyond 2^53");
    }
    Ok(StreamDigest {
        stream: StreamId {
            publisher: required(publisher)?,
            epoch: epoch.unwrap_or(0),
        },
        seqs: ranges.unwrap_or_default(),
        supplies_from,
        head: required(head)?,
        head_age: without_one(head_age),
    })
}

fn seqs(mut packed: &[u8]) -> Result<Seqs, Refused> {
    let mut out = Seqs::default();
    let mut end = 0u64;
    while !packed.is_empty() {
        let (gap, more) = (varint(&mut packed)?, varint(&mut packed)?);
        let least = if out.is_empty() { 1 } else { 2 };
        let first = end.checked_add(gap).filter(|_| gap >= least);
        let last = first
            .and_then(|first| first.checked_add(more))
            .filter(|&last| last <= SEQ_MAX);
        let (Some(first), Some(last)) = (first, last) else {
            return malformed("ranges that touch, or beyond 2^53");
        };
        if !out.insert(first, last) {
            return malformed("over 64 ranges");
        }
        end = last;
    }
    Ok(out)
}

fn fingerprint(bytes: &[u8]) -> Result<Broadcast, Refused> {
    let (mut fingerprint, mut has_base, mut place) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut fingerprint, value.array()?)?,
            2 => once(&mut has_base, value.flag()?)?,
            3 => once(&mut place, beacon(value.bytes()?)?)?,
            _ => {}
        }
    }
    Ok(Message::Fingerprint {
        fingerprint: required(fingerprint)?,
        has_base: has_base.unwrap_or(false),
        beacon: place,
    })
}

fn beacon(bytes: &[u8]) -> Result<Beacon<PeerId>, Refused> {
    let (mut root, mut since, mut refresh) = (None, None, None);
    let (mut distance, mut to_parent) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut root, PeerId::from_bytes(value.array()?))?,
            2 => once(&mut since, UnixMicros(value.varint()?))?,
            3 => once(&mut refresh, value.varint()?)?,
            4 => once(&mut distance, value.varint()?)?,
            5 => once(&mut to_parent, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Beacon {
        root: required(root)?,
        since: since.unwrap_or_default(),
        refresh: refresh.unwrap_or(0),
        distance: without_one(distance),
        to_parent: to_parent.unwrap_or(false),
    })
}

fn trees(bytes: &[u8]) -> Result<Vec<PeerId>, Refused> {
    let mut trees = Vec::new();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if trees.len() >= TREES_MAX => return malformed("over 1,024 trees"),
            1 => trees.push(PeerId::from_bytes(value.array()?)),
            _ => {}
        }
    }
    Ok(trees)
}

fn want(bytes: &[u8]) -> Result<Broadcast, Refused> {
    let mut ranges = Vec::new();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if ranges.len() >= STREAMS_PER_FRAME_MAX => return malformed("over 1,024 streams"),
            1 => ranges.push(stream_seqs(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(Message::Want { ranges })
}

pub(super) fn stream_seqs(bytes: &[u8]) -> Result<(StreamId<PeerId>, Seqs), Refused> {
    let (mut publisher, mut epoch, mut ranges) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut publisher, PeerId::from_bytes(value.array()?))?,
            2 => once(&mut epoch, value.seq()?)?,
            3 => once(&mut ranges, seqs(value.bytes()?)?)?,
            _ => {}
        }
    }
    let stream = StreamId {
        publisher: required(publisher)?,
        epoch: epoch.unwrap_or(0),
    };
    Ok((stream, ranges.unwrap_or_default()))
}
