//! Demers' tables in virtual time: 1,000 members, synchronous cycles, partners drawn from everybody.
//!
//! Few runs each, so that the tests stay short. Over 1,000 runs, residue/traffic (last cycle): push with feedback and
//! counter .174/1.74 (16.8), .0365/3.30 (17.0), .0106/4.53 (17.2), .0035/5.64 (17.6), .0012/6.68 (17.8); pull .0318/2.70,
//! .00062/4.48, .000003/6.09. Over 300, push blind with a coin .96/.04, .20/1.59, .060/2.81, .020/3.91, .0071/4.95. All are
//! within 7% of the paper's (the last, of which it gives one digit, within 12%). Its average delay of push is not met: 11.0
//! cycles at k=1, where here a receipt comes after 9.8; the delay of the last one is.

use super::network::{Network, Receipt};
use super::{counting, one, rumor, sync};
use crate::spread::{Config, Decision, Direction, Notice, Partners, Phase, Spread};

const COUNT: u32 = 1_000;
const DEMERS: Config = Config {
    partners: Partners::Owner,
    phase: Phase::Aligned,
};

/// Means over runs.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    residue: f64,
    traffic: f64,
    /// Cycles until a member that got it got it.
    average: f64,
    /// Cycles until the last one got it.
    last: f64,
}

/// Runs one rumor's epidemic again and again, each time until nobody is infective.
fn measure(spread: Spread, runs: u64) -> Figures {
    let mut sum = Figures::default();
    for seed in 0..runs {
        let mut network = Network::new(seed, COUNT, spread, DEMERS);
        network.publish(0, one(0, 1));
        network.run_until(Network::is_quiet);
        let cycles: Vec<u64> = network.got(0, 1).map(Receipt::cycle).collect();
        let got = cycles.len() as f64;
        sum.residue += 1.0 - got / f64::from(COUNT);
        sum.traffic += network.counters().payloads_sent as f64 / f64::from(COUNT);
        sum.average += cycles.iter().sum::<u64>() as f64 / got;
        sum.last += cycles.iter().copied().max().unwrap_or(0) as f64;
    }
    let runs = runs as f64;
    Figures {
        residue: sum.residue / runs,
        traffic: sum.traffic / runs,
        average: sum.average / runs,
        last: sum.last / runs,
    }
}

#[track_caller]
fn assert_near(what: &str, is: f64, should: f64, tolerance: f64) {
    assert!(
        (is - should).abs() <= should * tolerance,
        "{what}: {is:.5}, not near {should:.5}"
    );
}

#[test]
fn pushed_rumors_with_feedback_and_counter_give_table_1() {
    for (k, residue, traffic, last) in [
        (1, 0.18, 1.7, 16.8),
        (2, 0.037, 3.3, 16.9),
        (3, 0.011, 4.5, 17.4),
    ] {
        let figures = measure(counting(k, Direction::Push), 40);
        println!("push, feedback, counter {k}: {figures:?}");
        assert_near("residue", figures.residue, residue, 0.25);
        assert_near("traffic", figures.traffic, traffic, 0.05);
        assert_near("last", figures.last, last, 0.10);
        assert_near("law", figures.residue, (-figures.traffic).exp(), 0.25);
    }
}

#[test]
fn pushed_rumors_blind_with_a_coin_give_table_2() {
    for (k, residue, traffic) in [(2, 0.20, 1.6), (3, 0.060, 2.8)] {
        let blind = rumor(k, Notice::Blind, Decision::Coin, Direction::Push);
        let figures = measure(Spread::Rumor(blind), 40);
        println!("push, blind, coin {k}: {figures:?}");
        assert_near("residue", figures.residue, residue, 0.25);
        assert_near("traffic", figures.traffic, traffic, 0.05);
    }
}

#[test]
fn pulled_rumors_with_feedback_and_counter_give_table_3() {
    let figures = measure(counting(1, Direction::Pull), 40);
    println!("pull, feedback, counter 1: {figures:?}");
    assert_near("residue", figures.residue, 0.031, 0.25);
    assert_near("traffic", figures.traffic, 2.7, 0.05);
    assert!(
        figures.residue < (-figures.traffic).exp() / 2.0,
        "pull beats the law of push"
    );
}

/// Returns after how many cycles everybody had got it, and the payloads a member, means over runs.
fn until_all_got(direction: Direction, runs: u64) -> (f64, f64) {
    let (mut cycles, mut traffic) = (0.0, 0.0);
    for seed in 0..runs {
        let mut network = Network::new(seed, COUNT, sync(direction), DEMERS);
        network.publish(0, one(0, 1));
        network.run_until(|network| network.all_got(0, 1));
        let last = network.got(0, 1).map(Receipt::cycle).max();
        cycles += last.unwrap_or(0) as f64;
        let counters = network.counters();
        assert_eq!(counters.payloads_new, u64::from(COUNT) - 1);
        assert_eq!(
            counters.payloads_sent,
            counters.payloads_new + counters.payloads_duplicate
        );
        traffic += counters.payloads_sent as f64 / f64::from(COUNT);
    }
    (cycles / runs as f64, traffic / runs as f64)
}

#[test]
fn anti_entropy_reaches_everybody_and_push_pull_soonest() {
    let [push, pull, push_pull] = [Direction::Push, Direction::Pull, Direction::PushPull]
        .map(|direction| until_all_got(direction, 10));
    assert!(push.1 < 1.01 && pull.1 < 1.01, "nothing travels twice");
    println!("cycles and payloads a member: push {push:?}, pull {pull:?}, push-pull {push_pull:?}");
    // Pittel's log2 n + ln n for push; pull squares what remains, push-pull triples what is there.
    assert_near("push", push.0, 16.9, 0.15);
    assert!(pull.0 < push.0 && push_pull.0 < pull.0 * 0.8);
    assert!(push_pull.1 < 1.5, "little does: {push_pull:?}");
}
