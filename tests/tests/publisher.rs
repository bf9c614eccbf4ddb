//! A publisher's daemon that nobody can reach is killed in the middle of publishing, again and again: once it is back among the others,
//! what it had acknowledged reaches everybody, in order and once, though nobody publishes there any more.
//!
//! `WEFT_PUBLISHER_ROUNDS` is how often it is killed (9: so often that the first run lies eight runs back).

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use weft_rpc::payload::Payload;
use weft_rpc::types::{Ack, PublishParams};
use weft_rpc::{Client, method};
use weft_testnet::traffic::{StreamBook, Subscriber};
use weft_tests::net::{Net, names};
use weft_tests::{setting, wait};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const TOPIC: &str = "stream";
/// Messages after which it is killed while it goes on.
const BEFORE: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes numbered messages from `number` on, one after the other, until the daemon is gone; returns the last that it acknowledged.
async fn publish(dir: PathBuf, number: u64, enough: oneshot::Sender<()>) -> u64 {
    let client = Client::connect(&dir).await;
    let client = client.expect("it runs");
    let (mut last, mut enough) = (number - 1, Some(enough));
    loop {
        let text = format!("#{} of n1", last + 1);
        let params = PublishParams {
            topic: TOPIC.to_owned(),
            messages: vec![Payload::of(text.as_bytes()).into()],
            request_id: None,
            via: None,
            ack: Some(Ack::Local),
        };
        if client.call::<method::TopicPublish>(params).await.is_err() {
            return last;
        }
        last += 1;
        if last == number + BEFORE {
            // Whoever waits for it is there until it is sent.
            let _ = enough.take().map(|enough| enough.send(()));
        }
    }
}

/// The numbers in these ranges that a subscriber lacks, and what came out of order or again.
fn wrong(subscriber: &Subscriber, publisher: &str, acknowledged: &[(u64, u64)]) -> Vec<u64> {
    let book = subscriber.book();
    let stream = book.stream(publisher);
    let arrivals = stream.map_or(&[][..], |stream| &stream.arrivals);
    let came: Vec<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
    let again = stream.map_or(0, |stream: &StreamBook| stream.repeated_count);
    assert_eq!(again, 0, "again, or out of order: {came:?}");
    let owed = acknowledged.iter().flat_map(|(from, to)| *from..=*to);
    owed.filter(|number| came.binary_search(number).is_err())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_publisher_has_acknowledged_reaches_everybody() {
    let mut net = Net::up(WEFT, 6).await;
    let victim = names([1]);
    let subscribers = net.subscribe(&names(2..=6), TOPIC).await;
    let publisher = net.publishers(&victim, TOPIC).await[0].peer_id.clone();
    let (mut acknowledged, mut number) = (Vec::new(), 1);
    let rounds = setting("WEFT_PUBLISHER_ROUNDS", 9);
    for _ in 0..rounds {
        // Nothing leaves it before it dies.
        net.partition(&victim).await.expect("they run");
        let (now, enough) = oneshot::channel();
        let publishing = tokio::spawn(publish(net.node_dir("n1"), number, now));
        enough.await.expect("it gets that far");
        net.kill(&victim).await.expect("it runs");
        let last = publishing.await.expect("it ends with the daemon");
        acknowledged.push((number, last));
        // One more may have been on its way: whether it counts, nobody knows.
        number = last + 2;
        net.restart(&victim).await.expect("it was killed");
        net.heal().await.expect("they run");
    }
    wait::until_async("all that was acknowledged", PATIENCE, async || {
        let mut lacking = subscribers.iter();
        lacking
            .all(|it| wrong(it, &publisher, &acknowledged).is_empty())
            .then_some(())
    })
    .await;
    let count: u64 = acknowledged.iter().map(|(from, to)| to - from + 1).sum();
    println!(
        "{rounds} kills of a publisher that is cut off: all {count} acknowledged messages are at all {} subscribers",
        subscribers.len()
    );
    net.down().await;
}
