//! What clients are told: the keys that scripts rely on, and which error says what.

use std::time::Duration;

use bytes::Bytes;
use weft_dht::kv::{Context, Dot, OverQuota, Quota, Seq, Untimely, Usage};
use weft_dht::store::Reply;

use super::*;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn key() -> KvKey {
    KvKey::new("{c}olour").unwrap()
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

fn record(writer: u8, written_at: u64, value: Option<&'static str>) -> Record<PeerId> {
    let content = value.map_or(Content::Tombstone, |value| Content::Value {
        bytes: value.len() as u32,
    });
    let header = Header {
        key: key(),
        dot: Dot {
            writer: peer(writer),
            seq: Seq {
                epoch: 5,
                counter: 3,
            },
        },
        prev: None,
        context: Context::new(),
        content,
        written_at: UnixMicros(NOW.0 + written_at),
        expires_at: None,
        copies: 3,
        hash: [0; 32],
    };
    Record {
        header,
        value: Bytes::from_static(value.unwrap_or_default().as_bytes()),
        signed: Bytes::new(),
    }
}

fn replies() -> Replies<PeerId> {
    let reply = |number, hint_for| Reply {
        peer: peer(number),
        durable: true,
        hint_for,
        counts: true,
    };
    Replies {
        need: 2,
        got: 2,
        sloppy: true,
        replicas: vec![reply(1, None), reply(2, Some(peer(3)))],
    }
}

fn read(records: Vec<Record<PeerId>>) -> Result<KvGot, Error> {
    let outcome = Outcome::Got {
        replies: replies(),
        records,
        context: Context::new(),
    };
    got(&key(), outcome, NOW)
}

#[test]
fn the_value_written_last_comes_first_and_what_was_deleted_not_at_all() {
    let records = vec![
        record(1, 10, Some("blue")),
        record(2, 30, None),
        record(3, 20, Some("red")),
    ];
    let got = read(records).unwrap();
    let json = serde_json::to_value(&got).unwrap();
    assert_eq!(json["values"][0]["value"], "red");
    assert_eq!(json["values"][1]["value"], "blue");
    assert_eq!(got.values.len(), 2);
    assert_eq!(json["values"][0]["version"], "5.3");
    assert_eq!(json["values"][0]["writer"], peer(3).to_string());
    assert_eq!(
        json["values"][0]["written_at"],
        "2023-11-14T22:13:20.000020Z"
    );
    assert_eq!(json["values"][0]["expires_at"], Value::Null);
    assert_eq!((&json["need"], &json["got"]), (&json!(2), &json!(2)));
    assert!(json["context"].is_string());
}

#[test]
fn a_key_without_a_value_is_not_found_and_says_what_a_write_must_cite() {
    for records in [vec![], vec![record(1, 0, None)]] {
        let error = read(records).unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        assert!(error.details["context"].is_string());
        assert_eq!(error.details["need"], 2);
    }
}

#[test]
fn a_write_says_who_has_it() {
    let outcome = Outcome::Put {
        replies: replies(),
        header: record(1, 0, None).header,
    };
    let written = written(&key(), outcome).unwrap();
    let json = serde_json::to_value(&written).unwrap();
    assert_eq!(json["point"].as_str().map(str::len), Some(64));
    assert_eq!(
        (&json["version"], &json["sloppy"]),
        (&json!("5.3"), &json!(true))
    );
    let stand_in = json!({
        "peer_id": peer(2).to_string(), "durable": true, "hint_for": peer(3).to_string()
    });
    assert_eq!(json["replicas"][1], stand_in);
}

#[test]
fn where_a_key_stands_is_told_with_its_slot() {
    let holders = vec![
        Holder {
            peer: peer(1),
            settled: true,
            alive: true,
            heads: Some(vec![
                record(1, 0, Some("blue")).header,
                record(2, 0, None).header,
            ]),
        },
        Holder {
            peer: peer(2),
            settled: false,
            alive: false,
            heads: None,
        },
    ];
    let point = key().point();
    let located = located(&key(), Outcome::Located { point, holders }).unwrap();
    // Redis answers `CLUSTER KEYSLOT {c}olour` with the slot of `c`.
    assert_eq!((located.placement.as_str(), located.slot), ("c", 7_365));
    let versions = located.replicas[0].versions.as_ref().unwrap();
    assert_eq!(
        (versions[0].value_bytes, versions[1].value_bytes),
        (Some(4), None)
    );
    assert_eq!(located.replicas[1].versions, None);
}

#[test]
fn a_page_says_where_to_go_on() {
    let keys = |more| Outcome::Listed {
        replies: replies(),
        keys: vec![KvKey::new("{c}a").unwrap(), KvKey::new("{c}b").unwrap()],
        more,
    };
    let page = listed("{c}", keys(true)).unwrap();
    assert_eq!((page.keys.len(), page.after.as_deref()), (2, Some("{c}b")));
    assert_eq!(listed("{c}", keys(false)).unwrap().after, None);
}

#[test]
fn an_error_says_whether_it_may_be_written() {
    for (possibly_written, word) in [(true, "possibly written"), (false, "in time")] {
        let outcome = Outcome::QuorumNotMet {
            replies: replies(),
            possibly_written,
            refused: possibly_written.then_some(Refusal::DiskFull),
        };
        let error = written(&key(), outcome).unwrap_err();
        assert_eq!(error.kind, Kind::QuorumNotMet);
        let is_full = error.message.contains("disk is full");
        assert_eq!(is_full, possibly_written, "{error}");
        assert!(error.message.contains(word), "{error}");
        assert_eq!(error.details["possibly_written"], possibly_written);
        assert_eq!(
            (&error.details["need"], &error.details["got"]),
            (&json!(2), &json!(2))
        );
    }
}

#[test]
fn a_conflict_says_which_version_is_there() {
    let conflict = |version| written(&key(), Outcome::Conflict { version }).unwrap_err();
    let error = conflict(Some(Seq {
        epoch: 5,
        counter: 3,
    }));
    assert_eq!(
        (error.kind, &error.details["version"]),
        (Kind::Conflict, &json!("5.3"))
    );
    assert_eq!(conflict(None).details["version"], Value::Null);
}

#[test]
fn each_refusal_has_its_kind() {
    let quota = Quota::default();
    let held = Usage::default();
    let second = Duration::from_secs(1);
    for (why, kind) in [
        (Invalid::TooLarge(70_000).into(), Kind::TooLarge),
        (Invalid::WrongOwner.into(), Kind::Refused),
        (Invalid::TooManyWriters(65).into(), Kind::Conflict),
        (Invalid::Expiry.into(), Kind::InvalidParams),
        (Untimely::Behind { behind: second }.into(), Kind::Refused),
        (Crowded::Siblings { held: 32 }.into(), Kind::Conflict),
        (OverQuota { held, quota }.into(), Kind::Refused),
        (Refusal::DiskFull, Kind::Disk),
        (Refusal::Busy, Kind::Busy),
    ] {
        let outcome = Outcome::Refused {
            why,
            possibly_written: false,
        };
        let error = written(&key(), outcome).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(error.details["possibly_written"], false);
    }
    assert_eq!(
        written(&key(), Outcome::NotOwner).unwrap_err().kind,
        Kind::Refused
    );
    assert_eq!(written(&key(), Outcome::Busy).unwrap_err().kind, Kind::Busy);
}
