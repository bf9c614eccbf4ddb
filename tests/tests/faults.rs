//! Half of a network dies at once in mid-stream; nobody who is left loses anything that anybody who is left has said.

use std::time::{Duration, Instant};

use weft_testnet::traffic;
use weft_tests::crash::{Crash, Roles};
use weft_tests::net::{Net, names};
use weft_tests::stream;

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
    let roles = Roles {
        victims: names((1..=NODES).filter(|number| number % 2 == 0)),
        survivors: names((1..=NODES).filter(|number| number % 2 == 1)),
        publishing: names([1, 7, 13, 19]),
    };
    let crash = Crash::cause(&mut net, &roles, RATE, PATIENCE).await;
    let (kill_took, whole_after) = (crash.kill_took, crash.whole_after);
    let (before, after) = &crash.accepted;
    let around_the_kill = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    crash.stream.wait_for(u64::from(RATE) * 2, PATIENCE).await;

    // One comes back while the stream goes on: from its first message on, it must have everything.
    let returned = vec![roles.victims[0].clone()];
    let restarted_at = Instant::now();
    net.restart(&returned)
        .await
        .expect("a killed node can be restarted");
    let returned = net.subscribe(&returned, "stream").await;
    let back_after = restarted_at.elapsed();
    let whole_with_it = net.wait_whole(PATIENCE).await;
    crash.stream.wait_for(100, PATIENCE).await;

    let (publishers, latency) = crash.end(PATIENCE).await;
    let first = returned[0]
        .book()
        .streams
        .values()
        .filter_map(traffic::StreamBook::first)
        .max()
        .unwrap_or(1);
    stream::wait_delivered(&returned, &publishers, first, PATIENCE).await;

    println!(
        "{NODES} nodes, {RATE} messages/s, kill -9 of {} at once (took {kill_took:?})\n\
         whole again after {whole_after:?} (bound {WHOLE_AGAIN_WITHIN:?})\n\
         published {} messages, {around_the_kill} of them from the kill until one second after the network was whole again\n\
         every survivor has each of them once and in order\n\
         latency of those: {latency}\n\
         restart of one: answered and subscribed after {back_after:?}, network whole {whole_with_it:?} later, \
         nothing missing since its number {first}",
        roles.victims.len(),
        publishers
            .iter()
            .map(traffic::Publisher::accepted)
            .sum::<u64>(),
    );
    assert!(
        whole_after <= WHOLE_AGAIN_WITHIN,
        "whole again only after {whole_after:?}"
    );
    net.down().await;
}
