//! A writer's dots: which comes next, and which came before it on the same key.
//!
//! A dot is *reserved* when a write begins, and what it is reserved for goes to disk; it is *made* when a record is made of
//! it, which is sent only once the reservation is durable. So a run that follows knows of each key the last dot that any
//! record of it can have, whether the run before stopped in order or was killed, and its records go on where those ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::kv::{KvKey, Seq};

/// Keys whose last dot is remembered. A guess: what a client writes again and again; each takes at most 700 bytes. A key
/// that was forgotten costs an interval in the contexts of those who cite its next record.
const KEYS_MAX: usize = 4_096;

/// What is known of a key's dots.
#[derive(Clone, Debug, Default)]
struct OfKey {
    /// Those that records were made of: the last, and what lies between it and those that are reserved.
    made: BTreeSet<Seq>,
    /// Those that records may still be made of.
    reserved: BTreeSet<Seq>,
    /// When one was reserved last, counted in reservations.
    used: u64,
}

/// Gives out the dots of one run of a daemon, each once.
#[derive(Clone, Debug)]
pub struct Dots {
    last: Seq,
    keys: BTreeMap<KvKey, OfKey>,
    /// The keys by when a dot was last reserved for them.
    by_use: BTreeMap<u64, KvKey>,
    uses: u64,
}

impl OfKey {
    /// Returns the last dot of all, or before one, that a record has or may still have.
    fn last(&self, before: Option<Seq>) -> Option<Seq> {
        let last = |of: &BTreeSet<Seq>| match before {
            Some(seq) => of.range(..seq).next_back().copied(),
            None => of.last().copied(),
        };
        last(&self.made).max(last(&self.reserved))
    }

    /// Forgets what no record will come after.
    fn prune(&mut self) {
        let oldest = self.reserved.first().or(self.made.last());
        let before = oldest.and_then(|oldest| self.made.range(..=oldest).next_back().copied());
        if let Some(before) = before {
            self.made = self.made.split_off(&before);
        }
    }
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

    /// Takes the last dot that an earlier run reserved for a key; the oldest first. Returns the key that is forgotten for it,
    /// where there are too many.
    ///
    /// It must be the last: where that run made a record of another one after it, it must not be used.
    pub fn restore(&mut self, key: &KvKey, seq: Seq) -> Option<KvKey> {
        self.touch(key).made.insert(seq);
        self.forget_one()
    }

    /// Returns the next dot, for a record whose order is known otherwise: one of this node's own keys.
    pub fn take(&mut self) -> Seq {
        self.last.counter += 1;
        self.last
    }

    /// Reserves the next dot for a record of a key. Returns it, and the key that is forgotten for it.
    pub fn reserve(&mut self, key: &KvKey) -> (Seq, Option<KvKey>) {
        let seq = self.take();
        self.touch(key).reserved.insert(seq);
        (seq, self.forget_one())
    }

    /// Takes that a record is made of a reserved dot. Returns the dot of its key before it, if that is known: no record has
    /// or will have one between the two.
    pub fn make(&mut self, key: &KvKey, seq: Seq) -> Option<Seq> {
        let of_key = self.keys.get_mut(key)?;
        let prev = of_key.last(Some(seq));
        of_key.reserved.remove(&seq);
        of_key.made.insert(seq);
        of_key.prune();
        prev
    }

    /// Takes that no record will be made of a reserved dot. Returns what is to be known of the key after this: the last dot
    /// that a record has or may still have, if any.
    pub fn give_up(&mut self, key: &KvKey, seq: Seq) -> Option<Seq> {
        let of_key = self.keys.get_mut(key)?;
        of_key.reserved.remove(&seq);
        of_key.prune();
        of_key.last(None)
    }

    fn touch(&mut self, key: &KvKey) -> &mut OfKey {
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        let of_key = self.keys.entry(key.clone()).or_default();
        self.by_use.remove(&of_key.used);
        of_key.used = self.uses;
        of_key
    }

    /// Forgets the key that was used longest ago, if there are too many. One that a record may still be made for stays.
    fn forget_one(&mut self) -> Option<KvKey> {
        if self.keys.len() <= KEYS_MAX {
            return None;
        }
        let idle = |key: &KvKey| self.keys.get(key).is_none_or(|of| of.reserved.is_empty());
        let mut by_use = self.by_use.iter();
        let (&used, key) = by_use.find(|(_, key)| idle(key))?;
        let key = key.clone();
        self.by_use.remove(&used);
        self.keys.remove(&key);
        Some(key)
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

    /// Reserves a dot and makes a record of it.
    fn write(dots: &mut Dots, name: &str) -> (Seq, Option<Seq>) {
        let (seq, _) = dots.reserve(&key(name));
        (seq, dots.make(&key(name), seq))
    }

    #[test]
    fn dots_count_all_writes_and_know_the_one_before_on_the_key() {
        let mut dots = Dots::new(7);
        assert_eq!(write(&mut dots, "a"), (seq(7, 1), None));
        assert_eq!(write(&mut dots, "b"), (seq(7, 2), None));
        assert_eq!(write(&mut dots, "a"), (seq(7, 3), Some(seq(7, 1))));
        assert_eq!(dots.take(), seq(7, 4));
        assert_eq!(write(&mut dots, "a"), (seq(7, 5), Some(seq(7, 3))));
    }

    #[test]
    fn a_dot_that_nothing_was_made_of_leaves_no_gap() {
        let mut dots = Dots::new(7);
        write(&mut dots, "a");
        let (unused, _) = dots.reserve(&key("a"));
        assert_eq!(dots.give_up(&key("a"), unused), Some(seq(7, 1)));
        assert_eq!(write(&mut dots, "a"), (seq(7, 3), Some(seq(7, 1))));
        let (first, _) = dots.reserve(&key("b"));
        assert_eq!(dots.give_up(&key("b"), first), None);
    }

    #[test]
    fn records_that_are_made_out_of_order_never_stand_for_each_other() {
        let mut dots = Dots::new(7);
        write(&mut dots, "a");
        let [first, second, third] = [(); 3].map(|()| dots.reserve(&key("a")).0);
        assert_eq!(dots.make(&key("a"), third), Some(second));
        assert_eq!(dots.make(&key("a"), first), Some(seq(7, 1)));
        assert_eq!(dots.give_up(&key("a"), second), Some(third));
        assert_eq!(write(&mut dots, "a").1, Some(third));
        assert_eq!(dots.keys[&key("a")].made.len(), 1);
    }

    #[test]
    fn the_key_that_was_not_written_for_longest_is_forgotten() {
        let mut dots = Dots::new(7);
        for number in 0..KEYS_MAX {
            let (_, forgotten) = dots.reserve(&key(&number.to_string()));
            assert_eq!(forgotten, None);
        }
        // Something may still be made of all of them.
        let (seq, forgotten) = dots.reserve(&key("one more"));
        assert_eq!(forgotten, None);
        dots.make(&key("one more"), seq);
        for number in 0..KEYS_MAX as u64 {
            let (key, dot) = (key(&number.to_string()), self::seq(7, number + 1));
            assert_eq!(dots.make(&key, dot), None);
        }
        let (seq, forgotten) = dots.reserve(&key("0"));
        assert_eq!(forgotten, Some(key("1")));
        assert!(dots.make(&key("0"), seq).is_some());
        assert_eq!(write(&mut dots, "1").1, None);
        assert_eq!((dots.keys.len(), dots.by_use.len()), (KEYS_MAX, KEYS_MAX));
    }

    #[test]
    fn a_run_goes_on_where_the_one_before_ended() {
        let mut dots = Dots::new(8);
        assert_eq!(dots.restore(&key("b"), seq(7, 2)), None);
        assert_eq!(dots.restore(&key("a"), seq(7, 3)), None);
        assert_eq!(write(&mut dots, "a"), (seq(8, 1), Some(seq(7, 3))));
        assert_eq!(write(&mut dots, "c"), (seq(8, 2), None));
        for number in 0..KEYS_MAX {
            let forgotten = dots.restore(&key(&number.to_string()), seq(7, 4));
            assert_eq!(forgotten.is_some(), number >= KEYS_MAX - 3, "{number}");
        }
    }
}
