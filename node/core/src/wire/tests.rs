//! What the tests of the wire share: keys, values, and generators of every message.

mod attributes;
mod exchange;
mod forged;
mod golden;
mod hostile;
mod kad;
mod round_trip;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use weft_identity::{Hash, Keypair, PeerId};
use weft_overlay::digest::StreamDigest;
use weft_overlay::hyparview::{Goodbye, Message as Membership, Priority};
use weft_overlay::plumtree::{Beacon, DigestKind, Message as Broadcast, Part, Push};
use weft_overlay::{PreviousEpoch, Seqs, Span, StreamId, UnixMicros};

use super::{DecodeError, Decoder, Frame, KnownBodies, OutFrame, parse_prefix};
use crate::bundle::Place;
use crate::{Address, Attributes, Message, PeerContact, Roles, TopicBundle, TopicId};

const TOPIC: TopicId = TopicId::from_bytes([0x77; 32]);

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

/// Whose frames the decoders of these tests read.
fn sender() -> Keypair {
    key(1)
}

fn decoder() -> Decoder {
    Decoder::new(sender().peer_id(), Arc::default())
}

/// The protobuf part of a frame.
fn bare(frame: &OutFrame) -> Vec<u8> {
    let whole = [&frame.head[..], &frame.tail[..]].concat();
    assert_eq!(whole.len(), frame.len());
    let (prefix, len) = parse_prefix(&whole).unwrap().unwrap();
    assert_eq!(whole.len(), prefix + len, "the prefix says the rest");
    whole[prefix..].to_vec()
}

fn contact_of(keypair: &Keypair) -> PeerContact {
    let addresses: Vec<_> = [&b"\x04\x7f\x00\x00\x01\x06\x0f\xa0"[..], b"other"]
        .into_iter()
        .filter_map(|bytes| Address::new(Bytes::copy_from_slice(bytes)))
        .collect();
    PeerContact::issue(
        keypair,
        &addresses,
        UnixMicros(1_700_000_000_000_000),
        UnixMicros(1_700_000_060_000_000),
        Roles::default(),
    )
}

fn place(epoch: u64, first: u64) -> Place {
    Place {
        epoch,
        first,
        predecessor: (first > 1).then(|| Hash::of(b"predecessor")),
        previous_epoch: None,
        published_at: UnixMicros(1_700_000_000_000_000),
    }
}

fn bundle() -> TopicBundle {
    bundle_of(&[Bytes::from_static(b"hello").into(), Message::default()])
}

fn bundle_of(messages: &[Message]) -> TopicBundle {
    TopicBundle::publish(&key(2), TOPIC, place(9, 3), messages)
}

fn eager(bundle: &TopicBundle) -> Broadcast<PeerId, TopicBundle> {
    pushed(bundle, Push::Eager)
}

fn pushed(bundle: &TopicBundle, push: Push) -> Broadcast<PeerId, TopicBundle> {
    Broadcast::Bundle {
        bundle: bundle.clone(),
        hops: 3,
        push,
    }
}

fn contacts() -> impl Strategy<Value = PeerContact> {
    let address = prop::collection::vec(any::<u8>(), 1..=256)
        .prop_map(|bytes| Address::new(bytes.into()).expect("1 to 256 bytes"));
    (
        1u8..6,
        prop::collection::vec(address, 0..=8),
        0..=super::UNIX_MICROS_MAX,
        0..=super::UNIX_MICROS_MAX,
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(|(peer, addresses, issued_at, expires_at, roles)| {
            let (serves, stores) = roles;
            PeerContact::issue(
                &key(peer),
                &addresses,
                UnixMicros(issued_at),
                UnixMicros(expires_at),
                Roles { serves, stores },
            )
        })
}

/// The sender's own descriptor, as the messages that introduce it demand.
fn own() -> impl Strategy<Value = PeerContact> {
    (0u64..1_000_000).prop_map(|at| {
        PeerContact::issue(
            &sender(),
            &[],
            UnixMicros(at),
            UnixMicros(at + 60_000_000),
            Roles::default(),
        )
    })
}

fn memberships() -> impl Strategy<Value = Membership<PeerContact>> {
    let sample = || prop::collection::vec(contacts(), 0..=8);
    prop_oneof![
        own().prop_map(|joiner| Membership::Join { joiner }),
        (contacts(), any::<u8>())
            .prop_map(|(joiner, hops_left)| Membership::ForwardJoin { joiner, hops_left }),
        (
            own(),
            prop_oneof![Just(Priority::High), Just(Priority::Low)]
        )
            .prop_map(|(sender, priority)| Membership::Neighbor { sender, priority }),
        (own(), any::<bool>())
            .prop_map(|(sender, accepted)| Membership::NeighborReply { sender, accepted }),
        prop_oneof![Just(Goodbye::NotNeighbours), Just(Goodbye::Leaving)]
            .prop_map(|reason| Membership::Disconnect { reason }),
        (contacts(), any::<u8>(), sample()).prop_map(|(origin, hops_left, sample)| {
            Membership::Shuffle {
                origin,
                hops_left,
                sample,
            }
        }),
        sample().prop_map(|sample| Membership::ShuffleReply { sample }),
    ]
}

fn peers() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(PeerId::from_bytes)
}

fn streams() -> impl Strategy<Value = StreamId<PeerId>> {
    (peers(), 0..=super::SEQ_MAX).prop_map(|(publisher, epoch)| StreamId { publisher, epoch })
}

fn seqs() -> impl Strategy<Value = Seqs> {
    let ranges = prop::collection::vec((1u64..1 << 40, 0u64..1 << 20), 0..64);
    ranges.prop_map(|ranges| ranges.iter().map(|&(first, n)| first..=first + n).collect())
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let content_type = prop::option::of("[ -~]{1,127}");
    let headers = prop::collection::btree_map("[a-z0-9-]{1,64}", ".{0,200}", 0..=4);
    let said = (content_type, headers).prop_map(|(content_type, headers)| {
        Attributes::new(content_type.as_deref(), &headers).expect("within their bounds")
    });
    prop_oneof![3 => Just(Attributes::default()), 1 => said]
}

fn bundles() -> impl Strategy<Value = TopicBundle> {
    let data = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let message = (data, attributes()).prop_map(|(data, attributes)| Message { data, attributes });
    let messages = prop::collection::vec(message, 1..20);
    let previous = prop::option::of((0u64..1_000, prop::option::of(0..=super::SEQ_MAX)));
    (1u8..6, 1_000u64..1 << 53, 1u64..4, previous, messages).prop_map(
        |(publisher, epoch, first, previous, messages)| {
            let place = Place {
                previous_epoch: previous
                    .filter(|_| first == 1)
                    .map(|(epoch, last)| PreviousEpoch { epoch, last }),
                ..place(epoch, first)
            };
            TopicBundle::publish(&key(publisher), TOPIC, place, &messages)
        },
    )
}

fn beacons() -> impl Strategy<Value = Beacon<PeerId>> {
    let parts = (peers(), any::<u64>(), any::<u64>());
    // One less than the most: the wire has a value for none.
    let distance = prop::option::of(0..u64::MAX);
    (parts, distance, any::<bool>()).prop_map(|((root, since, refresh), distance, to_parent)| {
        Beacon {
            root,
            since: UnixMicros(since),
            refresh,
            distance: distance.map(Duration::from_micros),
            to_parent,
        }
    })
}

/// Spans, some of which meet, from the beginning or not, to the end or not.
fn parts() -> impl Strategy<Value = Vec<Part<PeerId>>> {
    let cut = (streams(), 0usize..33).prop_map(|(id, kept)| {
        let mut bytes = *id.publisher.as_bytes();
        bytes[kept.min(32)..].fill(0);
        let publisher = PeerId::from_bytes(bytes);
        StreamId { publisher, ..id }
    });
    let bounds = prop::collection::btree_set(cut, 1..9);
    let kinds = prop::collection::vec((any::<bool>(), prop::option::of(any::<u32>())), 10);
    (bounds, kinds).prop_map(|(bounds, kinds)| {
        let bounds: Vec<_> = bounds.into_iter().map(Some).collect();
        let bounds = [vec![None], bounds, vec![None]].concat();
        let spans = bounds.windows(2).map(|pair| Span {
            first: pair[0],
            upto: pair[1],
        });
        let parts = spans.zip(kinds).filter(|(_, (stands, _))| *stands);
        parts.map(|(span, (_, sum))| Part { span, sum }).collect()
    })
}

fn broadcasts() -> impl Strategy<Value = Broadcast<PeerId, TopicBundle>> {
    let age = prop::option::of((0..u64::MAX).prop_map(Duration::from_micros));
    let supplies_from = 0..=super::SEQ_MAX + 1;
    let digest = (streams(), seqs(), supplies_from, any::<[u8; 32]>(), age).prop_map(
        |(stream, seqs, supplies_from, head, head_age)| StreamDigest {
            stream,
            seqs,
            supplies_from,
            head: Hash::from_bytes(head),
            head_age,
        },
    );
    let spans = || parts().prop_map(|parts| parts.iter().map(|part| part.span).collect());
    let kind = prop_oneof![
        Just(DigestKind::Delta),
        Just(DigestKind::Recent),
        spans().prop_map(DigestKind::All),
        spans().prop_map(DigestKind::Rest),
    ];
    let push = prop_oneof![Just(Push::Eager), Just(Push::Supplied)];
    let trees = || {
        let tree = peers();
        prop::collection::vec(tree, 0..20)
    };
    prop_oneof![
        (bundles(), 1..=u8::MAX, push).prop_map(|(bundle, hops, push)| Broadcast::Bundle {
            bundle,
            hops,
            push
        }),
        (kind, prop::collection::vec(digest, 0..9), any::<bool>()).prop_map(
            |(kind, streams, has_base)| Broadcast::Digest {
                kind,
                streams,
                has_base,
            }
        ),
        (any::<u32>(), parts()).prop_map(|(salt, parts)| Broadcast::Split { salt, parts }),
        (
            any::<[u8; 16]>(),
            any::<bool>(),
            prop::option::of(beacons())
        )
            .prop_map(|(fingerprint, has_base, beacon)| Broadcast::Fingerprint {
                fingerprint,
                has_base,
                beacon,
            }),
        beacons().prop_map(Broadcast::Beacon),
        trees().prop_map(|trees| Broadcast::Graft { trees }),
        trees().prop_map(|trees| Broadcast::Prune { trees }),
        prop::collection::vec((streams(), seqs()), 0..9)
            .prop_map(|ranges| Broadcast::Want { ranges }),
    ]
}
