//! What no honest peer sends: never a panic, and never more memory than a fixed bound or a small multiple of the input.

use proptest::sample::Index;
use prost::Message as _;

use super::*;
use crate::wire::{
    CONTACTS_MAX, FRAME_BYTES_MAX, SEQ_MAX, UNIX_MICROS_MAX, decode_descriptors, encode_broadcast,
    encode_membership, encode_ping, membership, proto,
};

/// A field of bytes, as often as it fits.
pub(super) fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
    out
}

fn in_membership(number: u32, message: &[u8]) -> Vec<u8> {
    field(
        4,
        &[field(1, TOPIC.as_bytes()), field(number, message)].concat(),
    )
}

fn in_broadcast(number: u32, message: &[u8]) -> Vec<u8> {
    field(
        5,
        &[field(1, TOPIC.as_bytes()), field(number, message)].concat(),
    )
}

/// The frame of a bundle with this body and a signature of zeros.
pub(super) fn bundle_frame(body: &[u8]) -> Vec<u8> {
    let signed = [field(1, &[0; 64]), field(2, body)].concat();
    in_broadcast(2, &[&[0x08, 1, 0x10, 1][..], &field(3, &signed)].concat())
}

pub(super) fn refusal(frame: &[u8]) -> &'static str {
    match decoder().decode(frame) {
        Err(DecodeError::Malformed(why)) => why,
        other => panic!("{:?} for {} bytes", other, frame.len()),
    }
}

#[test]
fn lists_stop_at_their_bounds_whatever_their_entries_cost() {
    let empty_contacts = [0x1a, 0].repeat(CONTACTS_MAX + 1);
    assert_eq!(
        refusal(&in_membership(8, &empty_contacts)),
        "over 32 descriptors"
    );

    let digest = field(1, &[7; 32]);
    let digest = [digest, field(5, &[7; 32])].concat();
    let digests = [&[0x08, 1][..], &field(2, &digest).repeat(1_025)].concat();
    assert_eq!(refusal(&in_broadcast(3, &digests)), "over 1,024 streams");

    let want = field(1, &field(1, &[7; 32])).repeat(1_025);
    assert_eq!(refusal(&in_broadcast(7, &want)), "over 1,024 streams");

    let spans =
        (0..257u64).map(|at| field(2, &field(2, &[0x10, 1, 0x0a, 2, (at >> 8) as u8, at as u8])));
    let spans: Vec<_> = spans.collect();
    assert_eq!(refusal(&in_broadcast(9, &spans.concat())), "over 256 spans");
    assert!(
        decoder()
            .decode(&in_broadcast(9, &spans[..256].concat()))
            .is_ok()
    );

    for kind in [5, 6] {
        let trees = field(1, &[7; 32]).repeat(1_025);
        assert_eq!(refusal(&in_broadcast(kind, &trees)), "over 1,024 trees");
    }

    let seqs = [2, 0].repeat(65);
    let want = field(1, &[field(1, &[7; 32]), field(3, &seqs)].concat());
    assert_eq!(refusal(&in_broadcast(7, &want)), "over 64 ranges");

    let addresses = [field(1, &[7; 32]), field(2, b"a").repeat(9)].concat();
    let signed = [field(1, &[0; 64]), field(2, &addresses)].concat();
    assert_eq!(
        refusal(&field(1, &field(1, &signed))),
        "a descriptor with over 8 addresses"
    );
}

#[test]
fn what_is_decoded_is_a_small_multiple_of_what_came() {
    // The worst that each list can do within its bound, in bytes of entries.
    let trees = field(1, &[7; 32]).repeat(1_024);
    let Ok(Frame::Broadcast {
        message: Broadcast::Graft { trees: decoded },
        ..
    }) = decoder().decode(&in_broadcast(5, &trees))
    else {
        panic!("a graft");
    };
    assert!(decoded.capacity() * size_of::<PeerId>() <= 64 * 1024);

    let entry = [
        field(1, &[7; 32]),
        field(3, &[2, 0].repeat(64)),
        field(5, &[7; 32]),
    ]
    .concat();
    let digests = [&[0x08, 1][..], &field(2, &entry).repeat(1_024)].concat();
    let frame = in_broadcast(3, &digests);
    let Ok(Frame::Broadcast {
        message: Broadcast::Digest { streams, .. },
        ..
    }) = decoder().decode(&frame)
    else {
        panic!("a digest");
    };
    let ranges: usize = streams.iter().map(|stream| stream.seqs.range_count()).sum();
    assert_eq!(ranges, 64 * 1_024);
    let bytes = streams.capacity() * size_of::<StreamDigest<PeerId>>() + ranges * 16;
    assert!(bytes <= 8 * frame.len(), "{bytes} of {}", frame.len());
}

#[test]
fn sizes_stop_at_their_bounds() {
    assert_eq!(
        refusal(&vec![0; FRAME_BYTES_MAX + 1]),
        "a frame of over 2 MiB"
    );
    let large = field(100, &[0; 300 * 1024]);
    for kind in [1, 2, 3, 4, 6] {
        assert_eq!(
            refusal(&field(kind, &large)),
            "a control frame of over 256 KiB"
        );
    }
    for kind in [4, 5, 6, 8, 9] {
        assert_eq!(
            refusal(&in_broadcast(kind, &large)),
            "a broadcast message over its limit"
        );
    }
    let larger = field(100, &[0; 1_300 * 1024]);
    for kind in [2, 3, 7] {
        assert_eq!(
            refusal(&in_broadcast(kind, &larger)),
            "a broadcast message over its limit"
        );
    }
    let signed = [field(1, &[0; 64]), field(2, &[0; 5 * 1024])].concat();
    assert_eq!(
        refusal(&field(1, &field(1, &signed))),
        "a descriptor of over 4 KiB"
    );
    let signed = |address: &[u8]| {
        let body = [field(1, &[7; 32]), field(2, address)].concat();
        [field(1, &[0; 64]), field(2, &body)].concat()
    };
    for address in [&[][..], &[7; 257]] {
        assert_eq!(
            refusal(&field(1, &field(1, &signed(address)))),
            "an address of no or over 256 bytes"
        );
    }
}

#[test]
fn bundles_out_of_bounds_are_refused_before_their_signature_is_looked_at() {
    let good = || proto::BundleBody::decode(bundle().0.body.clone()).unwrap();
    let messages = |count: usize, bytes: usize| proto::BundleBody {
        messages: vec![Bytes::from(vec![7; bytes]); count],
        ..good()
    };
    let too_much = "a bundle of no, too many or too large messages";
    let bad_seq = "a seq of 0, or of 2^53 or more";
    let predecessor = "a bundle without its predecessor, or a first one with one";
    let previous = |epoch| {
        Some(proto::PreviousEpoch {
            epoch,
            last: Some(1),
        })
    };
    let first = proto::BundleBody {
        first: 1,
        predecessor: None,
        ..good()
    };
    for (body, why) in [
        (messages(0, 0), too_much),
        (messages(1_025, 0), too_much),
        (messages(2, 32 * 1024 + 1), too_much),
        (messages(1, 1024 * 1024 + 1), too_much),
        (proto::BundleBody { first: 0, ..good() }, bad_seq),
        (
            proto::BundleBody {
                first: SEQ_MAX,
                ..good()
            },
            bad_seq,
        ),
        (
            proto::BundleBody {
                epoch: SEQ_MAX + 1,
                ..good()
            },
            "a seq or epoch of 2^53 or more",
        ),
        (
            proto::BundleBody {
                published_at: UNIX_MICROS_MAX + 1,
                ..good()
            },
            "a moment after the year 9999",
        ),
        (
            proto::BundleBody {
                predecessor: None,
                ..good()
            },
            predecessor,
        ),
        (proto::BundleBody { first: 1, ..good() }, predecessor),
        (
            proto::BundleBody {
                previous_epoch: previous(1),
                ..good()
            },
            "a previous epoch out of place",
        ),
        (
            proto::BundleBody {
                previous_epoch: previous(9),
                ..first
            },
            "a previous epoch out of place",
        ),
        (
            proto::BundleBody {
                predecessor: Some(Bytes::from_static(b"short")),
                ..good()
            },
            "an id, hash or signature of another length",
        ),
    ] {
        assert_eq!(refusal(&bundle_frame(&body.encode_to_vec())), why);
    }
    let padded = [bundle().0.body.to_vec(), field(100, &[0; 2_000])].concat();
    assert_eq!(
        refusal(&bundle_frame(&padded)),
        "a bundle with over 1 KiB beside its messages"
    );
    // Unknown fields within reason stay: the signature decides.
    let padded = [bundle().0.body.to_vec(), field(100, &[0; 100])].concat();
    assert_eq!(
        decoder().decode(&bundle_frame(&padded)).unwrap_err(),
        DecodeError::Forged("bundle")
    );
}

#[test]
fn a_singular_field_twice_is_refused() {
    let ping = bare(&encode_ping(7));
    assert_eq!(refusal(&ping.repeat(2)), "a singular field twice");
    let topic = field(1, TOPIC.as_bytes());
    let goodbye = field(6, &[0x30, 1]);
    for message in [
        [&topic[..], &topic, &goodbye].concat(),
        [&topic[..], &goodbye, &goodbye].concat(),
    ] {
        assert_eq!(refusal(&field(4, &message)), "a singular field twice");
    }
    let body = bundle().0.body.to_vec();
    let twice = [&body[..], &[0x18, 3]].concat();
    assert_eq!(refusal(&bundle_frame(&twice)), "a singular field twice");
}

#[test]
fn ranges_are_ascending_apart_and_below_two_to_the_53() {
    let want = |seqs: &[u64]| {
        let mut packed = Vec::new();
        for &seq in seqs {
            prost::encoding::encode_varint(seq, &mut packed);
        }
        in_broadcast(
            7,
            &field(1, &[field(1, &[7; 32]), field(3, &packed)].concat()),
        )
    };
    assert!(decoder().decode(&want(&[1, SEQ_MAX - 1])).is_ok());
    for bad in [
        &[0, 0][..],
        &[1, 0, 0, 0],
        &[1, 0, 1, 0],
        &[1, SEQ_MAX],
        &[SEQ_MAX, 0, 2, 0],
        &[u64::MAX, 1],
        &[5, u64::MAX],
    ] {
        assert_eq!(
            refusal(&want(bad)),
            "ranges that touch, or beyond 2^53",
            "{bad:?}"
        );
    }
    assert_eq!(refusal(&want(&[1])), "a varint that doesn't end");
}

#[test]
fn spans_ascend_and_none_of_them_overlap() {
    let bound = |number: u32, publisher: &[u8]| field(number, &field(1, publisher));
    let split = |spans: &[Vec<u8>]| {
        let parts: Vec<_> = spans.iter().map(|span| field(2, span)).collect();
        in_broadcast(9, &parts.concat())
    };
    let from = |first: &[u8], upto: &[u8]| [bound(1, first), bound(2, upto)].concat();
    let upto = |upto: &[u8]| bound(2, upto);
    for good in [
        &[vec![]][..],
        &[upto(&[1]), upto(&[1, 1]), upto(&[7; 32]), vec![]],
        &[from(&[1], &[2]), from(&[2], &[3]), from(&[4], &[5])],
    ] {
        assert!(decoder().decode(&split(good)).is_ok(), "{good:x?}");
    }
    for bad in [
        &[vec![], vec![]][..],
        &[vec![], upto(&[1])],
        &[upto(&[1]), upto(&[1])],
        &[upto(&[2]), upto(&[1])],
        &[upto(&[2]), from(&[1], &[3])],
        &[from(&[2], &[1])],
        &[from(&[1], &[1, 0, 0])],
    ] {
        assert_eq!(
            refusal(&split(bad)),
            "spans that overlap, or are empty",
            "{bad:x?}"
        );
    }
    assert_eq!(
        refusal(&split(&[upto(&[7; 33])])),
        "a bound of over 32 bytes"
    );
}

#[test]
fn unknown_kinds_are_skipped_and_missing_values_refused() {
    for unknown in [
        vec![],
        field(99, b"later"),
        field(4, &field(1, TOPIC.as_bytes())),
        in_membership(99, b"later"),
        in_broadcast(99, b"later"),
        in_membership(6, &[0x30, 9]),
        in_broadcast(3, &[0x08, 9]),
    ] {
        let frame = decoder().decode(&unknown);
        assert!(matches!(frame, Ok(Frame::Unknown)), "{frame:?}");
    }
    assert_eq!(refusal(&in_membership(6, &[])), "no reason");
    assert_eq!(
        refusal(&in_membership(2, &[])),
        "a field that must stand is missing"
    );
    assert_eq!(
        refusal(&field(4, &field(6, &[0x30, 1]))),
        "a field that must stand is missing"
    );
    assert_eq!(
        refusal(&field(4, &field(1, b"short"))),
        "an id, hash or signature of another length"
    );
}

#[test]
fn hops_are_clamped() {
    let signed = proto::SignedBundle {
        signature: Bytes::copy_from_slice(&bundle().0.signature.0),
        body: bundle().0.body.clone(),
    };
    for (came, read) in [(0, 1), (1, 1), (255, 255), (256, 255), (u32::MAX, 255)] {
        let frame = proto::Bundle {
            hops: came,
            push: 1,
            signed: Some(signed.clone()),
        };
        let Ok(Frame::Broadcast {
            message: Broadcast::Bundle { hops, .. },
            ..
        }) = decoder().decode(&in_broadcast(2, &frame.encode_to_vec()))
        else {
            panic!("a bundle");
        };
        assert_eq!(hops, read);
    }
}

#[test]
fn a_prefix_is_read_as_soon_as_it_is_whole_and_refused_as_soon_as_it_is_too_large() {
    assert_eq!(parse_prefix(&[]), Ok(None));
    assert_eq!(parse_prefix(&[0]), Ok(Some((1, 0))));
    assert_eq!(parse_prefix(&[0x96, 0x01, 9, 9]), Ok(Some((2, 150))));
    assert_eq!(parse_prefix(&[0x80, 0x80, 0x80]), Ok(None));
    let largest = [0x80, 0x80, 0x80, 0x01];
    assert_eq!(parse_prefix(&largest), Ok(Some((4, FRAME_BYTES_MAX))));
    for large in [&[0x81, 0x80, 0x80, 0x01][..], &[0xff; 4], &[0xff; 10]] {
        assert!(parse_prefix(large).is_err(), "{large:x?}");
    }
}

/// Decodes everything that can be decoded; what comes of it doesn't matter.
fn decode_all(bytes: &[u8]) {
    let _ = decoder().decode(bytes);
    let _ = parse_prefix(bytes);
    let _ = decode_descriptors(bytes);
    let _ = membership::read(bytes, sender().peer_id(), &mut Default::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 1u32..8, inner in 1u32..10) {
        decode_all(&bytes);
        decode_all(&field(kind, &bytes));
        decode_all(&in_membership(inner, &bytes));
        decode_all(&in_broadcast(inner, &bytes));
        decode_all(&bundle_frame(&bytes));
    }

    #[test]
    fn cut_and_flipped_frames_never_panic_and_never_pass_as_another_bundle(
        message in broadcasts(), at in any::<Index>(), bit in 0u8..8,
    ) {
        let frame = bare(&encode_broadcast(TOPIC, &message));
        decode_all(&frame[..at.index(frame.len())]);
        let mut flipped = frame.clone();
        flipped[at.index(frame.len())] ^= 1 << bit;
        if let (
            Ok(Frame::Broadcast { message: Broadcast::Bundle { bundle: got, .. }, .. }),
            Broadcast::Bundle { bundle, .. },
        ) = (decoder().decode(&flipped), &message)
        {
            prop_assert_eq!(&got.0.body, &bundle.0.body, "only hops and push stand outside");
        }
    }

    #[test]
    fn cut_and_flipped_memberships_never_panic(message in memberships(), at in any::<Index>(), bit in 0u8..8) {
        let frame = bare(&encode_membership(TOPIC, &message));
        decode_all(&frame[..at.index(frame.len())]);
        let mut flipped = frame.clone();
        flipped[at.index(frame.len())] ^= 1 << bit;
        decode_all(&flipped);
    }
}
