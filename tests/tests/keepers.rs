//! Topics outlive their members: keepers hold what was published, and publishers hear from them. On real processes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::command::{SOON, Weft};
use weft_tests::net::Base;
use weft_tests::{setting, wait};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const NODES: usize = 8;

/// What `topic members` of a node says of who keeps a topic.
fn keepers(weft: &Weft, node: &str, topic: &str) -> Vec<String> {
    let args = ["--node", node, "--json", "topic", "members", topic];
    let members = weft.run(args);
    if !members.succeeded() {
        return Vec::new();
    }
    let members = members.json();
    let members = members["members"].as_array().unwrap().clone();
    let keeps = members.iter().filter(|it| it["keeper"] == true);
    keeps
        .map(|it| it["peer_id"].as_str().unwrap().to_owned())
        .collect()
}

fn names_of(weft: &Weft, peers: &[String]) -> Vec<String> {
    let status = weft
        .run(["--json", "testnet", "status"])
        .expect_code(0)
        .json();
    let nodes = status["nodes"].as_array().unwrap().clone();
    let named = |node: &&Value| peers.iter().any(|peer| node["peer_id"] == **peer);
    let named = nodes.iter().filter(named);
    named
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect()
}

fn numbered(count: u64) -> Vec<String> {
    (1..=count)
        .map(|number| format!("message {number}"))
        .collect()
}

/// Publishes that many lines from n1, acknowledged by keepers; returns these by name.
fn publish(weft: &Weft, topic: &str, count: u64) -> Vec<String> {
    let lines = numbered(count).join("\n");
    let args = [
        "--node", "n1", "--json", "pub", topic, "-", "--ack", "keepers",
    ];
    let done = weft.run_with_input(args, lines.as_bytes()).expect_code(0);
    let text = done.text();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let keepers = last["keepers"].as_array().unwrap();
    let keepers: Vec<String> = keepers
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    assert!(keepers.len() >= 2, "{last}");
    names_of(weft, &keepers)
}

/// What a new subscriber reads from the beginning, a line each.
fn replay(weft: &Weft, node: &str, topic: &str, count: u64) -> Vec<String> {
    let count = count.to_string();
    let args = [
        "--node", node, "sub", topic, "--from", "earliest", "--count", &count,
    ];
    let done = weft.start(args, Stdio::null()).wait(SOON).expect_code(0);
    done.text().lines().map(str::to_owned).collect()
}

#[test]
fn a_topic_outlives_its_publisher_and_its_subscribers() {
    let count = setting("WEFT_KEPT_MESSAGES", 3_000);
    let base = Base::new();
    let weft = base.weft(WEFT);
    let nodes = NODES.to_string();
    weft.run(["testnet", "up", "--nodes", &nodes, "--detach"])
        .expect_code(0);
    let kept_by = publish(&weft, "news", count);
    // Whoever was there and is no keeper dies, the publisher first.
    let others: Vec<String> = (1..=NODES)
        .map(|number| format!("n{number}"))
        .filter(|name| !kept_by.contains(name))
        .collect();
    let (late, dead) = others.split_last().unwrap();
    let kill: Vec<&str> = ["testnet", "kill"]
        .into_iter()
        .chain(dead.iter().map(String::as_str))
        .collect();
    weft.run(kill).expect_code(0);
    let began = Instant::now();
    assert_eq!(replay(&weft, late, "news", count), numbered(count));
    let took = began.elapsed();
    println!("{count} messages read from the beginning in {took:?}");

    // One keeper after the other goes; each time another takes over what there is.
    let revive: Vec<&str> = ["testnet", "restart"]
        .into_iter()
        .chain(dead.iter().map(String::as_str))
        .collect();
    weft.run(revive).expect_code(0);
    weft.run(["--node", late, "pub", "news", "last", "--ack", "keepers"])
        .expect_code(0);
    for keeper in &kept_by {
        weft.run(["testnet", "kill", keeper]).expect_code(0);
        wait::until("two keepers hold all", Duration::from_secs(90), || {
            let keepers = keepers(&weft, late, "news");
            let holding = names_of(&weft, &keepers).into_iter().filter(|name| {
                let args = ["--node", name, "--json", "topic", "stats", "news"];
                let stats = weft.run(args);
                stats.succeeded() && stats.json()["messages_held"].as_u64() > Some(count)
            });
            (holding.count() >= 2).then_some(())
        });
    }
    let reader = dead.last().unwrap();
    let mut expected = numbered(count);
    expected.push("last".to_owned());
    let mut got = replay(&weft, reader, "news", count + 1);
    // Two publishers: each one's order holds, not that between them.
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    weft.run(["testnet", "down"]).expect_code(0);
}

#[test]
fn who_is_no_member_publishes_through_keepers_and_hears_from_them() {
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "8", "--detach"])
        .expect_code(0);
    let args = ["--node", "n2", "sub", "news", "--count", "2"];
    let mut subscriber = weft.start(args, Stdio::null());
    subscriber.wait_stderr("subscribed", SOON);
    // Whoever keeps the topic publishes as a member does.
    let stands = |name: &str| {
        let stats = ["--node", name, "--json", "topic", "stats", "news"];
        let stats = weft.run(stats);
        stats.succeeded() && stats.json()["keeps"] == true
    };
    wait::until("three keepers", SOON, || {
        let keepers = keepers(&weft, "n2", "news").len() + usize::from(stands("n2"));
        (keepers == 3).then_some(())
    });
    let others = (3..=NODES).map(|number| format!("n{number}"));
    let other = others.into_iter().find(|name| !stands(name)).unwrap();
    let node = other.as_str();
    let via = [
        "--node", node, "--json", "pub", "news", "by hand", "--via", "dht",
    ];
    let receipt = weft.run(via).expect_code(0).json();
    assert_eq!(
        (&receipt["eager"], &receipt["lazy"]),
        (&0.into(), &0.into())
    );
    assert!(
        receipt["keepers"].as_array().unwrap().len() >= 2,
        "{receipt}"
    );
    assert_eq!(receipt["subscribers_known"], 1);
    let link = ["--node", node, "pub", "news", "over links", "--ack", "link"];
    weft.run(link).expect_code(0);
    let got = subscriber.wait(SOON).expect_code(0).text();
    assert_eq!(got, "by hand\nover links\n");
    // What can't be had is refused before anything leaves.
    let refused = [
        "--node", node, "pub", "news", "x", "--via", "dht", "--ack", "local",
    ];
    weft.run(refused)
        .expect_code(2)
        .expect_stderr("acknowledged by keepers");
    let refused = ["--node", node, "pub", "news", "x", "--ack", "everybody"];
    weft.run(refused).expect_code(2).expect_stderr("keepers");
    let empty = weft
        .run(["--node", node, "pub", "silent", "x"])
        .expect_code(0);
    empty.expect_stderr("nobody is known to be subscribed");
    let kept = weft.run(["--node", "n7", "topic", "history", "silent"]);
    assert_eq!(kept.expect_code(0).text(), "x\n");
    weft.run(["testnet", "down"]).expect_code(0);
}
