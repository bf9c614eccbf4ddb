//! Where everything lies: for each key that has a value the place of its newest entry, and for each segment how much of it
//! is still needed. It is in memory only, and is made from the log at each start.
//!
//! Keys stand in it by a hash, so that a record costs some 50 bytes here however long its key is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A table and a key, as 16 bytes of SHA-256 over both: peers choose keys, and must not be able to make two that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// Returns what a key of a table is known by where the key itself isn't.
    pub fn of(table: super::Table, key: &[u8]) -> Self {
        Self::of_raw(table as u8, key)
    }

    pub(super) fn of_raw(table: u8, key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update([table]);
        hash.update(key);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) at: u32,
    pub(super) bytes: u32,
    pub(super) table: u8,
}

impl Place {
    /// Returns the place of an entry in a segment.
    pub(super) fn new(segment: u32, range: &Range<usize>, table: u8) -> Self {
        let small = |bytes| {
            u32::try_from(bytes).expect("a segment ends soon after its bound, far below 4 GiB")
        };
        Self {
            segment,
            at: small(range.start),
            bytes: small(range.len()),
            table,
        }
    }
}

/// A file of the log.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) file: Arc<F>,
    /// Where its last frame ends.
    pub(super) end: u64,
    /// Bytes of entries in it that are some key's newest.
    pub(super) live: u64,
}

/// What the log holds, and where.
#[derive(Debug)]
pub(super) struct Index<F> {
    places: BTreeMap<KeyId, Place>,
    segments: BTreeMap<u32, Segment<F>>,
}

impl<F> Default for Index<F> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
            segments: BTreeMap::new(),
        }
    }
}

impl<F> Index<F> {
    pub(super) fn add_segment(&mut self, number: u32, file: Arc<F>, end: u64) {
        let live = 0;
        self.segments.insert(number, Segment { file, end, live });
    }

    /// Notes that a segment has grown.
    pub(super) fn set_end(&mut self, number: u32, end: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.end = end;
        }
    }

    /// Takes a segment out. A key whose newest entry still lies in it is lost: reading it says so.
    pub(super) fn remove_segment(&mut self, number: u32) {
        self.segments.remove(&number);
    }

    /// Notes a key's newest entry.
    pub(super) fn put(&mut self, id: KeyId, place: Place) {
        let before = self.places.insert(id, place);
        self.count(place, i64::from(place.bytes));
        self.forget(before);
    }

    /// Notes that a key has no value any more.
    pub(super) fn remove(&mut self, id: KeyId) {
        let before = self.places.remove(&id);
        self.forget(before);
    }

    pub(super) fn place(&self, id: KeyId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// Returns a segment's file.
    pub(super) fn file(&self, number: u32) -> Option<Arc<F>> {
        self.segments
            .get(&number)
            .map(|segment| Arc::clone(&segment.file))
    }

    pub(super) fn segments(&self) -> &BTreeMap<u32, Segment<F>> {
        &self.segments
    }

    /// Returns the entries that some keys still need, in the order of the log: of one segment, or of one table.
    pub(super) fn live(&self, which: impl Fn(&Place) -> bool) -> Vec<(KeyId, Place)> {
        let mut live: Vec<(KeyId, Place)> = self
            .places
            .iter()
            .filter(|(_, place)| which(place))
            .map(|(id, place)| (*id, *place))
            .collect();
        live.sort_unstable_by_key(|(_, place)| *place);
        live
    }

    /// Returns how many keys have a value, how many bytes their entries take, and how many all segments do.
    pub(super) fn sizes(&self) -> (usize, u64, u64) {
        let live = self.segments.values().map(|segment| segment.live).sum();
        let all = self.segments.values().map(|segment| segment.end).sum();
        (self.places.len(), live, all)
    }

    fn forget(&mut self, before: Option<Place>) {
        if let Some(before) = before {
            self.count(before, -i64::from(before.bytes));
        }
    }

    fn count(&mut self, place: Place, bytes: i64) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live = segment.live.saturating_add_signed(bytes);
        }
    }
}
