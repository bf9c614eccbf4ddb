//! What is answered.

use weft_dht::kv::fingerprint::{Contents, PARTS, Range, Summary};
use weft_dht::store::messages::{Answer, ITEMS_MAX, RANGES_MAX};

use super::super::checker::Checker;
use super::super::encode::bounded;
use super::super::fields::{Fields, Refused, Value, malformed, once, required};
use super::super::proto;
use super::{parts, refusal};
use crate::PeerContact;

pub(super) fn encode(answer: &Answer<PeerContact>) -> proto::store::Message {
    use proto::store::Message as M;
    match answer {
        Answer::Got {
            sight,
            records,
            more,
        } => M::Got(proto::StoreGot {
            sight: Some(parts::encode_sight(sight)),
            records: parts::encode_records(records),
            more: *more,
        }),
        Answer::Heads { sight, heads, more } => M::HeadsGot(proto::StoreHeadsGot {
            sight: Some(parts::encode_sight(sight)),
            heads: bounded(heads, ITEMS_MAX).map(parts::encode_head).collect(),
            more: *more,
        }),
        Answer::Put { sight, kept } => M::Kept(proto::StoreKept {
            sight: Some(parts::encode_sight(sight)),
            refusal: kept.as_ref().err().map(refusal::encode),
        }),
        Answer::Claim {
            claim,
            yours,
            leaving,
        } => M::Claimed(proto::StoreClaimed {
            claim: claim.as_ref().map(parts::encode_claim),
            yours: *yours,
            leaving: *leaving,
        }),
        Answer::Compare { differing } => M::Compared(proto::StoreCompared {
            differing: bounded(differing, RANGES_MAX)
                .map(encode_differing)
                .collect(),
        }),
        Answer::Fetched { records, more } => M::Fetched(proto::StoreFetched {
            records: parts::encode_records(records),
            more: *more,
        }),
        Answer::Pushed { kept } => M::Pushed(proto::StorePushed {
            refusal: kept.as_ref().err().map(refusal::encode),
        }),
        Answer::Lacks { lacks } => M::Lacks(encode_places(lacks)),
        Answer::Unable => M::Unable(proto::StoreUnable {}),
    }
}

/// Reads the answer that has this number in the schema.
pub(super) fn decode(
    number: u32,
    bytes: &[u8],
    checker: &mut Checker,
) -> Result<Answer<PeerContact>, Refused> {
    match number {
        16 => got(bytes, checker),
        17 => heads(bytes, checker),
        18 => kept(bytes, checker),
        19 => claimed(bytes),
        20 => compared(bytes),
        21 => fetched(bytes, checker),
        22 => pushed(bytes),
        23 => Ok(Answer::Lacks {
            lacks: places(bytes)?,
        }),
        24 => Ok(Answer::Unable),
        _ => Err(Refused::Unknown),
    }
}

fn got(bytes: &[u8], checker: &mut Checker) -> Result<Answer<PeerContact>, Refused> {
    let (mut sight, mut records, mut more) = (None, parts::RecordsReader::default(), None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut sight, parts::read_sight(value, checker)?)?,
            2 => records.take(value, checker)?,
            3 => once(&mut more, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Answer::Got {
        sight: required(sight)?,
        records: records.read,
        more: more.unwrap_or(false),
    })
}

fn heads(bytes: &[u8], checker: &mut Checker) -> Result<Answer<PeerContact>, Refused> {
    let (mut sight, mut heads, mut more) = (None, Vec::new(), None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut sight, parts::read_sight(value, checker)?)?,
            2 if heads.len() >= ITEMS_MAX => return malformed("over 4,096 heads"),
            2 => heads.push(parts::read_head(value)?),
            3 => once(&mut more, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Answer::Heads {
        sight: required(sight)?,
        heads,
        more: more.unwrap_or(false),
    })
}

fn kept(bytes: &[u8], checker: &mut Checker) -> Result<Answer<PeerContact>, Refused> {
    let (mut sight, mut refusal) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut sight, parts::read_sight(value, checker)?)?,
            2 => once(&mut refusal, refusal::read(value)?)?,
            _ => {}
        }
    }
    Ok(Answer::Put {
        sight: required(sight)?,
        kept: refusal.map_or(Ok(()), Err),
    })
}

fn claimed(bytes: &[u8]) -> Result<Answer<PeerContact>, Refused> {
    let (mut claim, mut yours, mut leaving) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut claim, parts::read_claim(value)?)?,
            2 => once(&mut yours, value.varint()?)?,
            3 => once(&mut leaving, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Answer::Claim {
        claim,
        yours: yours.unwrap_or(0),
        leaving: leaving.unwrap_or(false),
    })
}

fn encode_differing((range, contents): &(Range, Contents)) -> proto::StoreDiffering {
    use proto::store_differing::Contents as C;
    proto::StoreDiffering {
        range: Some(parts::encode_range(*range)),
        contents: Some(match contents {
            Contents::Split(sums) => C::Split(proto::StoreSplit {
                parts: sums.iter().map(parts::encode_summary).collect(),
            }),
            Contents::Items(items) => C::Items(parts::encode_items(items)),
        }),
    }
}

fn compared(bytes: &[u8]) -> Result<Answer<PeerContact>, Refused> {
    let mut differing = Vec::new();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if differing.len() >= RANGES_MAX => return malformed("over 4,096 ranges"),
            1 => differing.push(read_differing(value)?),
            _ => {}
        }
    }
    Ok(Answer::Compare { differing })
}

fn read_differing(field: Value<'_>) -> Result<(Range, Contents), Refused> {
    let (mut range, mut contents) = (None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut range, parts::read_range(value)?)?,
            2 => once(&mut contents, Contents::Split(read_split(value)?))?,
            3 => once(&mut contents, Contents::Items(parts::read_items(value)?))?,
            _ => {}
        }
    }
    Ok((required(range)?, required(contents)?))
}

fn read_split(field: Value<'_>) -> Result<Box<[Summary; PARTS]>, Refused> {
    let mut parts = Vec::with_capacity(PARTS);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 if parts.len() >= PARTS => return malformed("a range of over 16 parts"),
            1 => parts.push(parts::read_summary(value)?),
            _ => {}
        }
    }
    match parts.try_into() {
        Ok(parts) => Ok(parts),
        Err(_) => malformed("a range of fewer than 16 parts"),
    }
}

fn fetched(bytes: &[u8], checker: &mut Checker) -> Result<Answer<PeerContact>, Refused> {
    let (mut records, mut more) = (parts::RecordsReader::default(), None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => records.take(value, checker)?,
            2 => once(&mut more, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Answer::Fetched {
        records: records.read,
        more: more.unwrap_or(false),
    })
}

fn pushed(bytes: &[u8]) -> Result<Answer<PeerContact>, Refused> {
    let mut refusal = None;
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        if number == 1 {
            once(&mut refusal, refusal::read(value)?)?;
        }
    }
    Ok(Answer::Pushed {
        kept: refusal.map_or(Ok(()), Err),
    })
}

fn encode_places(places: &[u32]) -> proto::StorePlaces {
    proto::StorePlaces {
        places: bounded(places, ITEMS_MAX).copied().collect(),
    }
}

fn places(bytes: &[u8]) -> Result<Vec<u32>, Refused> {
    let mut places = None;
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        if number == 1 {
            let read = parts::read_packed(value, ITEMS_MAX)?.into_iter();
            let read: Result<Vec<u32>, _> = read.map(u32::try_from).collect();
            match read {
                Ok(read) => once(&mut places, read)?,
                Err(_) => return malformed("a place that no list has"),
            }
        }
    }
    Ok(places.unwrap_or_default())
}
