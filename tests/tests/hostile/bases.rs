//! A topic's first other member, who lies about where an honest publisher stands.

use std::time::Duration;

use weft_core::wire::{Frame, SEQ_MAX, encode_broadcast, encode_membership};
use weft_core::{TopicId, TopicName};
use weft_identity::{Hash, PeerId};
use weft_overlay::digest::StreamDigest;
use weft_overlay::hyparview::Message as Membership;
use weft_overlay::plumtree::{DigestKind, Message};
use weft_overlay::{Seqs, Span, StreamId};
use weft_testnet::traffic::Subscriber;
use weft_tests::net::names;
use weft_tests::wait;

use super::membership::meet_in;
use super::scene::{Scene, TARGET};
use weft_tests::peer::{Peer, contact};

const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that the honest publisher publishes in each round.
const MESSAGES: u64 = 20;
/// Rounds at most: each is a topic of its own, which the nodes keep.
const ROUNDS_MAX: u64 = 40;

pub(crate) async fn poisoned(scene: &Scene) {
    let publisher: PeerId = scene.publishers[0].parse().expect("a peer id");
    let epoch = scene
        .weft
        .run(["--node", "n1", "pub", "epoch", "now", "--json"]);
    let epoch = epoch.expect_code(0).json()["epoch"].as_u64();
    let stream = StreamId {
        publisher,
        epoch: epoch.expect("a receipt names it"),
    };
    for round in 0..scene.repeats.min(ROUNDS_MAX) {
        one_topic(scene, &format!("poisoned/{round}"), stream).await;
    }
}

async fn one_topic(scene: &Scene, topic: &str, stream: StreamId<PeerId>) {
    let name: TopicName = topic.parse().expect("a name");
    let id = name.id(&scene.network);
    let mut liar = scene.neighbour(scene.root).await;
    meet_in(&liar, &name).await;
    // Whoever keeps the topic asks the liar at once, others when they subscribe.
    let (subscriber, ()) = tokio::join!(
        subscribe_once_known(scene, topic),
        lie(&mut liar, id, stream)
    );
    let mut publishers = scene.net.publishers(&names([1]), topic).await;
    for _ in 0..MESSAGES {
        let receipt = publishers[0].publish().await;
        receipt.unwrap_or_else(|error| panic!("{error:#}"));
    }
    wait::until_async("what was published after the lie", PATIENCE, async || {
        let book = subscriber.book();
        book.holds(&publishers[0].peer_id, 1, MESSAGES)
            .then_some(())
    })
    .await;
}

/// Subscribes at the daemon once it knows of the liar.
async fn subscribe_once_known(scene: &Scene, topic: &str) -> Subscriber {
    wait::until_async("the liar among the members", PATIENCE, async || {
        let topics = scene.weft.run(["--node", TARGET, "topic", "ls", "--json"]);
        let topics = topics.expect_code(0).json();
        let topics = topics["topics"].as_array()?.clone();
        topics
            .iter()
            .find(|known| known["topic"] == topic)
            .map(drop)
    })
    .await;
    let subscriber = Subscriber::start(TARGET, &scene.net.node_dir(TARGET), topic).await;
    subscriber.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Accepts the daemon as a neighbour, and tells it that the publisher is far ahead.
async fn lie(liar: &mut Peer, topic: TopicId, stream: StreamId<PeerId>) {
    liar.wait_frame("a request to be neighbours", |frame| match frame {
        Frame::Membership {
            topic: of,
            message: Membership::Neighbor { .. } | Membership::Join { .. },
        } if *of == topic => Some(()),
        _ => None,
    })
    .await;
    let accepted = Membership::NeighborReply {
        sender: contact(&liar.key, &[]),
        accepted: true,
    };
    assert!(liar.frame(&encode_membership(topic, &accepted)).await);
    let claim = Message::Digest {
        kind: DigestKind::All(vec![Span::ALL]),
        streams: vec![StreamDigest {
            stream,
            seqs: Seqs::range(1, SEQ_MAX),
            supplies_from: SEQ_MAX,
            head: Hash::of(b"nothing"),
            head_age: None,
        }],
        has_base: true,
    };
    assert!(liar.frame(&encode_broadcast(topic, &claim)).await);
}
