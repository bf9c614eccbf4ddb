//! Whole histories of a key against a model that remembers everything: which dots each write had seen, one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const REPLICAS: usize = 3;
const WRITERS: u32 = 3;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A client of a writer's daemon writes what takes the place of all that a replica shows; some replicas get it.
    Write {
        writer: u32,
        read: usize,
        to: [bool; REPLICAS],
    },
    /// The same with what an earlier read showed.
    WriteLate {
        writer: u32,
        read: usize,
        to: [bool; REPLICAS],
    },
    /// A client writes without having read.
    WriteBlind { writer: u32, to: [bool; REPLICAS] },
    /// A client of the daemon writes another key.
    WriteElsewhere { writer: u32 },
    /// A daemon starts again and has forgotten its last dot of the key.
    Restart { writer: u32 },
    /// A replica gets all that another one has.
    Sync { from: usize, to: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let writer = || 0..WRITERS;
    let replica = || 0..REPLICAS;
    let to = any::<[bool; REPLICAS]>;
    prop_oneof![
        4 => (writer(), replica(), to()).prop_map(|(writer, read, to)| Step::Write { writer, read, to }),
        2 => (writer(), replica(), to()).prop_map(|(writer, read, to)| Step::WriteLate { writer, read, to }),
        1 => (writer(), to()).prop_map(|(writer, to)| Step::WriteBlind { writer, to }),
        1 => writer().prop_map(|writer| Step::WriteElsewhere { writer }),
        1 => writer().prop_map(|writer| Step::Restart { writer }),
        2 => (replica(), replica()).prop_map(|(from, to)| Step::Sync { from, to }),
    ]
}

/// What a read showed: the context that a client keeps, and what the model knows that it saw.
#[derive(Clone, Default)]
struct Read {
    context: Context<TestPeer>,
    saw: BTreeSet<Dot<TestPeer>>,
}

#[derive(Default)]
struct World {
    replicas: [Siblings<Header<TestPeer>>; REPLICAS],
    /// What each replica showed before the last step.
    earlier: [Read; REPLICAS],
    /// Each daemon's run, its writes of that run, and its last dot of the key if it knows that.
    daemons: BTreeMap<u32, (u64, u64, Option<Seq>)>,
    writes: Vec<Header<TestPeer>>,
    /// Of each write, every dot that its writer had seen.
    saw: BTreeMap<Dot<TestPeer>, BTreeSet<Dot<TestPeer>>>,
}

impl World {
    fn read(&self, replica: usize) -> Read {
        let siblings = &self.replicas[replica];
        let dots = siblings.iter().map(|held| held.dot);
        let saw = dots.flat_map(|dot| self.saw[&dot].iter().copied().chain([dot]));
        Read {
            context: siblings.context(NOW),
            saw: saw.collect(),
        }
    }

    fn step(&mut self, step: &Step) {
        let shows: [Read; REPLICAS] = std::array::from_fn(|replica| self.read(replica));
        match step {
            Step::Write { writer, read, to } => self.write(*writer, shows[*read].clone(), to),
            Step::WriteLate { writer, read, to } => {
                self.write(*writer, self.earlier[*read].clone(), to);
            }
            Step::WriteBlind { writer, to } => self.write(*writer, Read::default(), to),
            Step::WriteElsewhere { writer } => self.daemon(*writer).1 += 1,
            Step::Restart { writer } => {
                let daemon = self.daemon(*writer);
                *daemon = (daemon.0 + 1, 0, None);
            }
            Step::Sync { from, to } => {
                for record in self.replicas[*from].clone() {
                    self.arrive(*to, record);
                }
            }
        }
        self.earlier = shows;
    }

    fn daemon(&mut self, writer: u32) -> &mut (u64, u64, Option<Seq>) {
        self.daemons.entry(writer).or_insert((1, 0, None))
    }

    fn write(&mut self, writer: u32, read: Read, to: &[bool; REPLICAS]) {
        let daemon = self.daemon(writer);
        daemon.1 += 1;
        let seq = Seq {
            epoch: daemon.0,
            counter: daemon.1,
        };
        let mut record = super::write(writer, 0, read.context);
        record.dot.seq = seq;
        record.prev = daemon.2.replace(seq);
        assert_eq!(record.check(), Ok(()));
        self.saw.insert(record.dot, read.saw);
        self.writes.push(record.clone());
        for replica in (0..REPLICAS).filter(|replica| to[*replica]) {
            self.arrive(replica, record.clone());
        }
    }

    /// Merges a record into a replica's, and checks that what isn't kept was seen by the writer of what is.
    fn arrive(&mut self, replica: usize, record: Header<TestPeer>) {
        let siblings = &mut self.replicas[replica];
        let dot = record.dot;
        let entered = siblings.merge(record, NOW).expect("few writes have room");
        let seen = |dot| {
            siblings
                .iter()
                .any(|held| self.saw[&held.dot].contains(&dot))
        };
        match entered {
            Entered::New { dropped } => assert!(dropped.iter().all(|dropped| seen(dropped.dot))),
            Entered::Known => assert!(siblings.iter().any(|held| held.dot == dot)),
            Entered::Covered => assert!(seen(dot)),
        }
        assert!(
            !siblings.iter().any(|held| seen(held.dot)),
            "a write that was seen is kept"
        );
    }

    /// Returns the writes that no other write's writer had seen.
    fn unseen(&self) -> Vec<Header<TestPeer>> {
        let seen = |dot| self.saw.values().any(|saw| saw.contains(dot));
        let unseen = self.writes.iter().filter(|write| !seen(&write.dot));
        let mut unseen: Vec<_> = unseen.cloned().collect();
        unseen.sort_by_key(Header::id);
        unseen
    }
}

/// Returns the world after some steps, and the writes in another order.
fn any_history() -> impl Strategy<Value = (Vec<Step>, Vec<usize>)> {
    let steps = proptest::collection::vec(any_step(), 0..24);
    let order = Just((0..24).collect::<Vec<usize>>()).prop_shuffle();
    (steps, order)
}

fn after(steps: &[Step]) -> World {
    let mut world = World::default();
    for step in steps {
        world.step(step);
    }
    world
}

proptest! {
    #[test]
    fn what_is_held_is_what_no_other_writer_had_seen((steps, order) in any_history()) {
        let mut world = after(&steps);
        for index in order {
            for replica in 0..REPLICAS {
                // Each replica gets what it missed in an order of its own.
                let index = (index + 7 * replica) % 24;
                if let Some(write) = world.writes.get(index).cloned() {
                    world.arrive(replica, write);
                }
            }
        }
        for siblings in &world.replicas {
            prop_assert_eq!(&siblings.0, &world.unseen());
        }
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent((steps, order) in any_history()) {
        let world = after(&steps);
        let merged = |into: &Siblings<_>, from: &Siblings<_>| {
            let mut into = into.clone();
            for record in from.clone() {
                let _ = into.merge(record, NOW).expect("few writes have room");
            }
            into
        };
        let [a, b, c] = &world.replicas;
        prop_assert_eq!(merged(a, b), merged(b, a));
        prop_assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)));
        prop_assert_eq!(&merged(a, a), a);

        let shuffled = order.iter().filter_map(|index| world.writes.get(*index).cloned());
        prop_assert_eq!(of(shuffled), of(world.writes.clone()));
    }

    #[test]
    fn records_of_any_context_keep_the_bounds_and_never_one_that_is_covered(
        writes in proptest::collection::vec((0..40_u32, 1..4_u64, 0..40_u32, 0..4_u64), 0..120)
    ) {
        let mut siblings = Siblings::new();
        for (writer, counter, cited, upto) in writes {
            let interval = Interval::of_dot(blind(cited, upto).dot, Some(Seq::ZERO), None);
            let context = if cited == writer { Context::new() } else { Context::union([interval]) };
            let before = siblings.clone();
            if siblings.merge(write(writer, counter, context), NOW).is_err() {
                prop_assert_eq!(&siblings, &before);
            }
            prop_assert!(siblings.len() <= SIBLINGS_MAX);
            prop_assert!(siblings.context(NOW).intervals().len() <= CONTEXT_INTERVALS_MAX);
            let held: Vec<_> = siblings.iter().collect();
            prop_assert!(!held.iter().any(|one| held.iter().any(|other| covers(one, other))));
        }
    }
}
