//! What a member has seen, and the bundles that it still holds: as little of both as the strategy needs, since a
//! simulation runs a hundred thousand members.

use std::collections::BTreeMap;

use weft_identity::Hash;

use super::message::{BundleId, Carried};
use crate::digest::{STREAMS_PER_FRAME_MAX, StreamDigest};
use crate::seqs::RANGES_MAX;
use crate::{Bundle, Seqs, StreamId};

/// Bundles that a member holds: the hot rumors, or what anti-entropy can still supply. A guess: several times what a
/// comparison publishes, so that only a strategy that never forgets meets it; one more displaces the oldest.
pub const HELD_MAX: usize = 1_024;
/// Streams that a member knows: what it says of all fits one digest. A bundle of one more is refused.
pub const STREAMS_MAX: usize = STREAMS_PER_FRAME_MAX;

/// What the contacts of one cycle have shown of a rumor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Contacts {
    /// Nobody has said anything.
    #[default]
    Silent,
    /// Whoever said anything knew it.
    Unneeded,
    /// Somebody needed it.
    Needed,
}

/// A bundle that is held.
#[derive(Clone, Debug)]
pub(super) struct Held<B> {
    pub(super) bundle: B,
    pub(super) hops: u8,
    /// The cycle in which it came.
    pub(super) learned: u64,
    /// What the contacts of this cycle have shown of it.
    pub(super) contacts: Contacts,
    /// Cycles in a row in which nobody needed it.
    pub(super) unneeded: u8,
}

impl<B: Bundle> Held<B> {
    /// Returns the bundle as it leaves.
    pub(super) fn carry(&self) -> Carried<B> {
        Carried {
            bundle: self.bundle.clone(),
            hops: self.hops.saturating_add(1),
        }
    }
}

/// What became of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    New,
    Duplicate,
    /// Its stream would be one too many.
    Refused,
}

#[derive(Clone, Debug)]
struct Seen {
    seqs: Seqs,
    /// All seen seqs from here on are held, where anything is.
    supplies_from: u64,
    /// Hash of the bundle that ends at the last seen seq.
    head: Hash,
}

#[derive(Clone, Debug)]
pub(super) struct Known<B: Bundle> {
    streams: BTreeMap<StreamId<B::Peer>, Seen>,
    held: BTreeMap<BundleId<B::Peer>, Held<B>>,
    /// Bundles that were displaced while they were held.
    pub(super) displaced: u64,
    /// Holes that were given up, so that a stream's ranges stay bounded.
    pub(super) written_off: u64,
}

impl<B: Bundle> Known<B> {
    pub(super) const fn new() -> Self {
        Self {
            streams: BTreeMap::new(),
            held: BTreeMap::new(),
            displaced: 0,
            written_off: 0,
        }
    }

    /// Marks a bundle as seen.
    pub(super) fn see(&mut self, bundle: &B) -> Admission {
        let header = bundle.header();
        if !self.streams.contains_key(&header.stream) && self.streams.len() >= STREAMS_MAX {
            return Admission::Refused;
        }
        let seen = self.streams.entry(header.stream).or_insert_with(|| Seen {
            seqs: Seqs::default(),
            supplies_from: 1,
            head: header.hash,
        });
        if seen.seqs.intersects(header.first, header.last) {
            return Admission::Duplicate;
        }
        if seen.seqs.last().is_none_or(|last| last < header.last) {
            seen.head = header.hash;
        }
        if !seen.seqs.has_room(header.first, header.last) {
            // Rumors leave holes that nothing fills: the oldest one makes room.
            let mut ranges = seen.seqs.iter().map(std::ops::RangeInclusive::into_inner);
            if let (Some((_, end)), Some((start, _))) = (ranges.next(), ranges.next()) {
                drop(ranges);
                seen.seqs.insert(end + 1, start - 1);
                self.written_off += 1;
            }
        }
        seen.seqs.insert(header.first, header.last);
        debug_assert!(seen.seqs.range_count() <= RANGES_MAX);
        Admission::New
    }

    /// Holds a bundle that was seen for the first time.
    pub(super) fn hold(&mut self, bundle: B, hops: u8, cycle: u64) {
        if self.held.len() >= HELD_MAX {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.learned);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.release(id);
                self.displaced += 1;
            }
        }
        let header = bundle.header();
        let id = BundleId {
            stream: header.stream,
            first: header.first,
        };
        self.held.insert(
            id,
            Held {
                bundle,
                hops,
                learned: cycle,
                contacts: Contacts::default(),
                unneeded: 0,
            },
        );
    }

    /// Stops holding a bundle.
    pub(super) fn release(&mut self, id: BundleId<B::Peer>) {
        if let Some(held) = self.held.remove(&id)
            && let Some(seen) = self.streams.get_mut(&id.stream)
        {
            let last = held.bundle.header().last;
            seen.supplies_from = seen.supplies_from.max(last.saturating_add(1));
        }
    }

    /// Returns what was seen of a stream.
    pub(super) fn seen(&self, id: StreamId<B::Peer>) -> Option<&Seqs> {
        self.streams.get(&id).map(|seen| &seen.seqs)
    }

    /// Returns the held bundles, by id.
    pub(super) const fn held(&self) -> &BTreeMap<BundleId<B::Peer>, Held<B>> {
        &self.held
    }

    /// Returns a held bundle.
    pub(super) fn held_mut(&mut self, id: BundleId<B::Peer>) -> Option<&mut Held<B>> {
        self.held.get_mut(&id)
    }

    /// Keeps those of the held bundles for which `keep` holds.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Held<B>) -> bool) {
        let lost: Vec<_> = self
            .held
            .iter_mut()
            .filter_map(|(id, held)| (!keep(held)).then_some(*id))
            .collect();
        for id in lost {
            self.release(id);
        }
    }

    /// Returns a digest of each stream.
    pub(super) fn digests(&self) -> Vec<StreamDigest<B::Peer>> {
        let digest = |(stream, seen): (&StreamId<B::Peer>, &Seen)| StreamDigest {
            head_age: None,
            stream: *stream,
            seqs: seen.seqs.clone(),
            supplies_from: seen.supplies_from,
            head: seen.head,
        };
        self.streams.iter().map(digest).collect()
    }
}
