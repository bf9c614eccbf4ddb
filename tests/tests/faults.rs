//! Half of a network dies at once in mid-stream; nobody who is left loses anything that anybody who is left has said.

use std::time::{Duration, Instant};

use weft_testnet::traffic;
use weft_tests::net::{Net, names};
use weft_tests::stream::{self, Stream};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const NODES: usize = 20;
const RATE: u32 = 50;
/// The bound for being whole again.
const WHOLE_AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// How long the machine may take for what takes it well under a second when idle.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_of_ten_kills_at_once_lose_nothing_and_a_restarted_node_catches_up() {
    let mut net = Net::up(WEFT, NODES).await;
    // Every second one dies, among them one of those that others joined through.
    let victims = names((1..=NODES).filter(|number| number % 2 == 0));
    let survivors = names((1..=NODES).filter(|number| number % 2 == 1));
    let subscribers = net.subscribe(&survivors, "stream").await;
    let _doomed = net.subscribe(&victims, "stream").await;
    let publishing = names([1, 7, 13, 19]);
    let publishers = net.publishers(&publishing, "stream").await;
    let ids: Vec<String> = publishers
        .iter()
        .map(|publisher| publisher.peer_id.clone())
        .collect();

    let stream = Stream::start(publishers, RATE);
    stream.wait_for(100, PATIENCE).await;
    let before = stream.accepted();

    let killed_at = Instant::now();
    net.kill(&victims).await.expect("victims can be killed");
    let kill_took = killed_at.elapsed();
    let whole_after = kill_took + net.wait_whole(PATIENCE).await;
    stream.wait_for(u64::from(RATE), PATIENCE).await;
    let during = stream.accepted();
    stream.wait_for(u64::from(RATE) * 2, PATIENCE).await;

    // One comes back while the stream goes on: from its first message on, it must have everything.
    let returned = vec![victims[0].clone()];
    let restarted_at = Instant::now();
    net.restart(&returned)
        .await
        .expect("a killed node can be restarted");
    let returned = net.subscribe(&returned, "stream").await;
    let back_after = restarted_at.elapsed();
    let whole_with_it = net.wait_whole(PATIENCE).await;
    stream.wait_for(100, PATIENCE).await;

    let publishers = stream.stop().await;
    stream::wait_delivered(&subscribers, &publishers, 1, PATIENCE).await;
    let first = returned[0]
        .book()
        .streams
        .values()
        .filter_map(traffic::StreamBook::first)
        .max()
        .unwrap_or(1);
    stream::wait_delivered(&returned, &publishers, first, PATIENCE).await;

    let mut crash = Vec::new();
    for ((id, from), to) in ids.iter().zip(&before).zip(&during) {
        crash.extend(stream::latencies(&subscribers, id, from + 1, *to));
    }
    crash.sort_unstable();
    println!(
        "{NODES} nodes, {RATE} messages/s, kill -9 of {} at once (took {kill_took:?})\n\
         whole again after {whole_after:?} (bound {WHOLE_AGAIN_WITHIN:?})\n\
         published {} messages, {} of them from the kill until one second after the network was whole again\n\
         every survivor has each of them once and in order\n\
         latency of those: median {:?}, p99 {:?}, longest {:?}\n\
         restart of one: answered and subscribed after {back_after:?}, network whole {whole_with_it:?} later, \
         nothing missing since its number {first}",
        victims.len(),
        publishers
            .iter()
            .map(traffic::Publisher::accepted)
            .sum::<u64>(),
        during.iter().sum::<u64>() - before.iter().sum::<u64>(),
        traffic::quantile(&crash, 0.5).unwrap_or_default(),
        traffic::quantile(&crash, 0.99).unwrap_or_default(),
        traffic::quantile(&crash, 1.0).unwrap_or_default(),
    );
    assert!(
        whole_after <= WHOLE_AGAIN_WITHIN,
        "whole again only after {whole_after:?}"
    );
    net.down().await;
}
