//! The scenarios of lookups, with fewer nodes than they are shipped for.

use weft_sim::outcome::Outcome;
use weft_sim::scenario::{Phase, Scenario};

fn smaller(text: &str, nodes: u32, lookups: u32) -> Scenario {
    let mut scenario: Scenario = toml::from_str(text).expect("it is shipped");
    scenario.nodes = nodes;
    for phase in &mut scenario.phases {
        if let Phase::Lookups(phase) = phase {
            phase.count = phase.count.min(lookups);
        }
    }
    scenario.check().expect("it is shipped");
    scenario
}

fn run(scenario: &Scenario) -> Outcome {
    let run = weft_sim::run(scenario, 7, &mut |_| {});
    Outcome::of(scenario, vec![run])
}

#[test]
fn lookups_meet_what_is_expected_of_them() {
    for text in [
        include_str!("../../scenarios/lookup-hops.toml"),
        include_str!("../../scenarios/lookup-silent.toml"),
        include_str!("../../scenarios/lookup-churn.toml"),
    ] {
        let outcome = run(&smaller(text, 200, 300));
        assert!(
            outcome.passed,
            "{}: {:?}",
            outcome.scenario, outcome.failures
        );
    }
}

#[test]
fn liars_mislead_lookups_over_one_path_more_than_over_eight() {
    let text = include_str!("../../scenarios/lookup-liars.toml");
    let mut scenario = smaller(text, 300, 300);
    scenario.sweep = vec![0, 50];
    scenario.expect.clear();
    let outcome = run(&scenario);
    let figure = |name: &str| outcome.figures[name];
    assert_eq!(figure("lookup_success_d1_0"), 1.0);
    let (one, eight) = (
        figure("lookup_success_d1_50"),
        figure("lookup_success_d8_50"),
    );
    assert!(
        one < 0.99 && eight > one,
        "{one} over one path, {eight} over eight"
    );
    assert!(outcome.runs[0].violations.is_empty());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let text = include_str!("../../scenarios/lookup-hops.toml");
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from));
        let scenario: Scenario =
            toml::from_str(&text.replacen(from, to, 1)).expect("it is well formed");
        scenario.check().expect_err(to).to_string()
    };
    let swarm = refused("engine = \"lookup\"", "engine = \"swarm\"");
    assert!(swarm.contains("need engine = \"lookup\""), "{swarm}");
    let paths = refused("count = 10000", "paths = 17\ncount = 10000");
    assert!(
        paths.contains("paths is 17, but must be from 1 to 16"),
        "{paths}"
    );
    let heal = refused("do = \"run\"\nfor = \"780s\"", "do = \"cycles\"\ncount = 1");
    assert!(heal.contains("engine = \"swarm\""), "{heal}");
    let lie = refused(
        "do = \"join\"",
        "do = \"lie\"\nspare = 3\n[[phase]]\ndo = \"join\"",
    );
    assert!(lie.contains("`share`, or a `sweep`"), "{lie}");
}
