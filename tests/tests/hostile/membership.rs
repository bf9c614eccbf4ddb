//! HyParView's messages, and what members say of the topics that they are in.

use std::time::Duration;

use bytes::Bytes;
use weft_core::bundle::Place;
use weft_core::keeping::{self, Query};
use weft_core::wire::membership::{Membership, TOPICS_MAX, TopicMembership};
use weft_core::wire::{Frame, OutFrame, encode_broadcast, encode_membership, encode_topics};
use weft_core::{Address, PeerContact, Roles, TopicBundle, TopicName};
use weft_identity::Hash;
use weft_overlay::hyparview::{Message, Priority};
use weft_overlay::plumtree::{self, Push};
use weft_overlay::{Bundle, UnixMicros};

use super::scene::Scene;
use weft_tests::peer::{Peer, contact, key, unix};

/// Descriptors of peers that don't exist.
fn sample(count: u64, of: u64) -> Vec<PeerContact> {
    let numbers = of * 1_000..of * 1_000 + count;
    numbers
        .map(|number| contact(&key((1 << 40) + number), &[]))
        .collect()
}

pub(crate) async fn maxima(scene: &Scene) {
    let peer = scene.neighbour(scene.root).await;
    let full = sample(32, 1);
    let now = unix();
    let old = |issued_at: UnixMicros, expires_at: UnixMicros| {
        PeerContact::issue(&key(1 << 41), &[], issued_at, expires_at, Roles::default())
    };
    let year = Duration::from_secs(365 * 86_400);
    let odd = [
        old(UnixMicros(0), UnixMicros(1)),
        old(now + year, now + year * 2),
        old(now + year, now),
    ];
    for _ in 0..scene.repeats {
        let messages = [
            Message::Shuffle {
                origin: contact(&peer.key, &[]),
                hops_left: u8::MAX,
                sample: full.clone(),
            },
            Message::ForwardJoin {
                joiner: full[0].clone(),
                hops_left: u8::MAX,
            },
            Message::Shuffle {
                origin: odd[0].clone(),
                hops_left: 0,
                sample: [full[0].clone(), full[0].clone(), full[0].clone()].to_vec(),
            },
            Message::Shuffle {
                origin: odd[1].clone(),
                hops_left: 0,
                sample: odd.to_vec(),
            },
        ];
        for message in messages {
            peer.frame(&encode_membership(scene.root, &message)).await;
        }
    }
    assert!(!peer.is_ended(), "what can be clamped ends no link");
    let passive = scene.view("n2", "network")["passive"]
        .as_array()
        .map_or(0, Vec::len);
    assert!(passive <= 30, "{passive} passive peers");
}

pub(crate) async fn unasked_replies(scene: &Scene) {
    let peer = scene.peer().await;
    for round in 0..scene.repeats {
        let message = Message::ShuffleReply {
            sample: sample(8, 10 + round % 50),
        };
        peer.frame(&encode_membership(scene.root, &message)).await;
    }
}

pub(crate) async fn join_flood(scene: &Scene) {
    let mut peers = Vec::new();
    for round in 0..scene.repeats.max(8) {
        let peer = scene.peer().await;
        let me = contact(&peer.key, &[]);
        // Whoever asks without urgency finds no room once the view is full; then it insists.
        let low = Message::Neighbor {
            sender: me.clone(),
            priority: Priority::Low,
        };
        peer.frame(&encode_membership(scene.root, &low)).await;
        let message = if round % 2 == 0 {
            Message::Join { joiner: me }
        } else {
            Message::Neighbor {
                sender: me,
                priority: Priority::High,
            }
        };
        // Twice: a peer that forces its way in must not do so again at once.
        for topic in [scene.root, scene.topic, scene.root] {
            peer.frame(&encode_membership(topic, &message)).await;
        }
        peers.push(peer);
        // As many as can stay at once; the others come and go.
        if peers.len() > 64 {
            peers.remove(0);
        }
    }
}

pub(crate) async fn own_address(scene: &Scene) {
    let address = Address::new(Bytes::from(scene.daemon.0.to_vec())).expect("a short address");
    for _ in 0..scene.repeats.min(30) {
        // Neighbours that are lost are probed where they said that they are reached: at the daemon itself.
        let peer = scene
            .neighbour_at(scene.root, std::slice::from_ref(&address))
            .await;
        drop(peer);
    }
    // And one that asks to be answered at an address of which the daemon knows that it is its own.
    let peer = scene.peer().await;
    let nobody = scene.new_key();
    let message = Message::Shuffle {
        origin: contact(&nobody, &[address]),
        hops_left: 0,
        sample: Vec::new(),
    };
    peer.frame(&encode_membership(scene.root, &message)).await;
    let neighbour = scene.neighbour(scene.root).await;
    neighbour
        .frame(&encode_membership(scene.root, &message))
        .await;
}

/// Publishes on the swarm of all nodes.
pub(crate) async fn bundles_on_the_root(scene: &Scene) {
    let peer = scene.neighbour(scene.root).await;
    let publisher = scene.new_key();
    let (mut first, mut predecessor): (u64, Option<Hash>) = (1, None);
    let now = unix();
    for _ in 0..scene.repeats {
        let place = Place {
            epoch: now.0 / 1_000,
            first,
            predecessor,
            previous_epoch: None,
            published_at: now,
        };
        let payload = Bytes::from(weft_tests::proto::noise(5, 500));
        let bundle = TopicBundle::publish(&publisher, scene.root, place, &[payload.into()]);
        predecessor = Some(bundle.header().hash);
        first += 1;
        let message = plumtree::Message::Bundle {
            bundle,
            hops: 1,
            push: Push::Eager,
        };
        if !peer.frame(&encode_broadcast(scene.root, &message)).await {
            break;
        }
    }
}

/// Returns what a peer says that claims to be subscribed to topics.
fn meet(
    request: u64,
    contact: PeerContact,
    topics: impl IntoIterator<Item = TopicName>,
) -> OutFrame {
    let topics = topics.into_iter().map(|name| TopicMembership {
        name,
        subscribed: true,
    });
    let membership = Membership {
        topics: topics.collect(),
        contact,
        issued_at: unix(),
        expires_at: unix() + Duration::from_secs(10 * 365 * 86_400),
    };
    encode_topics(request, &keeping::Message::Query(Query::Meet(membership)))
}

/// Says that a peer is subscribed to a topic.
pub(crate) async fn meet_in(peer: &Peer, topic: &TopicName) {
    assert!(
        peer.frame(&meet(1, contact(&peer.key, &[]), [topic.clone()]))
            .await
    );
}

pub(crate) async fn many_topics(scene: &Scene) {
    let mut peer = scene.peer().await;
    // Twice what is remembered of one peer.
    let rounds = scene.repeats.max(64);
    for round in 0..rounds {
        let topics = (0..TOPICS_MAX).map(|at| {
            let name = format!("no/such/topic/{round}/{at}");
            name.parse().expect("a name")
        });
        if !peer
            .frame(&meet(round, contact(&peer.key, &[]), topics))
            .await
        {
            return;
        }
    }
    // What is on its way when a link ends isn't read.
    peer.wait_frame("the last answer", |frame| match frame {
        Frame::Topics { request, .. } if *request == rounds - 1 => Some(()),
        _ => None,
    })
    .await;
}

pub(crate) async fn memberships_of_others(scene: &Scene) {
    for _ in 0..scene.repeats.min(30) {
        let mut peer = scene.peer().await;
        let another = contact(&scene.new_key(), &[]);
        peer.frame(&meet(1, another, [])).await;
        assert!(
            peer.wait_ended(Duration::from_secs(10)).await,
            "it is dropped"
        );
    }
}
