//! Bundles: forged, replayed, of other times, of too many epochs and publishers, and two for one place.

use std::time::Duration;

use bytes::Bytes;
use weft_core::TopicBundle;
use weft_core::bundle::Place;
use weft_core::wire::encode_broadcast;
use weft_identity::{Hash, Keypair};
use weft_overlay::UnixMicros;
use weft_overlay::history::EPOCHS_MAX;
use weft_overlay::plumtree::{Message, Push};

use super::scene::Scene;
use weft_tests::peer::{Peer, unix};

/// Publishers that one peer makes up in a round.
const CROWD: u64 = 40;
/// Publishers in all, however often the case repeats: more than a swarm keeps streams.
const CROWD_MAX: u64 = 6_000;

/// A bundle of one message that stands first in an epoch.
fn first(scene: &Scene, key: &Keypair, epoch: u64, at: UnixMicros, text: &[u8]) -> TopicBundle {
    bundle(scene, key, (epoch, 1), None, at, text)
}

fn bundle(
    scene: &Scene,
    key: &Keypair,
    (epoch, first): (u64, u64),
    predecessor: Option<Hash>,
    published_at: UnixMicros,
    text: &[u8],
) -> TopicBundle {
    let place = Place {
        epoch,
        first,
        predecessor,
        previous_epoch: None,
        published_at,
    };
    TopicBundle::publish(
        key,
        scene.topic,
        place,
        &[Bytes::copy_from_slice(text).into()],
    )
}

/// This moment as an epoch.
fn this_epoch() -> u64 {
    unix().0 / 1_000
}

async fn push(scene: &Scene, peer: &Peer, bundle: &TopicBundle, push: Push) -> bool {
    let message = Message::Bundle {
        bundle: bundle.clone(),
        hops: 255,
        push,
    };
    peer.frame(&encode_broadcast(scene.topic, &message)).await
}

pub(crate) async fn forged(scene: &Scene) {
    let mut sent = 0;
    while sent < scene.repeats.max(20) {
        let mut peer = scene.neighbour(scene.topic).await;
        let true_one = first(scene, &peer.key, this_epoch(), unix(), b"a message");
        let message = Message::Bundle {
            bundle: true_one,
            hops: 1,
            push: Push::Eager,
        };
        let frame = encode_broadcast(scene.topic, &message);
        let mut bytes = [&frame.head[..], &frame.tail[..]].concat();
        *bytes.last_mut().expect("a frame isn't empty") ^= 1;
        // Whoever passes on what it did not check is cut off after a few.
        for _ in 0..20 {
            sent += 1;
            if !peer.send(&bytes).await {
                break;
            }
        }
        assert!(
            peer.wait_ended(Duration::from_secs(10)).await,
            "a forger keeps its link"
        );
    }
}

pub(crate) async fn replayed(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    let bundle = first(scene, &peer.key, this_epoch(), unix(), b"again and again");
    let again = |view: serde_json::Value| {
        let count = &view["counters"]["bundles_duplicate"];
        count.as_u64().expect("a counter")
    };
    let before = again(scene.view("n2", "stream"));
    for round in 0..scene.repeats {
        let why = if round % 2 == 0 {
            Push::Eager
        } else {
            Push::Supplied
        };
        push(scene, &peer, &bundle, why).await;
    }
    weft_tests::wait::until_async("duplicates", Duration::from_secs(10), async || {
        let now = again(scene.view("n2", "stream"));
        (now - before >= scene.repeats - 1).then_some(())
    })
    .await;
}

pub(crate) async fn expired(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    for round in 0..scene.repeats {
        let old = UnixMicros(unix().0 - 2 * 3_600 * 1_000_000);
        let bundle = first(scene, &peer.key, 1_000 + round, old, b"long ago");
        push(scene, &peer, &bundle, Push::Eager).await;
    }
}

pub(crate) async fn future(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    for round in 0..scene.repeats {
        let soon = unix() + Duration::from_secs(120 + round);
        let bundle = first(scene, &peer.key, this_epoch(), soon, b"not yet");
        push(scene, &peer, &bundle, Push::Eager).await;
    }
}

pub(crate) async fn next_year(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    let year = 365 * 86_400 * 1_000;
    for round in 0..scene.repeats {
        let epoch = this_epoch() + year + round;
        let bundle = first(scene, &peer.key, epoch, unix(), b"from next year");
        push(scene, &peer, &bundle, Push::Eager).await;
    }
}

pub(crate) async fn epochs_too_many(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    let begin = this_epoch() - 1_000_000;
    for round in 0..scene.repeats.max(EPOCHS_MAX as u64 + 1) {
        let bundle = first(scene, &peer.key, begin + round, unix(), b"another run");
        push(scene, &peer, &bundle, Push::Eager).await;
    }
    let before = first(
        scene,
        &peer.key,
        begin - 1,
        unix(),
        b"a run before them all",
    );
    push(scene, &peer, &before, Push::Eager).await;
}

pub(crate) async fn broken_chain(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    let epoch = this_epoch();
    let one = first(scene, &peer.key, epoch, unix(), b"one");
    push(scene, &peer, &one, Push::Eager).await;
    for round in 0..scene.repeats {
        let text = format!("two {round}");
        let wrong = Some(Hash::of(text.as_bytes()));
        let two = bundle(scene, &peer.key, (epoch, 2), wrong, unix(), text.as_bytes());
        push(scene, &peer, &two, Push::Eager).await;
    }
}

pub(crate) async fn equivocation(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    let said = scene.log().matches("two different bundles").count();
    let epoch = this_epoch();
    let one = first(scene, &peer.key, epoch, unix(), b"one truth");
    push(scene, &peer, &one, Push::Eager).await;
    for round in 0..scene.repeats {
        let text = format!("another truth {round}");
        let other = first(scene, &peer.key, epoch, unix(), text.as_bytes());
        push(scene, &peer, &other, Push::Eager).await;
    }
    let publisher = peer.key.peer_id().to_string();
    weft_tests::wait::until_async(
        "the proof in the view",
        Duration::from_secs(10),
        async || {
            let view = scene.view("n2", "stream");
            let proofs = view["equivocations"].as_array()?;
            let mine = proofs
                .iter()
                .find(|proof| proof["publisher"] == publisher)?;
            (mine["epoch"] == epoch && mine["seq"] == 1).then_some(())
        },
    )
    .await;
    for other in ["n1", "n3"] {
        let proofs = &scene.view(other, "stream")["equivocations"];
        assert_eq!(
            proofs.as_array().map(Vec::len),
            Some(0),
            "a second truth was forwarded to {other}"
        );
    }
    let said = scene.log().matches("two different bundles").count() - said;
    assert!(
        said <= 1,
        "one publisher's equivocation is told {said} times"
    );
}

pub(crate) async fn many_publishers(scene: &Scene) {
    let peer = scene.neighbour(scene.topic).await;
    for _ in 0..(scene.repeats * CROWD).min(CROWD_MAX) {
        let bundle = first(
            scene,
            &scene.new_key(),
            this_epoch(),
            unix(),
            b"one of many",
        );
        if !push(scene, &peer, &bundle, Push::Eager).await {
            break;
        }
    }
}
