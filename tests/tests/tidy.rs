//! What the compiler doesn't check: which way crates depend on each other, what pure crates never touch, how long files
//! get, and that nothing is left half done.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that are pure: the same inputs give the same outputs, on any machine at any time.
const PURE: [&str; 5] = ["identity", "overlay", "dht", "node/core", "testnet/sim"];

/// Every crate and the crates of this workspace that it may depend on.
const MAY_DEPEND_ON: [(&str, &[&str]); 10] = [
    ("identity", &[]),
    ("overlay", &["weft-identity"]),
    ("dht", &["weft-identity"]),
    ("node/core", &["weft-identity", "weft-overlay", "weft-dht"]),
    ("rpc", &[]),
    (
        "node",
        &[
            "weft-identity",
            "weft-overlay",
            "weft-dht",
            "weft-core",
            "weft-rpc",
        ],
    ),
    (
        "testnet/sim",
        &["weft-identity", "weft-overlay", "weft-dht", "weft-core"],
    ),
    (
        "testnet",
        &["weft-core", "weft-rpc", "weft-identity", "weft-sim"],
    ),
    (
        "cli",
        &["weft-rpc", "weft-node", "weft-testnet", "weft-identity"],
    ),
    (
        "tests",
        &[
            "weft",
            "weft-identity",
            "weft-rpc",
            "weft-testnet",
            "weft-node",
            "weft-core",
            "weft-overlay",
            "weft-dht",
        ],
    ),
];

/// External crates that pure crates may never name: I/O, clocks, ambient randomness, or the libraries that bring them.
const IMPURE_CRATES: [&str; 10] = [
    "tokio",
    "libp2p",
    "jsonrpsee",
    "rustix",
    "getrandom",
    "tempfile",
    "serde_json",
    "futures",
    "anyhow",
    "tokio-util",
];

/// What pure code may not say, and why.
const IMPURE_WORDS: [(&str, &str); 14] = [
    ("tokio::", "a runtime"),
    ("libp2p::", "sockets"),
    ("std::fs", "the disk"),
    ("std::net::Tcp", "sockets"),
    ("std::net::Udp", "sockets"),
    ("std::env", "the environment"),
    ("std::thread", "threads"),
    ("Instant::now", "a clock"),
    ("SystemTime::now", "a clock"),
    ("HashMap", "an order that differs from run to run"),
    ("HashSet", "an order that differs from run to run"),
    ("thread_rng", "ambient randomness"),
    ("rand::rng()", "ambient randomness"),
    ("getrandom", "ambient randomness"),
];

const SOURCE_LINES_MAX: usize = 700;
const TEST_LINES_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// A file of ours, by its path in the workspace.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }

    /// Lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
    }

    /// The number of the line at which unit tests begin; beyond the end where there are none in this file.
    fn tests_begin(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let begin = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        begin.map_or(usize::MAX, |index| index + 1)
    }

    /// Lines before the unit tests, which may be impure.
    fn code_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let begin = self.tests_begin();
        self.code().take_while(move |(number, _)| *number < begin)
    }
}

/// Reads all files with an extension below a directory of the workspace.
fn sources(below: &str, extension: &str) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut left = vec![root.join(below)];
    while let Some(dir) = left.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    left.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).unwrap();
                let path = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

#[track_caller]
fn assert_none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

/// The dependencies of a manifest by section, build and development ones under their own names.
fn dependencies(manifest: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if section.ends_with("dependencies")
            && !line.trim().is_empty()
            && !line.starts_with('#')
        {
            let name = line.split(['.', '=', ' ']).next().unwrap_or(line);
            sections
                .entry(section.clone())
                .or_default()
                .insert(name.to_owned());
        }
    }
    sections
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let members = sources(".", "toml")
        .into_iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    let members: BTreeSet<String> = members
        .map(|file| file.path.trim_end_matches("/Cargo.toml").to_owned())
        .collect();
    let known: BTreeSet<String> = MAY_DEPEND_ON
        .iter()
        .map(|(member, _)| (*member).to_owned())
        .collect();
    assert_eq!(
        members, known,
        "a crate without a place in the order of crates"
    );

    let mut findings = Vec::new();
    for (member, allowed) in MAY_DEPEND_ON {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        for (section, names) in dependencies(&manifest) {
            for name in names {
                let ours = name == "weft" || name.starts_with("weft-");
                if ours && !allowed.contains(&name.as_str()) {
                    findings.push(format!("{member}/Cargo.toml: [{section}] {name}"));
                }
            }
        }
    }
    assert_none(&findings, "dependencies against the direction");
}

#[test]
fn pure_crates_depend_on_nothing_impure() {
    let mut findings = Vec::new();
    for member in PURE {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let names = dependencies(&manifest)
            .remove("dependencies")
            .unwrap_or_default();
        for name in IMPURE_CRATES {
            if names.contains(name) {
                findings.push(format!("{member}/Cargo.toml: {name}"));
            }
        }
    }
    assert_none(&findings, "impure dependencies of pure crates");
}

#[test]
fn pure_crates_touch_no_clock_no_disk_no_socket_and_no_chance() {
    let mut findings = Vec::new();
    for member in PURE {
        for source in sources(&format!("{member}/src"), "rs")
            .iter()
            .filter(|source| !source.is_test())
        {
            for (number, line) in source.code_without_tests() {
                for (word, what) in IMPURE_WORDS {
                    if line.contains(word) {
                        findings.push(format!("{}:{number}: {word} ({what})", source.path));
                    }
                }
            }
        }
    }
    assert_none(&findings, "impure words in pure crates");
}

#[test]
fn only_node_and_the_command_know_libp2p() {
    let mut findings = Vec::new();
    for (member, _) in MAY_DEPEND_ON {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let names = dependencies(&manifest)
            .remove("dependencies")
            .unwrap_or_default();
        // A hostile peer is written by hand on libp2p's transport, in the crate that only tests use.
        if names.contains("libp2p") && !["node", "cli", "tests"].contains(&member) {
            findings.push(member.to_owned());
        }
    }
    assert_none(&findings, "crates that depend on libp2p");
}

#[test]
fn files_have_a_readable_length() {
    let mut findings = Vec::new();
    for source in sources(".", "rs") {
        let lines = source.text.lines().count();
        let most = if source.is_test() {
            TEST_LINES_MAX
        } else {
            SOURCE_LINES_MAX
        };
        if lines > most {
            findings.push(format!("{}: {lines} lines, at most {most}", source.path));
        }
    }
    assert_none(&findings, "files that need a seam");
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file doesn't find itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["to", "do!("],
        ["unimple", "mented!("],
        ["#[ig", "nore"],
        ["db", "g!("],
    ]
    .map(|[start, end]| format!("{start}{end}"));
    let mut findings = Vec::new();
    for source in sources(".", "rs") {
        for (index, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                findings.push(format!("{}:{}: {word}", source.path, index + 1));
            }
        }
        if source.path.ends_with("/mod.rs") {
            findings.push(format!("{}: foo.rs beside foo/ instead", source.path));
        }
    }
    assert_none(&findings, "half done");
}

#[test]
fn every_crate_and_module_says_what_it_is() {
    let mut findings = Vec::new();
    for source in sources(".", "rs") {
        if !source.text.starts_with("//!") {
            findings.push(source.path);
        }
    }
    assert_none(&findings, "files that don't begin with what they are");
}

/// How far from a sleep the deadline of its loop may stand.
const LOOP_LINES: usize = 8;

#[test]
fn tests_wait_for_conditions_not_for_time() {
    // Put together here, so that this file doesn't find itself.
    let sleeps = ["(", "_until("].map(|end| format!("sleep{end}"));
    let mut findings = Vec::new();
    for source in sources(".", "rs") {
        let begin = if source.is_test() {
            0
        } else {
            source.tests_begin()
        };
        let lines: Vec<&str> = source.code().map(|(_, line)| line).collect();
        for (number, line) in source.code().filter(|(number, _)| *number > begin) {
            // A sleep between two looks at a condition is what a loop with a deadline is made of.
            let around =
                &lines[number.saturating_sub(LOOP_LINES)..lines.len().min(number + LOOP_LINES)];
            let in_a_loop = around
                .iter()
                .any(|line| line.to_lowercase().contains("deadline"));
            if sleeps.iter().any(|sleep| line.contains(sleep.as_str())) && !in_a_loop {
                findings.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&findings, "tests that wait for a bare time");
}

#[test]
fn pure_crates_have_clippy_forbid_clocks_and_unordered_collections() {
    let mut findings = Vec::new();
    for member in PURE {
        let path = root().join(member).join("clippy.toml");
        let text = fs::read_to_string(&path).unwrap_or_default();
        for word in [
            "HashMap",
            "HashSet",
            "Instant::now",
            "SystemTime::now",
            "allow-unwrap-in-tests",
        ] {
            if !text.contains(word) {
                findings.push(format!("{member}/clippy.toml: {word}"));
            }
        }
    }
    assert_none(&findings, "missing from clippy.toml");
}
