//! What two neighbours spend on finding out that they have seen the same, in bytes of frames as they are encoded.

use weft_overlay::plumtree::{Broadcast, Input, Message as Between, Output};
use weft_overlay::{Now, Time};

use super::*;
use crate::wire::encode_broadcast;

const START: u64 = 1_700_000_000_000_000;
/// What a link takes.
const LATENCY: Duration = Duration::from_millis(20);

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(START + millis * 1_000),
    }
}

/// The first bundle of some publishers.
fn publishers(count: u32) -> Vec<TopicBundle> {
    let first = |n: u32| {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let place = Place {
            published_at: UnixMicros(START),
            ..place(START / 1_000, 1)
        };
        let messages = [Bytes::from_static(b"message").into()];
        TopicBundle::publish(&Keypair::from_seed(&seed), TOPIC, place, &messages)
    };
    (0..count).map(first).collect()
}

/// Two members that are neighbours, and what one has sent the other.
struct Pair {
    members: [(PeerId, Broadcast<TopicBundle>); 2],
    under_way: Vec<(Time, usize, Between<PeerId, TopicBundle>)>,
    now: Time,
    frames: usize,
    bytes: usize,
}

impl Pair {
    /// Makes them, each with what it has seen, once nothing of it is news any more.
    fn meet(seen: [&[TopicBundle]; 2]) -> Self {
        let ids = [key(1).peer_id(), key(2).peer_id()];
        let member = |me: usize| {
            let mut broadcast =
                Broadcast::new(ids[me], weft_overlay::plumtree::Config::default(), at(0));
            broadcast.handle(Input::Alone, at(0));
            for bundle in seen[me] {
                let from = key(3).peer_id();
                let message = eager(bundle);
                broadcast.handle(Input::Received { from, message }, at(0));
            }
            while broadcast.poll_output().is_some() {}
            (ids[me], broadcast)
        };
        let mut pair = Self {
            members: [member(0), member(1)],
            under_way: Vec::new(),
            now: at(10_000).time,
            frames: 0,
            bytes: 0,
        };
        for me in [0, 1] {
            let up = Input::NeighbourUp(ids[1 - me]);
            pair.handle(me, |broadcast, now| broadcast.handle(up, now));
        }
        pair
    }

    fn handle(&mut self, me: usize, act: impl FnOnce(&mut Broadcast<TopicBundle>, Now)) {
        let now = at(self.now.as_micros() / 1_000);
        let other = self.members[1 - me].0;
        let broadcast = &mut self.members[me].1;
        act(broadcast, now);
        broadcast.supply(other, 1 << 20);
        while let Some(output) = broadcast.poll_output() {
            if let Output::Send { message, .. } = output {
                let frame = encode_broadcast(TOPIC, &message);
                if !matches!(message, Between::Bundle { .. }) {
                    self.frames += 1;
                    self.bytes += frame.len();
                }
                self.under_way.push((self.now + LATENCY, 1 - me, message));
            }
        }
    }

    /// Lets time pass; returns the frames and bytes that were sent meanwhile, bundles apart.
    fn run(&mut self, time: Duration) -> (usize, usize) {
        let until = self.now + time;
        (self.frames, self.bytes) = (0, 0);
        loop {
            let next = self.under_way.iter().map(|(at, ..)| *at);
            let timers = self.members.iter().map(|member| member.1.poll_timeout());
            let next = next.chain(timers).min().unwrap_or(until);
            if next >= until {
                self.now = until;
                return (self.frames, self.bytes);
            }
            // Members count in whole milliseconds here.
            self.now = at(next.max(self.now).as_micros().div_ceil(1_000)).time;
            for (at, to, message) in std::mem::take(&mut self.under_way) {
                if at > self.now {
                    self.under_way.push((at, to, message));
                    continue;
                }
                let from = self.members[1 - to].0;
                self.handle(to, |broadcast, now| {
                    broadcast.handle(Input::Received { from, message }, now);
                });
            }
            for me in [0, 1] {
                if self.members[me].1.poll_timeout() <= self.now {
                    self.handle(me, Broadcast::handle_timeout);
                }
            }
        }
    }
}

#[test]
fn two_in_step_spend_less_than_a_kibibyte_a_minute_however_many_publishers_there_are() {
    for count in [1, 100, 10_000] {
        let bundles = publishers(count);
        let mut pair = Pair::meet([&bundles, &bundles]);
        pair.run(Duration::from_secs(60));
        let (frames, bytes) = pair.run(Duration::from_secs(600));
        println!(
            "{count} publishers: {} bytes a minute, {} frames",
            bytes / 10,
            frames as f64 / 10.0
        );
        assert!(
            bytes / 10 <= 1_024,
            "{count} publishers: {} bytes",
            bytes / 10
        );
        assert!(frames >= 60, "{frames}");
    }
}

#[test]
fn one_of_ten_thousand_streams_is_found_for_some_thousand_bytes() {
    let all = publishers(10_000);
    for (which, lacking) in [(7_000, "in the midst"), (0, "at first"), (9_999, "at last")] {
        let mut bob = all.clone();
        bob.remove(which);
        let mut pair = Pair::meet([&all, &bob]);
        let (frames, bytes) = pair.run(Duration::from_millis(900));
        println!("one of 10,000 {lacking}: {bytes} bytes, {frames} frames");
        let streams = pair
            .members
            .each_ref()
            .map(|member| member.1.history().streams().count());
        assert_eq!(streams, [10_000; 2]);
        assert!(bytes <= 2_000, "{bytes}");
    }
}
