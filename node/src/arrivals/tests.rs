//! Places, and where readers begin.

use bytes::Bytes;
use weft_core::bundle::Place;
use weft_identity::Keypair;

use super::*;

const PUBLISHER: PeerId = PeerId::from_bytes([1; 32]);
/// Where the logs of these tests begin.
const FIRST: u64 = 100;

fn gap(n: u64) -> Delivered {
    Delivered::Gap {
        publisher: PUBLISHER,
        epoch: 1,
        from: n,
        to: n,
    }
}

/// A bundle of messages from seq 1 on, of which those from another seq on are due.
fn bundle(messages: &[Bytes], from: u64, received_at: u64) -> Delivered {
    let topic: TopicName = "logs".parse().unwrap();
    let place = Place {
        epoch: 1,
        first: 1,
        predecessor: None,
        previous_epoch: None,
        published_at: UnixMicros(5),
    };
    let keypair = Keypair::from_seed(&[2; 32]);
    let messages: Vec<weft_core::Message> = messages.iter().cloned().map(Into::into).collect();
    Delivered::Bundle {
        bundle: TopicBundle::publish(&keypair, topic.id("test"), place, &messages),
        from,
        hops: 2,
        received_at: UnixMicros(received_at),
    }
}

fn two(received_at: u64) -> Delivered {
    bundle(
        &[Bytes::from_static(b"a"), Bytes::from_static(b"b")],
        1,
        received_at,
    )
}

fn arrivals() -> (Arrivals, TopicName, Arc<Log>) {
    let mut arrivals = Arrivals::new(PUBLISHER);
    let topic: TopicName = "logs".parse().unwrap();
    arrivals.begin(topic.clone(), 1, FIRST);
    let log = arrivals.log(&topic).unwrap();
    (arrivals, topic, log)
}

fn places(read: Read) -> (usize, u64) {
    match read {
        Read::Items(items, place) => (items.len(), place),
        other => panic!("{other:?}"),
    }
}

#[test]
fn readers_go_on_where_they_stopped() {
    let (mut arrivals, topic, log) = arrivals();
    assert!(matches!(log.read(FIRST, 10, 10), Read::Nothing));
    for n in 0..5 {
        arrivals.push(&topic, FIRST + n, gap(n));
    }
    assert_eq!(places(log.read(100, 3, 1_000)), (3, 103));
    assert_eq!(places(log.read(103, 3, 1_000)), (2, 105));
    assert_eq!(log.end(), 105);
    arrivals.close();
    assert_eq!(places(log.read(104, 3, 0)), (1, 105));
    assert!(matches!(log.read(105, 10, 10), Read::End));
}

#[test]
fn between_the_items_of_two_runs_a_reader_waits() {
    let (mut arrivals, topic, _) = arrivals();
    arrivals.begin(topic.clone(), 1, 200);
    let log = arrivals.log(&topic).unwrap();
    for n in 0..3 {
        arrivals.push(&topic, FIRST + n, gap(n));
    }
    assert_eq!(places(log.read(FIRST, 10, 1_000)), (3, FIRST + 3));
    assert!(matches!(log.read(FIRST + 3, 10, 1_000), Read::Nothing));
    arrivals.push(&topic, 200, gap(3));
    assert_eq!(places(log.read(FIRST + 3, 10, 1_000)), (1, 201));
}

#[test]
fn a_reader_that_fell_behind_is_told_what_it_lost() {
    let (mut arrivals, topic, log) = arrivals();
    for n in 0..5 {
        arrivals.push(&topic, FIRST + n, gap(n));
    }
    arrivals.trim(&topic, 104);
    let extent = log.extent();
    assert_eq!((extent.first, extent.next, extent.items), (104, 105, 1));
    let Read::Items(items, 104) = log.read(101, 10, 10) else {
        panic!("no gap");
    };
    assert!(matches!(
        items[..],
        [Item::SlowReader { from: 101, to: 103 }]
    ));
    assert_eq!(places(log.read(104, 10, 10)), (1, 105));
}

#[test]
fn bundles_are_split_when_they_are_read() {
    let (mut arrivals, topic, log) = arrivals();
    let messages: Vec<Bytes> = (0u8..4).map(|n| vec![n; 10_000].into()).collect();
    arrivals.push(&topic, FIRST, bundle(&messages, 3, 6));
    assert_eq!(log.end(), 102, "two of the four are due");
    assert_eq!(places(log.read(100, 10, 15_000)), (1, 101));
    let Read::Items(items, 102) = log.read(101, 10, 0) else {
        panic!("nothing");
    };
    assert!(
        matches!(&items[..], [Item::Message(m)] if m.seq == 4 && m.hops == 2 && m.data[0] == 3)
    );
}

#[test]
fn places_that_were_left_out_are_passed_over() {
    let (mut arrivals, topic, log) = arrivals();
    arrivals.push(&topic, FIRST, two(1));
    arrivals.push(&topic, 1_000, two(2));
    assert_eq!(places(log.read(101, 10, 100)), (3, 1_002));
    assert_eq!(places(log.read(500, 1, 100)), (1, 1_001));
    assert_eq!(log.place(&Start::Last(3)), Ok(101));
}

#[test]
fn what_came_before_all_else_stands_in_front() {
    let (mut arrivals, topic, log) = arrivals();
    arrivals.push(&topic, FIRST, two(9));
    arrivals.put_in_front(&topic, 97, vec![two(3), gap(4)]);
    assert_eq!(log.place(&Start::Earliest), Ok(97));
    let Read::Items(items, 102) = log.read(97, 10, 100) else {
        panic!("nothing");
    };
    let of = |item: &Item| matches!(item, Item::Message(_));
    let kinds: Vec<bool> = items.iter().map(of).collect();
    assert_eq!(kinds, [true, true, false, true, true]);
    let since = Start::Since(UNIX_EPOCH + Duration::from_micros(4));
    assert_eq!(log.place(&since), Ok(100));
}

#[test]
fn readers_begin_where_they_want() {
    let (mut arrivals, topic, log) = arrivals();
    arrivals.push(&topic, 100, two(100));
    arrivals.push(&topic, 102, gap(9));
    // A clock that was set back doesn't put what came later before what came earlier.
    arrivals.push(&topic, 103, two(50));
    arrivals.push(&topic, 105, two(200));
    let since = |micros| Start::Since(UNIX_EPOCH + Duration::from_micros(micros));
    for (start, place) in [
        (Start::Latest, 107),
        (Start::Earliest, 100),
        (Start::Last(3), 104),
        (Start::Last(99), 100),
        (since(0), 100),
        (since(100), 100),
        (since(101), 105),
        (since(201), 107),
        (Start::After(log.id().cursor(104)), 105),
    ] {
        assert_eq!(log.place(&start), Ok(place), "{start}");
    }
    let unborn = Start::After(log.id().cursor(107));
    assert_eq!(log.place(&unborn), Err(CursorError::Malformed));
    arrivals.trim(&topic, 102);
    assert_eq!(log.place(&Start::Earliest), Ok(102));
    let expired = log.place(&Start::After(log.id().cursor(100)));
    assert_eq!(expired, Ok(101), "it is told what it lost");
    let other: TopicName = "other".parse().unwrap();
    arrivals.begin(other.clone(), 2, FIRST);
    let other = arrivals.log(&other).unwrap();
    let of_other = Start::After(other.id().cursor(100));
    assert_eq!(log.place(&of_other), Err(CursorError::OtherTopic));
}

#[test]
fn a_log_that_has_ended_is_no_more() {
    let (mut arrivals, topic, log) = arrivals();
    arrivals.push(&topic, FIRST, gap(0));
    arrivals.end(&topic);
    assert!(arrivals.log(&topic).is_none());
    assert_eq!(places(log.read(FIRST, 10, 10)), (1, 101));
    assert!(matches!(log.read(101, 10, 10), Read::End));
    // A log that begins anew refuses the places of the one before.
    arrivals.begin(topic.clone(), 2, FIRST);
    let again = arrivals.log(&topic).unwrap();
    let cursor = Start::After(log.id().cursor(FIRST));
    assert_eq!(again.place(&cursor), Err(CursorError::LogGone));
}

#[test]
fn a_reader_at_the_end_of_what_an_earlier_run_had_waits_for_what_comes() {
    let mut arrivals = Arrivals::new(PUBLISHER);
    let topic: TopicName = "logs".parse().unwrap();
    arrivals.begin(topic.clone(), 1, 1_000);
    let log = arrivals.log(&topic).unwrap();
    arrivals.push(&topic, FIRST, two(1));
    arrivals.push(&topic, 102, Delivered::Missed { places: 3 });
    assert_eq!(log.end(), 1_000);
    let Read::Items(items, 105) = log.read(101, 10, 100) else {
        panic!("nothing");
    };
    assert!(matches!(
        items[..],
        [Item::Message(_), Item::SlowReader { from: 102, to: 104 }]
    ));
    assert!(matches!(log.read(105, 10, 100), Read::Nothing));
    // Whoever was shown more than is on disk goes on with what comes.
    let shown = Start::After(log.id().cursor(500));
    assert_eq!(log.place(&shown), Ok(501));
    assert!(matches!(log.read(501, 10, 100), Read::Nothing));
    arrivals.push(&topic, 1_000, two(2));
    assert_eq!(places(log.read(105, 10, 100)), (2, 1_002));
    assert_eq!(places(log.read(501, 10, 100)), (2, 1_002));
    arrivals.close();
    assert!(matches!(log.read(1_002, 10, 100), Read::End));
}

#[test]
fn a_reader_is_told_what_it_lost_and_not_the_places_that_a_run_left_out() {
    let mut arrivals = Arrivals::new(PUBLISHER);
    let topic: TopicName = "logs".parse().unwrap();
    arrivals.begin(topic.clone(), 1, 1_000);
    let log = arrivals.log(&topic).unwrap();
    arrivals.push(&topic, FIRST, two(1));
    arrivals.push(&topic, 1_000, two(2));
    assert_eq!(log.messages_from(FIRST + 1), 3);
    arrivals.trim(&topic, 102);
    // Of what the earlier run had, one has read all and another all but one.
    assert_eq!(places(log.read(102, 10, 100)), (2, 1_002));
    let Read::Items(items, 102) = log.read(101, 10, 100) else {
        panic!("no gap");
    };
    assert!(matches!(
        items[..],
        [Item::SlowReader { from: 101, to: 101 }]
    ));
    // Where nothing is left it is the same, and the first waits.
    arrivals.trim(&topic, 1_002);
    assert!(matches!(log.read(1_002, 10, 100), Read::Nothing));
    assert_eq!(places(log.read(1_001, 10, 100)), (1, 1_002));
    assert_eq!(log.messages_from(102), 0);
    arrivals.push(&topic, 1_002, gap(1));
    arrivals.push(&topic, 1_003, two(3));
    assert_eq!(log.messages_from(1_001), 2, "gaps are no messages");
}

#[test]
fn what_is_lost_between_others_is_told_in_its_place() {
    let (mut arrivals, topic, log) = arrivals();
    for n in 0..5 {
        arrivals.push(&topic, FIRST + 2 * n, two(n));
    }
    arrivals.push(&topic, 200, two(9));
    let lose = |arrivals: &mut Arrivals, places: Vec<Range<u64>>| arrivals.lose(&topic, &places);
    lose(&mut arrivals, vec![102..104, 106..110]);
    let kinds = |items: &[Item]| -> Vec<(u64, u64)> {
        let places = items.iter().map(|item| match item {
            Item::SlowReader { from, to } => (*from, *to),
            Item::Message(message) => (message.place, message.place),
            Item::Lost { .. } => panic!("{item:?}"),
        });
        places.collect()
    };
    let all = |log: &Log| match log.read(FIRST, 20, 1_000) {
        Read::Items(items, 202) => kinds(&items),
        other => panic!("{other:?}"),
    };
    let expected = [
        (100, 100),
        (101, 101),
        (102, 103),
        (104, 104),
        (105, 105),
        (106, 109),
        (200, 200),
        (201, 201),
    ];
    assert_eq!(all(&log), expected);
    // What is lost next to it becomes part of it, and a reader in the middle is told the rest.
    lose(&mut arrivals, std::iter::once(104..106).collect());
    let expected = [(100, 100), (101, 101), (102, 109), (200, 200), (201, 201)];
    assert_eq!(all(&log)[..2], expected[..2]);
    let Read::Items(items, 202) = log.read(105, 20, 1_000) else {
        panic!("nothing");
    };
    assert_eq!(kinds(&items)[0].0, 105);
    assert_eq!((log.extent().items, log.messages_from(103)), (12, 2));
    arrivals.trim(&topic, 200);
    assert_eq!(log.extent().items, 2);
}
