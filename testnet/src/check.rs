//! Does every message reach every node, once and in order, and at what cost?

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use weft_rpc::types::SwarmCounters;

use crate::Testnet;
use crate::probe::{self, Probe};
use crate::status::{NodeState, state};
use crate::traffic::{self, Publisher, Subscriber};

/// How long the topic's swarm may take to become whole before the first message; a swarm of 50 takes about a second.
const SWARM_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long deliveries may make no progress before the check ends: longer than the bound after which a node tells a gap
/// (15 s), so that a loss is told by the node itself.
const PROGRESS_WAIT_MAX: Duration = Duration::from_secs(20);
/// How often books and counters are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long counters must stand still to be taken: a redundant copy is at most a round trip behind the first.
const COUNTERS_STILL: Duration = Duration::from_millis(300);
/// How long they may take to stand still.
const COUNTERS_WAIT_MAX: Duration = Duration::from_secs(5);
/// Daemons that subscribe at the same time.
const SUBSCRIBING_AT_ONCE_MAX: usize = 16;
/// Failures that a report lists; the rest is counted.
const FAILURES_MAX: usize = 20;

/// What to publish in a check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckOptions {
    /// How many nodes publish; none: four, or all where there are fewer.
    pub publishers: Option<usize>,
    /// Messages in all.
    pub messages: u64,
    /// Messages a second in all.
    pub rate: f64,
    /// Messages before those that count for redundancy, hops and latency; they must arrive as well.
    pub warmup: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            publishers: None,
            messages: 100,
            rate: 50.0,
            warmup: 0,
        }
    }
}

/// What `weft testnet check` answers. Warm-up messages count in none of the figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Messages published.
    pub published: u64,
    /// Deliveries that there must be: each message at each node, the publisher's included.
    pub expected: u64,
    /// Deliveries that there were, each message counted once a node.
    pub delivered: u64,
    /// Delivered by expected.
    pub delivery_ratio: f64,
    /// Links that messages travelled to nodes other than their publisher.
    pub hops: Hops,
    /// Relative message redundancy, m / (n - 1) - 1 a message (Plumtree, §4.1), from the nodes' own counters: copies of
    /// bundles received by first receptions, less one. Null if nothing was received.
    pub rmr: Option<f64>,
    /// Time to nodes other than the publisher; null if nothing was received.
    pub latency_ms: Option<LatencyMs>,
    /// Components of the swarm `network` after the run.
    pub components: usize,
    /// Whether the views of `network` were symmetric after the run.
    pub symmetric: bool,
    /// The topic of this run.
    pub topic: String,
    /// Nodes that took part.
    pub nodes: usize,
    /// Nodes that published.
    pub publishers: usize,
    /// Whether everything arrived once and in order, in one symmetric component.
    pub passed: bool,
    /// What speaks against that.
    pub failures: Vec<String>,
}

/// Links travelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Hops {
    /// Their mean.
    pub mean: f64,
    /// The most.
    pub max: u32,
}

/// Times from publication to reception in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyMs {
    /// The median.
    pub p50: f64,
    /// What 99 of 100 keep within.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Testnet {
    /// Publishes from several nodes to all that are up, and reports what came of it. Never hangs: what is missing when
    /// nothing moves any more is part of the report.
    pub async fn check(&self, options: CheckOptions) -> anyhow::Result<CheckReport> {
        if options.messages == 0 {
            bail!("a check publishes at least one message");
        }
        if !(options.rate.is_finite() && options.rate > 0.0) {
            bail!("the rate must be a positive number of messages a second");
        }
        let record = self.layout.load()?;
        let up: Vec<_> = record
            .nodes
            .iter()
            .filter(|node| state(node) == NodeState::Up)
            .collect();
        if up.is_empty() {
            bail!("no node of the testnet is up; start some: weft testnet restart n1 n2");
        }
        let wanted = options.publishers.unwrap_or(4.min(up.len()));
        if wanted == 0 || wanted > up.len() {
            bail!(
                "{wanted} publishers are wanted, but {} nodes are up",
                up.len()
            );
        }
        let topic = format!(
            "check/{:016x}",
            RandomState::new().hash_one(std::process::id())
        );

        let subscribers: Vec<Subscriber> = futures::stream::iter(up.iter().map(|node| {
            let dir = self.layout.node_dir(&node.name);
            let topic = topic.as_str();
            async move { Subscriber::start(&node.name, &dir, topic).await }
        }))
        .buffered(SUBSCRIBING_AT_ONCE_MAX)
        .try_collect()
        .await?;
        let mut probes: Vec<Probe> = up.iter().map(|node| self.probe(node)).collect();
        let mut failures = Failures::default();
        if !probe::wait_whole(&mut probes, &topic, Instant::now() + SWARM_WAIT_MAX).await {
            failures.add(format!(
                "the topic's swarm wasn't whole within {} s",
                SWARM_WAIT_MAX.as_secs()
            ));
        }

        // Spread over the nodes, for neighbours in the list may be neighbours in the overlay.
        let mut publishers = Vec::new();
        for number in 0..wanted {
            let node = up[number * up.len() / wanted];
            publishers.push(
                Publisher::connect(&node.name, &self.layout.node_dir(&node.name), &topic).await?,
            );
        }
        publish(&mut publishers, options.warmup, options.rate).await?;
        await_deliveries(&subscribers, &publishers).await;
        let warm: Vec<u64> = publishers.iter().map(Publisher::accepted).collect();
        let before = counters(&mut probes, &topic).await;
        publish(&mut publishers, options.messages, options.rate).await?;
        await_deliveries(&subscribers, &publishers).await;
        let after = counters(&mut probes, &topic).await;
        let network = probe::observe(&mut probes, "network").await;

        let mut figures = Figures::default();
        for (publisher, warm) in publishers.iter().zip(warm) {
            for subscriber in &subscribers {
                figures.take(publisher, subscriber, warm, &mut failures);
            }
        }
        for subscriber in &subscribers {
            let book = subscriber.book();
            book.gaps
                .iter()
                .for_each(|gap| failures.add(format!("{} was told a gap: {gap}", subscriber.name)));
            if let Some(reason) = &book.ended {
                failures.add(format!(
                    "{}'s subscription ended: {reason}",
                    subscriber.name
                ));
            }
            if book.foreign_count > 0 {
                failures.add(format!(
                    "{} got {} messages nobody sent",
                    subscriber.name, book.foreign_count
                ));
            }
        }
        if network.components != 1 {
            failures.add(format!("the network has {} components", network.components));
        }
        if !network.one_sided.is_empty() {
            failures.add(format!("{} edges are one-sided", network.one_sided.len()));
        }
        figures.latencies.sort_unstable();
        let expected = options.messages * subscribers.len() as u64;
        Ok(CheckReport {
            published: options.messages,
            expected,
            delivered: figures.delivered,
            delivery_ratio: ratio(figures.delivered, expected).unwrap_or(1.0),
            hops: Hops {
                mean: ratio(figures.hops_total, figures.latencies.len() as u64).unwrap_or(0.0),
                max: figures.hops_max,
            },
            rmr: redundancy(before, after),
            latency_ms: latency(&figures.latencies),
            components: network.components,
            symmetric: network.one_sided.is_empty(),
            topic,
            nodes: subscribers.len(),
            publishers: publishers.len(),
            passed: failures.is_empty(),
            failures: failures.listed(),
        })
    }
}

/// Publishes messages in turn, evenly in time.
async fn publish(publishers: &mut [Publisher], messages: u64, rate: f64) -> anyhow::Result<()> {
    let period = Duration::from_secs_f64((1.0 / rate).min(3_600.0)).max(Duration::from_micros(1));
    let mut ticks = tokio::time::interval(period);
    let count = publishers.len();
    for turn in 0..messages {
        ticks.tick().await;
        let index = usize::try_from(turn).unwrap_or(usize::MAX) % count;
        publishers[index]
            .publish()
            .await
            .context("the check was broken off")?;
    }
    Ok(())
}

/// Waits until every subscriber has every publisher's last message, or nothing comes any more.
async fn await_deliveries(subscribers: &[Subscriber], publishers: &[Publisher]) {
    let mut seen = 0;
    let mut progress = Instant::now();
    loop {
        let mut arrivals = 0;
        let mut whole = true;
        for subscriber in subscribers {
            let book = subscriber.book();
            for publisher in publishers
                .iter()
                .filter(|publisher| publisher.accepted() > 0)
            {
                let stream = book.stream(&publisher.peer_id);
                arrivals += stream.map_or(0, |stream| stream.arrivals.len());
                whole &= stream.and_then(traffic::StreamBook::last) >= Some(publisher.accepted());
            }
        }
        if arrivals > seen {
            seen = arrivals;
            progress = Instant::now();
        }
        if whole || progress.elapsed() >= PROGRESS_WAIT_MAX {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Sums the nodes' counters of the topic once they stand still.
async fn counters(probes: &mut [Probe], topic: &str) -> SwarmCounters {
    let deadline = Instant::now() + COUNTERS_WAIT_MAX;
    let mut last = SwarmCounters::default();
    let mut since = Instant::now();
    loop {
        let views = probe::ask_all(probes, async |probe| probe.view(topic).await).await;
        let mut sum = SwarmCounters::default();
        for view in views.into_iter().flatten() {
            sum.bundles_new += view.counters.bundles_new;
            sum.bundles_duplicate += view.counters.bundles_duplicate;
        }
        if sum != last {
            last = sum;
            since = Instant::now();
        }
        if since.elapsed() >= COUNTERS_STILL || Instant::now() >= deadline {
            return sum;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Copies received beyond the first, by first receptions.
fn redundancy(before: SwarmCounters, after: SwarmCounters) -> Option<f64> {
    let new = after.bundles_new.saturating_sub(before.bundles_new);
    let duplicate = after
        .bundles_duplicate
        .saturating_sub(before.bundles_duplicate);
    ratio(duplicate, new)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn latency(sorted: &[Duration]) -> Option<LatencyMs> {
    let ms = |q| traffic::quantile(sorted, q).map(|value| value.as_secs_f64() * 1_000.0);
    Some(LatencyMs {
        p50: ms(0.5)?,
        p99: ms(0.99)?,
        max: ms(1.0)?,
    })
}

/// What the books say of the counted messages.
#[derive(Debug, Default)]
struct Figures {
    delivered: u64,
    hops_total: u64,
    hops_max: u32,
    /// Of deliveries to nodes other than the publisher.
    latencies: Vec<Duration>,
}

impl Figures {
    /// Reads one subscriber's book of one publisher, whose first `warm` messages don't count.
    fn take(
        &mut self,
        publisher: &Publisher,
        subscriber: &Subscriber,
        warm: u64,
        failures: &mut Failures,
    ) {
        let sent = publisher.accepted();
        if sent == 0 {
            return;
        }
        let book = subscriber.book();
        let Some(stream) = book.stream(&publisher.peer_id) else {
            failures.add(format!(
                "{} got nothing from {}",
                subscriber.name, publisher.name
            ));
            return;
        };
        let mut seen = std::collections::BTreeSet::new();
        for arrival in stream
            .arrivals
            .iter()
            .filter(|arrival| arrival.number > warm)
        {
            if !seen.insert(arrival.number) {
                continue;
            }
            self.delivered += 1;
            if subscriber.peer_id != publisher.peer_id {
                self.hops_total += u64::from(arrival.hops);
                self.hops_max = self.hops_max.max(arrival.hops);
                self.latencies.push(arrival.latency);
            }
        }
        if stream.holds(1, sent) {
            return;
        }
        let missing: Vec<String> = stream
            .first()
            .filter(|first| *first > 1)
            .map(|first| (1, first - 1))
            .into_iter()
            .chain(stream.skipped.iter().copied())
            .chain(
                stream
                    .last()
                    .filter(|last| *last < sent)
                    .map(|last| (last + 1, sent)),
            )
            .map(|(from, to)| {
                if from == to {
                    from.to_string()
                } else {
                    format!("{from} to {to}")
                }
            })
            .collect();
        let mut words = Vec::new();
        if !missing.is_empty() {
            words.push(format!("lacks {}", missing.join(", ")));
        }
        if stream.repeated_count > 0 {
            words.push(format!("got {} again or late", stream.repeated_count));
        }
        failures.add(format!(
            "{} {} of {}'s {sent} messages",
            subscriber.name,
            words.join(" and "),
            publisher.name
        ));
    }
}

/// A bounded list of failures.
#[derive(Debug, Default)]
struct Failures {
    listed: Vec<String>,
    more: usize,
}

impl Failures {
    fn add(&mut self, failure: String) {
        if self.listed.len() < FAILURES_MAX {
            self.listed.push(failure);
        } else {
            self.more += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    fn listed(mut self) -> Vec<String> {
        if self.more > 0 {
            self.listed.push(format!("and {} more", self.more));
        }
        self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redundancy_is_of_the_counted_part() {
        let counters = |new, duplicate| SwarmCounters {
            bundles_new: new,
            bundles_duplicate: duplicate,
            ..Default::default()
        };
        assert_eq!(redundancy(counters(100, 50), counters(300, 60)), Some(0.05));
        assert_eq!(redundancy(counters(5, 5), counters(5, 5)), None);
    }

    #[test]
    fn failures_are_bounded() {
        let mut failures = Failures::default();
        (0..FAILURES_MAX + 3).for_each(|number| failures.add(number.to_string()));
        let listed = failures.listed();
        assert_eq!(listed.len(), FAILURES_MAX + 1);
        assert_eq!(listed.last().unwrap(), "and 3 more");
    }
}
