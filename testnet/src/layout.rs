//! A testnet on disk: where things lie, and the record `testnet.json` of what runs.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::transport::Transport;

const RECORD_FILE: &str = "testnet.json";
const LOCK_FILE: &str = "lock";
const LIFELINE_FILE: &str = "lifeline";

/// How long a command waits for another one that changes the same testnet: more than a restart of all nodes takes.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// Returns the base directory of a testnet where none is named: `weft/testnet` in the XDG state directory.
pub fn default_base_dir() -> PathBuf {
    let state_dir = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir);
    state_dir.join("weft").join("testnet")
}

/// Why a testnet could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no testnet in the directory.
    #[error("no testnet in {}; start one: weft testnet up", base_dir.display())]
    NotFound {
        /// The base directory.
        base_dir: PathBuf,
    },
    /// The testnet has no such node.
    #[error("the testnet has no node {name}; it has {}", names(known))]
    UnknownNode {
        /// The name that was asked for.
        name: String,
        /// The names that exist, in order.
        known: Vec<String>,
    },
    /// `testnet.json` can't be read.
    #[error("can't read {}: {source}; if nothing of that testnet runs any more, remove its directory", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system or the parser says.
        source: io::Error,
    },
}

/// Names many nodes shortly: `n1 to n20`, or each.
fn names(known: &[String]) -> String {
    match known {
        [] => "none".to_owned(),
        [first, .., last] if known.len() > 6 => format!("{first} to {last}"),
        _ => known.join(", "),
    }
}

/// How long the daemons of a testnet live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// They end when the process that started the testnet ends, however it ends.
    Foreground,
    /// They run until they are told to end.
    Detached,
}

/// What `testnet.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) lifetime: Lifetime,
    /// Absent in what was recorded before there was a choice.
    #[serde(default)]
    pub(crate) transport: Transport,
    /// The process in whose foreground the testnet runs.
    pub(crate) owner: Option<Process>,
    /// Milliseconds from the start of the first daemon until the overlay was whole.
    pub(crate) ready_ms: Option<u64>,
    pub(crate) nodes: Vec<NodeRecord>,
}

/// A node of a testnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) peer_id: Option<String>,
    /// The daemon that was last started and not killed.
    pub(crate) process: Option<Process>,
}

impl Record {
    /// Returns a node, or an error that names the known ones.
    pub(crate) fn node(&self, name: &str) -> Result<&NodeRecord, OpenError> {
        self.index(name).map(|index| &self.nodes[index])
    }

    /// Returns a node's index, or an error that names the known ones.
    pub(crate) fn index(&self, name: &str) -> Result<usize, OpenError> {
        self.nodes
            .iter()
            .position(|node| node.name == name)
            .ok_or_else(|| OpenError::UnknownNode {
                name: name.to_owned(),
                known: self.nodes.iter().map(|node| node.name.clone()).collect(),
            })
    }

    /// Counts the nodes whose daemon is alive, stopped ones included.
    pub(crate) fn alive(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.process.is_some_and(|process| process.is_alive()))
            .count()
    }
}

/// Where the parts of a testnet lie.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    base_dir: PathBuf,
}

/// Keeps other commands from changing the same testnet at the same time.
#[derive(Debug)]
pub(crate) struct Lock(
    #[expect(dead_code, reason = "the lock lives as long as the open file")] File,
);

impl Layout {
    pub(crate) fn new(base_dir: &Path) -> Self {
        Self {
            base_dir: std::path::absolute(base_dir).unwrap_or_else(|_| base_dir.to_owned()),
        }
    }

    pub(crate) fn base_dir(&self) -> &Path {
        &self.base_dir
    }

    pub(crate) fn node_dir(&self, name: &str) -> PathBuf {
        self.base_dir.join(name)
    }

    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.node_dir(name).join("daemon.log")
    }

    pub(crate) fn lifeline(&self) -> PathBuf {
        self.base_dir.join(LIFELINE_FILE)
    }

    pub(crate) fn load(&self) -> Result<Record, OpenError> {
        let path = self.base_dir.join(RECORD_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(OpenError::NotFound {
                    base_dir: self.base_dir.clone(),
                });
            }
            Err(source) => return Err(OpenError::Unreadable { path, source }),
        };
        serde_json::from_slice(&text).map_err(|error| OpenError::Unreadable {
            path,
            source: error.into(),
        })
    }

    /// Writes the record so that a reader sees the old one or the new one, never half of one.
    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        let fresh = self.base_dir.join(format!("{RECORD_FILE}.new"));
        let mut file = File::create(&fresh)?;
        serde_json::to_writer_pretty(&mut file, record)?;
        file.write_all(b"\n")?;
        fs::rename(&fresh, self.base_dir.join(RECORD_FILE))
    }

    /// Takes the testnet's lock if nobody has it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = File::create(self.base_dir.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes the testnet's lock, and waits for the command that has it.
    pub(crate) async fn lock(&self) -> io::Result<Lock> {
        let deadline = Instant::now() + LOCK_WAIT_MAX;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another weft command has been changing this testnet for too long",
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Removes what a testnet has left in the base directory, the lock excepted.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.base_dir)? {
            let entry = entry?;
            if entry.file_name() == LOCK_FILE {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether the base directory holds something that no testnet has put there.
    pub(crate) fn holds_something_else(&self) -> io::Result<bool> {
        if self.base_dir.join(RECORD_FILE).exists() {
            return Ok(false);
        }
        for entry in fs::read_dir(&self.base_dir)? {
            if entry?.file_name() != LOCK_FILE {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(nodes: usize) -> Record {
        Record {
            name: "testnet-1".to_owned(),
            binary: "weft".into(),
            lifetime: Lifetime::Detached,
            transport: Transport::Quic,
            owner: None,
            ready_ms: Some(5),
            nodes: (1..=nodes)
                .map(|number| NodeRecord {
                    name: format!("n{number}"),
                    port: 20_000 + u16::try_from(number).unwrap(),
                    peer_id: None,
                    process: None,
                })
                .collect(),
        }
    }

    #[test]
    fn a_record_goes_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.save(&record(3)).unwrap();
        let loaded = layout.load().unwrap();
        assert_eq!(loaded.nodes, record(3).nodes);
        assert_eq!(loaded.name, "testnet-1");
        assert_eq!(loaded.transport, Transport::Quic);
    }

    #[test]
    fn a_missing_testnet_says_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = Layout::new(dir.path()).load().unwrap_err();
        assert!(
            error.to_string().ends_with("start one: weft testnet up"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_node_is_answered_with_the_known_ones() {
        let few = record(2).node("n9").unwrap_err().to_string();
        assert_eq!(few, "the testnet has no node n9; it has n1, n2");
        let many = record(20).node("x").unwrap_err().to_string();
        assert_eq!(many, "the testnet has no node x; it has n1 to n20");
    }

    #[test]
    fn a_broken_record_is_an_error_not_an_empty_testnet() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RECORD_FILE), "{").unwrap();
        assert!(matches!(
            Layout::new(dir.path()).load(),
            Err(OpenError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let first = layout.try_lock().unwrap();
        assert!(first.is_some());
        assert!(layout.try_lock().unwrap().is_none());
        drop(first);
        assert!(layout.try_lock().unwrap().is_some());
    }

    #[test]
    fn foreign_files_are_noticed_and_own_ones_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let _lock = layout.try_lock().unwrap();
        assert!(!layout.holds_something_else().unwrap());
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        assert!(layout.holds_something_else().unwrap());
        layout.save(&record(1)).unwrap();
        fs::create_dir(layout.node_dir("n1")).unwrap();
        layout.clear().unwrap();
        assert!(layout.load().is_err());
        assert!(!layout.holds_something_else().unwrap());
    }
}
