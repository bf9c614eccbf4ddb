//! Who pushes to whom, and what neighbours tell each other.

use super::*;

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
fn a_graft_brings_at_once_what_was_not_told() {
    let mut member = Member::new(&[1, 2]);
    member.receive(1, pushed(&chain(stream(9), 1, 0)[0]));
    let outputs = member.receive(2, Message::Graft { trees: vec![9] });
    assert_eq!(digests_to(&outputs, 2), 1);
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
