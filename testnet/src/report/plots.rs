//! Which plots a simulation's page has: the series of its runs by kind, over all seeds.

use std::collections::BTreeMap;

use weft_sim::outcome::{Outcome, Series};
use weft_sim::scenario::Scenario;

use super::plot::{Curve, Plot, Style, round_step};

/// Bars that a distribution has at most: more can't be told apart.
const BARS_MAX: f64 = 44.0;
/// The share of deliveries that their distribution shows: the last ones would leave no room for the others.
const SHOWN_SHARE: f64 = 0.999;

/// What a kind of series is about; its name is what the names of the series begin with.
struct Kind {
    name: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// A value at each x.
    Values,
    /// A share at each x, shown in per cent.
    Shares,
    /// How many have each x.
    Counts,
    /// How many have each x, of very many x.
    Spread,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "reliability",
        title: "Reliability over failures",
        x: "nodes crashed (%)",
        y: "survivors reached (%)",
        form: Form::Shares,
    },
    Kind {
        name: "lookup_success",
        title: "Lookups among liars",
        x: "nodes that lie (%)",
        y: "lookups that succeed (%)",
        form: Form::Shares,
    },
    Kind {
        name: "healing",
        title: "Healing",
        x: "cycles since the crash",
        y: "survivors reached (%)",
        form: Form::Shares,
    },
    Kind {
        name: "degrees",
        title: "Degree distribution",
        x: "active neighbours",
        y: "nodes",
        form: Form::Counts,
    },
    Kind {
        name: "latencies",
        title: "Latency distribution",
        x: "from publication to delivery (ms)",
        y: "deliveries (%)",
        form: Form::Spread,
    },
    Kind {
        name: "redundancy",
        title: "Redundancy over time",
        x: "virtual time (s)",
        y: "copies beyond the first (RMR)",
        form: Form::Values,
    },
];

/// Returns the plots of a simulation.
pub(super) fn plots(scenario: &Scenario, outcome: &Outcome) -> Vec<Plot> {
    let mut names: Vec<&str> = outcome
        .runs
        .iter()
        .flat_map(|run| run.series.keys().map(String::as_str))
        .collect();
    // In the order of shares: 5 before 10.
    names.sort_by_key(|name| (stem(name), number_at_end(name), *name));
    names.dedup();
    let mut plots = Vec::new();
    for kind in &KINDS {
        let curves: Vec<Curve> = names
            .iter()
            .filter_map(|name| {
                let rest = name.strip_prefix(kind.name)?;
                let label = rest.strip_prefix('_').or(rest.is_empty().then_some(""))?;
                Some(kind.curve(label_of(scenario, label), &series(outcome, name)))
            })
            .filter(|curve| !curve.points.is_empty())
            .collect();
        if !curves.is_empty() {
            plots.push(kind.plot(scenario, outcome, curves));
        }
    }
    plots
}

fn stem(name: &str) -> &str {
    name.rsplit_once('_').map_or(name, |(stem, _)| stem)
}

fn number_at_end(name: &str) -> u64 {
    let end = name.rsplit_once('_').map(|(_, end)| end.parse());
    end.and_then(Result::ok).unwrap_or(0)
}

/// Says what a series' name ends in: a label, and the share of the sweep.
fn label_of(scenario: &Scenario, ending: &str) -> String {
    let (label, share) = match ending.rsplit_once('_') {
        Some((label, share)) => (label, share),
        None => ("", ending),
    };
    let swept = share
        .parse()
        .is_ok_and(|share| scenario.sweep.contains(&share));
    match (swept, label, ending) {
        (true, "", _) => format!("{share} % crashed"),
        (true, label, _) => format!("{}, {share} % crashed", label.replace('_', " ")),
        (false, _, "") => "measured".to_owned(),
        (false, _, ending) => ending.replace('_', " "),
    }
}

/// Returns the values of a series at each x, in all runs.
fn series(outcome: &Outcome, name: &str) -> Vec<(f64, Vec<f64>)> {
    let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let all = outcome.runs.iter().filter_map(|run| run.series.get(name));
    let all: Vec<&Series> = all.collect();
    for (x, y) in all.into_iter().flatten().filter(|(x, _)| *x >= 0.0) {
        // Numbers that aren't negative have the order of their bits.
        at.entry(x.to_bits()).or_default().push(*y);
    }
    at.into_iter()
        .map(|(bits, values)| (f64::from_bits(bits), values))
        .collect()
}

impl Kind {
    fn curve(&self, name: String, series: &[(f64, Vec<f64>)]) -> Curve {
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        if matches!(self.form, Form::Counts | Form::Spread) {
            let points = series.iter().map(|(x, values)| (*x, sum(values)));
            return Curve {
                name,
                points: points.collect(),
                ..Curve::default()
            };
        }
        let factor = if self.form == Form::Shares {
            100.0
        } else {
            1.0
        };
        let mean = |values: &[f64]| sum(values) / values.len().max(1) as f64;
        let points = series.iter().map(|(x, values)| (*x, mean(values) * factor));
        let several = series.iter().any(|(_, values)| values.len() > 1);
        let band = series.iter().filter(|_| several).map(|(x, values)| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (*x, low * factor, high * factor)
        });
        Curve {
            name,
            points: points.collect(),
            band: band.collect(),
            is_bound: false,
        }
    }

    fn plot(&self, scenario: &Scenario, outcome: &Outcome, curves: Vec<Curve>) -> Plot {
        let mut plot = Plot {
            title: self.title.to_owned(),
            x: self.x,
            y: self.y,
            y_shown: None,
            style: Style::Lines,
            curves,
            marks: Vec::new(),
            note: None,
        };
        match self.form {
            Form::Values => plot.y_shown = Some((0.0, 0.01)),
            Form::Shares => {
                plot.y_shown = Some((100.0, 100.0));
                if self.name == "reliability" {
                    plot.curves.extend(ceiling(scenario, outcome));
                }
            }
            Form::Counts => {
                let seeds = outcome.runs.len().max(1) as f64;
                let is_alone = plot.curves.len() == 1;
                for curve in &mut plot.curves {
                    fill(&mut curve.points);
                    let all: f64 = curve.points.iter().map(|(_, count)| count).sum();
                    // Networks of different sizes compare by shares.
                    let unit = if is_alone { seeds } else { all / 100.0 };
                    let points = curve.points.iter_mut();
                    points.for_each(|(_, count)| *count /= unit.max(f64::MIN_POSITIVE));
                }
                plot.y_shown = Some((0.0, 1.0));
                if is_alone {
                    plot.style = Style::Bars { width: 1.0 };
                } else {
                    plot.y = "nodes (%)";
                }
            }
            Form::Spread => spread(&mut plot),
        }
        let mut notes: Vec<String> = plot.note.take().into_iter().collect();
        if plot.curves.iter().any(|curve| !curve.band.is_empty()) {
            let what = "Lines are means of all seeds, bands reach from the least to the most.";
            notes.push(what.to_owned());
        }
        if self.name == "healing" {
            notes.push("What has healed has no further points.".to_owned());
        }
        plot.note = (!notes.is_empty()).then(|| notes.join(" "));
        plot
    }
}

/// The most that messages can reach, where that was measured for each share of the sweep.
fn ceiling(scenario: &Scenario, outcome: &Outcome) -> Option<Curve> {
    let points: Vec<(f64, f64)> = scenario
        .sweep
        .iter()
        .filter_map(|share| {
            let ceiling = outcome.figures.get(&format!("ceiling_{share}"))?;
            Some((f64::from(*share), ceiling * 100.0))
        })
        .collect();
    (!points.is_empty()).then(|| Curve {
        name: "ceiling over both views".to_owned(),
        points,
        is_bound: true,
        ..Curve::default()
    })
}

/// Adds the numbers between that nobody has.
fn fill(points: &mut Vec<(f64, f64)>) {
    let counts: BTreeMap<u64, f64> = points.iter().map(|(x, y)| (*x as u64, *y)).collect();
    let last = counts.keys().next_back().copied().unwrap_or(0);
    if last <= BARS_MAX as u64 {
        let count = |x| counts.get(&x).copied().unwrap_or(0.0);
        *points = (0..=last).map(|x| (x as f64, count(x))).collect();
    }
}

/// Puts counts into bars of a round width, as shares of all.
fn spread(plot: &mut Plot) {
    let all = |curve: &Curve| curve.points.iter().map(|(_, count)| count).sum::<f64>();
    let at_share = |curve: &Curve, share: f64| {
        let mut left = all(curve) * share;
        let point = curve.points.iter().find(|(_, count)| {
            left -= count;
            left <= 0.0
        });
        point.or(curve.points.last()).map_or(0.0, |(x, _)| *x)
    };
    let curves = &plot.curves;
    let shown = curves.iter().map(|curve| at_share(curve, SHOWN_SHARE));
    let shown = shown.fold(1.0, f64::max);
    let last = curves.iter().map(|curve| at_share(curve, 1.0));
    let last = last.fold(0.0, f64::max);
    if let [only] = &curves[..] {
        plot.marks = [(0.5, "p50"), (0.99, "p99")]
            .map(|(share, name)| {
                let x = at_share(only, share);
                (x, format!("{name}: {} ms", super::sim::number(x)))
            })
            .into();
    }
    let width = round_step(shown / BARS_MAX).max(1.0);
    let bars = (shown / width).floor() as usize + 1;
    for curve in &mut plot.curves {
        let all = all(curve).max(1.0);
        let mut counts = vec![0.0; bars];
        for (x, count) in &curve.points {
            if let Some(bar) = counts.get_mut((x / width) as usize) {
                *bar += count;
            }
        }
        let points = counts.into_iter().enumerate();
        let middle = |index: usize| (index as f64 + 0.5) * width;
        curve.points = points
            .map(|(index, count)| (middle(index), count / all * 100.0))
            .collect();
    }
    plot.y_shown = Some((0.0, 1.0));
    if let [only] = &plot.curves[..] {
        plot.style = Style::Bars { width };
        // The names of the marks stand above the bars.
        let most = only.points.iter().map(|(_, share)| *share);
        plot.y_shown = Some((0.0, most.fold(1.0, f64::max) * 1.25));
    }
    if last > shown + width {
        plot.note = Some(format!(
            "The last of a thousand arrive later, up to {} ms.",
            super::sim::number(last)
        ));
    }
}

#[cfg(test)]
mod tests {
    use weft_sim::outcome::Run;

    use super::*;

    fn scenario() -> Scenario {
        crate::scenario::parse(
            "name = 'x'\nabout = 'y'\nsource = 'z'\nnodes = 10\nsweep = [5, 10]\n[[phase]]\ndo = 'fork'\n",
        )
        .unwrap()
    }

    fn plots_of(runs: Vec<Vec<(&str, Series)>>) -> Vec<Plot> {
        let runs = runs.into_iter().map(|series| Run {
            series: series
                .into_iter()
                .map(|(name, points)| (name.to_owned(), points))
                .collect(),
            ..Run::default()
        });
        let scenario = scenario();
        let outcome = Outcome::of(&scenario, runs.collect());
        plots(&scenario, &outcome)
    }

    #[test]
    fn series_of_one_kind_share_a_plot_in_the_order_of_shares() {
        let one = || vec![(1.0, 2.0)];
        let plots = plots_of(vec![vec![
            ("healing_10", one()),
            ("healing_5", one()),
            ("redundancy_warm_5", one()),
            ("redundancy_cold", one()),
            ("unheard_of", one()),
        ]]);
        let names: Vec<Vec<&str>> = plots
            .iter()
            .map(|plot| {
                plot.curves
                    .iter()
                    .map(|curve| curve.name.as_str())
                    .collect()
            })
            .collect();
        assert_eq!(
            names,
            [
                vec!["5 % crashed", "10 % crashed"],
                vec!["cold", "warm, 5 % crashed"]
            ]
        );
    }

    #[test]
    fn seeds_become_a_mean_and_a_band() {
        let of = |y| vec![("reliability", vec![(5.0, y)])];
        let plots = plots_of(vec![of(0.5), of(1.0)]);
        assert_eq!(plots[0].curves[0].points, [(5.0, 75.0)]);
        assert_eq!(plots[0].curves[0].band, [(5.0, 50.0, 100.0)]);
    }

    #[test]
    fn a_long_tail_leaves_room_for_the_rest() {
        let mut points: Series = (0..100).map(|ms| (f64::from(ms), 100.0)).collect();
        points.push((60_000.0, 1.0));
        let plots = plots_of(vec![vec![("latencies", points)]]);
        let bars = &plots[0].curves[0].points;
        assert!(
            bars.len() as f64 <= BARS_MAX && bars.len() >= 20,
            "{bars:?}"
        );
        let shown: f64 = bars.iter().map(|(_, share)| share).sum();
        assert!((99.8..100.0).contains(&shown), "{shown}");
        assert!(plots[0].note.as_ref().unwrap().contains("60,000 ms"));
        assert_eq!(plots[0].marks[0].1, "p50: 50 ms");
    }
}
