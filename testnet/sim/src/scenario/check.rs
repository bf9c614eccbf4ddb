//! Bounds of single values: what would never end, never happen, or mean nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use weft_dht::kv::{COPIES_MAX, VALUE_BYTES_MAX};

use super::{EngineKind, Invalid, Phase, Scenario, Spread};
use crate::duration::Span;
use crate::link::Latency;

/// The shortest time between two of anything that is repeated for ever: a cycle of less simulates nothing that exists.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Messages of one phase: each is watched until the end.
const MESSAGES_MAX: u32 = 1_000_000;
/// Calls of one phase: each is watched until the end.
const CALLS_MAX: u32 = 1_000_000;
/// Keys of one phase: each is read at the end.
const KEYS_MAX: u32 = 100_000;
/// Lookups of one phase: each is watched until the end.
const LOOKUPS_MAX: u32 = 1_000_000;
/// Topics of one phase, and members of each: every pair is a swarm's member with views and trees.
const TOPICS_MAX: u32 = 10_000;
const MEMBERS_MAX: usize = 1_000;
/// Cycles of one phase.
const CYCLES_MAX: u32 = 1_000_000;
/// Neighbours or contacts: a view is searched from end to end.
const VIEW_MAX: usize = 1_000;

impl Scenario {
    /// Checks single values.
    pub(super) fn check_values(&self) -> Result<(), Invalid> {
        within("subscribed", self.subscribed, &(0.0..=1.0))?;
        let overlay = &self.overlay;
        for (what, size) in [
            ("overlay.active", overlay.active),
            ("overlay.passive", overlay.passive),
        ] {
            within(what, size.unwrap_or(1), &(1..=VIEW_MAX))?;
        }
        for (what, interval) in [
            ("overlay.shuffle_interval", overlay.shuffle_interval),
            ("overlay.promotion_interval", overlay.promotion_interval),
        ] {
            interval.map_or(Ok(()), |interval| repeated(what, interval))?;
        }
        if let Spread::Rumor { interval, .. } | Spread::Sync { interval, .. } = self.spread {
            repeated("spread.interval", interval)?;
        }
        if let Some(links) = &self.links {
            check_latency(&links.latency)?;
            within(
                "links.bandwidth",
                links.bandwidth.unwrap_or(1),
                &(1..=u64::MAX),
            )?;
        }
        for (name, bound) in &self.expect {
            if bound
                .min
                .is_some_and(|min| bound.max.is_some_and(|max| min > max))
            {
                let what = format!("`expect` can't be met: {name} {bound}");
                return Err(Invalid::Mismatch(what));
            }
        }
        self.phases.iter().try_for_each(check_phase)
    }

    /// Checks that what nodes are can do what is asked of them.
    pub(super) fn check_engine(&self) -> Result<(), Invalid> {
        let mismatch = |what: &str| Err(Invalid::Mismatch(what.to_owned()));
        let looks_up = self.engine == EngineKind::Lookup;
        let late = self
            .phases
            .iter()
            .skip(1)
            .any(|phase| *phase == Phase::Fork);
        if looks_up && late {
            return mismatch(
                "nodes that look each other up can't be forked once they run: `fork` must come first",
            );
        }
        if looks_up && !self.variants.is_empty() {
            return mismatch(
                "nodes that look each other up spread nothing: `variants` needs engine = \"swarm\"",
            );
        }
        let of_lookups = |phase: &Phase| matches!(phase, Phase::Lie { .. } | Phase::Lookups(_));
        let of_store = |phase: &Phase| {
            matches!(
                phase,
                Phase::Kv(_)
                    | Phase::Audit { .. }
                    | Phase::FullDisks { .. }
                    | Phase::Damage { .. }
                    | Phase::Topics(_)
            )
        };
        let of_subscribers = |phase: &Phase| matches!(phase, Phase::Subscribe { .. });
        let subscribes = self.subscribed < 1.0 || self.phases.iter().any(of_subscribers);
        if self.engine != EngineKind::Node && subscribes {
            return mismatch("`subscribed` and `subscribe` need engine = \"node\"");
        }
        if self.engine != EngineKind::Node && self.phases.iter().any(of_store) {
            return mismatch(
                "`topics`, `kv`, `audit`, `fulldisks` and `damage` need engine = \"node\"",
            );
        }
        let of_messages = |phase: &Phase| {
            matches!(
                phase,
                Phase::Publish(_)
                    | Phase::Heal { .. }
                    | Phase::Measure { .. }
                    | Phase::Cycles { .. }
                    | Phase::Storm { .. }
            )
        };
        if !looks_up && self.phases.iter().any(of_lookups) {
            return mismatch("`lie` and `lookups` need engine = \"lookup\"");
        }
        if looks_up && self.phases.iter().any(of_messages) {
            let what = "`publish`, `heal`, `measure`, `cycles` and `storm` need engine = \"swarm\" or \"node\"";
            return mismatch(what);
        }
        Ok(())
    }
}

fn check_phase(phase: &Phase) -> Result<(), Invalid> {
    match phase {
        Phase::Cycles { count } => within("count", *count, &(0..=CYCLES_MAX)),
        Phase::Publish(publish) => {
            within("messages", publish.messages, &(0..=MESSAGES_MAX))?;
            within("warmup", publish.warmup, &(0..=MESSAGES_MAX))
        }
        Phase::Kv(kv) => {
            within("calls", kv.calls, &(0..=CALLS_MAX))?;
            within("keys", kv.keys, &(1..=KEYS_MAX))?;
            within("reads", kv.reads, &(0.0..=1.0))?;
            within("deletes", kv.deletes, &(0.0..=1.0 - kv.reads))?;
            within("blind", kv.blind, &(0.0..=1.0))?;
            within("copies", kv.copies, &(1..=COPIES_MAX))?;
            within("level", kv.level.unwrap_or(1), &(1..=kv.copies))?;
            within("bytes", kv.bytes as usize, &(8..=VALUE_BYTES_MAX))
        }
        Phase::Topics(topics) => {
            within("count", topics.count, &(1..=TOPICS_MAX))?;
            within("members", topics.members, &(1..=MEMBERS_MAX))
        }
        Phase::Audit { copies } => within("copies", *copies, &(1..=COPIES_MAX)),
        Phase::Lookups(lookups) => {
            within("count", lookups.count, &(0..=LOOKUPS_MAX))?;
            within("paths", lookups.paths, &(1..=weft_dht::lookup::PATHS_MAX))
        }
        Phase::Churn { per_minute, .. } => within("per_minute", *per_minute, &(0.001..=60_000.0)),
        Phase::Storm { every, .. } => repeated("every", *every),
        Phase::Heal {
            messages,
            reliability,
            cycles_max,
        } => {
            within("messages", *messages, &(1..=MESSAGES_MAX))?;
            within("reliability", *reliability, &(0.0..=1.0))?;
            within("cycles_max", *cycles_max, &(0..=CYCLES_MAX))
        }
        _ => Ok(()),
    }
}

fn check_latency(latency: &Latency) -> Result<(), Invalid> {
    match *latency {
        Latency::Uniform { min, max } if min > max => Err(Invalid::OutOfBounds {
            what: "links.latency.min",
            got: min.to_string(),
            must: format!("at most max, {max}"),
        }),
        Latency::Lognormal { sigma, .. } => within("links.latency.sigma", sigma, &(0.0..=10.0)),
        Latency::Clustered { clusters, .. } => {
            within("links.latency.clusters", clusters, &(1..=u32::MAX))
        }
        Latency::Constant { .. } | Latency::Uniform { .. } => Ok(()),
    }
}

fn repeated(what: &'static str, interval: Span) -> Result<(), Invalid> {
    if interval.0 >= INTERVAL_MIN {
        return Ok(());
    }
    Err(Invalid::OutOfBounds {
        what,
        got: interval.to_string(),
        must: format!("at least {}", Span(INTERVAL_MIN)),
    })
}

/// A number that isn't one is within nothing.
fn within<T: Copy + PartialOrd + ToString>(
    what: &'static str,
    value: T,
    bounds: &RangeInclusive<T>,
) -> Result<(), Invalid> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(Invalid::OutOfBounds {
        what,
        got: value.to_string(),
        must: format!(
            "from {} to {}",
            bounds.start().to_string(),
            bounds.end().to_string()
        ),
    })
}
