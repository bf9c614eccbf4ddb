//! What is encoded is decoded to the same, and prost reads it as the schema says.

use prost::Message as _;

use super::*;
use crate::wire::membership::{self, TopicMembership};
use crate::wire::{
    decode_descriptors, encode_broadcast, encode_descriptors, encode_hello, encode_membership,
    encode_ping, encode_pong, encode_stopping, proto,
};

#[test]
fn liveness_goes_there_and_back() {
    let mut decoder = decoder();
    for nonce in [0, 1, u64::MAX] {
        let frame = decoder.decode(&bare(&encode_ping(nonce)));
        assert!(matches!(frame, Ok(Frame::Ping { nonce: n }) if n == nonce));
        let frame = decoder.decode(&bare(&encode_pong(nonce)));
        assert!(matches!(frame, Ok(Frame::Pong { nonce: n }) if n == nonce));
    }
    let frame = decoder.decode(&bare(&encode_stopping()));
    assert!(matches!(frame, Ok(Frame::Stopping)));
    let frame = decoder.decode(&bare(&encode_hello(None)));
    assert!(matches!(frame, Ok(Frame::Hello { contact: None })));
    let own = contact_of(&sender());
    match decoder.decode(&bare(&encode_hello(Some(&own)))) {
        Ok(Frame::Hello { contact: Some(got) }) => {
            assert_eq!(got.0.value, own.0.value);
            assert_eq!(got, own);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bundle_is_one_allocation_and_forwarded_as_it_came() {
    let mut decoder = decoder();
    let sent = encode_broadcast(TOPIC, &eager(&bundle()));
    let Ok(Frame::Broadcast { message, .. }) = decoder.decode(&bare(&sent)) else {
        panic!("a bundle");
    };
    let Broadcast::Bundle { bundle, .. } = &message else {
        panic!("a bundle");
    };
    let body = bundle.0.body.as_ptr_range();
    for (_, message) in bundle.messages().filter(|(_, message)| !message.is_empty()) {
        assert!(body.contains(&message.as_ptr()), "messages are slices");
    }
    let again = encode_broadcast(TOPIC, &message);
    assert_eq!(again.tail.as_ptr_range(), body, "and so is the tail");
    assert_eq!(bare(&again), bare(&sent));
    let seqs: Vec<_> = bundle.messages().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [3, 4]);
}

#[test]
fn the_largest_bundles_pass() {
    let mut decoder = decoder();
    let large = Bytes::from(vec![7; 1024 * 1024]);
    let many = vec![Bytes::from(vec![7; 64]); 1_024];
    let empty = vec![Bytes::new(); 1_024];
    for messages in [&[large][..], &many, &empty] {
        let messages: Vec<_> = messages.iter().cloned().map(Message::from).collect();
        let bundle = bundle_of(&messages);
        let frame = bare(&encode_broadcast(TOPIC, &eager(&bundle)));
        let Ok(Frame::Broadcast {
            message: Broadcast::Bundle { bundle: got, .. },
            ..
        }) = decoder.decode(&frame)
        else {
            panic!("a bundle");
        };
        assert_eq!(got.0.value, bundle.0.value);
    }
}

#[test]
fn a_membership_goes_there_and_back() {
    let told = membership::Membership {
        topics: vec![
            TopicMembership {
                name: "logs".parse().unwrap(),
                subscribed: true,
            },
            TopicMembership {
                name: "a/b".parse().unwrap(),
                subscribed: false,
            },
        ],
        contact: contact_of(&key(2)),
        issued_at: UnixMicros(5),
        expires_at: UnixMicros(60_000_005),
    };
    let bytes = membership::value(&told).encode_to_vec();
    let keys = &mut Default::default();
    assert_eq!(
        membership::read(&bytes, key(2).peer_id(), keys).ok(),
        Some(told)
    );
    assert!(membership::read(&bytes, key(3).peer_id(), keys).is_err());
}

#[test]
fn the_largest_membership_passes_and_a_larger_one_does_not() {
    let mut told = proto::TopicMemberships {
        topics: vec![
            proto::TopicMembership {
                name: "x".repeat(200),
                subscribed: true,
            };
            membership::TOPICS_MAX
        ],
        descriptor: Some(crate::wire::descriptor::encode(&contact_of(&key(2)))),
        issued_at: 1,
        expires_at: 2,
    };
    let keys = &mut Default::default();
    let member = key(2).peer_id();
    let decoded = membership::read(&told.encode_to_vec(), member, keys).unwrap();
    assert_eq!(decoded.topics.len(), membership::TOPICS_MAX);
    told.topics.push(told.topics[0].clone());
    assert!(membership::read(&told.encode_to_vec(), member, keys).is_err());
    told.topics.truncate(1);
    told.topics[0].name = "network".to_owned();
    assert!(membership::read(&told.encode_to_vec(), member, keys).is_err());
}

#[test]
fn an_address_book_goes_there_and_back_and_no_flipped_bit_passes() {
    let contacts: Vec<_> = (1..9).map(|n| contact_of(&key(n))).collect();
    let file = encode_descriptors(&contacts);
    assert_eq!(decode_descriptors(&file), Ok(contacts));
    assert_eq!(decode_descriptors(&encode_descriptors(&[])), Ok(vec![]));
    for len in 0..file.len() {
        assert!(decode_descriptors(&file[..len]).is_err(), "cut at {len}");
    }
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1;
        assert!(decode_descriptors(&flipped).is_err(), "flipped at {at}");
    }
}

#[test]
fn an_address_book_keeps_256_and_leaves_out_what_does_not_verify() {
    let many = vec![contact_of(&key(1)); 300];
    assert_eq!(
        decode_descriptors(&encode_descriptors(&many)).map(|book| book.len()),
        Ok(256)
    );
    let mut book = proto::AddressBook::default();
    for n in 1..4 {
        book.descriptors
            .push(crate::wire::descriptor::encode(&contact_of(&key(n))));
    }
    book.descriptors[1].signature = Bytes::from(vec![0; 64]);
    let book = book.encode_to_vec();
    let file = [b"weft-peers\x01", &Hash::of(&book).as_bytes()[..], &book].concat();
    assert_eq!(
        decode_descriptors(&file),
        Ok(vec![contact_of(&key(1)), contact_of(&key(3))])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn memberships_go_there_and_back(message in memberships()) {
        let frame = bare(&encode_membership(TOPIC, &message));
        match decoder().decode(&frame) {
            Ok(Frame::Membership { topic, message: got }) => {
                prop_assert_eq!(topic, TOPIC);
                prop_assert_eq!(format!("{got:?}"), format!("{message:?}"));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn broadcasts_go_there_and_back(message in broadcasts()) {
        let frame = bare(&encode_broadcast(TOPIC, &message));
        match decoder().decode(&frame) {
            Ok(Frame::Broadcast { topic, message: got }) => {
                prop_assert_eq!(topic, TOPIC);
                prop_assert_eq!(format!("{got:?}"), format!("{message:?}"));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn prost_reads_what_is_laid_out_by_hand(bundle in bundles(), hops in 1..=u8::MAX) {
        let message = Broadcast::Bundle { bundle: bundle.clone(), hops, push: Push::Eager };
        let bytes = bare(&encode_broadcast(TOPIC, &message));
        let frame = proto::Frame::decode(&bytes[..]).unwrap();
        prop_assert_eq!(frame.encode_to_vec(), bytes, "the very bytes that prost writes");
        let Some(proto::frame::Kind::Broadcast(broadcast)) = frame.kind else {
            panic!("a broadcast");
        };
        let Some(proto::broadcast::Message::Bundle(inner)) = broadcast.message else {
            panic!("a bundle");
        };
        prop_assert_eq!(inner.hops, u32::from(hops));
        let signed = inner.signed.unwrap();
        prop_assert_eq!(&signed.body, &bundle.0.body);
        let body = proto::BundleBody::decode(signed.body).unwrap();
        prop_assert_eq!(&body.messages, &bundle.0.value.messages);
    }

    #[test]
    fn unknown_fields_are_skipped(message in memberships(), at in 0usize..3, value in any::<u64>()) {
        let mut frame = bare(&encode_membership(TOPIC, &message));
        // Field 100 of each wire type behind what is known.
        match at {
            0 => { prost::encoding::uint64::encode(100, &value, &mut frame); }
            1 => { prost::encoding::fixed64::encode(100, &value, &mut frame); }
            _ => { prost::encoding::bytes::encode(100, &vec![7u8; 9], &mut frame); }
        }
        let got = decoder().decode(&frame);
        prop_assert!(matches!(got, Ok(Frame::Membership { .. })), "{:?}", got);
    }
}
