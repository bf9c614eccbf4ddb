//! Plumtree's control and digests: lies about what a peer has and wants.

use weft_core::wire::{Frame, SEQ_MAX, encode_broadcast};
use weft_core::{TopicBundle, TopicId};
use weft_identity::{Hash, PeerId};
use weft_overlay::digest::{STREAMS_PER_FRAME_MAX, StreamDigest};
use weft_overlay::plumtree::{DigestKind, Message};
use weft_overlay::{Seqs, Span, StreamId};

use super::scene::Scene;
use weft_tests::peer::Peer;
use weft_tests::proto::noise;

type Broadcast = Message<PeerId, TopicBundle>;

/// How long claims must be kept up for the daemon to see through them: three asks of two seconds each, and some back-off.
const SEEN_THROUGH: std::time::Duration = std::time::Duration::from_secs(12);

fn id(seed: u64) -> PeerId {
    let bytes = noise(seed + 1, 32);
    PeerId::from_bytes(bytes.try_into().expect("32 bytes"))
}

async fn send(peer: &Peer, topic: TopicId, message: &Broadcast) -> bool {
    peer.frame(&encode_broadcast(topic, message)).await
}

fn delta(streams: Vec<StreamDigest<PeerId>>) -> Broadcast {
    Message::Digest {
        kind: DigestKind::Delta,
        streams,
        has_base: true,
    }
}

fn claim(stream: StreamId<PeerId>, seqs: Seqs) -> StreamDigest<PeerId> {
    StreamDigest {
        stream,
        seqs,
        supplies_from: 1,
        head: Hash::of(b"nothing"),
        head_age: None,
    }
}

/// Seqs in as many ranges as a digest holds.
fn ragged() -> Seqs {
    let mut seqs = Seqs::default();
    for at in 0..64 {
        seqs.insert(10 * at + 1, 10 * at + 5);
    }
    seqs
}

/// Asks the daemon what it has, and returns the honest streams of it.
async fn honest_streams(peer: &mut Peer, topic: TopicId) -> Vec<StreamId<PeerId>> {
    let question = Message::Fingerprint {
        fingerprint: [9; 16],
        has_base: true,
        beacon: None,
    };
    send(peer, topic, &question).await;
    peer.wait_frame("a digest of everything", |frame| match frame {
        Frame::Broadcast {
            message: Message::Digest { streams, .. },
            ..
        } if !streams.is_empty() => Some(streams.iter().map(|digest| digest.stream).collect()),
        _ => None,
    })
    .await
}

pub(crate) async fn strangers(scene: &Scene) {
    let peer = scene.peer().await;
    let trees = vec![id(1)];
    let stream = StreamId {
        publisher: id(1),
        epoch: 5,
    };
    for _ in 0..scene.repeats.max(40) {
        let graft = Message::Graft {
            trees: trees.clone(),
        };
        let prune = Message::Prune {
            trees: trees.clone(),
        };
        let want = Message::Want {
            ranges: vec![(stream, Seqs::range(1, SEQ_MAX))],
        };
        for message in [graft, prune, want, delta(vec![claim(stream, ragged())])] {
            send(&peer, scene.topic, &message).await;
        }
    }
}

pub(crate) async fn other_swarms(scene: &Scene) {
    let mut peer = scene.peer().await;
    for round in 0..scene.repeats {
        let topic = TopicId::from_bytes(noise(round + 1, 32).try_into().expect("32 bytes"));
        let message = Message::Graft { trees: vec![id(1)] };
        send(&peer, topic, &message).await;
        peer.forget_frames();
    }
}

pub(crate) async fn maxima(scene: &Scene) {
    let mut peer = scene.neighbour(scene.topic).await;
    'rounds: for round in 0..scene.repeats {
        let some = round * 1_024..(round + 1) * 1_024;
        let trees: Vec<_> = some.clone().map(id).collect();
        let graft = Message::Graft {
            trees: trees.clone(),
        };
        let prune = Message::Prune { trees };
        let streams = some.map(|at| {
            let stream = StreamId {
                publisher: id(at),
                epoch: at,
            };
            // It has seen all of it and can supply nothing: no honest stream is touched.
            StreamDigest {
                supplies_from: SEQ_MAX,
                ..claim(stream, ragged())
            }
        });
        let digest = delta(streams.collect());
        for message in [graft, prune, digest] {
            // A daemon that makes its peer wait has had enough of it.
            if !send(&peer, scene.topic, &message).await {
                break 'rounds;
            }
        }
        peer.forget_frames();
    }
    let tree = scene
        .weft
        .run(["--node", "n2", "overlay", "tree", "stream", "--json"]);
    let trees = tree.expect_code(0).json()["trees"]
        .as_array()
        .map_or(0, Vec::len);
    assert!(trees < 20, "a peer has made up {trees} trees");
}

pub(crate) async fn wants(scene: &Scene) {
    let mut peer = scene.neighbour(scene.topic).await;
    let honest = honest_streams(&mut peer, scene.topic).await;
    for round in 0..scene.repeats {
        let nobodys = (0..64).map(|at| {
            let stream = StreamId {
                publisher: id(round * 64 + at),
                epoch: 5,
            };
            (stream, ragged())
        });
        let everything = honest.iter().map(|id| (*id, Seqs::range(1, SEQ_MAX)));
        for ranges in [nobodys.collect(), everything.collect()] {
            if !send(&peer, scene.topic, &Message::Want { ranges }).await {
                return;
            }
        }
        peer.forget_frames();
    }
}

/// Keeps up claims until the daemon has seen through them.
async fn keep_claiming(
    scene: &Scene,
    peer: &mut Peer,
    claims: impl Fn(u64) -> Vec<StreamDigest<PeerId>>,
) {
    // More often, and the daemon would slow the peer down before it has seen through it.
    let rounds = scene.repeats.clamp(100, 240);
    let mut ticks = tokio::time::interval(SEEN_THROUGH / rounds as u32);
    for round in 0..rounds {
        ticks.tick().await;
        assert!(send(peer, scene.topic, &delta(claims(round))).await);
        peer.forget_frames();
    }
}

pub(crate) async fn claims_on_honest_streams(scene: &Scene) {
    let mut peer = scene.neighbour(scene.topic).await;
    let honest = honest_streams(&mut peer, scene.topic).await;
    keep_claiming(scene, &mut peer, |_| {
        let claims = honest.iter().map(|id| claim(*id, Seqs::range(1, SEQ_MAX)));
        claims.collect()
    })
    .await;
}

pub(crate) async fn claims_of_no_stream(scene: &Scene) {
    let mut peer = scene.neighbour(scene.topic).await;
    keep_claiming(scene, &mut peer, |round| {
        let some = 0..STREAMS_PER_FRAME_MAX as u64;
        some.map(|at| {
            let stream = StreamId {
                publisher: id((round % 8) * 1_024 + at),
                epoch: 5,
            };
            claim(stream, Seqs::range(1, SEQ_MAX))
        })
        .collect()
    })
    .await;
}

pub(crate) async fn fingerprints(scene: &Scene) {
    let mut peer = scene.neighbour(scene.topic).await;
    // More than any honest peer sends at once, however few repeats there are.
    for round in 0..scene.repeats.max(1) * 10 + 5_000 {
        let fingerprint = Message::Fingerprint {
            fingerprint: [round as u8; 16],
            has_base: true,
            beacon: None,
        };
        let everything = Message::Digest {
            kind: DigestKind::All(vec![Span::ALL]),
            streams: Vec::new(),
            has_base: true,
        };
        for message in [fingerprint, everything] {
            if !send(&peer, scene.topic, &message).await {
                return;
            }
        }
        peer.forget_frames();
    }
}
