//! Members that hear of triangles.

use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::tests::{TestContact, contact};
use super::super::{Config, Goodbye, Input, Message, Output, Priority};
use super::*;
use crate::{Time, UnixMicros};

const UNIX: u64 = 1_000_000_000_000;
/// Long enough after a view was filled.
const AT_REST: u64 = 60_000;
const NEIGHBOURS: [u32; 5] = [11, 12, 13, 14, 15];

struct Member(Membership<u32, TestContact>);

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(UNIX + millis * 1_000),
    }
}

impl Member {
    /// Makes a member with five neighbours, of which the first two are the oldest, that knows so many others.
    fn new(me: u32, known: u32) -> Self {
        // Old enough from the start: none of its early swaps gets in between.
        let config = Config {
            promotion_by_all: Duration::ZERO,
            ..Config::default()
        };
        Self::with(config, me, known)
    }

    fn with(config: Config, me: u32, known: u32) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(1);
        let views = Membership::new(contact(me, UNIX), config, rng, at(0));
        let mut member = Self(views);
        for (millis, peer) in NEIGHBOURS.into_iter().enumerate() {
            let sender = contact(peer, UNIX);
            let priority = Priority::Low;
            let message = Message::Neighbor { sender, priority };
            member.receive(peer, message, millis as u64);
        }
        let contacts = (100..100 + known).map(|peer| contact(peer, UNIX)).collect();
        member.give(Input::Learned { contacts }, 10);
        member
    }

    fn give(
        &mut self,
        input: Input<u32, TestContact>,
        millis: u64,
    ) -> Vec<(u32, Message<TestContact>)> {
        self.0.handle(input, at(millis));
        let orders = std::iter::from_fn(|| self.0.poll_output());
        let sent = orders.filter_map(|order| match order {
            Output::Send { to, message, .. } => Some((to, message)),
            _ => None,
        });
        sent.collect()
    }

    fn receive(
        &mut self,
        from: u32,
        message: Message<TestContact>,
        millis: u64,
    ) -> Vec<(u32, Message<TestContact>)> {
        self.give(Input::Received { from, message }, millis)
    }

    /// A neighbour shuffles for itself. Returns who is asked for its sake.
    fn shuffle(&mut self, from: u32, sample: &[u32], millis: u64) -> Option<u32> {
        let message = Message::Shuffle {
            origin: contact(from, UNIX),
            hops_left: 6,
            sample: sample.iter().map(|&peer| contact(peer, UNIX)).collect(),
        };
        let sent = self.receive(from, message, millis);
        sent.into_iter().find_map(|(to, message)| {
            let is_asked = matches!(
                message,
                Message::Neighbor {
                    priority: Priority::High,
                    ..
                }
            );
            is_asked.then_some(to)
        })
    }

    /// One that was asked accepts. Returns whom it takes the place of.
    fn accept(&mut self, from: u32, millis: u64) -> Vec<u32> {
        let sender = contact(from, UNIX);
        let accepted = true;
        let sent = self.receive(from, Message::NeighborReply { sender, accepted }, millis);
        let is_goodbye = |message: &Message<TestContact>| {
            let reason = Goodbye::NotNeighbours;
            *message == Message::Disconnect { reason }
        };
        let gone = sent.into_iter().filter(|(_, message)| is_goodbye(message));
        gone.map(|(to, _)| to).collect()
    }
}

#[test]
fn the_smallest_corner_gives_up_who_told_it_of_the_triangle() {
    let mut member = Member::new(1, 30);
    let asked = member.shuffle(14, &[50, 15, 51], AT_REST).expect("a swap");
    assert_eq!(member.accept(asked, AT_REST + 5), [14]);
    assert!(member.0.is_active(asked) && member.0.is_active(15));
}

#[test]
fn a_neighbour_that_is_named_by_one_of_the_oldest_is_kept() {
    let mut member = Member::new(1, 30);
    assert_eq!(member.shuffle(11, &[15], AT_REST), None);
    assert_eq!(member.shuffle(12, &[11], AT_REST), None);
}

#[test]
fn other_corners_leave_it_to_the_smallest() {
    let mut member = Member::new(17, 30);
    assert_eq!(member.shuffle(14, &[12], AT_REST), None);
    assert_eq!(member.shuffle(15, &[14], AT_REST), None);
}

#[test]
fn what_a_neighbour_names_beyond_its_neighbours_is_no_triangle() {
    let mut member = Member::new(1, 30);
    assert_eq!(member.shuffle(14, &[50, 51, 52, 15], AT_REST), None);
    assert!(member.shuffle(14, &[50, 51, 15], AT_REST).is_some());
}

#[test]
fn a_walk_from_elsewhere_says_nothing_of_who_brings_it() {
    let mut member = Member::new(1, 30);
    let message = Message::Shuffle {
        origin: contact(90, UNIX),
        hops_left: 3,
        sample: vec![contact(15, UNIX)],
    };
    let sent = member.receive(14, message, AT_REST);
    let is_walk =
        |(_, message): &(u32, Message<TestContact>)| matches!(message, Message::Shuffle { .. });
    assert!(sent.iter().all(is_walk));
}

#[test]
fn a_triangle_is_left_to_a_small_swarm_to_a_new_member_and_to_a_view_that_moves() {
    let mut small = Member::new(1, 24);
    assert_eq!(small.shuffle(14, &[15], AT_REST), None);
    let mut new = Member::with(Config::default(), 1, 30);
    assert_eq!(new.shuffle(14, &[15], AT_REST), None);
    let mut moving = Member::new(1, 30);
    assert_eq!(moving.shuffle(14, &[15], 20_000), None);
    assert!(moving.shuffle(14, &[15], 31_000).is_some());
}

#[test]
fn a_place_that_must_be_given_up_is_one_of_a_triangle() {
    for seed in 0..20 {
        let mut member = Member::new(17, 30);
        // Told of before the view is at rest, and none of this member's to break.
        assert_eq!(member.shuffle(15, &[12], 20_000 + seed), None);
        let sender = contact(70, UNIX);
        let priority = Priority::High;
        member.receive(70, Message::Neighbor { sender, priority }, 20_100);
        assert!(!member.0.is_active(15) && member.0.is_active(14));
    }
}

#[test]
fn triangles_without_end_cost_two_swaps_and_then_one_each_half_hour() {
    let mut member = Member::new(1, 30);
    let mut swaps = 0;
    for minute in 0..120 {
        let millis = AT_REST + minute * 60_000;
        let mut young: Vec<u32> = member.0.active().filter(|peer| *peer > 12).collect();
        let (from, other) = (young.remove(0), young.remove(0));
        if let Some(asked) = member.shuffle(from, &[other], millis) {
            swaps += 1;
            member.accept(asked, millis + 5);
        }
    }
    assert_eq!(swaps, 2 + 3);
}
