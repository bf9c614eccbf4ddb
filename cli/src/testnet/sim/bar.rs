//! How far a simulation is, on stderr: in place on a terminal, a line now and then elsewhere.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use weft_testnet::sim::Progress;

use crate::output;

/// The length of the bar proper.
const CELLS: usize = 24;
/// How often it is said in a line of its own where that can't be taken back: a log should stay short.
const SAID_EVERY: Duration = Duration::from_secs(15);
/// Over which time events are counted to tell their rate.
const RATE_OVER: Duration = Duration::from_secs(1);

pub(super) struct Bar {
    is_quiet: bool,
    in_place: bool,
    started: Instant,
    said: Instant,
    share: f64,
    /// Events at a moment, for their rate.
    before: (Instant, u64),
    rate: f64,
}

impl Bar {
    pub(super) fn new(is_quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            is_quiet,
            in_place: io::stderr().is_terminal(),
            started: now,
            said: now,
            share: 0.0,
            before: (now, 0),
            rate: 0.0,
        }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        if self.is_quiet || progress.seeds.1 == 0 {
            return;
        }
        // A run that was slower than planned must not take anything back.
        self.share = self.share.max(progress.share);
        self.count(progress.events);
        let line = Line {
            progress,
            share: self.share,
            rate: self.rate,
        };
        if self.in_place {
            eprint!("\r\x1b[K{} {line}", cells(self.share));
        } else if self.said.elapsed() >= SAID_EVERY {
            self.said = Instant::now();
            let elapsed = output::seconds(self.started.elapsed().as_secs_f64());
            output::say(format_args!("{line}, after {elapsed}"));
        }
    }

    pub(super) fn clear(&self) {
        if self.in_place && !self.is_quiet {
            eprint!("\r\x1b[K");
        }
    }

    fn count(&mut self, events: u64) {
        let (since, before) = self.before;
        let over = since.elapsed();
        if over >= RATE_OVER || self.rate == 0.0 {
            self.rate = events.saturating_sub(before) as f64 / over.as_secs_f64().max(1e-3);
        }
        if over >= RATE_OVER {
            self.before = (Instant::now(), events);
        }
    }
}

fn cells(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * CELLS as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(CELLS - full))
}

struct Line<'a> {
    progress: &'a Progress,
    share: f64,
    rate: f64,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress {
            seeds, phase, at, ..
        } = self.progress;
        write!(f, "{:.0} %", self.share.clamp(0.0, 1.0) * 100.0)?;
        if phase.1 > 0 {
            write!(f, ", phase {} of {}", phase.0, phase.1)?;
            write!(f, ", {:.0} s of virtual time", at.as_secs_f64())?;
        }
        write!(f, ", {} events/s", short(self.rate))?;
        if seeds.1 > 1 {
            write!(f, ", {} of {} seeds", seeds.0, seeds.1)?;
        }
        Ok(())
    }
}

/// Writes a rate so that it doesn't flicker.
fn short(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.1}M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.0}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_phase_time_rate_and_seeds() {
        let progress = Progress {
            seeds: (3, 20),
            share: 0.18,
            phase: (2, 4),
            at: Duration::from_secs(61),
            events: 5,
        };
        let line = Line {
            progress: &progress,
            share: 0.18,
            rate: 1_260_000.0,
        };
        assert_eq!(
            line.to_string(),
            "18 %, phase 2 of 4, 61 s of virtual time, 1.3M events/s, 3 of 20 seeds"
        );
        assert_eq!(cells(0.5), format!("{}{}", "█".repeat(12), "░".repeat(12)));
        assert_eq!(cells(7.0).chars().count(), CELLS);
    }
}
