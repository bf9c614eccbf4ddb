//! Handler tests: a fact in, orders out. And a property: whatever peers send, the broadcast stays bounded and delivers in order.

mod claims;
mod exchange;
mod liars;
mod optimise;
mod orphans;
mod relay;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

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

#[test]
fn a_lazy_neighbour_is_told_soon_and_an_eager_one_later() {
    let mut member = Member::new(&[1, 2, 3]);
    member.run_to(10_000);
    let first = &chain(stream(9), 1, 10_000)[0];
    member.receive(1, pushed(first));
    let soon = member.run_to(10_050);
    assert_eq!((digests_to(&soon, 2), digests_to(&soon, 1)), (1, 0));
    let later = member.run_to(10_500);
    assert_eq!((digests_to(&later, 2), digests_to(&later, 1)), (0, 1));
}

#[test]
fn an_announced_bundle_that_does_not_come_is_asked_for_once() {
    let mut member = Member::new(&[1, 2, 3]);
    member.receive(1, pushed(&chain(stream(9), 1, 0)[0]));
    for peer in [2, 3] {
        member.receive(peer, delta(vec![digest(stream(9), Seqs::range(1, 2), 1)]));
    }
    let asked = wants(&member.run_to(1_000));
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].2, Seqs::range(2, 2));
}

#[test]
fn what_is_announced_of_a_new_publisher_is_waited_for_half_as_long_as_what_its_own_tree_brings() {
    let mut member = Member::new(&[1, 2]);
    let rtt = Duration::from_millis(100);
    for peer in [1, 2] {
        member.handle(Input::Rtt { peer, rtt });
    }
    // There is a shared tree.
    let root = Beacon {
        root: 1,
        since: UnixMicros(0),
        refresh: 0,
        distance: Some(Duration::ZERO),
        to_parent: false,
    };
    member.receive(1, Message::Beacon(root));
    let chain = chain(stream(9), 2, 0);
    member.receive(2, delta(vec![digest(stream(9), Seqs::range(1, 1), 1)]));
    assert_eq!(wants(&member.run_to(99)), []);
    assert_eq!(wants(&member.run_to(100)).len(), 1);
    member.receive(1, pushed(&chain[0]));
    member.receive(2, delta(vec![digest(stream(9), Seqs::range(1, 2), 1)]));
    assert_eq!(wants(&member.run_to(299)), []);
    assert_eq!(wants(&member.run_to(300)).len(), 1);
}

#[test]
fn an_unanswered_ask_goes_to_somebody_else_though_its_peer_goes_on_pushing() {
    let mut member = Member::new(&[1, 2]);
    let chain = chain(stream(9), 40, 0);
    member.receive(1, pushed(&chain[1]));
    member.receive(1, delta(vec![digest(stream(9), Seqs::range(1, 2), 1)]));
    let mut asked = Vec::new();
    for step in 1..=30 {
        asked.extend(wants(&member.run_to(step * 100)));
        member.receive(1, pushed(&chain[step as usize + 1]));
        if step == 10 {
            member.receive(2, delta(vec![digest(stream(9), Seqs::range(1, 2), 1)]));
        }
    }
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn a_hole_below_what_the_tree_brings_grafts_nobody() {
    let mut member = Member::new(&[1, 2]);
    let chain = chain(stream(9), 3, 0);
    member.receive(1, pushed(&chain[0]));
    member.receive(1, pushed(&chain[2]));
    member.receive(2, delta(vec![digest(stream(9), Seqs::range(1, 3), 1)]));
    let outputs = member.run_to(1_000);
    assert_eq!(wants(&outputs).len(), 1);
    let grafted = |output: &Output<u32, TestBundle>| {
        matches!(
            output,
            Output::Send {
                message: Message::Graft { .. },
                ..
            }
        )
    };
    assert!(!outputs.iter().any(grafted));
}

#[test]
fn a_lack_whose_only_supplier_is_congested_is_asked_for_later() {
    let mut member = Member::new(&[1, 2]);
    member.receive(1, pushed(&chain(stream(9), 1, 0)[0]));
    member.handle(Input::Congested {
        peer: 2,
        congested: true,
    });
    member.receive(2, delta(vec![digest(stream(9), Seqs::range(1, 2), 1)]));
    assert!(wants(&member.run_to(5_000)).is_empty());
    member.handle(Input::Congested {
        peer: 2,
        congested: false,
    });
    assert_eq!(wants(&member.run_to(8_000)).len(), 1);
}

#[test]
fn a_graft_brings_at_once_what_was_not_told() {
    let mut member = Member::new(&[1, 2]);
    member.receive(1, pushed(&chain(stream(9), 1, 0)[0]));
    let outputs = member.receive(2, Message::Graft { trees: vec![9] });
    assert_eq!(digests_to(&outputs, 2), 1);
}

#[test]
fn a_supplier_that_holds_no_more_says_so() {
    let mut config = Config::default();
    config.history.bytes_max = 400;
    let mut member = Member::with(config, &[1, 2]);
    for bundle in chain(stream(9), 5, 0) {
        member.receive(1, pushed(&bundle));
    }
    member.run_to(2_000);
    member.receive(
        2,
        Message::Want {
            ranges: vec![(stream(9), Seqs::range(1, 2))],
        },
    );
    assert_eq!(member.broadcast.supply(2, 1_000), 0);
    let outputs = member.run_to(2_000);
    assert_eq!(digests_to(&outputs, 2), 1);
}

#[test]
fn supplies_come_in_order_and_only_what_was_asked_for() {
    let mut member = Member::new(&[1, 2]);
    for bundle in chain(stream(9), 9, 0) {
        member.receive(1, pushed(&bundle));
    }
    let seqs = [2..=3, 7..=20].into_iter().collect();
    member.receive(
        2,
        Message::Want {
            ranges: vec![(stream(9), seqs)],
        },
    );
    while member.broadcast.owes(2) {
        member.broadcast.supply(2, 250);
    }
    let supplied: Vec<u64> = member
        .drain()
        .iter()
        .filter_map(|output| match output {
            Output::Send {
                message: Message::Bundle { bundle, .. },
                ..
            } => Some(bundle.header.first),
            _ => None,
        })
        .collect();
    assert_eq!(supplied, [2, 3, 7, 8, 9]);
}

#[test]
fn what_was_refused_for_good_is_not_asked_for_again() {
    let mut member = Member::new(&[1]);
    member.run_to(1_000_000);
    let old = &chain(stream(9), 1, 0)[0];
    member.receive(1, delta(vec![digest(stream(9), Seqs::range(1, 1), 1)]));
    let outputs = member.receive(
        1,
        Message::Bundle {
            bundle: old.clone(),
            hops: 1,
            push: Push::Supplied,
        },
    );
    assert_eq!(refusals(&outputs), [Refusal::TooOld]);
    assert!(wants(&member.run_to(1_060_000)).is_empty());
}

#[test]
fn future_epochs_and_future_bundles_are_refused_and_a_ninth_epoch_retires_the_oldest() {
    let mut member = Member::new(&[1]);
    let next_year = StreamId {
        publisher: 9,
        epoch: EPOCH + 365 * 86_400_000,
    };
    let outputs = member.receive(1, pushed(&chain(next_year, 1, 0)[0]));
    assert_eq!(refusals(&outputs), [Refusal::Future]);
    let outputs = member.receive(1, pushed(&chain(stream(9), 1, 120_000)[0]));
    assert_eq!(refusals(&outputs), [Refusal::Future]);
    for age in (0..9).rev() {
        let id = StreamId {
            publisher: 9,
            epoch: EPOCH - age,
        };
        assert!(refusals(&member.receive(1, pushed(&chain(id, 1, 0)[0]))).is_empty());
    }
    assert_eq!(member.broadcast.history().epochs(9).count(), 8);
    let retired = StreamId {
        publisher: 9,
        epoch: EPOCH - 8,
    };
    let outputs = member.receive(1, pushed(&chain(retired, 1, 0)[0]));
    assert_eq!(refusals(&outputs), [Refusal::RetiredEpoch]);
}

#[test]
fn equivocation_is_proven_and_goes_no_further() {
    let mut member = Member::new(&[1, 2, 3]);
    member.receive(2, Message::Graft { trees: vec![9] });
    member.receive(1, pushed(&chain(stream(9), 1, 0)[0]));
    let other = bundle(stream(9), (1, 1), None, at(0).unix, 1);
    let outputs = member.receive(3, pushed(&other));
    assert!(matches!(outputs[..], [Output::Equivocation(header)] if header == other.header));
    let proofs: Vec<_> = member.broadcast.history().proofs().collect();
    assert_eq!(proofs.len(), 1);
    assert_ne!(proofs[0].0.header.hash, proofs[0].1.header.hash);
    assert_eq!(member.broadcast.counters().equivocations, 1);
}

#[test]
fn a_sixty_fifth_hole_waits_until_an_earlier_one_is_filled() {
    let mut member = Member::new(&[1]);
    let chain = chain(stream(9), 140, 0);
    for index in (1..140).step_by(2).take(64) {
        assert!(refusals(&member.receive(1, pushed(&chain[index]))).is_empty());
    }
    let outputs = member.receive(1, pushed(&chain[131]));
    assert_eq!(refusals(&outputs), [Refusal::TooManyHoles]);
    member.receive(1, pushed(&chain[2]));
    assert!(refusals(&member.receive(1, pushed(&chain[131]))).is_empty());
}

#[test]
fn strangers_bring_bundles_but_no_control() {
    let mut member = Member::new(&[1]);
    let outputs = member.receive(7, Message::Graft { trees: vec![9] });
    assert!(matches!(outputs[..], [Output::Stranger(7)]));
    let outputs = member.receive(7, pushed(&chain(stream(9), 1, 0)[0]));
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::New(_)))
    );
    member.broadcast.check().unwrap();
}

#[test]
fn two_in_step_exchange_fingerprints_alone_and_rarely() {
    let mut member = Member::new(&[1]);
    member.run_to(60_000);
    let before = member.broadcast.counters().digests_sent;
    let outputs = member.run_to(120_000);
    assert!(outputs.len() <= 8, "{}", outputs.len());
    let fingerprint = [0; 16];
    member.receive(
        1,
        Message::Fingerprint {
            fingerprint,
            has_base: true,
            beacon: None,
        },
    );
    assert_eq!(member.broadcast.counters().digests_sent, before);
}

#[test]
fn a_base_of_many_frames_is_taken_whole() {
    for start in [Start::Latest, Start::Retained] {
        let mut older = Member::new(&[1]);
        let streams = STREAMS_PER_FRAME_MAX as u32 + 200;
        for publisher in 10..10 + streams {
            older.receive(1, pushed(&chain(stream(publisher), 1, 0)[0]));
        }
        let config = Config {
            start,
            ..Config::default()
        };
        let mut newcomer = Member {
            broadcast: Broadcast::new(ME, config, at(0)),
            now: at(0),
        };
        newcomer.handle(Input::NeighbourUp(5));
        older.handle(Input::NeighbourUp(ME));
        let mut frames = 0;
        for output in older.receive(
            ME,
            Message::Fingerprint {
                fingerprint: [0; 16],
                has_base: false,
                beacon: None,
            },
        ) {
            if let Output::Send { to: ME, message } = output {
                frames += 1;
                newcomer.receive(5, message);
            }
        }
        assert_eq!(frames, 2);
        assert!(newcomer.broadcast.has_base());
        let history = newcomer.broadcast.history();
        let bases = (10..10 + streams).map(|publisher| history.base(stream(publisher)));
        let expected = u64::from(start == Start::Latest);
        assert!(bases.into_iter().all(|base| base == expected));
    }
}

#[test]
fn holes_past_the_horizon_are_written_off() {
    let mut member = Member::new(&[1]);
    let chain = chain(stream(9), 5, 0);
    for index in [0, 2, 4] {
        member.receive(1, pushed(&chain[index]));
    }
    member.run_to(400_000);
    let seen = member.broadcast.history().seen(stream(9));
    assert_eq!(seen, Some(&Seqs::range(1, 5)));
}

/// What a hostile neighbour may send.
fn hostile() -> impl Strategy<Value = Message<u32, TestBundle>> {
    let seq = prop_oneof![0u64..12, Just(u64::MAX - 1), Just(u64::MAX)];
    let id = (0u32..4, 0u64..4).prop_map(|(publisher, back)| StreamId {
        publisher,
        epoch: (EPOCH + 2) - back,
    });
    let id = prop_oneof![9 => id, 1 => (any::<u32>(), any::<u64>()).prop_map(|(publisher, epoch)| StreamId { publisher, epoch })];
    let seqs = prop::collection::vec((seq.clone(), seq.clone()), 0..4)
        .prop_map(|ranges| ranges.into_iter().map(|(a, b)| a..=b).collect::<Seqs>());
    let told =
        (id.clone(), seqs.clone(), seq.clone()).prop_map(|(id, seqs, from)| digest(id, seqs, from));
    let tree = prop_oneof![0u32..6, any::<u32>()];
    let trees = prop::collection::vec(tree, 0..4);
    let push = prop_oneof![Just(Push::Eager), Just(Push::Supplied)];
    // Signed by whom it names, so of a publisher's own making; a few lie about their predecessors or their past.
    let made = (
        id.clone(),
        1u64..12,
        0u64..3,
        0u8..12,
        prop::option::weighted(0.3, (0u64..6, prop::option::of(0u64..9))),
        prop_oneof![Just(0u64), Just(30_000)],
    );
    let bundle = (made, push, any::<u8>()).prop_map(
        |((id, first, more, variant, previous, published), push, hops)| {
            let variant = u8::from(variant == 0);
            let before = (first > 1).then(|| {
                bundle(id, (first - 1, first - 1), None, at(0).unix, 0)
                    .header
                    .hash
            });
            let at = at(published).unix;
            let mut bundle = bundle(id, (first, first + more), before, at, variant);
            bundle.previous_epoch =
                previous
                    .filter(|_| first == 1)
                    .map(|(back, last)| PreviousEpoch {
                        epoch: (EPOCH + 2).wrapping_sub(back),
                        last,
                    });
            Message::Bundle { bundle, hops, push }
        },
    );
    let bound = prop::option::of(id.clone());
    let span = (bound.clone(), bound).prop_map(|(first, upto)| Span { first, upto });
    let spans = prop_oneof![
        Just(vec![Span::ALL]),
        prop::collection::vec(span.clone(), 0..4)
    ];
    let kind = prop_oneof![
        4 => Just(DigestKind::Delta),
        1 => Just(DigestKind::Recent),
        2 => spans.clone().prop_map(DigestKind::All),
        1 => spans.prop_map(DigestKind::Rest),
    ];
    let told = (kind, prop::collection::vec(told, 0..4), any::<bool>()).prop_map(
        |(kind, streams, has_base)| Message::Digest {
            kind,
            streams,
            has_base,
        },
    );
    let part = (span, prop::option::of(any::<u32>())).prop_map(|(span, sum)| Part { span, sum });
    let split = (any::<u32>(), prop::collection::vec(part, 0..9))
        .prop_map(|(salt, parts)| Message::Split { salt, parts });
    prop_oneof![
        6 => bundle,
        4 => told,
        2 => split,
        1 => (any::<u8>(), any::<bool>(), prop::option::of(beacon())).prop_map(|(byte, has_base, beacon)| Message::Fingerprint { fingerprint: [byte; 16], has_base, beacon }),
        2 => trees.clone().prop_map(|trees| Message::Graft { trees }),
        2 => beacon().prop_map(Message::Beacon),
        2 => trees.prop_map(|trees| Message::Prune { trees }),
        2 => prop::collection::vec((id, seqs), 0..4).prop_map(|ranges| Message::Want { ranges }),
    ]
}

fn beacon() -> impl Strategy<Value = Beacon<u32>> {
    let distance = prop_oneof![0u64..100_000, any::<u64>()];
    let refresh = prop_oneof![0u64..9, any::<u64>()];
    let parts = (0u32..6, 0u64..4, refresh, prop::option::of(distance));
    (parts, any::<bool>()).prop_map(|((root, since, refresh, distance), to_parent)| Beacon {
        root,
        since: UnixMicros(since),
        refresh,
        distance: distance.map(Duration::from_micros),
        to_parent,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Up(u32),
    Down(u32),
    Message(u32, Message<u32, TestBundle>),
    Wait(u64),
    Supply(u32),
    Congested(u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 1u32..5;
    prop_oneof![
        2 => peer.clone().prop_map(Step::Up),
        1 => peer.clone().prop_map(Step::Down),
        20 => (peer.clone(), hostile()).prop_map(|(peer, message)| Step::Message(peer, message)),
        3 => prop_oneof![1u64..3_000, Just(400_000)].prop_map(Step::Wait),
        2 => peer.clone().prop_map(Step::Supply),
        1 => (peer, any::<bool>()).prop_map(|(peer, full)| Step::Congested(peer, full)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_peers_send_the_state_is_bounded_and_delivery_is_in_order(joins in any::<bool>(), steps in prop::collection::vec(step(), 1..120)) {
        let mut member = match joins {
            true => Member::joining(),
            false => Member::new(&[1, 2]),
        };
        let mut delivery = Delivery::new();
        let mut reached: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut got: BTreeMap<StreamId<u32>, Seqs> = BTreeMap::new();
        for step in steps {
            let outputs = match step {
                Step::Up(peer) => member.handle(Input::NeighbourUp(peer)),
                Step::Down(peer) => member.handle(Input::NeighbourDown(peer)),
                Step::Message(from, message) => member.receive(from, message),
                Step::Wait(millis) => {
                    let until = member.now.time.as_micros() / 1_000 + millis;
                    member.run_to(until)
                }
                Step::Supply(peer) => {
                    member.broadcast.supply(peer, 1_000);
                    member.drain()
                }
                Step::Congested(peer, congested) => member.handle(Input::Congested { peer, congested }),
            };
            prop_assert!(outputs.len() < 2_000);
            for output in &outputs {
                match output {
                    Output::New(header) if member.broadcast.has_base() => delivery.received(header, &member.broadcast, member.now),
                    Output::Based => delivery.start(&member.broadcast, member.now),
                    Output::BaseLowered { stream, from } => delivery.base_lowered(*stream, *from),
                    _ => {}
                }
            }
            if member.broadcast.has_base() {
                delivery.handle_timeout(&member.broadcast, member.now);
            }
            while let Some(delivered) = delivery.poll_output() {
                let (id, from, to, is_gap) = match delivered {
                    Delivered::Bundle { header, from } => (header.stream, from, header.last, false),
                    Delivered::Gap { stream, from, to } => (stream, from, to, true),
                };
                prop_assert!(from <= to);
                let told = got.entry(id).or_default();
                prop_assert!(!told.intersects(from, to), "{:?} {}..={} twice", id, from, to);
                told.insert(from, to);
                let before = reached.get(&id.publisher).copied().unwrap_or((0, 0));
                // What comes after its epoch was left is told as it comes: it is held, and no hole.
                let is_late = is_gap && (id.epoch < before.0 || member.broadcast.history().held(id, to).is_some());
                if is_late {
                    continue;
                }
                prop_assert!((id.epoch, from) > before, "{:?} {} after {:?}", id, from, before);
                reached.insert(id.publisher, (id.epoch, to));
            }
            member.broadcast.check().unwrap();
        }
    }
}
