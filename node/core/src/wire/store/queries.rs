//! What is asked.

use weft_dht::kv::fingerprint::Item;
use weft_dht::kv::{KvKey, KvPrefix};
use weft_dht::store::messages::{AMONG_MAX, Delivery, Query, RANGES_MAX, Scope};
use weft_identity::PeerId;

use super::super::checker::Checker;
use super::super::encode::{bounded, id};
use super::super::fields::{Fields, Refused, Value, malformed, once, required};
use super::super::record::read_key;
use super::super::{descriptor, proto};
use super::parts;
use crate::PeerContact;

pub(super) fn encode(query: &Query<PeerContact>) -> proto::store::Message {
    use proto::store::Message as M;
    match query {
        Query::Get { key, copies, after } => M::Get(proto::StoreGet {
            key: key.to_string(),
            copies: (*copies).into(),
            after: after.as_ref().map(parts::encode_id),
        }),
        Query::Heads { key, copies } => M::Heads(proto::StoreHeads {
            key: key.to_string(),
            copies: (*copies).into(),
        }),
        Query::List {
            prefix,
            copies,
            after,
        } => M::List(proto::StoreList {
            prefix: prefix.as_str().to_owned(),
            copies: (*copies).into(),
            after: after.as_ref().map_or_else(String::new, KvKey::to_string),
        }),
        Query::Put { record, delivery } => M::Put(encode_put(&record.signed, *delivery)),
        Query::Claim {
            contact,
            claim,
            leaving,
        } => M::Claim(proto::StoreClaim {
            contact: Some(descriptor::encode(contact)),
            claim: claim.as_ref().map(parts::encode_claim),
            leaving: *leaving,
        }),
        Query::Compare { scope, ranges } => M::Compare(proto::StoreCompare {
            among: bounded(&scope.among, AMONG_MAX)
                .map(|peer| id(peer.as_bytes()))
                .collect(),
            behind: scope.behind.into(),
            ranges: bounded(ranges, RANGES_MAX)
                .map(|(range, summary)| proto::StoreRangeSummary {
                    range: Some(parts::encode_range(*range)),
                    summary: Some(parts::encode_summary(summary)),
                })
                .collect(),
        }),
        Query::Fetch { items } => M::Fetch(encode_items(items)),
        Query::Push { records } => M::Push(proto::StorePush {
            records: parts::encode_records(records),
        }),
        Query::Offer { items } => M::Offer(encode_items(items)),
    }
}

/// Reads the query that has this number in the schema.
pub(super) fn decode(
    number: u32,
    bytes: &[u8],
    sender: PeerId,
    checker: &mut Checker,
) -> Result<Query<PeerContact>, Refused> {
    match number {
        2 => get(bytes),
        3 => heads(bytes),
        4 => list(bytes),
        5 => put(bytes, checker),
        6 => claim(bytes, sender, checker),
        7 => compare(bytes),
        8 => Ok(Query::Fetch {
            items: items(bytes)?,
        }),
        9 => push(bytes, checker),
        10 => Ok(Query::Offer {
            items: items(bytes)?,
        }),
        _ => Err(Refused::Unknown),
    }
}

fn get(bytes: &[u8]) -> Result<Query<PeerContact>, Refused> {
    let (mut key, mut copies, mut after) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut key, read_key(value)?)?,
            2 => once(&mut copies, value.clamped()?)?,
            3 => once(&mut after, parts::read_id(value)?)?,
            _ => {}
        }
    }
    Ok(Query::Get {
        key: required(key)?,
        copies: copies.unwrap_or(0),
        after,
    })
}

fn heads(bytes: &[u8]) -> Result<Query<PeerContact>, Refused> {
    let (mut key, mut copies) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut key, read_key(value)?)?,
            2 => once(&mut copies, value.clamped()?)?,
            _ => {}
        }
    }
    Ok(Query::Heads {
        key: required(key)?,
        copies: copies.unwrap_or(0),
    })
}

fn list(bytes: &[u8]) -> Result<Query<PeerContact>, Refused> {
    let (mut prefix, mut copies, mut after) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut prefix, read_prefix(value)?)?,
            2 => once(&mut copies, value.clamped()?)?,
            3 => once(&mut after, read_key(value)?)?,
            _ => {}
        }
    }
    Ok(Query::List {
        prefix: required(prefix)?,
        copies: copies.unwrap_or(0),
        after,
    })
}

fn read_prefix(field: Value<'_>) -> Result<KvPrefix, Refused> {
    let text = std::str::from_utf8(field.bytes()?).ok();
    match text.map(KvPrefix::new) {
        Some(Ok(prefix)) => Ok(prefix),
        Some(Err(_)) | None => malformed("a prefix without a whole tag"),
    }
}

fn encode_put(record: &bytes::Bytes, delivery: Delivery<PeerId>) -> proto::StorePut {
    use proto::StoreDelivery as D;
    let (delivery, hint_for) = match delivery {
        Delivery::Write => (D::Write, None),
        Delivery::Hint(replica) => (D::Hint, Some(replica)),
        Delivery::Repair => (D::Repair, None),
    };
    proto::StorePut {
        record: record.clone(),
        delivery: delivery.into(),
        hint_for: hint_for.map(|peer| id(peer.as_bytes())).unwrap_or_default(),
    }
}

fn put(bytes: &[u8], checker: &mut Checker) -> Result<Query<PeerContact>, Refused> {
    let (mut record, mut delivery, mut hint_for) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut record, value.bytes()?)?,
            2 => once(&mut delivery, value.varint()?)?,
            3 => once(&mut hint_for, PeerId::from_bytes(value.array()?))?,
            _ => {}
        }
    }
    let delivery = match (required(delivery)?, hint_for) {
        (1, None) => Delivery::Write,
        (2, Some(replica)) => Delivery::Hint(replica),
        (3, None) => Delivery::Repair,
        (0..=3, _) => return malformed("a put without its reason"),
        _ => return Err(Refused::Unknown),
    };
    Ok(Query::Put {
        record: checker.record(required(record)?)?,
        delivery,
    })
}

fn claim(
    bytes: &[u8],
    sender: PeerId,
    checker: &mut Checker,
) -> Result<Query<PeerContact>, Refused> {
    let (mut contact, mut claim, mut leaving) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut contact, checker.own_contact(value.bytes()?, sender)?)?,
            2 => once(&mut claim, parts::read_claim(value)?)?,
            3 => once(&mut leaving, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Query::Claim {
        contact: required(contact)?,
        claim,
        leaving: leaving.unwrap_or(false),
    })
}

fn compare(bytes: &[u8]) -> Result<Query<PeerContact>, Refused> {
    let (mut among, mut behind, mut ranges) = (Vec::new(), None, Vec::new());
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if among.len() >= AMONG_MAX => return malformed("a comparison among over 66 peers"),
            1 => among.push(PeerId::from_bytes(value.array()?)),
            2 => once(&mut behind, value.clamped()?)?,
            3 if ranges.len() >= RANGES_MAX => return malformed("over 4,096 ranges"),
            3 => ranges.push(parts::read_range_summary(value)?),
            _ => {}
        }
    }
    let behind = behind.unwrap_or(0);
    if behind > 1 || !among.is_sorted_by(|a, b| a < b) {
        return malformed("a comparison that no node asks for");
    }
    Ok(Query::Compare {
        scope: Scope { among, behind },
        ranges,
    })
}

fn encode_items(items: &[Item]) -> proto::StoreItems {
    proto::StoreItems {
        items: parts::encode_items(items),
    }
}

fn items(bytes: &[u8]) -> Result<Vec<Item>, Refused> {
    let mut items = None;
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        if number == 1 {
            once(&mut items, parts::read_items(value)?)?;
        }
    }
    Ok(items.unwrap_or_default())
}

fn push(bytes: &[u8], checker: &mut Checker) -> Result<Query<PeerContact>, Refused> {
    let mut records = parts::RecordsReader::default();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        if number == 1 {
            records.take(value, checker)?;
        }
    }
    Ok(Query::Push {
        records: records.read,
    })
}
