//! Tests of a node's part: what it does with facts, and whole networks in virtual time.

mod answers;
mod faults;
mod figures;
mod network;
mod upkeep;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Call, CallId, Config, Dht, Input, Outcome, Output};
use crate::lookup::Stats;
use crate::message::{Answer, Message, Query, RequestId};
use crate::testing::{TestContact, TestPeer, contact};
use crate::{Now, Time};

/// The node under test.
const ME: u32 = 1_000_000;

type Node = Dht<TestContact>;

fn node() -> Node {
    node_of(contact(ME))
}

fn node_of(me: TestContact) -> Node {
    let rng = ChaCha8Rng::seed_from_u64(1);
    Dht::new(me, Config::default(), rng, crate::testing::at(0))
}

/// Hands a node a message of a peer whose link has told its contact.
fn receive(node: &mut Node, from: u32, id: u64, message: Message<TestContact>, now: Now) {
    node.handle(
        Input::Received {
            from: TestPeer(from),
            contact: Some(contact(from)),
            request: RequestId(id),
            message,
        },
        now,
    );
}

/// What a node sends: to whom, with which id, which message.
fn sends(node: &mut Node) -> Vec<(u32, u64, Message<TestContact>)> {
    let outputs = std::iter::from_fn(|| node.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::Send {
                to,
                request,
                message,
                ..
            } => Some((to.0, request.0, message)),
            Output::Reply { .. } | Output::Misbehaviour { .. } => None,
        })
        .collect()
}

/// The queries among what a node sends.
fn queries(node: &mut Node) -> Vec<(u32, u64, Query<TestContact>)> {
    let sends = sends(node).into_iter();
    sends
        .filter_map(|(to, id, message)| match message {
            Message::Query(query) => Some((to, id, query)),
            Message::Answer(_) => None,
        })
        .collect()
}

fn pong() -> Message<TestContact> {
    Message::Answer(Answer::Pong)
}

/// Makes peers known to a node: it is told of them, pings them, and they answer. What it asks next is thrown away.
fn acquaint(node: &mut Node, peers: &[u32], now: Now) {
    let contacts = peers.iter().copied().map(contact).collect();
    node.handle(Input::Learned { contacts }, now);
    for (to, id, query) in queries(node) {
        assert_eq!(query, Query::Ping);
        receive(node, to, id, pong(), now);
    }
}

fn replies(node: &mut Node) -> Vec<(CallId, Outcome<TestContact>, Stats)> {
    let outputs = std::iter::from_fn(|| node.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::Reply { id, outcome, stats } => Some((id, outcome, stats)),
            Output::Send { .. } | Output::Misbehaviour { .. } => None,
        })
        .collect()
}

/// Lets time pass up to a moment, doing what is due when it is due.
fn pass(node: &mut Node, until: Time) {
    while node.poll_timeout() <= until {
        let time = node.poll_timeout();
        node.handle_timeout(Now {
            time,
            ..crate::testing::at(time.as_micros() / 1_000)
        });
        assert!(node.poll_timeout() > time, "woken for nothing");
    }
}

fn call(node: &mut Node, id: u64, call: Call<TestPeer>, now: Now) {
    let id = CallId(id);
    node.handle(Input::Call { id, call }, now);
}
