//! Two neighbours that have seen different things come to be in step.

use proptest::prelude::*;

use super::*;
use crate::digest::SPANS_PER_FRAME_MAX;
use crate::fingerprint::{PARTS, TOLD_STREAMS_MAX};

const ANNE: u32 = 0;
const BOB: u32 = 1;

/// Two members that are neighbours, with a link between them that takes a millisecond.
struct Pair {
    members: [Member; 2],
    under_way: Vec<(u32, Message<u32, TestBundle>)>,
    /// Frames that were sent, and streams that their digests named.
    frames: usize,
    named: usize,
    /// Which frames are lost, by number.
    lost: Vec<usize>,
}

impl Pair {
    /// Makes them with what each has seen: how many bundles of which stream.
    fn new(seen: [&BTreeMap<StreamId<u32>, u64>; 2]) -> Self {
        let member = |me: u32, seen: &BTreeMap<StreamId<u32>, u64>| {
            let mut member = Member {
                broadcast: Broadcast::new(me, Config::default(), at(0)),
                now: at(0),
            };
            member.handle(Input::Alone);
            for (&id, &last) in seen {
                for bundle in chain(id, last, 0) {
                    member.receive(99, pushed(&bundle));
                }
            }
            // Nothing is under way any more.
            member.run_to(20_000);
            member
        };
        Self {
            members: [member(ANNE, seen[0]), member(BOB, seen[1])],
            under_way: Vec::new(),
            frames: 0,
            named: 0,
            lost: Vec::new(),
        }
    }

    fn meet(&mut self) {
        for me in [ANNE, BOB] {
            let outputs = self.members[me as usize].handle(Input::NeighbourUp(1 - me));
            self.send(me, outputs);
        }
    }

    fn send(&mut self, from: u32, outputs: Vec<Output<u32, TestBundle>>) {
        for output in outputs {
            let Output::Send { to, message } = output else {
                continue;
            };
            self.frames += 1;
            match &message {
                Message::Digest { kind, streams, .. } => {
                    self.named += streams.len();
                    assert!(streams.len() <= STREAMS_PER_FRAME_MAX);
                    if let DigestKind::All(spans) | DigestKind::Rest(spans) = kind {
                        assert!(spans.len() <= SPANS_PER_FRAME_MAX);
                        assert!(spans.windows(2).all(|pair| pair[1].follows(&pair[0])));
                    }
                }
                Message::Split { parts, .. } => {
                    assert!(parts.len() <= SPANS_PER_FRAME_MAX);
                    let apart = |pair: &[Part<u32>]| pair[1].span.follows(&pair[0].span);
                    assert!(parts.windows(2).all(apart), "{parts:?}");
                }
                _ => {}
            }
            if !self.lost.contains(&self.frames) {
                assert_eq!(to, 1 - from);
                self.under_way.push((to, message));
            }
        }
    }

    /// Lets time pass until `millis`.
    fn run_to(&mut self, millis: u64) {
        let mut now = self.members[0].now.time.as_micros() / 1_000;
        while now < millis {
            now += 1;
            for (to, message) in std::mem::take(&mut self.under_way) {
                let member = &mut self.members[to as usize];
                member.now = at(now);
                let outputs = member.receive(1 - to, message);
                self.send(to, outputs);
            }
            for me in [ANNE, BOB] {
                let other = 1 - me;
                let member = &mut self.members[me as usize];
                let mut outputs = member.run_to(now);
                if member.broadcast.owes(other) {
                    member.broadcast.supply(other, 1_000_000);
                    outputs.extend(member.drain());
                }
                self.send(me, outputs);
            }
        }
    }

    fn fingerprints(&mut self) -> [[u8; 16]; 2] {
        [0, 1].map(|at: usize| self.members[at].broadcast.history.fingerprint())
    }

    fn are_in_step(&mut self) -> bool {
        let [anne, bob] = self.fingerprints();
        anne == bob
    }
}

/// The first bundle of each of some publishers.
fn publishers(some: impl Iterator<Item = u32>) -> BTreeMap<StreamId<u32>, u64> {
    some.map(|publisher| (stream(publisher * 7 + 10), 1))
        .collect()
}

#[test]
fn one_stream_of_ten_thousand_is_found_without_telling_the_others() {
    let mut anne = publishers(0..10_000);
    let bob = anne.clone();
    *anne.get_mut(&stream(5_000 * 7 + 10)).unwrap() = 2;
    let mut pair = Pair::new([&anne, &bob]);
    pair.meet();
    pair.run_to(20_100);
    assert!(pair.are_in_step());
    assert!(pair.named <= TOLD_STREAMS_MAX + 2, "{}", pair.named);
    assert!(pair.frames <= 16, "{}", pair.frames);
}

#[test]
fn after_an_exchange_both_know_of_every_stream_what_the_other_has() {
    let mut anne = publishers(0..400);
    let mut bob = publishers((0..400).filter(|n| n % 50 != 3));
    anne.retain(|id, _| id.publisher % 60 != 10);
    bob.insert(stream(1), 3);
    let mut pair = Pair::new([&anne, &bob]);
    pair.meet();
    pair.run_to(20_050);
    for me in [ANNE, BOB] {
        let member = &pair.members[me as usize];
        let told = member.broadcast.neighbours.get(&(1 - me)).unwrap();
        assert!(told.told.of_all() >= Some(at(20_000).time), "{me}");
    }
}

#[test]
fn two_in_step_take_turns() {
    let all = publishers(0..100);
    let mut pair = Pair::new([&all, &all]);
    pair.meet();
    pair.run_to(120_000);
    let before = pair.frames;
    pair.run_to(180_000);
    // The root of the shared tree says twice that it lives.
    assert!(
        (8..=9).contains(&(pair.frames - before)),
        "{}",
        pair.frames - before
    );
    for me in [ANNE, BOB] {
        let member = &pair.members[me as usize];
        let other = member.broadcast.neighbours.get(&(1 - me)).unwrap();
        assert!(other.told.of_all() >= Some(at(159_000).time));
        assert_eq!(other.streams().count(), 0, "nothing was told");
    }
}

#[test]
fn made_up_differences_are_answered_at_a_rate() {
    let mut member = Pair::new([&publishers(0..10_000), &BTreeMap::new()])
        .members
        .into_iter()
        .next()
        .unwrap();
    member.handle(Input::NeighbourUp(BOB));
    let mut named = [0; 3];
    for step in 0..300 {
        member.run_to(20_000 + step * 100);
        let asked = [
            Message::Fingerprint {
                fingerprint: [step as u8; 16],
                has_base: false,
                beacon: None,
            },
            Message::Fingerprint {
                fingerprint: [step as u8; 16],
                has_base: true,
                beacon: None,
            },
            Message::Digest {
                kind: DigestKind::All(vec![Span::ALL]),
                streams: Vec::new(),
                has_base: true,
            },
            Message::Split {
                salt: 5,
                parts: vec![Part {
                    span: Span::ALL,
                    sum: Some(5),
                }],
            },
        ];
        for message in asked {
            for output in member.receive(BOB, message) {
                match output {
                    Output::Send {
                        message: Message::Digest { streams, .. },
                        ..
                    } => named[0] += streams.len(),
                    Output::Send {
                        message: Message::Split { parts, .. },
                        ..
                    } => {
                        named[1] += 1;
                        assert!(parts.len() <= PARTS);
                    }
                    _ => named[2] += 1,
                }
            }
        }
    }
    // Twice all that a member may keep, and 2,048 each second.
    assert!(named[0] <= 2 * 16_384 + 30 * 2_048, "{named:?}");
    // One to each, and to each fingerprint once in half a second.
    assert!(named[1] <= 300 + 60, "{named:?}");
}

/// What two members have seen of some publishers: both the same, or one of them more, or only one of them.
fn histories() -> impl Strategy<Value = [BTreeMap<StreamId<u32>, u64>; 2]> {
    let one = (0u32..2_000, 0u64..3, 0u8..2, 1u64..4, 1u64..4, 0u32..24);
    (prop::collection::vec(one, 0..300), 0u32..24).prop_map(|(streams, differing)| {
        let mut seen = [BTreeMap::new(), BTreeMap::new()];
        for (publisher, back, side, here, there, kind) in streams {
            let id = StreamId {
                publisher: publisher + 2,
                epoch: EPOCH - back,
            };
            let [a, b] = &mut seen;
            let (ours, theirs) = if side == 0 { (a, b) } else { (b, a) };
            ours.insert(id, here);
            match kind {
                // From none differing to all.
                _ if kind >= differing => _ = theirs.insert(id, here),
                0..12 => _ = theirs.insert(id, there),
                _ => _ = theirs.remove(&id),
            }
        }
        seen
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn two_histories_of_any_difference_come_to_be_in_step([anne, bob] in histories(), lost in prop::collection::vec(1usize..30, 0..4)) {
        let differing: usize = anne.keys().chain(bob.keys()).filter(|id| anne.get(id) != bob.get(id)).count();
        let mut pair = Pair::new([&anne, &bob]);
        let is_lossy = !lost.is_empty();
        pair.lost = lost;
        pair.meet();
        pair.run_to(20_200);
        if !is_lossy {
            prop_assert!(pair.are_in_step());
            // A stream that differs takes along no more than those that are told with it, and its bundles are acknowledged.
            let most = 2 * differing * (TOLD_STREAMS_MAX + 2) + 2 * TOLD_STREAMS_MAX;
            prop_assert!(pair.named <= most, "{} named for {} that differ", pair.named, differing);
        }
        pair.run_to(60_000);
        prop_assert!(pair.are_in_step());
        for member in &pair.members {
            member.broadcast.check().unwrap();
        }
    }
}
