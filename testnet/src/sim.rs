//! Scenarios in virtual time, many seeds at once.
//!
//! A run is pure and knows no other, so seeds run on as many threads as there are cores, and what comes out is in the
//! order of seeds whatever the number of threads. The simulation knows no clock: what a run has cost is measured here.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_sim::outcome::{Outcome, Run};
use weft_sim::scenario::{Invalid, NODES_MAX, Phase, Scenario};

use crate::scenario::Loaded;

/// Nodes that are simulated at the same time in runs beside each other: some 10 kB each, so about 10 GiB.
const NODES_AT_ONCE_MAX: u32 = 1_000_000;
/// Seeds of one command: each keeps its figures until the end.
pub const SEEDS_MAX: u64 = 100_000;

/// What a user says beside the scenario.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many nodes; the scenario's own number where absent.
    pub nodes: Option<u32>,
    /// The first seed; the scenario's own where absent.
    pub seed: Option<u64>,
    /// How many seeds, one after the other from the first on.
    pub seeds: u64,
}

/// A scenario with what the user has said beside it: ready to run.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// The scenario as it is run.
    pub scenario: Scenario,
    /// The nodes that its expectations are made for.
    pub nodes_of_file: u32,
    /// What names it on the command line.
    pub argument: String,
    /// Its text.
    pub text: String,
    first_seed: u64,
    seeds: u64,
}

/// How far a simulation has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Seeds that are done, of how many.
    pub seeds: (u64, u64),
    /// The share of the virtual time of all seeds that has passed.
    pub share: f64,
    /// The phase that the run which has come least far is in, of how many.
    pub phase: (usize, usize),
    /// That run's moment in virtual time.
    pub at: Duration,
    /// Events of all runs so far.
    pub events: u64,
}

/// What runs have told of themselves, for whoever waits.
#[derive(Debug, Default)]
pub struct Board {
    of: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    plan: Plan,
    done: u64,
    events_done: u64,
    running: BTreeMap<u64, Running>,
}

/// A run that goes on.
#[derive(Debug)]
struct Running {
    last: weft_sim::Progress,
    /// Shares of the sweep that are behind it: time has jumped back to the fork so often.
    swept: u32,
}

impl Running {
    fn at(&self) -> Duration {
        Duration::from_micros(self.last.at.as_micros())
    }
}

/// How long a run takes in virtual time, as far as that is known before.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// Until the fork, or the end.
    before: Duration,
    /// From the fork to the end.
    after: Duration,
    /// How often the latter is played.
    times: u32,
}

impl Plan {
    fn of(scenario: &Scenario) -> Self {
        let takes = |phase: &Phase| match phase {
            Phase::Join { within, .. } | Phase::Restart { within } => within.0,
            Phase::Run { r#for }
            | Phase::Hang { r#for, .. }
            | Phase::Partition { r#for, .. }
            | Phase::Churn { r#for, .. }
            | Phase::Storm { r#for, .. } => r#for.0,
            Phase::Cycles { count } => scenario.overlay.cycle().saturating_mul(*count),
            Phase::Publish(publish) if !publish.meanwhile => {
                let messages = publish.warmup.saturating_add(publish.messages);
                publish.every.0.saturating_mul(messages) + publish.settle.0
            }
            // Healing ends when it has healed.
            _ => Duration::ZERO,
        };
        let fork = scenario
            .phases
            .iter()
            .position(|phase| *phase == Phase::Fork);
        let fork = fork.unwrap_or(scenario.phases.len());
        let all = |phases: &[Phase]| {
            let each = phases.iter().map(takes);
            each.fold(Duration::ZERO, Duration::saturating_add)
        };
        Self {
            before: all(&scenario.phases[..fork]),
            after: all(&scenario.phases[fork..]),
            times: scenario.sweep.len() as u32,
        }
    }

    /// Returns the share that is behind a run at a moment, with so many shares of the sweep behind it.
    fn share(&self, at: Duration, swept: u32) -> f64 {
        let passed = at.as_secs_f64() + self.after.as_secs_f64() * f64::from(swept);
        let all = self.before.as_secs_f64() + self.after.as_secs_f64() * f64::from(self.times);
        (passed / all.max(1e-6)).min(1.0)
    }
}

impl Board {
    /// Reads how far the simulation has come.
    pub fn progress(&self) -> Progress {
        let of = self.of.load(Ordering::Relaxed);
        let told = self.told();
        let shares: f64 = told
            .running
            .values()
            .map(|run| told.plan.share(run.at(), run.swept))
            .sum();
        let running = || told.running.values();
        let last = running().min_by_key(|run| run.last.phases.0);
        Progress {
            seeds: (told.done, of),
            share: (told.done as f64 + shares) / of.max(1) as f64,
            phase: last.map_or((0, 0), |run| {
                let (done, of) = run.last.phases;
                ((done + 1).min(of), of)
            }),
            at: last.map_or(Duration::ZERO, Running::at),
            events: told.events_done + running().map(|run| run.last.events).sum::<u64>(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // A run that panics doesn't hold it.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, seed: u64, progress: weft_sim::Progress) {
        let mut told = self.told();
        let run = told.running.entry(seed).or_insert(Running {
            last: progress,
            swept: 0,
        });
        run.swept += u32::from(progress.at < run.last.at);
        run.last = progress;
    }

    fn finish(&self, seed: u64) {
        let mut told = self.told();
        told.done += 1;
        if let Some(run) = told.running.remove(&seed) {
            told.events_done += run.last.events;
        }
    }
}

impl Simulation {
    /// Puts a scenario and what a user says together.
    pub fn new(loaded: Loaded, options: Options) -> Result<Self, Invalid> {
        let Loaded {
            mut scenario,
            argument,
            text,
        } = loaded;
        let nodes_of_file = scenario.nodes;
        let bounds = |what, got: u64, most: u64| {
            let must = format!("from 1 to {most}");
            let out = got == 0 || got > most;
            let invalid = Invalid::OutOfBounds {
                what,
                got: got.to_string(),
                must,
            };
            if out { Err(invalid) } else { Ok(()) }
        };
        if let Some(nodes) = options.nodes {
            bounds("--nodes", nodes.into(), NODES_MAX.into())?;
            scenario.nodes = nodes;
        }
        bounds("--seeds", options.seeds, SEEDS_MAX)?;
        scenario.check()?;
        let first_seed = options.seed.unwrap_or(scenario.seed);
        if first_seed.checked_add(options.seeds).is_none() {
            return Err(Invalid::Mismatch(format!(
                "there are no {} seeds from {first_seed} on",
                options.seeds
            )));
        }
        Ok(Self {
            scenario,
            nodes_of_file,
            argument,
            text,
            first_seed,
            seeds: options.seeds,
        })
    }

    /// Runs all seeds; this takes its time, and threads of its own.
    pub fn run(&self, board: &Board) -> Outcome {
        board.of.store(self.seeds, Ordering::Relaxed);
        board.told().plan = Plan::of(&self.scenario);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let at_once = u64::from(NODES_AT_ONCE_MAX / self.scenario.nodes.max(1));
        let threads = cores.min(self.seeds).min(at_once).max(1);
        let end = self.first_seed + self.seeds;
        let next = AtomicU64::new(self.first_seed);
        let runs = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let run = self.run_seed(seed, board);
                        let mut runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
                        runs.insert(seed, run);
                        board.finish(seed);
                    }
                });
            }
        });
        let runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = Outcome::of(&self.scenario, runs.into_values().collect());
        outcome.replay = self.replay(&outcome);
        outcome
    }

    /// Runs one seed. A panic is a finding as any other, with the seed that shows it.
    fn run_seed(&self, seed: u64, board: &Board) -> Run {
        let started = Instant::now();
        let mut tell = |progress| board.tell(seed, progress);
        let run = || weft_sim::run(&self.scenario, seed, &mut tell);
        let mut run = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Run {
            seed,
            violations: vec![format!("the simulation panicked: {}", words(&*panic))],
            ..Run::default()
        });
        let wall_s = started.elapsed().as_secs_f64();
        run.figures.insert("wall_s".to_owned(), wall_s);
        if let Some(bytes) = peak_rss_bytes() {
            run.figures
                .insert("peak_rss_bytes".to_owned(), bytes as f64);
        }
        run
    }

    /// Returns the command that shows the first failure again, or the whole where there is none.
    fn replay(&self, outcome: &Outcome) -> String {
        let mut command = format!("weft testnet sim {}", shell_word(&self.argument));
        if self.scenario.nodes != self.nodes_of_file {
            command += &format!(" --nodes {}", self.scenario.nodes);
        }
        let of_one_seed = outcome
            .failures
            .iter()
            .find(|failure| failure.at == format!("seed {}", failure.seed));
        match of_one_seed {
            Some(failure) => command += &format!(" --seed {}", failure.seed),
            None => {
                command += &format!(" --seed {}", self.first_seed);
                if self.seeds > 1 {
                    command += &format!(" --seeds {}", self.seeds);
                }
            }
        }
        command
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a word")
}

/// Returns the most memory that this process has had, as far as the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Writes an argument so that a shell reads it as one word.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    const TINY: &str = "
        name = 'tiny'
        about = 'a few nodes, a few messages'
        source = 'none'
        nodes = 12
        seed = 7
        [[phase]]
        do = 'join'
        within = '1s'
        through = 1
        [[phase]]
        do = 'publish'
        messages = 5
        every = '100ms'
        settle = '2s'
        [expect]
        delivered_share = { min = 1 }
    ";

    fn simulation(text: &str, options: Options) -> Simulation {
        let loaded = Loaded {
            scenario: parse(text).unwrap(),
            argument: "tiny.toml".to_owned(),
            text: text.to_owned(),
        };
        Simulation::new(loaded, options).unwrap()
    }

    fn of_seeds(seeds: u64) -> Options {
        Options {
            nodes: None,
            seed: None,
            seeds,
        }
    }

    /// Figures without what the machine decides.
    fn pure(outcome: &Outcome) -> Vec<(u64, u64, String)> {
        let pure = |run: &Run| {
            let mut figures = run.figures.clone();
            figures.remove("wall_s");
            figures.remove("peak_rss_bytes");
            (run.seed, run.trace, format!("{figures:?}"))
        };
        outcome.runs.iter().map(pure).collect()
    }

    #[test]
    fn seeds_come_in_order_and_alone_give_the_same_as_beside_others() {
        let all = simulation(TINY, of_seeds(6)).run(&Board::default());
        let seeds: Vec<u64> = all.runs.iter().map(|run| run.seed).collect();
        assert_eq!(seeds, [7, 8, 9, 10, 11, 12]);
        assert!(all.passed, "{:?}", all.failures);
        assert_eq!(all.replay, "weft testnet sim tiny.toml --seed 7 --seeds 6");
        for (index, run) in pure(&all).into_iter().enumerate() {
            let options = Options {
                seed: Some(seeds[index]),
                ..of_seeds(1)
            };
            let alone = simulation(TINY, options).run(&Board::default());
            assert_eq!(pure(&alone), [run]);
        }
        assert!(all.figures["wall_s"] > 0.0 && all.figures["peak_rss_bytes"] > 1e6);
    }

    #[test]
    fn a_failure_of_one_seed_is_replayed_with_it_and_one_of_the_mean_with_all() {
        let each = format!("{TINY}\nrmr = {{ min = 100 }}");
        let options = Options {
            nodes: Some(5),
            seed: Some(40),
            seeds: 2,
        };
        let outcome = simulation(&each, options).run(&Board::default());
        assert_eq!(
            outcome.replay,
            "weft testnet sim tiny.toml --nodes 5 --seed 40"
        );
        let mean = format!("{TINY}\nrmr = {{ min = 100, over = 'mean' }}");
        let outcome = simulation(&mean, options).run(&Board::default());
        assert_eq!(
            outcome.replay,
            "weft testnet sim tiny.toml --nodes 5 --seed 40 --seeds 2"
        );
    }

    #[test]
    fn the_share_is_that_of_virtual_time_over_all_of_a_sweep() {
        let scenario = parse(&format!(
            "{}\nsweep = [5, 10]\n{}",
            &TINY[..TINY.find("[[phase]]").unwrap()],
            "[[phase]]\ndo = 'run'\nfor = '10s'\n[[phase]]\ndo = 'fork'\n[[phase]]\ndo = 'run'\nfor = '5s'"
        ));
        let plan = Plan::of(&scenario.unwrap());
        let share = |seconds, swept| plan.share(Duration::from_secs(seconds), swept);
        assert_eq!([share(5, 0), share(15, 0)], [0.25, 0.75]);
        assert_eq!([share(10, 1), share(15, 1), share(99, 1)], [0.75, 1.0, 1.0]);
    }

    #[test]
    fn the_board_ends_with_everything_done() {
        let board = Board::default();
        simulation(TINY, of_seeds(2)).run(&board);
        let progress = board.progress();
        assert_eq!((progress.seeds, progress.share), ((2, 2), 1.0));
        assert!(progress.events > 100);
    }

    #[test]
    fn what_a_user_asks_for_has_bounds() {
        let loaded = || Loaded {
            scenario: parse(TINY).unwrap(),
            argument: "tiny.toml".to_owned(),
            text: TINY.to_owned(),
        };
        let told = |options| Simulation::new(loaded(), options).unwrap_err().to_string();
        let nodes = Options {
            nodes: Some(0),
            ..of_seeds(1)
        };
        assert_eq!(told(nodes), "--nodes is 0, but must be from 1 to 4000000");
        assert!(told(of_seeds(0)).starts_with("--seeds is 0"));
        let last = Options {
            seed: Some(u64::MAX),
            ..of_seeds(2)
        };
        assert!(told(last).starts_with("there are no 2 seeds"));
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(shell_word("dir/a-b.toml"), "dir/a-b.toml");
        assert_eq!(shell_word("my dir/it's.toml"), r"'my dir/it'\''s.toml'");
    }
}
