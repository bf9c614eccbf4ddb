//! The structured layer's messages: both forms go there and back, and what no honest peer sends is refused.

use proptest::sample::Index;
use prost::Message as _;
use weft_dht::{Answer, Contact as _, Key, Message, Query};

use super::*;
use crate::wire::kad::{PACKET_BYTES_MAX, PacketDecoder, encode_packet};
use crate::wire::{encode_kad, proto};
use crate::{KadContact, KadPeer};

fn packets() -> PacketDecoder {
    PacketDecoder::new(Arc::default())
}

fn known(peer: KadPeer) -> KadContact {
    KadContact::new(peer, UnixMicros(0))
}

fn signed(n: u8) -> KadContact {
    known(KadPeer::Signed(contact_of(&key(n))))
}

fn told() -> impl Strategy<Value = KadPeer> {
    let address = prop::collection::vec(any::<u8>(), 1..=256)
        .prop_map(|bytes| Address::new(bytes.into()).expect("1 to 256 bytes"));
    (peers(), prop::collection::vec(address, 1..=8))
        .prop_map(|(peer, addresses)| KadPeer::Told { peer, addresses })
}

fn any_peer() -> impl Strategy<Value = KadContact> {
    prop_oneof![contacts().prop_map(KadPeer::Signed), told()].prop_map(known)
}

fn keys() -> impl Strategy<Value = Key> {
    prop::collection::vec(any::<u8>(), 1..=256).prop_map(|bytes| Key::new(&bytes).unwrap())
}

fn messages() -> impl Strategy<Value = Message<KadContact>> {
    let list = || prop::collection::vec(any_peer(), 0..=20);
    let own = own().prop_map(|own| known(KadPeer::Signed(own)));
    prop_oneof![
        Just(Message::Query(Query::Ping)),
        keys().prop_map(|key| Message::Query(Query::FindNode { key })),
        keys().prop_map(|key| Message::Query(Query::GetProviders { key })),
        (keys(), own)
            .prop_map(|(key, provider)| Message::Query(Query::AddProvider { key, provider })),
        Just(Message::Answer(Answer::Pong)),
        list().prop_map(|contacts| Message::Answer(Answer::Closer { contacts })),
        (list(), list()).prop_map(|(providers, closer)| Message::Answer(Answer::Providers {
            providers,
            closer
        })),
    ]
}

#[allow(clippy::needless_pass_by_value, reason = "it is mapped over")]
fn peer_of(contact: KadContact) -> KadPeer {
    contact.known().clone()
}

/// Takes the length off a packet.
fn unpacked(packet: &Bytes) -> &[u8] {
    let (prefix, len) = parse_prefix(packet).unwrap().unwrap();
    assert_eq!(prefix + len, packet.len());
    assert!(len <= PACKET_BYTES_MAX, "{len}");
    &packet[prefix..]
}

fn refusal(packet: &proto::KadMessage) -> &'static str {
    let bytes = packet.encode_to_vec();
    let decoder = &mut packets();
    let (query, answer) = (
        decoder.query(&bytes, sender().peer_id()),
        decoder.answer(&bytes),
    );
    match (query, answer) {
        (Err(DecodeError::Malformed(why)), Err(_)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ping_for_a_stranger_is_a_search_for_itself() {
    let to = key(3).peer_id();
    let packet = encode_packet(&Message::Query(Query::Ping), to);
    let Ok(Message::Query(Query::FindNode { key })) =
        packets().query(unpacked(&packet), sender().peer_id())
    else {
        panic!("a search");
    };
    assert_eq!(key.as_bytes(), to.to_multihash());
}

#[test]
fn a_packet_holds_what_fits_and_the_closest_first() {
    let address = |n: u8| Address::new(Bytes::from(vec![n; 250])).unwrap();
    let far = |peer: u8| {
        known(KadPeer::Told {
            peer: PeerId::from_bytes([peer; 32]),
            addresses: (0..8).map(address).collect(),
        })
    };
    let answer = Message::Answer(Answer::Providers {
        providers: (0..20).map(far).collect(),
        closer: (20..40).map(far).collect(),
    });
    let packet = encode_packet(&answer, key(3).peer_id());
    let Ok(Message::Answer(Answer::Providers { providers, closer })) =
        packets().answer(unpacked(&packet))
    else {
        panic!("an answer");
    };
    assert!(providers.len() >= 3 && closer.len() >= 3);
    assert_eq!(providers[0].peer(), PeerId::from_bytes([0; 32]));
    assert_eq!(closer[0].peer(), PeerId::from_bytes([20; 32]));
}

#[test]
fn a_peer_of_ours_is_its_descriptor_alone_on_a_link_and_everything_on_a_stream() {
    let answer = Message::Answer(Answer::Closer {
        contacts: vec![signed(2)],
    });
    let frame = proto::Frame::decode(&bare(&encode_kad(1, &answer))[..]).unwrap();
    let Some(proto::frame::Kind::Kad(kad)) = frame.kind else {
        panic!("a kad frame");
    };
    let on_link = &kad.message.unwrap().closer_peers[0];
    assert!(on_link.id.is_empty() && on_link.addresses.is_empty());
    let packet = encode_packet(&answer, key(3).peer_id());
    let packet = proto::KadMessage::decode(unpacked(&packet)).unwrap();
    let peer = &packet.closer_peers[0];
    assert_eq!(peer.id, key(2).peer_id().to_multihash()[..]);
    assert_eq!(peer.addresses.len(), 2);
    assert!(peer.descriptor.is_some());
}

#[test]
fn peers_that_cannot_be_used_are_left_out() {
    let address = Bytes::from_static(b"\x04\x7f\x00\x00\x01\x06\x0f\xa0");
    let whole = proto::KadPeer {
        id: Bytes::copy_from_slice(&key(4).peer_id().to_multihash()),
        addresses: vec![address.clone(); 12],
        descriptor: None,
    };
    let mut rsa = vec![0x12, 0x20];
    rsa.extend([7; 32]);
    let unusable = [
        proto::KadPeer {
            id: rsa.into(),
            ..whole.clone()
        },
        proto::KadPeer {
            addresses: vec![],
            ..whole.clone()
        },
        proto::KadPeer {
            addresses: vec![Bytes::from(vec![1; 257]), Bytes::new()],
            ..whole.clone()
        },
        proto::KadPeer::default(),
    ];
    let message = proto::KadMessage {
        r#type: proto::KadType::FindNode.into(),
        closer_peers: unusable.into_iter().chain([whole]).collect(),
        ..proto::KadMessage::default()
    };
    let Ok(Message::Answer(Answer::Closer { contacts })) =
        packets().answer(&message.encode_to_vec())
    else {
        panic!("an answer");
    };
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].peer(), key(4).peer_id());
    assert_eq!(contacts[0].addresses().len(), 8);
}

#[test]
fn values_are_refused_and_so_is_what_has_no_key() {
    for kind in [proto::KadType::PutValue, proto::KadType::GetValue] {
        let message = proto::KadMessage {
            r#type: kind.into(),
            key: Bytes::from_static(b"key"),
            ..proto::KadMessage::default()
        };
        assert_eq!(refusal(&message), "values are not kept on this protocol");
    }
    let message = proto::KadMessage {
        r#type: 9,
        ..proto::KadMessage::default()
    };
    assert_eq!(refusal(&message), "an unknown kind");
    for kind in [proto::KadType::FindNode, proto::KadType::GetProviders] {
        let message = proto::KadMessage {
            r#type: kind.into(),
            ..proto::KadMessage::default()
        };
        let query = packets().query(&message.encode_to_vec(), sender().peer_id());
        let why = "a field that must stand is missing";
        assert_eq!(query, Err(DecodeError::Malformed(why)));
    }
}

#[test]
fn lists_and_keys_stop_at_their_bounds() {
    let message = |peers: usize, key: usize| proto::KadMessage {
        r#type: proto::KadType::FindNode.into(),
        key: vec![7; key].into(),
        closer_peers: vec![proto::KadPeer::default(); peers],
        ..proto::KadMessage::default()
    };
    assert_eq!(refusal(&message(65, 3)), "over 64 peers");
    assert_eq!(refusal(&message(0, 257)), "a key of over 256 bytes");
    let most = message(64, 256).encode_to_vec();
    assert!(packets().query(&most, sender().peer_id()).is_ok());
}

#[test]
fn nobody_announces_another_and_no_record_is_forged() {
    let announcement = |provider: &KadContact| proto::KadMessage {
        provider_peers: vec![proto::KadPeer {
            descriptor: Some(crate::wire::descriptor::encode(
                provider.descriptor().unwrap(),
            )),
            ..proto::KadPeer::default()
        }],
        key: Bytes::from_static(b"key"),
        r#type: proto::KadType::AddProvider.into(),
        ..proto::KadMessage::default()
    };
    let of = |n: u8| announcement(&signed(n)).encode_to_vec();
    let from = |n: u8, packet: &[u8]| packets().query(packet, key(n).peer_id());
    assert!(from(2, &of(2)).is_ok());
    assert!(matches!(from(3, &of(2)), Err(DecodeError::Malformed(_))));

    let mut forged = announcement(&signed(2));
    let descriptor = forged.provider_peers[0].descriptor.as_mut().unwrap();
    let mut signature = descriptor.signature.to_vec();
    signature[9] ^= 1;
    descriptor.signature = signature.into();
    let refused = from(2, &forged.encode_to_vec());
    assert_eq!(refused, Err(DecodeError::Forged("descriptor")));

    let mut strange = announcement(&signed(2));
    strange.provider_peers[0].id = key(3).peer_id().to_multihash().to_vec().into();
    let why = "another peer's descriptor beside an id";
    let refused = from(2, &strange.encode_to_vec());
    assert_eq!(refused, Err(DecodeError::Malformed(why)));
}

#[test]
fn a_word_about_a_peer_lasts_an_hour_and_is_older_than_its_own() {
    let now = UnixMicros(1_700_000_000_000_000);
    let own = KadContact::new(KadPeer::Signed(contact_of(&key(2))), now);
    let told = KadContact::new(
        KadPeer::Told {
            peer: key(2).peer_id(),
            addresses: contact_of(&key(2)).0.value.addresses.clone(),
        },
        now,
    );
    assert!(own.issued_at() > told.issued_at());
    assert_eq!(told.expires_at(), now + Duration::from_secs(3_600));
    assert!(
        told.serves() && !own.serves(),
        "this one says that it does not"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn frames_go_there_and_back(message in messages(), request in any::<u64>()) {
        let frame = decoder().decode(&bare(&encode_kad(request, &message)));
        match frame {
            Ok(Frame::Kad { request: same, message: got }) => {
                prop_assert_eq!(same, request);
                prop_assert_eq!(got, message.map(peer_of));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn packets_go_there_and_back(message in messages()) {
        let packet = encode_packet(&message, key(3).peer_id());
        let packet = unpacked(&packet);
        let got = match &message {
            Message::Query(_) => packets().query(packet, sender().peer_id()),
            Message::Answer(_) => packets().answer(packet),
        };
        let got = got.expect("an honest packet");
        match (got, message.map(peer_of)) {
            (Message::Query(Query::FindNode { .. }), Message::Query(Query::Ping)) => {}
            (Message::Query(got), Message::Query(sent)) => prop_assert_eq!(got, sent),
            (Message::Answer(got), Message::Answer(sent)) => {
                let peers = |answer: Answer<KadPeer>| match answer {
                    Answer::Pong => (vec![], vec![]),
                    Answer::Closer { contacts } => (contacts, vec![]),
                    Answer::Providers { providers, closer } => (closer, providers),
                };
                let ids = |list: Vec<KadPeer>| list.iter().map(KadPeer::peer).collect::<Vec<_>>();
                let ((closer, providers), (all_closer, all_providers)) = (peers(got), peers(sent));
                // Without its descriptor a peer that names no address is left out.
                let findable = |list: Vec<KadPeer>| {
                    let found = list.into_iter().filter(|peer| !peer.addresses().is_empty());
                    found.collect::<Vec<_>>()
                };
                prop_assert!(ids(findable(all_closer)).starts_with(&ids(findable(closer))));
                prop_assert!(ids(findable(all_providers)).starts_with(&ids(findable(providers))));
            }
            (got, sent) => prop_assert!(false, "{:?} for {:?}", got, sent),
        }
    }

    #[test]
    fn cut_flipped_and_made_up_packets_never_panic(
        message in messages(), garbage in prop::collection::vec(any::<u8>(), 0..600), at in any::<Index>(), bit in 0u8..8,
    ) {
        let whole = bare(&encode_kad(7, &message));
        let mut flipped = whole.clone();
        flipped[at.index(whole.len())] ^= 1 << bit;
        let packet = encode_packet(&message, key(3).peer_id());
        for bytes in [&whole[..at.index(whole.len())], &flipped, &garbage, unpacked(&packet)] {
            let _ = decoder().decode(bytes);
            let _ = packets().query(bytes, sender().peer_id());
            let _ = packets().answer(bytes);
        }
    }
}
