//! `weft topic`: publish, subscribe, list, read history. `weft pub` and `weft sub` are the same in short.

use std::time::SystemTime;

use weft_node::TopicName;
use weft_rpc::Start;
use weft_rpc::method::TopicList;
use weft_rpc::types::NoParams;

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::{history, output, publish, subscribe};

/// Publishes to, subscribes to and lists topics, and reads their history
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
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Pub(args) => publish::run(global, args).await,
        Command::Sub(args) => subscribe::run(global, args).await,
        Command::History(args) => history::run(global, args).await,
        Command::Ls => ls(global).await,
    }
}

async fn ls(global: &Global) -> Result<(), Failure> {
    let topics = global.call::<TopicList>(NoParams {}).await?;
    if global.json {
        return output::json(&topics);
    }
    if topics.topics.is_empty() {
        global.note("no topics yet; weft sub TOPIC joins one");
    }
    let rows: Vec<_> = topics
        .topics
        .iter()
        .map(|topic| {
            [
                topic.topic.clone(),
                topic.subscriptions.to_string(),
                topic.members_known.to_string(),
            ]
        })
        .collect();
    output::text(&output::table(
        ["TOPIC", "SUBSCRIPTIONS HERE", "OTHER MEMBERS KNOWN"],
        &rows,
    ))
}

/// Reads where to begin before a daemon is asked: it is a matter of usage. What counts back counts from now.
pub(crate) fn start(text: &str) -> Result<Start, Failure> {
    Start::parse(text, SystemTime::now())
        .map_err(|error| Failure::new(Exit::Usage, format!("--from: {error}")))
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
