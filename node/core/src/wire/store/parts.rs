//! What several messages of the store have in common.

use bytes::{BufMut, Bytes, BytesMut};
use weft_dht::kv::fingerprint::{Item, Range, Summary};
use weft_dht::kv::{Content, Dot, Header, Record, RecordId};
use weft_dht::store::messages::{ITEMS_MAX, RECORDS_BYTES_MAX, SIGHT_PEERS_MAX, Seen, Sight};
use weft_dht::store::{CLAIM_PEERS_MAX, Claim, Known};
use weft_identity::PeerId;

use super::super::checker::Checker;
use super::super::encode::{bounded, id};
use super::super::fields::{Fields, Refused, Value, malformed, once, required, varint};
use super::super::record::{HeadReader, RECORD_BYTES_MAX, encode_context, encode_seq, read_seq};
use super::super::{descriptor, proto};
use crate::PeerContact;

const ITEM_BYTES: usize = 16;

pub(super) fn encode_records(records: &[Record<PeerId>]) -> Vec<Bytes> {
    let records = bounded(records, ITEMS_MAX);
    records.map(|record| record.signed.clone()).collect()
}

/// Reads a list of records one by one, and checks each.
#[derive(Default)]
pub(super) struct RecordsReader {
    pub(super) read: Vec<Record<PeerId>>,
    bytes: usize,
}

impl RecordsReader {
    pub(super) fn take(&mut self, field: Value<'_>, checker: &mut Checker) -> Result<(), Refused> {
        let record = field.bytes()?;
        self.bytes += record.len();
        if self.read.len() >= ITEMS_MAX || self.bytes > RECORDS_BYTES_MAX + RECORD_BYTES_MAX {
            return malformed("over 4,096 records, or over 1 MiB of them and one");
        }
        self.read.push(checker.record(record)?);
        Ok(())
    }
}

pub(super) fn encode_id(of: &RecordId<PeerId>) -> proto::StoreRecordId {
    proto::StoreRecordId {
        writer: id(of.dot.writer.as_bytes()),
        seq: Some(encode_seq(of.dot.seq)),
        hash: id(&of.hash),
    }
}

pub(super) fn read_id(field: Value<'_>) -> Result<RecordId<PeerId>, Refused> {
    let (mut writer, mut seq, mut hash) = (None, None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut writer, PeerId::from_bytes(value.array()?))?,
            2 => once(&mut seq, read_seq(value)?)?,
            3 => once(&mut hash, value.array()?)?,
            _ => {}
        }
    }
    Ok(RecordId {
        dot: Dot {
            writer: required(writer)?,
            seq: required(seq)?,
        },
        hash: required(hash)?,
    })
}

pub(super) fn encode_head(head: &Header<PeerId>) -> proto::StoreHead {
    proto::StoreHead {
        writer: id(head.dot.writer.as_bytes()),
        key: head.key.to_string(),
        seq: Some(encode_seq(head.dot.seq)),
        prev: head.prev.map(encode_seq),
        context: encode_context(&head.context),
        written_at: head.written_at.0,
        expires_at: head.expires_at.map(|at| at.0),
        copies: head.copies.into(),
        value_bytes: match head.content {
            Content::Value { bytes } => Some(bytes),
            Content::Tombstone => None,
        },
        hash: id(&head.hash),
    }
}

pub(super) fn read_head(field: Value<'_>) -> Result<Header<PeerId>, Refused> {
    let (mut head, mut value_bytes, mut hash) = (HeadReader::default(), None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            9 => once(&mut value_bytes, value.varint()?)?,
            10 => once(&mut hash, value.array()?)?,
            _ => head.take(number, value)?,
        }
    }
    let content = match value_bytes.map(u32::try_from) {
        None => Content::Tombstone,
        Some(Ok(bytes)) => Content::Value { bytes },
        Some(Err(_)) => return malformed("a value of over 4 GiB"),
    };
    Ok(Header {
        hash: required(hash)?,
        ..head.read(content)?
    })
}

pub(super) fn encode_sight(sight: &Sight<PeerContact>) -> proto::StoreSight {
    let peers = bounded(&sight.peers, SIGHT_PEERS_MAX);
    let encode = |seen: &Seen<PeerContact>| proto::StoreSeen {
        contact: Some(descriptor::encode(&seen.contact)),
        round: seen.round,
        settled: seen.settled,
        alive: seen.alive,
    };
    proto::StoreSight {
        counts: sight.counts,
        peers: peers.map(encode).collect(),
    }
}

pub(super) fn read_sight(
    field: Value<'_>,
    checker: &mut Checker,
) -> Result<Sight<PeerContact>, Refused> {
    let (mut counts, mut peers) = (None, Vec::new());
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut counts, value.flag()?)?,
            2 if peers.len() >= SIGHT_PEERS_MAX => return malformed("a sight of over 20 peers"),
            2 => peers.push(read_seen(value, checker)?),
            _ => {}
        }
    }
    Ok(Sight {
        counts: counts.unwrap_or(false),
        peers,
    })
}

fn read_seen(field: Value<'_>, checker: &mut Checker) -> Result<Seen<PeerContact>, Refused> {
    let (mut contact, mut round, mut settled, mut alive) = (None, None, None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut contact, checker.contact(value.bytes()?)?)?,
            2 => once(&mut round, value.varint()?)?,
            3 => once(&mut settled, value.flag()?)?,
            4 => once(&mut alive, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Seen {
        contact: required(contact)?,
        round: round.unwrap_or(0),
        settled: settled.unwrap_or(false),
        alive: alive.unwrap_or(false),
    })
}

pub(super) fn encode_claim(claim: &Claim<PeerId>) -> proto::Claim {
    let known = bounded(&claim.known, CLAIM_PEERS_MAX);
    let encode = |known: &Known<PeerId>| proto::ClaimKnown {
        peer: id(known.peer.as_bytes()),
        round: known.round,
        gone: known.gone,
        reached: known.reached,
        before: known.before,
    };
    proto::Claim {
        round: claim.round,
        old: claim.old,
        known: known.map(encode).collect(),
    }
}

pub(super) fn read_claim(field: Value<'_>) -> Result<Claim<PeerId>, Refused> {
    let (mut round, mut old, mut known) = (None, None, Vec::new());
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut round, value.varint()?)?,
            2 => once(&mut old, value.flag()?)?,
            3 if known.len() >= CLAIM_PEERS_MAX => return malformed("a claim of over 64 peers"),
            3 => known.push(read_known(value)?),
            _ => {}
        }
    }
    let claim = Claim {
        round: round.unwrap_or(0),
        old: old.unwrap_or(false),
        known,
    };
    if !claim.is_well_formed() {
        return malformed("a claim without a round, or out of order");
    }
    Ok(claim)
}

fn read_known(field: Value<'_>) -> Result<Known<PeerId>, Refused> {
    let (mut peer, mut round) = (None, None);
    let (mut gone, mut reached, mut before) = (None, None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut peer, PeerId::from_bytes(value.array()?))?,
            2 => once(&mut round, value.varint()?)?,
            3 => once(&mut gone, value.flag()?)?,
            4 => once(&mut reached, value.flag()?)?,
            5 => once(&mut before, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Known {
        peer: required(peer)?,
        round: round.unwrap_or(0),
        gone: gone.unwrap_or(false),
        reached: reached.unwrap_or(false),
        before: before.unwrap_or(false),
    })
}

pub(super) fn encode_range(range: Range) -> proto::StoreRange {
    let bytes = usize::from(range.bits()).div_ceil(8);
    proto::StoreRange {
        prefix: id(&range.prefix().to_be_bytes()[..bytes]),
        bits: range.bits().into(),
    }
}

pub(super) fn read_range(field: Value<'_>) -> Result<Range, Refused> {
    let (mut prefix, mut bits) = (None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut prefix, value.bytes()?)?,
            2 => once(&mut bits, value.clamped()?)?,
            _ => {}
        }
    }
    let (prefix, bits) = (prefix.unwrap_or_default(), bits.unwrap_or(0));
    let mut whole = [0; ITEM_BYTES];
    let range = match whole.get_mut(..prefix.len()) {
        Some(first) if prefix.len() == usize::from(bits).div_ceil(8) => {
            first.copy_from_slice(prefix);
            Range::new(u128::from_be_bytes(whole), bits)
        }
        Some(_) | None => None,
    };
    range.map_or_else(|| malformed("a range that is none"), Ok)
}

pub(super) fn encode_summary(summary: &Summary) -> proto::StoreSummary {
    let sum = match summary.sum {
        0 => Bytes::new(),
        sum => id(&sum.to_be_bytes()),
    };
    proto::StoreSummary {
        count: summary.count,
        sum,
    }
}

pub(super) fn read_summary(field: Value<'_>) -> Result<Summary, Refused> {
    let (mut count, mut sum) = (None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut count, value.varint()?)?,
            2 => once(&mut sum, u128::from_be_bytes(value.array()?))?,
            _ => {}
        }
    }
    match u32::try_from(count.unwrap_or(0)) {
        Ok(count) => Ok(Summary {
            count,
            sum: sum.unwrap_or(0),
        }),
        Err(_) => malformed("a count of over 32 bits"),
    }
}

pub(super) fn read_range_summary(field: Value<'_>) -> Result<(Range, Summary), Refused> {
    let (mut range, mut summary) = (None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut range, read_range(value)?)?,
            2 => once(&mut summary, read_summary(value)?)?,
            _ => {}
        }
    }
    Ok((required(range)?, required(summary)?))
}

pub(super) fn encode_items(items: &[Item]) -> Bytes {
    let mut out = BytesMut::with_capacity(items.len() * ITEM_BYTES);
    for item in bounded(items, ITEMS_MAX) {
        out.put_u128(item.0);
    }
    out.freeze()
}

pub(super) fn read_items(field: Value<'_>) -> Result<Vec<Item>, Refused> {
    let (items, rest) = field.bytes()?.as_chunks::<ITEM_BYTES>();
    if items.len() > ITEMS_MAX || !rest.is_empty() {
        return malformed("over 4,096 items, or half of one");
    }
    let items = items.iter().map(|item| Item(u128::from_be_bytes(*item)));
    Ok(items.collect())
}

/// Reads a packed list of numbers.
pub(super) fn read_packed(field: Value<'_>, max: usize) -> Result<Vec<u64>, Refused> {
    let mut rest = field.bytes()?;
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        if numbers.len() >= max {
            return malformed("a list of numbers over its limit");
        }
        numbers.push(varint(&mut rest)?);
    }
    Ok(numbers)
}
