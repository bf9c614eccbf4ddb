//! A subscriber's client, or a peer's daemon, that is stopped (SIGSTOP) in the middle of it all, and what that costs the others: pairs
//! of runs at full rate, without it and with it.
//!
//! `WEFT_SLOW_S` says how long each run lasts (3 s by default, 60 for the figures), `WEFT_SLOW_PAIRS` how many pairs (3).

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use weft_tests::command::SOON;
use weft_tests::load::{Load, Run, TOPIC, median};
use weft_tests::{alone, setting};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// What it may take of the others' throughput on a machine that does other things (the goal is 5 % of a minute), and how long the
/// others wait for a peer until its silence tells.
const COST_MAX: f64 = 0.3;
const HELD_UP: Duration = Duration::from_millis(1_500);

fn run_lasts() -> Duration {
    Duration::from_secs(setting("WEFT_SLOW_S", 3))
}

/// Holds pairs of runs against each other.
fn judge(what: &str, pairs: &[(Run, Run)]) {
    let costs = pairs.iter().map(|(plain, with)| {
        println!(
            "{:.0} messages/s without, {:.0} with",
            plain.rate, with.rate
        );
        1.0 - with.rate / plain.rate
    });
    let cost = median(&costs.collect::<Vec<_>>());
    let (pairs, lasts) = (pairs.len(), run_lasts());
    println!(
        "{what}, {pairs} pairs of {lasts:?}: costs {:.1} % of throughput (median)",
        cost * 100.0
    );
    let cost_max = COST_MAX + HELD_UP.as_secs_f64() / lasts.as_secs_f64();
    assert!(cost < cost_max, "{:.1} % of throughput", cost * 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_client_costs_the_others_little() {
    let _alone = alone().await;
    let mut load = Load::start(WEFT, 4, 4).await;
    // What a full history takes, both runs of the first pair shall have alike.
    load.run(run_lasts()).await;
    let mut pairs = Vec::new();
    for _ in 0..setting("WEFT_SLOW_PAIRS", 3) {
        let plain = load.run(run_lasts()).await;
        let weft = load.net.weft(WEFT);
        let mut client = weft.start(["--node", "n2", "sub", TOPIC], Stdio::null());
        client.wait_stderr("subscribed", SOON);
        client.signal(Signal::STOP);
        let with = load.run(run_lasts()).await;
        pairs.push((plain, with));
    }
    judge("a stopped client", &pairs);
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_peer_costs_the_others_little() {
    let _alone = alone().await;
    let mut load = Load::start(WEFT, 5, 4).await;
    let fifth = ["n5".to_owned()];
    load.run(run_lasts()).await;
    let mut pairs = Vec::new();
    for _ in 0..setting("WEFT_SLOW_PAIRS", 3) {
        // Dead, so that what it does for its part is in neither.
        load.net.kill(&fifth).await.expect("it runs");
        let plain = load.run(run_lasts()).await;
        load.net.restart(&fifth).await.expect("it was killed");
        let subscribed = load.net.subscribe(&fifth, TOPIC).await;
        load.wait_for_neighbour(WEFT, &subscribed[0].peer_id).await;
        load.net.pause(&fifth).await.expect("it runs");
        let with = load.run(run_lasts()).await;
        pairs.push((plain, with));
    }
    judge("a stopped peer", &pairs);
    load.end().await;
}
