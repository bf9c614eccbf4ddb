//! The flags that every command takes: which daemon, how long, in which form.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use weft_rpc::Client;
use weft_rpc::method::Method;
use weft_testnet::Testnet;

use crate::failure::{Exit, Failure};

/// How long a call may take where nothing else is said; streams have no such bound.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How long the daemon's answer may take to come here. A guess: a busy machine schedules a task late by less.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Flags that stand before or behind any command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The daemon's directory [default: weft in the XDG data directory]
    #[arg(
        long,
        global = true,
        env = "WEFT_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) dir: Option<PathBuf>,
    /// A node of a testnet instead (n1, n2, …); goes before --dir
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Which testnet [default: weft/testnet in the XDG state directory]
    #[arg(
        long,
        global = true,
        env = "WEFT_TESTNET",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) base_dir: Option<PathBuf>,
    /// Print JSON: one object, or one a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long to wait, such as 500ms or 2m [default: 10s; none for streams]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Reads a duration with its unit; a bare number means seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it as 500ms, 10s or 2m"))
}

impl Global {
    /// Returns the directory of the daemon that is meant.
    pub(crate) fn dir(&self) -> Result<PathBuf, Failure> {
        if let Some(node) = &self.node {
            return Ok(Testnet::node_dir(&self.base_dir(), node)?);
        }
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let data = std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
        data.map(|data| data.join("weft")).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "there is no home directory to look for a daemon's directory in",
            )
            .hint("name one with --dir or WEFT_DIR")
        })
    }

    /// Returns the directory of the testnet that is meant.
    pub(crate) fn base_dir(&self) -> PathBuf {
        self.base_dir
            .clone()
            .unwrap_or_else(weft_testnet::default_base_dir)
    }

    /// Connects to the daemon.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let failed = match Client::connect(&self.dir()?).await {
            Ok(client) => return Ok(client),
            Err(error) => Failure::from(error),
        };
        Err(match &self.node {
            Some(node) if failed.exit == Exit::Unreachable => failed.hint(format!(
                "weft testnet status shows its state; weft testnet restart {node} starts it"
            )),
            _ => failed,
        })
    }

    /// Connects, calls one method and returns its answer, all within `--timeout`.
    pub(crate) async fn call<M: Method>(&self, params: M::Params) -> Result<M::Answer, Failure> {
        self.within(async { Ok(self.connect().await?.call::<M>(params).await?) })
            .await
    }

    /// Bounds a call by `--timeout`, or by the default.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let timeout = self.timeout.unwrap_or(TIMEOUT_DEFAULT);
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(Failure::timeout(timeout)))
    }

    /// Returns for how long the daemon shall try what a call asks of other nodes, in milliseconds: a little less than
    /// `--timeout`, so that what it says of a failure still comes.
    pub(crate) fn patience_ms(&self) -> u64 {
        let timeout = self.timeout.unwrap_or(TIMEOUT_DEFAULT);
        let patience = timeout.saturating_sub(ANSWER_TIME.min(timeout / 10));
        u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
    }

    /// Bounds what has no bound of its own by `--timeout`, if there is one.
    pub(crate) async fn within_if_asked<T>(
        &self,
        stream: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.timeout {
            Some(_) => self.within(stream).await,
            None => stream.await,
        }
    }

    /// Says something beside the result, unless `--quiet`.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            crate::output::say(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units_or_are_seconds() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("-1").is_err());
        assert!(parse_duration("soon").unwrap_err().contains("10s"));
    }
}
