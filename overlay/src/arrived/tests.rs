//! Who makes room, and that what is counted is what is held.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use weft_identity::Hash;

use super::*;
use crate::history::{Admission, Config};
use crate::retained::Earlier;
use crate::swarm::tests::network::UNIX_START;
use crate::swarm::tests::values::{TestBundle, bundle};
use crate::{Now, Time};

/// What one bundle costs here.
const COST: usize = 200;
/// Bundles that fit, and those of a share.
const FIT: usize = 80;
const SHARE: usize = FIT / SHARES;

/// A history that is full with [`FIT`] bundles, and who publishes what in it.
struct Scene {
    history: History<TestBundle>,
    at: u64,
    /// The last seq and hash of each stream.
    heads: BTreeMap<StreamId<u32>, (u64, Hash)>,
}

impl Scene {
    fn new() -> Self {
        let history = History::new(Config {
            bytes_max: FIT * COST,
            age_max: Duration::from_secs(1_000),
            horizon: Duration::from_secs(10_000),
            epochs_max: 3,
            epochs_spent_max: 3,
            ..Config::default()
        });
        Self {
            history,
            at: 0,
            heads: BTreeMap::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            time: Time::ZERO + Duration::from_secs(self.at),
            unix: UnixMicros(UNIX_START) + Duration::from_secs(self.at),
        }
    }

    /// A second passes, and a bundle of a publisher's run comes that is next in it.
    fn publish(&mut self, publisher: u32, run: u64, messages: u64) {
        self.at += 1;
        let id = stream(publisher, run);
        let (last, head) = self.heads.get(&id).copied().unzip();
        let first = last.unwrap_or(0) + 1;
        let last = first + messages - 1;
        let now = self.now();
        let bundle = bundle(id, (first, last), head, now.unix, 0);
        self.heads.insert(id, (last, bundle.header.hash));
        let admitted = self.history.admit(&bundle, 1, Some(9), now);
        assert_eq!(admitted, Admission::New);
    }

    fn held_of(&self, publisher: u32) -> Vec<u64> {
        let held = self.history.held_in_order().map(|held| held.bundle.header);
        let its = held.filter(|header| header.stream.publisher == publisher);
        its.map(|header| header.first).collect()
    }

    /// What is counted is what is held.
    fn check(&self) {
        let history = &self.history;
        let streams = history.streams.values();
        let held: Vec<&Held<TestBundle>> = streams.flat_map(|it| it.held.values()).collect();
        let messages = held.iter().map(|held| {
            let header = held.bundle.header;
            header.last - header.first + 1
        });
        assert_eq!(history.bundles(), held.len());
        assert_eq!(history.bytes(), held.len() * COST);
        assert_eq!(history.messages(), messages.sum::<u64>());
        let in_order: Vec<UnixMicros> = history.held_in_order().map(|it| it.received_at).collect();
        assert_eq!(in_order.len(), held.len());
        assert!(in_order.is_sorted());
        let ends = in_order.first().copied().zip(in_order.last().copied());
        assert_eq!(history.span(), ends);
        assert!(history.bytes() <= history.config.bytes_max);
    }
}

fn stream(publisher: u32, run: u64) -> StreamId<u32> {
    let epoch = UNIX_START / 1_000 - 100 + run;
    StreamId { publisher, epoch }
}

#[test]
fn a_publisher_that_floods_makes_room_itself() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.publish(1, 0, 1);
        scene.publish(2, 0, 1);
    }
    for _ in 0..500 {
        scene.publish(3, 0, 1);
    }
    // The hour of the others stays whole, and the flood's newest is all the rest.
    assert_eq!(scene.held_of(1), [1, 2, 3, 4, 5]);
    assert_eq!(scene.held_of(2), [1, 2, 3, 4, 5]);
    assert_eq!(scene.held_of(3), (431..=500).collect::<Vec<_>>());
    scene.check();
    // A second flood and the first come to have the same.
    for _ in 0..200 {
        scene.publish(3, 0, 1);
        scene.publish(4, 0, 1);
    }
    assert_eq!(scene.held_of(1).len() + scene.held_of(2).len(), 10);
    assert_eq!(scene.held_of(3).len(), scene.held_of(4).len());
    scene.check();
    // With age everything goes, whoever has published it.
    scene.at += 2_000;
    let now = scene.now().time;
    scene.history.shed(now);
    assert_eq!((scene.history.bundles(), scene.history.span()), (0, None));
}

#[test]
fn who_publishes_alone_has_all_the_room() {
    let mut scene = Scene::new();
    for _ in 0..200 {
        scene.publish(1, 0, 2);
    }
    assert_eq!(scene.held_of(1).len(), FIT);
    assert_eq!(scene.history.messages(), 2 * FIT as u64);
    scene.check();
}

#[test]
fn among_those_with_no_more_than_a_share_the_oldest_goes() {
    let mut scene = Scene::new();
    for publisher in (0..40).cycle().take(400) {
        scene.publish(publisher, 0, 1);
    }
    let oldest = scene.history.span().unwrap().0;
    assert_eq!(
        scene.now().unix.since(oldest),
        Duration::from_secs(FIT as u64 - 1)
    );
    // One of them becomes loud, and loses its own beyond a share before others lose anything.
    for _ in 0..SHARE {
        scene.publish(0, 0, 1);
    }
    let others = (1..40).map(|other| scene.held_of(other).len());
    let others = others.sum::<usize>();
    for _ in 0..100 {
        scene.publish(0, 0, 1);
    }
    assert_eq!(
        (1..40)
            .map(|other| scene.held_of(other).len())
            .sum::<usize>(),
        others
    );
    scene.check();
}

/// What may happen to a history.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        publisher: u32,
        run: u64,
        messages: u64,
    },
    DropOldest,
    MakeRoom,
    /// Time passes, and what is too old goes.
    Wait(u64),
    /// A bundle that went comes back, from somebody who has it still.
    FetchEarlier(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u32..4, 0u64..5, 1u64..4).prop_map(|(publisher, run, messages)| Step::Publish {
            // One publishes most.
            publisher: if publisher < 3 { 0 } else { 1 + run as u32 },
            run: if run < 4 { 0 } else { run },
            messages,
        }),
        1 => Just(Step::DropOldest),
        1 => Just(Step::MakeRoom),
        1 => (0u64..300).prop_map(Step::Wait),
        1 => (0u32..6).prop_map(Step::FetchEarlier),
    ]
}

proptest! {
    #[test]
    fn what_is_counted_is_what_is_held(steps in prop::collection::vec(step(), 0..1_000)) {
        let mut scene = Scene::new();
        let mut early: BTreeMap<u32, TestBundle> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish { publisher, run, messages } => {
                    // Of a run that is older than its newest three nothing enters any more.
                    let run = run.max(scene.heads.keys().filter(|id| id.publisher == publisher).map(|id| id.epoch - stream(0, 0).epoch).max().unwrap_or(0));
                    scene.publish(publisher, run, messages);
                    let newest = scene.history.held_in_order().last().map(|held| held.bundle.clone());
                    early.entry(publisher).or_insert(newest.unwrap());
                }
                Step::DropOldest => drop(scene.history.drop_oldest()),
                Step::MakeRoom => drop(scene.history.make_room()),
                Step::Wait(seconds) => {
                    scene.at += seconds;
                    let now = scene.now().time;
                    scene.history.shed(now);
                }
                Step::FetchEarlier(publisher) => {
                    let now = scene.now();
                    let oldest = scene.history.span().map_or(now.unix, |(oldest, _)| oldest);
                    let earlier = early.get(&publisher).cloned().map(|bundle| Earlier {
                        bundle,
                        hops: 1,
                        received_at: oldest,
                    });
                    let room = scene.history.bytes() + COST <= scene.history.config.bytes_max;
                    scene.history.take_earlier(earlier.into_iter().filter(|_| room).collect(), now);
                }
            }
            scene.check();
        }
    }
}
