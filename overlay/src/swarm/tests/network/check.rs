//! The checkers: they watch every delivery, and look at the whole swarm when they are asked to.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Network, Node};
use crate::plumtree::Counters;
use crate::{Header, Seqs, StreamId};

impl Network {
    pub(super) fn delivered(&mut self, at: u32, header: &Header<u32>, from: u64) {
        let (seed, now) = (self.seed, self.now);
        let published = self.published.get(&(header.stream, header.first)).copied();
        let node = self.node(at);
        assert!(node.based_at.is_some(), "delivered before the base");
        let held = node.swarm.held(header).expect("what is delivered is held");
        assert_eq!(held.bundle.header.hash, header.hash);
        let hops = held.hops;
        node.reach(at, header.stream, from, header.last, seed);
        let got = node.got.entry(header.stream).or_default();
        assert!(!got.intersects(from, header.last), "seed {seed}: twice");
        got.insert(from, header.last);
        node.hops.insert((header.stream, header.first), hops);
        if let Some(published) = published {
            node.slowest = node.slowest.max(now.since(published));
        }
    }

    pub(super) fn gap(&mut self, at: u32, stream: StreamId<u32>, from: u64, to: u64) {
        let (seed, now, allowed) = (self.seed, self.now, self.gaps_allowed);
        assert!(
            allowed,
            "seed {seed}: {at} told a gap {stream:?} {from}..={to} at {now:?}"
        );
        let node = self.node(at);
        assert!(from <= to, "seed {seed}: an empty gap");
        let reached = node.reached.get(&stream.publisher).copied();
        let is_late = reached.is_some_and(|(epoch, _)| stream.epoch < epoch);
        if !is_late {
            node.reach(at, stream, from, to, seed);
        }
        let got = node.got.get(&stream);
        assert!(
            !got.is_some_and(|got| got.intersects(from, to)),
            "seed {seed}: {at} told a gap over what it had delivered"
        );
        let told_twice = node
            .gaps
            .iter()
            .any(|(id, f, t)| *id == stream && *f <= to && from <= *t);
        assert!(
            !told_twice,
            "seed {seed}: {at} told {stream:?} {from}..={to} twice"
        );
        node.gaps.push((stream, from, to));
    }

    /// Returns who is a neighbour of whom on one side only.
    pub(crate) fn one_sided(&self) -> Vec<(u32, u32)> {
        let pairs = self
            .nodes
            .iter()
            .flat_map(|(peer, node)| node.up.iter().map(move |other| (*peer, *other)));
        let mutual =
            |peer: &u32, other: &u32| self.nodes.get(other).is_some_and(|n| n.up.contains(peer));
        pairs.filter(|(peer, other)| !mutual(peer, other)).collect()
    }

    pub(crate) fn components(&self) -> usize {
        let mut unseen: BTreeSet<u32> = self.nodes.keys().copied().collect();
        let mut components = 0;
        while let Some(first) = unseen.pop_first() {
            components += 1;
            let mut stack = vec![first];
            while let Some(peer) = stack.pop() {
                stack.extend(
                    self.nodes[&peer]
                        .up
                        .iter()
                        .filter(|other| unseen.remove(other)),
                );
            }
        }
        components
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.one_sided().is_empty() && self.components() == 1
    }

    /// Runs until the views are symmetric and the swarm is one component; returns how long that took.
    pub(crate) fn run_until_whole(&mut self, limit: Duration) -> Duration {
        let start = self.now;
        while !self.is_whole() {
            assert!(
                self.now.since(start) < limit,
                "seed {}: {} components, one-sided {:?} at {:?}",
                self.seed,
                self.components(),
                self.one_sided(),
                self.now
            );
            self.run(Duration::from_millis(20));
        }
        self.now.since(start)
    }

    pub(crate) fn assert_whole(&mut self) {
        self.run_until_whole(Duration::from_secs(1));
        for node in self.nodes.values() {
            assert_eq!(node.up, node.swarm.membership().active().collect());
            node.swarm.check().unwrap();
        }
    }

    /// A member got exactly `from..=to` of a stream, and was told of no gap in it.
    pub(crate) fn assert_got(&self, peer: u32, stream: StreamId<u32>, from: u64, to: u64) {
        let got = self.nodes[&peer]
            .got
            .get(&stream)
            .cloned()
            .unwrap_or_default();
        assert_eq!(
            got,
            Seqs::range(from, to),
            "seed {}: what {peer} got of {stream:?} (base {})",
            self.seed,
            self.nodes[&peer].swarm.history().base(stream)
        );
        let gaps = &self.nodes[&peer].gaps;
        assert!(gaps.iter().all(|(id, ..)| *id != stream), "{gaps:?}");
    }

    pub(crate) fn assert_all_got(&self, stream: StreamId<u32>, from: u64, to: u64) {
        for peer in self.nodes.keys() {
            self.assert_got(*peer, stream, from, to);
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for node in self.nodes.values() {
            let counters = node.swarm.counters();
            sum.bundles_new += counters.bundles_new;
            sum.bundles_duplicate += counters.bundles_duplicate;
            sum.bundles_supplied += counters.bundles_supplied;
            sum.digests_sent += counters.digests_sent;
            sum.grafts_sent += counters.grafts_sent;
            sum.prunes_sent += counters.prunes_sent;
        }
        sum
    }

    /// Returns the relative message redundancy since `before`.
    pub(crate) fn rmr_since(&self, before: Counters) -> f64 {
        let now = self.counters();
        let new = now.bundles_new - before.bundles_new;
        (now.bundles_duplicate - before.bundles_duplicate) as f64 / new.max(1) as f64
    }

    /// Returns the most links that the bundle of a seq travelled.
    pub(crate) fn last_hop(&self, stream: StreamId<u32>, seq: u64) -> u8 {
        let hops = self
            .nodes
            .values()
            .filter_map(|n| n.hops.get(&(stream, seq)));
        hops.copied().max().unwrap_or(0)
    }
}

impl Node {
    /// Deliveries and gaps of a publisher follow each other without a seam.
    fn reach(&mut self, at: u32, stream: StreamId<u32>, from: u64, to: u64, seed: u64) {
        let reached = self.reached.get(&stream.publisher).copied();
        if let Some((epoch, seq)) = reached {
            let follows = if stream.epoch == epoch {
                from == seq + 1
            } else {
                stream.epoch > epoch
            };
            assert!(
                follows,
                "seed {seed}: {at} got {stream:?} {from}..={to} after {epoch}:{seq}"
            );
        }
        self.reached.insert(stream.publisher, (stream.epoch, to));
    }
}
