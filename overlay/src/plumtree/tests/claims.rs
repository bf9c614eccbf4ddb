//! Where a joining member begins by the word of a neighbour that lies.

use super::*;

const LIAR: u32 = 1;
const HONEST: u32 = 2;
const PUBLISHER: u32 = 9;
const EVERYTHING: u64 = (1 << 53) - 1;
/// When the member begins, and the publisher is at 50.
const BEGIN: u64 = 10_000;

/// A member with a subscriber, whose first neighbour says where the publisher stands.
struct Joiner {
    member: Member,
    delivery: Delivery<u32>,
    got: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    blamed: Vec<u32>,
    /// What the honest neighbour holds.
    held: Vec<TestBundle>,
}

impl Joiner {
    fn new(start: Start, claims: Vec<StreamDigest<u32>>) -> Self {
        let config = Config {
            start,
            ..Config::default()
        };
        let mut joiner = Self {
            member: Member {
                broadcast: Broadcast::new(ME, config, at(BEGIN)),
                now: at(BEGIN),
            },
            delivery: Delivery::new(),
            got: Vec::new(),
            gaps: Vec::new(),
            blamed: Vec::new(),
            held: Vec::new(),
        };
        joiner.tell(Input::NeighbourUp(LIAR));
        let message = Message::Digest {
            kind: DigestKind::All(vec![Span::ALL]),
            streams: claims,
            has_base: true,
        };
        joiner.receive(LIAR, message);
        assert!(joiner.member.broadcast.has_base());
        joiner.tell(Input::NeighbourUp(HONEST));
        joiner
    }

    fn receive(&mut self, from: u32, message: Message<u32, TestBundle>) {
        self.tell(Input::Received { from, message });
    }

    fn tell(&mut self, input: Input<u32, TestBundle>) {
        let outputs = self.member.handle(input);
        self.carry_out(outputs);
    }

    fn run_to(&mut self, millis: u64) {
        while self.member.now.time < at(millis).time {
            let next = self.member.now.time.as_micros() / 1_000 + 100;
            let outputs = self.member.run_to(next.min(millis));
            self.carry_out(outputs);
            let broadcast = &self.member.broadcast;
            self.delivery.handle_timeout(broadcast, self.member.now);
            self.deliver();
        }
    }

    /// Carries out what the broadcast orders; the honest neighbour supplies what it is asked for.
    fn carry_out(&mut self, outputs: Vec<Output<u32, TestBundle>>) {
        for output in outputs {
            match output {
                Output::New(header) => {
                    let broadcast = &self.member.broadcast;
                    self.delivery.received(&header, broadcast, self.member.now);
                }
                Output::Based => self.delivery.start(&self.member.broadcast, self.member.now),
                Output::BaseLowered { stream, from } => self.delivery.base_lowered(stream, from),
                Output::Misbehaviour { peer, .. } => self.blamed.push(peer),
                Output::Send {
                    to: HONEST,
                    message: Message::Want { ranges },
                } => {
                    for (id, seqs) in ranges {
                        self.supply(id, &seqs);
                    }
                }
                _ => {}
            }
            self.deliver();
        }
    }

    fn supply(&mut self, id: StreamId<u32>, seqs: &Seqs) {
        let asked: Vec<_> = self
            .held
            .iter()
            .filter(|bundle| bundle.header.stream == id)
            .filter(|bundle| seqs.intersects(bundle.header.first, bundle.header.last))
            .cloned()
            .collect();
        for bundle in asked {
            let message = Message::Bundle {
                bundle,
                hops: 1,
                push: Push::Supplied,
            };
            self.receive(HONEST, message);
        }
    }

    fn deliver(&mut self) {
        while let Some(delivered) = self.delivery.poll_output() {
            match delivered {
                Delivered::Bundle { header, from } => self.got.extend(from..=header.last),
                Delivered::Gap { from, to, .. } => self.gaps.push((from, to)),
            }
        }
    }

    /// The honest neighbour says what it has up to a seq.
    fn announce(&mut self, last: u64) {
        let first = self.held.first().map_or(1, |bundle| bundle.header.first);
        let told = StreamDigest {
            head: self.held[(last - first) as usize].header.hash,
            ..digest(stream(PUBLISHER), Seqs::range(1, last), first)
        };
        self.receive(HONEST, delta(vec![told]));
    }

    fn assert_whole(&self, from: u64, last: u64) {
        assert_eq!(self.got, (from..=last).collect::<Vec<_>>());
        assert_eq!(self.gaps, []);
    }
}

/// What the publisher published: up to 50 before the member begins, then one each half second. The first 39 aren't held any more.
fn published() -> Vec<TestBundle> {
    let mut head = None;
    let mut all = Vec::new();
    for seq in 1..=60 {
        let millis = match seq {
            ..=50 => seq * 100,
            _ => BEGIN + (seq - 50) * 500,
        };
        let next = bundle(stream(PUBLISHER), (seq, seq), head, at(millis).unix, 0);
        head = Some(next.header.hash);
        all.push(next);
    }
    all.split_off(39)
}

fn claim(last: u64) -> StreamDigest<u32> {
    digest(stream(PUBLISHER), Seqs::range(1, last), 1)
}

/// A joiner whose honest neighbour holds what was published.
fn joiner(claims: Vec<StreamDigest<u32>>) -> Joiner {
    let mut joiner = Joiner::new(Start::Latest, claims);
    joiner.held = published();
    joiner
}

#[test]
fn a_head_that_never_was_hides_nothing_that_is_pushed() {
    let mut joiner = joiner(vec![claim(EVERYTHING)]);
    joiner.announce(50);
    for seq in 51..=60 {
        joiner.run_to(BEGIN + (seq - 50) * 500 + 5);
        let next = joiner.held[seq as usize - 40].clone();
        joiner.receive(HONEST, pushed(&next));
        joiner.announce(seq);
    }
    joiner.run_to(BEGIN + 6_000);
    joiner.assert_whole(51, 60);
    assert_eq!(joiner.blamed, [LIAR]);
}

#[test]
fn a_head_that_never_was_hides_nothing_that_is_only_announced() {
    for ahead in [1, 3, 9, 10, 11, EVERYTHING - 50] {
        let mut joiner = joiner(vec![claim(50 + ahead)]);
        joiner.announce(50);
        for seq in 51..=60 {
            joiner.run_to(BEGIN + (seq - 50) * 500 + 5);
            joiner.announce(seq);
        }
        joiner.run_to(BEGIN + 8_000);
        joiner.announce(60);
        joiner.run_to(BEGIN + 9_000);
        joiner.assert_whole(51, 60);
        assert_eq!(joiner.blamed, [LIAR], "{ahead} ahead");
    }
}

#[test]
fn what_a_keeper_is_told_that_nobody_can_supply_hides_nothing_that_is_published() {
    for ahead in [1, 10, 11, EVERYTHING - 50] {
        let nothing_held = StreamDigest {
            supplies_from: 51 + ahead,
            ..claim(50 + ahead)
        };
        let mut joiner = Joiner::new(Start::Retained, vec![nothing_held]);
        joiner.held = published();
        joiner.announce(50);
        for seq in 51..=60 {
            joiner.run_to(BEGIN + (seq - 50) * 500 + 5);
            joiner.announce(seq);
        }
        joiner.run_to(BEGIN + 9_000);
        joiner.assert_whole(51, 60);
        assert_eq!(joiner.blamed, [LIAR], "{ahead} ahead");
    }
}

#[test]
fn what_is_published_at_once_and_never_followed_is_found() {
    let mut joiner = joiner(vec![claim(EVERYTHING)]);
    joiner.announce(50);
    joiner.run_to(BEGIN + 510);
    let only = joiner.held[11].clone();
    joiner.receive(HONEST, pushed(&only));
    for _ in 0..4 {
        joiner.announce(51);
        joiner.run_to(joiner.member.now.time.as_micros() / 1_000 + 1_000);
    }
    joiner.assert_whole(51, 51);
}

#[test]
fn a_true_base_stands_and_old_bundles_are_not_delivered() {
    let truth = StreamDigest {
        head: published()[10].header.hash,
        ..claim(50)
    };
    let mut joiner = joiner(vec![truth]);
    for round in 0..3 {
        // One that lags, and copies that come late.
        joiner.announce(45 + round);
        joiner.supply(stream(PUBLISHER), &Seqs::range(40, 50));
        joiner.run_to(BEGIN + (round + 1) * 1_500);
    }
    assert_eq!((&joiner.got[..], &joiner.blamed[..]), (&[][..], &[][..]));
    joiner.announce(55);
    joiner.run_to(BEGIN + 6_000);
    joiner.assert_whole(51, 55);
    assert_eq!(joiner.blamed, [] as [u32; 0]);
}

#[test]
fn a_true_seq_under_a_false_hash_brings_no_old_message() {
    let mut joiner = joiner(vec![claim(50)]);
    joiner.announce(50);
    joiner.run_to(BEGIN + 1_000);
    assert_eq!(joiner.got, [] as [u64; 0]);
    joiner.announce(53);
    joiner.run_to(BEGIN + 3_000);
    joiner.assert_whole(51, 53);
}

#[test]
fn nobody_else_says_what_this_member_has_published() {
    let own = stream(ME);
    let mut joiner = Joiner::new(
        Start::Latest,
        vec![digest(own, Seqs::range(1, EVERYTHING), 1)],
    );
    for bundle in chain(own, 3, BEGIN) {
        joiner.tell(Input::Publish(bundle));
    }
    joiner.assert_whole(1, 3);
    let history = joiner.member.broadcast.history();
    assert_eq!(history.seen(own), Some(&Seqs::range(1, 3)));
    assert!(history.held(own, 1).is_some());
}

#[test]
fn epochs_that_never_began_hide_nothing() {
    let made_up = (1..=8).map(|later| {
        let id = StreamId {
            epoch: EPOCH + later,
            ..stream(PUBLISHER)
        };
        digest(id, Seqs::range(1, 5), 6)
    });
    for with_true_one in [false, true] {
        let mut claims: Vec<_> = made_up.clone().collect();
        if with_true_one {
            claims.truncate(7);
            claims.push(StreamDigest {
                head: published()[10].header.hash,
                ..claim(50)
            });
        }
        let mut joiner = joiner(claims);
        if !with_true_one {
            // It begins after the member does.
            let mut head = None;
            joiner.held = (1..=10)
                .map(|seq| {
                    let next = bundle(
                        stream(PUBLISHER),
                        (seq, seq),
                        head,
                        at(BEGIN + seq * 500).unix,
                        0,
                    );
                    head = Some(next.header.hash);
                    next
                })
                .collect();
        }
        let first = if with_true_one { 51 } else { 1 };
        for seq in first..first + 10 {
            joiner.run_to(BEGIN + (seq - first + 1) * 500 + 5);
            joiner.announce(seq);
        }
        joiner.run_to(BEGIN + 9_000);
        joiner.assert_whole(first, first + 9);
    }
}
