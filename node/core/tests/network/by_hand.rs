//! Bundles and questions that go to keepers directly, beside the trees.

use std::time::Duration;

use weft_core::input::{Ack, Reach, Via};

use super::keepers::{
    KEEPERS, closest, get_published_via, get_subscribed, network, numbered, others,
};
use super::net::Net;

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

#[test]
fn a_bundle_is_not_given_again_to_a_keeper_that_has_not_answered() {
    let (mut net, publisher) = with_publisher(21, Via::Dht);
    let before = net.hands;
    for keeper in &closest(&net)[..KEEPERS] {
        net.hang(*keeper, STOPPED_FOR);
    }
    let way = (Via::Dht, Ack::Keepers);
    get_published_via(&mut net, publisher, &numbered(1), way);
    assert_eq!(net.hands - before, KEEPERS as u64);
}

#[test]
fn a_keeper_is_not_asked_again_before_it_has_answered() {
    let (mut net, publisher) = with_publisher(22, Via::Both);
    let before = net.confirms;
    for keeper in &closest(&net)[..KEEPERS] {
        net.hang(*keeper, STOPPED_FOR);
    }
    let way = (Via::Both, Ack::Keepers);
    get_published_via(&mut net, publisher, &numbered(1), way);
    assert_eq!(net.confirms - before, KEEPERS as u64);
}
