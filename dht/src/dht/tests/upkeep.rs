//! Pings, joins and refreshes of one node.

use std::time::Duration;

use super::*;
use crate::table::Standing;
use crate::testing::at;
use crate::{Key, Peer};

fn standing(node: &Node, peer: u32) -> Option<Standing> {
    let entry = node.table().entry(TestPeer(peer));
    entry.map(crate::table::Entry::standing)
}

fn millis(at: u64) -> Time {
    Time::from_micros(at * 1_000)
}

#[test]
fn a_join_looks_up_the_own_key_first_and_then_a_key_in_each_bucket() {
    let mut node = node();
    acquaint(&mut node, &(0..40).collect::<Vec<_>>(), at(0));
    pass(&mut node, millis(499));
    assert!(
        queries(&mut node).is_empty(),
        "others may be about to answer"
    );
    let me = TestPeer(ME);
    let mut prefixes = Vec::new();
    let mut targets = Vec::new();
    let mut now = 500;
    while now < 5_000 {
        pass(&mut node, millis(now));
        for (to, id, query) in queries(&mut node) {
            let Query::FindNode { key } = query else {
                panic!("{query:?}");
            };
            if targets.last() != Some(&key) {
                prefixes.push(key.point().shared_prefix(me.point()));
                targets.push(key);
            }
            let contacts = Vec::new();
            let message = Message::Answer(Answer::Closer { contacts });
            receive(&mut node, to, id, message, at(now));
        }
        now += 10;
    }
    let buckets: Vec<u32> = (0..=node.table().depth()).collect();
    assert_eq!((targets[0].clone(), prefixes[0]), (me.key(), 256));
    assert_eq!(prefixes[1..], buckets);
    assert!(node.is_settled(at(now)));
}

#[test]
fn a_peer_that_leaves_a_request_unanswered_is_pinged_twice_before_it_is_given_up() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    call(
        &mut node,
        1,
        Call::Closest(Key::new(b"key").unwrap()),
        at(0),
    );
    queries(&mut node);
    pass(&mut node, millis(400));
    assert_eq!(standing(&node, 1), Some(Standing::Suspect));
    let pings = queries(&mut node);
    assert!(matches!(pings[..], [(1, _, Query::Ping)]), "{pings:?}");
    pass(&mut node, millis(3_300));
    let pings = queries(&mut node);
    assert!(matches!(pings[..], [(1, _, Query::Ping)]), "{pings:?}");
    pass(&mut node, millis(6_500));
    assert_eq!(standing(&node, 1), Some(Standing::Stale));
    assert!(node.wants_contacts());
}

#[test]
fn a_peer_that_cannot_be_reached_fails_at_once() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    call(
        &mut node,
        1,
        Call::Closest(Key::new(b"key").unwrap()),
        at(0),
    );
    let peer = TestPeer(1);
    for _ in 0..3 {
        node.handle(Input::PeerLost { peer }, at(1));
    }
    assert_eq!(standing(&node, 1), Some(Standing::Stale));
    assert_eq!(replies(&mut node).len(), 1);
    node.handle(Input::PeerLost { peer }, at(2));
    assert!(
        node.poll_output().is_none(),
        "a link that ends is no failure"
    );
}

#[test]
fn what_a_link_was_closed_under_is_asked_once_more_and_the_peer_is_not_doubted() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    let key = Key::new(b"key").unwrap();
    call(&mut node, 1, Call::Closest(key.clone()), at(0));
    let (peer, asks) = (TestPeer(1), Query::FindNode { key });
    let first = queries(&mut node);
    assert!(matches!(&first[..], [(1, _, query)] if *query == asks));
    node.handle(Input::Unlinked { peer }, at(1));
    let second = queries(&mut node);
    assert!(matches!(&second[..], [(1, _, query)] if *query == asks));
    assert_ne!(first, second, "the first one's answer would come too late");
    assert_eq!(standing(&node, 1), Some(Standing::Live));
    assert_eq!(node.counters().failures, 0);
    node.handle(Input::Unlinked { peer }, at(2));
    assert_eq!(standing(&node, 1), Some(Standing::Suspect));
    assert_eq!(node.counters().failures, 1);
    let pings = queries(&mut node);
    assert!(matches!(pings[..], [(1, _, Query::Ping)]), "{pings:?}");
}

#[test]
fn a_stale_peer_is_tried_again_and_begins_a_join_when_it_is_back() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    call(
        &mut node,
        1,
        Call::Closest(Key::new(b"key").unwrap()),
        at(0),
    );
    pass(&mut node, millis(8_000));
    assert_eq!(standing(&node, 1), Some(Standing::Stale));
    queries(&mut node);
    let mut now = 8_000;
    let ping = loop {
        now += 100;
        assert!(now < 80_000, "never tried again");
        pass(&mut node, millis(now));
        if let Some(ping) = queries(&mut node).pop() {
            break ping;
        }
    };
    let (to, id, query) = ping;
    assert_eq!((to, query), (1, Query::Ping));
    receive(&mut node, 1, id, pong(), at(now));
    assert_eq!(standing(&node, 1), Some(Standing::Live));
    pass(&mut node, millis(now + 500));
    let own = TestPeer(ME).key();
    let asked = queries(&mut node);
    assert!(
        matches!(&asked[..], [(1, _, Query::FindNode { key })] if *key == own),
        "{asked:?}"
    );
}

#[test]
fn a_node_that_was_stopped_accuses_nobody() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    call(
        &mut node,
        1,
        Call::Closest(Key::new(b"key").unwrap()),
        at(0),
    );
    let (_, id, _) = queries(&mut node)[0];
    node.handle_timeout(at(30_000));
    assert_eq!(standing(&node, 1), Some(Standing::Live));
    let message = Message::Answer(Answer::Closer { contacts: vec![] });
    receive(&mut node, 1, id, message, at(30_050));
    let (_, outcome, _) = replies(&mut node).pop().unwrap();
    assert_eq!(
        outcome,
        Outcome::Closest {
            contacts: vec![contact(1)]
        }
    );
}

#[test]
fn pings_are_bounded_and_those_left_out_are_counted() {
    let mut node = node();
    // More than the two buckets of 20 that 90 peers fill have room for is asked of them before any has answered.
    let contacts = (0..90).map(contact).collect();
    node.handle(Input::Learned { contacts }, at(0));
    assert_eq!(queries(&mut node).len(), 64);
    assert_eq!(node.counters().probes_left_out, 26);
}

#[test]
fn a_provided_key_is_announced_again_until_it_is_provided_no_longer() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    let key = Key::new(b"key").unwrap();
    call(&mut node, 1, Call::Provide(key.clone()), at(0));
    let hour = Duration::from_secs(60 * 60).as_micros() as u64;
    let mut announced = 0;
    let answer_all = |node: &mut Node, until: u64, announced: &mut u32| {
        let mut time = 0;
        while time < until {
            for (to, id, query) in queries(node) {
                let message = match query {
                    Query::AddProvider { .. } => {
                        *announced += 1;
                        continue;
                    }
                    Query::Ping => pong(),
                    _ => Message::Answer(Answer::Closer { contacts: vec![] }),
                };
                let now = at(time / 1_000);
                receive(node, to, id, message, now);
            }
            time = node.poll_timeout().as_micros().max(time);
            pass(node, Time::from_micros(time));
        }
    };
    answer_all(&mut node, 100 * hour, &mut announced);
    assert!(
        (4..=7).contains(&announced),
        "{announced} times in 100 hours"
    );
    node.handle(Input::StopProviding { key }, at(100 * hour / 1_000));
    let before = announced;
    answer_all(&mut node, 200 * hour, &mut announced);
    assert_eq!(announced, before);
}
