//! The scenario of many topics, with fewer of everything than it is shipped for.

use std::time::Duration;

use weft_sim::duration::Span;
use weft_sim::outcome::Outcome;
use weft_sim::scenario::{Phase, Scenario};

const fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}

#[test]
fn seventy_topics_share_links_and_every_swarm_is_whole() {
    let text = include_str!("../../scenarios/many-topics.toml");
    let mut scenario: Scenario = toml::from_str(text).expect("it is shipped");
    scenario.nodes = 70;
    for phase in &mut scenario.phases {
        match phase {
            Phase::Join { within, .. } => *within = seconds(5),
            Phase::Run { r#for } => *r#for = seconds(10),
            // Each node is in twenty: chosen freely, it would have neighbours at some 55 others.
            Phase::Topics(topics) => {
                (topics.count, topics.members) = (70, 20);
                topics.within = seconds(10);
                topics.settle = seconds(30);
                topics.counted = seconds(10);
            }
            _ => {}
        }
    }
    scenario.check().expect("it is shipped");
    let run = weft_sim::run(&scenario, 7, &mut |_| {});
    let outcome = Outcome::of(&scenario, vec![run]);
    println!("{:?}", outcome.figures);
    assert!(outcome.passed, "{:?}", outcome.failures);
    let most = outcome.figures["shared_links_max"];
    assert!(most <= 52.0, "{most}");
    assert!(outcome.runs[0].violations.is_empty());
}
