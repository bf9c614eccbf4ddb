//! What one node publishes arrives at every other, byte for byte, through the real command.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use weft_tests::command::SOON;
use weft_tests::net::{Base, names};
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const LINES: usize = 10_000;
const NODES: usize = 8;

/// Text with what breaks line protocols: empty lines, spaces at both ends, carriage returns, long lines, every script.
fn text() -> String {
    let words = [
        "warp",
        "weft",
        "Fäden",
        "織物",
        "ткань",
        "🧵",
        "\"quoted\"",
        "back\\slash",
        "a\tb",
        "{\"json\":1}",
    ];
    let mut state: u64 = 0x5eed;
    let mut next = |bound: u64| {
        // Knuth's MMIX generator: deterministic, and good enough to vary lines.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut text = String::new();
    for number in 0..LINES {
        match next(20) {
            0 => {}
            1 => text.push_str("  spaces at both ends  "),
            2 => text.push_str("a carriage return at the end\r"),
            kind => {
                let _ = write!(text, "{number}");
                let count = if kind == 3 { next(400) } else { next(12) };
                for _ in 0..count {
                    text.push(' ');
                    text.push_str(words[usize::try_from(next(10)).unwrap()]);
                }
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn ten_thousand_lines_arrive_everywhere_byte_for_byte() {
    let text = text();
    assert_eq!(text.lines().count(), LINES);
    assert_eq!(text.matches('\n').count(), LINES);

    let base = Base::new();
    let weft = base.weft(WEFT);
    let nodes = NODES.to_string();
    let up = weft
        .run(["testnet", "up", "--nodes", &nodes, "--detach"])
        .expect_code(0);
    println!("{}", up.text());

    let count = LINES.to_string();
    let mut subscribers = Vec::new();
    for name in names(2..=NODES) {
        let args = [
            "--node",
            name.as_str(),
            "sub",
            "logs",
            "--count",
            count.as_str(),
        ];
        subscribers.push((name.clone(), weft.start(args, std::process::Stdio::null())));
    }
    for (_, subscriber) in &mut subscribers {
        subscriber.wait_stderr("subscribed", SOON);
    }
    let began = Instant::now();
    weft.run_with_input(["--node", "n1", "pub", "logs", "-"], text.as_bytes())
        .expect_code(0);
    let published = began.elapsed();
    for (name, subscriber) in subscribers {
        let got = subscriber.wait(Duration::from_secs(60)).expect_code(0);
        let same = got.stdout == text.as_bytes();
        assert!(
            same,
            "{name} wrote {} bytes, not the {} that were published",
            got.stdout.len(),
            text.len()
        );
    }
    println!(
        "{LINES} lines ({} bytes): published in {published:?}, at all {} others after {:?}",
        text.len(),
        NODES - 1,
        began.elapsed()
    );
    let processes = base.processes();
    assert_eq!(processes.len(), NODES);
    weft.run(["testnet", "down"]).expect_code(0);
    wait::until("the end of all daemons", SOON, || {
        processes
            .iter()
            .all(|process| !process.is_alive())
            .then_some(())
    });
}
