//! Starting a testnet, whole or not at all.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::graph::Sight;
use crate::layout::{Layout, Lifetime, NodeRecord, Record};
use crate::probe::{self, Probe};
use crate::process::{self, Launch, Process};
use crate::{OpenError, Testnet, Transport, ports};

/// Nodes of one testnet: each is a process with a port of its own; more belong into simulation.
const NODES_MAX: usize = 500;

/// The nodes through which all others join: one alone would be a single point of failure for restarts.
pub(crate) const JOIN_THROUGH: usize = 3;

/// How long a testnet may take to become whole, and how much longer for each node: ten times what a small machine needs.
const WHOLE_WAIT_MAX: Duration = Duration::from_secs(20);
const WHOLE_WAIT_PER_NODE: Duration = Duration::from_secs(1);

/// How often daemons are looked at while they start: a tenth of what a start takes.
const START_INTERVAL: Duration = Duration::from_millis(5);

/// Least pause between two looks at the overlay, and the pause for each node: looking must not slow down what is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
const LOOK_PAUSE_PER_NODE: Duration = Duration::from_millis(1);

/// What a testnet is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the testnet lives; must be absent, empty, or an ended testnet's.
    pub base_dir: PathBuf,
    /// The `weft` binary.
    pub binary: PathBuf,
    /// How many daemons.
    pub nodes: usize,
    /// The network's name; none makes one up that no other testnet has.
    pub network: Option<String>,
    /// How long the daemons live.
    pub lifetime: Lifetime,
    /// What carries their links.
    pub transport: Transport,
}

/// How far a start has come; shown by its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Daemons that answer.
    Answering {
        /// How many answer.
        answering: usize,
        /// Of how many.
        of: usize,
    },
    /// All answer; the overlay forms.
    Forming {
        /// Components so far.
        components: usize,
        /// Edges that one end alone has.
        one_sided: usize,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answering { answering, of } => write!(f, "{answering} of {of} daemons answer"),
            Self::Forming {
                components,
                one_sided,
            } => {
                write!(
                    f,
                    "all daemons answer; overlay: components {components}, one-sided edges {one_sided}"
                )
            }
        }
    }
}

impl Testnet {
    /// Starts daemons and waits until every active view is symmetric and the graph is one component.
    ///
    /// On failure, or when the future is dropped, everything that was started is ended and removed.
    pub async fn up(options: Options, progress: &mut dyn FnMut(Progress)) -> anyhow::Result<Self> {
        let began = Instant::now();
        if options.nodes == 0 || options.nodes > NODES_MAX {
            bail!("a testnet has 1 to {NODES_MAX} nodes, as many as one machine runs");
        }
        let layout = Layout::new(&options.base_dir);
        let base_dir = layout.base_dir().to_owned();
        std::fs::create_dir_all(&base_dir).with_context(|| {
            format!("can't make the testnet's directory {}", base_dir.display())
        })?;
        let _lock = layout
            .try_lock()
            .with_context(|| format!("can't lock {}", base_dir.display()))?
            .with_context(|| {
                format!(
                    "another weft command is at work on the testnet in {}",
                    base_dir.display()
                )
            })?;
        make_room(&layout)?;

        let record = Record {
            name: options.network.unwrap_or_else(unique_name),
            binary: std::path::absolute(&options.binary)?,
            lifetime: options.lifetime,
            transport: options.transport,
            owner: Process::of(std::process::id()),
            ready_ms: None,
            nodes: ports::free(options.nodes)?
                .into_iter()
                .enumerate()
                .map(|(index, port)| NodeRecord {
                    name: format!("n{}", index + 1),
                    port,
                    peer_id: None,
                    process: None,
                })
                .collect(),
        };
        layout.save(&record)?;
        let lifeline = match options.lifetime {
            Lifetime::Foreground => Some(process::make_lifeline(&layout.lifeline())?),
            Lifetime::Detached => None,
        };
        let mut starting = Starting(Some(Self {
            layout,
            record,
            children: Vec::new(),
            lifeline,
        }));
        starting.testnet().start_all(began, progress).await?;
        Ok(starting.finish())
    }

    /// Starts one node's daemon and records it.
    pub(crate) fn launch(&mut self, index: usize) -> anyhow::Result<Process> {
        let node = &self.record.nodes[index];
        let dir = self.layout.node_dir(&node.name);
        let log = self.layout.log_file(&node.name);
        let lifeline = self.layout.lifeline();
        let join: Vec<u16> = self
            .record
            .nodes
            .iter()
            .take(JOIN_THROUGH)
            .filter(|other| other.port != node.port)
            .map(|other| other.port)
            .collect();
        let owned = self.record.lifetime == Lifetime::Foreground
            && self.record.owner.is_some_and(|owner| owner.is_alive());
        let launch = Launch {
            binary: &self.record.binary,
            dir: &dir,
            log: &log,
            network: &self.record.name,
            port: node.port,
            transport: self.record.transport,
            join: &join,
            founds: index == 0,
            lifeline: owned.then_some(lifeline.as_path()),
        };
        let (child, process) = launch.start().with_context(|| {
            format!(
                "can't start {} ({})",
                node.name,
                self.record.binary.display()
            )
        })?;
        self.children.push(child);
        self.record.nodes[index].process = Some(process);
        self.layout.save(&self.record)?;
        Ok(process)
    }

    /// Waits until the daemons answer. A daemon that ends instead is an error with its last words.
    pub(crate) async fn wait_answering(
        &mut self,
        probes: &mut [Probe],
        deadline: Instant,
        answered: &mut dyn FnMut(usize),
    ) -> anyhow::Result<()> {
        loop {
            for probe in probes.iter_mut().filter(|probe| probe.peer_id.is_none()) {
                let node = self.record.node(&probe.name)?;
                if !node.process.is_some_and(|process| process.is_alive()) {
                    bail!(
                        "{} ended at its start; its log says:\n{}",
                        probe.name,
                        self.last_words(&probe.name)
                    );
                }
                probe.identity().await;
            }
            let waiting: Vec<&str> = probes
                .iter()
                .filter(|probe| probe.peer_id.is_none())
                .map(|probe| probe.name.as_str())
                .collect();
            answered(probes.len() - waiting.len());
            let Some(first) = waiting.first() else { break };
            if Instant::now() >= deadline {
                bail!(
                    "{} didn't answer in time; its log says:\n{}",
                    waiting.join(", "),
                    self.last_words(first)
                );
            }
            tokio::time::sleep(START_INTERVAL).await;
        }
        for probe in probes {
            let index = self.record.index(&probe.name)?;
            self.record.nodes[index].peer_id.clone_from(&probe.peer_id);
        }
        self.layout.save(&self.record)?;
        Ok(())
    }

    /// Returns the last lines of a node's log.
    pub(crate) fn last_words(&self, name: &str) -> String {
        process::log_tail(&self.layout.log_file(name))
    }

    /// Starts all nodes, and tells how long after `began` they were one network.
    async fn start_all(
        &mut self,
        began: Instant,
        progress: &mut dyn FnMut(Progress),
    ) -> anyhow::Result<()> {
        let count = self.record.nodes.len();
        let nodes = u32::try_from(count).unwrap_or(u32::MAX);
        let deadline = began + WHOLE_WAIT_MAX + WHOLE_WAIT_PER_NODE * nodes;
        let mut probes: Vec<Probe> = self
            .record
            .nodes
            .iter()
            .map(|node| Probe::new(&node.name, self.layout.node_dir(&node.name), None))
            .collect();

        // Those that others join through come first, so that nobody dials in vain and has to back off.
        let first = count.min(JOIN_THROUGH);
        let mut shown = usize::MAX;
        let mut show = |answering: usize| {
            if answering != shown {
                shown = answering;
                progress(Progress::Answering {
                    answering,
                    of: count,
                });
            }
        };
        for index in 0..first {
            self.launch(index)?;
        }
        self.wait_answering(&mut probes[..first], deadline, &mut show)
            .await?;
        for index in first..count {
            self.launch(index)?;
        }
        self.wait_answering(&mut probes[first..], deadline, &mut |answering| {
            show(first + answering);
        })
        .await?;

        self.wait_whole(&mut probes, deadline, progress).await?;
        self.record.ready_ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.layout.save(&self.record)?;
        Ok(())
    }

    async fn wait_whole(
        &self,
        probes: &mut [Probe],
        deadline: Instant,
        progress: &mut dyn FnMut(Progress),
    ) -> anyhow::Result<()> {
        let pause =
            LOOK_PAUSE + LOOK_PAUSE_PER_NODE * u32::try_from(probes.len()).unwrap_or(u32::MAX);
        let mut shown = None;
        loop {
            let (sight, silent) = probe::look(probes, "network").await;
            if silent.is_empty() && sight.is_whole() {
                return Ok(());
            }
            for name in &silent {
                if !self
                    .record
                    .node(name)?
                    .process
                    .is_some_and(|process| process.is_alive())
                {
                    bail!(
                        "{name} ended while the network formed; its log says:\n{}",
                        self.last_words(name)
                    );
                }
            }
            let forming = Progress::Forming {
                components: sight.components(),
                one_sided: sight.one_sided().len(),
            };
            if shown.as_ref() != Some(&forming) {
                progress(forming.clone());
                shown = Some(forming);
            }
            if Instant::now() >= deadline {
                bail!("{}", self.not_whole(&sight, &silent));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Says what is missing, with the log of a node that it concerns.
    fn not_whole(&self, sight: &Sight, silent: &[String]) -> String {
        let one_sided = sight.one_sided();
        let concerned = silent.first().cloned().or_else(|| {
            let (from, _) = one_sided.first()?;
            self.record
                .nodes
                .iter()
                .find(|node| node.peer_id.as_ref() == Some(from))
                .map(|node| node.name.clone())
        });
        let mut text = format!(
            "the overlay didn't become whole in time: {} components, {} one-sided edges",
            sight.components(),
            one_sided.len()
        );
        if !silent.is_empty() {
            text += &format!(", no answer from {}", silent.join(", "));
        }
        let name = concerned.unwrap_or_else(|| "n1".to_owned());
        text + &format!("; the log of {name} ends with:\n{}", self.last_words(&name))
    }
}

/// Ends and removes a testnet whose start isn't finished.
struct Starting(Option<Testnet>);

impl Starting {
    fn testnet(&mut self) -> &mut Testnet {
        self.0
            .as_mut()
            .expect("taken by finish alone, which consumes self")
    }

    fn finish(mut self) -> Testnet {
        self.0
            .take()
            .expect("taken by finish alone, which consumes self")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(testnet) = &mut self.0 else { return };
        let started: Vec<Process> = testnet
            .record
            .nodes
            .iter()
            .filter_map(|node| node.process)
            .collect();
        for process in &started {
            let _ = process.signal(Signal::KILL);
        }
        for process in &started {
            process.wait_gone_blocking(Duration::from_secs(3));
        }
        testnet.reap();
        let _ = std::fs::remove_dir_all(testnet.layout.base_dir());
    }
}

/// Makes the base directory empty where that is safe: a testnet that runs and foreign files are left alone.
fn make_room(layout: &Layout) -> anyhow::Result<()> {
    let base_dir: &Path = layout.base_dir();
    if layout.holds_something_else()? {
        bail!(
            "{} holds files that are no testnet's; choose another --base-dir",
            base_dir.display()
        );
    }
    match layout.load() {
        Ok(record) => match record.alive() {
            0 => {}
            alive => bail!(
                "a testnet runs in {} already ({alive} of {} daemons); end it: weft testnet down",
                base_dir.display(),
                record.nodes.len()
            ),
        },
        Err(OpenError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    layout
        .clear()
        .with_context(|| format!("can't clear the ended testnet in {}", base_dir.display()))
}

/// Makes up a network name that no other testnet has.
fn unique_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!(
        "testnet-{:08x}",
        RandomState::new().hash_one(std::process::id()) >> 32
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A base directory and a stand-in for the daemon that does what the script says.
    fn options(home: &Path, script: &str) -> Options {
        let binary = home.join("daemon");
        // Written by another process: had this one the file open for writing, a test that forks meanwhile would keep it
        // open for a moment, and it couldn't be executed.
        let made = std::process::Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 700 "$0""#,
            ])
            .arg(&binary)
            .arg(script)
            .status()
            .unwrap();
        assert!(made.success());
        Options {
            base_dir: home.join("net"),
            binary,
            nodes: 3,
            network: None,
            lifetime: Lifetime::Foreground,
            transport: Transport::Tcp,
        }
    }

    #[tokio::test]
    async fn a_daemon_that_ends_at_its_start_is_quoted_and_nothing_is_left() {
        let home = tempfile::tempdir().unwrap();
        let options = options(home.path(), "echo no luck today; exit 1");
        let base_dir = options.base_dir.clone();
        let error = Testnet::up(options, &mut |_| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ended at its start") && error.contains("no luck today"),
            "{error}"
        );
        assert!(!base_dir.exists());
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_ends_what_it_has_started() {
        let home = tempfile::tempdir().unwrap();
        let options = options(home.path(), "exec cat");
        let base_dir = options.base_dir.clone();
        let mut progress = |_| {};
        let up = Testnet::up(options.clone(), &mut progress);
        let all_started = async {
            loop {
                let layout = Layout::new(&base_dir);
                if let Ok(record) = layout.load()
                    && record.alive() == 3
                {
                    return record;
                }
                tokio::task::yield_now().await;
            }
        };
        let record = tokio::select! {
            _ = up => panic!("nobody answers"),
            record = all_started => record,
        };
        assert_eq!(record.alive(), 0, "a daemon outlived its testnet");
        assert!(!base_dir.exists());
    }

    #[tokio::test]
    async fn foreign_files_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let options = options(home.path(), "exit 1");
        std::fs::create_dir(&options.base_dir).unwrap();
        let thesis = options.base_dir.join("thesis.tex");
        std::fs::write(&thesis, "years of work").unwrap();
        let error = Testnet::up(options, &mut |_| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("--base-dir"), "{error}");
        assert!(thesis.exists());
    }

    #[tokio::test]
    async fn a_testnet_has_a_sensible_number_of_nodes() {
        let home = tempfile::tempdir().unwrap();
        for nodes in [0, NODES_MAX + 1] {
            let options = Options {
                nodes,
                ..options(home.path(), "exit 1")
            };
            assert!(Testnet::up(options, &mut |_| {}).await.is_err());
        }
    }
}
