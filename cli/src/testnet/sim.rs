//! `weft testnet sim`: a network in virtual time, which a seed decides and no machine holds.

mod bar;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weft_testnet::scenario::{self, LoadError, SHIPPED};
use weft_testnet::sim::{Board, Options, Simulation};
use weft_testnet::{Outcome, report};

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::output;
use crate::signals::Signals;
use bar::Bar;

const AFTER_HELP: &str = "\
weft testnet sim --list                         the scenarios that there are
weft testnet sim hyparview-graph                one of them, with its own seed
weft testnet sim hyparview-graph --seeds 20     twenty seeds, on all cores
weft testnet sim mine.toml --report mine.html   a file; and a page with plots";

/// Runs a scenario in virtual time
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The name of a scenario, or a file: what ends in .toml or holds a slash
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,
    /// Show the scenarios that there are
    #[arg(long, conflicts_with_all = ["scenario", "nodes", "seed", "seeds", "report"])]
    list: bool,
    /// How many nodes [default: the scenario's, for which its expectations are made]
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// The first seed [default: the scenario's]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many seeds, from the first on
    #[arg(long, value_name = "K", default_value_t = 1)]
    seeds: u64,
    /// Write a page with plots too
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Some(argument) = args.scenario else {
        return list(global);
    };
    let loaded = scenario::load(&argument)?;
    let options = Options {
        nodes: args.nodes,
        seed: args.seed,
        seeds: args.seeds,
    };
    let simulation = Simulation::new(loaded, options)
        .map_err(|invalid| Failure::new(Exit::Usage, invalid.to_string()))?;
    // Before an hour of simulation, not after it.
    let page = args.report.as_deref().map(report::Page::create);
    let page = page.transpose()?;
    let simulation = Arc::new(simulation);
    let Some(outcome) = simulate(global, Arc::clone(&simulation)).await? else {
        return Ok(());
    };
    if let Some(page) = page {
        let path = page.write(&report::sim_html(&simulation, &outcome))?;
        global.note(format_args!("wrote {}", path.display()));
    }
    if global.json {
        output::json(&outcome)?;
    } else {
        output::text(&report::sim_text(&simulation, &outcome))?;
    }
    if outcome.passed {
        Ok(())
    } else {
        Err(Failure::said(Exit::Error))
    }
}

/// Runs it on threads of its own, and shows how far it is; nothing where a signal ended it.
async fn simulate(
    global: &Global,
    simulation: Arc<Simulation>,
) -> Result<Option<Outcome>, Failure> {
    let mut signals = Signals::new()?;
    let board = Arc::new(Board::default());
    let its_board = Arc::clone(&board);
    let mut running = tokio::task::spawn_blocking(move || simulation.run(&its_board));
    let mut bar = Bar::new(global.quiet);
    let mut ticks = tokio::time::interval(SHOWN_EVERY);
    let timeout = async {
        match global.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(timeout);
    let ended = loop {
        tokio::select! {
            outcome = &mut running => break outcome.map(Some).map_err(|error| {
                Failure::new(Exit::Error, format!("the simulation broke: {error}"))
            }),
            _ = signals.next() => break Ok(None),
            () = &mut timeout => {
                let after = humantime::format_duration(global.timeout.unwrap_or_default());
                break Err(Failure::new(Exit::Timeout, format!("not done within {after}"))
                    .hint("allow more with --timeout, or take fewer --nodes or --seeds"));
            }
            _ = ticks.tick() => bar.show(&board.progress()),
        }
    };
    bar.clear();
    ended
}

fn list(global: &Global) -> Result<(), Failure> {
    let mut scenarios = Vec::new();
    for shipped in SHIPPED {
        scenarios.push(scenario::load(shipped.name)?.scenario);
    }
    if global.json {
        let entries = scenarios.iter().map(|scenario| {
            serde_json::json!({
                "scenario": scenario.name,
                "about": scenario.about,
                "source": scenario.source,
                "engine": scenario.engine,
                "nodes": scenario.nodes,
            })
        });
        return output::json(&serde_json::json!({ "scenarios": entries.collect::<Vec<_>>() }));
    }
    let rows: Vec<[String; 3]> = scenarios
        .into_iter()
        .map(|scenario| [scenario.name, scenario.nodes.to_string(), scenario.about])
        .collect();
    output::text(&output::table(
        ["SCENARIO", "NODES", "WHAT IT SHOWS"],
        &rows,
    ))
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let exit = match &error {
            LoadError::Unknown { .. } | LoadError::NotFound { .. } => Exit::NotFound,
            LoadError::Unreadable { .. } => Exit::Error,
            LoadError::Wrong { .. } => Exit::Usage,
        };
        let failure = Self::new(exit, error.to_string());
        match error {
            LoadError::Unknown { .. } => {
                let names: Vec<&str> = SHIPPED.iter().map(|shipped| shipped.name).collect();
                failure.hint(format!(
                    "there are {}; a file ends in .toml or holds a slash",
                    names.join(", ")
                ))
            }
            LoadError::NotFound { .. } => {
                failure.hint("weft testnet sim --list shows the scenarios that need no file")
            }
            LoadError::Unreadable { .. } | LoadError::Wrong { .. } => failure,
        }
    }
}

impl From<report::PageError> for Failure {
    fn from(error: report::PageError) -> Self {
        Self::new(Exit::Error, error.to_string()).hint("name another file with --report")
    }
}
