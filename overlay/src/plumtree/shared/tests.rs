//! The shared tree's handlers: who is the parent, what is told, and who is the root.

use super::*;

const ME: u32 = 5;
const ROOT: u32 = 1;

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(1_000_000_000 + millis * 1_000),
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn beacon(distance: Option<u64>) -> Option<Beacon<u32>> {
    Some(Beacon {
        root: ROOT,
        since: UnixMicros(7),
        refresh: 3,
        distance: distance.map(millis),
        to_parent: false,
    })
}

/// A member whose links take 10 ms.
fn member(neighbours: &[u32]) -> SharedTree<u32> {
    let mut tree = SharedTree::new(ME);
    for peer in neighbours {
        tree.neighbour_up(*peer, millis(20), at(0));
    }
    tree
}

/// Whom the member tells now, and what.
fn told(tree: &mut SharedTree<u32>, now: Now) -> Vec<(u32, Beacon<u32>)> {
    std::iter::from_fn(|| {
        let to = tree.due(now.time)?;
        Some((to, tree.tell(to)?))
    })
    .collect()
}

fn run_to(tree: &mut SharedTree<u32>, end: u64) {
    loop {
        let wake = tree.poll_timeout();
        if wake > at(end).time {
            return;
        }
        let now = at(wake.as_micros() / 1_000);
        tree.handle_timeout(now);
        told(tree, now);
        assert!(tree.poll_timeout() > now.time, "woken for nothing");
    }
}

#[test]
fn the_neighbour_over_which_the_root_is_closest_is_the_parent() {
    let mut tree = member(&[2, 3]);
    tree.heard(2, beacon(Some(30)), at(10));
    tree.heard(3, beacon(Some(20)), at(10));
    assert_eq!((tree.root(), tree.parent()), (Some(ROOT), Some(3)));
    assert_eq!(tree.distance(), Some(millis(30)));
    let told = told(&mut tree, at(10));
    assert!(told.iter().any(|(to, beacon)| *to == 3 && beacon.to_parent));
}

#[test]
fn a_neighbour_that_is_no_closer_is_no_way_until_all_below_know() {
    let mut tree = member(&[2, 3]);
    tree.heard(2, beacon(Some(20)), at(10));
    tree.heard(3, beacon(Some(35)), at(10));
    tree.neighbour_down(2, at(20));
    assert_eq!(tree.distance(), None);
    assert_eq!(tree.parent(), Some(3), "a makeshift");
    assert!(
        told(&mut tree, at(20))
            .iter()
            .all(|(_, b)| b.distance.is_none())
    );
    run_to(&mut tree, 20 + 250);
    assert_eq!(tree.distance(), Some(millis(45)));
}

#[test]
fn a_member_without_a_way_leads_after_a_while_and_not_before() {
    let mut tree = member(&[2]);
    tree.heard(2, beacon(Some(20)), at(10));
    tree.heard(2, beacon(None), at(20));
    run_to(&mut tree, 3_019);
    assert_eq!(tree.root(), None);
    run_to(&mut tree, 3_020);
    assert_eq!(tree.root(), Some(ME));
    tree.heard(2, beacon(Some(20)), at(3_030));
    assert_eq!(tree.root(), Some(ME), "what was given up doesn't come back");
}

#[test]
fn the_elder_root_holds_and_a_refresh_that_jumps_counts_for_nothing() {
    let mut tree = member(&[2, 3]);
    let mut younger = beacon(Some(1)).unwrap();
    younger.since = UnixMicros(8);
    tree.heard(2, Some(younger), at(10));
    tree.heard(3, beacon(Some(90)), at(20));
    assert_eq!((tree.root(), tree.parent()), (Some(ROOT), Some(3)));
    let mut jump = beacon(Some(0)).unwrap();
    jump.refresh = 1 << 40;
    tree.heard(2, Some(jump), at(30));
    assert_eq!(tree.parent(), Some(3));
}

#[test]
fn a_root_that_falls_silent_is_given_up() {
    let mut tree = member(&[2]);
    tree.heard(2, beacon(Some(20)), at(0));
    run_to(&mut tree, 124_000);
    assert_eq!(tree.root(), Some(ROOT));
    run_to(&mut tree, 129_000);
    assert_eq!(tree.root(), Some(ME));
}

#[test]
fn the_root_outbids_whoever_speaks_for_it() {
    let mut tree = member(&[2]);
    run_to(&mut tree, 3_000);
    let mut lie = tree.tell(2).unwrap();
    lie.refresh += 9;
    tree.heard(2, Some(lie), at(5_000));
    assert_eq!(tree.tell(2).unwrap().refresh, lie.refresh + 1);
}

#[test]
fn roots_that_come_too_fast_are_not_followed() {
    let mut tree = member(&[2]);
    for (index, since) in (1..100u64).rev().enumerate() {
        let mut elder = beacon(Some(1)).unwrap();
        elder.since = UnixMicros(since);
        tree.heard(2, Some(elder), at(index as u64));
        told(&mut tree, at(index as u64));
    }
    assert!(tree.claim.unwrap().since > UnixMicros(90));
}

/// Who is told of a change of distance within a while.
fn told_of_change(tree: &mut SharedTree<u32>, from: u64) -> Vec<u32> {
    told(tree, at(from + 50))
        .into_iter()
        .map(|(to, _)| to)
        .collect()
}

#[test]
fn a_change_is_told_to_whom_it_matters_and_to_nobody_else() {
    let mut tree = member(&[1, 2, 3, 4]);
    tree.heard(1, beacon(Some(30)), at(10));
    // Two is closer, three has a way that is as good, four would have a better one here.
    tree.heard(2, beacon(Some(35)), at(10));
    tree.heard(3, beacon(Some(41)), at(10));
    tree.heard(4, beacon(Some(90)), at(10));
    assert_eq!(
        told_of_change(&mut tree, 10),
        [1, 2, 3, 4],
        "the root is new"
    );
    tree.heard(1, beacon(Some(28)), at(100));
    assert_eq!(told_of_change(&mut tree, 100), [4]);
    // It is no longer closer than three.
    tree.heard(1, beacon(Some(34)), at(200));
    assert_eq!(told_of_change(&mut tree, 200), [3, 4]);
}

#[test]
fn whoever_comes_to_hang_below_is_told_what_it_has_missed() {
    let mut tree = member(&[1, 2]);
    tree.heard(1, beacon(Some(30)), at(10));
    tree.heard(2, beacon(Some(35)), at(10));
    told_of_change(&mut tree, 10);
    tree.heard(1, beacon(Some(32)), at(100));
    assert_eq!(told_of_change(&mut tree, 100), []);
    let mut child = beacon(Some(52)).unwrap();
    child.to_parent = true;
    tree.heard(2, Some(child), at(200));
    assert_eq!(told_of_change(&mut tree, 200), [2]);
}

#[test]
fn a_beacon_that_says_nothing_new_plans_nothing() {
    let mut tree = member(&[1, 2]);
    tree.heard(1, beacon(Some(30)), at(10));
    told_of_change(&mut tree, 10);
    let timeout = tree.poll_timeout();
    tree.heard(1, beacon(Some(30)), at(100));
    assert_eq!(tree.poll_timeout(), timeout);
    assert!(tree.take_moved(), "the parent came onto the tree");
    tree.heard(1, beacon(Some(30)), at(200));
    assert!(!tree.take_moved());
}
