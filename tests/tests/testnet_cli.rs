//! `weft testnet`: from up to down, and nothing left behind.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use weft_testnet::Process;
use weft_tests::alone;
use weft_tests::command::{SOON, Weft};
use weft_tests::net::Base;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const UP: Duration = Duration::from_secs(60);

fn status(weft: &Weft) -> Value {
    weft.run(["testnet", "status", "--json"])
        .expect_code(0)
        .json()
}

fn state_of(status: &Value, name: &str) -> String {
    let nodes = status["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["name"] == name).unwrap();
    node["state"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_nothing_left(base: &Base, processes: &[Process]) {
    wait::until("the end of all daemons", SOON, || {
        processes
            .iter()
            .all(|process| !process.is_alive())
            .then_some(())
    });
    assert!(
        !base.dir().exists(),
        "{} is still there",
        base.dir().display()
    );
}

#[tokio::test]
async fn a_foreground_testnet_ends_whole_with_ctrl_c() {
    let _alone = alone().await;
    for signal in [Signal::INT, Signal::TERM] {
        let base = Base::new();
        let weft = base.weft(WEFT);
        let mut up = weft.start(["testnet", "up", "--nodes", "4"], Stdio::null());
        up.wait_stdout("testnet down", UP);
        let text = up.stdout_so_far();
        assert!(
            text.contains("n4") && text.contains("sub") && text.contains("pub"),
            "{text}"
        );
        let processes = base.processes();
        assert_eq!(processes.len(), 4);
        // Also one that was restarted by another command and one that can't hear the goodbye.
        weft.run(["testnet", "restart", "n2"]).expect_code(0);
        weft.run(["testnet", "pause", "n3"]).expect_code(0);
        let restarted = base.processes();
        assert_ne!(processes, restarted);
        up.signal(signal);
        up.wait(SOON).expect_code(0);
        assert_nothing_left(&base, &processes);
        assert_nothing_left(&base, &restarted);
    }
}

#[tokio::test]
async fn a_foreground_testnet_ends_when_another_command_takes_it_down() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    let mut up = weft.start(["testnet", "up", "--nodes", "2"], Stdio::null());
    up.wait_stdout("testnet down", UP);
    let processes = base.processes();
    weft.run(["testnet", "down"]).expect_code(0);
    up.wait(SOON).expect_code(0);
    assert_nothing_left(&base, &processes);
}

#[tokio::test]
async fn daemons_end_with_a_foreground_testnet_that_is_killed() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    let mut up = weft.start(["testnet", "up", "--nodes", "4"], Stdio::null());
    up.wait_stdout("testnet down", UP);
    let processes = base.processes();
    up.signal(Signal::KILL);
    wait::until("the end of all daemons", SOON, || {
        processes
            .iter()
            .all(|process| !process.is_alive())
            .then_some(())
    });
    // What it left is no obstacle.
    weft.run(["testnet", "up", "--nodes", "2", "--detach"])
        .expect_code(0);
    weft.run(["testnet", "down"]).expect_code(0);
    assert!(!base.dir().exists());
}

#[tokio::test]
async fn a_testnet_interrupted_while_it_starts_leaves_nothing() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    let up = weft.start(["testnet", "up", "--nodes", "8"], Stdio::null());
    wait::until("the first daemon", UP, || {
        (!base.processes().is_empty()).then_some(())
    });
    up.signal(Signal::INT);
    let processes = base.processes();
    up.wait(SOON);
    assert_nothing_left(&base, &processes);
}

#[tokio::test]
async fn a_detached_testnet_goes_round() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "5", "--detach"])
        .expect_code(0);
    let processes = base.processes();
    assert_eq!(processes.len(), 5, "the daemons outlive the command");

    let up = status(&weft);
    assert_eq!(
        (&up["components"], &up["symmetric"]),
        (&Value::from(1), &Value::from(true)),
        "{up}"
    );
    assert!(up["ready_ms"].as_u64().unwrap() > 0);
    assert!(up["name"].is_string() && up["base_dir"] == base.dir().to_str().unwrap());
    for node in up["nodes"].as_array().unwrap() {
        assert_eq!(node["state"], "up");
        assert!(
            node["pid"].is_u64() && node["rss_bytes"].as_u64().unwrap() > 0,
            "{node}"
        );
        assert!(
            node["active"].as_u64().unwrap() > 0 && node["passive"].is_u64(),
            "{node}"
        );
        assert!(
            node["peer_id"].as_str().unwrap().starts_with("12D3KooW"),
            "{node}"
        );
        assert!(
            node["dir"]
                .as_str()
                .unwrap()
                .ends_with(node["name"].as_str().unwrap()),
            "{node}"
        );
    }

    // Up on a running directory is refused, and disturbs nothing.
    weft.run(["testnet", "up", "--nodes", "2"])
        .expect_code(1)
        .expect_stderr("weft testnet down");
    assert_eq!(base.processes(), processes);

    weft.run(["testnet", "kill", "n2", "n3"]).expect_code(0);
    weft.run(["testnet", "pause", "n4"]).expect_code(0);
    let hurt = status(&weft);
    assert_eq!(
        ["n1", "n2", "n3", "n4", "n5"].map(|name| state_of(&hurt, name)),
        ["up", "down", "down", "paused", "up"]
    );
    let dead = &hurt["nodes"][1];
    assert!(
        dead["pid"].is_null() && dead["active"].is_null() && dead["rss_bytes"].is_null(),
        "{dead}"
    );
    let identity = &up["nodes"][1]["peer_id"];
    assert_eq!(&dead["peer_id"], identity);
    weft.run(["testnet", "pause", "n2"])
        .expect_code(1)
        .expect_stderr("weft testnet restart n2");

    weft.run(["testnet", "restart", "n2", "n3"]).expect_code(0);
    weft.run(["testnet", "resume", "n4"]).expect_code(0);
    let healed = wait::until("a whole network", SOON, || {
        let status = status(&weft);
        (status["components"] == 1 && status["symmetric"] == true).then_some(status)
    });
    assert!(
        healed["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|node| node["state"] == "up"),
        "{healed}"
    );
    assert_eq!(
        &healed["nodes"][1]["peer_id"], identity,
        "a restarted node is who it was"
    );

    let components = |count: u64| {
        wait::until(format!("{count} components"), SOON, || {
            (status(&weft)["components"] == count).then_some(())
        });
    };
    weft.run(["testnet", "partition", "n6"])
        .expect_code(5)
        .expect_stderr("n6");
    weft.run(["testnet", "partition", "n1", "n2"])
        .expect_code(0);
    components(2);
    weft.run(["testnet", "heal"]).expect_code(0);
    components(1);

    let check = weft
        .run([
            "testnet",
            "check",
            "--messages",
            "40",
            "--rate",
            "100",
            "--json",
        ])
        .expect_code(0)
        .json();
    assert_eq!(
        (&check["published"], &check["expected"]),
        (&Value::from(40), &Value::from(200)),
        "{check}"
    );
    assert_eq!(
        (&check["delivered"], &check["delivery_ratio"]),
        (&Value::from(200), &Value::from(1.0)),
        "{check}"
    );
    assert!(
        check["hops"]["mean"].as_f64().unwrap() >= 1.0
            && check["hops"]["max"].as_u64().unwrap() >= 1,
        "{check}"
    );
    assert!(
        check["rmr"].is_f64() && check["latency_ms"]["p99"].is_f64(),
        "{check}"
    );
    assert_eq!(
        (&check["components"], &check["symmetric"]),
        (&Value::from(1), &Value::from(true)),
        "{check}"
    );

    // A paused node is ended as well.
    weft.run(["testnet", "pause", "n5"]).expect_code(0);
    let processes = base.processes();
    assert_eq!(processes.len(), 5);
    weft.run(["testnet", "down"]).expect_code(0);
    assert_nothing_left(&base, &processes);
    weft.run(["testnet", "down"]).expect_code(5);
}

#[tokio::test]
async fn foreign_files_are_never_removed() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    std::fs::create_dir_all(base.dir()).unwrap();
    std::fs::write(base.dir().join("thesis.tex"), "years of work").unwrap();
    weft.run(["testnet", "up", "--nodes", "2", "--detach"])
        .expect_code(1)
        .expect_stderr("--base-dir");
    assert_eq!(
        std::fs::read_to_string(base.dir().join("thesis.tex")).unwrap(),
        "years of work"
    );
}

#[tokio::test]
async fn every_node_answers_curl_and_node_commands() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "3", "--detach"])
        .expect_code(0);
    for name in ["n1", "n2", "n3"] {
        let identity = weft
            .run(["--node", name, "id", "--json"])
            .expect_code(0)
            .json();
        let status = weft
            .run(["--node", name, "status", "--json"])
            .expect_code(0)
            .json();
        assert_eq!(identity["peer_id"], status["peer_id"]);
        let view = weft
            .run(["--node", name, "overlay", "view", "--json"])
            .expect_code(0)
            .json();
        assert_eq!(view["topic"], "network");
        assert!(!view["active"].as_array().unwrap().is_empty(), "{view}");
        let peers = weft
            .run(["--node", name, "peer", "ls", "--json"])
            .expect_code(0)
            .json();
        assert!(
            peers["peers"]
                .as_array()
                .unwrap()
                .iter()
                .all(|peer| peer["transport"] == "tcp"),
            "{peers}"
        );

        let socket = base.dir().join(name).join("control.sock");
        let curl = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "10",
                "-H",
                "content-type: application/json",
                "--unix-socket",
            ])
            .arg(&socket)
            .args([
                "-d",
                r#"{"jsonrpc":"2.0","id":1,"method":"node_status"}"#,
                "http://weft/",
            ])
            .output();
        match curl {
            Ok(output) => {
                let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(answer["result"]["peer_id"], status["peer_id"], "{answer}");
            }
            Err(_) => println!("curl isn't installed: skipped"),
        }
    }
    let topics = weft
        .run(["--node", "n1", "topic", "ls", "--json"])
        .expect_code(0)
        .json();
    assert!(topics["topics"].is_array(), "{topics}");
    weft.run(["testnet", "down"]).expect_code(0);
}
