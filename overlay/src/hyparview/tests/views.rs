//! How neighbourhoods begin, end and are filled again.

use super::*;

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
