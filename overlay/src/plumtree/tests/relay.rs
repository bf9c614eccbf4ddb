//! What no neighbour holds, and somebody further away does.

use super::*;

/// What the one at the end of a line has published before the others came between.
const LAST: u64 = 5;

/// Members in a line, each a neighbour of those beside it; links take a millisecond.
struct Line {
    members: Vec<Member>,
    millis: u64,
    under_way: Vec<(u32, u32, Message<u32, TestBundle>)>,
    /// Frames with bundles that went over each link, by its ends.
    bundles: BTreeMap<(u32, u32), usize>,
}

impl Line {
    /// The first member was there when the last one published; those in between began later, each at where the one behind it stood.
    fn of(length: u32) -> Self {
        let member = |me: u32, millis: u64| Member {
            broadcast: Broadcast::new(me, Config::default(), at(millis)),
            now: at(millis),
        };
        let mut line = Self {
            members: (0..length).map(|me| member(me, 0)).collect(),
            millis: 0,
            under_way: Vec::new(),
            bundles: BTreeMap::new(),
        };
        let publisher = length - 1;
        for end in [0, publisher] {
            line.input(end, Input::Alone);
        }
        for bundle in chain(stream(publisher), LAST, 0) {
            line.input(publisher, Input::Publish(bundle));
        }
        for newer in (1..publisher).rev() {
            line.members[newer as usize] = member(newer, line.millis);
            line.link(newer, newer + 1);
            line.run(3_000);
            let history = line.members[newer as usize].broadcast.history();
            assert_eq!(history.base(stream(publisher)), LAST);
        }
        line
    }

    fn link(&mut self, a: u32, b: u32) {
        self.input(a, Input::NeighbourUp(b));
        self.input(b, Input::NeighbourUp(a));
    }

    fn input(&mut self, at_member: u32, input: Input<u32, TestBundle>) {
        let member = &mut self.members[at_member as usize];
        member.now = at(self.millis);
        let outputs = member.handle(input);
        self.take(at_member, outputs);
    }

    fn take(&mut self, from: u32, outputs: Vec<Output<u32, TestBundle>>) {
        for output in outputs {
            if let Output::Send { to, message } = output {
                if matches!(message, Message::Bundle { .. }) {
                    *self.bundles.entry((from, to)).or_default() += 1;
                }
                self.under_way.push((from, to, message));
            }
        }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.millis += 1;
            for (from, to, message) in std::mem::take(&mut self.under_way) {
                self.input(to, Input::Received { from, message });
                let member = &mut self.members[to as usize];
                member.broadcast.supply(from, usize::MAX);
                let outputs = member.drain();
                self.take(to, outputs);
            }
            for me in 0..self.members.len() as u32 {
                let outputs = self.members[me as usize].run_to(self.millis);
                self.take(me, outputs);
            }
        }
    }

    fn seen_by(&self, member: u32) -> Option<&Seqs> {
        let publisher = self.members.len() as u32 - 1;
        let history = self.members[member as usize].broadcast.history();
        history.seen(stream(publisher))
    }
}

#[test]
fn what_only_somebody_far_away_holds_comes_through_members_that_began_later() {
    for length in [3, 4, 6] {
        let mut line = Line::of(length);
        line.link(0, 1);
        line.run(10_000);
        assert_eq!(line.seen_by(0), Some(&Seqs::range(1, LAST)), "{length}");
        for link in 1..length {
            assert_eq!(line.bundles[&(link, link - 1)], LAST as usize, "{length}");
        }
        let between = &line.members[1].broadcast;
        assert_eq!(between.history().bytes(), 0, "nothing is kept on the way");
    }
}

#[test]
fn what_nobody_holds_is_asked_for_ever_more_rarely_and_at_last_no_more() {
    let mut member = Member::new(&[1, 2]);
    let id = stream(9);
    let told = || delta(vec![digest(id, Seqs::range(1, 7), 7)]);
    let chain = chain(id, 7, 0);
    member.receive(1, pushed(&chain[6]));
    let mut asked = Vec::new();
    for second in 1..200 {
        for peer in [1, 2] {
            asked.extend(wants(&member.receive(peer, told())));
        }
        for (peer, of, seqs) in wants(&member.run_to(second * 1_000)) {
            assert_eq!((of, &seqs), (id, &Seqs::range(1, 6)));
            asked.push((peer, of, seqs));
        }
        if second == 2 {
            assert_eq!(asked.len(), 2, "each of the two once: {asked:?}");
        }
    }
    assert_eq!(asked.len(), 12, "{asked:?}");
    assert!(member.broadcast.relay.next_timeout() == Time::NEVER);
}

#[test]
fn what_a_neighbour_can_supply_is_not_out_of_sight() {
    let mut member = Member::new(&[1, 2]);
    let id = stream(9);
    member.receive(1, pushed(&chain(id, 7, 0)[6]));
    member.receive(1, delta(vec![digest(id, Seqs::range(1, 7), 7)]));
    member.receive(2, delta(vec![digest(id, Seqs::range(1, 7), 1)]));
    let asked = wants(&member.run_to(1_900));
    assert_eq!(asked, [(2, id, Seqs::range(1, 6))]);
}

/// A member that has begun at the seventh bundle of a stream by neighbour 1's word; neighbour 2 holds everything.
fn between(bundles: &[TestBundle]) -> Member {
    let mut member = Member::joining();
    let id = bundles[0].header.stream;
    let mut head = digest(id, Seqs::range(1, 7), 8);
    head.head = bundles[6].header.hash;
    member.receive(
        1,
        Message::Digest {
            kind: DigestKind::All(vec![Span::ALL]),
            streams: vec![head],
            has_base: true,
        },
    );
    assert_eq!(member.broadcast.history().base(id), 7);
    member.handle(Input::NeighbourUp(2));
    let mut all = digest(id, Seqs::range(1, 7), 1);
    all.head = bundles[6].header.hash;
    member.receive(2, delta(vec![all]));
    member
}

fn want(id: StreamId<u32>, first: u64, last: u64) -> Message<u32, TestBundle> {
    Message::Want {
        ranges: vec![(id, Seqs::range(first, last))],
    }
}

fn supplied(bundle: &TestBundle) -> Message<u32, TestBundle> {
    Message::Bundle {
        bundle: bundle.clone(),
        hops: 1,
        push: Push::Supplied,
    }
}

fn handed_on(outputs: &[Output<u32, TestBundle>]) -> Vec<(u32, u64)> {
    let bundle = |output: &Output<u32, TestBundle>| match output {
        Output::Send {
            to,
            message: Message::Bundle { bundle, .. },
        } => Some((*to, bundle.header.first)),
        _ => None,
    };
    outputs.iter().filter_map(bundle).collect()
}

#[test]
fn what_was_asked_on_is_handed_on_once_and_to_nobody_who_has_not_asked() {
    let id = stream(9);
    let bundles = chain(id, 7, 0);
    let mut member = between(&bundles);
    let asked = wants(&member.receive(1, want(id, 2, 3)));
    assert_eq!(asked, [(2, id, Seqs::range(2, 3))]);
    assert_eq!(wants(&member.receive(1, want(id, 2, 3))), []);
    let came = |member: &mut Member, seq: usize| {
        let outputs = member.receive(2, supplied(&bundles[seq - 1]));
        let is_new = outputs.iter().any(|it| matches!(it, Output::New(_)));
        assert!(!is_new, "it isn't this member's");
        handed_on(&outputs)
    };
    assert_eq!(came(&mut member, 2), [(1, 2)]);
    assert_eq!(came(&mut member, 2), []);
    assert_eq!(came(&mut member, 4), []);
    member.handle(Input::NeighbourDown(1));
    assert_eq!(came(&mut member, 3), []);
}

#[test]
fn a_lost_answer_is_asked_for_again_after_a_while() {
    let id = stream(9);
    let mut member = between(&chain(id, 7, 0));
    assert_eq!(wants(&member.receive(1, want(id, 2, 3))).len(), 1);
    member.run_to(2_500);
    let again = wants(&member.receive(1, want(id, 2, 3)));
    assert_eq!(again, [(2, id, Seqs::range(2, 3))]);
}

#[test]
fn whoever_asks_for_ever_gets_no_more_than_the_rate() {
    let id = stream(9);
    let mut bundles = chain(id, 7, 0);
    let mut member = between(&bundles);
    for bundle in &mut bundles {
        bundle.bytes = 64 * 1024;
    }
    let mut bytes = 0;
    for round in 0..1_000 {
        member.run_to(round * 60);
        member.receive(1, want(id, 1, 7));
        for bundle in &bundles {
            bytes += handed_on(&member.receive(2, supplied(bundle))).len() * bundle.bytes;
        }
    }
    let most = 4 * 1024 * 1024 + 60 * 64 * 1024;
    assert!((most - 128 * 1024..=most).contains(&bytes), "{bytes}");
}
