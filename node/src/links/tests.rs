//! Links of real swarms against each other, in one process.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use weft_core::wire::{Frame, OutFrame, encode_ping};
use weft_core::{DownReason, Lane};

use super::address::{net_peer, pack};
use super::*;

mod half_dead;
mod quic;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// No test takes a tenth of it; one that hangs fails here.
const DEADLINE: Duration = Duration::from_secs(20);

struct Node {
    links: Links,
    peer: PeerId,
    next_dial: u64,
    seen: VecDeque<LinkEvent>,
}

impl Node {
    async fn start(seed: u8) -> Self {
        Self::of_network(seed, "test").await
    }

    async fn of_network(seed: u8, network: &str) -> Self {
        Self::with(seed, network, &[TCP], Limits::default()).await
    }

    async fn listening(seed: u8, listen: &[&str]) -> Self {
        Self::with(seed, "test", listen, Limits::default()).await
    }

    async fn with(seed: u8, network: &str, listen: &[&str], limits: Limits) -> Self {
        let listen: Vec<Multiaddr> = listen.iter().map(|a| a.parse().unwrap()).collect();
        let keypair = Keypair::from_seed(&[seed; 32]);
        let links = start(Setup {
            keypair: &keypair,
            network,
            listen: &listen,
            known: Arc::default(),
            limits,
            serves_kad: true,
        })
        .await
        .unwrap();
        Self {
            links,
            peer: keypair.peer_id(),
            next_dial: 0,
            seen: VecDeque::new(),
        }
    }

    /// Ends without goodbye, as a process that is killed; resolves once its port is closed.
    async fn stop(self) {
        let Links {
            orders,
            events,
            task,
            ..
        } = self.links;
        drop((orders, events));
        task.await.unwrap();
    }

    fn address(&self) -> Multiaddr {
        self.links.listening.borrow()[0].clone()
    }

    /// Where the node listens with a transport.
    fn address_of(&self, transport: &str) -> Multiaddr {
        let listening = self.links.listening.borrow();
        let mut of = listening
            .iter()
            .filter(|address| address::transport_name(address) == transport);
        of.next().unwrap().clone()
    }

    fn dial(&mut self, peer: Option<PeerId>, address: &Multiaddr) -> DialId {
        self.dial_any(peer, std::slice::from_ref(address))
    }

    fn dial_any(&mut self, peer: Option<PeerId>, addresses: &[Multiaddr]) -> DialId {
        self.next_dial += 1;
        let dial = DialId(self.next_dial);
        self.links
            .orders
            .send(Order::Dial {
                dial,
                peer,
                addresses: addresses.iter().map(|a| pack(a).unwrap()).collect(),
            })
            .unwrap();
        dial
    }

    /// Waits for the first event that `pick` takes; the others are kept in order.
    async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&LinkEvent) -> Option<T>) -> T {
        let waiting = async {
            let mut at = 0;
            loop {
                while let Some(event) = self.seen.get(at) {
                    if let Some(picked) = pick(event) {
                        self.seen.remove(at);
                        return picked;
                    }
                    at += 1;
                }
                let event = self.links.events.recv().await.expect("the links run");
                self.seen.push_back(event);
            }
        };
        timeout(DEADLINE, waiting)
            .await
            .unwrap_or_else(|_| panic!("timed out: {what}"))
    }

    async fn up(&mut self) -> Arc<Link> {
        self.wait("a link", |event| match event {
            LinkEvent::Up(up) => Some(up.link.clone()),
            _ => None,
        })
        .await
    }

    async fn ended(&mut self, link: &Link) -> DownReason {
        self.wait("the end of a link", |event| match event {
            LinkEvent::Ended(ended) if ended.id() == link.id() => Some(ended.reason()),
            _ => None,
        })
        .await
    }

    async fn outcome(&mut self, dial: DialId) -> Result<PeerId, DialError> {
        self.wait("a dial's end", |event| match event {
            LinkEvent::Dialled { dial: id, peer } if *id == dial => Some(Ok(*peer)),
            LinkEvent::DialFailed { dial: id, error } if *id == dial => Some(Err(error.clone())),
            _ => None,
        })
        .await
    }

    /// Takes pings until `count` have come; returns their nonces.
    async fn pings(&mut self, count: usize) -> Vec<u64> {
        let mut nonces = Vec::new();
        while nonces.len() < count {
            let more = self.wait("pings", |event| match event {
                LinkEvent::Frames(read) => {
                    read.link.taken(read.cost);
                    Some(nonces_of(&read.frames))
                }
                _ => None,
            });
            nonces.extend(more.await);
        }
        nonces
    }
}

fn nonces_of(frames: &[Frame]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Ping { nonce } => Some(*nonce),
            _ => None,
        })
        .collect()
}

fn ping(link: &Link, nonce: u64) {
    link.queue(Lane::Control, encode_ping(nonce)).unwrap();
    link.wake();
}

/// A frame of a kind that nobody knows, as a later version might send it.
fn unknown_frame(bytes: usize) -> OutFrame {
    let mut frame = vec![0xc2, 0x3e];
    varint(bytes, &mut frame);
    frame.resize(frame.len() + bytes, 0);
    let mut head = Vec::new();
    varint(frame.len(), &mut head);
    OutFrame {
        head: head.into(),
        tail: frame.into(),
    }
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

async fn linked(a: &mut Node, b: &mut Node) -> (Arc<Link>, Arc<Link>) {
    let dial = a.dial(Some(b.peer), &b.address());
    let (from_a, from_b) = (a.up().await, b.up().await);
    assert_eq!(a.outcome(dial).await, Ok(b.peer));
    assert_eq!((from_a.peer(), from_b.peer()), (b.peer, a.peer));
    (from_a, from_b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_in_order_whoever_dials() {
    for (seeds, on) in [((1, 2), TCP), ((2, 1), TCP), ((1, 2), QUIC), ((2, 1), QUIC)] {
        let mut a = Node::listening(seeds.0, &[on]).await;
        let mut b = Node::listening(seeds.1, &[on]).await;
        let (to_b, to_a) = linked(&mut a, &mut b).await;
        for nonce in 0..2_000 {
            ping(&to_b, nonce);
            ping(&to_a, nonce);
        }
        let expected: Vec<u64> = (0..2_000).collect();
        assert_eq!(b.pings(2_000).await, expected);
        assert_eq!(a.pings(2_000).await, expected);
        assert!(to_b.take_heard() && !to_b.take_heard());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_alone_is_dialled_and_a_second_dial_finds_the_link() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    let dial = a.dial(None, &b.address());
    assert_eq!(a.outcome(dial).await, Ok(b.peer));
    a.up().await;
    b.up().await;
    let again = a.dial(Some(b.peer), &b.address());
    assert_eq!(a.outcome(again).await, Ok(b.peer));
    let back = b.dial(Some(a.peer), &a.address());
    assert_eq!(b.outcome(back).await, Ok(a.peer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simultaneous_dial_ends_in_one_link() {
    for round in 0..50 {
        let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
        let dial_a = a.dial((round % 2 == 0).then_some(b.peer), &b.address());
        let dial_b = b.dial(Some(a.peer), &a.address());
        end_in_one_link(round, (&mut a, dial_a), (&mut b, dial_b)).await;
    }
}

/// Asserts that the two dials end, and in one link that lives.
async fn end_in_one_link(round: u32, a: (&mut Node, DialId), b: (&mut Node, DialId)) {
    let ((a, dial_a), (b, dial_b)) = (a, b);
    assert_eq!(a.outcome(dial_a).await, Ok(b.peer), "round {round}");
    assert_eq!(b.outcome(dial_b).await, Ok(a.peer), "round {round}");
    let (to_b, to_a) = (a.up().await, b.up().await);
    ping(&to_b, 7);
    ping(&to_a, 8);
    assert_eq!((b.pings(1).await, a.pings(1).await), (vec![7], vec![8]));
    for node in [a, b] {
        while let Ok(event) = node.links.events.try_recv() {
            node.seen.push_back(event);
        }
        let others = node
            .seen
            .iter()
            .filter(|event| matches!(event, LinkEvent::Up(_) | LinkEvent::Ended(_)));
        assert_eq!(others.count(), 0, "round {round}: one link, and it lives");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dies_is_noticed_at_once_and_may_come_back() {
    for (seeds, on) in [((1, 2), TCP), ((2, 1), TCP), ((1, 2), QUIC), ((2, 1), QUIC)] {
        let mut a = Node::listening(seeds.0, &[on]).await;
        let mut b = Node::listening(seeds.1, &[on]).await;
        let (to_b, _) = linked(&mut a, &mut b).await;
        let killed = Instant::now();
        drop(b);
        let reason = a.ended(&to_b).await;
        assert!(matches!(reason, DownReason::Broken(_)), "{reason:?}");
        assert!(killed.elapsed() < Duration::from_millis(500), "at once");
        let mut b = Node::listening(seeds.1, &[on]).await;
        linked(&mut b, &mut a).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_end_delivers_what_was_queued_and_says_goodbye() {
    for on in [TCP, QUIC] {
        let mut a = Node::listening(1, &[on]).await;
        let mut b = Node::listening(2, &[on]).await;
        let (to_b, to_a) = linked(&mut a, &mut b).await;
        // More than a connection's first flight, so that a close that forgets what was not sent yet would show.
        queue_much(&to_b, 50);
        let ordered = Instant::now();
        to_b.close(DEADLINE);
        let expected: Vec<u64> = (0..50).collect();
        assert_eq!(b.pings(50).await, expected, "{on}");
        assert_eq!(b.ended(&to_a).await, DownReason::Closed);
        assert_eq!(a.ended(&to_b).await, DownReason::Ordered);
        assert!(ordered.elapsed() < Duration::from_secs(1));
        linked(&mut b, &mut a).await;
    }
}

/// Queues pings with much between them.
fn queue_much(link: &Link, pings: u64) {
    let ballast = unknown_frame(4_000);
    for nonce in 0..pings {
        link.queue(Lane::Data, ballast.clone()).unwrap();
        link.queue(Lane::Data, encode_ping(nonce)).unwrap();
    }
}

// On one thread, so that neither's tasks run between the two orders: a peer that has said goodbye is sent nothing more.
#[tokio::test]
async fn two_nodes_that_end_at_once_get_each_others_last_frames() {
    for on in [TCP, QUIC] {
        let mut a = Node::listening(1, &[on]).await;
        let mut b = Node::listening(2, &[on]).await;
        let (to_b, to_a) = linked(&mut a, &mut b).await;
        queue_much(&to_b, 50);
        queue_much(&to_a, 50);
        to_b.close(DEADLINE);
        to_a.close(DEADLINE);
        let expected: Vec<u64> = (0..50).collect();
        for (mut node, link) in [(a, to_b), (b, to_a)] {
            assert_eq!(node.pings(50).await, expected, "{on}");
            assert_eq!(node.ended(&link).await, DownReason::Ordered, "{on}");
            // With this a node that stops ends its connections: nothing may still be on its way.
            drop(node);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_network_is_named_to_the_dialler_and_seen_by_the_other() {
    for seeds in [(1, 2), (2, 1)] {
        let mut a = Node::of_network(seeds.0, "ours").await;
        let mut b = Node::of_network(seeds.1, "theirs").await;
        let dial = a.dial(None, &b.address());
        let theirs = DialError::WrongNetwork("theirs".to_owned());
        assert_eq!(a.outcome(dial).await, Err(theirs));
        let stranger = b.wait("a stranger", |event| match event {
            LinkEvent::Stranger { peer, network } => Some((*peer, network.clone())),
            _ => None,
        });
        assert_eq!(stranger.await, (a.peer, "ours".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_dial_says_why() {
    let (mut a, b) = (Node::start(1).await, Node::start(2).await);
    let own = a.address();
    let dial = a.dial(None, &own);
    assert_eq!(a.outcome(dial).await, Err(DialError::SelfDial));
    let dial = a.dial(Some(a.peer), &b.address());
    assert_eq!(a.outcome(dial).await, Err(DialError::SelfDial));
    let other = Keypair::from_seed(&[9; 32]).peer_id();
    let pinned = b
        .address()
        .with(libp2p::multiaddr::Protocol::P2p(net_peer(other)));
    let dial = a.dial(None, &pinned);
    assert_eq!(a.outcome(dial).await, Err(DialError::OtherPeer(b.peer)));
    let closed = b.address();
    b.stop().await;
    let dial = a.dial(None, &closed);
    let error = a.outcome(dial).await.unwrap_err();
    assert!(
        matches!(&error, DialError::Unreachable(why) if why.contains("refused")),
        "{error:?}"
    );
    let odd: Multiaddr = "/ip4/127.0.0.1/udp/9".parse().unwrap();
    let dial = a.dial(None, &odd);
    assert!(matches!(
        a.outcome(dial).await,
        Err(DialError::Unreachable(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_never_answers_costs_a_dial_its_time_and_no_more() {
    let mut a = Node::start(1).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let begun = Instant::now();
    let dial = a.dial(None, &address);
    let error = a.outcome(dial).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
    assert!(begun.elapsed() < DIAL_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_ends_the_link_and_is_named() {
    let oversize = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let garbage = Bytes::from_static(&[3, 0xff, 0xff, 0xff]);
    for head in [oversize, garbage] {
        let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
        let (to_b, to_a) = linked(&mut a, &mut b).await;
        ping(&to_b, 1);
        let tail = Bytes::new();
        let frame = OutFrame { head, tail };
        to_b.queue(Lane::Control, frame).unwrap();
        to_b.wake();
        assert_eq!(b.pings(1).await, [1], "what came before counts");
        let reason = b.ended(&to_a).await;
        assert!(matches!(reason, DownReason::BadFrame(_)), "{reason:?}");
        a.ended(&to_b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_fills_its_own_lanes_and_blocks_nobody() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    let mut c = Node::start(3).await;
    let (to_b, _) = linked(&mut a, &mut b).await;
    let (to_c, _) = linked(&mut a, &mut c).await;
    // Nobody takes b's events, so its reader runs out of credit and stops.
    let frame = unknown_frame(100_000);
    let begun = Instant::now();
    let mut dropped = 0;
    while dropped < 10 {
        assert!(begun.elapsed() < DEADLINE, "the lane never fills");
        if to_b.queue(Lane::Data, frame.clone()).is_err() {
            dropped += 1;
            tokio::task::yield_now().await;
        }
        to_b.wake();
    }
    assert!(to_b.waiting().data > 3 * 1024 * 1024);
    for nonce in 0..100 {
        ping(&to_c, nonce);
    }
    assert_eq!(c.pings(100).await.len(), 100);
    // Its end comes in time, too.
    let ordered = Instant::now();
    to_b.close(Duration::from_millis(300));
    assert_eq!(a.ended(&to_b).await, DownReason::Ordered);
    assert!(ordered.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_an_error() {
    for on in [TCP, QUIC] {
        let a = Node::listening(1, &[on]).await;
        let keypair = Keypair::from_seed(&[2; 32]);
        let setup = Setup {
            keypair: &keypair,
            network: "test",
            listen: &[a.address()],
            known: Arc::default(),
            limits: Limits::default(),
            serves_kad: true,
        };
        let error = start(setup).await.unwrap_err();
        assert!(matches!(error, ListenError::InUse(address) if address == a.address()));
    }
}
