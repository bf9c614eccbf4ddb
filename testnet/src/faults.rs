//! Faults on purpose, and the end: signals to daemons, starting them again, taking the network down.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;

use crate::probe::Probe;
use crate::process::{Process, ProcessState};
use crate::{OpenError, Testnet, ports};

/// How long the system may take to carry out SIGKILL, SIGSTOP or SIGCONT; it takes microseconds on an idle machine.
const SIGNAL_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a daemon may say goodbye before it is killed: a second for its callers, three for a neighbour that has fallen silent,
/// one for its disk.
const GOODBYE_WAIT_MAX: Duration = Duration::from_secs(6);
/// How long a restarted daemon may take until it answers.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(20);

/// How often the record is looked at to see whether it is still there: soon enough for a person.
const RECORD_INTERVAL: Duration = Duration::from_millis(200);

/// Why a fault was not, or not wholly, brought about.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The testnet or one of the nodes doesn't exist; nothing was done.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A node isn't in the state that the fault needs; nothing was done to it or to those named after it.
    #[error("{name} is {state}; {remedy}")]
    WrongState {
        /// The node.
        name: String,
        /// What it is.
        state: &'static str,
        /// What to do.
        remedy: String,
    },
    /// The system or the daemon refused; nodes named before were done.
    #[error("{name}: {reason}")]
    Failed {
        /// The node.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// The record of the testnet can't be locked or written.
    #[error("can't change the testnet's record: {0}")]
    Record(#[from] std::io::Error),
}

impl Testnet {
    /// Kills daemons at once (SIGKILL), all of them before the end of any is awaited. One that is down stays down.
    pub async fn kill(&mut self, names: &[String]) -> Result<(), FaultError> {
        let _lock = self.layout.lock().await?;
        let nodes = self.resolve(names)?;
        for (name, process) in &nodes {
            if let Some(process) = process {
                send(name, *process, Signal::KILL)?;
            }
        }
        for (name, process) in &nodes {
            if let Some(process) = process {
                await_state(name, *process, ProcessState::Gone, SIGNAL_WAIT_MAX).await?;
            }
            let index = self.record.index(name)?;
            self.record.nodes[index].process = None;
        }
        self.reap();
        Ok(self.layout.save(&self.record)?)
    }

    /// Starts daemons again on their ports, with their data; one that runs says goodbye first. Waits until they answer.
    pub async fn restart(&mut self, names: &[String]) -> Result<(), FaultError> {
        let _lock = self.layout.lock().await?;
        let nodes = self.resolve(names)?;
        let alive: Vec<Process> = nodes.iter().filter_map(|(_, process)| *process).collect();
        end_all(&alive).await;
        self.reap();
        let mut probes = Vec::new();
        for (name, _) in &nodes {
            let index = self.record.index(name)?;
            let port = self.record.nodes[index].port;
            if !ports::wait_free(port).await {
                return Err(failed(
                    name,
                    format!("its port {port} has been taken by another program"),
                ));
            }
            self.launch(index)
                .map_err(|error| failed(name, format!("{error:#}")))?;
            probes.push(Probe::new(name, self.layout.node_dir(name), None));
        }
        let deadline = Instant::now() + RESTART_WAIT_MAX;
        let answering = self
            .wait_answering(&mut probes, deadline, &mut |_| {})
            .await;
        answering.map_err(|error| failed(&names.join(", "), format!("{error:#}")))
    }

    /// Stops daemons (SIGSTOP) without ending them, as a hang would.
    pub async fn pause(&mut self, names: &[String]) -> Result<(), FaultError> {
        self.switch(names, Signal::STOP, ProcessState::Stopped)
            .await
    }

    /// Lets stopped daemons go on (SIGCONT).
    pub async fn resume(&mut self, names: &[String]) -> Result<(), FaultError> {
        self.switch(names, Signal::CONT, ProcessState::Running)
            .await
    }

    /// Ends all daemons, stopped and restarted ones included, and removes the base directory. Returns how many ran; none
    /// if another command has taken the testnet down already.
    pub async fn down(&mut self) -> anyhow::Result<usize> {
        if !self.is_recorded() {
            return Ok(0);
        }
        let _lock = self.layout.lock().await?;
        match self.reload() {
            Ok(()) => {}
            Err(OpenError::NotFound { .. }) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let alive: Vec<Process> = self
            .record
            .nodes
            .iter()
            .filter_map(|node| node.process)
            .filter(Process::is_alive)
            .collect();
        end_all(&alive).await;
        self.reap();
        let left = alive.iter().filter(|process| process.is_alive()).count();
        anyhow::ensure!(
            left == 0,
            "{left} daemons could not be ended; their pids stand in testnet.json"
        );
        self.lifeline = None;
        let base_dir = self.layout.base_dir();
        std::fs::remove_dir_all(base_dir)
            .with_context(|| format!("can't remove {}", base_dir.display()))?;
        Ok(alive.len())
    }

    /// Resolves when another command has taken the testnet down.
    pub async fn taken_down(&self) {
        while self.is_recorded() {
            tokio::time::sleep(RECORD_INTERVAL).await;
        }
    }

    /// Whether the base directory still holds this testnet, and not none or a later one.
    fn is_recorded(&self) -> bool {
        match self.layout.load() {
            Ok(record) => record.name == self.record.name,
            Err(error) => !matches!(error, OpenError::NotFound { .. }),
        }
    }

    async fn switch(
        &mut self,
        names: &[String],
        signal: Signal,
        state: ProcessState,
    ) -> Result<(), FaultError> {
        let _lock = self.layout.lock().await?;
        let nodes = self.resolve(names)?;
        let mut processes = Vec::new();
        for (name, process) in nodes {
            match process {
                Some(process) => processes.push((name, process)),
                None => {
                    let remedy = format!("start it: weft testnet restart {name}");
                    return Err(FaultError::WrongState {
                        name,
                        state: "down",
                        remedy,
                    });
                }
            }
        }
        for (name, process) in &processes {
            send(name, *process, signal)?;
        }
        for (name, process) in &processes {
            await_state(name, *process, state, SIGNAL_WAIT_MAX).await?;
        }
        Ok(())
    }

    /// Looks nodes up: all or an error. The process is there only where it is alive.
    fn resolve(&mut self, names: &[String]) -> Result<Vec<(String, Option<Process>)>, FaultError> {
        self.reload()?;
        let mut nodes = Vec::new();
        for name in names {
            let node = self.record.node(name)?;
            if nodes.iter().all(|(known, _)| known != name) {
                nodes.push((name.clone(), node.process.filter(Process::is_alive)));
            }
        }
        Ok(nodes)
    }
}

/// Ends processes: goodbye first, then by force; stopped ones go on, so that they can hear it.
async fn end_all(processes: &[Process]) {
    for process in processes {
        // A process that is gone by now is what is wanted; one that can't be signalled shows below.
        let _ = process.signal(Signal::TERM);
        let _ = process.signal(Signal::CONT);
    }
    let deadline = Instant::now() + GOODBYE_WAIT_MAX;
    for process in processes {
        process
            .wait_for(
                ProcessState::Gone,
                deadline.saturating_duration_since(Instant::now()),
            )
            .await;
    }
    for process in processes {
        let _ = process.signal(Signal::KILL);
    }
    for process in processes {
        process.wait_for(ProcessState::Gone, SIGNAL_WAIT_MAX).await;
    }
}

fn send(name: &str, process: Process, signal: Signal) -> Result<(), FaultError> {
    process
        .signal(signal)
        .map(|_| ())
        .map_err(|error| failed(name, format!("can't signal pid {}: {error}", process.pid)))
}

async fn await_state(
    name: &str,
    process: Process,
    state: ProcessState,
    at_most: Duration,
) -> Result<(), FaultError> {
    if process.wait_for(state, at_most).await {
        return Ok(());
    }
    Err(failed(
        name,
        format!(
            "pid {} isn't {state:?} after {} s",
            process.pid,
            at_most.as_secs()
        ),
    ))
}

pub(crate) fn failed(name: &str, reason: String) -> FaultError {
    FaultError::Failed {
        name: name.to_owned(),
        reason,
    }
}
