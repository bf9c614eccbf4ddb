//! A writer's dots: which comes next, and which came before it on the same key.

use std::collections::BTreeMap;

use crate::kv::{KvKey, Seq};

/// Keys whose last dot is remembered. A guess: what a client writes again and again; each takes at most 700 bytes. A key
/// that was forgotten costs an interval in the contexts of those who cite its next record.
const KEYS_MAX: usize = 4_096;

/// The last dot on a key.
#[derive(Clone, Copy, Debug)]
struct Last {
    seq: Seq,
    /// When it was given out, counted in dots.
    used: u64,
}

/// Gives out the dots of one run of a daemon, each once.
///
/// A dot that no record was made of is no harm: the one after it on its key says that it came before, and it never did.
#[derive(Clone, Debug)]
pub struct Dots {
    last: Seq,
    keys: BTreeMap<KvKey, Last>,
    /// The keys by when their last dot was given out.
    by_use: BTreeMap<u64, KvKey>,
    uses: u64,
}

impl Dots {
    /// Begins a run, whose number is on disk already and greater than those of all runs before it.
    pub fn new(epoch: u64) -> Self {
        Self {
            last: Seq { epoch, counter: 0 },
            keys: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    /// Begins a run after one that ended in order: it knows the last dots on keys as that one left them
    /// ([`Self::last_dots`]).
    ///
    /// They must be the newest: where a run gave out another dot after they were written down, they must not be used.
    pub fn after(epoch: u64, last_dots: impl IntoIterator<Item = (KvKey, Seq)>) -> Self {
        let mut dots = Self::new(epoch);
        for (key, seq) in last_dots {
            dots.remember(key, seq);
        }
        dots
    }

    /// Returns the last dots on keys, the longest unused first.
    pub fn last_dots(&self) -> impl Iterator<Item = (&KvKey, Seq)> {
        let keys = self.by_use.values();
        keys.filter_map(|key| Some((key, self.keys.get(key)?.seq)))
    }

    /// Gives out the next dot, for a record of a key, with the one before it on that key if that is known.
    pub fn next(&mut self, key: &KvKey) -> (Seq, Option<Seq>) {
        self.last.counter += 1;
        let prev = self.remember(key.clone(), self.last);
        (self.last, prev)
    }

    fn remember(&mut self, key: KvKey, seq: Seq) -> Option<Seq> {
        self.uses += 1;
        let used = self.uses;
        self.by_use.insert(used, key.clone());
        let prev = self.keys.insert(key, Last { seq, used });
        if let Some(prev) = prev {
            self.by_use.remove(&prev.used);
        } else if self.keys.len() > KEYS_MAX
            && let Some((_, longest_unused)) = self.by_use.pop_first()
        {
            self.keys.remove(&longest_unused);
        }
        prev.map(|prev| prev.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KvKey {
        KvKey::new(text).unwrap()
    }

    fn seq(epoch: u64, counter: u64) -> Seq {
        Seq { epoch, counter }
    }

    #[test]
    fn dots_count_all_writes_and_know_the_one_before_on_the_key() {
        let mut dots = Dots::new(7);
        assert_eq!(dots.next(&key("a")), (seq(7, 1), None));
        assert_eq!(dots.next(&key("b")), (seq(7, 2), None));
        assert_eq!(dots.next(&key("a")), (seq(7, 3), Some(seq(7, 1))));
        assert_eq!(dots.next(&key("a")), (seq(7, 4), Some(seq(7, 3))));
    }

    #[test]
    fn the_key_that_was_not_written_for_longest_is_forgotten() {
        let mut dots = Dots::new(7);
        for number in 0..KEYS_MAX {
            dots.next(&key(&number.to_string()));
        }
        assert!(dots.next(&key("0")).1.is_some());
        assert_eq!(dots.next(&key("one more")).1, None);
        assert_eq!(dots.next(&key("1")).1, None);
        assert!(dots.next(&key("0")).1.is_some());
        assert_eq!((dots.keys.len(), dots.by_use.len()), (KEYS_MAX, KEYS_MAX));
    }

    #[test]
    fn a_run_after_an_orderly_end_goes_on_where_that_stopped() {
        let mut dots = Dots::new(7);
        for name in ["a", "b", "a"] {
            dots.next(&key(name));
        }
        let left: Vec<(KvKey, Seq)> = dots
            .last_dots()
            .map(|(key, seq)| (key.clone(), seq))
            .collect();
        assert_eq!(left, [(key("b"), seq(7, 2)), (key("a"), seq(7, 3))]);
        let mut dots = Dots::after(8, left);
        assert_eq!(dots.next(&key("a")), (seq(8, 1), Some(seq(7, 3))));
        assert_eq!(dots.next(&key("c")), (seq(8, 2), None));
    }
}
