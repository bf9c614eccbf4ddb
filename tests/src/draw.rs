//! Choices that look random, and are the same for the same seed.

/// Draws numbers by splitmix64.
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    /// Begins with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound that isn't 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }

    /// So many of them, none twice; there must be as many.
    pub fn some(&mut self, count: usize, mut from: Vec<String>) -> Vec<String> {
        let taken = (0..count).map(|_| from.swap_remove(self.below(from.len())));
        taken.collect()
    }
}
