//! A member whose node has as many links as it wants.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::tests::{TestContact, contact};
use super::super::{Config, Input, Membership, Message, Output};
use super::*;
use crate::{Now, Time, UnixMicros};

const ME: u32 = 1;
const UNIX: u64 = 1_000_000_000_000;

struct Member {
    views: Membership<u32, TestContact>,
    now: u64,
}

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(UNIX + millis * 1_000),
    }
}

impl Member {
    fn new(linked: &[u32]) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(1);
        let views = Membership::new(contact(ME, UNIX), Config::default(), rng, at(0));
        let mut member = Self { views, now: 0 };
        member.link(linked);
        member
    }

    fn link(&mut self, linked: &[u32]) {
        let links = Links {
            peers: linked.iter().copied().collect(),
            room: Room::None,
        };
        assert!(self.give(Input::Links(Arc::new(links))).is_empty());
    }

    fn give(&mut self, input: Input<u32, TestContact>) -> Vec<Output<u32, TestContact>> {
        self.views.handle(input, at(self.now));
        std::iter::from_fn(|| self.views.poll_output()).collect()
    }

    fn receive(
        &mut self,
        from: u32,
        message: Message<TestContact>,
    ) -> Vec<Output<u32, TestContact>> {
        self.give(Input::Received { from, message })
    }

    /// It is told of somebody by a neighbour, so that it is a candidate.
    fn learn(&mut self, peers: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let contacts = peers.into_iter().map(|peer| contact(peer, UNIX)).collect();
        let orders = self.give(Input::Learned { contacts });
        asked(&orders)
    }

    /// The same, and everybody accepts; returns who was asked, in order.
    fn fill(&mut self, peers: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut asked = self.learn(peers);
        let mut at = 0;
        while let Some(&peer) = asked.get(at) {
            asked.extend(self.answer(peer, true));
            at += 1;
        }
        asked
    }

    fn answer(&mut self, from: u32, accepted: bool) -> Vec<u32> {
        let sender = contact(from, UNIX);
        let orders = self.receive(from, Message::NeighborReply { sender, accepted });
        asked(&orders)
    }

    /// Somebody asks to be a neighbour; returns whether it is accepted.
    fn ask(&mut self, from: u32, priority: Priority) -> bool {
        let sender = contact(from, UNIX);
        is_accepted(&self.receive(from, Message::Neighbor { sender, priority }))
    }

    /// The node has more links than it wants, and this neighbour's is one of them; returns who was asked.
    fn release(&mut self, peer: u32) -> Vec<u32> {
        asked(&self.give(Input::Release { peer }))
    }

    /// Lets time pass; returns who was asked.
    fn run_to(&mut self, millis: u64) -> Vec<u32> {
        let mut all = Vec::new();
        while self.views.poll_timeout() <= at(millis).time {
            self.now = self.views.poll_timeout().as_micros().div_ceil(1_000);
            self.views.handle_timeout(at(self.now));
            let orders: Vec<_> = std::iter::from_fn(|| self.views.poll_output()).collect();
            all.extend(asked(&orders));
        }
        self.now = millis;
        all
    }
}

fn asked(orders: &[Output<u32, TestContact>]) -> Vec<u32> {
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

fn is_accepted(orders: &[Output<u32, TestContact>]) -> bool {
    let accepts = |order: &Output<u32, TestContact>| {
        let Output::Send { message, .. } = order else {
            return false;
        };
        matches!(message, Message::NeighborReply { accepted: true, .. })
    };
    orders.iter().any(accepts)
}

#[test]
fn who_is_linked_is_asked_and_nobody_else() {
    let mut member = Member::new(&[20, 21, 22, 23]);
    let mut asked = member.fill(10..30);
    asked.sort_unstable();
    assert_eq!(asked, [20, 21, 22, 23]);
    // The fifth place stays free: four neighbours are no need for a link.
    assert!(member.run_to(60_000).is_empty());
}

#[test]
fn a_swarm_without_anybody_linked_comes_first() {
    let mut member = Member::new(&[90, 91]);
    assert!(member.learn(10..30).is_empty(), "not at once");
    let asked = member.run_to(300);
    assert!(!asked.is_empty(), "alone, it takes anybody");
    // And so it does with too few.
    let mut member = Member::new(&[90, 91]);
    assert!(member.ask(40, Priority::High));
    assert!(member.learn(10..30).is_empty(), "not at once");
    assert!(!member.run_to(5_000).is_empty());
}

#[test]
fn whoever_would_cost_a_link_is_refused_unless_it_is_in_need_or_this_member_is_alone() {
    let mut member = Member::new(&[10, 11, 12]);
    assert!(member.ask(50, Priority::Low), "alone, it takes anybody");
    assert!(member.ask(10, Priority::Low));
    assert!(!member.ask(51, Priority::Low));
    assert!(member.ask(12, Priority::Low));
    assert!(member.ask(52, Priority::High));
}

#[test]
fn with_room_for_links_the_choice_is_free() {
    let mut member = Member::new(&[20, 21]);
    let peers = BTreeSet::from([20, 21]);
    let room = Room::Free;
    member.give(Input::Links(Arc::new(Links { peers, room })));
    let asked = member.fill(10..30);
    assert_eq!(asked.len(), 5);
    assert!(asked[..2] != [20, 21] && asked[..2] != [21, 20]);
}

#[test]
fn with_little_room_whoever_is_linked_is_asked_first() {
    let mut member = Member::new(&[]);
    let peers = BTreeSet::from([20, 21]);
    let room = Room::Little;
    member.give(Input::Links(Arc::new(Links { peers, room })));
    let asked = member.fill(10..30);
    assert_eq!(asked.len(), 5);
    assert!(
        asked[..2] == [20, 21] || asked[..2] == [21, 20],
        "{asked:?}"
    );
}

#[test]
fn whoever_was_taken_in_need_counts_as_linked_for_a_while() {
    let mut member = Member::new(&[10, 11, 12, 13, 14]);
    assert_eq!(member.fill(10..15).len(), 5);
    assert!(member.ask(50, Priority::High));
    member.learn(10..15);
    assert!(
        member.release(50).is_empty(),
        "it would ask again in a moment"
    );
    let evictable = |member: &Member| member.views.evictable(at(member.now));
    assert_eq!(
        evictable(&member).len(),
        3,
        "all but the oldest are alike for whoever forces its way in"
    );
    member.now = IN_NEED.as_millis() as u64;
    assert_eq!(evictable(&member), [50]);
    assert_eq!(member.release(50).len(), 1);
}

#[test]
fn a_neighbour_whose_link_is_more_than_wanted_gives_way_to_one_that_is_linked() {
    let mut member = Member::new(&[10, 11, 12, 13]);
    assert_eq!(member.fill(10..14).len(), 4);
    assert!(member.ask(50, Priority::High));
    member.link(&[10, 11, 12, 13, 14]);
    member.now = IN_NEED.as_millis() as u64;
    member.learn(60..70);
    assert!(member.release(50).is_empty(), "nobody is linked");
    member.learn([14]);
    assert!(member.release(10).is_empty(), "its link is wanted");
    assert_eq!(member.release(50), [14]);
    assert!(member.release(50).is_empty(), "one at a time");
    let sender = contact(14, UNIX);
    let accepted = true;
    let orders = member.receive(14, Message::NeighborReply { sender, accepted });
    let gone: Vec<u32> = orders
        .iter()
        .filter_map(|order| match order {
            Output::Send {
                to,
                message: Message::Disconnect { .. },
                ..
            } => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(gone, [50]);
    let mut active: Vec<u32> = member.views.active().collect();
    active.sort_unstable();
    assert_eq!(active, [10, 11, 12, 13, 14]);
}
