//! A workload, what came of it, and what must hold of that.
//!
//! - No acknowledged write is lost: in the end every replica holds it, or what covers it.
//! - Every read returns what somebody signed for that key.
//! - What a strict answer acknowledged every later strict answer knows of: reads, and writes that read first, so that
//!   siblings come of concurrent writes alone. Where the membership changes, this is promised while at most one change
//!   isn't settled among the n+1 closest (the design, §5).
//! - After healing all replicas of a key hold the same, which is what all nodes together hold.
//!
//! A write that wasn't answered, or missed its quorum, may be there or not.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use super::network::{Id, Network, SECOND, key};
use crate::kv::{Context, Header, KvKey, Siblings};
use crate::store::{Basis, Call, CallId, Outcome, Terms, Written};
use crate::testing::TestPeer;
use crate::{Peer, Time};

/// Keys of the workload: few, so that writes meet.
const KEYS: u32 = 8;

/// Something that a client asked for.
#[derive(Clone, Debug)]
struct Asked {
    call: CallId,
    key: KvKey,
    begun: Time,
    strict: bool,
    writes: bool,
    reads_first: bool,
}

/// What clients asked for.
#[derive(Default)]
pub(super) struct History {
    asked: Vec<Asked>,
}

/// What is promised to readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Membership doesn't change: always.
    Always,
    /// While at most one change isn't settled among the n+1 closest.
    OneChange,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tallied {
    pub(super) asked: usize,
    pub(super) acknowledged: usize,
    pub(super) strict: usize,
    pub(super) missed: usize,
    /// Answers that the promise was checked on, and stale ones where it isn't given.
    pub(super) checked: usize,
    pub(super) stale: usize,
}

impl History {
    /// Asks a random node for something.
    pub(super) fn ask(&mut self, network: &mut Network) {
        let Some(node) = network.any_up() else {
            return;
        };
        let number = network.rng.random_range(0..KEYS);
        let key = key(&format!("key {number}"));
        let strict = network.rng.random_bool(0.3);
        let terms = Terms {
            strict,
            ..Terms::default()
        };
        let kind = network.rng.random_range(0..10);
        let reads_first = kind < 4;
        let writes = kind < 5;
        let begun = network.time;
        let call = if writes {
            let basis = if reads_first {
                Basis::Read
            } else {
                Basis::Blind
            };
            let content = if network.rng.random_bool(0.1) && reads_first {
                Written::Nothing
            } else {
                Written::Value(Bytes::from(format!("{node} {begun:?}")))
            };
            Call::Put {
                key: key.clone(),
                content,
                ttl: None,
                basis,
                terms,
            }
        } else {
            Call::Get {
                key: key.clone(),
                terms,
            }
        };
        let call = network.call(node, call);
        self.asked.push(Asked {
            call,
            key,
            begun,
            strict,
            writes,
            reads_first,
        });
    }

    /// Works for a while.
    pub(super) fn work(&mut self, network: &mut Network, span: Duration, every: Duration) {
        let until = network.time + span;
        while network.time < until {
            self.ask(network);
            let most = every.as_micros() as u64 * 2;
            let pause = Duration::from_micros(network.rng.random_range(1..most));
            network.run_for(pause);
        }
    }

    /// Checks what must hold.
    pub(super) fn check(&self, network: &Network, promise: Promise) -> Tallied {
        let mut tallied = Tallied {
            asked: self.asked.len(),
            ..Tallied::default()
        };
        self.check_reads(network);
        self.check_kept(network, &mut tallied);
        self.check_promise(network, promise, &mut tallied);
        tallied
    }

    fn check_reads(&self, network: &Network) {
        for asked in &self.asked {
            let Some((_, Outcome::Got { records, .. })) = network.outcomes.get(&asked.call) else {
                continue;
            };
            for record in records {
                assert_eq!(record.header.key, asked.key);
                let signed = network.signed.get(&record.header.id());
                assert_eq!(signed, Some(record), "a value that nobody wrote");
            }
        }
    }

    fn check_kept(&self, network: &Network, tallied: &mut Tallied) {
        for asked in self.asked.iter().filter(|asked| asked.writes) {
            match network.outcomes.get(&asked.call) {
                Some((_, Outcome::Put { replies, header })) => {
                    let record = header.id();
                    tallied.acknowledged += 1;
                    tallied.strict += usize::from(!replies.sloppy);
                    let durable = replies.replicas.iter().filter(|r| r.durable).count();
                    assert!(durable >= replies.need, "{replies:?}");
                    for node in network.closest(&asked.key).into_iter().take(3) {
                        let held = network.held(node, &asked.key);
                        let known = held.context(network.now(node).unix);
                        assert!(
                            known.covers(record.dot) || ends(network, record),
                            "node {node} lost {record:?} of {asked:?}, acknowledged by {replies:?}"
                        );
                    }
                }
                Some((_, Outcome::QuorumNotMet { .. } | Outcome::Refused { .. })) => {
                    tallied.missed += 1;
                }
                _ => {}
            }
        }
    }

    /// What a strict answer knew of its key, and when it came.
    fn known(&self, network: &Network, asked: &Asked) -> Option<(Time, Context<TestPeer>)> {
        match network.outcomes.get(&asked.call)? {
            (
                at,
                Outcome::Got {
                    replies, context, ..
                },
            ) if !replies.sloppy => Some((*at, context.clone())),
            // The read before a strict write is as strict.
            (at, Outcome::Put { .. }) if asked.strict && asked.reads_first => {
                let record = &network.signed[&network.signed_for[&asked.call]];
                let own = [record.header.interval()];
                let cited = record.header.context.intervals().iter().copied();
                Some((*at, Context::union(cited.chain(own))))
            }
            _ => None,
        }
    }

    fn check_promise(&self, network: &Network, promise: Promise, tallied: &mut Tallied) {
        let mut writes = Vec::new();
        for asked in self.asked.iter().filter(|asked| asked.writes) {
            if let Some((at, Outcome::Put { replies, header })) = network.outcomes.get(&asked.call)
                && !replies.sloppy
            {
                writes.push((asked, *at, header.id(), replies));
            }
        }
        for asked in &self.asked {
            let Some((answered, known)) = self.known(network, asked) else {
                continue;
            };
            for (write, at, record, replies) in &writes {
                if write.key != asked.key || *at >= asked.begun {
                    continue;
                }
                let span = (write.begun, answered);
                tallied.checked += 1;
                if known.covers(record.dot) || ends(network, *record) {
                    continue;
                }
                tallied.stale += 1;
                assert!(
                    promise == Promise::OneChange && changes(network, &asked.key, span) > 1,
                    "{asked:?} answered at {answered:?} without {record:?}, which {write:?} wrote by \
                     {at:?} at {replies:?}: {:?}\nThe nodes by distance: {:#?}",
                    network.outcomes.get(&asked.call),
                    changes_of_all(network, &asked.key)
                );
            }
        }
    }

    /// Checks that all replicas of each key hold the same.
    pub(super) fn check_converged(network: &Network) {
        for number in 0..KEYS {
            let key = key(&format!("key {number}"));
            let lasting = |siblings: &Siblings<Header<TestPeer>>| -> Vec<Id> {
                let ids = siblings.iter().map(Header::id);
                ids.filter(|&id| !ends(network, id)).collect()
            };
            let mut all = Siblings::new();
            for node in network.up() {
                let unix = network.now(node).unix;
                for header in &network.held(node, &key) {
                    all.merge(header.clone(), unix).unwrap();
                }
            }
            for node in network.closest(&key).into_iter().take(3) {
                let held = network.held(node, &key);
                assert_eq!(lasting(&held), lasting(&all), "node {node}, {key}");
            }
        }
    }
}

/// Whether a record need not be there any more: a deletion of nothing, which isn't kept.
fn ends(network: &Network, record: Id) -> bool {
    let ends_at = network.signed[&record].header.ends_at();
    ends_at.is_some_and(|end| end < network.now(0).unix + Duration::from_secs(24 * 3600))
}

/// How many changes of the n+1 closest were under way at once, at the worst moment of a span.
///
/// Who the closest are is asked of that moment: one that joined later is none of them, nor is one that was given up by
/// everybody or has left. Changes that follow each other are one at a time.
fn changes(network: &Network, key: &KvKey, (from, to): (Time, Time)) -> usize {
    let all = network.nodes.values().flat_map(|node| &node.unsettled);
    // There are never more than when one has just begun.
    let begun = all.map(|&(begun, _)| begun);
    let moments = begun.filter(|&begun| from < begun && begun <= to);
    let at_once = |at: Time| {
        let mut closest = network.members(at);
        closest.sort_by_key(|&id| TestPeer(id).point() ^ key.point());
        let neighbours = closest.into_iter().take(4);
        neighbours
            .filter(|id| network.nodes[id].is_changing(at))
            .count()
    };
    moments.chain([from]).map(at_once).max().unwrap_or(0)
}

/// Returns all nodes by their distance from a key, with what has become of their membership.
fn changes_of_all(network: &Network, key: &KvKey) -> Vec<String> {
    let mut all: Vec<_> = network.nodes.iter().collect();
    all.sort_by_key(|&(&id, _)| TestPeer(id).point() ^ key.point());
    let all = all.into_iter();
    all.map(|(id, node)| format!("{id}: changed {:?}, left {:?}", node.unsettled, node.left))
        .collect()
}

/// Brings a network to rest: all is well, and everybody compares with everybody.
pub(super) fn rest(network: &mut Network) {
    network.heal();
    network.weather = super::network::FAIR;
    for node in network.nodes.values_mut() {
        node.disk.fails = None;
        node.ahead = 0;
    }
    network.run_for(15 * SECOND);
    network.settle(60 * SECOND);
    for _ in 0..2 {
        for node in network.up() {
            network.ask(node, Call::Synchronise);
        }
        network.run_for(80 * SECOND);
    }
}
