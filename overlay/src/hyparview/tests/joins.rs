//! Joins, walks and shuffles: how members come to know each other.

use super::*;

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
