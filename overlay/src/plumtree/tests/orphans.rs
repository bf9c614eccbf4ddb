//! Who takes the place of a parent that is lost.

use std::time::Duration;

use super::*;

const PARENT: u32 = 1;
const PUBLISHER: u32 = 9;

/// A member of several neighbours, the first of which has pushed the first message.
fn member(neighbours: &[u32]) -> Member {
    let mut member = Member::new(neighbours);
    member.receive(PARENT, pushed(&chain(stream(PUBLISHER), 1, 0)[0]));
    member
}

/// Neighbours that say that they have got the first message, and how long ago.
fn said(member: &mut Member, neighbours: &[(u32, u64)]) {
    for (peer, millis) in neighbours {
        let mut digest = digest(stream(PUBLISHER), Seqs::range(1, 1), 1);
        digest.head_age = Some(Duration::from_millis(*millis));
        member.receive(*peer, delta(vec![digest]));
    }
}

fn graft(member: &mut Member, from: u32) -> Vec<u32> {
    let trees = vec![PUBLISHER];
    grafted(&member.receive(from, Message::Graft { trees }))
}

fn grafted(outputs: &[Output<u32, TestBundle>]) -> Vec<u32> {
    let grafted = |output: &Output<u32, TestBundle>| match output {
        Output::Send {
            to,
            message: Message::Graft { .. },
        } => Some(*to),
        _ => None,
    };
    outputs.iter().filter_map(grafted).collect()
}

#[test]
fn the_neighbour_that_got_the_head_first_takes_the_place_of_a_lost_parent() {
    let mut member = member(&[PARENT, 2, 3, 4]);
    member.run_to(100);
    said(&mut member, &[(2, 30), (3, 60), (4, 50)]);
    assert_eq!(
        grafted(&member.handle(Input::NeighbourDown(PARENT))),
        [3],
        "over the others it comes later"
    );
}

#[test]
fn a_neighbour_that_is_not_pushed_to_is_taken_before_those_that_are() {
    let mut member = member(&[PARENT, 2, 3]);
    member.run_to(100);
    said(&mut member, &[(2, 90), (3, 20)]);
    graft(&mut member, 2);
    assert_eq!(grafted(&member.handle(Input::NeighbourDown(PARENT))), [3]);
}

#[test]
fn a_member_that_pushes_to_all_others_asks_one_of_them_to_find_another_way() {
    let mut member = member(&[PARENT, 2, 3]);
    for peer in [2, 3] {
        assert_eq!(graft(&mut member, peer), []);
    }
    assert_eq!(grafted(&member.handle(Input::NeighbourDown(PARENT))), [2]);
    // That one has none either: the other is asked, and then nobody is left.
    assert_eq!(graft(&mut member, 2), [3]);
    assert_eq!(graft(&mut member, 3), []);
}

#[test]
fn whoever_has_found_a_way_may_be_asked_again_once_something_has_come() {
    let mut member = member(&[PARENT, 2]);
    assert_eq!(graft(&mut member, PARENT), [2], "it has lost its own way");
    assert_eq!(graft(&mut member, 2), []);
    member.receive(2, pushed(&chain(stream(PUBLISHER), 2, 0)[1]));
    assert_eq!(graft(&mut member, 2), [PARENT]);
}
