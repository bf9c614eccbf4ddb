//! What the checker of histories finds, and what it lets pass.

use bytes::Bytes;
use weft_dht::UnixMicros;
use weft_dht::kv::{Dot, Interval, KvKey, Seq, tombstone_expires_at};
use weft_dht::store::Replies;
use weft_identity::Keypair;

use super::*;

const KEY: u32 = 7;
const WRITTEN_AT: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn second(at: u64) -> Time {
    Time::from_micros(at * 1_000_000)
}

/// The how-manyth write of the one writer; nothing is a deletion.
fn record(number: u64, value: Option<u64>, cites: &[&Record<PeerId>]) -> Record<PeerId> {
    let cited = cites.iter().flat_map(|it| {
        let of_context = it.header.context.intervals().iter().copied();
        of_context.chain([it.header.interval()])
    });
    let context = Context::union(cited);
    let content = value.map_or(Content::Tombstone, |_| Content::Value { bytes: 8 });
    let expires_at = tombstone_expires_at(context.ends_at(), WRITTEN_AT);
    let header = Header {
        key: KvKey::new("key").unwrap(),
        dot: Dot {
            writer: Keypair::from_seed(&[1; 32]).peer_id(),
            seq: Seq {
                epoch: 1,
                counter: number,
            },
        },
        prev: None,
        context,
        content,
        written_at: WRITTEN_AT,
        expires_at: value.is_none().then_some(expires_at),
        copies: 3,
        hash: [number as u8; 32],
    };
    Record {
        header,
        value: value.map_or(Bytes::new(), |mark| {
            Bytes::copy_from_slice(&mark.to_be_bytes())
        }),
        signed: Bytes::new(),
    }
}

fn replies(sloppy: bool) -> Replies<PeerId> {
    Replies {
        need: 2,
        got: 2,
        sloppy,
        replicas: Vec::new(),
    }
}

fn write(watch: &mut Watch, at: u64, record: &Record<PeerId>) {
    let deed = match record.header.content {
        Content::Value { .. } => Deed::Put(mark_of(&record.value)),
        Content::Tombstone => Deed::Delete,
    };
    let number = watch.deed(second(at), 0, KEY, deed, 0);
    let outcome = Outcome::Put {
        replies: replies(false),
        header: record.header.clone(),
    };
    watch.deed_ended(second(at + 1), number, &outcome);
}

/// Reads these records, as a replica has them that has seen nothing else.
fn read(watch: &mut Watch, at: u64, deed: Deed, records: &[&Record<PeerId>]) {
    let number = watch.deed(second(at), 1, KEY, deed, 0);
    let intervals = records.iter().flat_map(|it| {
        let cited = it.header.context.intervals().iter().copied();
        cited.chain([it.header.interval()])
    });
    let intervals: Vec<Interval<PeerId>> = intervals.collect();
    let outcome = Outcome::Got {
        replies: replies(false),
        records: records.iter().copied().cloned().collect(),
        context: Context::union(intervals),
    };
    watch.deed_ended(second(at + 1), number, &outcome);
}

/// What was found: lost, come back, stale.
fn found(watch: &Watch) -> (u64, u64, u64) {
    assert_eq!(watch.violations, Vec::<String>::new());
    let history = &watch.history;
    (history.lost, history.resurrected, history.stale)
}

#[test]
fn a_deletion_that_holds_is_no_fault() {
    let mut watch = Watch::new(2);
    let value = record(1, Some(5), &[]);
    let deletion = record(2, None, &[&value]);
    let again = record(3, Some(6), &[&deletion]);
    write(&mut watch, 1, &value);
    read(&mut watch, 3, Deed::Get, &[&value]);
    write(&mut watch, 5, &deletion);
    read(&mut watch, 7, Deed::Get, &[&deletion]);
    read(&mut watch, 9, Deed::Audit, &[&deletion]);
    write(&mut watch, 11, &again);
    read(&mut watch, 13, Deed::Audit, &[&again]);
    assert_eq!(found(&watch), (0, 0, 0));
}

#[test]
fn a_deletion_that_is_lost_is_found() {
    let mut watch = Watch::new(2);
    let value = record(1, Some(5), &[]);
    let deletion = record(2, None, &[&value]);
    write(&mut watch, 1, &value);
    write(&mut watch, 3, &deletion);
    read(&mut watch, 5, Deed::Get, &[&value]);
    assert_eq!(found(&watch), (0, 0, 1));
    read(&mut watch, 7, Deed::Audit, &[&value]);
    assert_eq!(found(&watch), (1, 1, 1));
}

#[test]
fn a_deletion_may_not_vanish_even_where_its_value_has() {
    let mut watch = Watch::new(2);
    let value = record(1, Some(5), &[]);
    let deletion = record(2, None, &[&value]);
    write(&mut watch, 1, &value);
    write(&mut watch, 3, &deletion);
    // A replica that was away may still bring the value.
    read(&mut watch, 5, Deed::Audit, &[]);
    assert_eq!(found(&watch), (2, 0, 0));
}

#[test]
fn a_value_beside_a_deletion_that_had_not_seen_it_is_no_fault() {
    let mut watch = Watch::new(2);
    let value = record(1, Some(5), &[]);
    let deletion = record(2, None, &[&value]);
    let beside = record(3, Some(6), &[]);
    for (at, record) in [(1, &value), (3, &deletion), (5, &beside)] {
        write(&mut watch, at, record);
    }
    read(&mut watch, 7, Deed::Audit, &[&deletion, &beside]);
    assert_eq!(found(&watch), (0, 0, 0));
    // That it comes back is found among others, too.
    read(&mut watch, 9, Deed::Audit, &[&deletion, &beside, &value]);
    assert_eq!(found(&watch), (0, 1, 0));
}

#[test]
fn a_deletion_of_nothing_may_go_once_it_has_arrived() {
    let mut watch = Watch::new(2);
    let deletion = record(1, None, &[]);
    write(&mut watch, 1, &deletion);
    let lasts = deletion.header.ends_at().unwrap().since(WRITTEN_AT);
    read(&mut watch, lasts.as_secs() - 2, Deed::Audit, &[]);
    assert_eq!(found(&watch), (1, 0, 0));
    read(&mut watch, lasts.as_secs() + 2, Deed::Audit, &[]);
    assert_eq!(found(&watch), (1, 0, 0));
}
