//! What a testnet looks like now.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Testnet;
use crate::layout::NodeRecord;
use crate::probe::{self, Observation, Probe};
use crate::process::{Process, ProcessState};
use crate::transport::Transport;

/// What `weft testnet status` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The network's name.
    pub name: String,
    /// The base directory.
    pub base_dir: PathBuf,
    /// Every node, in order.
    pub nodes: Vec<NodeStatus>,
    /// What carries the links.
    pub transport: Transport,
    /// Components of the swarm `network` among the nodes that answered.
    pub components: usize,
    /// Whether no edge among the nodes that are up stayed one-sided for half a second.
    pub symmetric: bool,
    /// Milliseconds that the overlay took to become whole.
    pub ready_ms: Option<u64>,
}

/// One node of a testnet. What a silent node can't tell is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name: n1, n2, ….
    pub name: String,
    /// The daemon's process id; null if it is down.
    pub pid: Option<u32>,
    /// What the daemon is doing.
    pub state: NodeState,
    /// Its peer id.
    pub peer_id: Option<String>,
    /// Its data directory.
    pub dir: PathBuf,
    /// Size of its active view of the swarm `network`.
    pub active: Option<usize>,
    /// Size of its passive view of the swarm `network`.
    pub passive: Option<usize>,
    /// Resident memory in bytes.
    pub rss_bytes: Option<u64>,
}

/// What a daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It runs.
    Up,
    /// It has ended.
    Down,
    /// It was stopped by a signal.
    Paused,
}

impl Testnet {
    /// Looks at every process and asks every daemon that is up.
    pub async fn status(&self) -> Status {
        // What other commands have changed meanwhile counts; without a record, what was known last is the best there is.
        let record = self.layout.load().unwrap_or_else(|_| self.record.clone());
        let mut probes: Vec<Probe> = record
            .nodes
            .iter()
            .filter(|node| state(node) == NodeState::Up)
            .map(|node| self.probe(node))
            .collect();
        let answers = probe::ask_all(&mut probes, async |probe| probe.status().await).await;
        let Observation {
            components,
            one_sided,
            ..
        } = probe::observe(&mut probes, "network").await;
        let answers: BTreeMap<&str, weft_rpc::types::Status> = probes
            .iter()
            .zip(answers)
            .filter_map(|(probe, answer)| Some((probe.name.as_str(), answer?)))
            .collect();

        let mut nodes = Vec::new();
        for node in &record.nodes {
            let answer = answers.get(node.name.as_str());
            let process = node.process.filter(Process::is_alive);
            nodes.push(NodeStatus {
                name: node.name.clone(),
                pid: process.map(|process| process.pid),
                state: state(node),
                peer_id: answer
                    .map(|status| status.peer_id.clone())
                    .or_else(|| node.peer_id.clone()),
                dir: self.layout.node_dir(&node.name),
                active: answer.map(|status| status.active),
                passive: answer.map(|status| status.passive),
                rss_bytes: process.and_then(|process| process.rss_bytes()),
            });
        }
        Status {
            name: record.name,
            base_dir: self.layout.base_dir().to_owned(),
            nodes,
            transport: record.transport,
            components,
            symmetric: one_sided.is_empty(),
            ready_ms: record.ready_ms,
        }
    }

    pub(crate) fn probe(&self, node: &NodeRecord) -> Probe {
        Probe::new(
            &node.name,
            self.layout.node_dir(&node.name),
            node.peer_id.clone(),
        )
    }
}

/// Tells what a node's process is doing.
pub(crate) fn state(node: &NodeRecord) -> NodeState {
    match node.process.map(|process| process.state()) {
        Some(ProcessState::Running) => NodeState::Up,
        Some(ProcessState::Stopped) => NodeState::Paused,
        Some(ProcessState::Gone) | None => NodeState::Down,
    }
}
