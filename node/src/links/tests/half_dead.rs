//! Peers that hold a connection and do only half of what a peer does: each is let go of within a bound.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::{ConnectionId, Stream, Swarm, SwarmEvent};
use tokio::task::JoinHandle;

use super::super::address::weft_peer;
use super::super::behaviour::{Behaviour, Event};
use super::super::handler::HandlerEvent;
use super::*;
use crate::{Config, Node as WholeNode};

/// What a loaded machine may add to a bound.
const SLACK: Duration = Duration::from_secs(1);

/// A peer that speaks the link protocol only as far as a test tells it to.
struct Raw {
    swarm: Swarm<Behaviour>,
    connection: ConnectionId,
}

/// A peer whose streams are open. Both are dropped, and its connection closed, with it.
struct RawLink {
    /// What the node sends.
    inbound: Stream,
    /// What the node reads.
    outbound: Stream,
    swarm: JoinHandle<()>,
}

impl Drop for RawLink {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

impl Raw {
    async fn connect(seed: u8, to: &Multiaddr) -> Self {
        let mut seed = [seed; 32];
        let key = identity::Keypair::ed25519_from_bytes(&mut seed).unwrap();
        let mut swarm = transport::swarm(&key, "test", true, Limits::default()).unwrap();
        swarm.dial(to.clone()).unwrap();
        let connecting = async {
            loop {
                if let SwarmEvent::ConnectionEstablished { connection_id, .. } =
                    swarm.select_next_some().await
                {
                    return connection_id;
                }
            }
        };
        let connection = timeout(DEADLINE, connecting).await.unwrap();
        Self { swarm, connection }
    }

    fn peer(&self) -> PeerId {
        weft_peer(self.swarm.local_peer_id()).unwrap()
    }

    /// Opens its stream and accepts the node's.
    async fn link(mut self, node: PeerId) -> RawLink {
        let behaviour = self.swarm.behaviour_mut();
        behaviour.open(net_peer(node), self.connection);
        let (mut inbound, mut outbound) = (None, None);
        let opening = async {
            while inbound.is_none() || outbound.is_none() {
                match self.swarm.select_next_some().await {
                    SwarmEvent::Behaviour(Event::Link(_, HandlerEvent::Inbound(stream))) => {
                        inbound = Some(stream);
                    }
                    SwarmEvent::Behaviour(Event::Link(_, HandlerEvent::Outbound(stream))) => {
                        outbound = Some(stream);
                    }
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, opening).await.unwrap();
        let mut swarm = self.swarm;
        RawLink {
            inbound: inbound.unwrap(),
            outbound: outbound.unwrap(),
            swarm: tokio::spawn(async move {
                loop {
                    swarm.select_next_some().await;
                }
            }),
        }
    }

    /// Waits until the node has closed the connection.
    async fn closed(&mut self) {
        let closing = async {
            loop {
                if let SwarmEvent::ConnectionClosed { .. } = self.swarm.select_next_some().await {
                    return;
                }
            }
        };
        timeout(DEADLINE, closing).await.unwrap();
    }
}

/// Both orders of who decides, over both transports.
const CASES: [(u8, u8, &str); 4] = [(1, 2, TCP), (2, 1, TCP), (1, 2, QUIC), (2, 1, QUIC)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_opens_its_stream_is_let_go_of() {
    let limits = Limits {
        link_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    for (seed, raw_seed, on) in CASES {
        let node = Node::with(seed, "test", &[on], limits).await;
        let begun = Instant::now();
        let mut raw = Raw::connect(raw_seed, &node.address()).await;
        raw.closed().await;
        assert!(begun.elapsed() >= limits.link_timeout, "{on}");
        assert!(begun.elapsed() < limits.link_timeout + SLACK, "{on}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_is_let_go_of_when_its_stream_is_full() {
    let limits = Limits {
        stall_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    for (seed, raw_seed, on) in CASES {
        let mut node = Node::with(seed, "test", &[on], limits).await;
        let raw = Raw::connect(raw_seed, &node.address()).await;
        let peer = raw.peer();
        let _held = raw.link(node.peer).await;
        let link = node.up().await;
        assert_eq!(link.peer(), peer);
        let begun = Instant::now();
        // More than any window that a stream of it has.
        for _ in 0..30 {
            link.queue(Lane::Data, unknown_frame(100_000)).unwrap();
        }
        link.wake();
        let reason = node.ended(&link).await;
        let said = "the peer has taken nothing for 500ms".to_owned();
        assert_eq!(reason, DownReason::Broken(said), "{on}");
        assert!(begun.elapsed() < limits.stall_timeout + SLACK * 2, "{on}");
    }
}

async fn whole_node(seed: u8, on: &str) -> WholeNode {
    WholeNode::start(Config {
        keypair: Keypair::from_seed(&[seed; 32]),
        network: "test".to_owned(),
        listen: vec![on.parse().unwrap()],
        join: Vec::new(),
        dir: None,
        roles: weft_core::Roles::SERVER,
        found: false,
    })
    .await
    .unwrap()
}

async fn links(node: &WholeNode, count: usize) {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while node.status().await.unwrap().links != count {
            looks.tick().await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("links as expected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_nothing_is_let_go_of_within_three_seconds() {
    for on in [TCP, QUIC] {
        let node = whole_node(1, on).await;
        let raw = Raw::connect(2, &node.addresses()[0]).await;
        let mut held = raw.link(node.peer_id()).await;
        links(&node, 1).await;
        let begun = Instant::now();
        // It takes all that comes, so that everything the node sends succeeds.
        let reading = async {
            let mut sink = vec![0; 64 * 1024];
            while held.inbound.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        };
        tokio::join!(reading, links(&node, 0));
        assert!(begun.elapsed() < Duration::from_secs(3) + SLACK, "{on}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_holds_a_stop_up_for_no_longer_than_it_counts_as_living() {
    for on in [TCP, QUIC] {
        let node = whole_node(1, on).await;
        let raw = Raw::connect(2, &node.addresses()[0]).await;
        let _held = raw.link(node.peer_id()).await;
        links(&node, 1).await;
        let begun = Instant::now();
        node.shutdown().await;
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(1), "it may be slow: {took:?}");
        assert!(took < Duration::from_secs(3) + SLACK, "{on}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_speaks_and_never_answers_is_let_go_of_after_ten_seconds() {
    let node = whole_node(1, TCP).await;
    let raw = Raw::connect(2, &node.addresses()[0]).await;
    let mut held = raw.link(node.peer_id()).await;
    links(&node, 1).await;
    let begun = Instant::now();
    let speaking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            let frame = encode_ping(1);
            let bytes = [&frame.head[..], &frame.tail[..]].concat();
            if held.outbound.write_all(&bytes).await.is_err()
                || held.outbound.flush().await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = speaking => links(&node, 0).await,
        () = links(&node, 0) => {}
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(9), "only after {took:?}");
    assert!(took < Duration::from_secs(11) + SLACK, "{took:?}");
}
