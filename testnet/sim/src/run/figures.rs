//! Figures of a run, under the names that scenarios expect them by.

use std::time::Duration;

use super::{Progress, Runner};
use crate::graph::Graph;
use crate::machine::Machine;
use crate::scenario::EngineKind;
use crate::watch::Message;

/// Notes of one kind.
const NOTES_MAX: usize = 10;
/// Labels that begin so are of messages that don't count.
pub(super) const UNCOUNTED: &str = "~";

impl<M: Machine> Runner<'_, M> {
    pub(super) fn graph_figures(&mut self, graph: &Graph) {
        let mut rng = self.engine.rng().clone();
        let measured = graph.measure(&mut rng);
        let degrees = graph.degrees();
        let full = self.scenario.overlay.settings().membership.active_max;
        let of_full = f64::from(degrees.get(full).copied().unwrap_or(0));
        let nodes = f64::from(measured.nodes.max(1));
        self.set("avg_shortest_path", measured.avg_shortest_path);
        self.set("diameter", f64::from(measured.diameter));
        self.set("clustering", measured.clustering);
        self.set("active_full_share", of_full / nodes);
        self.set("components", f64::from(measured.components));
        self.set("isolated", f64::from(measured.isolated));
        for (degree, count) in degrees.iter().enumerate() {
            self.point("degrees", degree as f64, f64::from(*count));
        }
    }

    /// Returns the mean share of nodes that the messages of a label have reached.
    pub(super) fn reliability(&self, label: &str) -> f64 {
        let number = self.script.labels().find(|(_, known)| *known == label);
        let Some((number, _)) = number else {
            return 0.0;
        };
        mean(self.engine.watch.messages(number).map(reached))
    }

    /// Makes the figures of everything that was published, and of the end.
    pub(super) fn conclude(&mut self) {
        let labels: Vec<(u16, String)> = self
            .script
            .labels()
            .filter(|(_, label)| !label.starts_with(UNCOUNTED) && !label.starts_with("healing"))
            .map(|(number, label)| (number, label.to_owned()))
            .collect();
        for (number, label) in labels {
            self.message_figures(number, &label);
        }
        let figure = |name: &str| self.figures.get(&format!("{name}{}", self.suffix)).copied();
        if let (Some(reliability), Some(ceiling)) = (figure("reliability"), figure("ceiling")) {
            self.set("of_ceiling", reliability / ceiling);
        }
        self.traffic_figures();
        let accusations: u64 = self.engine.watch.accusations.values().sum();
        self.set("accusations", accusations as f64);
        for (what, times) in &self.engine.watch.accusations {
            self.notes.push(format!("accused {times} times: {what}"));
        }
        self.set("violations", self.engine.watch.violations_count as f64);
        self.set("virtual_s", self.time().as_micros() as f64 / 1e6);
        self.set("events", self.engine.events() as f64);
        self.set("nodes_up", f64::from(self.engine.watch.up()));
        match self.scenario.engine {
            EngineKind::Lookup => self.lookup_figures(),
            EngineKind::Swarm | EngineKind::Node => self.end_figures(),
        }
        self.kv_figures();
    }

    /// Makes the figures of what everybody was owed, and of the views at the end.
    fn end_figures(&mut self) {
        let owed = self.engine.watch.owed();
        self.notes.extend(owed.examples);
        self.set("missing_forever", owed.missing as f64);
        self.set("missing_silently", owed.untold as f64);
        let got = owed.owed - owed.missing;
        let share = if owed.owed == 0 {
            1.0
        } else {
            got as f64 / owed.owed as f64
        };
        self.set("delivered_share", share);
        self.set(
            "order_violations",
            self.engine.watch.order_violations as f64,
        );
        let again = self.engine.watch.duplicates_delivered;
        self.set("duplicates_delivered", again as f64);
        self.set("told_missing", self.engine.watch.told_missing as f64);
        let repairing = self.engine.machines().filter(|(_, m)| m.is_repairing());
        let repairing = repairing.count();
        self.set("repairing", repairing as f64);
        let graph = self.graph();
        let components = graph.components();
        let isolated = graph.nodes().filter(|node| graph.of_node(*node).is_empty());
        let isolated = isolated.count();
        self.set("components_end", components.len() as f64);
        self.set("isolated_end", isolated as f64);
    }

    /// Waits for links that only one end has to end, as they do once the ends compare notes: what hasn't lasted doesn't count.
    pub(super) fn let_settle(&mut self, progress: &mut dyn FnMut(Progress)) {
        /// Twice the time in which neighbours compare notes at least once.
        const LASTING: Duration = Duration::from_secs(40);
        let before = self.graph().asymmetric();
        if !before.is_empty() {
            self.pass(LASTING, progress);
        }
        let mut after = self.graph().asymmetric();
        after.retain(|link| before.contains(link));
        self.set("asymmetric_end", after.len() as f64);
        let told = after.iter().take(NOTES_MAX);
        let told =
            told.map(|(at, peer)| format!("n{at} has n{peer} as a neighbour, which has not"));
        self.notes.extend(told);
    }

    fn message_figures(&mut self, number: u16, label: &str) {
        let messages: Vec<Message> = self.engine.watch.messages(number).copied().collect();
        if messages.is_empty() {
            return;
        }
        let end = if label.is_empty() {
            String::new()
        } else {
            format!("_{label}")
        };
        let copies: f64 = messages.iter().map(|m| f64::from(m.copies)).sum();
        let firsts: f64 = messages
            .iter()
            .map(|m| f64::from(m.delivered.saturating_sub(1)))
            .sum();
        let mut completions: Vec<f64> = messages.iter().map(completion_ms).collect();
        completions.sort_by(f64::total_cmp);
        self.set(&format!("messages{end}"), messages.len() as f64);
        self.set(&format!("rmr{end}"), copies / firsts.max(1.0) - 1.0);
        let hops = mean(messages.iter().map(|m| f64::from(m.hops_max)));
        self.set(&format!("last_delivery_hop{end}"), hops);
        let completion = mean(completions.iter().copied());
        self.set(&format!("completion_ms{end}"), completion);
        self.set(
            &format!("completion_ms_p50{end}"),
            at_share(&completions, 0.5),
        );
        self.set(
            &format!("completion_ms_max{end}"),
            at_share(&completions, 1.0),
        );
        let reliability = mean(messages.iter().map(reached));
        self.set(&format!("reliability{end}"), reliability);
        let missed = mean(messages.iter().map(|m| 1.0 - reached(m)));
        self.set(&format!("residue{end}"), missed);
        let traffic = mean(
            messages
                .iter()
                .map(|m| f64::from(m.copies) / f64::from(m.up.max(1))),
        );
        self.set(&format!("traffic{end}"), traffic);
        // Demers' law: the residue is e^-traffic.
        self.set(&format!("law{end}"), missed / (-traffic).exp());
        self.latency_figures(number, &end);
        if let Some(share) = self.swept {
            let points = self.series.entry(format!("reliability{end}")).or_default();
            points.push((f64::from(share), reliability));
        }
        self.redundancy_series(&messages, &end);
    }

    fn latency_figures(&mut self, number: u16, end: &str) {
        let histogram = self.engine.watch.latencies(number).to_vec();
        let all: u64 = histogram.iter().map(|count| u64::from(*count)).sum();
        let percentile = |share: f64| {
            let mut left = (all as f64 * share).ceil() as u64;
            histogram.iter().position(|count| {
                left = left.saturating_sub(u64::from(*count));
                left == 0
            })
        };
        if all == 0 {
            return;
        }
        for (name, share) in [("latency_ms_p50", 0.5), ("latency_ms_p99", 0.99)] {
            self.set(
                &format!("{name}{end}"),
                percentile(share).unwrap_or(0) as f64,
            );
        }
        let name = format!("latencies{end}{}", self.suffix);
        let points = histogram
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let points = points.map(|(ms, count)| (ms as f64, f64::from(*count)));
        self.series.insert(name, points.collect());
    }

    /// Redundancy over time: of the messages of each second.
    fn redundancy_series(&mut self, messages: &[Message], end: &str) {
        let mut seconds = std::collections::BTreeMap::<u64, (f64, f64)>::new();
        for message in messages {
            let second = seconds
                .entry(message.at.as_micros() / 1_000_000)
                .or_default();
            second.0 += f64::from(message.copies);
            second.1 += f64::from(message.delivered.saturating_sub(1));
        }
        let points = seconds
            .into_iter()
            .map(|(second, (copies, firsts))| (second as f64, copies / firsts.max(1.0) - 1.0));
        let name = format!("redundancy{end}{}", self.suffix);
        self.series.insert(name, points.collect());
    }

    fn traffic_figures(&mut self) {
        let traffic = self.engine.watch.traffic;
        self.set("frames", traffic.frames as f64);
        self.set("payload_bytes", traffic.payload_bytes as f64);
        self.set("header_bytes", traffic.header_bytes as f64);
        self.set("control_bytes", traffic.control_bytes as f64);
    }
}

/// Returns the share of the nodes of then that a message has reached.
fn reached(message: &Message) -> f64 {
    (f64::from(message.delivered) / f64::from(message.up.max(1))).min(1.0)
}

fn completion_ms(message: &Message) -> f64 {
    message.last_at.since(message.at).as_secs_f64() * 1_000.0
}

pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count == 0.0 { 0.0 } else { sum / count }
}

/// Returns the value below which this share of sorted values lies.
pub(super) fn at_share(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(0.0)
}
