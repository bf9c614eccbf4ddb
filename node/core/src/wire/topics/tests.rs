//! The messages about topics: there and back, as the schema says, and what no honest peer sends.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use weft_identity::{Hash, Keypair};
use weft_overlay::digest::StreamDigest;
use weft_overlay::{Seqs, UnixMicros};

use super::*;
use crate::bundle::Place;
use crate::wire::membership::{Membership, TopicMembership};
use crate::wire::{DecodeError, Decoder, KnownBodies, encode_topics, parse_prefix};
use crate::{PeerContact, Roles, TopicBundle};

const NETWORK: &str = "net";

fn sender() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn decoder() -> Decoder {
    let known = Arc::new(Mutex::new(KnownBodies::new(NETWORK)));
    Decoder::new(sender().peer_id(), known)
}

fn name(n: u8) -> TopicName {
    format!("topic/{n}").parse().unwrap()
}

fn contact_of(seed: u8) -> PeerContact {
    let keypair = Keypair::from_seed(&[seed; 32]);
    let (issued_at, expires_at) = (UnixMicros(1_700_000_000_000_000), UnixMicros(u64::MAX / 4));
    PeerContact::issue(&keypair, &[], issued_at, expires_at, Roles::SERVER)
}

/// A bundle of the topic `n` with so many messages.
fn bundle_of(n: u8, messages: usize) -> TopicBundle {
    let place = Place {
        epoch: 9,
        first: 3,
        predecessor: Some(Hash::of(b"before")),
        previous_epoch: None,
        published_at: UnixMicros(1_700_000_000_000_000),
    };
    let messages = vec![crate::Message::from("hello"); messages];
    TopicBundle::publish(
        &Keypair::from_seed(&[2; 32]),
        name(n).id(NETWORK),
        place,
        &messages,
    )
}

fn bare(message: &Message) -> Vec<u8> {
    let frame = encode_topics(300, message);
    let (prefix, len) = parse_prefix(&frame.head).unwrap().unwrap();
    assert_eq!((frame.head.len(), frame.tail.len()), (prefix + len, 0));
    frame.head[prefix..].to_vec()
}

fn decoded(frame: &[u8]) -> Message {
    match decoder().decode(frame) {
        Ok(Frame::Topics { request, message }) => {
            assert_eq!(request, 300);
            *message
        }
        other => panic!("{other:?}"),
    }
}

fn refusal(message: proto::topics::Message) -> DecodeError {
    let frame = proto::Frame {
        kind: Some(proto::frame::Kind::Topics(proto::Topics {
            request: 300,
            message: Some(message),
        })),
    };
    decoder().decode(&frame.encode_to_vec()).unwrap_err()
}

fn any_stream() -> impl Strategy<Value = StreamId<PeerId>> {
    ((0..9_u8), 0..1_000_u64).prop_map(|(peer, epoch)| StreamId {
        publisher: PeerId::from_bytes([peer; 32]),
        epoch,
    })
}

fn any_seqs() -> impl Strategy<Value = Seqs> {
    vec((1..10_000_u64, 0..50_u64), 0..9).prop_map(|ranges| {
        ranges
            .into_iter()
            .map(|(first, more)| first..=first + more)
            .collect()
    })
}

fn any_topic() -> impl Strategy<Value = TopicId> {
    (0..9_u8).prop_map(|n| name(n).id(NETWORK))
}

fn any_query() -> impl Strategy<Value = Query> {
    let meet = vec((0..99_u8, any::<bool>()), 0..9).prop_map(|topics| {
        let topics = topics.into_iter().map(|(n, subscribed)| TopicMembership {
            name: name(n),
            subscribed,
        });
        Query::Meet(Membership {
            topics: topics.collect(),
            contact: contact_of(1),
            issued_at: UnixMicros(7),
            expires_at: UnixMicros(9),
        })
    });
    let digests = (any_topic(), prop::option::of(any_stream()))
        .prop_map(|(topic, after)| Query::Digests { topic, after });
    let fetch = (any_topic(), vec((any_stream(), any_seqs()), 0..9))
        .prop_map(|(topic, streams)| Query::Fetch { topic, streams });
    let confirm =
        (any_topic(), any_stream(), any_seqs()).prop_map(|(topic, stream, seqs)| Query::Confirm {
            topic,
            stream,
            seqs,
        });
    let hand = (0..9_u8, 1..4_usize).prop_map(|(n, messages)| Query::Hand {
        topic: name(n),
        bundle: bundle_of(n, messages),
    });
    prop_oneof![meet, digests, fetch, confirm, hand]
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let meeting = (any::<[bool; 3]>(), any::<u32>(), vec(0..3_u32, 0..5)).prop_map(
        |([keeps, filled, based], subscribed, contacts)| Meeting {
            keeps,
            filled,
            based,
            subscribed,
            contacts,
        },
    );
    let met = vec(meeting, 0..9).prop_map(|topics| Answer::Met {
        topics,
        contacts: (2..5).map(contact_of).collect(),
    });
    let digest = (any_stream(), any_seqs(), 0..99_u64, any::<u8>()).prop_map(
        |(stream, seqs, supplies_from, head)| StreamDigest {
            stream,
            seqs,
            supplies_from,
            head: Hash::from_bytes([head; 32]),
            head_age: None,
        },
    );
    let digests = (vec(digest, 0..9), any::<bool>()).prop_map(|(mut streams, more)| {
        streams.sort_by_key(|digest| digest.stream);
        streams.dedup_by_key(|digest| digest.stream);
        Answer::Digests { streams, more }
    });
    let fetched = (0..9_u8, vec(1..4_usize, 0..3)).prop_map(|(n, counts)| Answer::Fetched {
        topic: name(n).id(NETWORK),
        bundles: counts
            .into_iter()
            .map(|messages| Fetched(bundle_of(n, messages)))
            .collect(),
    });
    let confirmed = (any::<[bool; 2]>(), any::<u32>()).prop_map(|([durable, held], subscribed)| {
        Answer::Confirmed {
            durable,
            held,
            subscribed,
        }
    });
    prop_oneof![met, digests, fetched, confirmed, Just(Answer::Unable)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn questions_go_there(query in any_query()) {
        let frame = bare(&Message::Query(query.clone()));
        prop_assert!(proto::Frame::decode(&frame[..]).is_ok(), "prost reads it");
        let Message::Query(got) = decoded(&frame) else {
            panic!("a question");
        };
        // What is decoded is encoded to the same bytes, so it says the same.
        prop_assert_eq!(bare(&Message::Query(got)), frame);
    }

    #[test]
    fn answers_go_back(answer in any_answer()) {
        let frame = bare(&Message::Answer(answer.clone()));
        prop_assert!(proto::Frame::decode(&frame[..]).is_ok(), "prost reads it");
        let Message::Answer(got) = decoded(&frame) else {
            panic!("an answer");
        };
        prop_assert_eq!(got, answer);
    }

    #[test]
    fn a_changed_byte_never_panics(answer in any_answer(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut frame = bare(&Message::Answer(answer));
        let at = at.index(frame.len());
        frame[at] = to;
        let _ = decoder().decode(&frame);
    }
}

#[test]
fn lists_stop_at_their_bounds() {
    use proto::topics::Message as M;
    let stream = || proto::StreamSeqs {
        publisher: Bytes::from_static(&[7; 32]),
        epoch: 1,
        seqs: vec![1, 0],
    };
    let topic = id(name(1).id(NETWORK).as_bytes());
    let bound = |why| DecodeError::Malformed(why);
    let fetch = proto::TopicFetch {
        topic: topic.clone(),
        streams: (0..=FETCH_STREAMS_MAX).map(|_| stream()).collect(),
    };
    assert_eq!(refusal(M::Fetch(fetch)), bound("over 256 streams"));
    let met = proto::TopicMet {
        topics: vec![proto::TopicMeeting::default(); membership::TOPICS_MAX + 1],
        contacts: Vec::new(),
    };
    assert_eq!(refusal(M::Met(met)), bound("over 64 topics"));
    let met = proto::TopicMet {
        topics: vec![proto::TopicMeeting {
            contacts: vec![0; CONTACTS_MAX + 1],
            ..proto::TopicMeeting::default()
        }],
        contacts: Vec::new(),
    };
    assert_eq!(refusal(M::Met(met)), bound("over 32 members"));
    let met = proto::TopicMet {
        topics: vec![proto::TopicMeeting {
            contacts: vec![0],
            ..proto::TopicMeeting::default()
        }],
        contacts: Vec::new(),
    };
    let why = "a member that isn't among the contacts";
    assert_eq!(refusal(M::Met(met)), bound(why));
    let fetched = proto::TopicFetched {
        topic,
        bundles: vec![bundle::value(&bundle_of(1, 1)); FETCHED_MAX + 1],
    };
    assert_eq!(refusal(M::Fetched(fetched)), bound("over 1,024 bundles"));
}

#[test]
fn a_bundle_of_another_topic_is_forged() {
    let fetched = proto::TopicFetched {
        topic: id(name(2).id(NETWORK).as_bytes()),
        bundles: vec![bundle::value(&bundle_of(1, 1))],
    };
    let forged = refusal(proto::topics::Message::Fetched(fetched));
    assert_eq!(forged, DecodeError::Forged("bundle"));
    let hand = proto::TopicHand {
        topic: name(2).as_str().to_owned(),
        bundle: Some(bundle::value(&bundle_of(1, 1))),
    };
    let forged = refusal(proto::topics::Message::Hand(hand));
    assert_eq!(forged, DecodeError::Forged("bundle"));
}

#[test]
fn a_member_speaks_for_itself_alone() {
    let meet = membership::value(&Membership {
        topics: Vec::new(),
        contact: contact_of(2),
        issued_at: UnixMicros(1),
        expires_at: UnixMicros(2),
    });
    assert!(matches!(
        refusal(proto::topics::Message::Meet(meet)),
        DecodeError::Malformed(_)
    ));
}
