//! The store on real processes that are killed: who is left goes on, and nothing that was acknowledged is lost.
//!
//! `WEFT_KV_S` is how many seconds are measured after the kill, `WEFT_KV_ROUNDS` how often a node is killed under load:
//!
//! ```console
//! $ WEFT_KV_S=60 WEFT_KV_ROUNDS=100 cargo test -p weft-tests --test kv_faults -- --nocapture
//! ```

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use weft_rpc::{CallError, Kind};
use weft_tests::kv::{Acknowledged, client, get, put, settled, status};
use weft_tests::net::{Net, names};
use weft_tests::setting;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const NODES: usize = 10;
/// Keys that are written before anybody dies.
const KEYS: usize = 300;
/// Writes of a round in which somebody dies.
const WRITES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_when_three_of_ten_die_and_all_is_there_when_all_have_died() {
    let mut net = Net::up(WEFT, NODES).await;
    let all = names(1..=NODES);
    settled(&net, &all).await;
    let writer = client(&net, "n4").await;
    let mut acknowledged = Acknowledged::default();
    for number in 0..KEYS {
        let key = format!("key {number}");
        let by = put(&writer, &key, "first").await.expect("all are there");
        acknowledged.wrote(&key, "first".to_owned(), by);
    }
    let store = status(&writer).await.store;
    assert_eq!((store.hints_kept, store.read_repairs), (0, 0));

    net.kill(&names([1, 2, 3])).await.expect("they run");
    let reader = client(&net, "n9").await;
    let (mut puts, mut gets, mut missed, mut stale) = (0, 0, 0, 0);
    let until = Instant::now() + Duration::from_secs(setting("WEFT_KV_S", 5));
    let mut number = 0;
    while Instant::now() < until {
        let key = format!("key {}", number % KEYS);
        let value = format!("value {number}");
        number += 1;
        let known = acknowledged.value(&key).to_owned();
        match get(&reader, &key).await {
            Ok(got) => stale += u64::from(!got.values.contains(&known)),
            // A key all of whose replicas were killed has no live holder: that it is not there may not be said.
            Err(CallError::Rpc(error)) if error.kind == Kind::QuorumNotMet => missed += 1,
            Err(error) => panic!("{key}: {error}"),
        }
        gets += 1;
        match put(&writer, &key, &value).await {
            Ok(by) => acknowledged.wrote(&key, value, by),
            Err(error) => panic!("{key} of {puts}: {error}"),
        }
        puts += 1;
    }
    println!(
        "3 of {NODES} killed, {} s: {puts} puts, all acknowledged; {gets} gets, {missed} without a quorum, {stale} stale",
        setting("WEFT_KV_S", 5)
    );
    // One or two of a hundred and twenty keys had all three replicas killed, and are written again with the first put.
    assert!(missed <= 2 + gets / 20, "{missed} of {gets}");
    net.restart(&names([1, 2, 3]))
        .await
        .expect("they were killed");
    settled(&net, &all).await;
    println!("all back: {}", acknowledged.check(&reader).await);

    net.kill(&all).await.expect("they run");
    net.restart(&all).await.expect("they were killed");
    settled(&net, &all).await;
    let checked = acknowledged.check(&client(&net, "n7").await).await;
    println!("all {NODES} killed and back: {checked}");
    net.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whoever_is_killed_whenever() {
    let mut net = Net::up(WEFT, 6).await;
    let all = names(1..=6);
    settled(&net, &all).await;
    let mut acknowledged = Acknowledged::default();
    let rounds = setting("WEFT_KV_ROUNDS", 6);
    let (mut answered, mut unanswered) = (0, 0);
    for round in 0..rounds {
        // Each in turn, the writer itself among them.
        let victim = all[round as usize % all.len()].clone();
        let next = &all[(round as usize + 1) % all.len()];
        let writers = [client(&net, &victim).await, client(&net, next).await];
        let (now, at_once) = oneshot::channel();
        // It dies while the write is under way that follows so many others.
        let dies_after = (round as usize * 7) % WRITES;
        let writing = async {
            let mut now = Some(now);
            let (mut done, mut lost) = (Vec::new(), 0);
            for number in 0..WRITES {
                if number == dies_after {
                    // Whoever waits for it is there until it is sent.
                    let _ = now.take().map(|now| now.send(()));
                }
                let key = format!("round {round} {number}");
                match put(&writers[number % 2], &key, "kept").await {
                    Ok(by) => done.push((key, by)),
                    Err(_) => lost += 1,
                }
            }
            (done, lost)
        };
        let killing = async {
            at_once.await.expect("it is sent");
            net.kill(std::slice::from_ref(&victim))
                .await
                .expect("it runs");
        };
        let ((done, lost), ()) = tokio::join!(writing, killing);
        answered += done.len();
        unanswered += lost;
        for (key, by) in done {
            acknowledged.wrote(&key, "kept".to_owned(), by);
        }
        net.restart(std::slice::from_ref(&victim))
            .await
            .expect("it was killed");
        settled(&net, &all).await;
    }
    println!("{rounds} kills under load: {answered} writes acknowledged, {unanswered} not");
    assert!(answered > 0);
    let checked = acknowledged.check(&client(&net, "n2").await).await;
    println!("then: {checked}");
    // One at a time came and went, and was a replica again before the next one did.
    assert_eq!(checked.stale, 0, "{checked}");
    net.down().await;
}
