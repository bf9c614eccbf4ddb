//! Members of one epidemic in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{CYCLE, at};
use crate::spread::{Config, Counters, Epidemic, Input, Message, Output, Partners, Spread};
use crate::swarm::tests::values::TestBundle;
use crate::{Header, Now, Time, UnixMicros};

/// Links are fast beside a cycle.
const LATENCY: Duration = Duration::from_millis(1);

/// A receipt: when, and after how many links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) time: Time,
    pub(super) hops: u8,
}

impl Receipt {
    /// The cycle it came in.
    pub(super) fn cycle(self) -> u64 {
        self.time.as_micros() / CYCLE.as_micros() as u64
    }
}

/// A message under way: from whom and to whom.
type Frame = (u32, u32, Message<u32, TestBundle>);

pub(super) struct Network {
    pub(super) members: Vec<Epidemic<TestBundle>>,
    pub(super) now: Now,
    pub(super) receipts: BTreeMap<(u32, u64), Vec<Option<Receipt>>>,
    config: Config,
    wakes: BTreeSet<(Time, u32)>,
    planned: Vec<Time>,
    frames: BTreeMap<(Time, u64), Frame>,
    sent: u64,
    rng: ChaCha8Rng,
}

impl Network {
    pub(super) fn new(seed: u64, count: u32, spread: Spread, config: Config) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut network = Self {
            members: Vec::new(),
            now: at(0),
            receipts: BTreeMap::new(),
            config,
            wakes: BTreeSet::new(),
            planned: vec![Time::NEVER; count as usize],
            frames: BTreeMap::new(),
            sent: 0,
            rng: ChaCha8Rng::seed_from_u64(rng.random()),
        };
        for peer in 0..count {
            let own = ChaCha8Rng::seed_from_u64(rng.random());
            let member = Epidemic::new(spread, config, own, at(0)).expect("an epidemic");
            network.members.push(member);
            network.drain(peer);
        }
        network
    }

    /// Makes two members neighbours.
    pub(super) fn link(&mut self, a: u32, b: u32) {
        self.input(a, Input::NeighbourUp(b));
        self.input(b, Input::NeighbourUp(a));
    }

    /// Links everybody in a ring and over random chords, so that each has `degree` neighbours on average.
    pub(super) fn link_at_random(&mut self, degree: usize) {
        let count = self.members.len() as u32;
        for peer in 0..count {
            self.link(peer, (peer + 1) % count);
            for _ in 2..degree.div_ceil(2) + 1 {
                let other = self.other(peer);
                self.link(peer, other);
            }
        }
    }

    pub(super) fn publish(&mut self, peer: u32, bundle: TestBundle) {
        self.input(peer, Input::Publish(bundle));
    }

    fn input(&mut self, peer: u32, input: Input<u32, TestBundle>) {
        self.members[peer as usize].handle(input, self.now);
        self.drain(peer);
    }

    /// Draws somebody else.
    fn other(&mut self, peer: u32) -> u32 {
        let drawn = self.rng.random_range(0..self.members.len() as u32 - 1);
        drawn + u32::from(drawn >= peer)
    }

    fn drain(&mut self, peer: u32) {
        while let Some(output) = self.members[peer as usize].poll_output() {
            match output {
                Output::Send { to, message } => {
                    self.sent += 1;
                    let arrival = (self.now.time + LATENCY, self.sent);
                    self.frames.insert(arrival, (peer, to, message));
                }
                Output::New { header, hops } => self.received(peer, &header, hops),
                Output::Partner => {
                    assert_eq!(self.config.partners, Partners::Owner);
                    let partner = self.other(peer);
                    self.members[peer as usize].handle(Input::Partner(partner), self.now);
                }
            }
        }
        let wake = self.members[peer as usize].poll_timeout();
        let planned = &mut self.planned[peer as usize];
        if *planned != wake {
            self.wakes.remove(&(*planned, peer));
            if wake != Time::NEVER {
                assert!(wake > self.now.time, "woken for nothing");
                self.wakes.insert((wake, peer));
            }
            *planned = wake;
        }
    }

    fn received(&mut self, peer: u32, header: &Header<u32>, hops: u8) {
        let count = self.members.len();
        let receipts = self
            .receipts
            .entry((header.stream.publisher, header.first))
            .or_insert_with(|| vec![None; count]);
        let receipt = &mut receipts[peer as usize];
        assert_eq!(*receipt, None, "a bundle is new once");
        *receipt = Some(Receipt {
            time: self.now.time,
            hops,
        });
    }

    /// Carries out the next event; false where nothing is to come before `end`.
    pub(super) fn step(&mut self, end: Time) -> bool {
        let wake = self.wakes.first().map_or(Time::NEVER, |(time, _)| *time);
        let frame = self
            .frames
            .first_key_value()
            .map_or(Time::NEVER, |((time, _), _)| *time);
        let next = wake.min(frame);
        if next >= end {
            return false;
        }
        self.now = Now {
            time: next,
            unix: UnixMicros(at(0).unix.0 + next.as_micros()),
        };
        if frame <= wake {
            if let Some((_, (from, to, message))) = self.frames.pop_first() {
                self.input(to, Input::Received { from, message });
            }
        } else if let Some((_, peer)) = self.wakes.pop_first() {
            self.planned[peer as usize] = Time::NEVER;
            self.members[peer as usize].handle_timeout(self.now);
            self.drain(peer);
        }
        true
    }

    /// Runs whole cycles until `done`; panics after 200.
    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for cycle in 1..=200 {
            let end = Time::ZERO + CYCLE * cycle;
            while self.step(end) {}
            if done(self) {
                return;
            }
        }
        panic!("no end in 200 cycles");
    }

    /// Returns whether nobody has anything to tell and nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.frames.is_empty() && self.members.iter().all(|member| member.held() == 0)
    }

    /// Returns who has got a bundle, and when.
    pub(super) fn got(&self, publisher: u32, seq: u64) -> impl Iterator<Item = Receipt> {
        self.receipts[&(publisher, seq)].iter().flatten().copied()
    }

    pub(super) fn all_got(&self, publisher: u32, seq: u64) -> bool {
        self.got(publisher, seq).count() == self.members.len()
    }

    pub(super) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for counters in self.members.iter().map(Epidemic::counters) {
            sum.payloads_sent += counters.payloads_sent;
            sum.payloads_new += counters.payloads_new;
            sum.payloads_duplicate += counters.payloads_duplicate;
            sum.feedback_sent += counters.feedback_sent;
            sum.digests_sent += counters.digests_sent;
            sum.requests_sent += counters.requests_sent;
        }
        sum
    }
}
