//! Under a steady stream a third of the nodes dies and comes back again and again, or the network is split in halves that both go on
//! publishing; everybody has everything all the same.
//!
//! `WEFT_CHURN_NODES`, `WEFT_CHURN_RATE` (messages a second), `WEFT_CHURN_ROUNDS` (kills), `WEFT_CHURN_ROUND_S` (seconds from one to
//! the next), `WEFT_CHURN_SEED` (who dies) and `WEFT_SPLIT_S` (seconds of the split) make it longer:
//!
//! ```console
//! $ export WEFT_CHURN_NODES=20 WEFT_CHURN_ROUNDS=6 WEFT_CHURN_ROUND_S=10 WEFT_SPLIT_S=30
//! $ cargo test -p weft-tests --test churn -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_testnet::traffic::{self, Publisher, StreamBook, Subscriber};
use weft_tests::draw::Draw;
use weft_tests::net::{Net, names};
use weft_tests::stream::{self, Stream};
use weft_tests::{alone, setting, wait};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const TOPIC: &str = "stream";
/// Those that publish, and don't die: what a dying publisher may lose is another question.
const PUBLISHING: usize = 4;
/// The bound for having all that the other half has published.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);
/// How long the machine may take for what takes it seconds when idle.
const PATIENCE: Duration = Duration::from_secs(90);

/// What may come again to a reader for each time that its daemon was killed: what was delivered in the last moments and was on its way to
/// disk, a tenth of a second's on an idle machine.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes from each stream of a subscriber what came again, and returns how many messages that were. Order shows as before: what was
/// skipped would not be made good by it.
fn forgive_repeats(subscriber: &Subscriber) -> u64 {
    let mut book = subscriber.book();
    let streams = book.streams.values_mut();
    streams
        .map(|stream| std::mem::take(&mut stream.repeated_count))
        .sum()
}

/// Waits until the last message of each publisher is at each subscriber.
async fn wait_complete(subscribers: &[Subscriber], publishers: &[Publisher]) {
    let lacking = |subscriber: &Subscriber| {
        let book = subscriber.book();
        let lacks = |of: &&Publisher| {
            let last = book.stream(&of.peer_id).and_then(StreamBook::last);
            last < Some(of.accepted())
        };
        publishers.iter().filter(lacks).count()
    };
    wait::until_async("the last messages", PATIENCE, async || {
        let lacking: usize = subscribers.iter().map(lacking).sum();
        (lacking == 0).then_some(())
    })
    .await;
}

/// Lets the subscribers at these nodes go on where they stopped.
async fn go_on(net: &Net, subscribers: &mut [Subscriber], at: &[String]) {
    for subscriber in subscribers {
        if at.contains(&subscriber.name) {
            let dir = net.node_dir(&subscriber.name);
            if let Err(error) = subscriber.go_on(&dir).await {
                panic!("{error:#}");
            }
        }
    }
}

fn nodes() -> usize {
    usize::try_from(setting("WEFT_CHURN_NODES", 8)).expect("some nodes")
}

/// Messages a second in all.
fn rate() -> u32 {
    u32::try_from(setting("WEFT_CHURN_RATE", 100)).expect("a rate")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_dies_again_and_again_and_everybody_has_everything() {
    let _alone = alone().await;
    let (nodes, rate) = (nodes(), rate());
    let rounds = setting("WEFT_CHURN_ROUNDS", 2);
    let round = Duration::from_secs(setting("WEFT_CHURN_ROUND_S", 5));
    let seed = setting("WEFT_CHURN_SEED", 1);
    let mut draw = Draw::new(seed);
    let mut net = Net::up(WEFT, nodes).await;
    let all = names(1..=nodes);
    let mut subscribers = net.subscribe(&all, TOPIC).await;
    let publishers = net.publishers(&all[..PUBLISHING], TOPIC).await;
    let stream = Stream::start(publishers, rate);
    // A second for the trees.
    stream.wait_for(u64::from(rate), PATIENCE).await;

    let began = Instant::now();
    let (mut deaths, mut away) = (BTreeMap::<String, u64>::new(), Duration::ZERO);
    // Dead for a third of the round, so that what is published meanwhile has to be made good.
    let of_round = |thirds: u64| u64::from(rate) * round.as_secs() * thirds / 3;
    for _ in 0..rounds {
        let victims = draw.some(nodes / 3, all[PUBLISHING..].to_vec());
        for victim in &victims {
            *deaths.entry(victim.clone()).or_default() += 1;
        }
        let killed_at = Instant::now();
        net.kill(&victims).await.expect("they run");
        stream.wait_for(of_round(1), PATIENCE).await;
        net.restart(&victims).await.expect("they were killed");
        go_on(&net, &mut subscribers, &victims).await;
        away = away.max(killed_at.elapsed());
        stream.wait_for(of_round(2), PATIENCE).await;
    }
    let (lasted, ended_at) = (began.elapsed(), Instant::now());
    let publishers = stream.stop().await;
    wait_complete(&subscribers, &publishers).await;
    let complete = ended_at.elapsed();
    let mut again = 0;
    for subscriber in &subscribers {
        let Some(deaths) = deaths.get(&subscriber.name) else {
            continue;
        };
        let repeats = forgive_repeats(subscriber);
        let most = deaths * u64::from(rate) * AGAIN.as_secs();
        let name = &subscriber.name;
        assert!(repeats <= most, "{name} got {repeats} messages again");
        again += repeats;
    }
    stream::wait_delivered(&subscribers, &publishers, 1, PATIENCE).await;
    let mut latencies = Vec::new();
    for publisher in &publishers {
        let to = publisher.accepted();
        latencies.extend(stream::latencies(&subscribers, &publisher.peer_id, 1, to));
    }
    latencies.sort_unstable();
    let [median, p99, longest] =
        [0.5, 0.99, 1.0].map(|q| traffic::quantile(&latencies, q).unwrap_or_default());
    println!(
        "{nodes} nodes, {rate} messages/s for {lasted:.0?}, {} kills in {rounds} rounds (seed {seed}), away for {away:.1?} at most: \
         each of {} messages is at all {} subscribers, in order, {complete:.1?} after the last, and once but for {again} \
         that came again to those whose daemon was killed\n\
         latency, those who were away included: median {median:?}, p99 {p99:?}, longest {longest:?}",
        deaths.values().sum::<u64>(),
        publishers.iter().map(Publisher::accepted).sum::<u64>(),
        subscribers.len(),
    );
    net.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_that_both_go_on_have_everything_soon_after_they_meet_again() {
    let _alone = alone().await;
    let (nodes, rate) = (nodes(), u64::from(rate()));
    let split = Duration::from_secs(setting("WEFT_SPLIT_S", 5));
    let mut net = Net::up(WEFT, nodes).await;
    let all = names(1..=nodes);
    let (half, rest) = all.split_at(nodes / 2);
    let subscribers = net.subscribe(&all, TOPIC).await;
    let publishing = [&half[..PUBLISHING / 2], &rest[..PUBLISHING / 2]].concat();
    let publishers = net.publishers(&publishing, TOPIC).await;
    let ids: Vec<String> = publishers.iter().map(|it| it.peer_id.clone()).collect();
    let stream = Stream::start(publishers, self::rate());
    stream.wait_for(rate, PATIENCE).await;

    let began = stream.total();
    net.partition(half).await.expect("they run");
    wait::until_async("two networks", PATIENCE, async || {
        (net.status().await.components == 2).then_some(())
    })
    .await;
    stream
        .wait_for(rate * split.as_secs(), PATIENCE + split)
        .await;
    let apart = net.status().await.components;
    assert_eq!(apart, 2, "they met during the split");
    let holding = |to: &[u64]| {
        let has_all = |subscriber: &&Subscriber| {
            let book = subscriber.book();
            let mut of = ids.iter().zip(to);
            of.all(|(id, to)| book.holds(id, 1, *to))
        };
        subscribers.iter().filter(has_all).count()
    };
    let (accepted, total) = (stream.accepted(), stream.total());
    assert_eq!(holding(&accepted), 0, "a split that lets messages through");
    let healed_at = Instant::now();
    net.heal().await.expect("they run");
    wait::until_async("all at all", PATIENCE, async || {
        (holding(&accepted) == subscribers.len()).then_some(())
    })
    .await;
    let caught_up = healed_at.elapsed();
    stream.wait_for(rate, PATIENCE).await;
    let publishers = stream.stop().await;
    stream::wait_delivered(&subscribers, &publishers, 1, PATIENCE).await;
    let whole = net.wait_whole(PATIENCE).await;
    println!(
        "{nodes} nodes, {rate} messages/s, split in halves for {split:?} with publishers in both: each of {} messages of that time \
         is at all {} subscribers, in order and once, {caught_up:.1?} after healing (bound {CAUGHT_UP_WITHIN:?}); the stream went on; \
         whole {whole:.1?} after it",
        total - began,
        subscribers.len(),
    );
    assert!(caught_up <= CAUGHT_UP_WITHIN, "only after {caught_up:?}");
    net.down().await;
}
