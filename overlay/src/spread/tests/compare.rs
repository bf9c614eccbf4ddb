//! The strategies on the neighbours of a random graph, each member at its own pace.

use super::network::Network;
use super::{CYCLE, counting, one, sync};
use crate::spread::{Config, Direction, Removal, Rumor, Spread};

const COUNT: u32 = 200;
const DEGREE: usize = 6;

fn network(seed: u64, spread: Spread) -> Network {
    let mut network = Network::new(seed, COUNT, spread, Config::default());
    network.link_at_random(DEGREE);
    network
}

#[test]
fn a_flood_crosses_every_link_and_takes_the_shortest_paths() {
    let mut network = network(1, Spread::Flood);
    network.publish(7, one(7, 1));
    network.run_until(|network| network.all_got(7, 1));
    let counters = network.counters();
    assert_eq!(counters.payloads_new, u64::from(COUNT) - 1);
    let redundancy = counters.payloads_duplicate as f64 / counters.payloads_new as f64;
    println!("flood: redundancy {redundancy:.2}, {counters:?}");
    assert!((3.0..5.0).contains(&redundancy), "the degree less two");
    for receipt in network.got(7, 1) {
        let hops = u64::from(receipt.hops);
        assert_eq!(receipt.time.as_micros(), hops * 1_000, "a link each");
    }
}

#[test]
fn a_rumor_among_neighbours_reaches_nearly_everybody_and_dies() {
    for direction in [Direction::Push, Direction::Pull, Direction::PushPull] {
        let mut network = network(2, counting(4, direction));
        for seq in 1..=5 {
            network.publish(7, one(7, seq));
        }
        network.run_until(Network::is_quiet);
        let got: Vec<usize> = (1..=5).map(|seq| network.got(7, seq).count()).collect();
        println!("rumor {direction:?}: {got:?}, {:?}", network.counters());
        assert!(got.iter().all(|&got| got * 10 >= COUNT as usize * 9));
    }
}

#[test]
fn a_rumor_without_removal_reaches_everybody_and_never_ends() {
    let endless = Rumor {
        removal: Removal::Sis,
        interval: CYCLE,
        ..Rumor::default()
    };
    let mut network = network(3, Spread::Rumor(endless));
    network.publish(7, one(7, 1));
    network.run_until(|network| network.all_got(7, 1));
    assert!(network.members.iter().all(|member| member.held() == 1));
    let before = network.counters().payloads_sent;
    let end = network.now.time + CYCLE * 10;
    while network.step(end) {}
    let sent = network.counters().payloads_sent - before;
    assert!(
        sent >= u64::from(COUNT) * 9,
        "one each in each cycle: {sent}"
    );
}

#[test]
fn anti_entropy_among_neighbours_brings_everything_to_everybody() {
    for direction in [Direction::Push, Direction::Pull, Direction::PushPull] {
        let mut network = network(4, sync(direction));
        for publisher in 0..20 {
            network.publish(publisher, one(publisher, 1));
            network.publish(publisher, one(publisher, 2));
        }
        let all_got = |network: &Network| (0..20).all(|publisher| network.all_got(publisher, 2));
        network.run_until(all_got);
        println!("sync {direction:?}: {:?}", network.counters());
    }
}

#[test]
fn a_seed_decides_everything() {
    let run = || {
        let mut network = network(5, counting(2, Direction::PushPull));
        network.publish(7, one(7, 1));
        network.run_until(Network::is_quiet);
        (network.receipts.clone(), network.counters())
    };
    assert_eq!(run(), run());
}
