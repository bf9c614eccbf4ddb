//! Whole nodes in one process, through the handle that applications hold.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod far;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use libp2p::Multiaddr;
use tokio::time::{Instant, timeout};
use weft_identity::Keypair;
use weft_node::{
    Ack, AddPeerError, Begin, Config, ConfirmError, ConsumerName, Item, Node, PingError,
    PublishError, Roles, Start, StartError, SubscribeError, Subscription, TopicName, Via,
};

/// No test takes a tenth of it; one that hangs fails here.
const DEADLINE: Duration = Duration::from_secs(30);

fn config(seed: u8, join: Vec<Multiaddr>) -> Config {
    Config {
        keypair: Keypair::from_seed(&[seed; 32]),
        network: "test".to_owned(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        join,
        dir: None,
        roles: Roles::SERVER,
        found: false,
    }
}

fn topic() -> TopicName {
    "logs".parse().unwrap()
}

/// Starts nodes that join through the first, and waits until each has a neighbour.
async fn network(count: u8) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=count {
        let join = nodes.first().map(Node::addresses).unwrap_or_default();
        nodes.push(Node::start(config(seed, join)).await.unwrap());
    }
    for node in &nodes {
        until("each has a neighbour", async || {
            node.status().await.unwrap().active > 0
        })
        .await;
    }
    nodes
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !condition().await {
            looks.tick().await;
        }
    };
    if timeout(DEADLINE, waiting).await.is_err() {
        panic!("timed out: {what}");
    }
}

/// Reads until `count` messages have come.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let reading = async {
        while messages.len() < count {
            let (items, _) = subscription.next(1_000, 1 << 20).await.expect("it runs");
            for item in items {
                match item {
                    Item::Message(message) => messages.push(message.data),
                    gap => panic!("{gap:?}"),
                }
            }
        }
    };
    if timeout(DEADLINE, reading).await.is_err() {
        panic!("{} of {count} messages came", messages.len());
    }
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_publishes_arrives_at_every_other_in_order() {
    let nodes = network(5).await;
    let mut subscriptions = Vec::new();
    for node in &nodes {
        subscriptions.push(node.subscribe(&topic(), Start::Latest).await.unwrap());
    }
    let lines: Vec<Bytes> = (0..2_000).map(|n| format!("line {n}").into()).collect();
    for batch in lines.chunks(100) {
        let published = nodes[1]
            .publish(&topic(), batch.to_vec(), Via::Both, Ack::Local)
            .await
            .unwrap();
        assert_eq!(published.receipts.len(), batch.len());
    }
    for subscription in &mut subscriptions {
        assert_eq!(read(subscription, lines.len()).await, lines);
    }
    for node in &nodes {
        timeout(DEADLINE, node.shutdown()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_with_a_name_goes_on_at_what_it_has_confirmed() {
    let node = Node::start(config(1, Vec::new())).await.unwrap();
    let (name, topic): (ConsumerName, _) = ("billing".parse().unwrap(), topic());
    let subscribe = async || {
        let begin = Begin::AtItsPlace;
        node.subscribe_as(&topic, name.clone(), &begin).await
    };
    let mut first = subscribe().await.unwrap();
    assert_eq!(subscribe().await.unwrap_err(), SubscribeError::NameBusy);
    let lines = ["one", "two", "three"];
    node.publish(&topic, lines, Via::Gossip, Ack::Local)
        .await
        .unwrap();
    let confirmer = first.confirmer().unwrap();
    let (items, place) = timeout(DEADLINE, first.next(2, 1 << 20))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(items.len(), 2);
    let cursor = first.cursor(place - 1);
    assert_eq!(confirmer.confirm(&cursor).await, Ok(cursor.clone()));
    // What was confirmed stays so.
    let before = first.cursor(place - 2);
    assert_eq!(confirmer.confirm(&before).await, Ok(cursor));
    let of_nothing = first.cursor(place + 5);
    assert!(matches!(
        confirmer.confirm(&of_nothing).await,
        Err(ConfirmError::Cursor(_))
    ));
    // The name is free once nothing of the subscription is left.
    drop((first, confirmer));
    let mut second = subscribe().await.unwrap();
    assert_eq!(read(&mut second, 1).await, lines[2..]);
    drop(second);
    let known = node.topic_consumers(&topic).await.unwrap();
    assert_eq!(known.consumers[0].lag, Some(1));
    node.forget_consumer(&topic, name.clone()).await.unwrap();
    assert_eq!(node.topic_consumers(&topic).await.unwrap().consumers, []);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_goodbye_and_answers_nothing_any_more() {
    let nodes = network(2).await;
    let mut subscription = nodes[0].subscribe(&topic(), Start::Latest).await.unwrap();
    let begun = Instant::now();
    nodes[0].shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{begun:?}");
    nodes[0].shutdown().await;
    nodes[0].stopped().await;
    assert!(subscription.next(1, 1).await.is_none());
    assert!(nodes[0].status().await.is_none());
    let refused = nodes[0]
        .publish(&topic(), vec![Bytes::new()], Via::Both, Ack::Local)
        .await;
    assert_eq!(refused, Err(PublishError::Stopped));
    until("the other sees it go", async || {
        nodes[1].status().await.unwrap().links == 0
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "at once");
    nodes[1].shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_every_handle_stops_the_node() {
    let mut nodes = network(2).await;
    let mut subscription = nodes[1].subscribe(&topic(), Start::Latest).await.unwrap();
    drop(nodes.pop());
    until("the other sees it go", async || {
        nodes[0].status().await.unwrap().links == 0
    })
    .await;
    timeout(DEADLINE, async {
        while subscription.next(1, 1).await.is_some() {}
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_added_pinged_and_removed() {
    let a = Node::start(config(1, Vec::new())).await.unwrap();
    let b = Node::start(config(2, Vec::new())).await.unwrap();
    assert_eq!(a.ping(b.peer_id()).await, Err(PingError::NotLinked));
    let own = a.addresses()[0].clone();
    assert_eq!(a.add_peer(own).await, Err(AddPeerError::SelfDial));
    let address = b.addresses()[0].clone();
    assert_eq!(a.add_peer(address).await, Ok(b.peer_id()));
    assert!(a.ping(b.peer_id()).await.unwrap() < Duration::from_secs(1));
    let peers = a.peers().await.unwrap().peers;
    assert_eq!(peers[0].peer_id, b.peer_id().to_string());
    assert_eq!(a.remove_peer(b.peer_id()).await, Some(true));
    let other = Node::start(Config {
        network: "other".to_owned(),
        ..config(3, Vec::new())
    })
    .await
    .unwrap();
    let wrong = a.add_peer(other.addresses()[0].clone()).await;
    let expected = AddPeerError::WrongNetwork {
        theirs: "other".to_owned(),
        ours: "test".to_owned(),
    };
    assert_eq!(wrong, Err(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_leave_nothing_behind() {
    let node = Node::start(config(1, Vec::new())).await.unwrap();
    for _ in 0..50 {
        // Dropped before their answers, which take longer than this.
        let _ = timeout(
            Duration::from_micros(200),
            node.subscribe(&topic(), Start::Latest),
        )
        .await;
        let _ = timeout(
            Duration::from_micros(200),
            node.publish(
                &topic(),
                vec![Bytes::from_static(b"x")],
                Via::Both,
                Ack::Local,
            ),
        )
        .await;
    }
    let mut subscription = node.subscribe(&topic(), Start::Latest).await.unwrap();
    until("only one subscription is left", async || {
        let topics = node.topics().await.unwrap().topics;
        topics[0].subscriptions == 1
    })
    .await;
    let message = Bytes::from_static(b"after all");
    node.publish(&topic(), vec![message.clone()], Via::Both, Ack::Local)
        .await
        .unwrap();
    while read(&mut subscription, 1).await != [message.clone()] {}
    drop(subscription);
    until("none is left", async || {
        let topics = node.topics().await.unwrap().topics;
        topics.iter().all(|topic| topic.subscriptions == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversize_message_is_refused_whole() {
    let node = Node::start(config(1, Vec::new())).await.unwrap();
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    let batch = vec![Bytes::from_static(b"small"), large];
    let refused = node.publish(&topic(), batch, Via::Both, Ack::Local).await;
    let error = PublishError::TooLarge {
        index: 1,
        bytes: (1 << 20) + 1,
    };
    assert_eq!(refused, Err(error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_back_with_a_larger_epoch_and_finds_the_others_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let a = Node::start(config(1, Vec::new())).await.unwrap();
    let with_dir = |join| Config {
        dir: Some(dir.path().to_owned()),
        ..config(2, join)
    };
    let b = Node::start(with_dir(a.addresses())).await.unwrap();
    let neighbours = async |node: &Node| {
        until("a neighbour", async || {
            node.status().await.unwrap().active > 0
        })
        .await;
    };
    neighbours(&b).await;
    let first = b
        .publish(&topic(), vec![Bytes::new()], Via::Both, Ack::Local)
        .await
        .unwrap();
    b.shutdown().await;
    let text = std::fs::read_to_string(dir.path().join("epoch")).unwrap();
    assert!(text.contains("\nclean\n"), "{text}");
    let b = Node::start(with_dir(Vec::new())).await.unwrap();
    neighbours(&b).await;
    let second = b
        .publish(&topic(), vec![Bytes::new()], Via::Both, Ack::Local)
        .await
        .unwrap();
    assert!(second.receipts[0].epoch > first.receipts[0].epoch);
    b.shutdown().await;
    damage(&dir.path().join("epoch"));
    let error = Node::start(with_dir(Vec::new())).await.unwrap_err();
    assert!(matches!(error, StartError::Disk { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_lanes_hold_arrives_at_full_speed() {
    const BLOCK_BYTES: usize = 60_000;
    const BLOCKS: usize = 140; // 8 MiB: twice what a lane holds, and eight times what lets a publisher wait
    let nodes = network(2).await;
    let mut subscription = nodes[1].subscribe(&topic(), Start::Latest).await.unwrap();
    let block = Bytes::from(vec![7; BLOCK_BYTES]);
    let begun = Instant::now();
    let publishing = async {
        for _ in 0..BLOCKS {
            let block = vec![block.clone()];
            nodes[0]
                .publish(&topic(), block, Via::Both, Ack::Local)
                .await
                .unwrap();
        }
    };
    let (blocks, ()) = tokio::join!(read(&mut subscription, BLOCKS), publishing);
    let took = begun.elapsed();
    assert!(blocks.iter().all(|read| *read == block));
    println!("{} bytes after {took:?}", BLOCK_BYTES * BLOCKS);
    // At the heartbeat's pace, what a lane holds each half second, it would take longer.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_a_link_is_gone_comes_in_order() {
    const BLOCKS: u32 = 140; // of 60 kB: 8 MiB, half of what history holds, and many times what a lane for supplies does
    let nodes = network(2).await;
    let mut subscription = nodes[1].subscribe(&topic(), Start::Latest).await.unwrap();
    let block = |number: u32| Bytes::from(number.to_be_bytes().repeat(15_000));
    nodes[0]
        .publish(&topic(), vec![block(0)], Via::Both, Ack::Local)
        .await
        .unwrap();
    assert_eq!(read(&mut subscription, 1).await, [block(0)]);
    assert_eq!(nodes[0].remove_peer(nodes[1].peer_id()).await, Some(true));
    for number in 1..=BLOCKS {
        nodes[0]
            .publish(&topic(), vec![block(number)], Via::Both, Ack::Local)
            .await
            .unwrap();
    }
    let address = nodes[1].addresses()[0].clone();
    let added = nodes[0].add_peer(address).await;
    assert_eq!(added, Ok(nodes[1].peer_id()));
    // From the neighbour, or from it as one of the topic's keepers: both are asked, and whoever is first brings it.
    let came = read(&mut subscription, BLOCKS as usize).await;
    assert!(
        (1..)
            .map(block)
            .zip(&came)
            .all(|(sent, came)| sent == *came)
    );
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_says_why() {
    let a = Node::start(config(1, Vec::new())).await.unwrap();
    let taken = Config {
        listen: a.addresses(),
        ..config(2, Vec::new())
    };
    let error = Node::start(taken).await.unwrap_err();
    assert!(matches!(error, StartError::PortInUse { .. }), "{error}");
    let odd = Config {
        network: "a/b".to_owned(),
        ..config(2, Vec::new())
    };
    let error = Node::start(odd).await.unwrap_err();
    assert!(matches!(error, StartError::Config { .. }), "{error}");
}
