//! Bundles and questions that go to keepers directly, beside the trees.

use std::time::Duration;

use weft_core::input::{Ack, Reach, Via};
use weft_core::{PublishError, Reply};

use super::keepers::{
    KEEPERS, closest, get_published_via, get_subscribed, network, numbered, others,
};
use super::net::Net;
use super::{TOPIC, message, seconds};

/// Longer than a publisher waits until it tries again, shorter than it waits for an answer.
const STOPPED_FOR: Duration = Duration::from_millis(1_300);

/// A network with a subscriber and a publisher that has links to all keepers; returns the publisher.
fn with_publisher(seed: u64, via: Via) -> (Net, usize) {
    let mut net = network(12, seed);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    get_published_via(&mut net, others[1], &numbered(1), (via, Ack::Keepers));
    (net, others[1])
}

/// Publishes one message while all keepers hang; returns how many frames of a kind have come to them for it.
fn frames_to_hanging_keepers(seed: u64, via: Via, frames: impl Fn(&Net) -> u64) -> u64 {
    let (mut net, publisher) = with_publisher(seed, via);
    let before = frames(&net);
    for keeper in &closest(&net)[..KEEPERS] {
        net.hang(*keeper, STOPPED_FOR);
    }
    get_published_via(&mut net, publisher, &numbered(1), (via, Ack::Keepers));
    frames(&net) - before
}

#[test]
fn a_bundle_is_not_given_again_to_a_keeper_that_has_not_answered() {
    let hands = frames_to_hanging_keepers(21, Via::Dht, |net| net.hands);
    assert_eq!(hands, KEEPERS as u64);
}

#[test]
fn a_keeper_is_not_asked_again_before_it_has_answered() {
    let confirms = frames_to_hanging_keepers(22, Via::Both, |net| net.confirms);
    assert_eq!(confirms, KEEPERS as u64);
}

#[test]
fn a_batch_that_keepers_fail_half_way_leaves_no_gap() {
    let messages = numbered(2_500);
    // The publisher is cut off when so many bundles have come to a keeper, of three that each of three is given.
    for cut_after in 0..8 {
        let (mut net, publisher) = with_publisher(23, Via::Dht);
        let subscriber = others(&net)[0];
        let before = net.hands + cut_after;
        let way = (Via::Dht, Ack::Keepers);
        let request = net.publish_for(publisher, TOPIC, messages.clone(), way);
        net.run_until(seconds(1), "it has begun", |net| net.hands >= before);
        let rest: Vec<usize> = net.live().into_iter().filter(|n| *n != publisher).collect();
        net.partition(&[publisher], &rest);
        net.run_until(seconds(15), "it has failed", |net| {
            net.node(publisher).replies.contains_key(&request)
        });
        let reply = net.take_reply(publisher, request);
        let Some(Reply::Published(Err(PublishError::Unacknowledged { .. }))) = reply else {
            panic!("{reply:?}");
        };
        net.heal();
        net.run(seconds(10));
        for via in [Via::Dht, Via::Both] {
            get_published_via(
                &mut net,
                publisher,
                &[message("after")],
                (via, Ack::Keepers),
            );
            // Longer than it takes until a hole is told as a gap.
            net.run(seconds(20));
        }
        let peer = net.peer_at(publisher);
        assert!(net.gaps(subscriber, TOPIC).is_empty(), "{cut_after}");
        let got = net.messages(subscriber, TOPIC, peer);
        let [first, came @ .., after, again] = &got[..] else {
            panic!("{} messages", got.len());
        };
        assert_eq!(*first, numbered(1)[0]);
        assert_eq!([after, again], [&message("after"), &message("after")]);
        assert_eq!(came, &messages[..came.len()], "{cut_after}");
    }
}

#[test]
fn publishes_that_overlap_leave_in_the_order_of_their_calls() {
    let (mut net, publisher) = with_publisher(24, Via::Dht);
    let subscriber = others(&net)[0];
    let way = (Via::Dht, Ack::Keepers);
    let batches = [numbered(2_500), vec![message("between")], numbered(2_500)];
    let requests = batches
        .each_ref()
        .map(|batch| net.publish_for(publisher, TOPIC, batch.clone(), way));
    net.run_until(seconds(15), "all are acknowledged", |net| {
        let replies = &net.node(publisher).replies;
        requests.iter().all(|request| replies.contains_key(request))
    });
    for request in requests {
        let reply = net.take_reply(publisher, request);
        assert!(matches!(reply, Some(Reply::Published(Ok(_)))), "{reply:?}");
    }
    net.run(seconds(2));
    let got = net.messages(subscriber, TOPIC, net.peer_at(publisher));
    assert_eq!(got[1..], batches.concat());
}

#[test]
fn keepers_that_the_own_table_does_not_hold_are_looked_up() {
    let mut net = network(90, 31);
    net.run(seconds(30));
    let keepers: Vec<_> = closest(&net)[..KEEPERS]
        .iter()
        .map(|node| net.peer_at(*node))
        .collect();
    let way = (Via::Dht, Ack::Keepers);
    for publisher in others(&net) {
        let published = get_published_via(&mut net, publisher, &numbered(1), way);
        let is_keeper = |peer| keepers.contains(peer);
        assert!(published.keepers.iter().all(is_keeper), "{publisher}");
        assert!(published.keepers.len() > KEEPERS / 2, "{publisher}");
    }
}

#[test]
fn a_keeper_that_dies_holds_up_nobody_who_publishes_by_hand() {
    let mut net = network(40, 32);
    net.run(seconds(30));
    let keepers = closest(&net)[..KEEPERS].to_vec();
    let publisher = others(&net)[20];
    let before = net.hands;
    let way = (Via::Dht, Ack::Keepers);
    let request = net.publish_for(publisher, TOPIC, numbered(10_000), way);
    net.run_until(seconds(1), "it has begun", |net| net.hands > before);
    net.crash(keepers[0]);
    let took = net.run_until(seconds(15), "it is acknowledged", |net| {
        net.node(publisher).replies.contains_key(&request)
    });
    let Some(Reply::Published(Ok(published))) = net.take_reply(publisher, request) else {
        panic!("it is not");
    };
    let dead = net.peer_at(keepers[0]);
    let living = published.keepers.iter().filter(|keeper| **keeper != dead);
    assert!(living.count() > KEEPERS / 2, "{published:?}");
    assert!(took < seconds(1), "{took:?}");
}

#[test]
fn one_keeper_that_can_be_reached_is_not_most_of_them() {
    let mut net = network(12, 33);
    let keepers = closest(&net)[..KEEPERS].to_vec();
    let publisher = others(&net)[0];
    let away = |node: &usize| *node != publisher && *node != keepers[0];
    let away: Vec<usize> = net.live().into_iter().filter(away).collect();
    net.partition(&[publisher], &away);
    let way = (Via::Dht, Ack::Keepers);
    let request = net.publish_for(publisher, TOPIC, numbered(1), way);
    net.run_until(seconds(15), "it has failed", |net| {
        net.node(publisher).replies.contains_key(&request)
    });
    let reply = net.take_reply(publisher, request);
    let expected = PublishError::Unacknowledged {
        ack: Ack::Keepers,
        got: 1,
        need: 2,
    };
    assert!(
        matches!(&reply, Some(Reply::Published(Err(error))) if *error == expected),
        "{reply:?}"
    );
}
