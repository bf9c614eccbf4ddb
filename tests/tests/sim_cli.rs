//! `weft testnet sim`: what it prints, what it refuses, and that a replay is the same run.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use weft_tests::command::{Done, SOON, Weft};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");

const TINY: &str = r#"
name = "tiny"
about = "Thirty nodes, ten messages, a third of <all> crashes."
source = "this test"
nodes = 30
seed = 3

[[phase]]
do = "join"
within = "3s"
through = 2

[[phase]]
do = "run"
for = "5s"

[[phase]]
do = "measure"
what = "graph"

[[phase]]
do = "crash"
share = 0.3

[[phase]]
do = "publish"
messages = 10
every = "200ms"
settle = "5s"

[expect]
missing_forever = { max = 0 }
active_full_share = { min = 0.5, over = "mean" }
"#;

struct Home {
    dir: TempDir,
    weft: Weft,
}

impl Home {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let weft = Weft::new(WEFT, dir.path());
        Self { dir, weft }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn sim(&self, scenario: &Path, more: &[&str]) -> Done {
        let mut args = vec!["testnet", "sim", scenario.to_str().unwrap()];
        args.extend_from_slice(more);
        self.weft.run(args)
    }
}

/// What a run gives, without what the machine decides.
fn pure(result: &Value) -> Value {
    let mut pure = result.clone();
    let drop_cost = |figures: &mut Value| {
        let figures = figures.as_object_mut().unwrap();
        figures.remove("wall_s").unwrap();
        figures.remove("peak_rss_bytes").unwrap();
    };
    drop_cost(&mut pure["figures"]);
    for run in pure["runs"].as_array_mut().unwrap() {
        drop_cost(&mut run["figures"]);
    }
    pure
}

#[test]
fn a_file_runs_and_its_json_has_the_keys() {
    let home = Home::new();
    let tiny = home.file("tiny.toml", TINY);
    let result = home.sim(&tiny, &["--json"]).expect_code(0).json();
    assert_eq!(
        [&result["scenario"], &result["engine"], &result["nodes"]],
        [
            &Value::from("tiny"),
            &Value::from("swarm"),
            &Value::from(30)
        ],
        "{result}"
    );
    assert_eq!(
        [&result["seed"], &result["passed"]],
        [&Value::from(3), &Value::from(true)]
    );
    assert_eq!(result["failures"], Value::Array(vec![]));
    let command = format!("weft testnet sim {} --seed 3", tiny.display());
    assert_eq!(result["replay"], Value::from(command));
    for figure in ["rmr", "delivered_share", "wall_s", "peak_rss_bytes"] {
        assert!(result["figures"][figure].is_f64(), "{figure}: {result}");
    }
    let text = home.sim(&tiny, &[]).expect_code(0).text();
    assert!(
        text.starts_with("passed: tiny\n  30 nodes, one swarm each; seed 3\n"),
        "{text}"
    );
    assert!(text.contains("at most 0"), "{text}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_a_different_one() {
    let home = Home::new();
    let tiny = home.file("tiny.toml", TINY);
    let run = |seed| {
        home.sim(&tiny, &["--json", "--seed", seed])
            .expect_code(0)
            .json()
    };
    let (one, again, other) = (run("11"), run("11"), run("12"));
    assert_eq!(pure(&one), pure(&again));
    assert_ne!(one["runs"][0]["trace"], other["runs"][0]["trace"]);
    let several = home.sim(&tiny, &["--json", "--seed", "11", "--seeds", "4"]);
    let several = pure(&several.expect_code(0).json());
    assert_eq!(several["runs"][0], pure(&one)["runs"][0]);
    assert_eq!(several["runs"][1], pure(&other)["runs"][0]);
    assert_eq!(several["runs"].as_array().unwrap().len(), 4);
}

#[test]
fn a_failed_expectation_exits_1_and_its_replay_shows_the_same() {
    let home = Home::new();
    let text = TINY.replace("[expect]", "[expect]\nlast_delivery_hop = { max = 0.5 }");
    let hard = home.file("it's hard.toml", &text);
    let seeds = &["--nodes", "20", "--seed", "5", "--seeds", "3"];
    let failed = home.sim(&hard, &[&["--json"][..], seeds].concat());
    let failed = failed.expect_code(1).json();
    assert_eq!(failed["passed"], Value::from(false));
    let failure = &failed["failures"][0];
    assert_eq!(
        [&failure["expectation"], &failure["at"]],
        [
            &Value::from("last_delivery_hop at most 0.5"),
            &Value::from("seed 5")
        ],
        "{failure}"
    );

    let text = home.sim(&hard, seeds).expect_code(1).text();
    assert!(text.starts_with("FAILED: tiny\n"), "{text}");
    assert!(text.contains("FAILED (3 of 3 seeds)"), "{text}");
    assert!(
        text.contains("its expectations are made for 30 nodes"),
        "{text}"
    );
    let replay = failed["replay"].as_str().unwrap();
    assert!(text.contains(replay), "{text}");

    // As a shell would read it.
    let (command, flags) = replay.rsplit_once("toml'").unwrap();
    assert!(command.starts_with("weft testnet sim '"), "{replay}");
    assert_eq!(flags, " --nodes 20 --seed 5");
    let flags: Vec<&str> = flags.split_whitespace().chain(["--json"]).collect();
    let replayed = home.sim(&hard, &flags).expect_code(1).json();
    assert_eq!(pure(&replayed)["runs"][0], pure(&failed)["runs"][0]);
    assert_eq!(replayed["failures"][0], *failure);
}

#[test]
fn a_report_is_a_page_that_needs_nothing_else() {
    let home = Home::new();
    let tiny = home.file("tiny.toml", TINY);
    let page = home.dir.path().join("r.html");
    let path = page.to_str().unwrap();
    home.sim(&tiny, &["--report", path, "--seeds", "2"])
        .expect_code(0)
        .expect_stderr("wrote ");
    let html = std::fs::read_to_string(&page).unwrap();
    for part in [
        "<!doctype html>",
        "Thirty nodes, ten messages, a third of &lt;all&gt; crashes.",
        "Degree distribution",
        "Latency distribution",
        "Redundancy over time",
        "missing_forever",
        "</html>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for foreign in ["http:", "https:", "<script", "src=", "url(", "<all>", "NaN"] {
        assert!(!html.contains(foreign), "{foreign}");
    }

    // Nowhere to write is told before anything is simulated.
    let nowhere = home.dir.path().join("no/r.html");
    let refused = home.sim(&tiny, &["--report", nowhere.to_str().unwrap()]);
    let refused = refused.expect_code(1).expect_stderr("can't write ");
    assert!(refused.text().is_empty(), "{refused}");
    home.sim(&tiny, &["--report", home.dir.path().to_str().unwrap()])
        .expect_code(1)
        .expect_stderr("it is no file");
    let left: Vec<_> = std::fs::read_dir(home.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn scenarios_that_are_there_are_listed() {
    let home = Home::new();
    let list = home.weft.run(["testnet", "sim", "--list"]).expect_code(0);
    assert!(list.text().contains("hyparview-graph"), "{list}");
    let list = home.weft.run(["testnet", "sim", "--list", "--json"]);
    let list = list.expect_code(0).json();
    let scenarios = list["scenarios"].as_array().unwrap();
    assert!(
        scenarios
            .iter()
            .all(|scenario| scenario["about"].is_string())
    );
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let home = Home::new();
    home.weft
        .run(["testnet", "sim", "hyparview-grap"])
        .expect_code(5)
        .expect_stderr("did you mean \"hyparview-graph\"?");
    home.weft
        .run(["testnet", "sim", "./none.toml"])
        .expect_code(5)
        .expect_stderr("there is no file ./none.toml");
    home.weft.run(["testnet", "sim"]).expect_code(2);
    for (from, to, told) in [
        (
            "share = 0.3",
            "shar = 0.3",
            "line 23: unknown key \"shar\"; did you mean \"share\"?",
        ),
        (
            "share = 0.3",
            "share = 30",
            "line 23: share is 30, but must be from 0 to 1",
        ),
        (
            "\"crash\"",
            "\"crahs\"",
            "line 22: do = \"crahs\" is unknown; did you mean \"crash\"?",
        ),
        (
            "\"200ms\"",
            "200",
            "line 28: every = 200 must be a duration such as",
        ),
        (
            "through = 2",
            "",
            "line 8: the key \"through\" is missing in phase 1",
        ),
        ("nodes = 30", "nodes = 30 40", "line 5: "),
    ] {
        let wrong = home.file("wrong.toml", &TINY.replace(from, to));
        let done = home.sim(&wrong, &[]).expect_code(2);
        let told = format!("wrong.toml: {told}");
        assert!(done.stderr.contains(&told), "{told}\n{done}");
    }
    let tiny = home.file("tiny.toml", TINY);
    home.sim(&tiny, &["--nodes", "0"])
        .expect_code(2)
        .expect_stderr("--nodes is 0");
    home.sim(&tiny, &["--seeds", "0"])
        .expect_code(2)
        .expect_stderr("--seeds is 0");
    // A figure that nobody measures is no met expectation.
    let unheard = home.file(
        "unheard.toml",
        &TINY.replace("missing_forever", "missing_for_good"),
    );
    let text = home.sim(&unheard, &[]).expect_code(1).text();
    assert!(
        text.contains("missing_for_good at most 0, got no such figure"),
        "{text}"
    );
}

#[test]
fn ctrl_c_and_a_timeout_end_it_and_leave_nothing() {
    let home = Home::new();
    let long = home.file(
        "long.toml",
        &TINY.replace("for = \"5s\"", "for = \"8000h\""),
    );
    let page = home.dir.path().join("r.html");
    let args = [
        "testnet",
        "sim",
        long.to_str().unwrap(),
        "--report",
        page.to_str().unwrap(),
    ];
    let running = home.weft.start(args, Stdio::null());
    let files = || std::fs::read_dir(home.dir.path()).unwrap().count();
    weft_tests::wait::until("the report's temporary file", SOON, || {
        (files() == 2).then_some(())
    });
    // The handler is there once the simulation runs, a moment later: the signal's default would be an exit by signal.
    weft_tests::wait::until("two threads at work", SOON, || {
        let path = format!("/proc/{}/task", running.pid());
        (std::fs::read_dir(path).unwrap().count() > 4).then_some(())
    });
    running.signal(Signal::INT);
    running.wait(SOON).expect_code(0);
    assert_eq!(files(), 1);
    home.sim(&long, &["--timeout", "200ms"])
        .expect_code(6)
        .expect_stderr("not done within 200ms");
}
