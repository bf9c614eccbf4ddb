//! Where a joining member begins in a stream is another's word, until a bundle proves it.
//!
//! A claim names the last seq and, where it is known, the hash of the bundle that ends there. Nobody can know the hash of a
//! bundle that isn't signed yet, so the chain decides: the first bundle after the base names its predecessor. What lies before
//! the base counts as seen though it never came, and a lie there would hide it. So a verified bundle that contradicts the
//! claim lowers the base: by its place in the chain or, where that says nothing, by having been published after this member
//! began. What is made good is looked through in order: what was published before this member began raises the base again, so
//! that old messages aren't delivered as new ones.
//!
//! The time in question is the publisher's. One whose clock is behind loses by a lie what it published within that time of the
//! beginning; one whose clock is ahead may have as much of what went before delivered.

use std::time::Duration;

use weft_identity::Hash;

use crate::digest::StreamDigest;
use crate::history::History;
use crate::plumtree::Push;
use crate::retained::Change;
use crate::stream::Stream;
use crate::{Bundle, Header, Now, Seqs, StreamId, Time, UnixMicros};

/// How long after this member's beginning a bundle that comes unasked must have been published to contradict a claim by its time
/// alone: clocks that are kept agree better than this, and copies in a stream's first moments shall prove nothing. What is asked
/// for is asked for because a neighbour contradicts the claim, and needs no such care.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);
/// How often a neighbour is asked to show that a claim is false: each time costs one bundle.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Another's word for where a stream stands.
#[derive(Clone, Debug)]
pub(crate) struct Claim<P> {
    /// Whose.
    by: P,
    /// The hash of the bundle that ends at the base.
    head: Option<Hash>,
    /// When a neighbour that contradicts it may be asked next.
    probe_at: Time,
}

/// What is made good of a base that was proven false.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    /// Only what lies below this seq.
    below: u64,
    /// Only what was published later is owed.
    since: UnixMicros,
}

/// A claim that was proven false.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FalseClaim<P> {
    /// Whose word it was, perhaps passed on in good faith.
    pub(crate) by: P,
    /// The base that it gave.
    pub(crate) base: u64,
}

impl<B: Bundle> Stream<B> {
    /// Counts everything up to `last` as seen, as somebody who starts there does.
    fn start_after(&mut self, last: u64, head: Option<Hash>, by: B::Peer) {
        match (self.held_at(last.saturating_add(1)), head) {
            (Some(next), Some(head)) if next.bundle.predecessor() != Some(head) => return,
            (Some(_), _) => {}
            (None, _) => {
                self.claim = Some(Claim {
                    by,
                    head,
                    probe_at: Time::ZERO,
                });
            }
        }
        if let Some(head) = head
            && self.seen.last().is_none_or(|seen| seen < last)
        {
            self.head = head;
        }
        self.seen.insert(1, last);
        self.base = self.base.max(last);
        // What came before the base was fixed is here and can be supplied, back to the first hole.
        let mut supplies_from = last.saturating_add(1);
        while let Some(held) = supplies_from
            .checked_sub(1)
            .and_then(|seq| self.held_at(seq))
        {
            supplies_from = held.bundle.header().first;
        }
        self.supplies_from = self.supplies_from.max(supplies_from);
    }

    /// Returns whether it is known by another's word alone.
    fn is_claimed(&self) -> bool {
        self.claim.is_some() && self.seen.last() <= Some(self.base)
    }

    /// Returns whether a bundle contradicts the claim, if the base is one.
    fn contradicts(&self, bundle: &B, after: UnixMicros) -> bool {
        let Some(claim) = &self.claim else {
            return false;
        };
        let header = bundle.header();
        if header.first > self.base {
            let is_next = header.first == self.base.saturating_add(1);
            return is_next && claim.head.is_some() && claim.head != bundle.predecessor();
        }
        match claim.head {
            // Whoever stands in the middle of a bundle has none of it.
            _ if header.last > self.base => true,
            Some(head) if header.last == self.base => head != header.hash,
            _ => bundle.published_at() > after,
        }
    }

    /// Gives up a base that is false, except for what was published before this member began or lies at or below `floor`.
    fn lower_base(&mut self, floor: u64, below: u64, since: UnixMicros) {
        self.claim = None;
        self.recovery = Some(Recovery { below, since });
        let held = self.held.values();
        let before = held
            .filter(|held| held.bundle.published_at() <= since)
            .map(|held| held.bundle.header().last)
            .filter(|last| *last < below)
            .max();
        self.base = floor.max(before.unwrap_or(0));
        self.seen = Seqs::range(1, self.base);
        self.supplies_from = self.base.saturating_add(1);
        self.head = Hash::from_bytes([0; 32]);
        for held in self.held.values() {
            let header = held.bundle.header();
            self.seen.insert(header.first, header.last);
            self.head = header.hash;
        }
    }

    /// Takes a bundle as one that lies before the base, if it makes good a false one and was published before this member began.
    pub(crate) fn passes_over(&mut self, bundle: &B) -> bool {
        let header = bundle.header();
        let is_before = |recovery: Recovery| {
            header.last < recovery.below && bundle.published_at() <= recovery.since
        };
        if !self.recovery.is_some_and(is_before) {
            return false;
        }
        if self.seen.last().is_none_or(|last| last < header.last) {
            self.head = header.hash;
        }
        self.seen.insert(1, header.last);
        self.base = self.base.max(header.last);
        self.supplies_from = self.supplies_from.max(header.last.saturating_add(1));
        true
    }
}

impl<B: Bundle> History<B> {
    /// Counts a stream as seen up to and with a seq by the word of `by`, as somebody who starts there does.
    pub(crate) fn start_after(
        &mut self,
        id: StreamId<B::Peer>,
        (last, head): (u64, Option<Hash>),
        by: B::Peer,
        now: Now,
    ) {
        self.based_at = Some(now.unix);
        let latest = now.unix + self.config.skew;
        // Nothing can follow the largest number: no publisher comes to it.
        let is_possible = last < u64::MAX && id.epoch <= latest.0 / 1_000;
        if last == 0 || !is_possible || self.open(id, None, now.time).is_err() {
            return;
        }
        self.streams
            .get_or_insert_with(id, || Stream::new(Some(by), now.time))
            .start_after(last, head, by);
        self.fingerprint = None;
        self.note(Change::Moved(id));
    }

    /// Returns whether a stream is known by another's word alone: nothing that follows it has come.
    pub(crate) fn is_claimed(&self, id: StreamId<B::Peer>) -> bool {
        let stream = self.streams.get(&id);
        stream.is_some_and(Stream::is_claimed)
    }

    /// Returns whether a held bundle was published after this member began.
    pub(crate) fn is_after_base(&self, header: &Header<B::Peer>) -> bool {
        let held = self.held(header.stream, header.first);
        held.is_some_and(|held| Some(held.bundle.published_at()) > self.based_at)
    }

    /// Returns an epoch of a publisher that is known by another's word alone.
    pub(crate) fn made_up_epoch(&self, publisher: B::Peer) -> Option<u64> {
        self.epochs(publisher).find(|&epoch| {
            let stream = self.streams.get(&StreamId { publisher, epoch });
            stream.is_some_and(|stream| stream.is_claimed() && stream.held.is_empty())
        })
    }

    /// Returns which seq a neighbour shall show whose digest contradicts a claim; none where it doesn't, or was just asked.
    pub(crate) fn contested_by(
        &mut self,
        digest: &StreamDigest<B::Peer>,
        now: Time,
    ) -> Option<u64> {
        let stream = self.streams.get_mut(&digest.stream)?;
        let (base, claim) = (stream.base, stream.claim.as_mut()?);
        let last = digest.seqs.last()?;
        let differs =
            last < base || (last == base && claim.head.is_some_and(|head| head != digest.head));
        if !differs || last < digest.supplies_from || now < claim.probe_at {
            return None;
        }
        claim.probe_at = now + PROBE_INTERVAL;
        Some(last)
    }

    /// Weighs a stream's claim against a verified bundle; returns the claim if the bundle proves it false.
    pub(crate) fn weigh(
        &mut self,
        bundle: &B,
        push: Push,
        now: Now,
    ) -> Option<FalseClaim<B::Peer>> {
        let header = bundle.header();
        let after = match push {
            Push::Eager => self.based_at? + CLOCKS_AGREE,
            Push::Supplied => self.based_at?,
        };
        let stream = self.streams.get_mut(&header.stream)?;
        let by = stream.claim.as_ref()?.by;
        if stream.contradicts(bundle, after) {
            let base = stream.base;
            return self
                .check_age(bundle, now)
                .is_ok()
                .then_some(FalseClaim { by, base });
        }
        if header.last == stream.base {
            stream.claim.take_if(|claim| claim.head.is_some());
        }
        None
    }

    /// Lowers the base of this member's own stream to before what it publishes now: nobody else knows where it stands. Returns
    /// what counted as seen, if that was another's word.
    pub(crate) fn disown_claim(&mut self, header: &Header<B::Peer>) -> Option<u64> {
        let since = self.based_at.unwrap_or_default();
        let stream = self.streams.get_mut(&header.stream)?;
        stream.claim.as_ref()?;
        let base = stream.base;
        stream.lower_base(header.first.saturating_sub(1), 0, since);
        self.fingerprint = None;
        self.note(Change::Moved(header.stream));
        Some(base)
    }

    /// Lowers a base that a bundle has proven false, no further than `floor`.
    pub(crate) fn lower_base(&mut self, proof: &Header<B::Peer>, floor: u64) {
        let since = self.based_at.unwrap_or_default();
        if let Some(stream) = self.streams.get_mut(&proof.stream) {
            let below = match proof.last <= stream.base {
                true => proof.last.saturating_add(1),
                false => proof.first,
            };
            let floor = floor.min(proof.first.saturating_sub(1));
            stream.lower_base(floor, below, since);
            self.fingerprint = None;
            self.note(Change::Moved(proof.stream));
        }
    }
}
