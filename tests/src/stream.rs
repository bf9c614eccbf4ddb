//! A steady stream of messages from several publishers, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_testnet::traffic::{Publisher, StreamBook, Subscriber};

use crate::wait;

/// A running stream; every message must be accepted.
#[derive(Debug)]
pub struct Stream {
    stop: watch::Sender<bool>,
    accepted: Vec<Arc<AtomicU64>>,
    tasks: Vec<JoinHandle<Publisher>>,
}

impl Stream {
    /// Starts the stream: `rate` messages a second in all, evenly from all publishers.
    pub fn start(publishers: Vec<Publisher>, rate: u32) -> Self {
        let (stop, _) = watch::channel(false);
        let count = u32::try_from(publishers.len()).expect("a few publishers");
        let period = Duration::from_secs(1) * count / rate;
        let mut accepted = Vec::new();
        let mut tasks = Vec::new();
        for (index, publisher) in (0..).zip(publishers) {
            let counter = Arc::new(AtomicU64::new(publisher.accepted()));
            accepted.push(Arc::clone(&counter));
            let offset = period / count * index;
            tasks.push(tokio::spawn(publish(
                publisher,
                period,
                offset,
                counter,
                stop.subscribe(),
            )));
        }
        Self {
            stop,
            accepted,
            tasks,
        }
    }

    /// How many messages each publisher's daemon has accepted so far.
    pub fn accepted(&self) -> Vec<u64> {
        self.accepted
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .collect()
    }

    /// How many messages have been accepted in all.
    pub fn total(&self) -> u64 {
        self.accepted().iter().sum()
    }

    /// Waits until so many more messages have been accepted.
    pub async fn wait_for(&self, more: u64, at_most: Duration) {
        let goal = self.total() + more;
        wait::until_async(format!("{more} more messages"), at_most, async || {
            assert!(
                !self.tasks.iter().any(JoinHandle::is_finished),
                "a publisher stopped: its daemon refused a message"
            );
            (self.total() >= goal).then_some(())
        })
        .await;
    }

    /// Ends the stream and returns the publishers.
    pub async fn stop(self) -> Vec<Publisher> {
        self.stop.send_replace(true);
        let mut publishers = Vec::new();
        for task in self.tasks {
            publishers.push(task.await.expect("every message is accepted"));
        }
        publishers
    }
}

async fn publish(
    mut publisher: Publisher,
    period: Duration,
    offset: Duration,
    accepted: Arc<AtomicU64>,
    mut stop: watch::Receiver<bool>,
) -> Publisher {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, period);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return publisher,
        }
        if let Err(error) = publisher.publish().await {
            panic!("{error:#}");
        }
        accepted.store(publisher.accepted(), Ordering::Relaxed);
    }
}

/// Waits until every subscriber holds each publisher's messages `from..=accepted`, once and in order.
pub async fn wait_delivered(
    subscribers: &[Subscriber],
    publishers: &[Publisher],
    from: u64,
    at_most: Duration,
) {
    let missing = || {
        let mut missing = Vec::new();
        for subscriber in subscribers {
            let book = subscriber.book();
            for publisher in publishers {
                if !book.holds(&publisher.peer_id, from, publisher.accepted()) {
                    let stream = book.stream(&publisher.peer_id);
                    missing.push(format!(
                        "{} of {}'s {from} to {}: first {:?}, last {:?}, skipped {:?}, repeated {}, gaps {:?}, ended {:?}",
                        subscriber.name,
                        publisher.name,
                        publisher.accepted(),
                        stream.and_then(StreamBook::first),
                        stream.and_then(StreamBook::last),
                        stream.map(|stream| stream.skipped.clone()),
                        stream.map_or(0, |stream| stream.repeated_count),
                        book.gaps,
                        book.ended,
                    ));
                }
            }
        }
        missing
    };
    let deadline = std::time::Instant::now() + at_most;
    wait::until_async(
        "all deliveries",
        at_most + Duration::from_secs(1),
        async || {
            let missing = missing();
            if missing.is_empty() {
                return Some(());
            }
            assert!(
                std::time::Instant::now() < deadline,
                "deliveries missing after {at_most:?}:\n{}",
                missing.join("\n")
            );
            None
        },
    )
    .await;
}

/// Latencies of messages `from..=to` of publisher number `index`, to all subscribers on other nodes.
pub fn latencies(subscribers: &[Subscriber], publisher: &str, from: u64, to: u64) -> Vec<Duration> {
    let mut latencies = Vec::new();
    for subscriber in subscribers
        .iter()
        .filter(|subscriber| subscriber.peer_id != publisher)
    {
        let book = subscriber.book();
        let Some(stream) = book.stream(publisher) else {
            continue;
        };
        let counted = stream
            .arrivals
            .iter()
            .filter(|arrival| (from..=to).contains(&arrival.number));
        latencies.extend(counted.map(|arrival| arrival.latency));
    }
    latencies
}
