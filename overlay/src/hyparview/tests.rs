//! Handler tests: a fact in, orders out.

mod hostile;
mod joins;
mod views;

use std::time::Duration;

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
