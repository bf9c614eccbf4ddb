//! The command under test as a user runs it, in an environment of its own.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait;

/// How long a command that should answer at once may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// The command, with a home directory of its own and none of the caller's settings.
#[derive(Debug, Clone)]
pub struct Weft {
    binary: PathBuf,
    home: PathBuf,
    testnet: Option<PathBuf>,
}

impl Weft {
    /// Makes the command; `home` is an existing directory in which it may leave files.
    pub fn new(binary: &str, home: &Path) -> Self {
        Self {
            binary: binary.into(),
            home: home.to_owned(),
            testnet: None,
        }
    }

    /// Names the testnet that `--node` and `testnet` commands mean.
    #[must_use]
    pub fn testnet(mut self, base_dir: &Path) -> Self {
        self.testnet = Some(base_dir.to_owned());
        self
    }

    /// Starts the command; `stdin` is what it reads.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        stdin: Stdio,
    ) -> Running {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("WEFT_") || name_text.starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        command.env("HOME", &self.home).env("NO_COLOR", "1");
        if let Some(base_dir) = &self.testnet {
            command.env("WEFT_TESTNET", base_dir);
        }
        let shown = format!("{command:?}");
        let mut child = command.spawn().expect("the command under test exists");
        let stdout = Collector::start(child.stdout.take().expect("piped above"));
        let stderr = Collector::start(child.stderr.take().expect("piped above"));
        Running {
            child,
            stdout,
            stderr,
            shown,
        }
    }

    /// Runs the command to its end without input.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        self.start(args, Stdio::null()).wait(SOON)
    }

    /// Runs the command to its end with the given input.
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Done {
        let mut running = self.start(args, Stdio::piped());
        let mut stdin = running.child.stdin.take().expect("piped above");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // A command that refuses its input closes it early.
            let _ = stdin.write_all(&input);
        });
        let done = running.wait(SOON);
        writer.join().expect("writing doesn't panic");
        done
    }
}

/// A running command; it is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collector,
    stderr: Collector,
    shown: String,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output holds a text.
    pub fn wait_stdout(&mut self, needle: &str, at_most: Duration) {
        self.wait_output("stdout", needle, at_most);
    }

    /// Waits until standard error holds a text.
    pub fn wait_stderr(&mut self, needle: &str, at_most: Duration) {
        self.wait_output("stderr", needle, at_most);
    }

    fn wait_output(&mut self, which: &str, needle: &str, at_most: Duration) {
        let what = format!("{needle:?} on {which} of {}", self.shown);
        wait::until(what, at_most, || {
            let text = if which == "stdout" {
                self.stdout.text()
            } else {
                self.stderr.text()
            };
            if text.contains(needle) {
                return Some(());
            }
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!(
                    "{} ended ({status}) before it said {needle:?}:\n{}\n{}",
                    self.shown,
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
            None
        });
    }

    /// Standard output so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pids fit");
        // The child isn't reaped before `wait`, so its pid is its own.
        kill_process(Pid::from_raw(pid).expect("pids are positive"), signal)
            .expect("the child is ours");
    }

    /// Waits for the end and returns what it said; panics if it takes longer.
    pub fn wait(mut self, at_most: Duration) -> Done {
        let status = wait::until(format!("the end of {}", self.shown), at_most, || {
            self.child.try_wait().expect("the child is ours")
        });
        Done {
            status,
            stdout: self.stdout.finish(),
            stderr: String::from_utf8_lossy(&self.stderr.finish()).into_owned(),
            shown: self.shown.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail once it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command has left.
#[derive(Debug)]
pub struct Done {
    status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    shown: String,
}

impl Done {
    /// Panics with everything that was said unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "exit code of {self}");
        self
    }

    /// Panics unless standard error holds the text.
    #[track_caller]
    pub fn expect_stderr(self, needle: &str) -> Self {
        assert!(
            self.stderr.contains(needle),
            "{needle:?} isn't in stderr of {self}"
        );
        self
    }

    /// Whether the command succeeded.
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("stdout isn't JSON ({error}): {self}"),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})\n--- stdout\n{}\n--- stderr\n{}",
            self.shown,
            self.status,
            self.text(),
            self.stderr
        )
    }
}

/// Reads a pipe on a thread, so that the command never waits for its reader.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            bytes,
            thread: Some(thread),
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits for the pipe's end and returns everything.
    fn finish(&mut self) -> Vec<u8> {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("reading doesn't panic");
        }
        std::mem::take(&mut self.bytes())
    }
}
