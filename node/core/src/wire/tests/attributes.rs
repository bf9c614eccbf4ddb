//! What is said of messages: there and back, sparse, and within its bounds whoever sends it.

use std::collections::BTreeMap;

use prost::Message as _;

use super::hostile::{bundle_frame, field, refusal};
use super::*;
use crate::bundle::{BUNDLE_BYTES_MAX, BUNDLE_MESSAGES_MAX, MESSAGE_BYTES_MAX};
use crate::wire::{encode_broadcast, proto};

fn said(content_type: Option<&str>, headers: &[(&str, &str)]) -> Attributes {
    let headers: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Attributes::new(content_type, &headers).unwrap()
}

/// Sixteen headers and a content type, each as large as it may be.
fn largest() -> Attributes {
    let headers: BTreeMap<_, _> = (0..16)
        .map(|n| (format!("{n:0>64}"), "x".repeat(1_024)))
        .collect();
    Attributes::new(Some(&"t".repeat(127)), &headers).unwrap()
}

fn there_and_back(bundle: &TopicBundle) -> TopicBundle {
    match decoder().decode(&bare(&encode_broadcast(TOPIC, &eager(bundle)))) {
        Ok(Frame::Broadcast {
            message: Broadcast::Bundle { bundle, .. },
            ..
        }) => bundle,
        other => panic!("{other:?}"),
    }
}

fn message(data: &'static [u8], attributes: Attributes) -> Message {
    Message {
        data: Bytes::from_static(data),
        attributes,
    }
}

#[test]
fn each_message_keeps_what_is_said_of_it() {
    let json = said(Some("application/json"), &[]);
    let traced = said(None, &[("trace-id", "7f"), ("hop", "")]);
    let sent = bundle_of(&[
        message(b"{}", json.clone()),
        message(b"nothing is said of this", Attributes::default()),
        message(b"", traced.clone()),
    ]);
    let got = there_and_back(&sent);
    assert_eq!(got.0.value, sent.0.value);
    assert_eq!(got.attributes(3), Some(&json));
    assert_eq!(got.attributes(4), None);
    assert_eq!(got.attributes(5), Some(&traced));
    for no_seq in [0, 2, 6, u64::MAX] {
        assert_eq!(got.attributes(no_seq), None);
    }
    let body = got.0.body.as_ptr_range();
    for (_, attributes) in &got.0.value.attributes {
        assert!(
            body.contains(&attributes.encoded().as_ptr()),
            "they are slices of the body"
        );
    }
}

#[test]
fn a_bundle_without_attributes_has_the_bytes_that_it_had_before_there_were_any() {
    /// A BundleBody as it was.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Before {
        #[prost(bytes = "bytes", tag = "1")]
        publisher: Bytes,
        #[prost(uint64, tag = "2")]
        epoch: u64,
        #[prost(uint64, tag = "3")]
        first: u64,
        #[prost(bytes = "bytes", optional, tag = "4")]
        predecessor: Option<Bytes>,
        #[prost(uint64, tag = "6")]
        published_at: u64,
        #[prost(bytes = "bytes", repeated, tag = "7")]
        messages: Vec<Bytes>,
    }
    let place = place(9, 3);
    let before = Before {
        publisher: Bytes::copy_from_slice(key(2).peer_id().as_bytes()),
        epoch: place.epoch,
        first: place.first,
        predecessor: place
            .predecessor
            .map(|hash| Bytes::copy_from_slice(hash.as_bytes())),
        published_at: place.published_at.0,
        messages: vec![Bytes::from_static(b"hello"), Bytes::new()],
    };
    assert_eq!(bundle().0.body, before.encode_to_vec());
    let one_said = bundle_of(&[
        message(b"hello", said(Some("a/b"), &[])),
        Message::default(),
    ]);
    assert_eq!(
        one_said.0.body.len(),
        bundle().0.body.len() + 9,
        "only what is said takes room"
    );
}

#[test]
fn the_largest_attributes_pass_and_count_against_a_bundles_bytes() {
    let largest = largest();
    let data = |bytes: usize| Bytes::from(vec![7; bytes]);
    let alone = Message {
        data: data(MESSAGE_BYTES_MAX - largest.bytes()),
        attributes: largest.clone(),
    };
    assert_eq!(alone.bytes(), MESSAGE_BYTES_MAX);
    let alone = bundle_of(&[alone]);
    assert_eq!(there_and_back(&alone).0.value, alone.0.value);
    let of_all = said(None, &[("n", "1")]);
    let of_each = Message {
        data: data(BUNDLE_BYTES_MAX / BUNDLE_MESSAGES_MAX - of_all.bytes()),
        attributes: of_all,
    };
    let many = bundle_of(&vec![of_each; BUNDLE_MESSAGES_MAX]);
    assert_eq!(there_and_back(&many).0.value, many.0.value);
    let entries = size_of::<(u32, Attributes)>() * BUNDLE_MESSAGES_MAX;
    assert!(
        weft_overlay::Bundle::cost_bytes(&many) > many.0.body.len() + entries,
        "and against what a history may hold"
    );

    let too_much = proto::BundleBody {
        messages: vec![data(MESSAGE_BYTES_MAX)],
        ..body(&[(0, &field(1, b"a/b"))])
    };
    assert_eq!(
        refusal(&bundle_frame(&too_much.encode_to_vec())),
        "a bundle of no, too many or too large messages"
    );
}

fn entry(message: u32, attributes: &[u8]) -> proto::MessageAttributes {
    proto::MessageAttributes {
        message,
        attributes: Bytes::copy_from_slice(attributes),
    }
}

/// The body of a bundle of two messages of which this is said.
fn body(attributes: &[(u32, &[u8])]) -> proto::BundleBody {
    let attributes = attributes
        .iter()
        .map(|&(message, attributes)| entry(message, attributes));
    proto::BundleBody {
        attributes: attributes.collect(),
        ..proto::BundleBody::decode(bundle().0.body.clone()).unwrap()
    }
}

fn refused(attributes: &[(u32, &[u8])]) -> &'static str {
    refusal(&bundle_frame(&body(attributes).encode_to_vec()))
}

/// Fields 1 and 2 as a Header, or a content type and a header.
fn pair(first: &[u8], second: &[u8]) -> Vec<u8> {
    [field(1, first), field(2, second)].concat()
}

fn headers(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let each = pairs
        .iter()
        .map(|(name, value)| field(2, &pair(name, value)));
    each.collect::<Vec<_>>().concat()
}

#[test]
fn entries_are_in_order_of_messages_that_are_there_and_say_something() {
    let some = &field(1, b"a/b")[..];
    for entries in [&[(1, some), (0, some)][..], &[(0, some), (0, some)]] {
        assert_eq!(
            refused(entries),
            "attributes out of order, or of one message twice"
        );
    }
    for missing in [2, u32::MAX] {
        assert_eq!(
            refused(&[(0, some), (missing, some)]),
            "attributes of a message that isn't there"
        );
    }
    assert_eq!(
        refused(&[(0, &field(100, &[7; 18 * 1_024]))]),
        "attributes of no or over 18 KiB"
    );
    let with = |entry: &[u8]| {
        let body = [&bundle().0.body[..], &field(8, entry)].concat();
        refusal(&bundle_frame(&body))
    };
    assert_eq!(with(&field(2, b"")), "attributes of no or over 18 KiB");
    assert_eq!(with(&[]), "a field that must stand is missing");
    assert_eq!(
        with(&[&field(2, some)[..], &field(2, some)].concat()),
        "a singular field twice"
    );
    let index = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(
        with(&[&index[..], &field(2, some)].concat()),
        "attributes of a message that isn't there",
        "an index is not cut to what fits"
    );
    // Before the messages that they are of: the order of fields says nothing.
    let first = [field(8, &field(2, some)), bundle().0.body.to_vec()].concat();
    assert_eq!(
        decoder().decode(&bundle_frame(&first)).unwrap_err(),
        DecodeError::Forged("bundle"),
        "only the signature is wrong"
    );
}

#[test]
fn what_is_said_is_within_its_bounds_in_order_and_once() {
    for bad in [&b""[..], b"a\nb", "ä".as_bytes(), &[b'x'; 128]] {
        let why = refused(&[(0, &field(1, bad))]);
        assert_eq!(why, "a content type out of bounds");
    }
    for (name, value) in [
        (&b""[..], &b""[..]),
        (b"Upper", b""),
        (b"a_b", b""),
        (&[b'x'; 65], b""),
        (b"a", &[b'x'; 1_025]),
    ] {
        let why = refused(&[(0, &headers(&[(name, value)]))]);
        assert_eq!(why, "a header out of bounds");
    }
    for twisted in [
        &[(&b"b"[..], &b""[..]), (b"a", b"")],
        &[(&b"a"[..], &b"1"[..]), (b"a", b"2")],
    ] {
        assert_eq!(
            refused(&[(0, &headers(twisted))]),
            "headers out of order, or one twice"
        );
    }
    let names: Vec<_> = (0..17).map(|n| format!("{n:0>2}")).collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (name.as_bytes(), &b""[..]))
        .collect();
    assert_eq!(refused(&[(0, &headers(&many))]), "over 16 headers");
    let utf8 = "a text that is no UTF-8";
    assert_eq!(refused(&[(0, &field(1, b"\xff"))]), utf8);
    assert_eq!(refused(&[(0, &headers(&[(b"a", b"\xff")]))]), utf8);
    let twice = "a singular field twice";
    assert_eq!(refused(&[(0, &field(1, b"a/b").repeat(2))]), twice);
    let two_names = field(2, &field(1, b"a").repeat(2));
    assert_eq!(refused(&[(0, &two_names)]), twice);
    assert_eq!(refused(&[(0, &[0x08, 1])]), "a field of another wire type");
}

#[test]
fn what_later_versions_say_is_skipped_and_counts() {
    let later = [field(1, b"a/b"), field(100, &[7; 500])].concat();
    let alone = body(&[(0, &later)]);
    assert_eq!(
        decoder()
            .decode(&bundle_frame(&alone.encode_to_vec()))
            .unwrap_err(),
        DecodeError::Forged("bundle"),
        "only the signature is wrong"
    );
    let read = Attributes::checked(later.into());
    assert_eq!(read.content_type(), Some("a/b"));
    assert_eq!(read.headers().count(), 0);
    // Around attributes there is room for their framing alone, and the one kilobyte of the whole body.
    let padded = [field(2, &field(1, b"a/b")), field(100, &[7; 2_000])].concat();
    let body = [&bundle().0.body[..], &field(8, &padded)].concat();
    assert_eq!(
        refusal(&bundle_frame(&body)),
        "a bundle with over 1 KiB beside its messages"
    );
}
