//! What topics cost and how fast they are, in figures: history read from keepers, a subscription's first message, many topics at rest.
//!
//! The environment makes each as large as is wanted; these are the figures of record, one at a time:
//!
//! ```console
//! $ WEFT_REPLAY_MESSAGES=100000 cargo test --release -p weft-tests --test topic_cost replay -- --nocapture
//! $ WEFT_JOIN_NODES=50 WEFT_JOIN_TRIES=40 cargo test --release -p weft-tests --test topic_cost first_message -- --nocapture
//! $ WEFT_REST_NODES=20 WEFT_REST_S=30 cargo test -p weft-tests --test topic_cost at_rest -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures::future::join_all;
use weft_rpc::payload::Payload;
use weft_rpc::types::{Item, Notification, PublishParams, TopicParams};
use weft_rpc::{Client, Start, TopicStream, method};
use weft_testnet::{Process, traffic};
use weft_tests::draw::Draw;
use weft_tests::net::{Net, names};
use weft_tests::stream::Stream;
use weft_tests::{alone, setting, wait};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// How long the machine may take for what takes it seconds when idle.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: f64 = (1 << 20) as f64;

/// Messages of a publish, and the bytes of each.
const BATCH: u64 = 100;
const MESSAGE_BYTES: usize = 256;
/// What a daemon that holds a topic's history may take, on top of twice that history: 20 MiB at rest, the rest is a guess.
const REPLAY_BYTES_MAX: u64 = 96 << 20;

/// What half of the subscriptions may take until their first message comes. The goal is 300 ms; the machine does other things.
const FIRST_MESSAGE_MAX: Duration = Duration::from_millis(1_000);
/// Messages a second meanwhile: one comes each 10 ms, which is the measure's error.
const JOIN_RATE: u32 = 100;

/// Subscriptions on one connection; a daemon takes 64.
const SUBSCRIPTIONS: usize = 50;
/// How long is looked whether a network is at rest.
const LOOK: Duration = Duration::from_secs(5);
/// What a daemon with two hundred topics may take at rest in the dev build, of a core and of memory.
const REST_SHARE_MAX: f64 = 0.25;
const REST_BYTES_MAX: u64 = 128 << 20;

async fn client(net: &Net, node: &str) -> Client {
    let connected = Client::connect(&net.node_dir(node)).await;
    connected.unwrap_or_else(|error| panic!("{node}: {error}"))
}

async fn subscribe(client: &Client, topic: &str, start: &Start) -> TopicStream {
    let subscribed = client.subscribe(topic, start).await;
    let mut stream = subscribed.unwrap_or_else(|error| panic!("{topic}: {error}"));
    let ready = stream.next().await;
    assert!(matches!(ready, Ok(Notification::Ready(_))), "{ready:?}");
    stream
}

/// Reads the numbered messages 1 to `count`, which must come once and in order; answers when the last came.
async fn read(mut stream: TopicStream, count: u64) -> Instant {
    let mut expected = 1;
    while expected <= count {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        let next = next.unwrap_or_else(|_| panic!("message {expected} doesn't come"));
        let Notification::Items(batch) = next.expect("the daemon lives") else {
            continue;
        };
        for item in batch.items {
            let Item::Message(message) = item else {
                panic!("before {expected}: {item:?}");
            };
            let payload = message.payload.into_bytes().expect("it is one");
            let text = String::from_utf8(payload.to_vec()).expect("it is one");
            assert_eq!(text.trim_end().parse(), Ok(expected));
            expected += 1;
        }
    }
    Instant::now()
}

/// Publishes the numbered messages 1 to `count`.
async fn publish(client: &Client, topic: &str, count: u64) {
    for first in (1..=count).step_by(BATCH as usize) {
        let numbers = first..(first + BATCH).min(count + 1);
        let texts = numbers.map(|number| format!("{number:<MESSAGE_BYTES$}"));
        let params = PublishParams {
            topic: topic.to_owned(),
            messages: texts
                .map(|text| Payload::of(text.as_bytes()).into())
                .collect(),
            request_id: None,
            via: None,
            ack: None,
        };
        let published = client.call::<method::TopicPublish>(params).await;
        published.expect("it is taken");
    }
}

fn topic(name: &str) -> TopicParams {
    TopicParams {
        topic: name.to_owned(),
    }
}

/// The nodes that keep a topic and hold so many messages of it.
async fn keepers(net: &Net, nodes: &[String], name: &str, messages: u64) -> Vec<String> {
    let mut keepers = Vec::new();
    for node in nodes {
        let stats = client(net, node).await;
        let stats = stats.call::<method::TopicStats>(topic(name)).await;
        if stats.is_ok_and(|stats| stats.keeps && stats.messages_held >= messages) {
            keepers.push(node.clone());
        }
    }
    keepers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_from_keepers_beside_the_live_rate() {
    let _alone = alone().await;
    let count = setting("WEFT_REPLAY_MESSAGES", 10_000);
    let nodes = names(1..=8);
    let net = Net::up(WEFT, nodes.len()).await;
    let (publisher, live) = (client(&net, "n1").await, client(&net, "n2").await);
    let live = tokio::spawn(read(subscribe(&live, "news", &Start::Latest).await, count));
    let began = Instant::now();
    publish(&publisher, "news", count).await;
    let live = live
        .await
        .expect("nothing is missing")
        .duration_since(began);

    let kept_by = wait::until_async("two keepers hold all", PATIENCE, async || {
        let keepers = keepers(&net, &nodes, "news", count).await;
        (keepers.len() >= 2).then_some(keepers)
    })
    .await;
    let late = nodes[2..].iter().find(|node| !kept_by.contains(node));
    let late = late.expect("eight are more than a publisher, a subscriber and four");
    let reader = client(&net, late).await;
    let began = Instant::now();
    let replayed = read(subscribe(&reader, "news", &Start::Earliest).await, count);
    let replayed = replayed.await.duration_since(began);

    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!(
        "{count} messages of {MESSAGE_BYTES} B: live {:.0} messages/s; from keepers to a new subscriber {:.0} messages/s ({replayed:.1?})",
        rate(live),
        rate(replayed),
    );
    let mut shown = String::new();
    let history = count * (MESSAGE_BYTES as u64);
    for (node, process) in nodes.iter().zip(net.processes()) {
        let rss = process.rss_bytes().expect("it runs");
        let keeps = if kept_by.contains(node) {
            " keeper"
        } else {
            ""
        };
        let _ = write!(shown, "{node}{keeps} {:.0}, ", rss as f64 / MIB);
        assert!(
            rss < REPLAY_BYTES_MAX + 2 * history,
            "{node} takes {rss} bytes"
        );
    }
    println!("MiB of memory afterwards (n1 published, n2 read, {late} came later): {shown}");
    net.down().await;
}

/// Time from connecting to a daemon until the first live message of a topic comes.
async fn first_message(net: &Net, node: &str, topic: &str) -> Duration {
    let began = Instant::now();
    let client = client(net, node).await;
    let mut stream = subscribe(&client, topic, &Start::Latest).await;
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await {
            Ok(Ok(Notification::Items(batch))) => {
                assert!(matches!(batch.items[0], Item::Message(_)), "{batch:?}");
                return began.elapsed();
            }
            Ok(Ok(Notification::Ready(_))) => {}
            other => panic!("no message at {node}: {other:?}"),
        }
    }
}

fn quantiles(mut times: Vec<Duration>) -> (Duration, String) {
    times.sort_unstable();
    let [median, p99, longest] =
        [0.5, 0.99, 1.0].map(|q| traffic::quantile(&times, q).expect("there are some"));
    let tries = times.len();
    let words = format!("p50 {median:.1?}, p99 {p99:.1?}, longest {longest:.1?} of {tries}");
    (median, words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_message_of_a_new_subscription() {
    let _alone = alone().await;
    let count = usize::try_from(setting("WEFT_JOIN_NODES", 12)).expect("some nodes");
    let tries = usize::try_from(setting("WEFT_JOIN_TRIES", 20)).expect("some tries");
    let net = Net::up(WEFT, count).await;
    let nodes = names(1..=count);
    let mut draw = Draw::new(1);

    // Whoever publishes is the only member, and has just become one.
    let mut fresh = Vec::new();
    for number in 0..tries {
        let topic = format!("fresh-{number}");
        let pair = draw.some(2, nodes.clone());
        let stream = Stream::start(net.publishers(&pair[..1], &topic).await, JOIN_RATE);
        stream.wait_for(1, PATIENCE).await;
        fresh.push(first_message(&net, &pair[1], &topic).await);
        stream.stop().await;
    }
    // A third are members; each other node is new to each topic once.
    let (members, others) = nodes.split_at(count / 3);
    let mut joined = Vec::new();
    for first in (0..tries).step_by(others.len()) {
        let topic = format!("full-{first}");
        let subscribers = net.subscribe(members, &topic).await;
        let stream = Stream::start(net.publishers(&members[..1], &topic).await, JOIN_RATE);
        stream.wait_for(u64::from(JOIN_RATE), PATIENCE).await;
        for node in others.iter().take(tries - first) {
            joined.push(first_message(&net, node, &topic).await);
        }
        stream.stop().await;
        drop(subscribers);
    }
    let (fresh, fresh_words) = quantiles(fresh);
    let (joined, joined_words) = quantiles(joined);
    println!(
        "{count} nodes, from connecting to the daemon until the first live message: \
         a topic with its publisher alone {fresh_words}; one with {} members {joined_words}",
        members.len(),
    );
    assert!(fresh <= FIRST_MESSAGE_MAX && joined <= FIRST_MESSAGE_MAX);
    net.down().await;
}

/// Subscribes a node to topics, and returns what keeps it subscribed.
async fn subscribe_to_all(net: &Net, node: &str, topics: &[String]) -> Vec<TopicStream> {
    let mut streams = Vec::new();
    for topics in topics.chunks(SUBSCRIPTIONS) {
        let client = client(net, node).await;
        let subscribing = topics
            .iter()
            .map(|topic| subscribe(&client, topic, &Start::Latest));
        streams.extend(join_all(subscribing).await);
    }
    streams
}

/// Each daemon's share of a core over a while.
async fn shares(processes: &[Process], over: Duration) -> Vec<f64> {
    let spent = || -> BTreeMap<u32, Duration> {
        let spent = processes.iter();
        spent
            .map(|process| (process.pid, process.cpu_time().expect("it runs")))
            .collect()
    };
    let (before, began) = (spent(), Instant::now());
    let ended = async || (began.elapsed() >= over).then_some(());
    wait::until_async("the time that is measured", over + PATIENCE, ended).await;
    let (after, over) = (spent(), began.elapsed().as_secs_f64());
    let share = |(pid, spent): (u32, Duration)| (spent - before[&pid]).as_secs_f64() / over;
    after.into_iter().map(share).collect()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_topics_at_rest() {
    let _alone = alone().await;
    let count = usize::try_from(setting("WEFT_REST_NODES", 6)).expect("some nodes");
    let each = usize::try_from(setting("WEFT_REST_TOPICS", 200)).expect("some topics");
    let over = Duration::from_secs(setting("WEFT_REST_S", 10));
    let net = Net::up(WEFT, count).await;
    let processes = net.processes();
    // Twice as many topics as a node has: each has half of the nodes, every time others.
    let topics: Vec<String> = (0..2 * each)
        .map(|number| format!("topic-{number}"))
        .collect();
    let mut draw = Draw::new(1);
    let nodes = names(1..=count);
    let drawn: Vec<_> = nodes
        .iter()
        .map(|_| draw.some(each, topics.clone()))
        .collect();
    let began = Instant::now();
    let subscribing = nodes
        .iter()
        .zip(&drawn)
        .map(|(node, topics)| subscribe_to_all(&net, node, topics));
    let _subscriptions = join_all(subscribing).await;
    let subscribed = began.elapsed();
    let mut share = mean(&shares(&processes, LOOK).await);
    wait::until_async("rest", PATIENCE, async || {
        let before = share;
        share = mean(&shares(&processes, LOOK).await);
        (share > before * 0.9).then_some(())
    })
    .await;
    let shares = shares(&processes, over).await;
    let rss: Vec<f64> = processes
        .iter()
        .map(|process| process.rss_bytes().expect("it runs") as f64)
        .collect();
    let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    println!(
        "{count} nodes with {each} topics of {} members each (subscribed within {subscribed:.1?}), at rest for {over:?}: \
         {:.2} % of a core a daemon, the busiest {:.2} %; {:.1} MiB, the largest {:.1} MiB",
        count / 2,
        mean(&shares) * 100.0,
        most(&shares) * 100.0,
        mean(&rss) / MIB,
        most(&rss) / MIB,
    );
    assert!(mean(&shares) <= REST_SHARE_MAX);
    assert!(most(&rss) <= REST_BYTES_MAX as f64);
    net.down().await;
}
