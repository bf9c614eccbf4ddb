//! What became of a scenario, as a page that needs nothing but itself.

use std::fmt::Write;

use weft_sim::outcome::Outcome;

use super::plot::escape;
use super::plots::plots;
use super::sim::{FAILURES_SHOWN_MAX, Row, failure_text, foreign_size, number, rows, setting};
use crate::sim::Simulation;

const STYLE: &str = include_str!("sim.css");

/// Writes what became of a scenario as a page of its own.
pub fn sim_html(simulation: &Simulation, outcome: &Outcome) -> String {
    let scenario = &simulation.scenario;
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(&outcome.scenario),
        if outcome.passed { "passed" } else { "FAILED" },
    );
    header(simulation, outcome, &mut html);
    failures(outcome, &mut html);
    let plots = plots(scenario, outcome);
    if !plots.is_empty() {
        html += "<section class=\"plots\">\n";
        for plot in plots {
            html += &plot.figure();
        }
        html += "</section>\n";
    }
    let rows = rows(scenario, outcome);
    let (expected, others): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
        rows.iter().partition(|row| row.bound.is_some());
    if !expected.is_empty() {
        html += "<section>\n<h2>What was expected</h2>\n";
        table(&expected, outcome.runs.len(), &mut html);
        html += "</section>\n";
    }
    html += "<section>\n<h2>What else was measured</h2>\n";
    list(&others, outcome.runs.len(), &mut html);
    html += "</section>\n";
    let _ = write!(
        html,
        "<details>\n<summary>The scenario</summary>\n<pre>{}</pre>\n</details>\n</main>\n</body>\n</html>\n",
        escape(simulation.text.trim())
    );
    html
}

fn header(simulation: &Simulation, outcome: &Outcome, html: &mut String) {
    let (class, verdict) = if outcome.passed {
        ("ok", "passed")
    } else {
        ("failed", "failed")
    };
    let scenario = &simulation.scenario;
    let _ = write!(
        html,
        "<header>\n<p class=\"brand\">Weft, in virtual time</p>\n\
         <h1>{} <span class=\"verdict {class}\">{verdict}</span></h1>\n<p class=\"about\">{}</p>\n<dl>\n",
        escape(&outcome.scenario),
        escape(&scenario.about)
    );
    let mut term = |name: &str, text: String| {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{text}</dd></div>");
    };
    let mut network = escape(&setting(outcome));
    if let Some(note) = foreign_size(simulation) {
        let _ = write!(network, "<br><em>{}</em>", escape(&note));
    }
    term("Network", network);
    term("Source", escape(&scenario.source));
    term(
        "Replay",
        format!("<code>{}</code>", escape(&outcome.replay)),
    );
    *html += "</dl>\n</header>\n";
}

fn failures(outcome: &Outcome, html: &mut String) {
    if outcome.failures.is_empty() {
        return;
    }
    *html += "<section class=\"failures\">\n<h2>What was not met</h2>\n<ul>\n";
    for failure in outcome.failures.iter().take(FAILURES_SHOWN_MAX) {
        let _ = writeln!(html, "<li>{}</li>", escape(&failure_text(failure)));
    }
    let more = outcome.failures.len().saturating_sub(FAILURES_SHOWN_MAX);
    if more > 0 {
        let _ = writeln!(html, "<li>and {} more</li>", number(more as f64));
    }
    *html += "</ul>\n</section>\n";
}

/// Writes figures with what is expected of them.
fn table(rows: &[&Row<'_>], seeds: usize, html: &mut String) {
    let values: &[&str] = if seeds > 1 {
        &["min", "mean", "max"]
    } else {
        &["value"]
    };
    *html += "<div class=\"scroll\"><table>\n<thead><tr><th>figure</th>";
    for value in values {
        let _ = write!(html, "<th class=\"n\">{value}</th>");
    }
    *html += "<th>expected</th><th></th></tr></thead>\n<tbody>\n";
    for row in rows {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(row.name));
        let mean = row.shown_mean();
        let values = if seeds > 1 {
            vec![row.shown(row.min), mean, row.shown(row.max)]
        } else {
            vec![mean]
        };
        for value in values {
            let _ = write!(html, "<td class=\"n\">{value}</td>");
        }
        let class = if row.missed > 0 { "failed" } else { "ok" };
        let _ = writeln!(
            html,
            "<td>{}</td><td><span class=\"verdict {class}\">{}</span></td></tr>",
            escape(&row.expected()),
            row.verdict(seeds)
        );
    }
    *html += "</tbody>\n</table></div>\n";
}

/// Writes figures of which nothing is expected, in as many columns as there is room for.
fn list(rows: &[&Row<'_>], seeds: usize, html: &mut String) {
    let class = if seeds > 1 { "figures wide" } else { "figures" };
    let _ = writeln!(html, "<ul class=\"{class}\">");
    for row in rows {
        let _ = write!(
            html,
            "<li><code>{}</code><span>{}",
            escape(row.name),
            row.shown_mean()
        );
        if seeds > 1 && row.min < row.max {
            let (min, max) = (row.shown(row.min), row.shown(row.max));
            let _ = write!(html, " <small>{min} to {max}</small>");
        }
        *html += "</span></li>\n";
    }
    *html += "</ul>\n";
}
