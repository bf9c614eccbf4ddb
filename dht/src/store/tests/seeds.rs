//! Many seeds of faults under a workload.
//!
//! `WEFT_KV_SEEDS=1000 cargo test -p weft-dht store::tests::seeds` runs more of them, `WEFT_KV_SEED=7` one alone.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::history::{History, Promise, Tallied, rest};
use super::network::{FAIR, MS, Network, SECOND, STORM};
use crate::store::{Call, Config, DiskError};

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| option(name).and_then(|text| text.parse::<u64>().ok());
    match number("WEFT_KV_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WEFT_KV_SEEDS").unwrap_or(default)).collect(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how many seeds a test runs is no part of a run"
)]
fn option(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs all seeds, and says which one failed.
fn run_all(default: u64, run: fn(u64) -> Tallied) -> Tallied {
    let mut sum = Tallied::default();
    for seed in seeds(default) {
        let result = std::panic::catch_unwind(|| run(seed));
        let Ok(tallied) = result else {
            panic!("seed {seed} failed; replay with WEFT_KV_SEED={seed}");
        };
        sum.asked += tallied.asked;
        sum.acknowledged += tallied.acknowledged;
        sum.strict += tallied.strict;
        sum.missed += tallied.missed;
        sum.checked += tallied.checked;
        sum.stale += tallied.stale;
    }
    println!("{sum:?}");
    sum
}

/// Crashes of any and of all, splits, loss, full and failing disks, clocks apart; nobody joins or is given up.
fn faults(seed: u64) -> Tallied {
    let nodes = 5 + (seed % 4) as u32;
    let mut network = Network::of(seed, nodes);
    let mut history = History::default();
    for node in network.nodes.values_mut() {
        node.ahead = (seed as i64 * 7_919 % 40_000_000) - 20_000_000;
    }
    for _ in 0..12 {
        network.weather = if network.rng.random_bool(0.4) {
            STORM
        } else {
            FAIR
        };
        match network.rng.random_range(0..8) {
            0..=2 => {
                if let Some(node) = network.any_up() {
                    network.crash(node);
                }
            }
            3 => {
                for node in network.up() {
                    network.crash(node);
                }
            }
            4 => {
                let some = network.rng.random_range(1..nodes as usize);
                let apart = network.up().into_iter().sample(&mut network.rng, some);
                network.split(&apart);
            }
            5 => network.heal(),
            6 => {
                if let Some(node) = network.any_up() {
                    let full = network.rng.random_bool(0.5);
                    let fails = if full {
                        DiskError::Full
                    } else {
                        DiskError::Failed
                    };
                    network.nodes.get_mut(&node).unwrap().disk.fails = Some(fails);
                }
            }
            _ => {
                for node in network.nodes.values_mut() {
                    node.disk.fails = None;
                }
            }
        }
        history.work(&mut network, 2 * SECOND, 60 * MS);
        for node in 0..nodes {
            if !network.is_up(node) && network.rng.random_bool(0.6) {
                network.start(node);
            }
        }
    }
    for node in 0..nodes {
        if !network.is_up(node) {
            network.start(node);
        }
    }
    rest(&mut network);
    History::check_converged(&network);
    history.check(&network, Promise::Always)
}

/// Nodes join, leave in order, die for good, and come back after they were given up.
fn changes(seed: u64) -> Tallied {
    let config = Config {
        replace_after: 4 * SECOND,
        forget_after: 20 * SECOND,
        sync_interval: 10 * SECOND,
        ..Config::default()
    };
    let mut network = Network::with(seed, 6, &config);
    let mut history = History::default();
    let mut next = 6;
    let mut away: Option<(u32, u32)> = None;
    for round in 0..10 {
        if network.rng.random_bool(0.2) {
            network.weather.loss = 0.01;
        }
        let up = network.up().len();
        match network.rng.random_range(0..6) {
            0..=1 => {
                network.join(next, config.clone());
                next += 1;
            }
            2 if up > 5 => {
                let node = network.any_up().unwrap();
                let call = network.call(node, Call::Leave);
                history.work(&mut network, 5 * SECOND, 60 * MS);
                if network.outcomes.contains_key(&call) {
                    network.crash(node);
                }
            }
            3 if up > 5 && away.is_none() => {
                let node = network.any_up().unwrap();
                network.crash(node);
                away = Some((node, round + network.rng.random_range(1..8)));
            }
            _ => {
                let node = network.any_up().unwrap();
                network.crash(node);
                let down = network.rng.random_range(100..3_000);
                history.work(&mut network, down * MS, 60 * MS);
                network.start(node);
            }
        }
        if network.rng.random_bool(0.3) {
            // Too short for anybody to be given up: the heal is seen within two seconds.
            let some = network.rng.random_range(1..network.up().len());
            let apart = network.up().into_iter().sample(&mut network.rng, some);
            network.split(&apart);
            let split = network.rng.random_range(300..1_500);
            history.work(&mut network, split * MS, 60 * MS);
            network.heal();
        }
        history.work(&mut network, 6 * SECOND, 60 * MS);
        if let Some((node, until)) = away
            && round >= until
        {
            network.start(node);
            away = None;
        }
    }
    network.run_for(Duration::from_secs(30));
    rest(&mut network);
    History::check_converged(&network);
    history.check(&network, Promise::OneChange)
}

#[test]
fn no_acknowledged_write_is_lost_and_no_strict_read_is_stale_whatever_fails() {
    let sum = run_all(40, faults);
    assert_eq!(sum.stale, 0);
    assert!(sum.strict > sum.asked / 5 && sum.checked > sum.asked);
    assert!(sum.acknowledged > sum.strict, "stand-ins have helped");
}

#[test]
fn joins_leaves_and_deaths_lose_nothing_and_one_at_a_time_make_nothing_stale() {
    let sum = run_all(12, changes);
    assert!(sum.strict > sum.asked / 4 && sum.checked > sum.asked);
}
