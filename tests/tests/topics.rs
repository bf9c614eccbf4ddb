//! What goes with messages, and what a node tells of its topics.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use weft_tests::command::{Done, Running, SOON, Weft};
use weft_tests::daemon::Daemon;
use weft_tests::http;
use weft_tests::net::Base;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");

/// Calls a method of the control socket; answers its result, or its error.
fn call(dir: &Path, method: &str, params: &Value) -> Result<Value, Value> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let response = http::post(dir, request.to_string().as_bytes());
    let mut answer: Value = serde_json::from_str(&response.body).unwrap();
    match answer["error"].take() {
        Value::Null => Ok(answer["result"].take()),
        error => Err(error),
    }
}

/// A line of JSON each.
fn lines(done: &Done) -> Vec<Value> {
    let text = done.text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What is said of a message, and the message.
fn said(line: &Value) -> (Value, Value, Value) {
    let part = |name: &str| line.get(name).cloned().unwrap_or(Value::Null);
    (part("content_type"), part("headers"), part("data"))
}

#[test]
fn what_is_said_of_messages_arrives_with_them() {
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "3", "--detach"])
        .expect_code(0);
    let subscribe = |node: &str, more: &[&str]| -> Running {
        let args = [&["--node", node], more, &["sub", "news", "--count", "5"]].concat();
        let mut subscriber = weft.start(args, Stdio::null());
        subscriber.wait_stderr("subscribed", SOON);
        subscriber
    };
    let (here, there) = (subscribe("n1", &["--json"]), subscribe("n2", &["--json"]));
    let plain = subscribe("n3", &[]);

    let args = ["--node", "n1", "pub", "news"];
    let one = [
        "{}",
        "--content-type",
        "application/json",
        "--header",
        "trace-id=a=b",
        "--header",
        "ort=Köln",
    ];
    weft.run([&args[..], &one].concat()).expect_code(0);
    let each_line = [&args[..], &["-", "--header", "part=2"]].concat();
    weft.run_with_input(each_line, b"two\nthree\n")
        .expect_code(0);
    // In a batch each message has its own.
    let batch = json!({"topic": "news", "messages": [
        {"data": "four"},
        {"data_base64": "Zml2ZQ==", "content_type": "text/plain", "headers": {"n": ""}},
    ]});
    let published = call(&base.dir().join("n1"), "topic_publish", &batch).unwrap();
    assert_eq!(published["receipts"].as_array().unwrap().len(), 2);

    let expected = [
        (
            json!("application/json"),
            json!({"ort": "Köln", "trace-id": "a=b"}),
            json!("{}"),
        ),
        (Value::Null, json!({"part": "2"}), json!("two")),
        (Value::Null, json!({"part": "2"}), json!("three")),
        (Value::Null, Value::Null, json!("four")),
        (json!("text/plain"), json!({"n": ""}), json!("five")),
    ];
    for subscriber in [here, there] {
        let got = lines(&subscriber.wait(SOON).expect_code(0));
        let got: Vec<_> = got.iter().map(said).collect();
        assert_eq!(got, expected);
    }
    let text = plain.wait(SOON).expect_code(0);
    assert_eq!(text.text(), "{}\ntwo\nthree\nfour\nfive\n");
    assert!(!text.stderr.contains("trace-id"), "{text}");
    let history = ["--node", "n2", "--json", "topic", "history", "news"];
    let history = lines(&weft.run(history).expect_code(0));
    assert_eq!(history.iter().map(said).collect::<Vec<_>>(), expected);
    weft.run(["testnet", "down"]).expect_code(0);
}

#[test]
fn a_batch_that_is_asked_for_again_is_published_once() {
    let home = tempfile::tempdir().unwrap();
    let weft = Weft::new(WEFT, home.path());
    let daemon = Daemon::start(&weft, &home.path().join("d"), "topics");
    let mut subscriber = daemon.start_command(&["--json", "sub", "news", "--count", "4"]);
    subscriber.wait_stderr("subscribed", SOON);
    let params = |text: &str, id: &str| {
        let messages = [json!({"data": text}), json!({"data": "second"})];
        json!({"topic": "news", "messages": messages, "request_id": id})
    };
    // Asked twice at the same time: each waits for the one batch.
    let ask = || {
        let (dir, params) = (daemon.dir().to_owned(), params("first", "a"));
        std::thread::spawn(move || call(&dir, "topic_publish", &params).unwrap())
    };
    let [first, second] = [ask(), ask()].map(|asked| asked.join().unwrap());
    assert_eq!(first, second);
    assert_eq!(first["receipts"][1]["seq"], 2, "{first}");
    let publish = |params: &Value| call(daemon.dir(), "topic_publish", params);
    assert_eq!(publish(&params("first", "a")).unwrap(), first);
    let other = publish(&params("other", "a")).unwrap_err();
    assert_eq!(other["code"], -32602, "{other}");
    assert!(other["message"].as_str().unwrap().contains("request_id"));
    let nameless = publish(&params("first", "")).unwrap_err();
    assert_eq!(nameless["code"], -32602, "{nameless}");
    // The same from the command, where a batch is one message.
    let args = ["--json", "pub", "news", "third", "--request-id", "b"];
    let receipt = daemon.run(&args).expect_code(0).json();
    assert_eq!(receipt["seq"], 3);
    assert_eq!(daemon.run(&args).expect_code(0).json(), receipt);
    let lines_of_stdin = ["pub", "news", "-", "--request-id", "c"];
    daemon
        .run(&lines_of_stdin)
        .expect_code(2)
        .expect_stderr("publishes many");
    daemon.run(&["pub", "news", "fourth"]).expect_code(0);
    let got = lines(&subscriber.wait(SOON).expect_code(0));
    let got: Vec<_> = got.iter().map(|line| line["data"].clone()).collect();
    assert_eq!(got, ["first", "second", "third", "fourth"]);
}

#[test]
fn members_and_stats_say_how_a_topic_stands_at_a_node() {
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "3", "--detach"])
        .expect_code(0);
    let on = |node: &str, more: &[&str]| weft.run([&["--node", node], more].concat());
    let ids = ["n1", "n2", "n3"].map(|node| {
        let id = on(node, &["--json", "id"]).json()["peer_id"].clone();
        id.as_str().unwrap().to_owned()
    });
    // Of a topic that nobody has heard of there is nothing to tell.
    for look in ["members", "stats"] {
        on("n1", &["topic", look, "news"])
            .expect_code(5)
            .expect_stderr("is no member of the topic news");
        on("n1", &["topic", look, "@me"]).expect_code(2);
    }
    let mut subscriber = weft.start(["--node", "n2", "sub", "news"], Stdio::null());
    subscriber.wait_stderr("subscribed", SOON);
    on("n1", &["pub", "news", "one"]).expect_code(0);
    on("n1", &["pub", "news", "two"]).expect_code(0);
    subscriber.wait_stdout("two", SOON);

    // n1 published, n2 is subscribed, and n3 has joined them to keep the topic, as each of three nodes does.
    wait::until("both others, as n2 knows them", SOON, || {
        let members = on("n2", &["--json", "topic", "members", "news"]).expect_code(0);
        let members = members.json()["members"].take();
        let members = members.as_array().unwrap();
        assert!(members.iter().all(|member| member["age_s"].is_number()));
        let is_as_expected = |id: &str| {
            let member = members.iter().find(|member| member["peer_id"] == id);
            member.is_some_and(|member| {
                member["subscribed"] == false
                    && member["neighbour"] == true
                    && member["keeper"] == true
            })
        };
        let expected = is_as_expected(&ids[0]) && is_as_expected(&ids[2]) && members.len() == 2;
        expected.then_some(())
    });
    let members = on("n2", &["topic", "members", "news"])
        .expect_code(0)
        .text();
    let line = members.lines().find(|line| line.contains(&ids[0])).unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(cells[1..4], ["no", "yes", "yes"], "{members}");

    let stats = on("n2", &["--json", "topic", "stats", "news"]).expect_code(0);
    let stats = stats.json();
    for (key, value) in [
        ("topic", json!("news")),
        ("member", json!(true)),
        ("subscriptions", json!(1)),
        ("members_known", json!(2)),
        ("keepers_known", json!(2)),
        ("keeps", json!(true)),
        ("streams", json!(1)),
        ("bundles_held", json!(2)),
        ("messages_held", json!(2)),
        ("delivered", json!(2)),
        ("lost", json!(0)),
    ] {
        assert_eq!(stats[key], value, "{key} of {stats}");
    }
    assert!(stats["bytes_held"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["oldest"].as_str() <= stats["newest"].as_str());
    assert!(stats["oldest"].is_string(), "{stats}");
    let log = &stats["log"];
    assert_eq!(log["items"], 2, "{stats}");
    let places = [&log["first"], &log["next"]].map(|place| place.as_u64().unwrap());
    assert_eq!(places[1] - places[0], 2, "{stats}");
    let text = on("n2", &["topic", "stats", "news"]).expect_code(0).text();
    assert!(
        text.contains("2 messages in 2 bundles of 1 streams"),
        "{text}"
    );
    weft.run(["testnet", "down"]).expect_code(0);
}
