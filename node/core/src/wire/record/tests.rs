//! Records: there and back, as the schema says, forged, and what no honest peer sends.

use proptest::prelude::*;
use prost::Message as _;
use weft_overlay::UnixMicros;

use super::*;
use crate::wire::{SEQ_MAX, UNIX_MICROS_MAX};

const NETWORK: &str = "net";
const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn writer() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn seq(epoch: u64, counter: u64) -> Seq {
    Seq { epoch, counter }
}

fn interval(writer: u8, counter: u64) -> Interval<PeerId> {
    let dot = Dot {
        writer: PeerId::from_bytes([writer; 32]),
        seq: seq(9, counter),
    };
    Interval::of_dot(dot, None, None)
}

/// A value with everything that a record can say.
fn header() -> Header<PeerId> {
    Header {
        key: KvKey::new("{colours}/sky").unwrap(),
        dot: Dot {
            writer: writer().peer_id(),
            seq: seq(300, 7),
        },
        prev: Some(seq(300, 5)),
        context: Context::union([
            Interval {
                after: Seq::ZERO,
                ..interval(0xaa, 4)
            },
            Interval {
                ends_at: Some(NOW),
                ..interval(0xbb, 6)
            },
        ]),
        content: Content::Value { bytes: 4 },
        written_at: NOW,
        expires_at: Some(UnixMicros(NOW.0 + 60_000_000)),
        copies: 3,
        hash: [0; 32],
    }
}

fn tombstone() -> Header<PeerId> {
    Header {
        content: Content::Tombstone,
        prev: None,
        context: Context::new(),
        ..header()
    }
}

fn written(header: Header<PeerId>, value: &[u8]) -> Record<PeerId> {
    write_record(&writer(), NETWORK, header, value).unwrap()
}

fn read_back(bytes: &[u8]) -> Result<Record<PeerId>, DecodeError> {
    read_record(bytes, NETWORK, &mut KeyCache::default())
}

/// A SignedRecord of a body, with a signature of zeros.
fn unsigned(body: &proto::RecordBody) -> Vec<u8> {
    lay_out(&Signature([0; 64]), &body.encode_to_vec())
}

fn refusal(bytes: &[u8]) -> &'static str {
    match read_back(bytes) {
        Err(DecodeError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_have_the_bytes_that_they_always_had() {
    let records = [
        ("value", written(header(), b"blue")),
        ("tombstone", written(tombstone(), b"")),
    ];
    let hex = |bytes: &Bytes| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let now = records
        .each_ref()
        .map(|(name, record)| format!("{name}: {}", hex(&record.signed)));
    let was: Vec<_> = include_str!("golden.txt").lines().collect();
    assert_eq!(now.to_vec(), was, "now they are:\n{}", now.join("\n"));
}

#[test]
fn a_record_goes_there_and_back_as_one_allocation() {
    let record = written(header(), b"blue");
    assert_eq!(
        (&record.value[..], record.header.content),
        (&b"blue"[..], Content::Value { bytes: 4 })
    );
    let read = read_back(&record.signed).unwrap();
    assert_eq!(read, record);
    assert!(
        read.signed.as_ptr_range().contains(&read.value.as_ptr()),
        "the value is a slice"
    );
    assert_eq!(restore_record(&record.signed), Ok(record));

    let record = written(tombstone(), b"");
    assert_eq!(read_back(&record.signed).unwrap().header, record.header);
    let empty = Header {
        content: Content::Value { bytes: 0 },
        ..header()
    };
    let record = written(empty, b"");
    assert_eq!(read_back(&record.signed).unwrap().header, record.header);
}

#[test]
fn the_largest_record_passes() {
    let far = SEQ_MAX - 200;
    let cited = |number: u64| Interval {
        writer: PeerId::from_bytes([0xff; 32]),
        after: seq(far, far + 2 * number),
        to: seq(far, far + 2 * number + 1),
        ends_at: Some(NOW),
    };
    let header = Header {
        key: KvKey::new(&"k".repeat(512)).unwrap(),
        dot: Dot {
            writer: writer().peer_id(),
            seq: seq(SEQ_MAX, SEQ_MAX),
        },
        prev: Some(seq(SEQ_MAX, SEQ_MAX - 1)),
        context: Context::union((0..CONTEXT_INTERVALS_MAX as u64).map(cited)),
        content: Content::Value { bytes: 64 * 1024 },
        ..header()
    };
    let record = written(header, &[7; 64 * 1024]);
    assert_eq!(
        record.header.context.intervals().len(),
        CONTEXT_INTERVALS_MAX
    );
    assert!(record.signed.len() <= RECORD_BYTES_MAX);
    let reckoned = weft_dht::store::messages::head_bytes(&record.header);
    assert!(record.signed.len() <= record.value.len() + reckoned);
    assert_eq!(read_back(&record.signed), Ok(record));
}

#[test]
fn what_makes_no_sense_is_not_signed() {
    let zero = Header {
        copies: 0,
        ..header()
    };
    let refused = write_record(&writer(), NETWORK, zero, b"blue");
    assert_eq!(refused, Err(Invalid::Copies(0)));
}

#[test]
fn a_record_of_another_network_or_with_any_bit_flipped_is_refused() {
    let record = written(header(), b"blue");
    let other = read_record(&record.signed, "other", &mut KeyCache::default());
    assert_eq!(other, Err(DecodeError::Forged("record")));
    for bit in 0..8 * record.signed.len() {
        let mut flipped = record.signed.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read_back(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn what_stands_beside_the_signature_does_not_go_on() {
    let record = written(header(), b"blue");
    let beside = [&record.signed[..], &[0x1a, 2, 7, 7]].concat();
    assert_eq!(read_back(&beside), Ok(record));
}

#[test]
fn fields_of_later_versions_are_signed_and_go_on() {
    let mut body = body_of(&header(), b"blue").encode_to_vec();
    prost::encoding::bytes::encode(100, &vec![7; 100], &mut body);
    let signed = writer().sign(header(), Bytes::from(body), NETWORK.as_bytes());
    let laid_out = lay_out(&signed.signature, &signed.body);
    let record = read_back(&laid_out).unwrap();
    assert_eq!(
        (record.signed.to_vec(), &record.value[..]),
        (laid_out, &b"blue"[..])
    );
    assert_eq!(record.header.hash, *signed.hash.as_bytes());
}

#[test]
fn sizes_and_lists_stop_at_their_bounds() {
    let with = |change: fn(&mut proto::RecordBody)| {
        let mut body = body_of(&header(), b"blue");
        change(&mut body);
        refusal(&unsigned(&body))
    };
    let large = with(|body| body.value = Some(vec![0; 64 * 1024 + 1].into()));
    assert_eq!(large, "a value of over 64 KiB");
    let cited = || proto::CitedInterval {
        writer: vec![7; 32].into(),
        after: None,
        to: Some(encode_seq(seq(1, 1))),
        ends_at: None,
    };
    let body = proto::RecordBody {
        context: vec![cited(); 65],
        ..body_of(&header(), b"blue")
    };
    assert_eq!(refusal(&unsigned(&body)), "a context of over 64 intervals");

    let mut padded = body_of(&header(), b"blue").encode_to_vec();
    prost::encoding::bytes::encode(100, &vec![7; 512], &mut padded);
    let padded = lay_out(&Signature([0; 64]), &padded);
    assert_eq!(refusal(&padded), "a record with more in it than it says");
}

#[test]
fn what_no_honest_writer_says_is_refused() {
    let with = |change: fn(&mut proto::RecordBody)| {
        let mut body = body_of(&header(), b"blue");
        change(&mut body);
        refusal(&unsigned(&body))
    };
    let missing = "a field that must stand is missing";
    let seq_max = "a seq or epoch of 2^53 or more";
    assert_eq!(
        with(|body| body.writer = vec![7; 31].into()),
        "an id, hash or signature of another length"
    );
    assert_eq!(with(|body| body.key = String::new()), missing);
    assert_eq!(
        with(|body| body.key = "@me/x".to_owned()),
        "a key that is none"
    );
    assert_eq!(
        with(|body| body.key = "k".repeat(513)),
        "a key that is none"
    );
    assert_eq!(with(|body| body.writer = Bytes::new()), missing);
    assert_eq!(with(|body| body.seq = None), missing);
    assert_eq!(
        with(|body| body.seq.as_mut().unwrap().epoch = SEQ_MAX + 1),
        seq_max
    );
    assert_eq!(
        with(|body| body.prev.as_mut().unwrap().counter = SEQ_MAX + 1),
        seq_max
    );
    assert_eq!(
        with(|body| body.written_at = UNIX_MICROS_MAX + 1),
        "a moment after the year 9999"
    );
    assert_eq!(with(|body| body.context[0].to = None), missing);
    for out_of_order in [
        with(|body| body.context.swap(0, 1)),
        with(|body| body.context[1] = body.context[0].clone()),
        with(|body| body.context[0].after = Some(encode_seq(seq(10, 1)))),
        with(|body| body.context[0].to = Some(encode_seq(Seq::ZERO))),
    ] {
        assert_eq!(out_of_order, "a context out of order");
    }

    let body = body_of(&header(), b"blue").encode_to_vec();
    let not_utf8 = [&body[..], &[0x12, 1, 0xff]].concat();
    for twice in [
        not_utf8,
        [&body[..], &[0x40, 3]].concat(),
        [&body[..], &[0x4a, 0]].concat(),
    ] {
        assert!(read_back(&lay_out(&Signature([0; 64]), &twice)).is_err());
    }
    let record = written(header(), b"blue");
    let twice = [&record.signed[..], &[0x12, 0]].concat();
    assert_eq!(refusal(&twice), "a singular field twice");
    assert_eq!(refusal(b""), missing);
}

fn any_seq() -> impl Strategy<Value = Seq> {
    (1..=SEQ_MAX, 1..=SEQ_MAX).prop_map(|(epoch, counter)| seq(epoch, counter))
}

fn any_moment() -> impl Strategy<Value = UnixMicros> {
    (0..=UNIX_MICROS_MAX).prop_map(UnixMicros)
}

fn any_context() -> impl Strategy<Value = Context<PeerId>> {
    let interval = (
        0..4_u8,
        any_seq(),
        any_seq(),
        proptest::option::of(any_moment()),
    );
    let interval = interval.prop_map(|(writer, after, to, ends_at)| Interval {
        writer: PeerId::from_bytes([writer; 32]),
        after,
        to,
        ends_at,
    });
    proptest::collection::vec(interval, 0..20).prop_map(Context::union)
}

/// A header with what the wire can carry, be it sense or not, and its value.
pub(in crate::wire) fn any_header() -> impl Strategy<Value = (Header<PeerId>, Option<Vec<u8>>)> {
    let moments = (any_moment(), proptest::option::of(any_moment()));
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    (
        "[^\\p{C}@]{1,100}",
        any_seq(),
        proptest::option::of(any_seq()),
        any_context(),
        moments,
        any::<u8>(),
        value,
    )
        .prop_map(
            |(key, seq, prev, context, (written_at, expires_at), copies, value)| {
                let content = value
                    .as_ref()
                    .map_or(Content::Tombstone, |value| Content::Value {
                        bytes: value.len() as u32,
                    });
                let header = Header {
                    key: KvKey::new(&key).expect("at most 400 bytes without control characters"),
                    dot: Dot {
                        writer: writer().peer_id(),
                        seq,
                    },
                    prev,
                    context,
                    content,
                    written_at,
                    expires_at,
                    copies,
                    hash: [0; 32],
                };
                (header, value)
            },
        )
}

proptest! {
    #[test]
    fn what_is_signed_is_read_as_the_schema_says((header, value) in any_header()) {
        let value = value.unwrap_or_default();
        let body = body_of(&header, &value);
        let signed = writer().sign(header, Bytes::from(body.encode_to_vec()), NETWORK.as_bytes()).into_signed();
        let laid_out = Bytes::from(lay_out(&signed.signature, &signed.body));
        let record = record_of(signed, laid_out.clone());
        prop_assert_eq!(&read_back(&laid_out).unwrap(), &record);
        prop_assert_eq!(&record.value[..], &value[..]);

        let schema = proto::SignedRecord::decode(laid_out.clone()).unwrap();
        prop_assert_eq!(schema.encode_to_vec(), laid_out);
        prop_assert_eq!(proto::RecordBody::decode(schema.body).unwrap(), body);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_back(&bytes);
        let _ = read_back(&lay_out(&Signature([0; 64]), &bytes));
    }
}
