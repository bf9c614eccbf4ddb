//! Testnets in words: what people read on their terminal.

mod html;
mod page;
mod plot;
mod plots;
mod sim;

use std::fmt::Write;
use std::path::Path;

pub use html::sim_html;
pub use page::{Page, PageError};
pub use sim::sim_text;

use crate::{CheckReport, NodeState, Status, default_base_dir};

/// Writes what stands, and what to try next.
pub fn up_text(status: &Status) -> String {
    let mut text = String::new();
    let took = status.ready_ms.map_or_else(|| "?".to_owned(), duration);
    let _ = writeln!(
        text,
        "{} nodes, one network, ready after {took}\n",
        status.nodes.len()
    );
    text += &nodes_table(status);
    let base = base_dir_flag(&status.base_dir);
    let (last, other) = match status.nodes.as_slice() {
        [.., other, last] => (last.name.as_str(), other.name.as_str()),
        _ => ("n1", "n1"),
    };
    let _ = write!(
        text,
        "\nTry next, in another terminal:\n  \
         weft{base} --node {last} sub news\n  \
         weft{base} --node n1 pub news \"hello\"\n  \
         weft{base} --node n1 overlay view\n  \
         weft testnet check{base}\n  \
         weft testnet kill{base} {other}     (then: status, restart, pause, resume)\n  \
         weft testnet down{base}\n"
    );
    text
}

/// Writes a testnet's condition.
pub fn status_text(status: &Status) -> String {
    let count = |state| {
        status
            .nodes
            .iter()
            .filter(|node| node.state == state)
            .count()
    };
    let mut text = format!(
        "{} in {}: {} up",
        status.name,
        status.base_dir.display(),
        count(NodeState::Up)
    );
    for (state, word) in [(NodeState::Down, "down"), (NodeState::Paused, "paused")] {
        if count(state) > 0 {
            let _ = write!(text, ", {} {word}", count(state));
        }
    }
    text += match status.components {
        0 => "; nobody answers",
        1 => "; one component",
        _ => "",
    };
    if status.components > 1 {
        let _ = write!(text, "; {} components", status.components);
    }
    if status.components > 0 {
        text += if status.symmetric {
            ", views symmetric"
        } else {
            ", views NOT symmetric"
        };
    }
    text.push('\n');
    text + &nodes_table(status)
}

/// Writes what a check found.
pub fn check_text(report: &CheckReport) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {} messages from {} publishers to {} nodes",
        if report.passed { "passed" } else { "FAILED" },
        report.published,
        report.publishers,
        report.nodes
    );
    let _ = writeln!(
        text,
        "  delivered    {} of {} ({:.4} %)",
        report.delivered,
        report.expected,
        report.delivery_ratio * 100.0
    );
    let _ = writeln!(
        text,
        "  hops         mean {:.2}, at most {}",
        report.hops.mean, report.hops.max
    );
    if let Some(rmr) = report.rmr {
        let _ = writeln!(
            text,
            "  redundancy   {rmr:.4} (copies received beyond the first, for each first)"
        );
    }
    if let Some(latency) = report.latency_ms {
        let _ = writeln!(
            text,
            "  latency      median {:.2} ms, p99 {:.2} ms, at most {:.2} ms",
            latency.p50, latency.p99, latency.max
        );
    }
    let _ = writeln!(
        text,
        "  overlay      components {}, views {}",
        report.components,
        if report.symmetric {
            "symmetric"
        } else {
            "NOT symmetric"
        }
    );
    for failure in &report.failures {
        let _ = writeln!(text, "  failure      {failure}");
    }
    text
}

fn nodes_table(status: &Status) -> String {
    let mut rows = vec![
        [
            "NODE", "STATE", "PID", "ACTIVE", "PASSIVE", "MEMORY", "PEER ID",
        ]
        .map(str::to_owned),
    ];
    let number =
        |value: Option<usize>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for node in &status.nodes {
        rows.push([
            node.name.clone(),
            match node.state {
                NodeState::Up => "up",
                NodeState::Down => "down",
                NodeState::Paused => "paused",
            }
            .to_owned(),
            node.pid
                .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            number(node.active),
            number(node.passive),
            node.rss_bytes
                .map_or_else(|| "-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
            node.peer_id.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table(&rows)
}

/// Aligns columns to the left, two spaces apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0);
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The flag that names a base directory, where it isn't the usual one.
fn base_dir_flag(base_dir: &Path) -> String {
    let usual = std::env::var_os("WEFT_TESTNET").map_or_else(default_base_dir, Into::into);
    if base_dir == usual {
        return String::new();
    }
    format!(" --base-dir {}", base_dir.display())
}

/// Writes a time for people: a few nodes are ready after some tens of milliseconds, hundreds after seconds.
fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hops, LatencyMs, NodeStatus};

    fn status() -> Status {
        let node = |name: &str, state| NodeStatus {
            name: name.to_owned(),
            pid: (state == NodeState::Up).then_some(4_711),
            state,
            peer_id: Some("12D3KooWA".to_owned()),
            dir: format!("/b/{name}").into(),
            active: (state == NodeState::Up).then_some(4),
            passive: None,
            rss_bytes: Some(13 << 20),
        };
        Status {
            name: "testnet-1".to_owned(),
            base_dir: "/b".into(),
            nodes: vec![node("n1", NodeState::Up), node("n2", NodeState::Down)],
            transport: crate::Transport::Tcp,
            components: 1,
            symmetric: true,
            ready_ms: Some(1_234),
        }
    }

    #[test]
    fn a_short_time_is_not_written_as_none() {
        let written = [0, 49, 999, 1_000, 61_999].map(duration);
        assert_eq!(written, ["0 ms", "49 ms", "999 ms", "1.0 s", "61.9 s"]);
    }

    #[test]
    fn the_ready_text_says_what_stands_and_what_to_try() {
        let text = up_text(&status());
        assert!(
            text.starts_with("2 nodes, one network, ready after 1.2 s\n"),
            "{text}"
        );
        assert!(
            text.contains("weft --base-dir /b --node n2 sub news"),
            "{text}"
        );
        assert!(text.contains("weft testnet down --base-dir /b"), "{text}");
    }

    #[test]
    fn columns_are_aligned_and_unknowns_are_dashes() {
        let text = status_text(&status());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "testnet-1 in /b: 1 up, 1 down; one component, views symmetric"
        );
        assert_eq!(
            lines[1],
            "NODE  STATE  PID   ACTIVE  PASSIVE  MEMORY  PEER ID"
        );
        assert_eq!(
            lines[3],
            "n2    down   -     -       -        13 MiB  12D3KooWA"
        );
    }

    #[test]
    fn a_failed_check_shouts_and_lists_why() {
        let report = CheckReport {
            published: 10,
            expected: 80,
            delivered: 79,
            delivery_ratio: 79.0 / 80.0,
            hops: Hops { mean: 1.5, max: 3 },
            rmr: Some(0.01),
            latency_ms: Some(LatencyMs {
                p50: 0.5,
                p99: 1.0,
                max: 2.0,
            }),
            components: 1,
            symmetric: true,
            topic: "check/1".to_owned(),
            nodes: 8,
            publishers: 2,
            passed: false,
            failures: vec!["n3 lacks 7 of n1's 5 messages".to_owned()],
        };
        let text = check_text(&report);
        assert!(
            text.starts_with("FAILED: 10 messages from 2 publishers to 8 nodes\n"),
            "{text}"
        );
        assert!(text.contains("delivered    79 of 80 (98.7500 %)"), "{text}");
        assert!(text.contains("failure      n3 lacks 7"), "{text}");
    }
}
