//! What lies on the stream: lengths, fields, floods of frames that say nothing.

use std::time::Duration;

use weft_core::wire::{Frame, encode_hello, encode_ping};
use weft_tests::wait;

use super::scene::Scene;
use weft_tests::peer::{Connection, Manners, contact};
use weft_tests::proto::{field, framed, noise, number, varint};

/// How soon a daemon ends a link on which nonsense came.
const DROPPED_WITHIN: Duration = Duration::from_secs(10);
/// Frames that are sent at once in a flood.
const FLOOD: usize = 2_000;

/// Links a new peer for each round, sends something, and expects the link to end.
async fn dropped_for(scene: &Scene, bytes: impl Fn(u64) -> Vec<u8>) {
    for round in 0..scene.repeats {
        let mut peer = scene.peer().await;
        // The daemon may have closed while the end was still being written.
        let _ = peer.send(&bytes(round)).await;
        assert!(
            peer.wait_ended(DROPPED_WITHIN).await,
            "round {round}: a link with nonsense lives on"
        );
    }
}

pub(crate) async fn garbage(scene: &Scene) {
    dropped_for(scene, |round| framed(&noise(round + 1, 300))).await;
}

pub(crate) async fn oversize(scene: &Scene) {
    dropped_for(scene, |_| {
        [varint(2 * 1024 * 1024 + 1), vec![0; 100]].concat()
    })
    .await;
}

pub(crate) async fn four_gib(scene: &Scene) {
    dropped_for(scene, |_| varint(1 << 32)).await;
}

pub(crate) async fn endless_length(scene: &Scene) {
    dropped_for(scene, |_| vec![0xff; 64]).await;
}

/// Fields that no encoder writes, each in a frame of its own.
fn malformed_frames() -> Vec<Vec<u8>> {
    let ping = field(2, &[]);
    let topic = [7; 32];
    let membership = |rest: &[u8]| field(4, &[field(1, &topic), rest.to_vec()].concat());
    let broadcast = |rest: &[u8]| field(5, &[field(1, &topic), rest.to_vec()].concat());
    let stream = |seqs: &[u64]| {
        let packed: Vec<u8> = seqs.iter().flat_map(|&seq| varint(seq)).collect();
        [field(1, &[1; 32]), number(2, 5), field(3, &packed)].concat()
    };
    // A bundle of two messages of which something is said. One signature that doesn't hold would not cost the link.
    let bundle = |said: &[u8]| {
        let two = [field(7, b"a"), field(7, b"b")].concat();
        let place = [number(2, 5), number(3, 1), number(6, 1)].concat();
        let body = [field(1, &[1; 32]), place, two, said.to_vec()].concat();
        let signed = [field(1, &[0; 64]), field(2, &body)].concat();
        broadcast(&field(
            2,
            &[number(1, 1), number(2, 1), field(3, &signed)].concat(),
        ))
    };
    let said = |message: u64, what: &[u8]| field(8, &[number(1, message), field(2, what)].concat());
    let content_type = field(1, b"a/b");
    let header = |name: &[u8], value: &[u8]| field(2, &[field(1, name), field(2, value)].concat());
    let headers = |names: &[&[u8]]| -> Vec<u8> {
        let each = names.iter().map(|name| header(name, b""));
        each.collect::<Vec<_>>().concat()
    };
    vec![
        // A length beyond the frame, a varint without end, groups, unknown wire types, field zero.
        vec![0x0a, 0x7f],
        vec![
            0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ],
        vec![0x0b, 0x0c],
        vec![0x0e],
        vec![0x02, 0x00],
        // Two kinds in one frame, one kind twice, a kind that is a number.
        [ping.clone(), ping.clone()].concat(),
        [ping, field(3, &[])].concat(),
        number(2, 1),
        // The topic twice, too short, absent.
        membership(&[field(1, &topic), field(6, &number(6, 1))].concat()),
        field(4, &[field(1, &[7; 31]), field(6, &number(6, 1))].concat()),
        field(5, &field(5, &[])),
        // A goodbye for no reason, a Join without a contact, a contact that is noise.
        membership(&field(6, &[])),
        membership(&field(2, &[])),
        membership(&field(2, &field(1, &noise(3, 80)))),
        // Seqs that go down, touch, or end beyond 2^53; a fingerprint of 15 bytes; a Want for a publisher of 33.
        broadcast(&field(7, &field(1, &stream(&[5, 0, 0, 0])))),
        broadcast(&field(7, &field(1, &stream(&[1 << 53, 1])))),
        broadcast(&field(7, &field(1, &stream(&[1, u64::MAX])))),
        broadcast(&field(7, &field(1, &stream(&[1])))),
        broadcast(&field(4, &field(1, &[1; 15]))),
        broadcast(&field(7, &field(1, &field(1, &[1; 33])))),
        // One more stream, tree or descriptor than a list may hold.
        broadcast(&field(7, &field(1, &stream(&[1, 0])).repeat(1_025))),
        broadcast(&field(5, &field(1, &[]).repeat(1_025))),
        // More ranges than a stream may have.
        broadcast(&field(7, &field(1, &stream(&[2, 0].repeat(65))))),
        // Attributes of one message twice, of one that isn't there, and of nothing.
        bundle(&said(0, &content_type).repeat(2)),
        bundle(&said(2, &content_type)),
        bundle(&said(0, &[])),
        // A content type twice; headers that go down, one too many, and one that is too large.
        bundle(&said(1, &content_type.repeat(2))),
        bundle(&said(1, &headers(&[b"b", b"a"]))),
        bundle(&said(1, &headers(&[&[b'x'; 65]]))),
        bundle(&said(1, &header(b"a", &[b'x'; 1_025]))),
        bundle(&said(
            1,
            &headers(
                &(0..17)
                    .map(|n| &b"abcdefghijklmnopq"[n..=n])
                    .collect::<Vec<_>>(),
            ),
        )),
        // A ping of over 256 KiB.
        field(2, &field(9, &vec![0; 300 * 1024])),
    ]
}

pub(crate) async fn malformed(scene: &Scene) {
    let frames = malformed_frames();
    let rounds = (scene.repeats as usize).max(frames.len());
    for (round, frame) in frames.iter().cycle().take(rounds).enumerate() {
        let mut peer = scene.peer().await;
        let _ = peer.send(&framed(frame)).await;
        assert!(
            peer.wait_ended(DROPPED_WITHIN).await,
            "round {round}: {:02x?}… is taken",
            &frame[..frame.len().min(60)]
        );
    }
}

pub(crate) async fn dribble(scene: &Scene) {
    let mut peer = scene.peer().await;
    for round in 0..scene.repeats.min(100) {
        let nonce = 0xd1bb_0000 + round;
        for byte in &encode_ping(nonce).head[..] {
            assert!(peer.send(&[*byte]).await);
        }
        peer.wait_frame("the echo of a slow ping", |frame| match frame {
            Frame::Pong { nonce: echo } if *echo == nonce => Some(()),
            _ => None,
        })
        .await;
    }
}

pub(crate) async fn half_frame(scene: &Scene) {
    for _ in 0..scene.repeats {
        let peer = scene.peer().await;
        assert!(peer.send(&varint(2 * 1024 * 1024)).await);
        assert!(peer.send(&[0x2a; 1_000]).await);
    }
}

pub(crate) async fn zeros(scene: &Scene) {
    dropped_for(scene, |_| vec![0; 100_000]).await;
}

pub(crate) async fn unknown(scene: &Scene) {
    let topic = scene.topic;
    let topic = field(1, topic.as_bytes());
    let bundle = [number(1, 1), number(2, 9), field(3, &[])].concat();
    let frames = [
        field(9, b"a kind of a later version"),
        field(
            4,
            &[topic.clone(), field(99, b"a message of a later version")].concat(),
        ),
        field(5, &[topic.clone(), field(2, &bundle)].concat()),
        field(4, &[topic, field(6, &number(6, 7))].concat()),
        Vec::from(*b"\x78\x01"),
    ];
    let mut peer = scene.peer().await;
    for _ in 0..scene.repeats {
        for frame in &frames {
            assert!(peer.send(&framed(frame)).await);
        }
        // Fields that the daemon doesn't know are skipped, and the rest is read.
        let nonce = 77u64;
        let ping = [vec![0x09], nonce.to_le_bytes().to_vec(), field(77, b"new")].concat();
        assert!(
            peer.send(&framed(&[number(50, 1), field(2, &ping)].concat()))
                .await
        );
        peer.wait_frame("the echo of a newer version's ping", |frame| match frame {
            Frame::Pong { nonce: 77 } => Some(()),
            _ => None,
        })
        .await;
    }
    assert!(!peer.is_ended(), "a newer version is cut off");
}

/// Sends a frame by the thousand for as long as the daemon takes it.
async fn flood(scene: &Scene, frame: &[u8]) {
    let many = frame.repeat(FLOOD);
    let slowed = || scene.counters().get("links_slowed").copied().unwrap_or(0);
    let before = slowed();
    let mut peer = scene.peer().await;
    for _ in 0..scene.repeats.max(8) {
        peer.forget_frames();
        // A daemon that makes its peer wait has had enough of it.
        if !peer.send(&many).await {
            break;
        }
    }
    wait::until_async("a flood to be slowed", DROPPED_WITHIN, async || {
        (slowed() > before).then_some(())
    })
    .await;
}

pub(crate) async fn empty_flood(scene: &Scene) {
    flood(scene, &framed(&number(15, 0))).await;
}

pub(crate) async fn ping_flood(scene: &Scene) {
    flood(scene, &encode_ping(1).head).await;
}

pub(crate) async fn hello_flood(scene: &Scene) {
    flood(scene, &encode_hello(None).head).await;
}

pub(crate) async fn silent(scene: &Scene) {
    let manners = Manners {
        reads: false,
        ..Manners::default()
    };
    let mut peers = Vec::new();
    for _ in 0..scene.repeats.min(64) {
        peers.push(scene.peer_with(&manners).await);
    }
    for peer in &mut peers {
        assert!(
            peer.wait_ended(DROPPED_WITHIN).await,
            "a silent peer keeps its link"
        );
    }
}

pub(crate) async fn other_network(scene: &Scene) {
    let manners = Manners {
        speaks: Some("/weft/another-network/1".to_owned()),
        ..Manners::default()
    };
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..scene.repeats.min(64) {
        let connection = scene.connection(&manners).await;
        let refused = connection
            .stream(&weft_tests::peer::link_protocol("another-network"))
            .await;
        assert!(refused.is_err(), "another network's link is accepted");
        connections.push(connection);
    }
    for connection in &mut connections {
        assert!(
            connection.wait_closed(DROPPED_WITHIN).await,
            "a stranger keeps its connection"
        );
    }
}

pub(crate) async fn idle_connections(scene: &Scene) {
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..scene.repeats.min(64) {
        connections.push(scene.connection(&Manners::default()).await);
    }
    for connection in &mut connections {
        assert!(
            connection.wait_closed(DROPPED_WITHIN).await,
            "a connection without a link stays"
        );
    }
    // A peer of some standing may say who it is a thousand times; it is the same peer.
    let peer = scene.peer().await;
    let hello = encode_hello(Some(&contact(&peer.key, &[])));
    assert!(peer.send(&hello.head.repeat(100)).await);
}
