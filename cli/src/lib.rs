//! The `weft` command: a daemon, and everything that one says to a daemon.
//!
//! One file a command, its help beside it. Results go to stdout, everything else to stderr; an error says what happened,
//! why, and what to do next, and its exit code says what kind it is ([`failure::Exit`]).
//!
//! **Invariant:** commands know the daemon only through `weft-rpc`, so what they can do, any program can do. Only `run`
//! touches `weft-node`'s handle.

mod config;
mod dht;
mod failure;
mod global;
mod history;
mod id;
mod kv;
mod leave;
mod logging;
mod output;
mod overlay;
mod peer;
mod publish;
mod rpc;
mod run;
mod signals;
mod status;
mod subscribe;
mod testnet;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Exit, Failure};
use global::Global;

/// Threads of a client command: one waits on the daemon while the other may be stuck in a terminal or a pipe.
const CLIENT_THREADS: usize = 2;

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 error, 2 usage, 3 daemon unreachable, 4 not allowed, 5 not found, 6 timeout,
7 conflict or quorum not met.

Try it: `weft testnet up` starts eight nodes on this machine and says what to try next.";

/// A peer-to-peer overlay: publish and subscribe without a broker, peers addressed by their keys.
#[derive(Debug, Parser)]
#[command(name = "weft", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Status(status::Args),
    Id(id::Args),
    Leave(leave::Args),
    Peer(peer::Args),
    Overlay(overlay::Args),
    Topic(topic::Args),
    Pub(publish::Args),
    Sub(subscribe::Args),
    Dht(dht::Args),
    Kv(kv::Args),
    Put(kv::put::Args),
    Get(kv::get::Args),
    Rpc(rpc::Args),
    Testnet(testnet::Args),
}

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, usage errors to stderr; a reader that is gone doesn't matter.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            }
            .into();
        }
    };
    let quiet = cli.global.quiet;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if !matches!(cli.command, Command::Run(_)) {
        runtime.worker_threads(CLIENT_THREADS);
    }
    let outcome = match runtime.enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(dispatch(cli));
            // A thread may still wait for standard input; that must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::new(
            Exit::Error,
            format!("can't start threads: {error}"),
        )),
    };
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            failure.print(quiet);
            failure.exit.into()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Run(args) => run::run(&global, args).await,
        Command::Status(args) => status::run(&global, &args).await,
        Command::Id(args) => id::run(&global, &args).await,
        Command::Leave(args) => leave::run(&global, &args).await,
        Command::Peer(args) => peer::run(&global, args).await,
        Command::Overlay(args) => overlay::run(&global, args).await,
        Command::Topic(args) => topic::run(&global, args).await,
        Command::Pub(args) => publish::run(&global, args).await,
        Command::Sub(args) => subscribe::run(&global, args).await,
        Command::Dht(args) => dht::run(&global, args).await,
        Command::Kv(args) => kv::run(&global, args).await,
        Command::Put(args) => kv::put::run(&global, args).await,
        Command::Get(args) => kv::get::run(&global, args).await,
        Command::Rpc(args) => rpc::run(&global, args).await,
        Command::Testnet(args) => testnet::run(&global, args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = Cli::try_parse_from(["weft", "--node", "n1", "topic", "ls", "--json"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.node.as_deref(), Some("n1"));
    }

    #[test]
    fn every_command_has_help() {
        fn check(command: &clap::Command) {
            assert!(
                command.get_about().is_some(),
                "{} has no help",
                command.get_name()
            );
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} has no help",
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
