//! Whole swarms: every member gets every message once and in order, whatever happens to links and members.

pub(crate) mod network;
pub(crate) mod values;

use std::sync::Arc;
use std::time::Duration;

use crate::StreamId;
use crate::plumtree::Start;
use network::{Network, starting};

const SECOND: Duration = Duration::from_secs(1);
const RATE_50: Duration = Duration::from_millis(20);

/// Returns the stream that a member publishes on.
fn stream_of(network: &Network, peer: u32) -> StreamId<u32> {
    network.nodes[&peer]
        .stream
        .as_ref()
        .expect("it publishes")
        .id
}

#[test]
fn twenty_get_a_steady_stream_and_the_tree_is_lean() {
    for seed in 0..10 {
        let mut network = Network::settled(seed, 20);
        network.publish_at_rate(5, 200, RATE_50);
        network.run(RATE_50 * 20);
        let warm = network.counters();
        network.run(SECOND * 10);
        let id = stream_of(&network, 5);
        network.assert_all_got(id, 1, 200);
        network.assert_whole();
        let rmr = network.rmr_since(warm);
        let slowest = network.nodes.values().map(|n| n.slowest).max().unwrap();
        println!(
            "seed {seed}: rmr {rmr:.4}, last hop {}, first {}, slowest {slowest:?}, {:?}",
            network.last_hop(id, 200),
            network.last_hop(id, 1),
            network.counters()
        );
        assert!(rmr <= 0.05, "seed {seed}: rmr {rmr}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let run = || {
        let mut network = Network::settled(42, 12);
        network.loss = 0.02;
        network.publish_at_rate(3, 50, RATE_50);
        network.run(SECOND * 5);
        network.trace()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_first_message_floods_nothing() {
    for seed in 0..5 {
        let mut network = Network::settled(seed, 20);
        let before = network.counters();
        let id = network.publish(7, 1);
        network.run(SECOND * 2);
        network.assert_all_got(id, 1, 1);
        let after = network.counters();
        println!(
            "seed {seed}: rmr {:.3}, supplied {}, last hop {}",
            network.rmr_since(before),
            after.bundles_supplied - before.bundles_supplied,
            network.last_hop(id, 1)
        );
        // A flood over views of five costs 3.
        assert!(network.rmr_since(before) <= 1.0);
    }
}

#[test]
fn four_publish_at_once_and_all_get_all() {
    for seed in 0..4 {
        let mut network = Network::settled(seed, 20);
        for peer in [2, 9, 14, 20] {
            network.publish_at_rate(peer, 100, RATE_50);
        }
        network.run(RATE_50 * 20);
        let warm = network.counters();
        network.run(SECOND * 5);
        for peer in [2, 9, 14, 20] {
            network.assert_all_got(stream_of(&network, peer), 1, 100);
        }
        println!("seed {seed}: rmr {:.4}", network.rmr_since(warm));
        assert!(network.rmr_since(warm) <= 0.05);
    }
}

#[test]
fn half_of_twenty_crash_in_mid_stream_and_the_survivors_miss_nothing() {
    for seed in 0..20 {
        let mut network = Network::settled(seed, 20);
        for peer in [1, 4, 10, 20] {
            network.publish_at_rate(peer, 250, RATE_50);
        }
        network.run(SECOND * 2);
        for peer in 11..=19 {
            network.crash(peer, Duration::from_millis(5));
        }
        // A publisher dies with them.
        let dead = network.crash(20, Duration::from_millis(5)).unwrap();
        network.run(Duration::from_millis(20));
        let took = network.run_until_whole(SECOND * 5);
        network.run(SECOND * 10);
        for peer in [1, 4, 10] {
            network.assert_all_got(stream_of(&network, peer), 1, 250);
        }
        // What any survivor got of the dead one's, all got.
        let reached = network
            .nodes
            .values()
            .filter_map(|n| n.got[&dead.id].last())
            .max()
            .unwrap();
        network.assert_all_got(dead.id, 1, reached);
        network.assert_whole();
        let slowest = network.nodes.values().map(|n| n.slowest).max().unwrap();
        println!("seed {seed}: whole after {took:?}, slowest {slowest:?}");
    }
}

#[test]
fn lost_and_doubled_frames_delay_but_do_not_prevent() {
    for seed in 0..10 {
        let mut network = Network::settled(seed, 20);
        network.loss = 0.05;
        network.duplication = 0.02;
        let before = network.counters();
        for peer in [3, 8] {
            network.publish_at_rate(peer, 200, RATE_50);
        }
        network.run(SECOND * 14);
        for peer in [3, 8] {
            network.assert_all_got(stream_of(&network, peer), 1, 200);
        }
        let slowest = network.nodes.values().map(|n| n.slowest).max().unwrap();
        let after = network.counters();
        println!(
            "seed {seed}: rmr {:.4}, slowest {slowest:?}, supplied {}, grafts {}, prunes {}",
            network.rmr_since(before),
            after.bundles_supplied,
            after.grafts_sent,
            after.prunes_sent
        );
        network.loss = 0.0;
        network.run(SECOND * 10);
        network.assert_whole();
    }
}

#[test]
fn a_late_joiner_gets_exactly_what_comes_after_its_base() {
    for seed in 0..6 {
        let mut network = Network::settled(seed, 20);
        network.publish_at_rate(5, 300, RATE_50);
        network.run(SECOND * 2);
        network.start(30);
        network.run(SECOND * 10);
        let id = stream_of(&network, 5);
        let base = network.nodes[&30].swarm.history().base(id);
        assert!(base >= 90, "seed {seed}: it began at {base}");
        network.assert_got(30, id, base + 1, 300);
    }
}

#[test]
fn a_joiner_that_wants_what_is_retained_gets_what_is_held() {
    let mut network = Network::settled(1, 20);
    network.publish_at_rate(5, 300, SECOND);
    network.publish_at_rate(6, 50, SECOND);
    network.run(SECOND * 450);
    network.start_with(30, starting(Start::Retained));
    network.run(SECOND * 10);
    let id = stream_of(&network, 5);
    let from = network.nodes[&30].got[&id].first().unwrap();
    assert!((150..=180).contains(&from), "from {from}");
    network.assert_got(30, id, from, 300);
    let old = stream_of(&network, 6);
    assert!(!network.nodes[&30].got.contains_key(&old));
    // The silent one's next message is no gap.
    network.publish(6, 1);
    network.run(SECOND);
    network.assert_got(30, old, 51, 51);
}

#[test]
fn a_publisher_that_was_silent_for_ten_minutes_goes_on_where_it_stopped() {
    let mut network = Network::settled(2, 12);
    network.publish_at_rate(5, 20, RATE_50);
    network.run(SECOND * 600);
    network.start(30);
    network.run(SECOND * 5);
    network.publish(5, 1);
    network.run(SECOND);
    let id = stream_of(&network, 5);
    for peer in 1..=12 {
        network.assert_got(peer, id, 1, 21);
    }
    network.assert_got(30, id, 21, 21);
    assert!(network.nodes[&30].slowest < SECOND / 2);
}

#[test]
fn order_holds_over_a_clean_restart_without_a_wait() {
    for seed in 0..5 {
        let mut network = Network::settled(seed, 12);
        network.publish_at_rate(5, 50, RATE_50);
        network.run(SECOND);
        let stream = network.crash(5, Duration::from_millis(5)).unwrap();
        network.run(SECOND * 2);
        network.start(5);
        network.run(SECOND);
        network.begin_epoch(5, Some((&stream, true)));
        network.publish_at_rate(5, 50, RATE_50);
        network.run(SECOND * 5);
        let id = stream_of(&network, 5);
        for peer in (1..=12).filter(|peer| *peer != 5) {
            network.assert_got(peer, stream.id, 1, 50);
            network.assert_got(peer, id, 1, 50);
            assert!(network.nodes[&peer].slowest < SECOND / 2);
        }
    }
}

#[test]
fn a_lost_tail_is_told_exactly_after_a_clean_stop() {
    let mut network = Network::settled(3, 12);
    network.gaps_allowed = true;
    network.publish_at_rate(5, 50, RATE_50);
    network.run(SECOND);
    // Three more that reach nobody.
    for _ in 0..3 {
        network.next_bundle(5, 1);
    }
    let stream = network.crash(5, Duration::from_millis(5)).unwrap();
    network.run(SECOND * 2);
    network.start(5);
    network.run(SECOND);
    network.begin_epoch(5, Some((&stream, true)));
    network.publish_at_rate(5, 50, RATE_50);
    network.run(SECOND * 10);
    let id = stream_of(&network, 5);
    assert!(!network.nodes[&6].got.contains_key(&id), "told too early");
    network.run(SECOND * 20);
    for peer in (1..=12).filter(|peer| *peer != 5) {
        assert_eq!(
            network.nodes[&peer].gaps,
            [(stream.id, 51, 53)],
            "at {peer}"
        );
        network.assert_got(peer, id, 1, 50);
    }
}

#[test]
fn after_a_crash_the_next_epoch_follows_what_anybody_has() {
    for seed in 0..5 {
        let mut network = Network::settled(seed, 12);
        network.publish_at_rate(5, 53, RATE_50);
        network.run(SECOND);
        let stream = network.crash(5, Duration::from_millis(5)).unwrap();
        network.run(SECOND);
        network.start(5);
        network.run(SECOND);
        network.begin_epoch(5, Some((&stream, false)));
        network.publish_at_rate(5, 50, RATE_50);
        network.run(SECOND * 10);
        let id = stream_of(&network, 5);
        for peer in (1..=12).filter(|peer| *peer != 5) {
            let reached = network.nodes[&peer].got[&stream.id].last().unwrap();
            assert!(reached >= 49);
            network.assert_got(peer, stream.id, 1, reached);
            network.assert_got(peer, id, 1, 50);
        }
    }
}

#[test]
fn a_whole_epoch_that_was_lost_is_told() {
    let mut network = Network::settled(4, 12);
    network.gaps_allowed = true;
    network.publish(5, 1);
    network.run(SECOND);
    let first = network.crash(5, Duration::from_millis(5)).unwrap();
    network.start(5);
    network.run(SECOND);
    network.begin_epoch(5, Some((&first, true)));
    // Seven that reach nobody.
    network.next_bundle(5, 7);
    let second = network.crash(5, Duration::from_millis(5)).unwrap();
    network.start(5);
    network.run(SECOND);
    network.begin_epoch(5, Some((&second, true)));
    let third = network.publish(5, 1);
    network.run(SECOND * 30);
    for peer in (1..=12).filter(|peer| *peer != 5) {
        assert_eq!(network.nodes[&peer].gaps, [(second.id, 1, 7)], "at {peer}");
        network.assert_got(peer, third, 1, 1);
    }
}

#[test]
fn a_partition_of_ten_seconds_loses_nothing() {
    for seed in 0..8 {
        let mut network = Network::settled(seed, 20);
        for peer in [2, 15] {
            network.publish_at_rate(peer, 600, RATE_50);
        }
        network.run(SECOND * 3);
        network.partition(11..=20);
        network.run(SECOND * 10);
        network.heal();
        let took = network.run_until_whole(SECOND * 60);
        network.run(SECOND * 20);
        network.assert_whole();
        for peer in [2, 15] {
            network.assert_all_got(stream_of(&network, peer), 1, 600);
        }
        println!("seed {seed}: merged after {took:?}");
    }
}

#[test]
fn what_no_history_holds_any_more_is_told_as_an_exact_gap() {
    let mut network = Network::new(5);
    Arc::make_mut(&mut network.config.broadcast)
        .history
        .bytes_max = 100 * 200;
    network.gaps_allowed = true;
    network.grow(12);
    network.run(SECOND * 20);
    network.publish_at_rate(2, 1_000, RATE_50);
    network.run(SECOND * 3);
    network.partition([12]);
    network.run(SECOND * 10);
    network.heal();
    network.run(SECOND * 60);
    network.assert_whole();
    let id = stream_of(&network, 2);
    for peer in 1..=11 {
        network.assert_got(peer, id, 1, 1_000);
    }
    let far = &network.nodes[&12];
    let [(of, from, to)] = far.gaps[..] else {
        panic!("{:?}", far.gaps);
    };
    assert_eq!(of, id);
    let expected = [1..=from - 1, to + 1..=1_000].into_iter().collect();
    assert_eq!(far.got[&id], expected);
    assert!(to - from > 200, "{from}..={to}");
}

#[test]
fn a_burst_in_mid_join_arrives_whole() {
    for seed in 0..3 {
        let mut network = Network::new(seed);
        network.grow(20);
        for _ in 0..2_000 {
            network.publish(4, 1);
        }
        network.run(SECOND * 20);
        let id = stream_of(&network, 4);
        for peer in 1..=20 {
            let base = network.nodes[&peer].swarm.history().base(id);
            network.assert_got(peer, id, base + 1, 2_000);
        }
        println!("seed {seed}: {:?}", network.counters());
        network.assert_whole();
    }
}

#[test]
fn a_congested_member_gets_all_by_repair() {
    let mut network = Network::settled(6, 20);
    network.publish_at_rate(5, 400, RATE_50);
    for at in (1..=20).filter(|at| *at != 9) {
        network.congest(at, 9, SECOND * 6);
    }
    network.run(SECOND * 12);
    network.assert_all_got(stream_of(&network, 5), 1, 400);
}

#[test]
fn a_member_that_hangs_catches_up_when_it_wakes() {
    for (seed, span) in [(1, 1), (2, 2), (3, 8), (4, 20)] {
        let mut network = Network::settled(seed, 20);
        network.publish_at_rate(5, 1_000, RATE_50);
        network.run(SECOND * 2);
        network.hang(9, SECOND * span);
        network.run(SECOND * 30);
        network.assert_all_got(stream_of(&network, 5), 1, 1_000);
        network.assert_whole();
    }
}

#[test]
fn three_hundred_publishers_of_one_message_each() {
    let mut network = Network::settled(7, 300);
    for peer in 1..=300 {
        network.publish_at_rate(peer, 1, RATE_50);
        network.run(Duration::from_millis(5));
    }
    network.run(SECOND * 10);
    for peer in 1..=300 {
        network.assert_all_got(stream_of(&network, peer), 1, 1);
    }
    network.assert_whole();
    println!("rmr {:.3}", network.rmr_since(Default::default()));
}

#[test]
fn a_swarm_at_rest_is_quiet() {
    let mut network = Network::settled(8, 20);
    for peer in 1..=20 {
        network.publish(peer, 1);
    }
    network.run(SECOND * 400);
    let before = (network.frames, network.digest_streams);
    network.run(SECOND * 300);
    let frames = (network.frames - before.0) as f64 / 5.0 / 20.0;
    println!(
        "{frames:.1} frames a minute and member, {} digests",
        network.digest_streams - before.1
    );
    assert!(frames < 150.0, "{frames}");
}

#[test]
fn five_hundred_settle_and_get_all() {
    let mut network = Network::settled(9, 500);
    let id = network.publish(77, 1);
    network.run(SECOND * 2);
    network.assert_all_got(id, 1, 1);
    network.publish_at_rate(77, 60, RATE_50);
    network.run(RATE_50 * 20);
    let warm = network.counters();
    network.run(SECOND * 4);
    network.assert_all_got(id, 1, 61);
    println!(
        "rmr {:.4}, first hop {}, last hop {}",
        network.rmr_since(warm),
        network.last_hop(id, 1),
        network.last_hop(id, 61)
    );
    assert!(network.rmr_since(warm) <= 0.05);
}

#[test]
fn a_gap_is_told_though_others_never_pause() {
    let mut network = Network::new(10);
    Arc::make_mut(&mut network.config.broadcast)
        .history
        .bytes_max = 300 * 200;
    network.gaps_allowed = true;
    network.grow(12);
    network.run(SECOND * 20);
    // Many, so that none of them fills the history alone and has to make room for others.
    for publisher in 3..=11 {
        network.publish_at_rate(publisher, 200, RATE_50 * 9);
    }
    network.publish_at_rate(2, 100, RATE_50);
    network.run(SECOND);
    network.partition([12]);
    network.run(SECOND * 15);
    network.heal();
    network.run(SECOND * 20);
    let id = network.publish(2, 1);
    network.publish_at_rate(3, 100, SECOND * 2 / 5);
    network.run(SECOND * 40);
    let far = &network.nodes[&12];
    let gap = far.gaps.iter().find(|(of, ..)| *of == id);
    let Some((_, from, 100)) = gap else {
        panic!("{:?}", far.gaps);
    };
    assert_eq!(
        far.got[&id],
        [1..=from - 1, 101..=101].into_iter().collect()
    );
}

#[test]
fn a_joiner_finds_its_base_though_frames_are_lost() {
    for seed in 0..10 {
        let mut network = Network::settled(seed, 20);
        network.publish_at_rate(5, 300, RATE_50);
        network.loss = 0.1;
        network.run(SECOND * 3);
        // Long enough for a lost join.
        let mut config = network.config.clone();
        Arc::make_mut(&mut config.broadcast).base_timeout = SECOND * 4;
        network.start_with(30, config);
        network.run(SECOND * 15);
        let id = stream_of(&network, 5);
        let base = network.nodes[&30].swarm.history().base(id);
        assert!(base >= 120, "seed {seed}: it began at {base}");
        network.assert_got(30, id, base + 1, 300);
    }
}

/// How many links the shared tree has on both ends, and how many roots.
fn shared_tree(network: &Network) -> (usize, usize) {
    let shared = |peer: &u32| {
        let shared = network.nodes[peer].swarm.trees().shared();
        shared.collect::<Vec<_>>()
    };
    let ends = network.nodes.keys().flat_map(|peer| {
        let others = shared(peer).into_iter();
        let others = others.filter(|other| network.nodes.contains_key(other));
        others.filter(|other| shared(other).contains(peer))
    });
    let roots: std::collections::BTreeSet<_> = network
        .nodes
        .values()
        .map(|node| node.swarm.shared().root())
        .collect();
    (ends.count() / 2, roots.len())
}

#[test]
fn the_shared_tree_spans_after_joins_the_roots_crash_and_a_merge() {
    let mut network = Network::settled(1, 60);
    assert_eq!(shared_tree(&network), (59, 1));
    let root = network.nodes[&7].swarm.shared().root().unwrap();
    network.crash(root, Duration::from_millis(5));
    network.run(SECOND * 30);
    assert_eq!(shared_tree(&network), (58, 1));
    network.partition((2..60).filter(|peer| peer % 2 == 0 && *peer != root));
    network.run(SECOND * 20);
    assert!(shared_tree(&network).1 >= 2);
    network.heal();
    network.run(SECOND * 60);
    assert_eq!(shared_tree(&network), (58, 1));
}
