//! Why a command failed, in words and as an exit code.

use std::fmt;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use weft_rpc::{CallError, ConnectError, Kind};
use weft_testnet::{FaultError, OpenError};

/// What a command's end says to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Error = 1,
    Usage = 2,
    Unreachable = 3,
    NotAllowed = 4,
    NotFound = 5,
    Timeout = 6,
    Conflict = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What happened and why, what to do next, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Ends with a code whose reason was printed already.
    pub(crate) fn said(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// What took longer than `--timeout` allows.
    pub(crate) fn timeout(after: Duration) -> Self {
        Self::new(
            Exit::Timeout,
            format!("no answer within {}", humantime::format_duration(after)),
        )
        .hint("what was asked for may still happen; allow more time with --timeout, or see whether the node hangs: weft testnet status")
    }

    /// Prints it to stderr; with `--quiet` the message alone.
    pub(crate) fn print(&self, quiet: bool) {
        if self.message.is_empty() {
            return;
        }
        let colored = io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let label = if colored {
            "\x1b[1;31merror:\x1b[0m"
        } else {
            "error:"
        };
        crate::output::say(format_args!("{label} {}", self.message));
        if let Some(hint) = self.hint.as_deref().filter(|_| !quiet) {
            crate::output::say(format_args!("  next: {hint}"));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::NotRunning { dir } => {
                Self::new(Exit::Unreachable, message).hint(format!(
                    "start one: weft run --dir {}, or name another with --dir or --node",
                    dir.display()
                ))
            }
            ConnectError::NotAllowed { .. } => Self::new(Exit::NotAllowed, message)
                .hint("run this as the user that runs the daemon"),
            ConnectError::Handshake { .. } => Self::new(Exit::Unreachable, message)
                .hint("is the daemon stopped or hung? Its process id is in DIR/lock"),
            ConnectError::Io { .. } => Self::new(Exit::Unreachable, message),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Rpc(error) => {
                let failure = Self::new(exit_of(error.kind), message);
                match error.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            CallError::Disconnected => Self::new(Exit::Unreachable, message)
                .hint("it stopped or died; its log says why: start it again with weft run"),
            CallError::RequestTooLarge { .. } => {
                Self::new(Exit::Error, message).hint("send it in smaller parts")
            }
            CallError::Answer { .. } => Self::new(Exit::Error, message)
                .hint("are daemon and command of the same version? weft --version"),
        }
    }
}

fn exit_of(kind: Kind) -> Exit {
    match kind {
        Kind::Unauthorized | Kind::Refused => Exit::NotAllowed,
        Kind::NotFound => Exit::NotFound,
        Kind::Timeout => Exit::Timeout,
        Kind::QuorumNotMet | Kind::Conflict => Exit::Conflict,
        Kind::InvalidParams => Exit::Usage,
        Kind::Busy
        | Kind::TooLarge
        | Kind::Disk
        | Kind::BadSignature
        | Kind::ParseError
        | Kind::InvalidRequest
        | Kind::UnknownMethod
        | Kind::Internal
        | Kind::TooManySubscriptions
        | Kind::OversizedRequest
        | Kind::OversizedAnswer
        | Kind::BatchTooLong
        | Kind::BatchAnswerTooLarge
        | Kind::Other(_) => Exit::Error,
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match &error {
            OpenError::NotFound { .. } | OpenError::UnknownNode { .. } => Exit::NotFound,
            OpenError::Unreadable { .. } => Exit::Error,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<FaultError> for Failure {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Open(error) => error.into(),
            other => Self::new(Exit::Error, other.to_string()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<OpenError>() {
            Ok(error) => error.into(),
            // Each cause behind the one that it explains.
            Err(error) => Self::new(Exit::Error, format!("{error:#}")),
        }
    }
}

/// What goes wrong when a result is written. A reader that has gone, as `head` does, is no error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::said(Exit::Ok);
        }
        Self::new(Exit::Error, format!("can't write the result: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_daemon_says_how_to_start_one() {
        let failure = Failure::from(ConnectError::NotRunning { dir: "/d".into() });
        assert_eq!(failure.exit, Exit::Unreachable);
        assert_eq!(
            failure.to_string(),
            "no daemon runs in /d; start one: weft run --dir /d, or name another with --dir or --node"
        );
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit,
            Exit::Ok
        );
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::StorageFull)).exit,
            Exit::Error
        );
    }

    #[test]
    fn codes_become_exit_codes() {
        let exit =
            |kind| Failure::from(CallError::Rpc(weft_rpc::Error::new(kind, "m").hint("h"))).exit;
        assert_eq!(exit(Kind::Refused), Exit::NotAllowed);
        assert_eq!(exit(Kind::NotFound), Exit::NotFound);
        assert_eq!(exit(Kind::InvalidParams), Exit::Usage);
        assert_eq!(exit(Kind::Timeout), Exit::Timeout);
        assert_eq!(exit(Kind::Conflict), Exit::Conflict);
        assert_eq!(exit(Kind::UnknownMethod), Exit::Error);
    }
}
