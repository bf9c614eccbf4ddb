//! What no honest peer sends: never a panic, and never more memory than a fixed bound or a small multiple of the input.

use super::*;

/// A field of bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
    out
}

/// The frame of the message that has this number in the schema.
fn frame(number: u32, message: &[u8]) -> Vec<u8> {
    field(7, &field(number, message))
}

fn refusal(frame: &[u8]) -> &'static str {
    match decoder().decode(frame) {
        Err(DecodeError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn record() -> Bytes {
    write_record(&sender(), NETWORK, golden::header(), b"blue")
        .unwrap()
        .signed
}

#[test]
fn a_record_that_its_writer_did_not_sign_for_the_network_is_refused_wherever_it_stands() {
    let mut flipped = record().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let foreign = write_record(&sender(), "other", golden::header(), b"blue").unwrap();
    let sight = field(1, &[]);
    for forged in [&flipped[..], &foreign.signed] {
        let list = [field(1, &record()), field(1, forged)].concat();
        let got = [sight.clone(), field(2, forged)].concat();
        for frame in [
            frame(5, &[field(1, forged), vec![0x10, 1]].concat()),
            frame(9, &list),
            frame(16, &got),
            frame(21, &list),
        ] {
            let decoded = decoder().decode(&frame);
            assert_eq!(decoded.unwrap_err(), DecodeError::Forged("record"));
        }
    }
}

#[test]
fn another_peers_contact_is_no_senders_own() {
    let other = contact_of(&Keypair::from_seed(&[2; 32]));
    let claim = StoreMessage::Query(Query::Claim {
        contact: other,
        claim: None,
        leaving: false,
    });
    assert_eq!(
        refusal(&bare(&claim)),
        "another peer's descriptor for the sender's own"
    );
}

#[test]
fn lists_stop_at_their_bounds() {
    let sight = field(1, &[]);
    let with_sight = |entries: Vec<u8>| [sight.clone(), entries].concat();
    let range = field(1, &[]);
    let ranges = field(3, &[range.clone(), field(2, &[])].concat()).repeat(RANGES_MAX + 1);
    assert_eq!(refusal(&frame(7, &ranges)), "over 4,096 ranges");
    let among: Vec<u8> = (0..67_u8).flat_map(|peer| field(1, &[peer; 32])).collect();
    assert_eq!(
        refusal(&frame(7, &among)),
        "a comparison among over 66 peers"
    );
    let items = field(1, &[7; 16 * (ITEMS_MAX + 1)]);
    for kind in [8, 10] {
        let refused = refusal(&frame(kind, &items));
        assert_eq!(refused, "over 4,096 items, or half of one");
    }
    let seen = field(1, &contact_bytes());
    let peers = field(1, &field(2, &seen).repeat(21));
    for kind in [16, 17, 18] {
        assert_eq!(refusal(&frame(kind, &peers)), "a sight of over 20 peers");
    }
    let head = [
        field(1, &[7; 32]),
        field(2, b"k"),
        field(3, &[]),
        field(10, &[7; 32]),
    ]
    .concat();
    let heads = with_sight(field(2, &head).repeat(ITEMS_MAX + 1));
    assert_eq!(refusal(&frame(17, &heads)), "over 4,096 heads");
    let known: Vec<u8> = (0..65_u8)
        .flat_map(|peer| field(3, &field(1, &[peer; 32])))
        .collect();
    let claim = [vec![0x08, 1], known].concat();
    assert_eq!(
        refusal(&frame(19, &field(1, &claim))),
        "a claim of over 64 peers"
    );
    let differing = field(1, &[range.clone(), field(3, &[])].concat()).repeat(RANGES_MAX + 1);
    assert_eq!(refusal(&frame(20, &differing)), "over 4,096 ranges");
    let parts = |count| {
        field(
            1,
            &[range.clone(), field(2, &field(1, &[]).repeat(count))].concat(),
        )
    };
    assert_eq!(refusal(&frame(20, &parts(17))), "a range of over 16 parts");
    assert_eq!(
        refusal(&frame(20, &parts(15))),
        "a range of fewer than 16 parts"
    );
    let places = field(1, &vec![0; ITEMS_MAX + 1]);
    let refused = refusal(&frame(23, &places));
    assert_eq!(refused, "a list of numbers over its limit");
    let numbers = [vec![0x08, 14], field(2, &[0; 5])].concat();
    assert_eq!(
        refusal(&frame(22, &field(1, &numbers))),
        "a list of numbers over its limit"
    );
}

fn contact_bytes() -> Vec<u8> {
    descriptor_bytes(&contact_of(&Keypair::from_seed(&[2; 32])))
}

fn descriptor_bytes(contact: &PeerContact) -> Vec<u8> {
    crate::wire::descriptor::encode(contact).encode_to_vec()
}

#[test]
fn a_message_has_at_most_a_mebibyte_of_records_and_one() {
    let large = Header {
        content: weft_dht::kv::Content::Value { bytes: 64 * 1024 },
        ..golden::header()
    };
    let large = write_record(&sender(), NETWORK, large, &[7; 64 * 1024])
        .unwrap()
        .signed;
    let over = "over 4,096 records, or over 1 MiB of them and one";
    assert_eq!(refusal(&frame(9, &field(1, &large).repeat(18))), over);
    assert!(
        decoder()
            .decode(&frame(9, &field(1, &large).repeat(16)))
            .is_ok()
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let key = field(1, b"k");
    assert_eq!(
        refusal(&frame(2, &field(1, b"@me/k"))),
        "a key that is none"
    );
    assert_eq!(
        refusal(&frame(2, &[])),
        "a field that must stand is missing"
    );
    assert_eq!(
        refusal(&frame(4, &field(1, b"users"))),
        "a prefix without a whole tag"
    );
    assert_eq!(refusal(&frame(3, &key.repeat(2))), "a singular field twice");
    let put = |rest: &[u8]| frame(5, &[&field(1, &record())[..], rest].concat());
    let without_reason = "a put without its reason";
    assert_eq!(refusal(&put(&[0x10, 0])), without_reason);
    assert_eq!(refusal(&put(&[0x10, 2])), without_reason);
    let for_peer = field(3, &[7; 32]);
    assert_eq!(
        refusal(&put(&[&[0x10, 1][..], &for_peer].concat())),
        without_reason
    );
    let unordered = [field(1, &[2; 32]), field(1, &[1; 32])].concat();
    for scope in [unordered, vec![0x10, 2]] {
        assert_eq!(
            refusal(&frame(7, &scope)),
            "a comparison that no node asks for"
        );
    }
    let compare = |range: &[u8]| frame(7, &field(3, &[field(1, range), field(2, &[])].concat()));
    for range in [
        &[0x10, 3][..],
        &[0x10, 4],
        &[0x0a, 1, 0x1f, 0x10, 4],
        &[0x0a, 2, 0x10, 0, 0x10, 4],
        &[&[0x0a, 17][..], &[0; 17], &[0x10, 132, 1]].concat(),
    ] {
        assert_eq!(
            refusal(&compare(range)),
            "a range that is none",
            "{range:?}"
        );
    }
    let known = |peer: u8| field(3, &field(1, &[peer; 32]));
    for claim in [
        known(1),
        [vec![0x08, 1], known(2), known(1)].concat(),
        [vec![0x08, 1], known(1), known(1)].concat(),
    ] {
        let frame = frame(19, &field(1, &claim));
        assert_eq!(refusal(&frame), "a claim without a round, or out of order");
    }
    assert_eq!(
        refusal(&frame(22, &field(1, &[0x08, 0]))),
        "a refusal of no kind"
    );
    assert_eq!(
        refusal(&frame(8, &field(1, &[7; 17]))),
        "over 4,096 items, or half of one"
    );
    let place = field(1, &[0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(refusal(&frame(23, &place)), "a place that no list has");
    let both = [frame(24, &[]), frame(24, &[])].concat();
    assert_eq!(refusal(&both), "a singular field twice");
}

#[test]
fn what_a_later_version_says_is_skipped() {
    for unknown in [
        field(7, &[]),
        frame(11, &[]),
        frame(25, &[]),
        frame(5, &[&field(1, &record())[..], &[0x10, 9]].concat()),
        frame(22, &field(1, &[0x08, 99])),
        frame(22, &field(1, &[&[0x08][..], &[0xff; 9], &[1]].concat())),
    ] {
        assert!(matches!(decoder().decode(&unknown), Ok(Frame::Unknown)));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(number in 0..30_u32, bytes in vec(any::<u8>(), 0..200)) {
        let _ = decoder().decode(&field(7, &bytes));
        let _ = decoder().decode(&frame(number.max(1), &bytes));
    }

    #[test]
    fn no_damaged_message_panics(message in any_message(), at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut frame = bare(&message);
        let at = at.index(frame.len());
        frame[at] ^= by;
        let _ = decoder().decode(&frame);
        let _ = decoder().decode(&frame[..at]);
    }
}
