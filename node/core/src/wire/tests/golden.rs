//! The bytes of one frame of each kind: whoever changes the protocol by accident sees it here.

use std::time::Duration;

use weft_dht::{Answer, Key, Message, Query};

use super::*;
use crate::wire::{
    encode_broadcast, encode_hello, encode_kad, encode_membership, encode_ping, encode_pong,
    encode_stopping,
};
use crate::{KadContact, KadPeer};

fn hex(frame: &OutFrame) -> String {
    frame
        .head
        .iter()
        .chain(&frame.tail)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn frames_have_the_bytes_that_they_always_had() {
    let stream = StreamId {
        publisher: PeerId::from_bytes([0xaa; 32]),
        epoch: 300,
    };
    let seqs: Seqs = [1..=7, 9..=9, 500..=1_000].into_iter().collect();
    let trees = vec![stream.publisher];
    let beacon = Beacon {
        root: stream.publisher,
        since: UnixMicros(300),
        refresh: 5,
        distance: Some(Duration::from_micros(299)),
        to_parent: true,
    };
    let bound = |bytes: &[u8]| {
        let mut publisher = [0; 32];
        publisher[..bytes.len()].copy_from_slice(bytes);
        let publisher = PeerId::from_bytes(publisher);
        StreamId {
            publisher,
            epoch: 0,
        }
    };
    let own = contact_of(&sender());
    let broadcast = |message| encode_broadcast(TOPIC, &message);
    let membership = |message| encode_membership(TOPIC, &message);
    let frames = [
        ("hello", encode_hello(Some(&own))),
        ("ping", encode_ping(7)),
        ("pong", encode_pong(7)),
        ("stopping", encode_stopping()),
        (
            "join",
            membership(Membership::Join {
                joiner: own.clone(),
            }),
        ),
        (
            "forward join",
            membership(Membership::ForwardJoin {
                joiner: own.clone(),
                hops_left: 6,
            }),
        ),
        (
            "neighbor",
            membership(Membership::Neighbor {
                sender: own.clone(),
                priority: Priority::High,
            }),
        ),
        (
            "neighbor reply",
            membership(Membership::NeighborReply {
                sender: own.clone(),
                accepted: true,
            }),
        ),
        (
            "disconnect",
            membership(Membership::Disconnect {
                reason: Goodbye::Leaving,
            }),
        ),
        (
            "shuffle",
            membership(Membership::Shuffle {
                origin: own.clone(),
                hops_left: 6,
                sample: vec![own.clone()],
            }),
        ),
        (
            "shuffle reply",
            membership(Membership::ShuffleReply { sample: vec![own] }),
        ),
        ("bundle", broadcast(eager(&bundle()))),
        (
            "digest",
            broadcast(Broadcast::Digest {
                kind: DigestKind::Delta,
                streams: vec![StreamDigest {
                    stream,
                    seqs: seqs.clone(),
                    supplies_from: 5,
                    head: Hash::from_bytes([0xbb; 32]),
                    head_age: Some(Duration::from_micros(299)),
                }],
                has_base: true,
            }),
        ),
        (
            "digest of a span",
            broadcast(Broadcast::Digest {
                kind: DigestKind::All(vec![Span {
                    first: Some(bound(&[0xaa, 0xbb])),
                    upto: Some(bound(&[0xaa, 0xbc])),
                }]),
                streams: Vec::new(),
                has_base: true,
            }),
        ),
        (
            "split",
            broadcast(Broadcast::Split {
                salt: 0x0102_0304,
                parts: vec![
                    Part {
                        span: Span {
                            first: None,
                            upto: Some(bound(&[0xaa])),
                        },
                        sum: Some(7),
                    },
                    Part {
                        span: Span {
                            first: Some(bound(&[0xaa])),
                            upto: None,
                        },
                        sum: None,
                    },
                ],
            }),
        ),
        (
            "fingerprint",
            broadcast(Broadcast::Fingerprint {
                fingerprint: [0xcc; 16],
                has_base: true,
                beacon: Some(beacon),
            }),
        ),
        ("beacon", broadcast(Broadcast::Beacon(beacon))),
        (
            "graft",
            broadcast(Broadcast::Graft {
                trees: trees.clone(),
            }),
        ),
        ("prune", broadcast(Broadcast::Prune { trees })),
        (
            "want",
            broadcast(Broadcast::Want {
                ranges: vec![(stream, seqs)],
            }),
        ),
    ];
    let kad = |request, message| encode_kad(request, &message);
    let known = |peer| KadContact::new(peer, UnixMicros(0));
    let signed = known(KadPeer::Signed(PeerContact::issue(
        &sender(),
        &contact_of(&sender()).0.value.addresses,
        UnixMicros(1_700_000_000_000_000),
        UnixMicros(1_700_000_060_000_000),
        Roles {
            serves: true,
            stores: true,
        },
    )));
    let told = known(KadPeer::Told {
        peer: key(3).peer_id(),
        addresses: contact_of(&sender()).0.value.addresses.clone(),
    });
    let point = Key::new(b"key").unwrap();
    let frames = frames.into_iter().chain([
        ("kad ping", kad(1, Message::Query(Query::Ping))),
        ("kad pong", kad(300, Message::Answer(Answer::Pong))),
        (
            "kad find node",
            kad(1, Message::Query(Query::FindNode { key: point.clone() })),
        ),
        (
            "kad closer",
            kad(
                1,
                Message::Answer(Answer::Closer {
                    contacts: vec![signed.clone(), told.clone()],
                }),
            ),
        ),
        (
            "kad get providers",
            kad(
                1,
                Message::Query(Query::GetProviders { key: point.clone() }),
            ),
        ),
        (
            "kad providers",
            kad(
                1,
                Message::Answer(Answer::Providers {
                    providers: vec![told],
                    closer: vec![signed.clone()],
                }),
            ),
        ),
        (
            "kad add provider",
            kad(
                0,
                Message::Query(Query::AddProvider {
                    key: point,
                    provider: signed,
                }),
            ),
        ),
    ]);
    let frames: Vec<_> = frames.collect();
    let was: Vec<_> = include_str!("golden.txt").lines().collect();
    let now: Vec<_> = frames
        .iter()
        .map(|(name, frame)| format!("{name}: {}", hex(frame)))
        .collect();
    for (now, was) in now.iter().zip(&was) {
        assert_eq!(now, was);
    }
    assert_eq!(now.len(), was.len(), "now they are:\n{}", now.join("\n"));
    for (name, frame) in &frames {
        let decoded = decoder().decode(&bare(frame));
        assert!(
            decoded.is_ok() && !matches!(decoded, Ok(Frame::Unknown)),
            "{name}: {decoded:?}"
        );
    }
}
