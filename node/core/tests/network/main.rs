//! Whole nodes in virtual time: what a user of a network relies on, without sockets.

#![allow(clippy::unwrap_used, reason = "a test's harness fails by panicking")]

mod by_hand;
mod dht;
mod disk;
mod keepers;
mod logs;
mod look;
mod net;

use std::time::Duration;

use bytes::Bytes;
use net::{Got, Net};
use weft_core::config::PreviousRun;
use weft_core::input::{Ack, Via};
use weft_core::{Command, Event, PublishError, Reply, RequestId, TopicName};

const TOPIC: &str = "logs";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn message(text: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref().as_bytes())
}

/// A network of `count` nodes that is whole.
fn whole(count: usize, seed: u64) -> Net {
    let mut net = Net::start(count, seed);
    let took = net.run_until(seconds(5), "the network is whole", |net| {
        net.is_whole("network")
    });
    println!("whole after {took:?}");
    net
}

/// The same, and all but node 0 have subscribed.
fn subscribed(count: usize, seed: u64) -> Net {
    let mut net = whole(count, seed);
    let requests: Vec<u64> = (1..count).map(|node| net.subscribe(node, TOPIC)).collect();
    net.run_until(seconds(3), "all are subscribed", |net| {
        requests.iter().enumerate().all(|(at, request)| {
            matches!(
                net.node(at + 1).replies.get(request),
                Some(Reply::Subscribed { .. })
            )
        })
    });
    net
}

/// Node 0 publishes `count` messages at 50 a second.
fn publish_steadily(net: &mut Net, from: usize, count: usize) -> Vec<Bytes> {
    let messages: Vec<Bytes> = (0..count).map(|n| message(format!("{from}/{n}"))).collect();
    for message in &messages {
        net.publish(from, TOPIC, vec![message.clone()]);
        net.run(Duration::from_millis(20));
    }
    messages
}

fn duplicates(net: &Net, nodes: &[usize]) -> (u64, u64) {
    nodes.iter().fold((0, 0), |(new, again), node| {
        let counters = net
            .node(*node)
            .core
            .swarm_view(TOPIC, net.now())
            .unwrap()
            .counters;
        (
            new + counters.bundles_new,
            again + counters.bundles_duplicate,
        )
    })
}

#[test]
fn what_one_publishes_reaches_all_subscribers_in_order_and_once() {
    for seed in 0..10 {
        let mut net = subscribed(8, seed);
        let sent = publish_steadily(&mut net, 0, 100);
        net.run(seconds(1));
        let publisher = net.peer_at(0);
        for node in 1..8 {
            assert_eq!(
                net.messages(node, TOPIC, publisher),
                sent,
                "seed {seed} node {node}"
            );
            assert!(net.gaps(node, TOPIC).is_empty());
        }
    }
}

#[test]
fn a_steady_stream_has_next_to_no_duplicates() {
    for seed in 0..5 {
        let mut net = subscribed(20, seed);
        publish_steadily(&mut net, 0, 20);
        let nodes: Vec<usize> = (0..20).collect();
        let (new, again) = duplicates(&net, &nodes);
        publish_steadily(&mut net, 0, 100);
        net.run(seconds(1));
        let (new, again) = {
            let (new_after, again_after) = duplicates(&net, &nodes);
            (new_after - new, again_after - again)
        };
        let rmr = again as f64 / new as f64;
        println!("seed {seed}: {new} bundles, {again} of them again: redundancy {rmr:.4}");
        assert!(rmr <= 0.05, "seed {seed}: {rmr}");
    }
}

#[test]
fn a_burst_arrives_whole_and_in_order() {
    let mut net = subscribed(10, 3);
    let sent: Vec<Bytes> = (0..20_000)
        .map(|n| message(format!("line {n} {}", "x".repeat(n % 200))))
        .collect();
    for batch in sent.chunks(1_000) {
        net.publish(0, TOPIC, batch.to_vec());
    }
    net.run_until(seconds(60), "all have all", |net| {
        (1..10).all(|node| net.node(node).got.get(&topic()).map_or(0, Vec::len) >= sent.len())
    });
    for node in 1..10 {
        assert_eq!(
            net.messages(node, TOPIC, net.peer_at(0)),
            sent,
            "node {node}"
        );
    }
}

fn topic() -> TopicName {
    TOPIC.parse().unwrap()
}

#[test]
fn a_crash_of_half_loses_nothing_of_the_survivors() {
    for seed in 0..10 {
        let mut net = subscribed(20, seed);
        let mut sent = publish_steadily(&mut net, 0, 50);
        for node in 10..20 {
            net.crash(node);
        }
        sent.extend(publish_steadily(&mut net, 0, 50));
        let took = net.run_until(seconds(5), "one component of symmetric views", |net| {
            net.is_whole("network") && net.is_whole(TOPIC)
        });
        sent.extend(publish_steadily(&mut net, 0, 50));
        net.run(seconds(3));
        println!("seed {seed}: whole {took:?} after the second stretch of messages");
        for node in 1..10 {
            assert_eq!(
                net.messages(node, TOPIC, net.peer_at(0)),
                sent,
                "seed {seed} node {node}"
            );
            assert!(net.gaps(node, TOPIC).is_empty(), "seed {seed} node {node}");
        }
    }
}

#[test]
fn a_hung_node_is_dropped_within_3_s_and_has_everything_10_s_after_it_wakes() {
    for seed in 0..5 {
        let mut net = subscribed(10, seed);
        let mut sent = publish_steadily(&mut net, 0, 50);
        net.hang(9, seconds(20));
        let hung = net.peer_at(9);
        net.run_until(seconds(3), "nobody is linked to it", |net| {
            (0..9).all(|node| {
                net.node(node)
                    .core
                    .peers()
                    .iter()
                    .all(|peer| peer.peer != hung)
            })
        });
        sent.extend(publish_steadily(&mut net, 0, 1_000));
        sent.extend(publish_steadily(&mut net, 0, 50));
        net.run_until(seconds(10), "it has everything", |net| {
            net.messages(9, TOPIC, net.peer_at(0)).len() == sent.len()
        });
        assert_eq!(net.messages(9, TOPIC, net.peer_at(0)), sent);
        assert!(net.gaps(9, TOPIC).is_empty());
        let stalls = net
            .node(9)
            .events
            .iter()
            .filter(|event| matches!(event, Event::Stalled { .. }))
            .count();
        assert_eq!(stalls, 1, "it noticed its own stop once");
    }
}

#[test]
fn a_partition_heals_and_both_sides_get_all() {
    for seed in 0..5 {
        let mut net = subscribed(12, seed);
        publish_steadily(&mut net, 0, 10);
        publish_steadily(&mut net, 11, 10);
        let (left, right): (Vec<usize>, Vec<usize>) = ((0..6).collect(), (6..12).collect());
        net.partition(&left, &right);
        for _ in 0..10 {
            publish_steadily(&mut net, 0, 25);
            publish_steadily(&mut net, 11, 25);
        }
        net.heal();
        let complete = |net: &Net| {
            (1..12).all(|node| {
                [0, 11]
                    .iter()
                    .all(|from| net.messages(node, TOPIC, net.peer_at(*from)).len() == 260)
            })
        };
        let took = net.run_until(seconds(30), "all have all", complete);
        println!("seed {seed}: all have all {took:?} after healing");
        net.run_until(seconds(30), "one component", |net| {
            net.is_whole("network") && net.is_whole(TOPIC)
        });
    }
}

#[test]
fn a_late_subscriber_gets_what_is_published_from_then_on() {
    let mut net = subscribed(8, 1);
    publish_steadily(&mut net, 0, 100);
    net.run(seconds(1));
    // Node 0 has only published so far; now it subscribes as well.
    let request = net.subscribe(0, TOPIC);
    assert!(
        matches!(
            net.node(0).replies.get(&request),
            Some(Reply::Subscribed { .. })
        ),
        "it has a base already"
    );
    let from_now = net.node(0).got[&topic()].len();
    let more = publish_steadily(&mut net, 3, 10);
    net.run(seconds(1));
    assert_eq!(net.node(0).got[&topic()].len() - from_now, more.len());
}

#[test]
fn order_holds_over_a_clean_restart_of_the_publisher() {
    let mut net = subscribed(8, 5);
    let mut sent = publish_steadily(&mut net, 0, 20);
    let run = net.stop(0);
    assert_eq!(run.last_seqs[&topic()], 20);
    net.restart(0, run);
    net.run_until(seconds(5), "it is back", |net| {
        net.is_whole("network") && !net.node(0).core.peers().is_empty()
    });
    sent.extend(publish_steadily(&mut net, 0, 20));
    net.run(seconds(2));
    for node in 1..8 {
        assert_eq!(
            net.messages(node, TOPIC, net.peer_at(0)),
            sent,
            "node {node}"
        );
    }
}

#[test]
fn a_crashed_publisher_goes_on_in_a_new_epoch_without_gaps() {
    let mut net = subscribed(8, 6);
    let mut sent = publish_steadily(&mut net, 0, 20);
    let epoch = net.now().unix.0 / 1_000 - 10_000;
    net.crash(0);
    net.run(seconds(1));
    net.restart(
        0,
        PreviousRun {
            epoch,
            clean: false,
            ..PreviousRun::default()
        },
    );
    sent.extend(publish_steadily(&mut net, 0, 20));
    net.run(seconds(3));
    for node in 1..8 {
        assert_eq!(
            net.messages(node, TOPIC, net.peer_at(0)),
            sent,
            "node {node}"
        );
        assert!(net.gaps(node, TOPIC).is_empty());
    }
}

#[test]
fn a_lost_tail_is_told_as_its_exact_range() {
    let mut net = subscribed(4, 7);
    publish_steadily(&mut net, 0, 20);
    let mut run = net.stop(0);
    // The publisher knows of five more that nobody ever saw.
    run.last_seqs.insert(topic(), 25);
    let epoch = run.epoch;
    net.restart(0, run);
    publish_steadily(&mut net, 0, 5);
    net.run(seconds(40));
    let publisher = net.peer_at(0);
    for node in 1..4 {
        assert_eq!(
            net.gaps(node, TOPIC),
            [Got::Gap {
                publisher,
                epoch,
                from: 21,
                to: 25
            }],
            "node {node}"
        );
        assert_eq!(
            net.messages(node, TOPIC, publisher).len(),
            25,
            "node {node}"
        );
    }
}

#[test]
fn publishing_to_nobody_succeeds_and_says_so() {
    let mut net = whole(5, 2);
    let request = net.publish(2, "nobody/listens", vec![message("hello")]);
    net.run(Duration::from_millis(1_100));
    let Some(Reply::Published(Ok(published))) = net.node(2).replies.get(&request) else {
        panic!("published within the second that a first neighbour is waited for");
    };
    assert_eq!(
        (
            published.receipts[0].seq,
            published.receipts[0].subscribers_known
        ),
        (1, 0)
    );
}

#[test]
fn an_oversize_message_is_refused_and_nothing_of_its_batch_is_published() {
    let mut net = whole(3, 2);
    let batch = vec![message("fine"), Bytes::from(vec![0; 1024 * 1024 + 1])];
    let request = net.publish(0, TOPIC, batch);
    let reply = net.node(0).replies.get(&request);
    assert!(
        matches!(
            reply,
            Some(Reply::Published(Err(PublishError::TooLarge {
                index: 1,
                bytes: 1_048_577
            })))
        ),
        "{reply:?}"
    );
}

#[test]
fn a_neighbour_that_takes_nothing_holds_a_publisher_up_for_a_second() {
    let mut net = subscribed(8, 11);
    publish_steadily(&mut net, 0, 5);
    let view = net.node(0).core.swarm_view(TOPIC, net.now()).unwrap();
    let slow = view.active[0].peer;
    // Its lane is half full and gets neither fuller nor emptier; it answers heartbeats.
    net.stuck.insert((0, slow), 1_500_000);
    net.run(seconds(1));
    let request = net.publish(0, TOPIC, vec![message("on")]);
    net.run_until(Duration::from_millis(1_100), "it is published", |net| {
        net.node(0).replies.contains_key(&request)
    });
}

#[test]
fn a_topic_that_is_not_used_is_left_after_five_minutes() {
    let mut net = subscribed(4, 4);
    publish_steadily(&mut net, 0, 1);
    assert_eq!(net.node(0).core.status().topics, [topic()]);
    net.run(seconds(330));
    assert!(net.node(0).core.status().topics.is_empty());
    assert_eq!(
        net.node(1).core.status().topics,
        [topic()],
        "a subscriber stays"
    );
    assert!(net.is_whole(TOPIC), "the others have noticed");
}

#[test]
fn a_network_at_rest_is_quiet() {
    let mut net = subscribed(20, 8);
    net.run(seconds(60));
    let before = net.frames;
    net.run(seconds(60));
    let rate = (net.frames - before) as f64 / 60.0 / 20.0;
    println!("{rate:.1} frames a second and node at rest, with two swarms");
    assert!(rate < 40.0, "{rate}");
}

#[test]
fn peers_can_be_pinged_and_removed() {
    let mut net = whole(6, 9);
    let peer = net.node(0).core.peers()[0].peer;
    let ping = net.command(0, |request| Command::Ping { request, peer });
    net.run(Duration::from_millis(20));
    assert!(
        matches!(net.node(0).replies.get(&ping), Some(Reply::Pong(Some(rtt))) if *rtt < Duration::from_millis(5))
    );
    let remove = net.command(0, |request| Command::RemovePeer { request, peer });
    assert!(matches!(
        net.node(0).replies.get(&remove),
        Some(Reply::PeerRemoved(true))
    ));
    assert!(
        net.node(0)
            .core
            .peers()
            .iter()
            .all(|linked| linked.peer != peer)
    );
}

#[test]
fn a_stopping_node_answers_everybody_and_refuses_what_comes_later() {
    let mut net = whole(3, 10);
    // It waits for a first neighbour in the topic.
    let waiting = net.publish(0, TOPIC, vec![message("late")]);
    let subscriber = net.subscribe(0, "another");
    let gone = net.peer_at(1);
    let ping = net.command(0, |request| Command::Ping {
        request,
        peer: gone,
    });
    let stop = net.command(0, |request| Command::Stop { request });
    let refused = |reply: Option<&Reply>| {
        matches!(reply, Some(Reply::Published(Err(PublishError::Stopping))))
    };
    assert!(refused(net.node(0).replies.get(&waiting)));
    for request in [subscriber, ping] {
        assert!(net.node(0).replies.contains_key(&request));
    }
    let isolated = net.node(0).events.contains(&Event::Isolated);
    assert!(!isolated, "whoever leaves is not alone, but gone");
    assert!(matches!(net.node(0).replies.get(&stop), Some(Reply::Stopped(run)) if run.clean));
    let later = net.command(0, |request: RequestId| Command::Publish {
        request,
        topic: topic(),
        messages: vec![message("later").into()],
        via: Via::Both,
        ack: Ack::Sent,
    });
    assert!(refused(net.node(0).replies.get(&later)));
}

#[test]
fn a_batch_that_has_begun_is_whole_when_its_node_stops() {
    let mut net = subscribed(5, 12);
    publish_steadily(&mut net, 0, 1);
    let batch = vec![Bytes::from(vec![b'x'; 1_000]); 1_000];
    let begun = net.publish(0, TOPIC, batch.clone());
    let waiting = net.publish(0, TOPIC, batch);
    assert!(
        !net.node(0).replies.contains_key(&begun),
        "it waits for the window"
    );
    let stop = net.command(0, |request| Command::Stop { request });
    let replies = &net.node(0).replies;
    let Some(Reply::Published(Ok(published))) = replies.get(&begun) else {
        panic!("{:?}", replies.get(&begun));
    };
    assert_eq!(published.receipts.len(), 1_000);
    assert!(matches!(
        replies.get(&waiting),
        Some(Reply::Published(Err(PublishError::Stopping)))
    ));
    assert!(
        matches!(replies.get(&stop), Some(Reply::Stopped(run)) if run.last_seqs[&topic()] == 1_001)
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let mut net = subscribed(12, seed);
        publish_steadily(&mut net, 0, 30);
        net.crash(5);
        publish_steadily(&mut net, 0, 30);
        net.run(seconds(5));
        (
            net.frames,
            format!("{:?}", net.node(3).core.swarm_view(TOPIC, net.now())),
        )
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
