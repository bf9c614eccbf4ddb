//! The daemon's log: on stderr, at a level that can change while it runs.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use weft_node::control::SetLogLevel;

/// The level where none is given: what a user sees of the daemon's state.
pub(crate) const LEVEL_DEFAULT: &str = "info";

/// Starts the log, and returns what changes its level.
pub(crate) fn start(level: &str) -> Result<SetLogLevel, String> {
    let colored = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(|| Stderr)
        .with_ansi(colored)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.try_init().map_err(|error| error.to_string())?;
    Ok(Arc::new(move |level| {
        let filter = filter(level)?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// Standard error for a daemon that outlives it. What can't be written there, because the disk is full on which it is kept or
/// because its reader has gone, is dropped: tracing-subscriber would say so on standard error, and panic when that fails as
/// well.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

/// Reads a level, which is about Weft's own crates, or directives of tracing-subscriber, which may name any.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let level = level.trim();
    let directives = match level.to_ascii_lowercase().as_str() {
        quiet @ ("off" | "error" | "warn") => quiet.to_owned(),
        // The libraries' own debug output would bury ours.
        loud @ ("info" | "debug" | "trace") => format!("warn,weft={loud}"),
        // tracing-subscriber takes a bare word for a crate's name and logs nothing else.
        word if !word.contains(['=', ',']) => {
            return Err(
                "it is neither off, error, warn, info, debug, trace nor a list of directives"
                    .to_owned(),
            );
        }
        _ => level.to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read() {
        for level in [
            "off",
            "WARN",
            "info",
            " debug ",
            "trace",
            "info,weft_node=debug",
            "weft_node=trace",
        ] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert_eq!(filter("debug").unwrap().to_string(), "weft=debug,warn");
        for wrong in ["verbose", "", "weft_node=loud"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
