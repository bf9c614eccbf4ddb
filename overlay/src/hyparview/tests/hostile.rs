//! What no honest peer sends, and a property: whatever comes, the views stay views.

use proptest::prelude::*;

use super::*;

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
