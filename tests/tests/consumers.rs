//! Named consumers: what one has confirmed isn't printed again, and all else is, however reader, daemon or node end.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use weft_tests::command::{Done, Running, SOON, Weft};
use weft_tests::net::Base;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");

fn up(base: &Base) -> Weft {
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "3", "--detach"])
        .expect_code(0);
    weft
}

fn numbered(range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}

/// Publishes numbered messages at n1, which are on disk with the keepers once it returns.
fn publish(weft: &Weft, range: std::ops::RangeInclusive<usize>) {
    let lines = numbered(range).join("\n");
    let args = ["--node", "n1", "pub", "jobs", "-", "--ack", "keepers"];
    weft.run_with_input(args, lines.as_bytes()).expect_code(0);
}

/// Starts a reader at n2 under a name, and waits until it is subscribed.
fn reader(weft: &Weft, name: &str, more: &[&str]) -> Running {
    let args = [&["--node", "n2", "sub", "jobs", "--as", name], more].concat();
    let mut reader = weft.start(args, Stdio::null());
    reader.wait_stderr(&format!("subscribed to jobs as {name}"), SOON);
    reader
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// What a reader gets that ends by itself after so many messages.
fn read(weft: &Weft, name: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let reader = reader(weft, name, &["--count", &count]);
    lines(&reader.wait(SOON).expect_code(0).text())
}

fn wait_for(reader: &Running, last: usize) {
    wait::until(format!("message {last}"), SOON, || {
        let text = reader.stdout_so_far();
        text.ends_with(&format!("message {last}\n")).then_some(())
    });
}

/// Ends a reader as Ctrl-C does.
fn interrupt(reader: Running) -> Vec<String> {
    reader.signal(Signal::INT);
    lines(&reader.wait(SOON).expect_code(0).text())
}

fn consumers(weft: &Weft) -> Vec<Value> {
    let args = ["--node", "n2", "--json", "topic", "consumers", "jobs"];
    let json = weft.run(args).expect_code(0).json();
    json["consumers"].as_array().cloned().expect("a list")
}

fn consumer(weft: &Weft, name: &str) -> Option<Value> {
    let mut consumers = consumers(weft).into_iter();
    consumers.find(|it| it["consumer"] == name)
}

/// Waits until a consumer has confirmed all that there is.
fn wait_confirmed(weft: &Weft, name: &str) {
    wait::until(format!("{name} has confirmed all"), SOON, || {
        let lag = consumer(weft, name).map(|it| it["lag"].clone());
        (lag == Some(Value::from(0))).then_some(())
    });
}

fn kill(weft: &Weft) {
    weft.run(["testnet", "kill", "n2"]).expect_code(0);
}

fn restart(weft: &Weft) {
    weft.run(["testnet", "restart", "n2"]).expect_code(0);
}

#[test]
fn a_reader_that_ends_in_order_is_told_each_message_once() {
    let base = Base::new();
    let weft = up(&base);
    // It begins at what is new, and that is remembered though nothing came.
    assert!(interrupt(reader(&weft, "a", &[])).is_empty());
    publish(&weft, 1..=50);
    // It stops within what was sent to it, again and again.
    assert_eq!(read(&weft, "a", 7), numbered(1..=7));
    assert_eq!(read(&weft, "a", 20), numbered(8..=27));
    publish(&weft, 51..=60);
    let live = reader(&weft, "a", &[]);
    wait_for(&live, 60);
    publish(&weft, 61..=70);
    wait_for(&live, 70);
    assert_eq!(interrupt(live), numbered(28..=70));
    // Another begins where it wants to, once.
    let earliest = ["--from", "earliest", "--count", "10"];
    let other = reader(&weft, "b", &earliest);
    let other = lines(&other.wait(SOON).expect_code(0).text());
    assert_eq!(other, numbered(1..=10));
    assert_eq!(consumer(&weft, "a").unwrap()["lag"], 0);
    assert_eq!(consumer(&weft, "b").unwrap()["lag"], 60);

    // Killed as soon as it has confirmed, the daemon goes on where that is on disk.
    assert_eq!(read(&weft, "b", 10), numbered(11..=20));
    kill(&weft);
    publish(&weft, 71..=80);
    restart(&weft);
    assert_eq!(read(&weft, "b", 60), numbered(21..=80));
    assert_eq!(read(&weft, "a", 10), numbered(71..=80));
    // So it does when it is stopped while a reader is there, which ends with it.
    let live = reader(&weft, "a", &[]);
    publish(&weft, 81..=90);
    wait_for(&live, 90);
    wait_confirmed(&weft, "a");
    weft.run(["--node", "n2", "rpc", "node_shutdown"])
        .expect_code(0);
    let ended = live.wait(SOON).expect_code(3);
    assert_eq!(lines(&ended.text()), numbered(81..=90));
    publish(&weft, 91..=95);
    restart(&weft);
    assert_eq!(read(&weft, "a", 5), numbered(91..=95));
    weft.run(["testnet", "down"]).expect_code(0);
}

#[test]
fn a_reader_that_is_killed_loses_nothing() {
    let base = Base::new();
    let weft = up(&base);
    let mut last = 0;
    for round in 0..4 {
        let mut got = Vec::new();
        let killed = reader(&weft, "a", &[]);
        publish(&weft, last + 1..=last + 300);
        wait::until("something has come", SOON, || {
            let some = lines(&killed.stdout_so_far()).len();
            (some > 10).then_some(())
        });
        if round % 2 == 0 {
            killed.signal(Signal::KILL);
        } else {
            kill(&weft);
        }
        let text = killed.wait(SOON).text();
        // What it was writing when it died has no end.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        got.extend(lines(whole));
        publish(&weft, last + 301..=last + 310);
        if round % 2 == 1 {
            restart(&weft);
        }
        last += 310;
        // What is left of it comes, with what may have been printed before, and in order.
        let rest = reader(&weft, "a", &[]);
        wait_for(&rest, last);
        let rest = interrupt(rest);
        let first: usize = rest[0].trim_start_matches("message ").parse().unwrap();
        let had = got.len() + last - 309;
        assert!(first <= had, "round {round}: {first} after {}", got.len());
        assert_eq!(rest.last(), numbered(last..=last).last());
        let unheard = numbered(last - 309..=last);
        let unheard = unheard
            .iter()
            .filter(|it| !got.contains(it) && !rest.contains(it));
        assert_eq!(unheard.count(), 0, "round {round}");
    }
    // From here on it ended in order: nothing is left.
    publish(&weft, last + 1..=last + 1);
    assert_eq!(read(&weft, "a", 1), numbered(last + 1..=last + 1));
    weft.run(["testnet", "down"]).expect_code(0);
}

#[test]
fn what_a_name_does_not_allow_is_refused_with_what_to_do() {
    let base = Base::new();
    let weft = up(&base);
    let n2 = |args: &[&str]| weft.run([&["--node", "n2"], args].concat());
    let refused = |done: Done, code: i32, told: &str| {
        let done = done.expect_code(code).expect_stderr(told);
        assert_eq!(done.text(), "");
    };
    let live = reader(&weft, "a", &[]);
    publish(&weft, 1..=5);
    wait_for(&live, 5);
    wait_confirmed(&weft, "a");
    assert_eq!(consumer(&weft, "a").unwrap()["connected"], true);
    refused(
        n2(&["sub", "jobs", "--as", "a"]),
        1,
        "another subscription has that name",
    );
    let forget = ["topic", "consumers", "jobs", "--forget", "a"];
    refused(n2(&forget), 1, "end its subscription first");
    interrupt(live);

    let begin = ["sub", "jobs", "--as", "a", "--from", "earliest"];
    refused(n2(&begin), 7, "with --reset beside --from");
    let again = [&begin[..], &["--reset", "--count", "2"]].concat();
    assert_eq!(lines(&n2(&again).expect_code(0).text()), numbered(1..=2));
    assert_eq!(read(&weft, "a", 3), numbered(3..=5));
    refused(n2(&["sub", "jobs", "--as", "a", "--reset"]), 2, "--from");
    refused(
        n2(&["sub", "jobs", "--as", "a b"]),
        2,
        "1 to 64 of the characters",
    );
    let cursor = consumer(&weft, "a").unwrap()["cursor"].clone();
    let elsewhere = [
        "sub",
        "other",
        "--as",
        "a",
        "--from",
        cursor.as_str().unwrap(),
    ];
    refused(n2(&elsewhere), 2, "of another topic");

    // One that is forgotten begins anew.
    n2(&forget).expect_code(0);
    assert!(consumers(&weft).is_empty());
    refused(n2(&forget), 5, "has no consumer a here");
    let anew = [&begin[..], &["--count", "1"]].concat();
    assert_eq!(lines(&n2(&anew).expect_code(0).text()), numbered(1..=1));
    weft.run(["testnet", "down"]).expect_code(0);
}
