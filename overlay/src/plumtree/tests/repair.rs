//! What is missing: asked for, supplied, refused, written off.

use super::*;
use crate::history::EPOCHS_MAX;

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
fn future_epochs_and_future_bundles_are_refused_and_one_epoch_too_many_retires_the_oldest() {
    let mut member = Member::new(&[1]);
    let next_year = StreamId {
        publisher: 9,
        epoch: EPOCH + 365 * 86_400_000,
    };
    let outputs = member.receive(1, pushed(&chain(next_year, 1, 0)[0]));
    assert_eq!(refusals(&outputs), [Refusal::Future]);
    let outputs = member.receive(1, pushed(&chain(stream(9), 1, 120_000)[0]));
    assert_eq!(refusals(&outputs), [Refusal::Future]);
    let most = EPOCHS_MAX as u64;
    let run = |number| StreamId {
        publisher: 9,
        epoch: EPOCH - most + number,
    };
    for number in 0..=most {
        assert!(refusals(&member.receive(1, pushed(&chain(run(number), 1, 0)[0]))).is_empty());
    }
    let known: Vec<u64> = member.broadcast.history().epochs(9).collect();
    assert_eq!(known.len(), EPOCHS_MAX);
    assert_eq!(known[0], run(1).epoch);
    let outputs = member.receive(1, pushed(&chain(run(0), 1, 0)[0]));
    assert_eq!(refusals(&outputs), [Refusal::RetiredEpoch]);
}

#[test]
fn what_is_held_of_an_epoch_outlives_eight_later_ones_and_one_that_is_spent_does_not() {
    let mut member = Member::new(&[1]);
    let run = |number| StreamId {
        publisher: 9,
        epoch: EPOCH - 100 + number,
    };
    for number in 0..20 {
        assert!(refusals(&member.receive(1, pushed(&chain(run(number), 1, 0)[0]))).is_empty());
    }
    let held = |member: &Member| {
        let history = member.broadcast.history();
        (0..40)
            .filter(|number| history.held(run(*number), 1).is_some())
            .count()
    };
    assert_eq!(held(&member), 20);
    // Past the horizon nothing of them can come any more.
    let later = 500_000;
    member.run_to(later);
    assert_eq!(held(&member), 0);
    for number in 20..40 {
        assert!(refusals(&member.receive(1, pushed(&chain(run(number), 1, later)[0]))).is_empty());
    }
    assert_eq!(held(&member), 20);
    let known: Vec<u64> = member.broadcast.history().epochs(9).collect();
    let all: Vec<u64> = (20..40).map(|number| run(number).epoch).collect();
    assert_eq!(known, all);
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
