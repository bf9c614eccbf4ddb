//! Sets of seqs as sorted, disjoint, inclusive ranges.

use std::ops::RangeInclusive;

/// Ranges that a set holds: what a digest says of one stream must fit a small frame, and a stream with more holes than
/// this is repaired from its oldest hole on.
pub const RANGES_MAX: usize = 64;

/// A set of seqs, at most [`RANGES_MAX`] ranges.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seqs {
    /// Sorted, disjoint and not adjacent.
    ranges: Vec<(u64, u64)>,
}

impl Seqs {
    /// Makes the set of one range; empty if `last` is before `first`.
    pub fn range(first: u64, last: u64) -> Self {
        let mut set = Self::default();
        set.insert(first, last);
        set
    }

    /// Returns whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns how many ranges the set has.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Returns the ranges in ascending order, inclusive.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().map(|&(first, last)| first..=last)
    }

    /// Returns how many seqs the set has.
    pub fn count(&self) -> u64 {
        self.ranges.iter().fold(0u64, |sum, &(first, last)| {
            sum.saturating_add((last - first).saturating_add(1))
        })
    }

    /// Returns the smallest seq.
    pub fn first(&self) -> Option<u64> {
        self.ranges.first().map(|&(first, _)| first)
    }

    /// Returns the largest seq.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last().map(|&(_, last)| last)
    }

    /// Returns the smallest seq of the set from `seq` on.
    pub fn next_from(&self, seq: u64) -> Option<u64> {
        let at = self.ranges.partition_point(|&(_, end)| end < seq);
        self.ranges.get(at).map(|&(start, _)| start.max(seq))
    }

    /// Returns whether all of `first..=last` is in the set.
    pub fn covers(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, end)| end < first);
        self.ranges
            .get(at)
            .is_some_and(|&(start, end)| start <= first && last <= end)
    }

    /// Returns whether any of `first..=last` is in the set.
    pub fn intersects(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, end)| end < first);
        self.ranges.get(at).is_some_and(|&(start, _)| start <= last)
    }

    /// Returns whether `first..=last` can be added.
    pub fn has_room(&self, first: u64, last: u64) -> bool {
        self.ranges.len() < RANGES_MAX || {
            let from = self
                .ranges
                .partition_point(|&(_, end)| end.saturating_add(1) < first);
            self.ranges
                .get(from)
                .is_some_and(|&(start, _)| start <= last.saturating_add(1))
        }
    }

    /// Adds `first..=last`. Returns false, and adds nothing, where that would take more than [`RANGES_MAX`] ranges.
    pub fn insert(&mut self, first: u64, last: u64) -> bool {
        if last < first {
            return true;
        }
        // Every range that touches or is adjacent to the new one melts into it.
        let from = self
            .ranges
            .partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self
            .ranges
            .partition_point(|&(start, _)| start <= last.saturating_add(1));
        if from == to {
            if self.ranges.len() >= RANGES_MAX {
                return false;
            }
            self.ranges.insert(from, (first, last));
            return true;
        }
        let merged = (
            first.min(self.ranges[from].0),
            last.max(self.ranges[to - 1].1),
        );
        self.ranges[from] = merged;
        self.ranges.drain(from + 1..to);
        true
    }

    /// Adds everything of another set as far as there is room.
    pub fn extend(&mut self, other: &Self) {
        for &(first, last) in &other.ranges {
            self.insert(first, last);
        }
    }

    /// Removes everything below `seq`.
    pub fn remove_below(&mut self, seq: u64) {
        self.ranges.retain(|&(_, last)| last >= seq);
        if let Some(first) = self.ranges.first_mut() {
            first.0 = first.0.max(seq);
        }
    }

    /// Returns what is in `self` and not in `other`, as far as it fits [`RANGES_MAX`] ranges, lowest first.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for &(first, last) in &self.ranges {
            // The first seq of this range that is not settled yet; none once the range is used up.
            let mut at = Some(first);
            let from = other.ranges.partition_point(|&(_, end)| end < first);
            for &(start, end) in &other.ranges[from..] {
                let Some(open) = at.filter(|_| start <= last) else {
                    break;
                };
                if start > open {
                    out.push_back(open, start - 1);
                }
                at = end.checked_add(1).filter(|&next| next <= last);
            }
            if let Some(open) = at {
                out.push_back(open, last);
            }
        }
        out
    }

    /// Returns what is in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        let (mut a, mut b) = (0, 0);
        while let (Some(&(a_first, a_last)), Some(&(b_first, b_last))) =
            (self.ranges.get(a), other.ranges.get(b))
        {
            let (first, last) = (a_first.max(b_first), a_last.min(b_last));
            if first <= last {
                out.push_back(first, last);
            }
            if a_last < b_last {
                a += 1;
            } else {
                b += 1;
            }
        }
        out
    }

    fn push_back(&mut self, first: u64, last: u64) {
        if self.ranges.len() < RANGES_MAX {
            self.ranges.push((first, last));
        }
    }
}

impl std::fmt::Debug for Seqs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<RangeInclusive<u64>> for Seqs {
    fn from_iter<T: IntoIterator<Item = RangeInclusive<u64>>>(iter: T) -> Self {
        let mut set = Self::default();
        for range in iter {
            set.insert(*range.start(), *range.end());
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[(u64, u64)]) -> Seqs {
        ranges.iter().map(|&(first, last)| first..=last).collect()
    }

    #[test]
    fn adjacent_ranges_melt() {
        let mut seqs = set(&[(1, 3), (7, 9)]);
        assert!(seqs.insert(4, 6));
        assert_eq!(seqs, set(&[(1, 9)]));
    }

    #[test]
    fn one_range_too_many_is_refused_and_changes_nothing() {
        let mut seqs: Seqs = (0..RANGES_MAX as u64).map(|n| n * 3..=n * 3).collect();
        let before = seqs.clone();
        assert!(!seqs.insert(1_000, 1_000));
        assert_eq!(seqs, before);
        assert!(seqs.insert(1, 2), "filling a hole still works");
    }

    #[test]
    fn the_largest_seq_is_no_special_case() {
        let all = set(&[(1, u64::MAX)]);
        assert!(all.covers(5, u64::MAX));
        assert!(set(&[(5, u64::MAX)]).difference(&all).is_empty());
        assert_eq!(
            set(&[(u64::MAX, u64::MAX)]).difference(&set(&[])),
            set(&[(u64::MAX, u64::MAX)])
        );
        assert_eq!(all.difference(&set(&[(5, u64::MAX)])), set(&[(1, 4)]));
        assert_eq!(
            all.difference(&set(&[(5, 9)])),
            set(&[(1, 4), (10, u64::MAX)])
        );
    }

    fn small() -> impl Strategy<Value = (Seqs, BTreeSet<u64>)> {
        prop::collection::vec((0u64..60, 0u64..6), 0..12).prop_map(|ranges| {
            let mut model = BTreeSet::new();
            let mut seqs = Seqs::default();
            for (first, len) in ranges {
                model.extend(first..=first + len);
                assert!(seqs.insert(first, first + len));
            }
            (seqs, model)
        })
    }

    fn members(seqs: &Seqs) -> BTreeSet<u64> {
        seqs.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set((a, model_a) in small(), (b, model_b) in small(), first in 0u64..70, len in 0u64..5) {
            prop_assert_eq!(members(&a), model_a.clone());
            prop_assert_eq!(a.count(), model_a.len() as u64);
            prop_assert!(a.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert_eq!(a.next_from(first), model_a.range(first..).next().copied());
            prop_assert_eq!(members(&a.difference(&b)), &model_a - &model_b);
            prop_assert_eq!(members(&a.intersection(&b)), &model_a & &model_b);
            prop_assert_eq!(a.covers(first, first + len), (first..=first + len).all(|n| model_a.contains(&n)));
            prop_assert_eq!(a.intersects(first, first + len), (first..=first + len).any(|n| model_a.contains(&n)));
            let mut cut = a;
            cut.remove_below(first);
            prop_assert_eq!(members(&cut), model_a.into_iter().filter(|&n| n >= first).collect::<BTreeSet<_>>());
        }
    }
}
