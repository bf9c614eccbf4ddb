//! How long a user waits: from start to ready, and for `weft status`.

use std::time::{Duration, Instant};

use tempfile::tempdir;
use weft_tests::command::Weft;
use weft_tests::daemon::Daemon;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const RUNS: usize = 20;
/// The goals hold for what users run; a build without optimisation is given four times as long.
const SLOWER: u32 = if cfg!(debug_assertions) { 4 } else { 1 };
const READY_MAX: Duration = Duration::from_millis(300);
const STATUS_MAX: Duration = Duration::from_millis(30);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_daemon_is_ready_and_answers_status_quickly() {
    let home = tempdir().unwrap();
    let weft = Weft::new(WEFT, home.path());
    let starts = (0..RUNS)
        .map(|number| {
            let dir = home.path().join(format!("d{number}"));
            let began = Instant::now();
            let daemon = Daemon::start(&weft, &dir, "times");
            let took = began.elapsed();
            daemon.stop().expect_code(0);
            took
        })
        .collect();
    let ready = median(starts);

    let daemon = Daemon::start(&weft, &home.path().join("d"), "times");
    let answers = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            daemon.run(&["status"]).expect_code(0);
            began.elapsed()
        })
        .collect();
    let status = median(answers);
    println!(
        "medians of {RUNS}: start to ready {ready:?} (goal {READY_MAX:?}), status {status:?} (goal {STATUS_MAX:?})"
    );
    assert!(ready <= READY_MAX * SLOWER, "ready after {ready:?}");
    assert!(status <= STATUS_MAX * SLOWER, "status after {status:?}");
}
