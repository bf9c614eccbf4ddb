//! A reader goes on where it stopped: places to begin at, cursors, history, and what is refused.

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::command::{SOON, Weft};
use weft_tests::net::Base;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const MESSAGES: usize = 3_000;
/// What was published this long before a reader began is not new.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

/// What a reader at n2 prints, a line each.
fn read(weft: &Weft, args: &[&str]) -> Vec<String> {
    let args = [&["--node", "n2"], args].concat();
    let done = weft.run(args).expect_code(0);
    done.text().lines().map(str::to_owned).collect()
}

fn numbered(range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}

#[test]
fn a_reader_goes_on_where_it_stopped() {
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "3", "--detach"])
        .expect_code(0);
    let mut live = weft.start(["--node", "n2", "sub", "logs"], std::process::Stdio::null());
    live.wait_stderr("subscribed", SOON);
    let lines = numbered(1..=MESSAGES).join("\n");
    weft.run_with_input(["--node", "n1", "pub", "logs", "-"], lines.as_bytes())
        .expect_code(0);
    wait::until("the last message", SOON, || {
        live.stdout_so_far()
            .ends_with(&format!("message {MESSAGES}\n"))
            .then_some(())
    });

    // History is all that came; from its end backwards; a page is no seam.
    assert_eq!(
        read(&weft, &["topic", "history", "logs"]),
        numbered(1..=MESSAGES)
    );
    let last = [
        "topic", "history", "logs", "--from", "-2000", "--count", "1500",
    ];
    assert_eq!(
        read(&weft, &last),
        numbered(MESSAGES - 1_999..=MESSAGES - 500)
    );
    let since = ["topic", "history", "logs", "--from", "-10m"];
    assert_eq!(read(&weft, &since).len(), MESSAGES);

    // A cursor goes on after its message, for history and for a subscription, which goes on live.
    let json = read(
        &weft,
        &["--json", "topic", "history", "logs", "--count", "700"],
    );
    let line: Value = serde_json::from_str(json.last().unwrap()).unwrap();
    assert_eq!(line["data"], "message 700");
    let cursor = line["cursor"].as_str().unwrap();
    let after = ["topic", "history", "logs", "--from", cursor, "--count", "2"];
    assert_eq!(read(&weft, &after), numbered(701..=702));
    let wanted = (MESSAGES - 700 + 1).to_string();
    let args = [
        "--node", "n2", "sub", "logs", "--from", cursor, "--count", &wanted,
    ];
    let mut resumed = weft.start(args, std::process::Stdio::null());
    resumed.wait_stderr("subscribed", SOON);
    weft.run(["--node", "n3", "pub", "logs", "message 3001"])
        .expect_code(0);
    let got = resumed.wait(SOON).expect_code(0).text();
    let got: Vec<&str> = got.lines().collect();
    assert_eq!(got, numbered(701..=MESSAGES + 1));

    // What names no place is refused with what there is; nothing is printed.
    let refused = |args: &[&str], code: i32, told: &str| {
        let done = weft.run([&["--node", "n2"], args].concat());
        let done = done.expect_code(code).expect_stderr(told);
        assert_eq!(done.text(), "");
    };
    refused(
        &["sub", "logs", "--from", "newest"],
        2,
        "latest, earliest, -N",
    );
    refused(
        &["sub", "logs", "--from", &cursor[..20]],
        2,
        "no cursor, or not all of it",
    );
    refused(&["sub", "other", "--from", cursor], 2, "of another topic");
    refused(&["topic", "history", "silent"], 5, "there is no history");
    let elsewhere = weft.run(["--node", "n1", "sub", "logs", "--from", cursor]);
    elsewhere.expect_code(2).expect_stderr("of another daemon");
    weft.run(["testnet", "down"]).expect_code(0);
}

/// Publishes numbered messages at n1, which are on disk with the keepers once it returns.
fn publish(weft: &Weft, range: std::ops::RangeInclusive<usize>) {
    let lines = numbered(range).join("\n");
    let args = ["--node", "n1", "pub", "logs", "-", "--ack", "keepers"];
    weft.run_with_input(args, lines.as_bytes()).expect_code(0);
}

/// What a reader gets of so many messages from a place on.
fn resumed(weft: &Weft, from: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    read(weft, &["sub", "logs", "--from", from, "--count", &count])
}

#[test]
fn a_log_outlives_its_daemon_however_that_ends() {
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "3", "--detach"])
        .expect_code(0);
    let mut live = weft.start(["--node", "n2", "sub", "logs"], std::process::Stdio::null());
    live.wait_stderr("subscribed", SOON);
    publish(&weft, 1..=200);
    wait::until("the last message", SOON, || {
        live.stdout_so_far()
            .ends_with("message 200\n")
            .then_some(())
    });
    let json = read(
        &weft,
        &["--json", "topic", "history", "logs", "--count", "100"],
    );
    let line: Value = serde_json::from_str(json.last().unwrap()).unwrap();
    let cursor = line["cursor"].as_str().unwrap();

    // Killed, whatever it had not synced by then; what was published meanwhile follows without a seam.
    weft.run(["testnet", "kill", "n2"]).expect_code(0);
    publish(&weft, 201..=300);
    weft.run(["testnet", "restart", "n2"]).expect_code(0);
    assert_eq!(resumed(&weft, cursor, 200), numbered(101..=300));

    // A reader that has come to the end waits there, and costs nothing meanwhile.
    let args = ["--node", "n2", "sub", "logs", "--from", cursor];
    let waiting = weft.start(args, std::process::Stdio::null());
    wait::until("all that there is", SOON, || {
        waiting
            .stdout_so_far()
            .ends_with("message 300\n")
            .then_some(())
    });
    publish(&weft, 301..=301);
    wait::until("what comes then", SOON, || {
        waiting
            .stdout_so_far()
            .ends_with("message 301\n")
            .then_some(())
    });

    // All of them at once: the log is there still, and goes on.
    weft.run(["testnet", "kill", "n1", "n2", "n3"])
        .expect_code(0);
    weft.run(["testnet", "restart", "n1", "n2", "n3"])
        .expect_code(0);
    assert_eq!(resumed(&weft, cursor, 201), numbered(101..=301));
    assert_eq!(resumed(&weft, "earliest", 301), numbered(1..=301));

    // Who wants only what is new isn't given what it missed, but for what is so new that clocks may not agree on it.
    weft.run(["testnet", "kill", "n2"]).expect_code(0);
    publish(&weft, 302..=310);
    let published = Instant::now();
    weft.run(["testnet", "restart", "n2"]).expect_code(0);
    wait::until("what was missed is older than that", SOON, || {
        (published.elapsed() > CLOCKS_AGREE).then_some(())
    });
    let args = ["--node", "n2", "sub", "logs", "--count", "1"];
    let mut latest = weft.start(args, std::process::Stdio::null());
    latest.wait_stderr("subscribed", SOON);
    publish(&weft, 311..=311);
    let got = latest.wait(SOON).expect_code(0).text();
    assert_eq!(got, "message 311\n");
    assert_eq!(resumed(&weft, cursor, 211), numbered(101..=311));
    weft.run(["testnet", "down"]).expect_code(0);
}
