//! How two nodes find what only one of them has, without telling each other all.
//!
//! This is range-based set reconciliation (Meyer, "Range-Based Set Reconciliation", SRDS 2023) with ranges that are
//! parts of a tree, as anti-entropy by Merkle trees has them (Dynamo §4.7): both sides sum up the records of a range, and
//! where the sums differ the range is divided by 16, until so few records are left that they are named one by one. Here
//! nobody keeps a tree, because two nodes share a different set with each other neighbour: an [`Items`] is made for each
//! comparison.
//!
//! What is compared are [`Item`]s, 16 bytes of a hash for each record. So ranges divide evenly, whatever the keys are:
//! ten thousand names with one tag have one point. An item's sum with others can be forged by who makes millions of
//! records for it; all it hides are differences among these.

use sha2::{Digest, Sha256};

use crate::Peer;
use crate::kv::Header;

/// A range with so few items isn't divided: 16 items take as many bytes as the 16 sums of its parts.
pub const LEAF_ITEMS_MAX: usize = 16;
/// Parts of a range that is divided, by the next four bits.
pub const PARTS: usize = 16;
const PART_BITS: u8 = 4;

/// What stands for a record: the first 16 bytes of SHA-256 of its hash, dot and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item(pub u128);

impl Item {
    /// Returns what stands for a record.
    pub fn of<P: Peer>(header: &Header<P>) -> Self {
        let writer = header.dot.writer.key();
        let digest: [u8; 32] = Sha256::new()
            .chain_update(header.hash)
            .chain_update(header.dot.seq.epoch.to_be_bytes())
            .chain_update(header.dot.seq.counter.to_be_bytes())
            .chain_update((writer.as_bytes().len() as u64).to_be_bytes())
            .chain_update(writer.as_bytes())
            .chain_update(header.key.as_str())
            .finalize()
            .into();
        let (first, _) = digest.split_at(16);
        Self(
            first
                .iter()
                .fold(0, |item, byte| item << 8 | u128::from(*byte)),
        )
    }
}

/// A part of the space of items: those that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first bits; all others are zero.
    prefix: u128,
    /// How many bits that are, a multiple of 4.
    bits: u8,
}

impl Range {
    /// All items.
    pub const ALL: Self = Self { prefix: 0, bits: 0 };

    /// Takes a range as it came; `None` if there is none with so many bits and these.
    pub fn new(prefix: u128, bits: u8) -> Option<Self> {
        let known = bits <= 128 && bits.is_multiple_of(PART_BITS);
        let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        (known && prefix & rest == 0).then_some(Self { prefix, bits })
    }

    /// Returns the first bits; all others are zero.
    pub fn prefix(self) -> u128 {
        self.prefix
    }

    /// Returns how many bits all items of the range share.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns whether an item lies in the range.
    pub fn contains(self, item: Item) -> bool {
        (self.prefix..=self.last()).contains(&item.0)
    }

    /// Returns the parts into which the range is divided, in order; `None` for a range of one item.
    pub fn parts(self) -> Option<[Self; PARTS]> {
        let left = 128_u32.checked_sub(u32::from(self.bits + PART_BITS))?;
        Some(std::array::from_fn(|part| Self {
            prefix: self.prefix | (part as u128) << left,
            bits: self.bits + PART_BITS,
        }))
    }

    fn last(self) -> u128 {
        self.prefix | u128::MAX.checked_shr(self.bits.into()).unwrap_or(0)
    }
}

/// What a node has in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many items.
    pub count: u32,
    /// Their sum, modulo 2^128.
    pub sum: u128,
}

/// What a node has in a range that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Sums of the range's parts, in order.
    Split(Box<[Summary; PARTS]>),
    /// All items of the range, in order.
    Items(Vec<Item>),
}

/// How the items of a range differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Those that only the other side has.
    pub theirs: Vec<Item>,
    /// Those that only this side has.
    pub ours: Vec<Item>,
}

/// The items that one node compares with another, ordered, with what their sums are told from.
///
/// It takes 32 bytes an item and is made anew for each comparison, or kept while nothing changes.
#[derive(Clone, Debug, Default)]
pub struct Items {
    items: Vec<Item>,
    /// At each place the sum of all items before it.
    sums: Vec<u128>,
}

impl FromIterator<Item> for Items {
    /// Takes items in any order; one that comes twice counts once.
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut items: Vec<Item> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        let before = items.iter().scan(0_u128, |sum, item| {
            let before = *sum;
            *sum = sum.wrapping_add(item.0);
            Some(before)
        });
        let sums = before.collect();
        Self { items, sums }
    }
}

impl Items {
    /// Returns how many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns what there is in a range.
    pub fn summary(&self, range: Range) -> Summary {
        let (from, to) = self.places(range);
        let Some(last) = to.checked_sub(1).filter(|last| *last >= from) else {
            return Summary::default();
        };
        let up_to = self.sums[last].wrapping_add(self.items[last].0);
        Summary {
            count: u32::try_from(to - from).unwrap_or(u32::MAX),
            sum: up_to.wrapping_sub(self.sums[from]),
        }
    }

    /// Returns the items of a range, in order.
    pub fn of(&self, range: Range) -> &[Item] {
        let (from, to) = self.places(range);
        &self.items[from..to]
    }

    /// Answers what another node has in a range: `None` if it is the same, else what is here, divided where that is
    /// more than [`LEAF_ITEMS_MAX`].
    pub fn compare(&self, range: Range, theirs: Summary) -> Option<Contents> {
        if self.summary(range) == theirs {
            return None;
        }
        let ours = self.of(range);
        match range.parts() {
            Some(parts) if ours.len() > LEAF_ITEMS_MAX => {
                let sums = Box::new(parts.map(|part| self.summary(part)));
                Some(Contents::Split(sums))
            }
            Some(_) | None => Some(Contents::Items(ours.to_vec())),
        }
    }

    /// Returns how all items of a range on another node differ from those here. Items that don't lie in it are passed
    /// over; theirs may come in any order.
    pub fn difference(&self, range: Range, theirs: &[Item]) -> Difference {
        let ours = self.of(range);
        let mut theirs: Vec<Item> = theirs.to_vec();
        theirs.retain(|item| range.contains(*item));
        theirs.sort_unstable();
        theirs.dedup();
        let only = |of: &[Item], other: &[Item]| {
            let only = of.iter().filter(|item| other.binary_search(item).is_err());
            only.copied().collect()
        };
        Difference {
            ours: only(ours, &theirs),
            theirs: only(&theirs, ours),
        }
    }

    fn places(&self, range: Range) -> (usize, usize) {
        let from = self.items.partition_point(|item| item.0 < range.prefix);
        let to = self.items.partition_point(|item| item.0 <= range.last());
        (from, to)
    }
}

#[cfg(test)]
mod tests;
