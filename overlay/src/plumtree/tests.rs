//! Handler tests: a fact in, orders out.

mod claims;
mod exchange;
mod hostile;
mod liars;
mod optimise;
mod orphans;
mod relay;
mod repair;
mod trees;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Beacon, Broadcast, Config, DigestKind, Input, Message, Output, Part, Push, Start};
use crate::delivery::{Delivered, Delivery};
use crate::digest::{STREAMS_PER_FRAME_MAX, StreamDigest};
use crate::history::Refusal;
use crate::swarm::tests::network::UNIX_START;
use crate::swarm::tests::values::{TestBundle, bundle};
use crate::{Now, PreviousEpoch, Seqs, Span, StreamId, Time, UnixMicros};

const ME: u32 = 0;
const EPOCH: u64 = UNIX_START / 1_000;

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(UNIX_START + millis * 1_000),
    }
}

fn stream(publisher: u32) -> StreamId<u32> {
    StreamId {
        publisher,
        epoch: EPOCH,
    }
}

/// Bundles `1..=last` of one message each, published at `millis`.
fn chain(id: StreamId<u32>, last: u64, millis: u64) -> Vec<TestBundle> {
    let mut head = None;
    let mut chain = Vec::new();
    for seq in 1..=last {
        let next = bundle(id, (seq, seq), head, at(millis).unix, 0);
        head = Some(next.header.hash);
        chain.push(next);
    }
    chain
}

fn digest(id: StreamId<u32>, seqs: Seqs, supplies_from: u64) -> StreamDigest<u32> {
    StreamDigest {
        stream: id,
        seqs,
        supplies_from,
        head: weft_identity::Hash::of(b"head"),
        head_age: None,
    }
}

fn delta(streams: Vec<StreamDigest<u32>>) -> Message<u32, TestBundle> {
    Message::Digest {
        kind: DigestKind::Delta,
        streams,
        has_base: true,
    }
}

fn pushed(bundle: &TestBundle) -> Message<u32, TestBundle> {
    Message::Bundle {
        bundle: bundle.clone(),
        hops: 1,
        push: Push::Eager,
    }
}

struct Member {
    broadcast: Broadcast<TestBundle>,
    now: Now,
}

impl Member {
    /// A member with a base and some neighbours.
    fn new(neighbours: &[u32]) -> Self {
        Self::with(Config::default(), neighbours)
    }

    fn with(config: Config, neighbours: &[u32]) -> Self {
        let mut member = Self {
            broadcast: Broadcast::new(ME, config, at(0)),
            now: at(0),
        };
        member.handle(Input::Alone);
        for peer in neighbours {
            member.handle(Input::NeighbourUp(*peer));
        }
        member
    }

    /// A member that begins by the word of its first neighbour.
    fn joining() -> Self {
        let mut member = Self {
            broadcast: Broadcast::new(ME, Config::default(), at(0)),
            now: at(0),
        };
        member.handle(Input::NeighbourUp(1));
        member
    }

    fn handle(&mut self, input: Input<u32, TestBundle>) -> Vec<Output<u32, TestBundle>> {
        self.broadcast.handle(input, self.now);
        self.drain()
    }

    fn receive(
        &mut self,
        from: u32,
        message: Message<u32, TestBundle>,
    ) -> Vec<Output<u32, TestBundle>> {
        self.handle(Input::Received { from, message })
    }

    fn drain(&mut self) -> Vec<Output<u32, TestBundle>> {
        std::iter::from_fn(|| self.broadcast.poll_output()).collect()
    }

    /// Lets time pass from wake-up to wake-up; returns what was ordered.
    fn run_to(&mut self, millis: u64) -> Vec<Output<u32, TestBundle>> {
        let mut outputs = Vec::new();
        loop {
            let wake = self.broadcast.poll_timeout();
            if wake > at(millis).time {
                break;
            }
            self.now = at(wake.max(self.now.time).as_micros() / 1_000);
            self.broadcast.handle_timeout(self.now);
            outputs.extend(self.drain());
            assert!(
                self.broadcast.poll_timeout() > self.now.time,
                "woken for nothing"
            );
        }
        self.now = at(millis);
        outputs
    }
}

fn wants(outputs: &[Output<u32, TestBundle>]) -> Vec<(u32, StreamId<u32>, Seqs)> {
    let asked = |output: &Output<u32, TestBundle>| match output {
        Output::Send {
            to,
            message: Message::Want { ranges },
        } => Some((*to, ranges[0].0, ranges[0].1.clone())),
        _ => None,
    };
    outputs.iter().filter_map(asked).collect()
}

fn digests_to(outputs: &[Output<u32, TestBundle>], peer: u32) -> usize {
    let is_digest = |output: &&Output<u32, TestBundle>| matches!(output, Output::Send { to, message: Message::Digest { .. } } if *to == peer);
    outputs.iter().filter(is_digest).count()
}

fn refusals(outputs: &[Output<u32, TestBundle>]) -> Vec<Refusal> {
    let refusal = |output: &Output<u32, TestBundle>| match output {
        Output::Refused { refusal, .. } => Some(*refusal),
        _ => None,
    };
    outputs.iter().filter_map(refusal).collect()
}
