//! `weft testnet`: a network of real daemons on this machine, to try things on and to hurt; or one in virtual time.

mod sim;

use std::io::{self, IsTerminal};

use weft_testnet::{CheckOptions, Lifetime, Options, Progress, Testnet, Transport, report};

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::output;
use crate::signals::Signals;

/// Nodes where no number is given: enough for a passive view beside an active one of five.
const NODES_DEFAULT: usize = 8;

const AFTER_HELP: &str = "\
weft testnet up                       eight nodes until Ctrl-C, and what to try next
weft testnet up --nodes 50 --detach   fifty, which go on until weft testnet down
weft --node n1 status                 any command on one of them
weft testnet kill n2 n3               kill -9; then: restart n2 n3
weft testnet check                    publishes, and reports what arrived, how fast, and how often
weft testnet sim --list               scenarios in virtual time, up to a million nodes";

/// Runs, hurts and checks a network of daemons on this machine, or simulates one
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Starts a network and waits until it is whole
    Up {
        /// How many nodes
        #[arg(long, value_name = "N", default_value_t = NODES_DEFAULT)]
        nodes: usize,
        /// Return once it is whole, and let it run
        #[arg(long)]
        detach: bool,
        /// What carries the links; restarted nodes keep it
        #[arg(long, value_name = "TRANSPORT", default_value = "tcp")]
        transport: TransportName,
    },
    /// Shows each node's state, and whether the network is whole
    Status,
    /// Kills nodes at once (SIGKILL)
    Kill(Names),
    /// Starts killed nodes again, or restarts running ones, on the same ports
    Restart(Names),
    /// Stops nodes without ending them (SIGSTOP)
    Pause(Names),
    /// Lets paused nodes go on (SIGCONT)
    Resume(Names),
    /// Splits the network in two, the named nodes and all others: they refuse each other's links
    Partition(Names),
    /// Lets all nodes link to each other again
    Heal,
    /// Publishes from several nodes, and reports delivery, hops, redundancy and latency
    Check {
        /// How many nodes publish [default: 4, or all where there are fewer]
        #[arg(long, value_name = "P")]
        publishers: Option<usize>,
        /// Messages in all
        #[arg(long, value_name = "M", default_value_t = CheckOptions::default().messages)]
        messages: u64,
        /// Messages a second in all
        #[arg(long, value_name = "R", default_value_t = CheckOptions::default().rate)]
        rate: f64,
        /// Messages before those that count
        #[arg(long, value_name = "W", default_value_t = CheckOptions::default().warmup)]
        warmup: u64,
    },
    /// Ends all nodes and removes the testnet's directory
    Down,
    Sim(sim::Args),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TransportName {
    Tcp,
    Quic,
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Tcp => Self::Tcp,
            TransportName::Quic => Self::Quic,
        }
    }
}

/// What a network is started with.
struct Wanted {
    nodes: usize,
    transport: Transport,
    lifetime: Lifetime,
}

#[derive(Debug, clap::Args)]
struct Names {
    /// Names of nodes: n1, n2, …
    #[arg(required = true, value_name = "NODE")]
    names: Vec<String>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Up {
            nodes,
            detach,
            transport,
        } => {
            let wanted = Wanted {
                nodes,
                transport: transport.into(),
                lifetime: if detach {
                    Lifetime::Detached
                } else {
                    Lifetime::Foreground
                },
            };
            if !detach {
                return foreground(global, wanted).await;
            }
            let testnet = global.within_if_asked(up(global, wanted)).await?;
            stands(global, &testnet).await
        }
        Command::Check {
            publishers,
            messages,
            rate,
            warmup,
        } => {
            let options = CheckOptions {
                publishers,
                messages,
                rate,
                warmup,
            };
            global.within_if_asked(check(global, options)).await
        }
        Command::Sim(args) => sim::run(global, args).await,
        other => global.within_if_asked(change(global, other)).await,
    }
}

async fn up(global: &Global, wanted: Wanted) -> Result<Testnet, Failure> {
    let binary = std::env::current_exe().map_err(|error| {
        Failure::new(
            Exit::Error,
            format!("can't find this program's own file: {error}"),
        )
    })?;
    let options = Options {
        base_dir: global.base_dir(),
        binary,
        nodes: wanted.nodes,
        network: None,
        lifetime: wanted.lifetime,
        transport: wanted.transport,
    };
    // On a terminal each step takes the place of the one before.
    let in_place = io::stderr().is_terminal();
    let mut progress = |step: Progress| {
        if in_place && !global.quiet {
            eprint!("\r\x1b[K{step}");
        } else {
            global.note(step);
        }
    };
    let testnet = Testnet::up(options, &mut progress).await;
    if in_place && !global.quiet {
        eprint!("\r\x1b[K");
    }
    Ok(testnet?)
}

/// Says what stands.
async fn stands(global: &Global, testnet: &Testnet) -> Result<(), Failure> {
    let status = testnet.status().await;
    if global.json {
        output::json(&status)
    } else {
        output::text(&report::up_text(&status))
    }
}

/// Keeps a testnet until a signal or another command ends it, and leaves nothing behind.
async fn foreground(global: &Global, wanted: Wanted) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut testnet = tokio::select! {
        started = global.within_if_asked(up(global, wanted)) => started?,
        // Dropping the start ends and removes what it has started.
        _ = signals.next() => return Ok(()),
    };
    let shown = stands(global, &testnet).await;
    if shown.is_ok() {
        global.note("\nCtrl-C stops it.");
        tokio::select! {
            _ = signals.next() => {}
            () = testnet.taken_down() => {
                global.note("taken down by another command");
                return Ok(());
            }
        }
    }
    let ended = testnet.down().await?;
    global.note(format_args!("stopped {ended} nodes"));
    shown
}

async fn check(global: &Global, options: CheckOptions) -> Result<(), Failure> {
    let report = Testnet::open(&global.base_dir())?.check(options).await?;
    if global.json {
        output::json(&report)?;
    } else {
        output::text(&report::check_text(&report))?;
    }
    if report.passed {
        Ok(())
    } else {
        Err(Failure::said(Exit::Error))
    }
}

async fn change(global: &Global, command: Command) -> Result<(), Failure> {
    let mut testnet = Testnet::open(&global.base_dir())?;
    let (done, names) = match command {
        Command::Kill(Names { names }) => {
            testnet.kill(&names).await?;
            ("killed", names)
        }
        Command::Restart(Names { names }) => {
            testnet.restart(&names).await?;
            ("restarted", names)
        }
        Command::Pause(Names { names }) => {
            testnet.pause(&names).await?;
            ("paused", names)
        }
        Command::Resume(Names { names }) => {
            testnet.resume(&names).await?;
            ("resumed", names)
        }
        Command::Partition(Names { names }) => {
            testnet.partition(&names).await?;
            ("split off", names)
        }
        Command::Heal => {
            testnet.heal().await?;
            global.note(format_args!("healed"));
            return Ok(());
        }
        Command::Down => {
            let ended = testnet.down().await?;
            global.note(format_args!("stopped {ended} nodes"));
            return Ok(());
        }
        Command::Status | Command::Up { .. } | Command::Check { .. } | Command::Sim(_) => {
            let status = testnet.status().await;
            return if global.json {
                output::json(&status)
            } else {
                output::text(&report::status_text(&status))
            };
        }
    };
    global.note(format_args!("{done} {}", names.join(", ")));
    Ok(())
}
