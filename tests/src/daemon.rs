//! One daemon of a test's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::command::{Done, Running, SOON, Weft};

/// How long a daemon may say goodbye.
const GOODBYE: Duration = Duration::from_secs(15);

/// A daemon that answers; it is ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    weft: Weft,
    dir: PathBuf,
    running: Running,
}

impl Daemon {
    /// Starts a daemon in `dir` on a free port and waits until it is ready.
    pub fn start(weft: &Weft, dir: &Path, network: &str) -> Self {
        let mut running = weft.start(
            [
                "run",
                "--network",
                network,
                "--listen",
                "/ip4/127.0.0.1/tcp/0",
                "--dir",
            ]
            .map(Into::into)
            .into_iter()
            .chain([dir.as_os_str().to_owned()]),
            Stdio::null(),
        );
        running.wait_stdout("\n", SOON);
        Self {
            weft: weft.clone(),
            dir: dir.to_owned(),
            running,
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Runs a command at this daemon.
    pub fn run(&self, args: &[&str]) -> Done {
        self.weft.run(self.args(args))
    }

    /// Runs a command at this daemon with input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        self.weft.run_with_input(self.args(args), input)
    }

    /// Starts a command at this daemon.
    pub fn start_command(&self, args: &[&str]) -> Running {
        self.weft.start(self.args(args), Stdio::null())
    }

    /// Asks how the daemon does.
    pub fn status(&self) -> Value {
        self.run(&["status", "--json"]).expect_code(0).json()
    }

    /// An address at which others reach it.
    pub fn address(&self) -> String {
        let status = self.status();
        let address = status["addresses"][0]
            .as_str()
            .expect("a daemon that is ready listens");
        address.to_owned()
    }

    /// Ends the daemon as a service manager would, and returns what it said.
    pub fn stop(self) -> Done {
        self.running.signal(Signal::TERM);
        self.running.wait(GOODBYE)
    }

    fn args(&self, args: &[&str]) -> Vec<std::ffi::OsString> {
        let dir = ["--dir".into(), self.dir.clone().into_os_string()];
        dir.into_iter().chain(args.iter().map(Into::into)).collect()
    }
}
