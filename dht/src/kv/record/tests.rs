//! What records can say, when they are taken, and how long they are held.

use super::*;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

fn seq(counter: u64) -> Seq {
    Seq {
        epoch: 1_600_000_000_000,
        counter,
    }
}

fn dot(writer: u8, counter: u64) -> Dot<PeerId> {
    Dot {
        writer: peer(writer),
        seq: seq(counter),
    }
}

/// A value of a shared key that never expires.
fn header() -> Header<PeerId> {
    Header {
        key: KvKey::new("colour").unwrap(),
        dot: dot(1, 9),
        prev: None,
        context: Context::new(),
        content: Content::Value { bytes: 4 },
        written_at: NOW,
        expires_at: None,
        copies: 3,
        hash: [0; 32],
    }
}

fn owned() -> Header<PeerId> {
    Header {
        key: KvKey::new(&format!("@{}/colour", peer(1))).unwrap(),
        ..header()
    }
}

fn cites(counter: u64, ends_at: Option<UnixMicros>) -> Context<PeerId> {
    Context::union([Interval::of_dot(dot(2, counter), None, ends_at)])
}

fn tombstone(expires_at: UnixMicros) -> Header<PeerId> {
    Header {
        content: Content::Tombstone,
        expires_at: Some(expires_at),
        ..header()
    }
}

#[test]
fn what_makes_sense_passes() {
    let of = |change: fn(&mut Header<PeerId>)| {
        let mut header = header();
        change(&mut header);
        header.check()
    };
    assert_eq!(of(|_| ()), Ok(()));
    assert_eq!(of(|h| h.expires_at = Some(NOW + TTL_MAX)), Ok(()));
    assert_eq!(of(|h| h.prev = Some(seq(8))), Ok(()));
    assert_eq!(of(|h| h.context = cites(77, None)), Ok(()));
    assert_eq!(of(|h| h.content = Content::Value { bytes: 65_536 }), Ok(()));
    assert_eq!(tombstone(NOW + LIFE_MAX).check(), Ok(()));
    assert_eq!(owned().check(), Ok(()));
}

#[test]
fn what_no_record_can_say_is_refused() {
    let of = |mut header: Header<PeerId>, change: fn(&mut Header<PeerId>)| {
        change(&mut header);
        header.check()
    };
    let just_after = |at: UnixMicros| UnixMicros(at.0 + 1);
    for (got, wanted) in [
        (
            of(header(), |h| h.content = Content::Value { bytes: 65_537 }),
            Invalid::TooLarge(65_537),
        ),
        (of(header(), |h| h.copies = 0), Invalid::Copies(0)),
        (of(header(), |h| h.copies = 9), Invalid::Copies(9)),
        (of(header(), |h| h.dot.seq.counter = 0), Invalid::Order),
        (of(header(), |h| h.dot.seq.epoch = 0), Invalid::Order),
        (of(header(), |h| h.prev = Some(h.dot.seq)), Invalid::Order),
        (of(header(), |h| h.expires_at = Some(NOW)), Invalid::Expiry),
        (of(tombstone(NOW), |h| h.expires_at = None), Invalid::Expiry),
        (
            tombstone(just_after(NOW + LIFE_MAX)).check(),
            Invalid::Expiry,
        ),
        (of(owned(), |h| h.dot.writer = peer(2)), Invalid::WrongOwner),
        (
            of(owned(), |h| h.context = cites(1, None)),
            Invalid::ContextOnOwned,
        ),
        (
            of(header(), |h| {
                h.context = cites(1, Some(UnixMicros(u64::MAX)));
            }),
            Invalid::Context,
        ),
        (
            of(header(), |h| {
                h.context = Context::union([Interval::of_dot(h.dot, None, None)]);
            }),
            Invalid::Context,
        ),
        (
            of(header(), |h| {
                let intervals = (1..66).map(|n| Interval::of_dot(dot(2, 2 * n), None, None));
                h.context = Context::union(intervals);
            }),
            Invalid::TooManyWriters(65),
        ),
    ] {
        assert_eq!(got, Err(wanted));
    }
    let mut long = header();
    long.expires_at = Some(just_after(NOW + TTL_MAX));
    assert_eq!(long.check(), Err(Invalid::Expiry));
}

#[test]
fn only_a_direct_put_must_be_fresh() {
    let late = NOW + SKEW_MAX + Duration::from_micros(1);
    let record = header();
    assert_eq!(record.timely(Arrival::Direct, NOW + SKEW_MAX), Ok(()));
    assert_eq!(
        record.timely(Arrival::Direct, late),
        Err(Untimely::Behind {
            behind: Duration::from_micros(60_000_001)
        })
    );
    assert_eq!(record.timely(Arrival::Passed, late + GRAVE), Ok(()));
}

#[test]
fn nothing_comes_from_the_future() {
    let ahead = |by: Duration| Err(Untimely::Ahead { ahead: by });
    let second = Duration::from_secs(1);
    let mut record = header();
    record.written_at = NOW + SKEW_MAX + second;
    for arrival in [Arrival::Direct, Arrival::Passed] {
        assert_eq!(record.timely(arrival, NOW), ahead(SKEW_MAX + second));
        assert_eq!(record.timely(arrival, NOW + second), Ok(()));
    }
    let tomorrow = NOW.0 / 1_000 + 24 * 3_600_000;
    let mut record = header();
    record.dot.seq.epoch = tomorrow;
    assert_eq!(
        record.timely(Arrival::Passed, NOW),
        ahead(24 * 3_600 * second)
    );
    let mut record = header();
    let mut unborn = dot(2, 1);
    unborn.seq.epoch = u64::MAX;
    record.context = Context::union([Interval::of_dot(unborn, Some(Seq::ZERO), None)]);
    assert!(matches!(
        record.timely(Arrival::Passed, NOW),
        Err(Untimely::Ahead { .. })
    ));
}

#[test]
fn a_value_that_expired_is_neither_shown_nor_taken() {
    let mut record = header();
    let expires_at = NOW + Duration::from_secs(10);
    record.expires_at = Some(expires_at);
    assert!(record.is_shown(NOW) && !record.is_shown(expires_at));
    assert_eq!(record.timely(Arrival::Passed, NOW), Ok(()));
    assert_eq!(
        record.timely(Arrival::Passed, expires_at + Duration::from_secs(2)),
        Err(Untimely::Ended {
            since: Duration::from_secs(2)
        })
    );
    assert!(!record.has_ended(expires_at + SKEW_MAX));
    assert!(record.has_ended(UnixMicros((expires_at + SKEW_MAX).0 + 1)));
    assert!(!tombstone(expires_at).is_shown(NOW));
}

#[test]
fn a_value_that_expired_is_held_as_long_as_what_it_covers_could_come_back() {
    let expires_at = NOW + Duration::from_secs(10);
    let later = NOW + Duration::from_secs(1_000);
    let mut record = header();
    record.expires_at = Some(expires_at);
    assert_eq!(record.ends_at(), Some(expires_at));
    record.context = cites(1, Some(later));
    assert_eq!(record.ends_at(), Some(later));
    assert_eq!(record.timely(Arrival::Passed, expires_at), Ok(()));
    assert!(record.timely(Arrival::Passed, later).is_err());
    record.context = cites(1, None);
    assert_eq!(record.ends_at(), Some(expires_at + GRAVE));
    record.expires_at = None;
    assert_eq!(record.ends_at(), None);
}

#[test]
fn an_owners_value_that_expired_is_held_only_if_it_took_the_place_of_another() {
    let mut record = owned();
    let expires_at = NOW + Duration::from_secs(10);
    record.expires_at = Some(expires_at);
    assert_eq!(record.ends_at(), Some(expires_at));
    record.prev = Some(seq(3));
    assert_eq!(record.ends_at(), Some(expires_at + GRAVE));
}

#[test]
fn a_tombstone_outlives_what_it_covers() {
    let soonest = NOW + SKEW_MAX;
    let later = NOW + Duration::from_secs(1_000);
    for (covered, expires_at) in [
        (None, NOW + GRAVE),
        (Some(later), later),
        (Some(UnixMicros(0)), soonest),
        (Some(UnixMicros(u64::MAX)), NOW + LIFE_MAX),
    ] {
        let got = tombstone_expires_at(covered, NOW);
        assert_eq!(got, expires_at, "{covered:?}");
        let tombstone = tombstone(got);
        assert_eq!(
            (tombstone.check(), tombstone.ends_at()),
            (Ok(()), Some(got))
        );
    }
}
