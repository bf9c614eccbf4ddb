//! Handler tests: a fact in, orders out. Whole epidemics are in the private modules `demers` and `compare`.

mod compare;
mod demers;
mod network;

use std::num::NonZeroU8;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    BundleId, Carried, Config, Decision, Direction, Epidemic, HELD_MAX, Input, Message, Notice,
    Output, Partners, Phase, Removal, Rumor, STREAMS_MAX, Spread, Sync, Verdict,
};
use crate::seqs::RANGES_MAX;
use crate::swarm::tests::network::UNIX_START;
use crate::swarm::tests::values::{TestBundle, bundle};
use crate::{Bundle, Now, Seqs, StreamId, Time, UnixMicros};

const CYCLE: Duration = Duration::from_secs(1);

type Outputs = Vec<Output<u32, TestBundle>>;

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(UNIX_START + millis * 1_000),
    }
}

fn one(publisher: u32, seq: u64) -> TestBundle {
    let stream = StreamId {
        publisher,
        epoch: UNIX_START / 1_000,
    };
    bundle(stream, (seq, seq), None, UnixMicros(UNIX_START), 0)
}

fn id(bundle: &TestBundle) -> BundleId<u32> {
    BundleId {
        stream: bundle.header.stream,
        first: bundle.header.first,
    }
}

fn carried(bundle: &TestBundle) -> Carried<TestBundle> {
    Carried {
        bundle: bundle.clone(),
        hops: 1,
    }
}

fn told(bundle: &TestBundle) -> Message<u32, TestBundle> {
    Message::Rumors {
        rumors: vec![carried(bundle)],
        ask: false,
    }
}

fn verdict(bundle: &TestBundle, needed: bool) -> Message<u32, TestBundle> {
    let verdicts = vec![Verdict {
        id: id(bundle),
        needed,
    }];
    Message::Feedback { verdicts }
}

fn rumor(k: u8, notice: Notice, decision: Decision, direction: Direction) -> Rumor {
    Rumor {
        removal: Removal::Sir {
            k: NonZeroU8::new(k).unwrap(),
            notice,
            decision,
        },
        direction,
        fanout: NonZeroU8::MIN,
        interval: CYCLE,
    }
}

/// Demers' push or pull with feedback and a counter.
fn counting(k: u8, direction: Direction) -> Spread {
    Spread::Rumor(rumor(k, Notice::Feedback, Decision::Counter, direction))
}

fn sync(direction: Direction) -> Spread {
    Spread::Sync(Sync {
        direction,
        interval: CYCLE,
    })
}

struct Member {
    epidemic: Epidemic<TestBundle>,
    now: Now,
}

impl Member {
    /// A member with neighbours, whose cycles begin at full seconds.
    fn new(spread: Spread, neighbours: &[u32]) -> Self {
        let config = Config {
            partners: Partners::Neighbours,
            phase: Phase::Aligned,
        };
        let mut member = Self::with(spread, config);
        for peer in neighbours {
            member.handle(Input::NeighbourUp(*peer));
        }
        member
    }

    fn with(spread: Spread, config: Config) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(1);
        Self {
            epidemic: Epidemic::new(spread, config, rng, at(0)).expect("an epidemic"),
            now: at(0),
        }
    }

    fn handle(&mut self, input: Input<u32, TestBundle>) -> Outputs {
        self.epidemic.handle(input, self.now);
        self.drain()
    }

    fn receive(&mut self, from: u32, message: Message<u32, TestBundle>) -> Outputs {
        self.handle(Input::Received { from, message })
    }

    /// Lets the next cycle begin.
    fn cycle(&mut self) -> Outputs {
        let next = self.now.time.as_micros() / 1_000_000 + 1;
        self.now = at(next * 1_000);
        self.epidemic.handle_timeout(self.now);
        self.drain()
    }

    fn drain(&mut self) -> Outputs {
        std::iter::from_fn(|| self.epidemic.poll_output()).collect()
    }
}

/// To whom bundles go, and of which publishers.
fn payloads(outputs: &Outputs) -> Vec<(u32, Vec<u32>)> {
    let sent = |output: &Output<u32, TestBundle>| {
        let Output::Send { to, message } = output else {
            return None;
        };
        let bundles = match message {
            Message::Flood(carried) => std::slice::from_ref(carried),
            Message::Rumors { rumors, .. } => rumors,
            Message::Supply { bundles } => bundles,
            Message::Feedback { .. } | Message::Digest { .. } | Message::Want { .. } => {
                return None;
            }
        };
        let publisher = |carried: &Carried<TestBundle>| carried.bundle.header.stream.publisher;
        (!bundles.is_empty()).then(|| (*to, bundles.iter().map(publisher).collect()))
    };
    outputs.iter().filter_map(sent).collect()
}

fn verdicts(outputs: &Outputs) -> Vec<bool> {
    let heard = |output: &Output<u32, TestBundle>| match output {
        Output::Send {
            message: Message::Feedback { verdicts },
            ..
        } => Some(verdicts[0].needed),
        _ => None,
    };
    outputs.iter().filter_map(heard).collect()
}

fn new_hops(outputs: &Outputs) -> Vec<u8> {
    let hops = |output: &Output<u32, TestBundle>| match output {
        Output::New { hops, .. } => Some(*hops),
        _ => None,
    };
    outputs.iter().filter_map(hops).collect()
}

#[test]
fn the_tree_is_not_run_here() {
    let rng = ChaCha8Rng::seed_from_u64(1);
    assert!(
        Epidemic::<TestBundle>::new(Spread::Tree, Config::default(), rng, at(0)).is_none(),
        "plumtree::Broadcast runs it"
    );
}

#[test]
fn a_flood_goes_once_to_every_neighbour_but_the_source() {
    let mut member = Member::new(Spread::Flood, &[1, 2, 3]);
    let bundle = one(9, 1);
    let outputs = member.receive(2, Message::Flood(carried(&bundle)));
    assert_eq!(new_hops(&outputs), [1]);
    assert_eq!(payloads(&outputs), [(1, vec![9]), (3, vec![9])]);
    let again = member.receive(3, Message::Flood(carried(&bundle)));
    assert!(again.is_empty());
    let counters = member.epidemic.counters();
    assert_eq!(counters.payloads_sent, 2);
    assert_eq!((counters.payloads_new, counters.payloads_duplicate), (1, 1));
    assert_eq!(member.epidemic.held(), 0, "a flood holds nothing");
    let own = member.handle(Input::Publish(one(0, 1)));
    assert_eq!(new_hops(&own), [0]);
    assert_eq!(payloads(&own).len(), 3);
}

#[test]
fn a_rumor_is_told_from_the_cycle_after_the_one_it_came_in() {
    let mut member = Member::new(counting(1, Direction::Push), &[1]);
    assert_eq!(
        member.epidemic.poll_timeout(),
        Time::NEVER,
        "nothing to tell"
    );
    member.cycle();
    // It comes at the very moment at which a cycle begins, before the timer.
    member.receive(1, told(&one(9, 1)));
    member.now = at(2_000);
    member.receive(1, told(&one(8, 1)));
    member.epidemic.handle_timeout(member.now);
    assert_eq!(payloads(&member.drain()), [(1, vec![9])]);
    assert_eq!(member.epidemic.poll_timeout(), at(3_000).time);
    assert_eq!(payloads(&member.cycle()), [(1, vec![8, 9])]);
}

#[test]
fn feedback_says_who_was_first_in_a_cycle_and_the_others_in_it_were_too() {
    let mut member = Member::new(counting(1, Direction::Push), &[1]);
    member.cycle();
    let bundle = one(9, 1);
    assert_eq!(verdicts(&member.receive(1, told(&bundle))), [true]);
    assert_eq!(
        verdicts(&member.receive(2, told(&bundle))),
        [true],
        "unknown when the cycle began"
    );
    assert_eq!(member.epidemic.counters().payloads_duplicate, 1);
    member.cycle();
    assert_eq!(verdicts(&member.receive(3, told(&bundle))), [false]);
}

#[test]
fn a_counter_removes_after_k_unneeded_cycles_in_a_row() {
    let mut member = Member::new(counting(2, Direction::Push), &[1]);
    let bundle = one(9, 1);
    member.receive(1, told(&bundle));
    for (needed, hot) in [(false, 1), (true, 1), (false, 1), (false, 0)] {
        assert_eq!(payloads(&member.cycle()).len(), 1);
        member.receive(1, verdict(&bundle, needed));
        let before = member.epidemic.held();
        assert_eq!(before, 1, "judged once the cycle is over");
        if hot == 0 {
            assert!(payloads(&member.cycle()).is_empty());
        }
    }
    assert_eq!(member.epidemic.held(), 0);
    assert_eq!(member.epidemic.poll_timeout(), Time::NEVER);
    assert_eq!(verdicts(&member.receive(1, told(&bundle))), [false]);
    assert_eq!(member.epidemic.held(), 0, "it stays removed");
}

#[test]
fn one_recipient_in_need_outweighs_the_others_of_a_cycle() {
    let mut member = Member::new(counting(1, Direction::Pull), &[1, 2, 3]);
    let bundle = one(9, 1);
    member.receive(1, told(&bundle));
    member.cycle();
    for (peer, needed) in [(1, false), (2, true), (3, false)] {
        member.receive(peer, verdict(&bundle, needed));
    }
    member.cycle();
    assert_eq!(member.epidemic.held(), 1);
    member.cycle();
    assert_eq!(member.epidemic.held(), 1, "silence says nothing");
    member.receive(1, verdict(&bundle, false));
    member.cycle();
    assert_eq!(member.epidemic.held(), 0);
}

#[test]
fn blind_members_count_every_contact_and_hear_nothing() {
    let blind = rumor(2, Notice::Blind, Decision::Counter, Direction::Push);
    let mut member = Member::new(Spread::Rumor(blind), &[1]);
    assert!(verdicts(&member.receive(1, told(&one(9, 1)))).is_empty());
    assert_eq!(payloads(&member.cycle()).len(), 1);
    assert_eq!(payloads(&member.cycle()).len(), 1);
    assert!(payloads(&member.cycle()).is_empty());
    assert_eq!(member.epidemic.held(), 0);
}

#[test]
fn without_removal_a_rumor_stays_hot() {
    let endless = Rumor {
        removal: Removal::Sis,
        interval: CYCLE,
        ..Rumor::default()
    };
    let mut member = Member::new(Spread::Rumor(endless), &[1]);
    let bundle = one(9, 1);
    assert!(verdicts(&member.receive(1, told(&bundle))).is_empty());
    for _ in 0..50 {
        assert_eq!(payloads(&member.cycle()).len(), 1);
        member.receive(1, verdict(&bundle, false));
    }
}

#[test]
fn a_pull_is_answered_with_what_was_hot_when_the_cycle_began() {
    let mut member = Member::new(counting(1, Direction::Pull), &[1]);
    let ask = || Message::Rumors {
        rumors: Vec::new(),
        ask: true,
    };
    let outputs = member.cycle();
    assert!(
        matches!(&outputs[..], [Output::Send { to: 1, message: Message::Rumors { rumors, ask: true } }] if rumors.is_empty()),
        "a member asks even where it knows nothing"
    );
    assert!(member.receive(1, ask()).is_empty(), "nothing to tell");
    member.receive(1, told(&one(9, 1)));
    assert!(member.receive(2, ask()).is_empty(), "too fresh to tell");
    member.cycle();
    assert_eq!(payloads(&member.receive(2, ask())), [(2, vec![9])]);
    assert_eq!(member.epidemic.counters().requests_sent, 2);
}

#[test]
fn push_pull_does_not_tell_back_what_it_was_just_told() {
    let mut member = Member::new(counting(1, Direction::PushPull), &[1]);
    member.receive(1, told(&one(8, 1)));
    member.receive(1, told(&one(9, 1)));
    let outputs = member.cycle();
    assert_eq!(payloads(&outputs), [(1, vec![8, 9])]);
    let both = Message::Rumors {
        rumors: vec![carried(&one(8, 1)), carried(&one(7, 1))],
        ask: true,
    };
    let outputs = member.receive(2, both);
    assert_eq!(new_hops(&outputs), [1]);
    assert_eq!(payloads(&outputs), [(2, vec![9])]);
}

#[test]
fn the_owner_draws_as_many_partners_as_it_is_asked_for() {
    let push = Rumor {
        fanout: NonZeroU8::new(2).unwrap(),
        ..rumor(4, Notice::Feedback, Decision::Counter, Direction::Push)
    };
    let config = Config {
        partners: Partners::Owner,
        phase: Phase::Aligned,
    };
    let mut member = Member::with(Spread::Rumor(push), config);
    assert!(member.handle(Input::Partner(4)).is_empty(), "not asked for");
    member.handle(Input::Publish(one(0, 1)));
    let outputs = member.cycle();
    assert!(matches!(&outputs[..], [Output::Partner, Output::Partner]));
    assert_eq!(payloads(&member.handle(Input::Partner(4))), [(4, vec![0])]);
    let outputs = member.cycle();
    assert_eq!(outputs.len(), 2, "what went unanswered is void");
    assert_eq!(payloads(&member.handle(Input::Partner(5))).len(), 1);
    assert_eq!(payloads(&member.handle(Input::Partner(6))).len(), 1);
    assert!(member.handle(Input::Partner(7)).is_empty());
}

#[test]
fn neighbours_are_distinct_partners_and_none_means_rest() {
    let push = Rumor {
        fanout: NonZeroU8::new(9).unwrap(),
        ..rumor(4, Notice::Feedback, Decision::Counter, Direction::PushPull)
    };
    let mut member = Member::new(Spread::Rumor(push), &[1, 2, 3]);
    member.handle(Input::Publish(one(0, 1)));
    let mut partners: Vec<_> = payloads(&member.cycle()).iter().map(|to| to.0).collect();
    partners.sort_unstable();
    assert_eq!(partners, [1, 2, 3]);
    for peer in [1, 2, 3] {
        member.handle(Input::NeighbourDown(peer));
    }
    assert_eq!(member.epidemic.poll_timeout(), Time::NEVER);
    member.handle(Input::NeighbourUp(1));
    assert_eq!(member.epidemic.poll_timeout(), at(2_000).time);
}

/// Lets one member contact another and carries their messages until they fall silent; returns the messages by kind.
fn converse(first: &mut Member, second: &mut Member) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let mut waiting: Vec<_> = first.cycle().into_iter().map(|out| (true, out)).collect();
    second.cycle();
    while !waiting.is_empty() {
        let (from_first, output) = waiting.remove(0);
        let Output::Send { message, .. } = output else {
            continue;
        };
        kinds.push(match &message {
            Message::Flood(_) | Message::Rumors { .. } | Message::Feedback { .. } => "rumor",
            Message::Digest { .. } => "digest",
            Message::Want { .. } => "want",
            Message::Supply { .. } => "supply",
        });
        let (to, from) = if from_first {
            (&mut *second, 0)
        } else {
            (&mut *first, 1)
        };
        let answers = to.receive(from, message);
        waiting.extend(answers.into_iter().map(|out| (!from_first, out)));
    }
    kinds
}

#[test]
fn anti_entropy_resolves_differences_in_its_direction() {
    let exchange: [(Direction, &[&str], (bool, bool)); 3] = [
        (
            Direction::Push,
            &["digest", "want", "supply"],
            (false, true),
        ),
        (Direction::Pull, &["digest", "supply"], (true, false)),
        (
            Direction::PushPull,
            &["digest", "supply", "want", "supply"],
            (true, true),
        ),
    ];
    for (direction, kinds, (first_has_all, second_has_all)) in exchange {
        let mut first = Member::new(sync(direction), &[1]);
        let mut second = Member::new(sync(direction), &[0]);
        let (shared, mine, yours) = (one(7, 1), one(7, 2), one(8, 1));
        for bundle in [&shared, &mine] {
            first.handle(Input::Publish(bundle.clone()));
        }
        for bundle in [&shared, &yours] {
            second.handle(Input::Publish(bundle.clone()));
        }
        assert_eq!(converse(&mut first, &mut second), kinds, "{direction:?}");
        assert_eq!(first.epidemic.held() == 3, first_has_all, "{direction:?}");
        assert_eq!(second.epidemic.held() == 3, second_has_all, "{direction:?}");
        let both = [first.epidemic.counters(), second.epidemic.counters()];
        assert!(both.iter().all(|counters| counters.payloads_duplicate == 0));
        if first_has_all && second_has_all {
            assert_eq!(converse(&mut first, &mut second), ["digest"], "in step");
        }
    }
}

#[test]
fn what_was_asked_for_is_not_asked_of_another_in_the_same_cycle() {
    let mut giver = Member::new(sync(Direction::Push), &[1]);
    giver.handle(Input::Publish(one(7, 1)));
    let outputs = giver.cycle();
    let [
        Output::Send {
            message: digest, ..
        },
    ] = &outputs[..]
    else {
        panic!("a digest, not {outputs:?}");
    };
    let mut member = Member::new(sync(Direction::Push), &[1, 2]);
    assert_eq!(member.receive(1, digest.clone()).len(), 1);
    assert!(member.receive(2, digest.clone()).is_empty());
    member.now = at(1_000);
    assert_eq!(member.receive(2, digest.clone()).len(), 1, "it never came");
}

#[test]
fn one_bundle_too_many_displaces_the_oldest_which_is_no_longer_supplied() {
    let mut member = Member::new(sync(Direction::PushPull), &[1]);
    member.handle(Input::Publish(one(0, 1)));
    member.cycle();
    for seq in 2..=HELD_MAX as u64 + 1 {
        member.handle(Input::Publish(one(0, seq)));
    }
    assert_eq!(member.epidemic.held(), HELD_MAX);
    assert_eq!(member.epidemic.counters().displaced, 1);
    let stream = one(0, 1).header().stream;
    let seen = member.epidemic.seen(stream).expect("the stream is known");
    assert_eq!(*seen, Seqs::range(1, HELD_MAX as u64 + 1));
    let empty = Message::Digest {
        streams: Vec::new(),
        direction: Direction::Pull,
    };
    let outputs = member.receive(1, empty);
    assert_eq!(payloads(&outputs)[0].1.len(), HELD_MAX);
    let outputs = member.cycle();
    let [
        Output::Send {
            message: Message::Digest { streams, .. },
            ..
        },
    ] = &outputs[..]
    else {
        panic!("a digest, not {outputs:?}");
    };
    assert_eq!(streams[0].supplies_from, 2);
}

#[test]
fn one_stream_too_many_is_refused() {
    let mut member = Member::new(Spread::Flood, &[1]);
    for publisher in 0..=STREAMS_MAX as u32 {
        member.receive(1, Message::Flood(carried(&one(publisher, 1))));
    }
    let counters = member.epidemic.counters();
    assert_eq!(counters.payloads_new, STREAMS_MAX as u64);
    assert_eq!(counters.refused, 1);
    let known = member.receive(1, Message::Flood(carried(&one(0, 2))));
    assert_eq!(new_hops(&known).len(), 1, "known streams go on");
}

#[test]
fn holes_that_nothing_fills_give_way_oldest_first() {
    let mut member = Member::new(counting(1, Direction::Push), &[1]);
    let many = RANGES_MAX as u64 * 3;
    for seq in (2..=many * 2).step_by(2) {
        let outputs = member.receive(1, told(&one(9, seq)));
        assert_eq!(new_hops(&outputs).len(), 1);
    }
    let seen = member.epidemic.seen(one(9, 1).header.stream).unwrap();
    assert_eq!(seen.range_count(), RANGES_MAX);
    assert_eq!(
        member.epidemic.counters().written_off,
        many - RANGES_MAX as u64
    );
}
