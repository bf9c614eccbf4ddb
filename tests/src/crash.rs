//! Nodes that are killed at once in mid-stream, and what that did to those who are left.

use std::time::{Duration, Instant};

use weft_testnet::traffic::{self, Publisher, Subscriber};

use crate::net::Net;
use crate::stream::{self, Stream};

const TOPIC: &str = "stream";
/// Messages that flow before the kill, so that trees have grown.
const BEFORE: u64 = 100;

/// Who is killed, who is left, and who of these publishes.
#[derive(Debug)]
pub struct Roles {
    /// Killed at once; subscribed until then.
    pub victims: Vec<String>,
    /// Left, and subscribed.
    pub survivors: Vec<String>,
    /// Those of the survivors that publish.
    pub publishing: Vec<String>,
}

/// A kill in mid-stream, seen up to one second of stream after the network was whole again.
#[derive(Debug)]
pub struct Crash {
    /// The stream, which goes on.
    pub stream: Stream,
    /// The survivors' subscriptions.
    pub subscribers: Vec<Subscriber>,
    /// How long the killing itself took.
    pub kill_took: Duration,
    /// How long after the first kill the network was one component of symmetric views again.
    pub whole_after: Duration,
    /// What each publisher's daemon had accepted before the kill, and at the end of what was seen.
    pub accepted: (Vec<u64>, Vec<u64>),
    _doomed: Vec<Subscriber>,
}

impl Crash {
    /// Starts a stream of `rate` messages a second, kills the victims, and waits until the network is whole.
    pub async fn cause(net: &mut Net, roles: &Roles, rate: u32, patience: Duration) -> Self {
        let subscribers = net.subscribe(&roles.survivors, TOPIC).await;
        let doomed = net.subscribe(&roles.victims, TOPIC).await;
        let publishers = net.publishers(&roles.publishing, TOPIC).await;

        let stream = Stream::start(publishers, rate);
        stream.wait_for(BEFORE, patience).await;
        let before = stream.accepted();
        let killed_at = Instant::now();
        net.kill(&roles.victims)
            .await
            .expect("victims can be killed");
        let kill_took = killed_at.elapsed();
        let whole_after = kill_took + net.wait_whole(patience).await;
        stream.wait_for(u64::from(rate), patience).await;
        Self {
            accepted: (before, stream.accepted()),
            stream,
            subscribers,
            kill_took,
            whole_after,
            _doomed: doomed,
        }
    }

    /// Ends the stream; every survivor must have each message once and in order. Returns the publishers, and the latencies of
    /// the messages around the kill in words.
    pub async fn end(self, patience: Duration) -> (Vec<Publisher>, String) {
        let publishers = self.stream.stop().await;
        stream::wait_delivered(&self.subscribers, &publishers, 1, patience).await;
        let (before, after) = &self.accepted;
        let mut latencies = Vec::new();
        for ((publisher, from), to) in publishers.iter().zip(before).zip(after) {
            let of = &publisher.peer_id;
            latencies.extend(stream::latencies(&self.subscribers, of, from + 1, *to));
        }
        latencies.sort_unstable();
        let [median, p99, longest] =
            [0.5, 0.99, 1.0].map(|q| traffic::quantile(&latencies, q).unwrap_or_default());
        let words = format!("median {median:?}, p99 {p99:?}, longest {longest:?}");
        (publishers, words)
    }
}
