//! Parents are chosen by times of arrival.

use std::time::Duration;

use super::*;

const PARENT: u32 = 1;
const CLOSER: u32 = 2;
const PUBLISHER: u32 = 9;

/// A member whose parent has pushed the first message at 100 ms.
fn member(bundles: &[TestBundle]) -> Member {
    let mut member = Member::new(&[PARENT, CLOSER]);
    member.run_to(100);
    member.receive(PARENT, pushed(&bundles[0]));
    assert_eq!(parent(&member), Some(PARENT));
    member
}

fn parent(member: &Member) -> Option<u32> {
    let mut trees = member.broadcast.trees().publishers();
    trees.find(|(of, _)| *of == PUBLISHER)?.1.parent()
}

/// A digest that says that the first `last` messages are there, the head for so long.
fn aged(last: u64, millis: u64) -> Message<u32, TestBundle> {
    let mut digest = digest(stream(PUBLISHER), Seqs::range(1, last), 1);
    digest.head_age = Some(Duration::from_millis(millis));
    delta(vec![digest])
}

fn control(outputs: &[Output<u32, TestBundle>]) -> Vec<(u32, &'static str)> {
    let told = |output: &Output<u32, TestBundle>| match output {
        Output::Send { to, message } => match message {
            Message::Graft { .. } => Some((*to, "graft")),
            Message::Prune { .. } => Some((*to, "prune")),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(told).collect()
}

#[test]
fn a_neighbour_that_had_the_head_earlier_becomes_the_parent_and_the_old_one_stops() {
    let bundles = chain(stream(PUBLISHER), 2, 0);
    let mut member = member(&bundles);
    member.run_to(200);
    // The head has been here for 100 ms; over the other neighbour it would have been here for 150.
    let outputs = member.receive(CLOSER, aged(1, 150));
    assert_eq!(control(&outputs), [(PARENT, "prune"), (CLOSER, "graft")]);
    assert_eq!(parent(&member), Some(CLOSER));
}

#[test]
fn what_gains_next_to_nothing_changes_nothing() {
    let bundles = chain(stream(PUBLISHER), 2, 0);
    let mut member = member(&bundles);
    member.run_to(200);
    for (last, millis) in [(1, 101), (1, 50), (2, 150)] {
        let outputs = member.receive(CLOSER, aged(last, millis));
        assert_eq!(control(&outputs), [], "{last} {millis}");
    }
    assert_eq!(parent(&member), Some(PARENT));
}

#[test]
fn a_shorter_way_is_told_on() {
    let bundles = chain(stream(PUBLISHER), 2, 0);
    let mut member = Member::new(&[PARENT, CLOSER, 3]);
    member.run_to(100);
    member.receive(PARENT, pushed(&bundles[0]));
    member.run_to(1_000);
    member.receive(CLOSER, aged(1, 1_000));
    let outputs = member.run_to(1_200);
    let age = outputs.iter().find_map(|output| match output {
        Output::Send {
            to: 3,
            message: Message::Digest { streams, .. },
        } => streams[0].head_age,
        _ => None,
    });
    // It came 900 ms before, and would have come 1,000 ms before; the digest waits 50 ms for others.
    assert_eq!(age, Some(Duration::from_millis(1_050)));
}

#[test]
fn a_digest_that_overtakes_the_head_is_remembered_until_it_comes() {
    let bundles = chain(stream(PUBLISHER), 2, 0);
    let mut member = member(&bundles);
    member.run_to(1_000);
    assert_eq!(control(&member.receive(CLOSER, aged(2, 40))), []);
    member.run_to(1_030);
    let outputs = member.receive(PARENT, pushed(&bundles[1]));
    assert_eq!(control(&outputs), [(PARENT, "prune"), (CLOSER, "graft")]);
    assert_eq!(parent(&member), Some(CLOSER));
}

#[test]
fn of_several_that_had_it_earlier_the_earliest_that_is_believed_is_taken() {
    let bundles = chain(stream(PUBLISHER), 3, 0);
    let mut member = Member::new(&[PARENT, CLOSER, 3, 4]);
    member.run_to(200);
    member.receive(PARENT, pushed(&bundles[0]));
    member.receive(CLOSER, aged(1, 100));
    member.run_to(1_000);
    // It does not keep its word.
    member.receive(PARENT, pushed(&bundles[1]));
    for (peer, millis) in [(CLOSER, 50), (3, 30), (4, 40)] {
        member.receive(peer, aged(3, millis));
    }
    member.run_to(1_020);
    member.receive(PARENT, pushed(&bundles[2]));
    assert_eq!(parent(&member), Some(4));
}

#[test]
fn whoever_does_not_keep_its_word_is_not_believed_for_a_while() {
    let bundles = chain(stream(PUBLISHER), 3, 0);
    let mut member = Member::new(&[PARENT, CLOSER, 3]);
    member.run_to(200);
    member.receive(PARENT, pushed(&bundles[0]));
    member.run_to(1_000);
    member.receive(CLOSER, aged(1, 900));
    assert_eq!(parent(&member), Some(CLOSER));
    member.run_to(2_000);
    member.receive(3, pushed(&bundles[1]));
    assert_eq!(parent(&member), Some(3), "the first to bring it");
    member.run_to(2_900);
    member.receive(CLOSER, aged(2, 2_000));
    assert_eq!(parent(&member), Some(3));
    member.run_to(70_000);
    member.receive(3, pushed(&bundles[2]));
    member.run_to(71_000);
    member.receive(CLOSER, aged(3, 2_000));
    assert_eq!(parent(&member), Some(CLOSER), "a minute later it is");
}
