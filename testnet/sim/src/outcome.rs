//! What became of a scenario: figures, series for plots, and expectations that were not met.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::scenario::{Bound, EngineKind, Over, Scenario};

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;

/// Points of a plot.
pub type Series = Vec<(f64, f64)>;

/// One run with one seed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What was measured.
    pub figures: Figures,
    /// What is plotted, by name.
    #[serde(skip)]
    pub series: BTreeMap<String, Series>,
    /// What is worth telling beside figures: whom what is missing at.
    pub notes: Vec<String>,
    /// What must never happen in any run, and did.
    pub violations: Vec<String>,
    /// A number that only the same run has.
    pub trace: u64,
}

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// What was expected.
    pub expectation: String,
    /// What was found instead.
    pub got: String,
    /// Where: a seed, or the mean of all.
    pub at: String,
    /// The seed that shows it.
    pub seed: u64,
}

/// What became of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub scenario: String,
    /// What each node was.
    pub engine: EngineKind,
    /// How many nodes.
    pub nodes: u32,
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u64,
    /// Whether every expectation was met.
    pub passed: bool,
    /// The mean of each figure over all seeds.
    pub figures: Figures,
    /// The expectations that were not met.
    pub failures: Vec<Failure>,
    /// The command that runs it again: the first failure, where there is one.
    pub replay: String,
    /// Each run.
    pub runs: Vec<Run>,
}

impl Outcome {
    /// Holds runs against what the scenario expects.
    pub fn of(scenario: &Scenario, runs: Vec<Run>) -> Self {
        let mut failures = Vec::new();
        let mut figures = Figures::new();
        for run in &runs {
            for (name, value) in &run.figures {
                *figures.entry(name.clone()).or_default() += value / runs.len() as f64;
            }
            failures.extend(run.violations.iter().map(|what| Failure {
                expectation: "no violation in any run".to_owned(),
                got: what.clone(),
                at: format!("seed {}", run.seed),
                seed: run.seed,
            }));
        }
        let seed = runs.first().map_or(scenario.seed, |run| run.seed);
        for (name, bound) in &scenario.expect {
            match bound.over {
                Over::Mean => failures.extend(judge(name, bound, &figures, "mean", seed)),
                Over::Each => {
                    for run in &runs {
                        let at = format!("seed {}", run.seed);
                        failures.extend(judge(name, bound, &run.figures, &at, run.seed));
                    }
                }
            }
        }
        let replayed = failures.first().map_or(seed, |failure| failure.seed);
        Self {
            scenario: scenario.name.clone(),
            engine: scenario.engine,
            nodes: scenario.nodes,
            seed,
            seeds: runs.len() as u64,
            passed: failures.is_empty(),
            figures,
            failures,
            replay: format!(
                "weft testnet sim {} --nodes {} --seed {replayed}",
                scenario.name, scenario.nodes
            ),
            runs,
        }
    }
}

fn judge(name: &str, bound: &Bound, figures: &Figures, at: &str, seed: u64) -> Option<Failure> {
    let expectation = format!("{name} {bound}");
    let got = match figures.get(name) {
        None => "no such figure".to_owned(),
        Some(value) if bound.holds(*value) => return None,
        Some(value) => value.to_string(),
    };
    Some(Failure {
        expectation,
        got,
        at: at.to_owned(),
        seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(min: Option<f64>, max: Option<f64>) -> Bound {
        Bound {
            min,
            max,
            over: Over::Each,
        }
    }

    #[test]
    fn a_figure_outside_its_bound_or_absent_fails() {
        let figures = Figures::from([("rmr".to_owned(), 0.5)]);
        let judged = |name, bound| judge(name, &bound, &figures, "seed 1", 1);
        assert_eq!(judged("rmr", bound(None, Some(0.5))), None);
        let failure = judged("rmr", bound(None, Some(0.1))).unwrap();
        assert_eq!(
            (failure.expectation.as_str(), failure.got.as_str()),
            ("rmr at most 0.1", "0.5")
        );
        assert_eq!(
            judged("hops", bound(Some(1.0), None)).unwrap().got,
            "no such figure"
        );
        assert!(judged("rmr", bound(Some(f64::NAN), None)).is_some());
    }
}
