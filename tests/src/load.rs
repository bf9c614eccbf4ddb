//! Messages at full rate from one node to subscribers at others, in runs that are compared with each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use weft_rpc::payload::Payload;
use weft_rpc::types::{Ack, Item, Notification, PublishParams};
use weft_rpc::{Client, Start, method};

use crate::net::{Net, names};
use crate::wait;

/// The topic of all messages.
pub const TOPIC: &str = "stream";
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages of a call, and their size: some 100 kB, more than one bundle.
const BATCH: usize = 100;
const MESSAGE_BYTES: usize = 1_000;
/// Messages that the publisher may be ahead of the slowest subscriber: the arrival logs hold some 15,000, and a test that reads slowly
/// on a loaded machine shall not be told that it does.
const AHEAD_MAX: u64 = 6_000;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a subscriber has got.
#[derive(Debug, Default)]
struct Got {
    messages: AtomicU64,
    gaps: Mutex<Vec<String>>,
}

/// A network in which n1 publishes and the nodes after it are subscribed.
#[derive(Debug)]
pub struct Load {
    /// The network.
    pub net: Net,
    publisher: Client,
    got: Vec<Arc<Got>>,
    published: u64,
    tasks: Vec<JoinHandle<()>>,
}

/// What one run has shown.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Messages a second that everybody has got.
    pub rate: f64,
    /// The most memory that the publisher's daemon took, in bytes.
    pub rss: i64,
}

impl Load {
    /// Starts a network; the nodes n2 up to number `subscribed` are subscribed.
    pub async fn start(binary: &str, nodes: usize, subscribed: usize) -> Self {
        let net = Net::up(binary, nodes).await;
        let (mut got, mut tasks) = (Vec::new(), Vec::new());
        for name in names(2..=subscribed) {
            let counts = Arc::new(Got::default());
            got.push(Arc::clone(&counts));
            tasks.push(count_at(&net, &name, counts).await);
        }
        let publisher = Client::connect(&net.node_dir("n1")).await;
        Self {
            net,
            publisher: publisher.expect("a daemon"),
            got,
            published: 0,
            tasks,
        }
    }

    /// Publishes at full rate, and waits until everybody has everything.
    pub async fn run(&mut self, lasts: Duration) -> Run {
        let text = "x".repeat(MESSAGE_BYTES);
        let params = PublishParams {
            topic: TOPIC.to_owned(),
            messages: vec![Payload::of(text.as_bytes()).into(); BATCH],
            request_id: None,
            via: None,
            ack: Some(Ack::Sent),
        };
        let before = self.published;
        let (began, mut rss, mut look_at) = (Instant::now(), self.rss(), Instant::now());
        while began.elapsed() < lasts {
            let published = self.publisher.call::<method::TopicPublish>(params.clone());
            published.await.expect("it is taken");
            self.published += BATCH as u64;
            self.wait_for_subscribers(AHEAD_MAX).await;
            if look_at <= Instant::now() {
                look_at = Instant::now() + LOOK_EVERY;
                rss = rss.max(self.rss());
            }
        }
        self.wait_for_subscribers(0).await;
        Run {
            rate: (self.published - before) as f64 / began.elapsed().as_secs_f64(),
            rss,
        }
    }

    /// Waits until n1 has a peer among its neighbours in the topic.
    pub async fn wait_for_neighbour(&self, binary: &str, peer_id: &str) {
        let weft = self.net.weft(binary);
        wait::until_async("the peer among the neighbours", PATIENCE, async || {
            let view = weft.run(["--node", "n1", "overlay", "view", TOPIC, "--json"]);
            let view = view.expect_code(0).json();
            let active = view["active"].as_array()?.clone();
            let mut active = active.iter();
            active.find(|peer| peer["peer_id"] == *peer_id).map(drop)
        })
        .await;
    }

    /// Waits until every subscriber lacks so few messages at most.
    async fn wait_for_subscribers(&self, lacking: u64) {
        wait::until_async("deliveries", PATIENCE, async || {
            let mut slowest = u64::MAX;
            for got in &self.got {
                let gaps = got.gaps.lock().expect("nobody panics with it");
                assert!(gaps.is_empty(), "gaps were told: {gaps:?}");
                slowest = slowest.min(got.messages.load(Ordering::Relaxed));
            }
            (slowest + lacking >= self.published).then_some(())
        })
        .await;
    }

    /// The publisher's memory.
    fn rss(&self) -> i64 {
        let publisher = self.net.processes()[0];
        let bytes = publisher.rss_bytes().expect("it runs");
        i64::try_from(bytes).expect("less than the machine has")
    }

    /// Ends the subscriptions and the network.
    pub async fn end(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.net.down().await;
    }
}

/// Subscribes at a node and counts what comes.
async fn count_at(net: &Net, node: &str, counts: Arc<Got>) -> JoinHandle<()> {
    let client = Client::connect(&net.node_dir(node)).await;
    let client = client.expect("a daemon");
    let stream = client.subscribe(TOPIC, &Start::Latest).await;
    let mut stream = stream.expect("it may subscribe");
    assert!(matches!(stream.next().await, Ok(Notification::Ready(_))));
    tokio::spawn(async move {
        let _client = client;
        while let Ok(next) = stream.next().await {
            let Notification::Items(batch) = next else {
                continue;
            };
            for item in batch.items {
                match item {
                    Item::Message(_) => {
                        counts.messages.fetch_add(1, Ordering::Relaxed);
                    }
                    Item::Gap(gap) => {
                        let mut gaps = counts.gaps.lock().expect("nobody panics with it");
                        gaps.push(format!("{gap:?}"));
                    }
                }
            }
        }
    })
}

/// The value in the middle.
pub fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
