//! The phases and figures of the structured layer.

use super::figures::{at_share, mean};
use super::script::Act;
use super::{Progress, Runner};
use crate::machine::{Machine, NodeId};
use crate::scenario::Lookups;
use crate::watch::LookedUp;

impl<M: Machine> Runner<'_, M> {
    /// Draws the liars among the nodes that start from now on.
    pub(super) fn lie(&mut self, share: f64, spare: u32) {
        let mut nodes: Vec<NodeId> = (spare..self.engine.len()).collect();
        let count = (f64::from(self.engine.len()) * share).round() as usize;
        self.shuffle(&mut nodes, count);
        nodes.truncate(count);
        self.script.set_liars(&mut self.engine, &nodes);
    }

    pub(super) fn look_up(&mut self, lookups: &Lookups, progress: &mut dyn FnMut(Progress)) {
        let start = self.engine.now().time;
        for index in 0..lookups.count {
            let act = Act::LookUp {
                paths: lookups.paths,
                label: lookups.label.clone(),
            };
            let at = start + lookups.every.0 * index;
            self.script.plan(&mut self.engine, at, act);
        }
        if !lookups.meanwhile {
            self.pass(lookups.every.0 * lookups.count + lookups.settle.0, progress);
        }
    }

    /// Makes the figures of all lookups.
    pub(super) fn lookup_figures(&mut self) {
        let labels: Vec<(u16, String)> = self
            .script
            .labels()
            .map(|(number, label)| (number, label.to_owned()))
            .collect();
        for (number, label) in labels {
            let ended: Vec<LookedUp> = self.engine.watch.lookups.ended(number).copied().collect();
            if !ended.is_empty() {
                self.figures_of(number, &label, &ended);
            }
        }
    }

    fn figures_of(&mut self, number: u16, label: &str, ended: &[LookedUp]) {
        let end = if label.is_empty() {
            String::new()
        } else {
            format!("_{label}")
        };
        let found = |of: fn(&weft_dht::lookup::Found) -> u32| {
            let closest = ended.iter().filter_map(|it| it.stats.closest.as_ref());
            mean(closest.map(|found| f64::from(of(found))))
        };
        let share =
            |of: fn(&LookedUp) -> bool| mean(ended.iter().map(|it| f64::from(u8::from(of(it)))));
        let each = |of: fn(&LookedUp) -> u32| mean(ended.iter().map(|it| f64::from(of(it))));
        let waiting = self.engine.watch.lookups_waiting(number);
        let mut millis: Vec<f64> = ended.iter().map(|it| it.took.as_secs_f64() * 1e3).collect();
        millis.sort_unstable_by(f64::total_cmp);
        let success = share(|it| it.success);
        let figures = [
            ("lookups", ended.len() as f64),
            ("lookups_unended", waiting as f64),
            ("lookup_success", success),
            ("lookup_exact", share(|it| it.exact)),
            ("lookup_hops", found(|found| found.hops)),
            ("lookup_found_after", found(|found| found.answers)),
            ("lookup_requests", each(|it| it.stats.requests)),
            ("lookup_failures", each(|it| it.stats.failures)),
            ("lookup_ms_p50", at_share(&millis, 0.5)),
            ("lookup_ms_p99", at_share(&millis, 0.99)),
        ];
        for (name, value) in figures {
            self.set(&format!("{name}{end}"), value);
        }
        if let Some(share) = self.swept {
            let points = self
                .series
                .entry(format!("lookup_success{end}"))
                .or_default();
            points.push((f64::from(share), success));
        }
        let mut histogram = std::collections::BTreeMap::<u64, f64>::new();
        for took in millis {
            *histogram.entry(took as u64).or_default() += 1.0;
        }
        let points = histogram.into_iter().map(|(ms, count)| (ms as f64, count));
        let name = format!("latencies{end}{}", self.suffix);
        self.series.insert(name, points.collect());
    }
}
