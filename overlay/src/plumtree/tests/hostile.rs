//! A property: whatever peers send, the broadcast stays bounded and delivers in order.

use proptest::prelude::*;

use super::*;

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
