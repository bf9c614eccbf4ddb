//! One stream as a member knows it: what it has seen, what it still holds, and whether new bundles fit.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_identity::Hash;

use crate::claim::{Claim, Recovery};
use crate::digest::StreamDigest;
use crate::{Bundle, Header, PreviousEpoch, Seqs, StreamId, Time, UnixMicros};

/// A bundle that is kept to be supplied and delivered.
#[derive(Clone, Debug)]
pub struct Held<B> {
    /// The bundle.
    pub bundle: B,
    /// Links it has travelled to come here.
    pub hops: u8,
    /// When it came, by the wall clock.
    pub received_at: UnixMicros,
    pub(crate) received: Time,
    /// How old it was by then: it came to an earlier run, or to somebody else first.
    pub(crate) older: Duration,
}

impl<B> Held<B> {
    /// Returns how long ago it came.
    pub(crate) fn age(&self, now: Time) -> Duration {
        now.since(self.received).saturating_add(self.older)
    }
}

/// How a header stands to what is known of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    New,
    Duplicate,
    /// Another bundle was accepted for one of its places.
    Conflict,
    /// Its predecessor's hash is not that of the bundle before it.
    BrokenChain,
    /// It would open more holes than a set of seqs can hold.
    TooManyHoles,
}

#[derive(Clone, Debug)]
pub(crate) struct Stream<B: Bundle> {
    /// Every seq that was received, or lies before this member's base.
    pub(crate) seen: Seqs,
    /// The bundles that are still held, by first seq.
    pub(crate) held: BTreeMap<u64, Held<B>>,
    /// What they cost.
    pub(crate) bytes: usize,
    /// All seen seqs from here on are held.
    pub(crate) supplies_from: u64,
    /// The last seq that counts as seen because this member starts after it.
    pub(crate) base: u64,
    /// Whose word the base is, as long as no bundle has proven it.
    pub(crate) claim: Option<Claim<B::Peer>>,
    /// What is made good of a base that was proven false.
    pub(crate) recovery: Option<Recovery>,
    /// Hash of the bundle that ends at the last seen seq.
    pub(crate) head: Hash,
    /// When the bundle at the head came, or would have come over the parent of today.
    pub(crate) head_at: Time,
    /// What the epoch's first bundle says of the epoch before.
    pub(crate) previous_epoch: Option<PreviousEpoch>,
    /// Who brought it here; none where it is this member's own.
    pub(crate) source: Option<B::Peer>,
    /// When something new was last seen of it.
    pub(crate) touched: Time,
}

impl<B: Bundle> Stream<B> {
    pub(crate) fn new(source: Option<B::Peer>, now: Time) -> Self {
        Self {
            seen: Seqs::default(),
            held: BTreeMap::new(),
            bytes: 0,
            supplies_from: 1,
            base: 0,
            claim: None,
            recovery: None,
            head: Hash::from_bytes([0; 32]),
            head_at: now,
            previous_epoch: None,
            source,
            touched: now,
        }
    }

    /// Tells how a bundle fits, from its header and, where they are known, its neighbours in the chain.
    pub(crate) fn fit(&self, header: &Header<B::Peer>, predecessor: Option<Option<Hash>>) -> Fit {
        let (first, last) = (header.first, header.last);
        if self.seen.covers(first, last) {
            return match self.held_at(first) {
                Some(held) if held.bundle.header().hash != header.hash => Fit::Conflict,
                _ => Fit::Duplicate,
            };
        }
        if self.seen.intersects(first, last) {
            // What lies before the base counts as seen though it never was: a bundle across it is no conflict.
            return match self.held.range(first..=last).next() {
                None if self.held_at(first).is_none() => Fit::New,
                _ => Fit::Conflict,
            };
        }
        if let Some(predecessor) = predecessor {
            let before = first.checked_sub(1).and_then(|seq| self.held_at(seq));
            if before.is_some_and(|held| {
                let before = held.bundle.header();
                before.last + 1 == first && predecessor != Some(before.hash)
            }) {
                return Fit::BrokenChain;
            }
            let after = last.checked_add(1).and_then(|seq| self.held.get(&seq));
            if after.is_some_and(|held| held.bundle.predecessor() != Some(header.hash)) {
                return Fit::BrokenChain;
            }
        }
        if !self.seen.has_room(first, last) {
            return Fit::TooManyHoles;
        }
        Fit::New
    }

    /// Keeps a bundle that fits.
    pub(crate) fn keep(&mut self, bundle: B, hops: u8, received_at: UnixMicros, now: Time) {
        let header = bundle.header();
        if self.seen.last().is_none_or(|last| last < header.last) {
            self.head = header.hash;
            self.head_at = now;
        }
        if header.first == 1 {
            self.previous_epoch = bundle.previous_epoch();
        }
        if header.first == self.base.saturating_add(1) {
            self.claim = None;
        }
        self.seen.insert(header.first, header.last);
        self.touched = now;
        self.hold(Held {
            bundle,
            hops,
            received_at,
            received: now,
            older: Duration::ZERO,
        });
    }

    /// Holds a bundle of which nothing is held yet.
    pub(crate) fn hold(&mut self, held: Held<B>) {
        self.bytes += held.bundle.cost_bytes();
        self.held.insert(held.bundle.header().first, held);
    }

    /// Finds from where on everything that was seen is held.
    pub(crate) fn find_supplies(&mut self) {
        let mut from = self.seen.last().map_or(1, |last| last.saturating_add(1));
        while let Some(held) = from.checked_sub(1).and_then(|seq| self.held_at(seq)) {
            from = held.bundle.header().first;
        }
        self.supplies_from = from;
    }

    /// Returns whether anything is held of a bundle's places.
    pub(crate) fn overlaps(&self, header: &Header<B::Peer>) -> bool {
        let upto = self.held.range(..=header.last).next_back();
        upto.is_some_and(|(_, held)| held.bundle.header().last >= header.first)
    }

    /// Counts everything up to `last`, or the last seen seq if that is less, as seen; returns whether anything was missing.
    pub(crate) fn write_off_below(&mut self, last: u64) -> bool {
        match self.seen.last() {
            Some(seen) if !self.seen.covers(1, last.min(seen)) => {
                self.seen.insert(1, last.min(seen))
            }
            _ => false,
        }
    }

    /// Holds a bundle no longer.
    pub(crate) fn forget(&mut self, first: u64) -> Option<Held<B>> {
        let held = self.held.remove(&first)?;
        let last = held.bundle.header().last;
        self.supplies_from = self.supplies_from.max(last.saturating_add(1));
        self.bytes -= held.bundle.cost_bytes();
        Some(held)
    }

    /// Returns the held bundle that holds a seq.
    pub(crate) fn held_at(&self, seq: u64) -> Option<&Held<B>> {
        let (_, held) = self.held.range(..=seq).next_back()?;
        (held.bundle.header().last >= seq).then_some(held)
    }

    /// Returns the held bundle that ends at the last seq, where it is held still.
    pub(crate) fn newest(&self) -> Option<&Held<B>> {
        self.held_at(self.seen.last()?)
    }

    pub(crate) fn digest(&self, stream: StreamId<B::Peer>, now: Time) -> StreamDigest<B::Peer> {
        StreamDigest {
            stream,
            seqs: self.seen.clone(),
            supplies_from: self.supplies_from,
            head: self.head,
            head_age: self.newest().map(|_| now.since(self.head_at)),
        }
    }
}
