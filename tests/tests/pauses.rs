//! A quarter of a network hangs without dying; the others don't notice, and the hung ones miss nothing.

use std::time::{Duration, Instant};

use weft_testnet::traffic;
use weft_tests::net::{Net, names};
use weft_tests::stream::{self, Stream};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const NODES: usize = 20;
const RATE: u32 = 50;
/// The bound for catching up after SIGCONT.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);
/// How much longer the slowest of a hundred messages may take while peers hang: until a hung peer is noticed, messages
/// that only it would have passed on wait for the graft timer.
const P99_MAX: Duration = Duration::from_millis(1_500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds of the pause: `WEFT_PAUSE_S`, or just longer than it takes to notice a hung peer.
fn pause_seconds() -> u64 {
    std::env::var("WEFT_PAUSE_S")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_lose_nothing_while_five_hang_and_the_five_catch_up() {
    let mut net = Net::up(WEFT, NODES).await;
    let hanging = names([4, 8, 12, 16, 20]);
    let awake = names((1..=NODES).filter(|number| number % 4 != 0));
    let awake_subscribers = net.subscribe(&awake, "stream").await;
    let hanging_subscribers = net.subscribe(&hanging, "stream").await;
    let publishers = net.publishers(&names([1, 6, 11, 18]), "stream").await;
    let ids: Vec<String> = publishers
        .iter()
        .map(|publisher| publisher.peer_id.clone())
        .collect();

    let stream = Stream::start(publishers, RATE);
    // The first second is the tree's; then comes what the pause is compared with.
    stream.wait_for(u64::from(RATE), PATIENCE).await;
    let calm = stream.accepted();
    stream.wait_for(u64::from(RATE) * 4, PATIENCE).await;
    let paused = stream.accepted();
    net.pause(&hanging).await.expect("nodes can be paused");
    let seconds = pause_seconds();
    let at_most = Duration::from_secs(seconds) + PATIENCE;
    stream.wait_for(u64::from(RATE) * seconds, at_most).await;
    let resumed = stream.accepted();
    let resumed_at = Instant::now();
    net.resume(&hanging).await.expect("nodes can be resumed");

    // What was published up to now is owed to the hung ones within the bound, while the stream goes on.
    weft_tests::wait::until_async("the hung ones have caught up", PATIENCE, async || {
        let whole = hanging_subscribers.iter().all(|subscriber| {
            let book = subscriber.book();
            ids.iter()
                .zip(&resumed)
                .all(|(id, to)| book.holds(id, 1, *to))
        });
        whole.then_some(())
    })
    .await;
    let caught_up = resumed_at.elapsed();
    stream.wait_for(u64::from(RATE), PATIENCE).await;
    let publishers = stream.stop().await;
    stream::wait_delivered(&awake_subscribers, &publishers, 1, PATIENCE).await;
    stream::wait_delivered(&hanging_subscribers, &publishers, 1, PATIENCE).await;
    let whole_after = net.wait_whole(PATIENCE).await;

    let window = |from: &[u64], to: &[u64]| {
        let mut latencies = Vec::new();
        for ((id, from), to) in ids.iter().zip(from).zip(to) {
            latencies.extend(stream::latencies(&awake_subscribers, id, from + 1, *to));
        }
        latencies.sort_unstable();
        let at = |q| traffic::quantile(&latencies, q).unwrap_or_default();
        (at(0.5), at(0.99), at(1.0))
    };
    let calm = window(&calm, &paused);
    let hung = window(&paused, &resumed);
    println!(
        "{NODES} nodes, {RATE} messages/s, SIGSTOP of {} for {seconds} s\n\
         the others have everything; latency (median, p99, longest) before {calm:?}, during {hung:?}\n\
         after SIGCONT the five hold everything in order after {caught_up:?} (bound {CAUGHT_UP_WITHIN:?}); \
         whole {whole_after:?} after the stream",
        hanging.len()
    );
    assert!(
        caught_up <= CAUGHT_UP_WITHIN,
        "caught up only after {caught_up:?}"
    );
    assert!(
        hung.1 <= P99_MAX.max(calm.1 * 2),
        "p99 {:?} during the pause, {:?} before",
        hung.1,
        calm.1
    );
    net.down().await;
}
