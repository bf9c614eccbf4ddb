//! Handler tests: a fact in, orders out. And a property: whatever peers send, the views stay views.

use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Config, Goodbye, Input, Membership, Message, Output, Priority};
use crate::{Contact, Now, Time, UnixMicros};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct TestContact {
    peer: u32,
    issued_at: u64,
    expires_at: u64,
}

impl Contact for TestContact {
    type Peer = u32;

    fn peer(&self) -> u32 {
        self.peer
    }

    fn issued_at(&self) -> UnixMicros {
        UnixMicros(self.issued_at)
    }

    fn expires_at(&self) -> UnixMicros {
        UnixMicros(self.expires_at)
    }
}

/// Makes a contact that holds for a day.
pub(super) fn contact(peer: u32, issued_at: u64) -> TestContact {
    TestContact {
        peer,
        issued_at,
        expires_at: issued_at + 86_400_000_000,
    }
}

type Member = Membership<u32, TestContact>;
type Orders = Vec<Output<u32, TestContact>>;

const ME: u32 = 1;
const UNIX: u64 = 1_000_000_000_000;

fn known(peer: u32) -> TestContact {
    contact(peer, UNIX)
}

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(UNIX + millis * 1_000),
    }
}

fn member() -> Member {
    let rng = ChaCha8Rng::seed_from_u64(1);
    Member::new(known(ME), Config::default(), rng, at(0))
}

fn drain(member: &mut Member) -> Orders {
    std::iter::from_fn(|| member.poll_output()).collect()
}

fn give(member: &mut Member, input: Input<u32, TestContact>, millis: u64) -> Orders {
    member.handle(input, at(millis));
    drain(member)
}

fn receive(member: &mut Member, from: u32, message: Message<TestContact>, millis: u64) -> Orders {
    give(member, Input::Received { from, message }, millis)
}

fn neighbor(from: u32, priority: Priority) -> Message<TestContact> {
    Message::Neighbor {
        sender: known(from),
        priority,
    }
}

fn reply(from: u32, accepted: bool) -> Message<TestContact> {
    Message::NeighborReply {
        sender: known(from),
        accepted,
    }
}

fn send(to: u32, message: Message<TestContact>) -> Output<u32, TestContact> {
    Output::Send {
        to,
        contact: Some(known(to)),
        message,
    }
}

fn not_neighbours() -> Message<TestContact> {
    Message::Disconnect {
        reason: Goodbye::NotNeighbours,
    }
}

/// Makes a member with these neighbours, each a millisecond younger than the one before.
fn with_active(peers: &[u32]) -> Member {
    let mut member = member();
    for (millis, &peer) in peers.iter().enumerate() {
        receive(
            &mut member,
            peer,
            neighbor(peer, Priority::Low),
            millis as u64,
        );
    }
    assert_eq!(member.active().count(), peers.len());
    member
}

fn learn(member: &mut Member, peers: &[u32], millis: u64) -> Orders {
    let contacts = peers.iter().copied().map(known).collect();
    give(member, Input::Learned { contacts }, millis)
}

fn asked(orders: &Orders) -> Vec<u32> {
    let asked = |order: &Output<u32, TestContact>| match order {
        Output::Send {
            to,
            message: Message::Neighbor { .. },
            ..
        } => Some(*to),
        _ => None,
    };
    orders.iter().filter_map(asked).collect()
}

fn refused(orders: &Orders, to: u32) -> bool {
    orders.contains(&send(to, reply(ME, false)))
}

#[test]
fn a_request_is_accepted_where_there_is_room() {
    let orders = receive(&mut member(), 2, neighbor(2, Priority::Low), 0);
    let up = Output::NeighborUp { peer: 2 };
    assert_eq!(orders, [send(2, reply(ME, true)), up]);
}

#[test]
fn a_repeated_request_is_answered_again_and_changes_nothing() {
    let mut member = with_active(&[2]);
    let orders = receive(&mut member, 2, neighbor(2, Priority::Low), 5);
    assert_eq!(orders, [send(2, reply(ME, true))]);
}

#[test]
fn a_full_view_refuses_low_priority_and_keeps_the_asker_in_reserve() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    let orders = receive(&mut member, 7, neighbor(7, Priority::Low), 9);
    assert_eq!(orders, [send(7, reply(ME, false))]);
    assert_eq!(member.passive_contacts().count(), 1);
}

#[test]
fn full_active_view_evicts_one_neighbour_for_high_priority_but_not_the_oldest_two() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    for round in 0..20u32 {
        let from = 10 + round;
        let orders = receive(&mut member, from, neighbor(from, Priority::High), 10);
        assert!(orders.contains(&Output::NeighborUp { peer: from }));
        assert_eq!(member.active().count(), 5);
    }
    assert!(member.is_active(2) && member.is_active(3));
}

#[test]
fn forced_evictions_run_out_and_come_back_at_their_rate() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    for from in 10..42 {
        receive(&mut member, from, neighbor(from, Priority::High), 10);
    }
    let orders = receive(&mut member, 50, neighbor(50, Priority::High), 10);
    assert!(refused(&orders, 50));
    let orders = receive(&mut member, 51, neighbor(51, Priority::High), 270);
    assert!(!refused(&orders, 51));
}

#[test]
fn one_peer_forces_its_way_in_once_in_ten_seconds() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    receive(&mut member, 7, neighbor(7, Priority::High), 10);
    receive(&mut member, 7, not_neighbours(), 11);
    receive(&mut member, 8, neighbor(8, Priority::Low), 12);
    let orders = receive(&mut member, 7, neighbor(7, Priority::High), 13);
    assert!(refused(&orders, 7));
}

#[test]
fn a_peer_is_active_only_once_it_has_accepted() {
    let mut member = member();
    let orders = learn(&mut member, &[2], 0);
    assert_eq!(
        orders,
        [send(
            2,
            Message::Neighbor {
                sender: known(ME),
                priority: Priority::High
            }
        )]
    );
    assert_eq!(member.active().count(), 0);
    let orders = receive(&mut member, 2, reply(2, true), 5);
    assert_eq!(orders, [Output::NeighborUp { peer: 2 }]);
}

#[test]
fn crossing_requests_end_in_one_neighbourhood() {
    let mut member = member();
    learn(&mut member, &[2], 0);
    let orders = receive(&mut member, 2, neighbor(2, Priority::High), 1);
    let up = Output::NeighborUp { peer: 2 };
    assert_eq!(orders, [send(2, reply(ME, true)), up]);
    assert_eq!(receive(&mut member, 2, reply(2, true), 2), []);
}

#[test]
fn a_broadcast_from_a_peer_that_was_asked_is_its_acceptance() {
    let mut member = member();
    learn(&mut member, &[2], 0);
    let orders = give(&mut member, Input::Stranger { from: 2 }, 9);
    assert_eq!(orders, [Output::NeighborUp { peer: 2 }]);
}

#[test]
fn a_stranger_is_told_once_a_second() {
    let mut member = member();
    let told = Output::Send {
        to: 2,
        contact: None,
        message: not_neighbours(),
    };
    assert_eq!(
        give(&mut member, Input::Stranger { from: 2 }, 0),
        std::slice::from_ref(&told)
    );
    assert_eq!(give(&mut member, Input::Stranger { from: 2 }, 999), []);
    assert_eq!(
        give(&mut member, Input::Stranger { from: 2 }, 1_000),
        [told]
    );
}

#[test]
fn an_acceptance_nobody_waits_for_is_answered_with_disconnect() {
    let orders = receive(&mut member(), 2, reply(2, true), 0);
    assert_eq!(orders, [send(2, not_neighbours())]);
}

#[test]
fn a_refusal_from_a_neighbour_ends_the_neighbourhood() {
    let mut member = with_active(&[2]);
    let orders = receive(&mut member, 2, reply(2, false), 5);
    assert_eq!(orders, [Output::NeighborDown { peer: 2 }]);
}

#[test]
fn the_next_candidate_is_asked_at_once_on_refusal_and_on_loss() {
    let mut member = with_active(&[2, 3, 4, 5]);
    let first = asked(&learn(&mut member, &[10, 11, 12], 10));
    assert_eq!(first.len(), 1, "no more requests than vacancies");
    let second = asked(&receive(&mut member, first[0], reply(first[0], false), 11));
    assert_eq!(second.len(), 1);
    assert_ne!(
        first, second,
        "one that refused isn't asked again in this round"
    );
    let third = asked(&give(&mut member, Input::PeerLost { peer: second[0] }, 12));
    assert_eq!(third.len(), 1);
    assert!(receive(&mut member, third[0], reply(third[0], false), 13).is_empty());
    let passive: Vec<u32> = member.passive_view().map(|entry| entry.peer).collect();
    assert_eq!(
        passive.len(),
        2,
        "refused ones stay in reserve, lost ones don't"
    );
}

#[test]
fn a_silent_candidate_is_asked_three_times_and_then_given_up() {
    let mut member = member();
    learn(&mut member, &[2], 0);
    for _ in 0..2 {
        let due = member.poll_timeout().as_micros() / 1_000;
        member.handle_timeout(at(due));
        assert_eq!(asked(&drain(&mut member)), [2]);
    }
    let due = member.poll_timeout().as_micros() / 1_000;
    member.handle_timeout(at(due));
    assert_eq!(drain(&mut member), []);
    assert_eq!(member.passive_contacts().count(), 0);
    assert!(member.wants_contacts(at(due)));
}

#[test]
fn a_round_without_success_ends_in_one_high_request() {
    let mut member = with_active(&[2, 3]);
    learn(&mut member, &[10], 10);
    receive(&mut member, 10, reply(10, false), 11);
    let due = (11..3_000).find(|&millis| {
        if member.poll_timeout() > at(millis).time {
            return false;
        }
        member.handle_timeout(at(millis));
        let orders = drain(&mut member);
        orders.contains(&send(
            10,
            Message::Neighbor {
                sender: known(ME),
                priority: Priority::High,
            },
        ))
    });
    assert!((700..1_400).contains(&due.unwrap()), "{due:?}");
}

#[test]
fn a_lost_peer_is_probed_and_others_cannot_bring_it_back() {
    let mut member = with_active(&[2, 3]);
    give(&mut member, Input::PeerLost { peer: 3 }, 10);
    assert_eq!(asked(&learn(&mut member, &[3], 11)), []);
    let mut probes = Vec::new();
    for millis in 12..20_000 {
        if member.poll_timeout() <= at(millis).time {
            member.handle_timeout(at(millis));
            if asked(&drain(&mut member)) == [3] {
                probes.push(millis);
                give(&mut member, Input::PeerLost { peer: 3 }, millis);
            }
        }
    }
    assert!((4..=8).contains(&probes.len()), "{probes:?}");
    receive(&mut member, 3, reply(3, false), 20_000);
    assert_eq!(
        member.passive_contacts().count(),
        1,
        "it is alive after all"
    );
}

#[test]
fn a_join_is_accepted_and_forwarded_to_the_other_neighbours() {
    let mut member = with_active(&[2, 3]);
    let joiner = known(9);
    let orders = receive(
        &mut member,
        9,
        Message::Join {
            joiner: joiner.clone(),
        },
        9,
    );
    let forward = |to| {
        send(
            to,
            Message::ForwardJoin {
                joiner: joiner.clone(),
                hops_left: 6,
            },
        )
    };
    let up = Output::NeighborUp { peer: 9 };
    assert_eq!(
        orders,
        [send(9, reply(ME, true)), up, forward(2), forward(3)]
    );
    let again = receive(
        &mut member,
        9,
        Message::Join {
            joiner: joiner.clone(),
        },
        10,
    );
    assert_eq!(again, [send(9, reply(ME, true))]);
}

#[test]
fn a_forwarded_join_walks_on_and_enters_the_passive_view_on_the_way() {
    let mut member = with_active(&[2, 3]);
    let joiner = known(9);
    let message = Message::ForwardJoin {
        joiner: joiner.clone(),
        hops_left: 3,
    };
    let orders = receive(&mut member, 2, message, 9);
    let forward = send(
        3,
        Message::ForwardJoin {
            joiner,
            hops_left: 2,
        },
    );
    assert_eq!(orders[0], forward);
    assert!(asked(&orders).contains(&9), "there is room for it, too");
}

#[test]
fn a_walk_that_ends_at_a_full_member_swaps_once_the_joiner_has_accepted() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    let message = Message::ForwardJoin {
        joiner: known(9),
        hops_left: 0,
    };
    assert_eq!(asked(&receive(&mut member, 2, message, 9)), [9]);
    assert_eq!(member.active().count(), 5);
    receive(&mut member, 9, reply(9, true), 12);
    assert!(member.is_active(9));
    assert_eq!(member.active().count(), 5);
}

#[test]
fn walks_from_strangers_end() {
    let mut member = with_active(&[2, 3]);
    let message = Message::ForwardJoin {
        joiner: known(9),
        hops_left: 0,
    };
    assert_eq!(receive(&mut member, 8, message, 9), []);
}

#[test]
fn an_answered_shuffle_fills_both_passive_views() {
    let mut member = with_active(&[2, 3]);
    let sample = vec![known(20), known(21), known(ME), known(2)];
    let message = Message::Shuffle {
        origin: known(9),
        hops_left: 0,
        sample,
    };
    let orders = receive(&mut member, 2, message, 9);
    let answered = |order: &Output<u32, TestContact>| matches!(order, Output::Send { to: 9, message: Message::ShuffleReply { sample }, .. } if !sample.is_empty());
    assert!(orders.iter().any(answered));
    let passive: Vec<u32> = member.passive_view().map(|entry| entry.peer).collect();
    assert_eq!(passive, [9, 20, 21], "neither ourselves nor a neighbour");
}

#[test]
fn one_shuffle_pays_for_one_answer() {
    let mut member = with_active(&[2]);
    while !matches!(
        drain(&mut member).last(),
        Some(Output::Send {
            message: Message::Shuffle { .. },
            ..
        })
    ) {
        let due = member.poll_timeout().as_micros().div_ceil(1_000);
        member.handle_timeout(at(due));
    }
    let sample = vec![known(20)];
    let unasked = |orders: Orders| matches!(orders.first(), Some(Output::Misbehaviour { .. }));
    let message = Message::ShuffleReply { sample };
    assert!(!unasked(receive(&mut member, 30, message.clone(), 2_000)));
    assert!(unasked(receive(&mut member, 30, message, 2_000)));
}

#[test]
fn at_most_a_third_of_the_passive_view_comes_from_one_peer() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    for round in 0..20u32 {
        let sample = (0..7).map(|n| known(100 + round * 7 + n)).collect();
        let message = Message::Shuffle {
            origin: known(2),
            hops_left: 0,
            sample,
        };
        receive(&mut member, 2, message, u64::from(round) * 100);
    }
    assert_eq!(member.passive_contacts().count(), 10);
}

#[test]
fn contacts_that_expired_or_come_from_the_future_are_ignored() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    let expired = TestContact {
        expires_at: UNIX,
        ..known(20)
    };
    let future = contact(21, UNIX + 301_000_000);
    let contacts = vec![expired, future, contact(22, UNIX + 299_000_000)];
    give(&mut member, Input::Learned { contacts }, 10);
    let passive: Vec<u32> = member.passive_view().map(|entry| entry.peer).collect();
    assert_eq!(passive, [22]);
}

#[test]
fn what_is_learned_fills_but_does_not_displace() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    for from in 100..130 {
        receive(&mut member, from, neighbor(from, Priority::Low), 10);
    }
    learn(&mut member, &[200], 11);
    assert!(member.passive_view().all(|entry| entry.peer < 130));
}

#[test]
fn longer_walks_and_larger_samples_than_anybody_sends_are_clamped_and_told() {
    let mut member = with_active(&[2, 3]);
    let sample = (20..60).map(known).collect();
    let message = Message::Shuffle {
        origin: known(9),
        hops_left: 255,
        sample,
    };
    let orders = receive(&mut member, 2, message, 9);
    assert_eq!(orders.len(), 3);
    let Output::Send {
        message: Message::Shuffle {
            hops_left, sample, ..
        },
        ..
    } = &orders[2]
    else {
        panic!("{orders:?}");
    };
    assert_eq!((*hops_left, sample.len()), (5, 8));
}

#[test]
fn who_asks_in_anothers_name_is_told_of() {
    let mut member = member();
    for message in [
        neighbor(3, Priority::High),
        Message::Join { joiner: known(3) },
        reply(3, true),
    ] {
        let orders = receive(&mut member, 2, message, 0);
        assert!(matches!(orders[..], [Output::Misbehaviour { peer: 2, .. }]));
    }
    assert_eq!(member.active().count(), 0);
}

#[test]
fn an_evicted_neighbour_stays_out_for_a_while() {
    let mut member = with_active(&[2, 3]);
    let orders = give(&mut member, Input::Evict { peer: 2 }, 10);
    assert_eq!(
        orders,
        [send(2, not_neighbours()), Output::NeighborDown { peer: 2 }]
    );
    assert_eq!(learn(&mut member, &[2], 11), []);
    assert!(refused(
        &receive(&mut member, 2, neighbor(2, Priority::High), 12),
        2
    ));
    assert!(!refused(
        &receive(&mut member, 2, neighbor(2, Priority::High), 61_000),
        2
    ));
}

#[test]
fn who_leaves_tells_its_neighbours_and_is_forgotten_by_them() {
    let mut member = with_active(&[2]);
    let orders = give(&mut member, Input::Leave, 10);
    let leaving = Message::Disconnect {
        reason: Goodbye::Leaving,
    };
    assert_eq!(
        orders,
        [send(2, leaving.clone()), Output::NeighborDown { peer: 2 }]
    );
    assert_eq!(member.poll_timeout(), Time::NEVER);
    let mut other = with_active(&[2]);
    assert_eq!(
        receive(&mut other, 2, leaving, 10),
        [Output::NeighborDown { peer: 2 }]
    );
    assert_eq!(other.passive_contacts().count(), 0);
}

#[test]
fn a_join_through_an_evicted_peer_is_held_against_nobody() {
    let mut member = with_active(&[2]);
    give(&mut member, Input::Evict { peer: 2 }, 10);
    receive(&mut member, 2, neighbor(2, Priority::High), 20);
    assert!(!member.is_active(2), "it is not taken back soon");
    give(&mut member, Input::Join { via: 2 }, 30);
    receive(&mut member, 2, reply(2, true), 40);
    assert!(member.is_active(2));
    receive(&mut member, 2, neighbor(2, Priority::Low), 50);
    assert!(member.is_active(2));
}

#[test]
fn a_full_member_swaps_a_neighbour_for_a_random_passive_peer() {
    let mut member = with_active(&[2, 3, 4, 5, 6]);
    learn(&mut member, &[9], 10);
    let mut orders = Orders::new();
    let mut millis = 10;
    while asked(&orders) != [9] {
        millis = member.poll_timeout().as_micros().div_ceil(1_000);
        assert!(millis < 400_000, "a promotion about every five minutes");
        member.handle_timeout(at(millis));
        orders = drain(&mut member);
    }
    receive(&mut member, 9, reply(9, true), millis + 5);
    assert!(member.is_active(9));
    assert_eq!(member.active().count(), 5);
}

fn any_contact() -> impl Strategy<Value = TestContact> {
    (0u32..24, 0u64..400_000_000, 0u64..2_000_000_000).prop_map(|(peer, issued, lasts)| {
        TestContact {
            peer,
            issued_at: UNIX + issued,
            expires_at: UNIX + lasts,
        }
    })
}

fn any_message() -> impl Strategy<Value = Message<TestContact>> {
    let sample = || prop::collection::vec(any_contact(), 0..20);
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Low)];
    let reason = prop_oneof![Just(Goodbye::NotNeighbours), Just(Goodbye::Leaving)];
    prop_oneof![
        any_contact().prop_map(|joiner| Message::Join { joiner }),
        (any_contact(), any::<u8>())
            .prop_map(|(joiner, hops_left)| Message::ForwardJoin { joiner, hops_left }),
        (any_contact(), priority)
            .prop_map(|(sender, priority)| Message::Neighbor { sender, priority }),
        (any_contact(), any::<bool>())
            .prop_map(|(sender, accepted)| Message::NeighborReply { sender, accepted }),
        reason.prop_map(|reason| Message::Disconnect { reason }),
        (any_contact(), any::<u8>(), sample()).prop_map(|(origin, hops_left, sample)| {
            Message::Shuffle {
                origin,
                hops_left,
                sample,
            }
        }),
        sample().prop_map(|sample| Message::ShuffleReply { sample }),
    ]
}

fn any_input() -> impl Strategy<Value = Input<u32, TestContact>> {
    let peer = || 0u32..24;
    prop_oneof![
        20 => (peer(), any_message(), any::<bool>()).prop_map(|(from, mut message, honest)| {
            if honest {
                name_sender(&mut message, from);
            }
            Input::Received { from, message }
        }),
        3 => peer().prop_map(|peer| Input::PeerLost { peer }),
        2 => peer().prop_map(|from| Input::Stranger { from }),
        2 => peer().prop_map(|via| Input::Join { via }),
        2 => prop::collection::vec(any_contact(), 0..40).prop_map(|contacts| Input::Learned { contacts }),
        1 => peer().prop_map(|peer| Input::Evict { peer }),
        1 => Just(Input::Leave),
    ]
}

fn name_sender(message: &mut Message<TestContact>, from: u32) {
    if let Message::Join { joiner: contact }
    | Message::Neighbor {
        sender: contact, ..
    }
    | Message::NeighborReply {
        sender: contact, ..
    } = message
    {
        contact.peer = from;
    }
}

proptest! {
    #[test]
    fn whatever_peers_send_the_views_stay_views(
        inputs in prop::collection::vec((any_input(), 0u64..3_000), 1..120),
    ) {
        let mut member = member();
        let mut up = std::collections::BTreeSet::new();
        let mut millis = 0;
        for (input, wait) in inputs {
            let next = millis + wait;
            while member.poll_timeout() <= at(next).time {
                let due = member.poll_timeout();
                millis = millis.max(due.as_micros().div_ceil(1_000));
                member.handle_timeout(at(millis));
                prop_assert!(member.poll_timeout() > at(millis).time, "woken for nothing");
            }
            millis = millis.max(next);
            member.handle(input, at(millis));
            prop_assert!(member.poll_timeout() > at(millis).time, "work left undone");
            let orders = drain(&mut member);
            prop_assert!(orders.len() < 200);
            for order in orders {
                match order {
                    Output::Send { to, .. } => prop_assert_ne!(to, ME),
                    Output::NeighborUp { peer } => prop_assert!(up.insert(peer)),
                    Output::NeighborDown { peer } => prop_assert!(up.remove(&peer)),
                    Output::Misbehaviour { .. } | Output::WantContacts => {}
                }
            }
            let active: Vec<u32> = member.active().collect();
            prop_assert!(up.iter().copied().eq(active.iter().copied()));
            prop_assert!(active.len() <= 5 && !active.contains(&ME));
            let passive: Vec<u32> = member.passive_view().map(|entry| entry.peer).collect();
            prop_assert!(passive.len() <= 30 && !passive.contains(&ME));
            prop_assert!(passive.iter().all(|&peer| !member.is_active(peer)));
        }
    }
}

#[test]
fn a_renewed_contact_is_the_one_that_is_sent() {
    let mut member = member();
    give(&mut member, Input::SetMe(contact(ME, UNIX + 5)), 0);
    let orders = receive(&mut member, 2, neighbor(2, Priority::Low), 1);
    let Output::Send {
        message: Message::NeighborReply { sender, .. },
        ..
    } = &orders[0]
    else {
        panic!("{orders:?}");
    };
    assert_eq!(sender.issued_at, UNIX + 5);
}

#[test]
fn an_idle_member_has_nothing_to_do_but_to_wait_for_its_promotion() {
    let member = member();
    assert!(member.poll_timeout() > Time::ZERO + Duration::from_secs(30));
}
