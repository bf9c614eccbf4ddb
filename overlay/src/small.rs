//! Maps and sets that mostly hold a handful: views, neighbours, trees, streams.
//!
//! A `BTreeMap` takes room for eleven entries with its first one, and a member has a dozen of them: of a member of a quiet
//! swarm that was most of its memory, and each look-up another miss of the cache. Here the first entries stand in one
//! sorted list that is no longer than it need be. Beyond [`FEW_MAX`] a tree takes over, so that whoever can fill a map
//! can't make each further entry cost a move of all.

use std::collections::BTreeMap;
use std::iter::FusedIterator;
use std::ops::Bound;

/// Entries up to which a map is a list: as many as a passive view holds, and few enough to be moved in the time of a
/// miss or two of the cache.
const FEW_MAX: usize = 32;

/// A map in the order of its keys.
#[derive(Clone)]
pub(crate) enum SmallMap<K, V> {
    /// Sorted by key.
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K, V> SmallMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + FusedIterator {
        match self {
            Self::Few(list) => Either::Few(list.iter().map(|(key, value)| (key, value))),
            Self::Many(tree) => Either::Many(tree.iter()),
        }
    }
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Ord, V> SmallMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Few(list) => {
                let at = position(list, key).ok()?;
                Some(&list[at].1)
            }
            Self::Many(tree) => tree.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::Few(list) => {
                let at = position(list, key).ok()?;
                Some(&mut list[at].1)
            }
            Self::Many(tree) => tree.get_mut(key),
        }
    }

    /// Returns the value of a key, made if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        match self {
            Self::Few(list) => {
                let at = position(list, &key).unwrap_or_else(|at| {
                    grow(list);
                    list.insert(at, (key, make()));
                    at
                });
                &mut list[at].1
            }
            Self::Many(tree) => tree.entry(key).or_insert_with(make),
        }
    }

    /// Inserts or replaces; returns what was replaced.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.make_room(&key);
        match self {
            Self::Few(list) => match position(list, &key) {
                Ok(at) => Some(std::mem::replace(&mut list[at].1, value)),
                Err(at) => {
                    grow(list);
                    list.insert(at, (key, value));
                    None
                }
            },
            Self::Many(tree) => tree.insert(key, value),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Few(list) => {
                let at = position(list, key).ok()?;
                Some(list.remove(at).1)
            }
            Self::Many(tree) => tree.remove(key),
        }
    }

    /// Removes the entry with the smallest key.
    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        match self {
            Self::Few(list) => (!list.is_empty()).then(|| list.remove(0)),
            Self::Many(tree) => tree.pop_first(),
        }
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        match self {
            Self::Few(list) => list.retain_mut(|(key, value)| keep(key, value)),
            Self::Many(tree) => tree.retain(keep),
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        match self {
            Self::Few(list) => Either::Few(list.iter_mut().map(|(key, value)| (&*key, value))),
            Self::Many(tree) => Either::Many(tree.iter_mut()),
        }
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// Returns the entries with keys from `first` to `last`, both included.
    pub(crate) fn range(&self, first: K, last: K) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        match self {
            Self::Few(list) => {
                let from = list.partition_point(|(key, _)| *key < first);
                let to = list.partition_point(|(key, _)| *key <= last).max(from);
                Either::Few(list[from..to].iter().map(|(key, value)| (key, value)))
            }
            Self::Many(tree) if last < first => Either::Many(tree.range(first..first)),
            Self::Many(tree) => Either::Many(tree.range(first..=last)),
        }
    }

    /// Returns the entries with keys from `first` on and below `upto`, where these are given.
    pub(crate) fn span(
        &self,
        first: Option<K>,
        upto: Option<K>,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        match self {
            Self::Few(list) => {
                let place = |key: K| list.partition_point(|(at, _)| *at < key);
                let from = first.map_or(0, place);
                let to = upto.map_or(list.len(), place).max(from);
                Either::Few(list[from..to].iter().map(|(key, value)| (key, value)))
            }
            Self::Many(tree) => {
                let from = first.map_or(Bound::Unbounded, Bound::Included);
                // A tree won't be asked for a range that ends before it begins.
                let to = match (first, upto) {
                    (Some(first), Some(upto)) => Bound::Excluded(upto.max(first)),
                    (_, upto) => upto.map_or(Bound::Unbounded, Bound::Excluded),
                };
                Either::Many(tree.range((from, to)))
            }
        }
    }

    /// Lets a tree take over before a list becomes longer than it may.
    fn make_room(&mut self, key: &K) {
        if let Self::Few(list) = self
            && list.len() >= FEW_MAX
            && position(list, key).is_err()
        {
            *self = Self::Many(std::mem::take(list).into_iter().collect());
        }
    }
}

/// Finds a key, or where it belongs.
fn position<K: Ord, V>(list: &[(K, V)], key: &K) -> Result<usize, usize> {
    list.binary_search_by(|(known, _)| known.cmp(key))
}

/// Makes room for one more, and by half more than there is: a list of one takes the room of one.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(1));
    }
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for SmallMap<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A set in order.
#[derive(Clone, Debug)]
pub(crate) struct SmallSet<K>(SmallMap<K, ()>);

impl<K> Default for SmallSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> SmallSet<K> {
    pub(crate) const fn new() -> Self {
        Self(SmallMap::new())
    }
}

impl<K: Copy + Ord> SmallSet<K> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: K) {
        self.0.insert(key, ());
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = K> {
        self.0.keys().copied()
    }
}

impl<K: Copy + Ord> FromIterator<K> for SmallSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut set = Self::new();
        for key in keys {
            set.insert(key);
        }
        set
    }
}

/// One of two iterators over the same.
enum Either<A, B> {
    Few(A),
    Many(B),
}

impl<A: Iterator, B: Iterator<Item = A::Item>> Iterator for Either<A, B> {
    type Item = A::Item;

    fn next(&mut self) -> Option<A::Item> {
        match self {
            Self::Few(list) => list.next(),
            Self::Many(tree) => tree.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(list) => list.size_hint(),
            Self::Many(tree) => tree.size_hint(),
        }
    }
}

impl<A, B> DoubleEndedIterator for Either<A, B>
where
    A: DoubleEndedIterator,
    B: DoubleEndedIterator<Item = A::Item>,
{
    fn next_back(&mut self) -> Option<A::Item> {
        match self {
            Self::Few(list) => list.next_back(),
            Self::Many(tree) => tree.next_back(),
        }
    }
}

impl<A: FusedIterator, B: FusedIterator<Item = A::Item>> FusedIterator for Either<A, B> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a map: by number, with a key.
    fn steps() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((0_u8..8, 0_u8..96), 0..400)
    }

    proptest! {
        #[test]
        fn a_small_map_is_a_map(steps in steps()) {
            let mut map = SmallMap::new();
            let mut model = BTreeMap::new();
            for (index, (what, key)) in steps.into_iter().enumerate() {
                match what {
                    0..=2 => prop_assert_eq!(map.insert(key, index), model.insert(key, index)),
                    3 => prop_assert_eq!(
                        *map.get_or_insert_with(key, || index),
                        *model.entry(key).or_insert(index)
                    ),
                    4 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    5 => prop_assert_eq!(map.pop_first(), model.pop_first()),
                    6 if key < 4 => {
                        map.retain(|at, _| at % 5 != key);
                        model.retain(|at, _| at % 5 != key);
                    }
                    _ => {
                        let to = key.saturating_add(9);
                        prop_assert!(map.range(key, to).rev().eq(model.range(key..=to).rev()));
                        prop_assert_eq!(map.range(to, key).count(), usize::from(to == key));
                        prop_assert!(map.span(Some(key), Some(to)).eq(model.range(key..to)));
                        prop_assert!(map.span(None, Some(key)).eq(model.range(..key)));
                        prop_assert!(map.span(Some(key), None).eq(model.range(key..)));
                        prop_assert_eq!(map.span(Some(to), Some(key)).count(), 0);
                    }
                }
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert!(map.values_mut().eq(model.values_mut()));
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.get_mut(&key), model.get_mut(&key));
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }

    #[test]
    fn a_list_takes_no_more_room_than_it_needs() {
        let mut map = SmallMap::new();
        map.insert(1, 'a');
        let SmallMap::Few(list) = &map else {
            panic!("one entry is a list");
        };
        assert_eq!(list.capacity(), 1);
    }

    #[test]
    fn many_entries_are_a_tree_until_they_are_cleared() {
        let mut set: SmallSet<usize> = (0..=FEW_MAX).collect();
        assert!(matches!(set.0, SmallMap::Many(_)));
        set.clear();
        assert!(matches!(set.0, SmallMap::Few(_)));
    }
}
