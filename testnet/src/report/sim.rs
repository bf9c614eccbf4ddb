//! What became of a scenario, as a table on a terminal.

use std::fmt::Write;

use weft_sim::outcome::{Failure, Outcome};
use weft_sim::scenario::{Bound, EngineKind, Over, Scenario};

use super::table;
use crate::sim::Simulation;

/// Failures that are listed one by one; a broken scenario fails in hundreds of seeds.
pub(super) const FAILURES_SHOWN_MAX: usize = 20;

/// One figure over all seeds, and what is expected of it.
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) mean: Option<f64>,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) bound: Option<&'a Bound>,
    /// Seeds that miss the bound: all where it is the mean that does.
    pub(super) missed: usize,
}

/// Returns all figures: those of which something is expected first.
pub(super) fn rows<'a>(scenario: &'a Scenario, outcome: &'a Outcome) -> Vec<Row<'a>> {
    let row = |name: &'a str| {
        let values = || outcome.runs.iter().filter_map(|run| run.figures.get(name));
        let bound = scenario.expect.get(name);
        let mean = outcome.figures.get(name).copied();
        let fails = |value: Option<&f64>| match bound {
            Some(bound) => !value.is_some_and(|value| bound.holds(*value)),
            None => false,
        };
        Row {
            name,
            mean,
            min: values().copied().fold(f64::INFINITY, f64::min),
            max: values().copied().fold(f64::NEG_INFINITY, f64::max),
            bound,
            missed: match bound.map(|bound| bound.over) {
                Some(Over::Mean) if fails(mean.as_ref()) => outcome.runs.len(),
                Some(Over::Mean) | None => 0,
                Some(Over::Each) => {
                    let runs = outcome.runs.iter();
                    runs.filter(|run| fails(run.figures.get(name))).count()
                }
            },
        }
    };
    let expected = scenario.expect.keys();
    let others = outcome.figures.keys();
    let others = others.filter(|name| !scenario.expect.contains_key(*name));
    expected.chain(others).map(|name| row(name)).collect()
}

impl Row<'_> {
    /// Says what is expected.
    pub(super) fn expected(&self) -> String {
        match self.bound {
            Some(bound) if bound.over == Over::Mean => format!("mean {bound}"),
            Some(bound) => bound.to_string(),
            None => String::new(),
        }
    }

    /// Says whether it is so.
    pub(super) fn verdict(&self, seeds: usize) -> String {
        match (self.bound, self.missed) {
            (None, _) => String::new(),
            (Some(_), 0) => "ok".to_owned(),
            (Some(bound), missed) if bound.over == Over::Each && seeds > 1 => {
                format!("FAILED ({missed} of {seeds} seeds)")
            }
            _ => "FAILED".to_owned(),
        }
    }

    /// Writes one of its values; a figure that wasn't measured has none.
    pub(super) fn shown(&self, value: f64) -> String {
        self.mean.map_or_else(|| "-".to_owned(), |_| number(value))
    }

    /// Writes its mean.
    pub(super) fn shown_mean(&self) -> String {
        self.shown(self.mean.unwrap_or(0.0))
    }
}

/// Writes what became of a scenario.
pub fn sim_text(simulation: &Simulation, outcome: &Outcome) -> String {
    let mut text = format!(
        "{}: {}\n  {}\n",
        if outcome.passed { "passed" } else { "FAILED" },
        outcome.scenario,
        setting(outcome)
    );
    if let Some(note) = foreign_size(simulation) {
        let _ = writeln!(text, "  {note}");
    }
    text.push('\n');
    text += &figures(&simulation.scenario, outcome);
    text.push('\n');
    for failure in outcome.failures.iter().take(FAILURES_SHOWN_MAX) {
        let _ = writeln!(text, "failure  {}", failure_text(failure));
    }
    let more = outcome.failures.len().saturating_sub(FAILURES_SHOWN_MAX);
    if more > 0 {
        let _ = writeln!(text, "         and {more} more");
    }
    let _ = writeln!(text, "replay   {}", outcome.replay);
    text
}

/// Says what was run: `1,000 nodes, one swarm each; seeds 1 to 20`.
pub(super) fn setting(outcome: &Outcome) -> String {
    let engine = match outcome.engine {
        EngineKind::Swarm => "one swarm each",
        EngineKind::Node => "whole nodes",
        EngineKind::Lookup => "a routing table each",
    };
    let seeds = if outcome.seeds == 1 {
        format!("seed {}", outcome.seed)
    } else {
        let last = outcome.seed + outcome.seeds.saturating_sub(1);
        format!("seeds {} to {last}", outcome.seed)
    };
    format!("{} nodes, {engine}; {seeds}", number(outcome.nodes.into()))
}

/// Says that expectations were made for another size, where they were.
pub(super) fn foreign_size(simulation: &Simulation) -> Option<String> {
    (simulation.scenario.nodes != simulation.nodes_of_file).then(|| {
        let nodes = number(simulation.nodes_of_file.into());
        format!("note: its expectations are made for {nodes} nodes")
    })
}

/// Says what was expected, what was found, and where.
pub(super) fn failure_text(failure: &Failure) -> String {
    let got = failure.got.parse();
    let got = got.map_or_else(|_| failure.got.clone(), precise);
    format!("{}: {}, got {got}", failure.at, failure.expectation)
}

fn figures(scenario: &Scenario, outcome: &Outcome) -> String {
    let seeds = outcome.runs.len();
    let rows = rows(scenario, outcome);
    if seeds == 1 {
        let mut cells = vec![["FIGURE", "VALUE", "EXPECTED", ""].map(str::to_owned)];
        cells.extend(rows.iter().map(|row| {
            let name = row.name.to_owned();
            [name, row.shown_mean(), row.expected(), row.verdict(seeds)]
        }));
        align_right(&mut cells, 1..2);
        return table(&cells);
    }
    let mut cells = vec![["FIGURE", "MIN", "MEAN", "MAX", "EXPECTED", ""].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        [
            row.name.to_owned(),
            row.shown(row.min),
            row.shown_mean(),
            row.shown(row.max),
            row.expected(),
            row.verdict(seeds),
        ]
    }));
    align_right(&mut cells, 1..4);
    table(&cells)
}

fn align_right<const N: usize>(rows: &mut [[String; N]], columns: std::ops::Range<usize>) {
    for column in columns {
        let width = rows.iter().map(|row| row[column].chars().count()).max();
        for row in &mut *rows {
            row[column] = format!("{:>1$}", row[column], width.unwrap_or(0));
        }
    }
}

/// Writes a figure as people read it: four digits that count, thousands apart.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let whole = value.round();
    if value.abs() >= 1_000.0 || value == whole {
        return thousands(whole);
    }
    let digits = 3.0 - value.abs().log10().floor();
    format!("{value:.*}", digits.clamp(0.0, 6.0) as usize)
}

/// Writes a figure that missed its bound, by however little.
fn precise(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousands(whole: f64) -> String {
    let digits = format!("{:.0}", whole.abs());
    let mut text = String::from(if whole < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.012_345, "0.01235"),
            (0.000_058, "0.000058"),
            (6.385_21, "6.385"),
            (999.6, "999.6"),
            (1_234.4, "1,234"),
            (12_345_678.0, "12,345,678"),
            (-1_000.0, "-1,000"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(precise(0.999_96), "0.99996");
        assert_eq!(precise(7.0), "7");
    }
}
