//! What became of a call, as a client is told.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_dht::kv::{Content, Crowded, Header, Invalid, KvKey, Record, slot};
use weft_dht::store::messages::Refusal;
use weft_dht::store::{Holder, Outcome, Replies};
use weft_identity::PeerId;
use weft_overlay::UnixMicros;
use weft_rpc::payload::Payload;
use weft_rpc::types::{
    KvGot, KvHolder, KvKeys, KvLocated, KvRepaired, KvReplica, KvValue, KvVersion, KvWritten,
};
use weft_rpc::{Error, Kind};

use super::ask::token;
use crate::handle::{hex, moment};

/// Returns the wall clock's moment.
pub(super) fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.unwrap_or_default().as_micros();
    UnixMicros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Answers a read; a key without a value is an error.
pub(super) fn got(key: &KvKey, outcome: Outcome<PeerId>, now: UnixMicros) -> Result<KvGot, Error> {
    let Outcome::Got {
        replies,
        records,
        context,
    } = outcome
    else {
        return Err(failure(key, outcome));
    };
    let context = token(&context, key);
    let mut shown: Vec<Record<PeerId>> = records;
    shown.retain(|record| record.header.is_shown(now));
    // The one written last first; of equal ones any order will do, as long as it is one.
    shown.sort_by_key(|record| Reverse((record.header.written_at, record.header.id())));
    if shown.is_empty() {
        return Err(with_replies(
            Error::new(Kind::NotFound, format!("the key {key} has no value"))
                .hint("weft put writes one; weft kv locate shows who was asked")
                .detail("context", context),
            &replies,
        ));
    }
    Ok(KvGot {
        key: key.to_string(),
        need: replies.need,
        got: replies.got,
        sloppy: replies.sloppy,
        replicas: replicas(&replies),
        values: shown.iter().map(value).collect(),
        context,
    })
}

/// Answers a write.
pub(super) fn written(key: &KvKey, outcome: Outcome<PeerId>) -> Result<KvWritten, Error> {
    let Outcome::Put { replies, header } = outcome else {
        return Err(failure(key, outcome));
    };
    Ok(KvWritten {
        key: key.to_string(),
        point: hex(key.point()),
        writer: header.dot.writer.to_string(),
        version: header.dot.seq.to_string(),
        written_at: moment(header.written_at),
        need: replies.need,
        got: replies.got,
        sloppy: replies.sloppy,
        replicas: replicas(&replies),
    })
}

/// Answers a listing.
pub(super) fn listed(prefix: &str, outcome: Outcome<PeerId>) -> Result<KvKeys, Error> {
    let Outcome::Listed {
        replies,
        keys,
        more,
    } = outcome
    else {
        return Err(failure(prefix, outcome));
    };
    let last = keys.last().filter(|_| more);
    Ok(KvKeys {
        prefix: prefix.to_owned(),
        after: last.map(ToString::to_string),
        keys: keys.iter().map(ToString::to_string).collect(),
        need: replies.need,
        got: replies.got,
    })
}

/// Answers where a key stands.
pub(super) fn located(key: &KvKey, outcome: Outcome<PeerId>) -> Result<KvLocated, Error> {
    let Outcome::Located { point, holders } = outcome else {
        return Err(failure(key, outcome));
    };
    Ok(KvLocated {
        key: key.to_string(),
        placement: key.placement().to_owned(),
        point: hex(point),
        slot: slot(key.placement().as_bytes()),
        replicas: holders.iter().map(holder).collect(),
    })
}

/// Answers a repair.
pub(super) fn repaired(key: &KvKey, outcome: Outcome<PeerId>) -> Result<KvRepaired, Error> {
    let Outcome::Repaired {
        replies,
        records,
        repaired,
    } = outcome
    else {
        return Err(failure(key, outcome));
    };
    Ok(KvRepaired {
        key: key.to_string(),
        need: replies.need,
        got: replies.got,
        records,
        repaired,
    })
}

/// Says why a call came to nothing.
fn failure(about: impl std::fmt::Display, outcome: Outcome<PeerId>) -> Error {
    match outcome {
        Outcome::QuorumNotMet {
            replies,
            possibly_written,
            refused,
        } => quorum_not_met(&about, &replies, possibly_written, refused),
        Outcome::Refused {
            why,
            possibly_written,
        } => refused(&about, why).detail("possibly_written", possibly_written),
        Outcome::Conflict { version } => {
            let is = version.map_or_else(
                || "has no value".to_owned(),
                |version| format!("has the version {version}"),
            );
            let error = Error::new(
                Kind::Conflict,
                format!("the key {about} {is}; nothing was written"),
            );
            let version = version.map_or(Value::Null, |version| version.to_string().into());
            error
                .hint("read it, decide again, and expect what was read")
                .detail("version", version)
        }
        Outcome::NotOwner => Error::new(
            Kind::Refused,
            format!("wrong owner: {about} is no key of this node's own"),
        )
        .hint("only a key @PEER/path can be compared and set, and only its owner's node writes it: weft id"),
        Outcome::Busy => Error::new(Kind::Busy, "the node has as many calls of the store under way as it may; nothing was done")
            .hint("try again"),
        // An answer to another question: the store doesn't give one.
        Outcome::Got { .. }
        | Outcome::Put { .. }
        | Outcome::Located { .. }
        | Outcome::Listed { .. }
        | Outcome::Repaired { .. }
        | Outcome::Synchronised { .. }
        | Outcome::Left => Error::new(Kind::Internal, "the store answered another question"),
    }
}

fn quorum_not_met(
    about: &impl std::fmt::Display,
    replies: &Replies<PeerId>,
    possibly_written: bool,
    refused: Option<Refusal>,
) -> Error {
    let Replies { need, got, .. } = replies;
    let but = refused.map_or_else(String::new, |why| format!(" (one refused it: {why})"));
    let and_now = if possibly_written {
        "; it is possibly written, and may show"
    } else {
        ""
    };
    let error = Error::new(
        Kind::QuorumNotMet,
        format!("{got} of the {need} replicas needed for {about} answered in time{but}{and_now}"),
    );
    let error = error
        .hint(match refused {
            Some(Refusal::DiskFull) => "make room on the replicas' disks, then try again; --level one asks for less",
            _ => "try again; weft kv locate shows which replicas are there, --level one asks for less",
        })
        .detail("possibly_written", possibly_written);
    with_replies(error, replies)
}

fn refused(about: &impl std::fmt::Display, why: Refusal) -> Error {
    let kind = match why {
        Refusal::Invalid(Invalid::TooLarge(_)) => Kind::TooLarge,
        Refusal::Invalid(Invalid::TooManyWriters(_)) | Refusal::Crowded(_) => Kind::Conflict,
        Refusal::Invalid(Invalid::WrongOwner) | Refusal::Untimely(_) | Refusal::Quota(_) => {
            Kind::Refused
        }
        Refusal::Invalid(
            Invalid::Copies(_)
            | Invalid::Order
            | Invalid::Expiry
            | Invalid::Context
            | Invalid::ContextOnOwned,
        ) => Kind::InvalidParams,
        Refusal::DiskFull | Refusal::DiskFailed => Kind::Disk,
        Refusal::Hints | Refusal::Busy => Kind::Busy,
    };
    let error = Error::new(kind, format!("{about} was refused: {why}"));
    match why {
        Refusal::Crowded(Crowded::Siblings { held }) => error.detail("siblings", held),
        Refusal::Untimely(_) => error.hint("set this machine's clock, or let it be set (NTP)"),
        Refusal::DiskFull => {
            error.hint("make room on this node's disk and those of the replicas, then try again")
        }
        _ => error,
    }
}

fn with_replies(error: Error, replies: &Replies<PeerId>) -> Error {
    let replicas = replicas(replies);
    error
        .detail("need", replies.need)
        .detail("got", replies.got)
        .detail("replicas", json!(replicas))
}

fn replicas(replies: &Replies<PeerId>) -> Vec<KvReplica> {
    let replicas = replies.replicas.iter().map(|reply| KvReplica {
        peer_id: reply.peer.to_string(),
        durable: reply.durable,
        hint_for: reply.hint_for.map(|peer| peer.to_string()),
    });
    replicas.collect()
}

fn value(record: &Record<PeerId>) -> KvValue {
    let Header {
        dot,
        written_at,
        expires_at,
        ..
    } = &record.header;
    KvValue {
        data: Payload::readable(&record.value).into(),
        writer: dot.writer.to_string(),
        version: dot.seq.to_string(),
        written_at: moment(*written_at),
        expires_at: expires_at.map(moment),
    }
}

fn holder(holder: &Holder<PeerId>) -> KvHolder {
    let version = |head: &Header<PeerId>| KvVersion {
        writer: head.dot.writer.to_string(),
        version: head.dot.seq.to_string(),
        written_at: moment(head.written_at),
        expires_at: head.expires_at.map(moment),
        value_bytes: match head.content {
            Content::Value { bytes } => Some(bytes),
            Content::Tombstone => None,
        },
    };
    KvHolder {
        peer_id: holder.peer.to_string(),
        settled: holder.settled,
        alive: holder.alive,
        versions: holder
            .heads
            .as_ref()
            .map(|heads| heads.iter().map(version).collect()),
    }
}

#[cfg(test)]
mod tests;
