//! Neighbours that announce what they never supply, and ask for what never was.

use super::*;

const LIAR: u32 = 1;
const HONEST: u32 = 2;
const PUBLISHER: u32 = 9;
const EVERYTHING: u64 = (1 << 53) - 1;

fn lies() -> Message<u32, TestBundle> {
    delta(vec![digest(
        stream(PUBLISHER),
        Seqs::range(1, EVERYTHING),
        1,
    )])
}

fn misbehaviours(outputs: &[Output<u32, TestBundle>]) -> Vec<(u32, &'static str)> {
    let told = |output: &Output<u32, TestBundle>| match output {
        Output::Misbehaviour { peer, what } => Some((*peer, *what)),
        _ => None,
    };
    outputs.iter().filter_map(told).collect()
}

#[test]
fn a_liar_does_not_hold_up_honest_repair() {
    let mut member = Member::new(&[LIAR, HONEST]);
    let bundles = chain(stream(PUBLISHER), 11, 0);
    member.receive(HONEST, pushed(&bundles[0]));
    member.receive(LIAR, lies());
    let mut last = 1;
    for millis in [3_000, 6_000, 30_000, 60_000, 90_000] {
        member.run_to(millis);
        member.receive(LIAR, lies());
        let missing = Seqs::range(last + 1, last + 2);
        last += 2;
        let told = digest(stream(PUBLISHER), Seqs::range(1, last), 1);
        let mut outputs = member.receive(HONEST, delta(vec![told]));
        outputs.extend(member.run_to(millis + 2_100));
        let asked = wants(&outputs);
        let is_asked = |(to, _, seqs): &(u32, _, Seqs)| *to == HONEST && *seqs == missing;
        assert!(asked.iter().any(is_asked), "{asked:?} at {millis} ms");
        for bundle in &bundles[last as usize - 2..last as usize] {
            let message = Message::Bundle {
                bundle: bundle.clone(),
                hops: 1,
                push: Push::Supplied,
            };
            member.receive(HONEST, message);
        }
    }
}

#[test]
fn what_comes_twice_keeps_no_ask_alive() {
    let mut member = Member::new(&[LIAR, HONEST]);
    let bundles = chain(stream(PUBLISHER), 3, 0);
    member.receive(HONEST, pushed(&bundles[0]));
    member.receive(LIAR, lies());
    member.run_to(1_000);
    member.receive(HONEST, pushed(&bundles[1]));
    let mut outputs = Vec::new();
    for tenth in 11..150 {
        outputs.extend(member.run_to(tenth * 100));
        outputs.extend(member.receive(LIAR, pushed(&bundles[1])));
    }
    assert_eq!(misbehaviours(&outputs).len(), 1, "{outputs:?}");
}

#[test]
fn whoever_announces_and_never_supplies_counts_for_nothing_and_is_told_of_once() {
    let mut member = Member::new(&[LIAR, HONEST]);
    let id = stream(PUBLISHER);
    member.receive(HONEST, pushed(&chain(id, 1, 0)[0]));
    member.receive(LIAR, lies());
    assert!(member.broadcast.somebody_has(id, 2, 2));
    let mut outputs = Vec::new();
    for second in 1..30 {
        outputs.extend(member.run_to(second * 1_000));
        outputs.extend(member.receive(LIAR, lies()));
    }
    let told = misbehaviours(&outputs);
    assert_eq!(told, [(LIAR, "announced bundles that it does not supply")]);
    assert!(!member.broadcast.somebody_has(id, 2, 2));
    assert!(
        wants(&member.run_to(40_000)).is_empty(),
        "a liar is asked no more"
    );
    // Later its word counts again, for its link may only have been bad.
    member.run_to(100_000);
    let mut outputs = member.receive(LIAR, lies());
    outputs.extend(member.run_to(101_000));
    assert!(wants(&outputs).iter().any(|(to, ..)| *to == LIAR));
}

#[test]
fn made_up_publishers_get_no_trees() {
    let mut member = Member::new(&[LIAR, HONEST]);
    member.receive(HONEST, pushed(&chain(stream(PUBLISHER), 1, 0)[0]));
    let trees = (1_000..2_000).collect();
    member.receive(LIAR, Message::Graft { trees });
    let streams = (1_000..2_000).map(|made_up| digest(stream(made_up), Seqs::range(1, 9), 1));
    member.receive(LIAR, delta(streams.collect()));
    member.run_to(20_000);
    let trees: Vec<u32> = member
        .broadcast
        .trees()
        .publishers()
        .map(|(publisher, _)| publisher)
        .collect();
    assert_eq!(trees, [PUBLISHER]);
}

#[test]
fn asking_for_what_was_never_announced_is_told() {
    let mut member = Member::new(&[LIAR]);
    let id = stream(PUBLISHER);
    member.receive(LIAR, pushed(&chain(id, 2, 0)[0]));
    let want = |id, seqs| Message::Want {
        ranges: vec![(id, seqs)],
    };
    assert!(misbehaviours(&member.receive(LIAR, want(id, Seqs::range(1, 1)))).is_empty());
    for (id, last) in [(id, EVERYTHING), (stream(77), 1)] {
        let outputs = member.receive(LIAR, want(id, Seqs::range(1, last)));
        assert_eq!(misbehaviours(&outputs).len(), 1);
    }
    // What was forgotten just now may have been announced.
    for epoch in EPOCH - 8..=EPOCH {
        let id = StreamId { epoch, ..id };
        member.receive(LIAR, pushed(&chain(id, 1, 0)[0]));
    }
    let forgotten = StreamId {
        epoch: EPOCH - 8,
        ..id
    };
    let outputs = member.receive(LIAR, want(forgotten, Seqs::range(1, 1)));
    assert_eq!(misbehaviours(&outputs), []);
}

#[test]
fn made_up_publishers_displace_each_other_and_no_other_neighbours_streams() {
    let mut config = Config::default();
    config.history.streams_max = 64;
    let mut member = Member::with(config, &[LIAR, HONEST]);
    for publisher in 100..110 {
        member.receive(HONEST, pushed(&chain(stream(publisher), 1, 0)[0]));
    }
    member.run_to(1_000);
    // What one that says much has said is safe, whoever brings it.
    for bundle in chain(stream(60), 8, 500) {
        member.receive(LIAR, pushed(&bundle));
    }
    for made_up in 1_000..3_000 {
        member.receive(LIAR, pushed(&chain(stream(made_up), 1, 1_000)[0]));
        member.broadcast.check().unwrap();
    }
    // Somebody new comes in as well, whoever brings it.
    for (publisher, from) in [(50, HONEST), (51, LIAR), (52, 77)] {
        let outputs = member.receive(from, pushed(&chain(stream(publisher), 1, 1_000)[0]));
        assert_eq!(refusals(&outputs), []);
    }
    let known = |publisher| member.broadcast.history().seen(stream(publisher)).is_some();
    assert!((100..110).chain(50..53).chain([60]).all(known));
}

#[test]
fn a_publisher_whose_stream_was_displaced_goes_on_where_it_stood() {
    let mut config = Config::default();
    config.history.streams_max = 64;
    let mut member = Member::with(config, &[LIAR]);
    let mut delivery = Delivery::new();
    let bundles = chain(stream(PUBLISHER), 2, 0);
    let mut got = Vec::new();
    let flood: Vec<_> = (1_000..1_200)
        .map(|made_up| chain(stream(made_up), 1, 0).remove(0))
        .collect();
    let again = [&bundles[..1], &flood, &bundles[..], &bundles[..]].concat();
    for bundle in &again {
        for output in member.receive(LIAR, pushed(bundle)) {
            if let Output::New(header) = output {
                delivery.received(&header, &member.broadcast, member.now);
            }
        }
        while let Some(delivered) = delivery.poll_output() {
            if let Delivered::Bundle { header, .. } = delivered
                && header.stream == stream(PUBLISHER)
            {
                got.push(header.first);
            }
        }
    }
    assert_eq!(got, [1, 2]);
}

#[test]
fn a_neighbour_that_says_nothing_holds_up_no_gap_for_long() {
    const MUTE: u32 = 3;
    let mut member = Member::new(&[MUTE, HONEST]);
    let mut delivery = Delivery::new();
    let bundles = chain(stream(PUBLISHER), 4, 0);
    let mut told_at = None;
    for second in 1..60 {
        member.run_to(second * 1_000);
        for bundle in [&bundles[0], &bundles[3]] {
            for output in member.receive(HONEST, pushed(bundle)) {
                if let Output::New(header) = output {
                    delivery.received(&header, &member.broadcast, member.now);
                }
            }
        }
        let seqs: Seqs = [1..=1, 4..=4].into_iter().collect();
        member.receive(HONEST, delta(vec![digest(stream(PUBLISHER), seqs, 1)]));
        delivery.handle_timeout(&member.broadcast, member.now);
        while let Some(delivered) = delivery.poll_output() {
            if let Delivered::Gap { from: 2, to: 3, .. } = delivered {
                told_at = Some(second);
            }
        }
    }
    assert!(matches!(told_at, Some(16..30)), "{told_at:?}");
}
