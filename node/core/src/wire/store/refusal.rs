//! Why a replica didn't take a record: a kind, and the numbers that it speaks of.

use std::time::Duration;

use weft_dht::kv::{Crowded, Invalid, OverQuota, Quota, Untimely, Usage};
use weft_dht::store::messages::Refusal;

use super::super::fields::{Fields, Refused, Value, malformed, once, required};
use super::super::proto::{self, StoreRefusalKind as Kind};
use super::parts::read_packed;

/// Numbers of a refusal: those of a quota.
const NUMBERS_MAX: usize = 4;

pub(super) fn encode(refusal: &Refusal) -> proto::StoreRefusal {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (kind, numbers) = match *refusal {
        Refusal::Invalid(invalid) => encode_invalid(invalid),
        Refusal::Untimely(Untimely::Behind { behind }) => (Kind::Behind, vec![micros(behind)]),
        Refusal::Untimely(Untimely::Ahead { ahead }) => (Kind::Ahead, vec![micros(ahead)]),
        Refusal::Untimely(Untimely::Ended { since }) => (Kind::Ended, vec![micros(since)]),
        Refusal::Crowded(Crowded::Siblings { held }) => (Kind::Siblings, vec![held as u64]),
        Refusal::Crowded(Crowded::Writers { writers }) => (Kind::Writers, vec![writers as u64]),
        Refusal::Quota(OverQuota { held, quota }) => (
            Kind::Quota,
            vec![held.bytes, quota.bytes_max, held.records, quota.records_max],
        ),
        Refusal::Hints => (Kind::Hints, Vec::new()),
        Refusal::DiskFull => (Kind::DiskFull, Vec::new()),
        Refusal::DiskFailed => (Kind::DiskFailed, Vec::new()),
        Refusal::Busy => (Kind::Busy, Vec::new()),
    };
    proto::StoreRefusal {
        kind: kind.into(),
        numbers,
    }
}

fn encode_invalid(invalid: Invalid) -> (Kind, Vec<u64>) {
    match invalid {
        Invalid::TooLarge(bytes) => (Kind::TooLarge, vec![bytes.into()]),
        Invalid::Copies(copies) => (Kind::Copies, vec![copies.into()]),
        Invalid::Order => (Kind::Order, Vec::new()),
        Invalid::Expiry => (Kind::Expiry, Vec::new()),
        Invalid::TooManyWriters(cited) => (Kind::CitesTooMany, vec![cited as u64]),
        Invalid::Context => (Kind::Context, Vec::new()),
        Invalid::WrongOwner => (Kind::WrongOwner, Vec::new()),
        Invalid::ContextOnOwned => (Kind::ContextOnOwned, Vec::new()),
    }
}

pub(super) fn read(field: Value<'_>) -> Result<Refusal, Refused> {
    let (mut kind, mut numbers) = (None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, value) = field?;
        match number {
            1 => once(&mut kind, value.varint()?)?,
            2 => once(&mut numbers, read_packed(value, NUMBERS_MAX)?)?,
            _ => {}
        }
    }
    let numbers = numbers.unwrap_or_default();
    // One that isn't there is zero, as everywhere.
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let count = usize::try_from(number(0)).unwrap_or(usize::MAX);
    let time = Duration::from_micros(number(0));
    let kind = i32::try_from(required(kind)?).map_err(|_| Refused::Unknown)?;
    Ok(match Kind::try_from(kind).map_err(|_| Refused::Unknown)? {
        Kind::Unspecified => return malformed("a refusal of no kind"),
        Kind::TooLarge => Invalid::TooLarge(clamp(number(0), u32::MAX)).into(),
        Kind::Copies => Invalid::Copies(clamp(number(0), u8::MAX)).into(),
        Kind::Order => Invalid::Order.into(),
        Kind::Expiry => Invalid::Expiry.into(),
        Kind::CitesTooMany => Invalid::TooManyWriters(count).into(),
        Kind::Context => Invalid::Context.into(),
        Kind::WrongOwner => Invalid::WrongOwner.into(),
        Kind::ContextOnOwned => Invalid::ContextOnOwned.into(),
        Kind::Behind => Untimely::Behind { behind: time }.into(),
        Kind::Ahead => Untimely::Ahead { ahead: time }.into(),
        Kind::Ended => Untimely::Ended { since: time }.into(),
        Kind::Siblings => Crowded::Siblings { held: count }.into(),
        Kind::Writers => Crowded::Writers { writers: count }.into(),
        Kind::Quota => Refusal::Quota(OverQuota {
            held: Usage {
                bytes: number(0),
                records: number(2),
            },
            quota: Quota {
                bytes_max: number(1),
                records_max: number(3),
            },
        }),
        Kind::Hints => Refusal::Hints,
        Kind::DiskFull => Refusal::DiskFull,
        Kind::DiskFailed => Refusal::DiskFailed,
        Kind::Busy => Refusal::Busy,
    })
}

fn clamp<T: TryFrom<u64>>(number: u64, max: T) -> T {
    T::try_from(number).unwrap_or(max)
}
