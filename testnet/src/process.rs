//! Daemons as processes: start, recognise, signal.
//!
//! A process is known by its pid and the moment it started (`/proc/PID/stat`), so a pid that the system has given to
//! another process is taken for what it is: ours is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use serde::{Deserialize, Serialize};

use crate::transport::Transport;

/// How much of a daemon's log is shown when it has failed.
const LOG_TAIL_LINES: usize = 12;
/// How much of the log's end is read for that; lines are shorter than 1 KiB by far.
const LOG_TAIL_BYTES: u64 = 16 * 1024;
/// How often a process is looked at while its end is awaited.
const WAIT_INTERVAL: Duration = Duration::from_millis(5);

/// A process: a pid and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs or waits.
    Running,
    /// It was stopped by a signal.
    Stopped,
    /// It has ended, even if nobody has waited for it, or its pid is somebody else's now.
    Gone,
}

impl Process {
    /// Recognises the process that has this pid now; none if nobody has it.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            start_time: stat.start_time,
        })
    }

    /// Returns what the process is doing.
    pub fn state(&self) -> ProcessState {
        match Stat::read(self.pid) {
            Some(stat) if stat.start_time == self.start_time => match stat.state {
                'Z' | 'X' | 'x' => ProcessState::Gone,
                'T' => ProcessState::Stopped,
                _ => ProcessState::Running,
            },
            _ => ProcessState::Gone,
        }
    }

    /// Whether the process exists, stopped or not.
    pub fn is_alive(&self) -> bool {
        self.state() != ProcessState::Gone
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> Option<u64> {
        if !self.is_alive() {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Time that it has spent on cores since it started, to a hundredth of a second.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = Stat::read(self.pid)?;
        let ticks_a_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
        let is_ours = stat.start_time == self.start_time;
        is_ours.then(|| Duration::from_secs(stat.cpu_ticks) / ticks_a_second)
    }

    /// Sends a signal; false if the process has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        // The descriptor first, the start time second: whoever the descriptor means can't change in between.
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(descriptor, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process is in the state; false if it isn't by then.
    pub(crate) async fn wait_for(&self, state: ProcessState, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        while self.state() != state {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(WAIT_INTERVAL).await;
        }
        true
    }

    /// Waits until the process has ended, on this thread: for destructors.
    pub(crate) fn wait_gone_blocking(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(WAIT_INTERVAL);
        }
        true
    }
}

struct Stat {
    state: char,
    /// Clock ticks in user mode and in the system.
    cpu_ticks: u64,
    start_time: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses `pid (name) state … utime stime … start_time …`; the name may hold spaces and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // The state is field 3, the times are fields 14 and 15, the start time is field 22.
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let start_time = fields.nth(6)?.parse().ok()?;
        Some(Self {
            state,
            cpu_ticks: user.saturating_add(system),
            start_time,
        })
    }
}

/// What a daemon is started with.
pub(crate) struct Launch<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) dir: &'a Path,
    pub(crate) log: &'a Path,
    pub(crate) network: &'a str,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    pub(crate) join: &'a [u16],
    /// Whether it begins the network.
    pub(crate) founds: bool,
    /// The FIFO whose closing ends the daemon.
    pub(crate) lifeline: Option<&'a Path>,
}

impl Launch<'_> {
    /// Starts the daemon in a process group of its own, so that Ctrl-C in a terminal doesn't reach it.
    pub(crate) fn start(&self) -> io::Result<(Child, Process)> {
        fs::create_dir_all(self.dir)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log)?;
        let mut command = Command::new(self.binary);
        command
            .arg("run")
            .arg("--dir")
            .arg(self.dir)
            .args(["--network", self.network]);
        command.args(["--listen", &self.transport.loopback(self.port)]);
        for port in self.join {
            command.args(["--join", &self.transport.loopback(*port)]);
        }
        if self.founds {
            command.arg("--found");
        }
        match self.lifeline {
            Some(path) => command.arg("--exit-with-stdin").stdin(open_lifeline(path)?),
            None => command.stdin(Stdio::null()),
        };
        command
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        // What names a node for a client must not leak into the daemons.
        for name in ["WEFT_DIR", "WEFT_NODE", "WEFT_TESTNET", "WEFT_KEY"] {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        match Process::of(child.id()) {
            Some(process) => Ok((child, process)),
            None => {
                // Only a child that somebody else has waited for has no entry: then there is nothing to keep.
                let _ = child.kill();
                Err(io::Error::other("the daemon vanished at its start"))
            }
        }
    }
}

/// Opens the reading end of a lifeline without waiting for a writer, as a blocking descriptor.
fn open_lifeline(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
    let descriptor = open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    fcntl_setfl(&descriptor, OFlags::empty())?;
    Ok(descriptor.into())
}

/// Makes a lifeline and returns its writing end, which keeps all readers waiting until it closes.
pub(crate) fn make_lifeline(path: &Path) -> io::Result<File> {
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        path,
        rustix::fs::Mode::from_raw_mode(0o600),
    )?;
    // Reading and writing, for an end that only writes could not be opened before there is a reader.
    OpenOptions::new().read(true).write(true).open(path)
}

/// Returns the last lines of a daemon's log, for an error message.
pub(crate) fn log_tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut end = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut end)?;
        Ok(end)
    };
    match read() {
        Ok(end) => {
            let text = String::from_utf8_lossy(&end);
            let lines: Vec<&str> = text.lines().collect();
            if lines.is_empty() {
                return "  (its log is empty)".to_owned();
            }
            let first = lines.len().saturating_sub(LOG_TAIL_LINES);
            let tail: Vec<String> = lines[first..]
                .iter()
                .map(|line| format!("  {line}"))
                .collect();
            tail.join("\n")
        }
        Err(error) => format!("  (its log can't be read: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> (Child, Process) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        (child, process)
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_parser() {
        let stat = "7 (a b) R) T 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0";
        let stat = Stat::parse(stat).unwrap();
        let read = (stat.state, stat.cpu_ticks, stat.start_time);
        assert_eq!(read, ('T', 5 + 6, 4242));
        assert!(Stat::parse("7 (short) R 1").is_none());
    }

    #[tokio::test]
    async fn a_process_is_stopped_continued_and_ended() {
        let (mut child, process) = sleeper();
        let soon = Duration::from_secs(5);
        assert!(process.signal(Signal::STOP).unwrap());
        assert!(process.wait_for(ProcessState::Stopped, soon).await);
        assert!(process.signal(Signal::CONT).unwrap());
        assert!(process.wait_for(ProcessState::Running, soon).await);
        assert!(process.rss_bytes().unwrap() > 0);
        assert!(process.signal(Signal::KILL).unwrap());
        // A zombie has ended, even before it is reaped.
        assert!(process.wait_for(ProcessState::Gone, soon).await);
        assert!(!process.signal(Signal::TERM).unwrap());
        child.wait().unwrap();
        assert_eq!(process.state(), ProcessState::Gone);
    }

    #[test]
    fn a_reused_pid_is_not_ours() {
        let (mut child, process) = sleeper();
        let earlier = Process {
            start_time: process.start_time - 1,
            ..process
        };
        assert_eq!(earlier.state(), ProcessState::Gone);
        assert!(!earlier.signal(Signal::KILL).unwrap());
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn closing_the_lifeline_ends_its_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lifeline");
        let writer = make_lifeline(&path).unwrap();
        let mut reader = Command::new("cat")
            .stdin(open_lifeline(&path).unwrap())
            .spawn()
            .unwrap();
        assert!(reader.try_wait().unwrap().is_none());
        drop(writer);
        assert!(reader.wait().unwrap().success());
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        assert!(log_tail(&path).contains("can't be read"));
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        fs::write(&path, text).unwrap();
        let tail = log_tail(&path);
        assert_eq!(tail.lines().count(), LOG_TAIL_LINES);
        assert!(tail.ends_with("  line 99"));
    }
}
