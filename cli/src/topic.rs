//! `weft topic`: publish, subscribe, look, read history. `weft pub` and `weft sub` are the same in short.

mod consumers;
mod look;

use std::time::SystemTime;

use weft_node::{ConsumerName, TopicName};
use weft_rpc::Start;

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::{history, publish, subscribe};

/// Publishes to and subscribes to topics, shows them, and reads their history
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Pub(publish::Args),
    Sub(subscribe::Args),
    History(history::Args),
    /// Lists the topics that the node is a member of or knows members of
    Ls,
    Members(look::MembersArgs),
    Stats(look::StatsArgs),
    Consumers(consumers::Args),
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Pub(args) => publish::run(global, args).await,
        Command::Sub(args) => subscribe::run(global, args).await,
        Command::History(args) => history::run(global, args).await,
        Command::Ls => look::ls(global).await,
        Command::Members(args) => look::members(global, args).await,
        Command::Stats(args) => look::stats(global, args).await,
        Command::Consumers(args) => consumers::run(global, args).await,
    }
}

/// Reads where to begin before a daemon is asked: it is a matter of usage. What counts back counts from now.
pub(crate) fn start(text: &str) -> Result<Start, Failure> {
    Start::parse(text, SystemTime::now())
        .map_err(|error| Failure::new(Exit::Usage, format!("--from: {error}")))
}

/// Refuses what is no consumer's name before a daemon is asked: it is a matter of usage.
pub(crate) fn check_consumer(name: &str) -> Result<(), Failure> {
    match name.parse::<ConsumerName>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(
            Exit::Usage,
            format!("{name:?} is no consumer's name: {error}"),
        )),
    }
}

/// Refuses what is no topic's name before a daemon is asked: it is a matter of usage.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    match name.parse::<TopicName>() {
        Ok(_) => Ok(()),
        Err(error) => Err(
            Failure::new(Exit::Usage, format!("{name:?} is no topic name: {error}")).hint(
                "use 1 to 200 bytes of A-Z a-z 0-9 . _ / -; `network` and a leading @ are reserved",
            ),
        ),
    }
}
