//! What a replica holds, without the values, which lie on disk.
//!
//! It answers what is held of a key, which keys begin with a prefix, how much a writer has here, what has ended, and what
//! to compare with another replica. It decides nothing: [`Siblings`] say what remains of a key, and the owner puts that
//! here once it is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::kv::fingerprint::{Item, Items};
use crate::kv::{Header, KvKey, KvPrefix, RecordId, SKEW_MAX, Siblings, Usage};
use crate::{Peer, Point, UnixMicros};

/// The records of one key.
#[derive(Clone, Debug)]
pub struct Slot<P> {
    point: Point,
    siblings: Siblings<Header<P>>,
    /// What stands for each of the siblings in comparisons, in their order.
    items: Vec<Item>,
}

impl<P: Peer> Slot<P> {
    fn new(point: Point, siblings: Siblings<Header<P>>) -> Self {
        let items = siblings.iter().map(Item::of).collect();
        Self {
            point,
            siblings,
            items,
        }
    }

    /// Returns where the key stands.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Returns the records.
    pub fn siblings(&self) -> &Siblings<Header<P>> {
        &self.siblings
    }

    fn with_items(&self) -> impl Iterator<Item = (&Header<P>, Item)> {
        self.siblings.iter().zip(self.items.iter().copied())
    }
}

/// What a replica holds, by key.
#[derive(Clone, Debug)]
pub struct Index<P> {
    slots: BTreeMap<KvKey, Slot<P>>,
    usage: BTreeMap<P, Usage>,
    /// Of which key the record is that stands behind an item.
    by_item: BTreeMap<Item, KvKey>,
    /// When a record of a key ends.
    ends: BTreeSet<(UnixMicros, KvKey)>,
}

impl<P> Default for Index<P> {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            usage: BTreeMap::new(),
            by_item: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }
}

impl<P: Peer> Index<P> {
    /// Returns how many records are held.
    pub fn len(&self) -> usize {
        self.by_item.len()
    }

    /// Returns whether none are.
    pub fn is_empty(&self) -> bool {
        self.by_item.is_empty()
    }

    /// Returns what a writer has here.
    pub fn usage(&self, writer: P) -> Usage {
        self.usage.get(&writer).copied().unwrap_or_default()
    }

    /// Returns what is held of a key.
    pub fn slot(&self, key: &KvKey) -> Option<&Slot<P>> {
        self.slots.get(key)
    }

    /// Returns a record that is held.
    pub fn find(&self, key: &KvKey, id: &RecordId<P>) -> Option<&Header<P>> {
        self.slots.get(key)?.siblings.find(id)
    }

    /// Returns the record that an item stands for.
    pub fn of_item(&self, item: Item) -> Option<&Header<P>> {
        let slot = self.slots.get(self.by_item.get(&item)?)?;
        let mut records = slot.with_items();
        records.find_map(|(header, of)| (of == item).then_some(header))
    }

    /// Returns what is held, ordered by key, from a key on or after it.
    pub fn slots<'a>(
        &'a self,
        from: Bound<&KvKey>,
    ) -> impl Iterator<Item = (&'a KvKey, &'a Slot<P>)> + use<'a, P> {
        self.slots.range::<KvKey, _>((from, Bound::Unbounded))
    }

    /// Returns what is held of keys that begin with a prefix, in order; after one of them, where that is given.
    pub fn begin_with<'a>(
        &'a self,
        prefix: &'a KvPrefix,
        after: Option<&KvKey>,
    ) -> impl Iterator<Item = (&'a KvKey, &'a Slot<P>)> + use<'a, P> {
        let first = Bound::Included(prefix.as_key());
        let from = match after {
            Some(after) if after > prefix.as_key() => Bound::Excluded(after),
            Some(_) | None => first,
        };
        self.slots(from).take_while(|(key, _)| prefix.begins(key))
    }

    /// Puts what remains of a key in the place of what was held of it.
    pub fn replace(&mut self, key: &KvKey, siblings: Siblings<Header<P>>) {
        let before = self.slots.remove(key);
        let point = before.as_ref().map_or_else(|| key.point(), Slot::point);
        for (header, item) in before.iter().flat_map(Slot::with_items) {
            self.take_out(header, item);
        }
        if siblings.is_empty() {
            return;
        }
        let slot = Slot::new(point, siblings);
        for (header, item) in slot.with_items() {
            self.usage.entry(header.dot.writer).or_default().add(header);
            self.by_item.insert(item, key.clone());
            if let Some(end) = header.ends_at() {
                self.ends.insert((end, key.clone()));
            }
        }
        self.slots.insert(key.clone(), slot);
    }

    /// Returns what has ended and can be dropped ([`Header::has_ended`]), the longest ago first.
    pub fn ended(&self, now: UnixMicros) -> impl Iterator<Item = &Header<P>> {
        let due = self
            .ends
            .iter()
            .take_while(move |(end, _)| *end + SKEW_MAX < now);
        let of = due.filter_map(|(end, key)| Some((*end, self.slots.get(key)?)));
        of.flat_map(|(end, slot)| {
            let records = slot.siblings.iter();
            records.filter(move |header| header.ends_at() == Some(end))
        })
    }

    /// Returns when the next record ends; by the skew later it can be dropped.
    pub fn next_end(&self) -> Option<UnixMicros> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Returns the items to compare with another replica: those of records that both should hold, told from their point
    /// and number of copies, and that haven't ended, since nobody takes such records any more.
    pub fn items(&self, mut shared: impl FnMut(Point, u8) -> bool, now: UnixMicros) -> Items {
        let mut items = Vec::new();
        for slot in self.slots.values() {
            // Siblings mostly have one number of copies: it is asked for once.
            let mut asked = None;
            for (header, item) in slot.with_items() {
                let is_shared = match asked {
                    Some((copies, is_shared)) if copies == header.copies => is_shared,
                    Some(_) | None => shared(slot.point, header.copies),
                };
                asked = Some((header.copies, is_shared));
                if is_shared && header.ends_at().is_none_or(|end| now < end) {
                    items.push(item);
                }
            }
        }
        items.into_iter().collect()
    }

    fn take_out(&mut self, header: &Header<P>, item: Item) {
        self.by_item.remove(&item);
        if let Some(end) = header.ends_at() {
            // Another record of the key with this end has the same entry; it goes as well.
            self.ends.remove(&(end, header.key.clone()));
        }
        let writer = header.dot.writer;
        if let Some(usage) = self.usage.get_mut(&writer) {
            usage.subtract(header);
            if usage.records == 0 {
                self.usage.remove(&writer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
