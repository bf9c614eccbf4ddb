//! `weft kv`: the replicated store. `weft put` and `weft get` are the same in short.

mod change;
pub(crate) mod get;
mod look;
pub(crate) mod put;

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use weft_rpc::limits::KV_VALUE_BYTES_MAX;
use weft_rpc::payload::Payload;
use weft_rpc::types::{KvLevel, KvWritten};

use crate::failure::{Exit, Failure};
use crate::global::{self, Global};
use crate::output;

/// Reads and writes the replicated store
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Put(put::Args),
    Get(get::Args),
    Del(change::DelArgs),
    Cas(change::CasArgs),
    Ls(look::LsArgs),
    Locate(look::KeyArgs),
    /// Brings all replicas of a key what any of them has
    Repair(look::RepairArgs),
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Put(args) => put::run(global, args).await,
        Command::Get(args) => get::run(global, args).await,
        Command::Del(args) => change::del(global, args).await,
        Command::Cas(args) => change::cas(global, args).await,
        Command::Ls(args) => look::ls(global, args).await,
        Command::Locate(args) => look::locate(global, args).await,
        Command::Repair(args) => look::repair(global, args).await,
    }
}

/// How many replicas, in a word.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Level {
    /// One replica
    One,
    /// More than half of them
    Quorum,
    /// All of them
    All,
}

impl From<Level> for KvLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::One => Self::One,
            Level::Quorum => Self::Quorum,
            Level::All => Self::All,
        }
    }
}

/// What reads and writes have in common.
#[derive(Debug, clap::Args)]
struct Terms {
    /// How many replicas there are to be, 1 to 8 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    n: Option<u8>,
    /// How many of them must have answered [default: quorum]
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Count replicas only, and no peer that stands in for one
    #[arg(long)]
    strict: bool,
}

impl Terms {
    fn level(&self) -> Option<KvLevel> {
        self.level.map(KvLevel::from)
    }
}

/// Terms of a read.
#[derive(Debug, clap::Args)]
struct ReadTerms {
    #[command(flatten)]
    all: Terms,
    /// How many replicas must answer, instead of --level
    #[arg(long, value_name = "R", conflicts_with = "level", value_parser = clap::value_parser!(u8).range(1..=8))]
    r: Option<u8>,
}

/// Terms of a write.
#[derive(Debug, clap::Args)]
struct WriteTerms {
    #[command(flatten)]
    all: Terms,
    /// How many replicas must have it on disk, instead of --level
    #[arg(long, value_name = "W", conflicts_with = "level", value_parser = clap::value_parser!(u8).range(1..=8))]
    w: Option<u8>,
    /// A number of your choice: a write that repeats one is answered as the first was, and writes nothing more
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// What is to be written, and how long it lasts.
#[derive(Debug, clap::Args)]
struct ValueArgs {
    /// The value; - or nothing for standard input
    value: Option<String>,
    /// How long it lasts, such as 30s or 7d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = global::parse_duration)]
    ttl: Option<Duration>,
}

impl ValueArgs {
    fn ttl_ms(&self) -> Option<u64> {
        let millis = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.ttl.map(millis)
    }

    /// Returns the value as text or as base64, whichever is shorter in JSON.
    fn read(&self) -> Result<(Option<String>, Option<String>), Failure> {
        let value = match self.value.as_deref() {
            Some("-") | None => whole_input(self.value.is_none())?,
            Some(value) => value.as_bytes().to_vec(),
        };
        if value.len() > KV_VALUE_BYTES_MAX {
            return Err(Failure::new(
                Exit::Error,
                format!("the value is larger than {KV_VALUE_BYTES_MAX} bytes"),
            )
            .hint("split it over several keys; nothing was written"));
        }
        Ok(match Payload::of(&value) {
            Payload::Text(text) => (Some(text), None),
            Payload::Base64(text) => (None, Some(text)),
        })
    }
}

/// Reads standard input, one byte further than a value may have.
fn whole_input(by_default: bool) -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    if by_default && stdin.is_terminal() {
        return Err(Failure::new(Exit::Usage, "there is no value")
            .hint("give one after the key, or - to type one and end it with Ctrl-D"));
    }
    let mut value = Vec::new();
    stdin
        .lock()
        .take(KV_VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| {
            Failure::new(Exit::Error, format!("can't read standard input: {error}"))
        })?;
    Ok(value)
}

/// Prints what came of a write.
fn print_written(global: &Global, what: &str, written: &KvWritten) -> Result<(), Failure> {
    if global.json {
        return output::json(written);
    }
    output::text(&describe(what, written))
}

fn describe(what: &str, written: &KvWritten) -> String {
    let stand_ins = written
        .replicas
        .iter()
        .filter(|replica| replica.hint_for.is_some());
    let stand_ins = match stand_ins.count() {
        0 => String::new(),
        1 => ", 1 of which stands in for another".to_owned(),
        count => format!(", {count} of which stand in for others"),
    };
    format!(
        "{what} {}: version {}, on disk at {}{stand_ins} ({} needed)\n",
        written.key,
        written.version,
        output::count(written.got, "replica"),
        written.need,
    )
}

#[cfg(test)]
mod tests {
    use weft_rpc::types::KvReplica;

    use super::*;

    #[test]
    fn a_write_reads_well() {
        let replica = |hint_for: Option<&str>| KvReplica {
            peer_id: "P".to_owned(),
            durable: true,
            hint_for: hint_for.map(str::to_owned),
        };
        let mut written = KvWritten {
            key: "colour".to_owned(),
            point: String::new(),
            writer: "P".to_owned(),
            version: "7.1".to_owned(),
            written_at: String::new(),
            need: 2,
            got: 2,
            sloppy: false,
            replicas: vec![replica(None), replica(None)],
        };
        assert_eq!(
            describe("wrote", &written),
            "wrote colour: version 7.1, on disk at 2 replicas (2 needed)\n"
        );
        written.replicas[1] = replica(Some("Q"));
        assert_eq!(
            describe("deleted", &written),
            "deleted colour: version 7.1, on disk at 2 replicas, 1 of which stands in for another (2 needed)\n"
        );
    }

    #[test]
    fn an_oversize_value_is_refused() {
        let value = |bytes: usize| ValueArgs {
            value: Some("x".repeat(bytes)),
            ttl: None,
        };
        assert!(value(KV_VALUE_BYTES_MAX).read().is_ok());
        assert_eq!(
            value(KV_VALUE_BYTES_MAX + 1).read().unwrap_err().exit,
            Exit::Error
        );
    }
}
