//! Runs a scenario: its phases, one after the other, on one engine with one seed.

mod figures;
mod kv;
mod lookups;
mod phases;
mod script;
mod storm;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_overlay::{Time, spread};

use crate::crowd::Crowd;
use crate::graph::Graph;
use crate::machine::{Machine, Plan};
use crate::node::{self, Disks, Keys};
use crate::outcome::{Figures, Run, Series};
use crate::scenario::{EngineKind, Partners, Phase, Scenario, Spread};
use crate::{Engine, epidemic, lookup, swarm};
use script::Script;

/// How often a run is held against its invariants, where that is cheap enough.
const INSPECTED_EVERY: Duration = Duration::from_secs(1);
/// Nodes up to which every one is looked at each second; of larger networks they are at the end of each phase.
const INSPECTED_EACH_SECOND_MAX: u32 = 2_000;

/// How far a run has come, for whoever waits.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Phases that are done, of how many.
    pub phases: (usize, usize),
    /// The moment in virtual time.
    pub at: Time,
    /// Events so far.
    pub events: u64,
}

/// Runs a scenario with one seed. The scenario must have been checked.
pub fn run(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(Progress)) -> Run {
    if scenario.variants.is_empty() {
        return run_spread(scenario, scenario.spread, "", seed, progress);
    }
    let mut whole = Run {
        seed,
        ..Run::default()
    };
    for (name, spread) in &scenario.variants {
        let suffix = format!("_{name}");
        let run = run_spread(scenario, *spread, &suffix, seed, progress);
        whole.figures.extend(run.figures);
        whole.series.extend(run.series);
        whole.notes.extend(run.notes);
        let violations = run.violations.into_iter();
        whole
            .violations
            .extend(violations.map(|what| format!("{name}: {what}")));
        whole.trace = whole.trace.rotate_left(1) ^ run.trace;
    }
    whole
}

fn run_spread(
    scenario: &Scenario,
    spread: Spread,
    suffix: &str,
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Run {
    let (spread, partners) = spread.settings();
    let plan = Plan {
        swarm: scenario.overlay.settings(),
        subscribers: (f64::from(scenario.nodes) * scenario.subscribed).round() as u32,
        spread,
        everybody: partners == Partners::Everybody,
        vias: 0,
        keys: (scenario.engine == EngineKind::Node)
            .then(|| Arc::new(Keys::new(seed, scenario.nodes))),
        disks: (scenario.engine == EngineKind::Node).then(|| Arc::new(Disks::new(scenario.nodes))),
        crowd: Arc::new(match scenario.engine {
            EngineKind::Lookup => Crowd::new(scenario.nodes),
            EngineKind::Swarm | EngineKind::Node => Crowd::default(),
        }),
    };
    match (scenario.engine, spread) {
        (EngineKind::Node, _) => {
            Runner::<node::Member>::new(scenario, plan, suffix, seed).finish(progress)
        }
        (EngineKind::Lookup, _) => {
            Runner::<lookup::Member>::new(scenario, plan, suffix, seed).finish(progress)
        }
        (EngineKind::Swarm, spread::Spread::Tree) => {
            Runner::<swarm::Member>::new(scenario, plan, suffix, seed).finish(progress)
        }
        (EngineKind::Swarm, _) => {
            Runner::<epidemic::Member>::new(scenario, plan, suffix, seed).finish(progress)
        }
    }
}

/// A scenario that is being run.
struct Runner<'a, M: Machine> {
    scenario: &'a Scenario,
    engine: Engine<M>,
    script: Script,
    figures: Figures,
    series: BTreeMap<String, Series>,
    /// What is worth telling beside figures.
    notes: Vec<String>,
    /// What figures' names end in: the variant, the sweep's share.
    suffix: String,
    /// The share of the sweep, in per cent.
    swept: Option<u8>,
    phases_done: usize,
    /// Keys of the store that may have been written.
    keys: u32,
}

impl<'a, M: Machine> Runner<'a, M> {
    fn new(scenario: &'a Scenario, plan: Plan, suffix: &str, seed: u64) -> Self {
        let links = match &scenario.links {
            Some(links) => links.clone(),
            None => storm::links(seed),
        };
        let mut engine = Engine::new(seed, scenario.nodes, links, scenario.contacts);
        engine.watch.lookups.set_crowd(&plan.crowd);
        let mut runner = Self {
            scenario,
            engine,
            script: Script::new(plan),
            figures: Figures::new(),
            series: BTreeMap::new(),
            notes: Vec::new(),
            suffix: suffix.to_owned(),
            swept: None,
            phases_done: 0,
            keys: 0,
        };
        if scenario.nodes <= INSPECTED_EACH_SECOND_MAX {
            runner
                .script
                .inspect_every(&mut runner.engine, INSPECTED_EVERY);
        }
        runner
    }

    fn finish(mut self, progress: &mut dyn FnMut(Progress)) -> Run {
        let scenario = self.scenario;
        self.play(&scenario.phases, progress);
        Run {
            seed: self.engine.seed(),
            figures: self.figures,
            series: self.series,
            notes: self.notes,
            violations: self.engine.watch.violations.clone(),
            trace: self.engine.trace(),
        }
    }

    /// Plays phases; at a fork the rest is played for each share of the sweep.
    fn play(&mut self, phases: &[Phase], progress: &mut dyn FnMut(Progress)) {
        for (index, phase) in phases.iter().enumerate() {
            if *phase == Phase::Fork {
                return self.sweep(&phases[index + 1..], progress);
            }
            self.phase(phase, progress);
            self.phases_done += 1;
            self.inspect();
            self.report(progress);
        }
        self.let_settle(progress);
        self.conclude();
    }

    fn sweep(&mut self, phases: &[Phase], progress: &mut dyn FnMut(Progress)) {
        for share in &self.scenario.sweep {
            let Some(engine) = M::fork(&self.engine) else {
                let what = "nodes of this kind can't be forked once they run";
                return self.engine.watch.violation(Time::ZERO, what.to_owned());
            };
            let mut forked = Runner {
                scenario: self.scenario,
                engine,
                script: self.script.clone(),
                figures: Figures::new(),
                series: BTreeMap::new(),
                notes: Vec::new(),
                suffix: format!("{}_{share}", self.suffix),
                swept: Some(*share),
                phases_done: self.phases_done,
                keys: self.keys,
            };
            forked.play(phases, progress);
            self.figures.extend(forked.figures);
            self.notes.extend(forked.notes);
            for (name, points) in forked.series {
                self.series.entry(name).or_default().extend(points);
            }
            for violation in &forked.engine.watch.violations {
                let what = format!("with {share} % crashed: {violation}");
                self.engine.watch.violation(forked.engine.now().time, what);
            }
        }
    }

    fn report(&self, progress: &mut dyn FnMut(Progress)) {
        progress(Progress {
            phases: (self.phases_done, self.scenario.phases.len()),
            at: self.engine.now().time,
            events: self.engine.events(),
        });
    }

    /// Lets time pass.
    fn pass(&mut self, span: Duration, progress: &mut dyn FnMut(Progress)) {
        /// How often progress is told, in virtual time.
        const STEP: Duration = Duration::from_secs(1);
        let end = self.engine.now().time + span;
        while self.engine.now().time < end {
            let step = (self.engine.now().time + STEP).min(end);
            let script = &mut self.script;
            self.engine
                .run_until(step, &mut |engine, cue| script.act(engine, cue));
            self.report(progress);
        }
    }

    /// Holds every node against its bounds.
    fn inspect(&mut self) {
        script::inspect(&mut self.engine);
    }

    fn set(&mut self, name: &str, value: f64) {
        self.figures.insert(format!("{name}{}", self.suffix), value);
    }

    fn graph(&mut self) -> Graph {
        Graph::of(&self.engine)
    }
}
