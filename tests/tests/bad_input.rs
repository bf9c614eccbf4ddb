//! Everything a user can get wrong: a clear message, the right exit code, and nothing else is lost.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::{TempDir, tempdir};
use weft_tests::command::{Done, SOON, Weft};
use weft_tests::daemon::Daemon;
use weft_tests::http;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");

fn weft() -> (TempDir, Weft) {
    let home = tempdir().unwrap();
    let weft = Weft::new(WEFT, home.path());
    (home, weft)
}

fn run_in(weft: &Weft, dir: &Path, more: &[&str]) -> Done {
    let mut args = vec![
        "run",
        "--dir",
        dir.to_str().unwrap(),
        "--network",
        "bad-input",
    ];
    args.extend_from_slice(more);
    weft.run(args)
}

const ANY_PORT: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];

#[test]
fn a_wrong_flag_or_command_is_a_usage_error() {
    let (_home, weft) = weft();
    weft.run(["--frobnicate"])
        .expect_code(2)
        .expect_stderr("--frobnicate");
    weft.run(["status", "--jsn"])
        .expect_code(2)
        .expect_stderr("--json");
    weft.run(["frobnicate"]).expect_code(2);
    weft.run(["pub"]).expect_code(2);
    weft.run(["run", "--listen", "here"])
        .expect_code(2)
        .expect_stderr("here");
    weft.run(["sub", "t", "--count", "many"]).expect_code(2);
}

#[test]
fn a_bad_topic_name_is_a_usage_error_that_says_why() {
    let (home, weft) = weft();
    let daemon = Daemon::start(&weft, &home.path().join("d"), "bad-input");
    let long = "x".repeat(201);
    for name in ["two words", "", "network", "@me", "a\u{e4}", long.as_str()] {
        for command in [&["pub", name, "hello"][..], &["sub", name, "--count", "1"]] {
            let done = daemon.run(command).expect_code(2);
            assert!(!done.stderr.trim().is_empty(), "no word on {name:?}");
        }
    }
    let most = "x".repeat(200);
    daemon.run(&["pub", &most, "hello"]).expect_code(0);
}

#[test]
fn what_can_not_be_said_of_a_message_is_a_usage_error_that_says_why() {
    let (home, weft) = weft();
    let daemon = Daemon::start(&weft, &home.path().join("d"), "bad-input");
    let long = format!("a={}", "x".repeat(1_025));
    let long_type = "x".repeat(128);
    for (said, why) in [
        (&["--header", "trace"][..], "has no ="),
        (&["--header", "Trace=1"], "\"Trace\" does not fit"),
        (&["--header", "=1"], "1 to 64 of the characters a-z 0-9 -"),
        (&["--header", "a=1", "--header", "a=2"], "there twice"),
        (
            &["--header", &long],
            "at most 1024 bytes, and that of a has 1025",
        ),
        (&["--content-type", ""], "1 to 127 printable ASCII"),
        (
            &["--content-type", &long_type],
            "of 128 bytes, does not fit",
        ),
        (&["--content-type", "text/pl\u{e4}n"], "printable ASCII"),
    ] {
        let args = [&["pub", "t", "hello"], said].concat();
        daemon.run(&args).expect_code(2).expect_stderr(why);
    }
    // Who asks the daemon itself is told the same, and which message it is.
    let body =
        br#"{"jsonrpc":"2.0","id":1,"method":"topic_publish","params":{"topic":"t","messages":[
        {"data":"fits"},{"data":"hello","headers":{"a_b":""}}]}}"#;
    let answer: Value = serde_json::from_str(&http::post(daemon.dir(), body).body).unwrap();
    let error = &answer["error"];
    assert_eq!(error["code"], -32602, "{error}");
    assert_eq!(error["data"]["index"], 1, "{error}");
    let told = error["message"].as_str().unwrap();
    assert!(
        told.contains("\"a_b\" does not fit; nothing was published"),
        "{told}"
    );
    // What is said counts against a message's bytes.
    let largest = vec![b'y'; 1 << 20];
    let args = ["pub", "t", "--content-type", "a/b"];
    daemon
        .run_with_input(&args, &largest)
        .expect_code(1)
        .expect_stderr("larger than 1048571 bytes");
    let args = [&["--json"], &args[..]].concat();
    let published = daemon.run_with_input(&args, &largest[5..]).expect_code(0);
    assert_eq!(published.json()["seq"], 1, "nothing was published before");
}

#[test]
fn an_oversize_line_stops_with_its_number_and_those_before_it_stand() {
    let (home, weft) = weft();
    let daemon = Daemon::start(&weft, &home.path().join("d"), "bad-input");
    let mut subscriber = daemon.start_command(&["sub", "t", "--count", "3"]);
    subscriber.wait_stderr("subscribed", SOON);
    let mut input = b"one\ntwo\n".to_vec();
    input.resize(input.len() + (1 << 20) + 1, b'x');
    input.extend_from_slice(b"\nnever\n");
    let done = daemon
        .run_with_input(&["pub", "t", "-"], &input)
        .expect_code(1);
    assert!(
        done.stderr.contains("line 3"),
        "the line's number is missing: {done}"
    );

    // Exactly the limit is allowed.
    let mut largest = vec![b'y'; 1 << 20];
    largest.push(b'\n');
    daemon
        .run_with_input(&["pub", "t", "-"], &largest)
        .expect_code(0);
    let got = subscriber.wait(SOON).expect_code(0);
    let mut expected = b"one\ntwo\n".to_vec();
    expected.extend_from_slice(&largest);
    assert!(
        got.stdout == expected,
        "{} bytes instead of {}",
        got.stdout.len(),
        expected.len()
    );
}

#[test]
fn a_publisher_that_waits_for_a_line_notices_that_its_daemon_has_gone() {
    let (home, weft) = weft();
    let path = home.path().join("d");
    let daemon = Daemon::start(&weft, &path, "bad-input");
    let (input, mut lines) = std::io::pipe().expect("there are descriptors");
    let args = ["--dir", path.to_str().expect("a name in ASCII")];
    let args = args.into_iter().chain(["--json", "pub", "t", "-"]);
    let mut publisher = weft.start(args, input.into());
    lines.write_all(b"one\n").expect("it reads");
    publisher.wait_stdout("\"seq\":1", SOON);
    // It has nothing to do any more, and no line shows it that nobody would take one.
    daemon.stop().expect_code(0);
    publisher
        .wait(SOON)
        .expect_code(3)
        .expect_stderr("the daemon has closed the connection");
    drop(lines);
}

#[test]
fn no_daemon_is_said_so_with_the_command_that_starts_one() {
    let (home, weft) = weft();
    let dir = home.path().join("nobody");
    let dir = dir.to_str().unwrap();
    for command in [
        &["status"][..],
        &["pub", "t", "x"],
        &["sub", "t"],
        &["peer", "ls"],
        &["overlay", "view"],
    ] {
        let mut args = vec!["--dir", dir];
        args.extend_from_slice(command);
        weft.run(args).expect_code(3).expect_stderr("weft run");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (home, weft) = weft();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = home.path().join("d");
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    run_in(&weft, &dir, &["--listen", &address])
        .expect_code(1)
        .expect_stderr(&port.to_string());
    // Another daemon's port is taken as well, although both would allow sharing it.
    let daemon = Daemon::start(&weft, &home.path().join("other"), "bad-input");
    let address = daemon.address();
    let address = address.split("/p2p/").next().unwrap();
    run_in(&weft, &dir, &["--listen", address]).expect_code(1);
    // The directory is free again.
    Daemon::start(&weft, &dir, "bad-input")
        .stop()
        .expect_code(0);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let (home, weft) = weft();
    let dir = home.path().join("d");
    let daemon = Daemon::start(&weft, &dir, "bad-input");
    let peer_id = daemon.status()["peer_id"].clone();
    daemon.stop().expect_code(0);
    let key = dir.join("id_ed25519");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o644, 0o640, 0o604] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        run_in(&weft, &dir, &ANY_PORT)
            .expect_code(4)
            .expect_stderr("chmod 600");
    }
    // The remedy works, and the node is who it was.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(&weft, &dir, "bad-input");
    assert_eq!(daemon.status()["peer_id"], peer_id);
}

#[test]
fn a_key_that_cannot_be_read_is_refused_and_left_alone() {
    let (home, weft) = weft();
    // A directory can't be read as a file, whoever runs the test.
    let dir = home.path().join("d");
    std::fs::create_dir_all(dir.join("id_ed25519")).unwrap();
    run_in(&weft, &dir, &ANY_PORT)
        .expect_code(4)
        .expect_stderr("id_ed25519");
    assert!(dir.join("id_ed25519").is_dir());

    let dir = home.path().join("garbage");
    std::fs::create_dir_all(&dir).unwrap();
    let key = dir.join("id_ed25519");
    std::fs::write(&key, "not a key\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = run_in(&weft, &dir, &ANY_PORT).expect_stderr("id_ed25519");
    assert!(!done.succeeded());
    assert_eq!(
        std::fs::read(&key).unwrap(),
        b"not a key\n",
        "a key file was overwritten"
    );
}

#[test]
fn a_key_made_by_ssh_keygen_works() {
    let (home, weft) = weft();
    let key = home.path().join("ssh");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(&key)
        .status();
    let Ok(made) = made else {
        println!("ssh-keygen isn't installed: nothing to test");
        return;
    };
    assert!(made.success());
    let dir = home.path().join("d");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(&key, dir.join("id_ed25519")).unwrap();
    std::fs::set_permissions(
        dir.join("id_ed25519"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let bytes = std::fs::read(&key).unwrap();
    let daemon = Daemon::start(&weft, &dir, "bad-input");
    let peer_id = daemon.status()["peer_id"].clone();
    assert!(
        peer_id.as_str().unwrap().starts_with("12D3KooW"),
        "{peer_id}"
    );
    assert_eq!(std::fs::read(dir.join("id_ed25519")).unwrap(), bytes);
}

#[test]
fn a_second_daemon_in_a_directory_is_refused_and_the_first_goes_on() {
    let (home, weft) = weft();
    let daemon = Daemon::start(&weft, &home.path().join("d"), "bad-input");
    run_in(&weft, daemon.dir(), &ANY_PORT)
        .expect_code(1)
        .expect_stderr(daemon.dir().to_str().unwrap());
    assert_eq!(daemon.status()["pid"], daemon.pid());
    // A killed daemon leaves lock and socket behind; neither is in the next one's way.
    let dir = daemon.dir().to_owned();
    drop(daemon);
    Daemon::start(&weft, &dir, "bad-input")
        .stop()
        .expect_code(0);
}

/// Posts to the control socket and returns the error object.
#[track_caller]
fn error_of(daemon: &Daemon, body: &[u8]) -> Value {
    let response = http::post(daemon.dir(), body);
    let answer: Value = match serde_json::from_str(&response.body) {
        Ok(answer) => answer,
        Err(error) => panic!("no JSON ({error}) in {response:?}"),
    };
    let error = answer["error"].clone();
    assert!(error.is_object(), "no error in {answer}");
    error
}

#[test]
fn malformed_calls_are_answered_with_errors_and_the_daemon_goes_on() {
    let (home, weft) = weft();
    let daemon = Daemon::start(&weft, &home.path().join("d"), "bad-input");
    let call = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#).into_bytes()
    };
    assert_eq!(error_of(&daemon, b"{")["code"], -32700);
    assert_eq!(error_of(&daemon, b"\xff\xfe")["code"], -32700);
    assert_eq!(
        error_of(&daemon, br#"{"jsonrpc":"2.0","id":1}"#)["code"],
        -32600
    );
    assert_eq!(error_of(&daemon, &call("node_stat", "{}"))["code"], -32601);
    assert_eq!(
        error_of(&daemon, &call("overlay_views", r#"{"tpoic":"x"}"#))["code"],
        -32602
    );
    assert_eq!(
        error_of(&daemon, &call("topic_publish", "{}"))["code"],
        -32602
    );
    assert_eq!(
        error_of(&daemon, &call("topic_publish", "[1]"))["code"],
        -32602
    );
    let bad_topic = error_of(
        &daemon,
        &call("topic_publish", r#"{"topic":"a b","messages":[]}"#),
    );
    assert!(bad_topic["message"].is_string(), "{bad_topic}");

    // Of our own codes each error says what kind it is, what to do, and whether to try again.
    let nobody = error_of(
        &daemon,
        &call("overlay_views", r#"{"topic":"nobody-is-here"}"#),
    );
    assert_eq!(nobody["code"], -32053, "{nobody}");
    for key in ["kind", "hint", "retryable"] {
        assert!(
            nobody["data"].get(key).is_some(),
            "{key} is missing in {nobody}"
        );
    }
    let subscribe = error_of(&daemon, &call("topic_subscribe", r#"{"topic":"t"}"#));
    assert!(subscribe.to_string().contains("WebSocket"), "{subscribe}");

    // A message over the limit is refused, and named by its place in the batch.
    let big = format!(
        r#"{{"topic":"t","messages":[{{"data":"a"}},{{"data":"{}"}}]}}"#,
        "x".repeat((1 << 20) + 1)
    );
    let too_large = error_of(&daemon, &call("topic_publish", &big));
    assert_eq!(too_large["code"], -32056, "{too_large}");
    assert!(too_large.to_string().contains('1'), "{too_large}");

    // More than a body may hold, more calls than a batch may hold, and what is no HTTP at all.
    let huge = http::post(daemon.dir(), &vec![b' '; (4 << 20) + 1]);
    assert_ne!(huge.status, Some(200), "{huge:?}");
    let batch = vec![String::from_utf8(call("node_identity", "{}")).unwrap(); 51].join(",");
    let batch = http::post(daemon.dir(), format!("[{batch}]").as_bytes());
    assert!(batch.body.contains("error"), "{batch:?}");
    http::raw(daemon.dir(), b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n");
    http::raw(
        daemon.dir(),
        b"GET / HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n",
    );
    http::raw(
        daemon.dir(),
        b"POST / HTTP/1.1\r\nhost: weft\r\ncontent-length: 100\r\n\r\n{",
    );

    daemon.run(&["rpc", "node_stat"]).expect_code(1);
    assert_eq!(daemon.status()["health"]["verdict"], "alone");
    daemon.stop().expect_code(0);
}

#[test]
fn an_unknown_node_is_answered_with_the_known_ones() {
    let (home, weft) = weft();
    let weft = weft.testnet(&home.path().join("net"));
    weft.run(["--node", "n1", "status"])
        .expect_code(5)
        .expect_stderr("weft testnet up");
    weft.run(["testnet", "status"])
        .expect_code(5)
        .expect_stderr("weft testnet up");
    weft.run(["testnet", "up", "--nodes", "2", "--detach"])
        .expect_code(0);
    weft.run(["--node", "n9", "status"])
        .expect_code(5)
        .expect_stderr("n1, n2");
    weft.run(["testnet", "kill", "n2", "n9"])
        .expect_code(5)
        .expect_stderr("n1, n2");
    // Nothing was done by half.
    weft.run(["--node", "n2", "status"]).expect_code(0);
    weft.run(["testnet", "down"]).expect_code(0);
}

#[test]
fn a_peer_of_another_network_is_refused_and_both_names_are_said() {
    let (home, weft) = weft();
    let ours = Daemon::start(&weft, &home.path().join("ours"), "indigo");
    let theirs = Daemon::start(&weft, &home.path().join("theirs"), "madder");
    let done = ours
        .run(&["peer", "add", &theirs.address()])
        .expect_stderr("indigo")
        .expect_stderr("madder");
    assert!(!done.succeeded());
    assert_eq!(ours.status()["links"], 0);
    assert_eq!(theirs.status()["links"], 0);
    ours.run(&["peer", "add", "nowhere"]).expect_code(2);
    let done = ours.run(&["peer", "add", "/ip4/127.0.0.1/tcp/1"]);
    assert!(!done.succeeded(), "{done}");
}

#[test]
fn an_unknown_key_in_the_configuration_is_answered_with_the_nearest() {
    let (home, weft) = weft();
    let dir = home.path().join("d");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("weft.toml"), "netwrok = \"x\"\n").unwrap();
    let done = weft
        .run(["run", "--dir", dir.to_str().unwrap()])
        .expect_stderr("netwrok")
        .expect_stderr("network");
    assert!(!done.succeeded());
    std::fs::write(dir.join("weft.toml"), "network = [\n").unwrap();
    let done = weft
        .run(["run", "--dir", dir.to_str().unwrap()])
        .expect_stderr("weft.toml");
    assert!(!done.succeeded());
}
