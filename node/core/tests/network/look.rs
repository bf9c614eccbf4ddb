//! What a core shows of its topics.

use std::time::Duration;

use weft_core::input::Reach;

use super::keepers::{closest, get_subscribed, network};
use super::net::Net;
use super::{TOPIC, message, publish_steadily, seconds, subscribed, topic};

/// Which node, whether it is subscribed, whether it is a neighbour, and how long ago it was heard of.
type Known = (usize, Option<bool>, bool, Duration);

fn members(net: &Net, node: usize) -> Option<Vec<Known>> {
    let members = net.node(node).core.topic_members(&topic(), net.now())?;
    let number = |peer| (0..5).find(|node| net.peer_at(*node) == peer).unwrap();
    let mut members: Vec<_> = members
        .iter()
        .map(|member| {
            let who = number(member.peer);
            (who, member.subscribed, member.is_neighbour, member.age)
        })
        .collect();
    members.sort_unstable();
    Some(members)
}

#[test]
fn members_are_those_that_say_so_and_it_is_told_who_is_a_neighbour() {
    let mut net = subscribed(5, 4);
    publish_steadily(&mut net, 0, 3);
    net.run(seconds(2));
    // Of five members each is a neighbour of every other. Node 0 only publishes.
    for node in 0..5 {
        let others = (0..5).filter(|other| *other != node);
        let expected: Vec<_> = others
            .map(|other| (other, Some(other != 0), true, Duration::ZERO))
            .collect();
        assert_eq!(members(&net, node), Some(expected), "of node {node}");
        let unheard_of = "nobody/listens".parse().unwrap();
        let core = &net.node(node).core;
        assert_eq!(core.topic_members(&unheard_of, net.now()), None);
        assert_eq!(core.topic_stats(&unheard_of, net.now()), None);
        let listed = core.topics(net.now());
        assert_eq!((listed.len(), listed[0].members_known), (1, 4));
    }
    // Who has gone without a word is no neighbour soon, and no subscriber once it can't be dialled.
    net.crash(4);
    let gone = |net: &Net| {
        let known = members(net, 1).unwrap();
        known.into_iter().find(|(who, ..)| *who == 4)
    };
    net.run_until(seconds(10), "it is no neighbour", |net| {
        gone(net).is_none_or(|(_, _, is_neighbour, _)| !is_neighbour)
    });
    net.run_until(seconds(30), "it is no subscriber", |net| {
        gone(net).is_none_or(|(_, subscribed, ..)| subscribed.is_none())
    });
}

#[test]
fn stats_count_what_is_held_and_what_was_delivered() {
    let mut net = subscribed(5, 4);
    let began = net.now().unix;
    publish_steadily(&mut net, 0, 20);
    net.publish(2, TOPIC, vec![message("a batch"), message("of two")]);
    net.run(seconds(1));
    for node in 0..5 {
        let stats = net.node(node).core.topic_stats(&topic(), net.now());
        let stats = stats.unwrap();
        assert!(stats.is_member);
        assert_eq!(stats.subscriptions, usize::from(node != 0));
        assert_eq!((stats.members_known, stats.streams), (4, 2));
        assert_eq!((stats.bundles_held, stats.messages_held), (21, 22));
        assert!(stats.bytes_held > 22 * 256, "{stats:?}");
        let (oldest, newest) = (stats.oldest.unwrap(), stats.newest.unwrap());
        assert!(began < oldest && oldest < newest && newest < net.now().unix);
        assert_eq!(stats.counters.messages_delivered, 22, "of node {node}");
        assert_eq!(stats.counters.messages_lost, 0);
    }
}

#[test]
fn keepers_are_members_that_are_told_apart() {
    let mut net = network(8, 4);
    let nodes = closest(&net);
    let subscriber = nodes[5];
    get_subscribed(&mut net, subscriber, Reach::Base);
    net.run(seconds(3));
    let core = &net.node(subscriber).core;
    let members = core.topic_members(&topic(), net.now()).unwrap();
    let mut keepers: Vec<_> = nodes[..3].iter().map(|node| net.peer_at(*node)).collect();
    keepers.sort_unstable();
    let known: Vec<_> = members.iter().map(|member| member.peer).collect();
    assert_eq!(known, keepers);
    assert!(members.iter().all(|member| member.is_keeper));
    let stats = core.topic_stats(&topic(), net.now()).unwrap();
    assert_eq!((stats.keeps, stats.keepers_known), (false, 3));
    for keeper in &nodes[..3] {
        let stats = net.node(*keeper).core.topic_stats(&topic(), net.now());
        let stats = stats.unwrap();
        assert_eq!((stats.keeps, stats.keepers_known), (true, 2));
        assert_eq!((stats.subscriptions, stats.members_known), (0, 3));
    }
}
