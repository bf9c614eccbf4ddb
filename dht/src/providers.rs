//! Provider records: who says that they have what a key names (libp2p's kad-dht specification, "Content provider
//! advertisement and discovery").
//!
//! A record is a provider's own word, given by itself over its own link, so it needs no signature; and it is soft: it
//! expires, and its provider announces it again before that. Full means that a new one is refused, never that an old one
//! gives way: so a flood keeps nobody out who was there before it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::table::GROUP_PER_BUCKET_MAX;
use crate::{Contact, Now, Point, UnixMicros};

/// How long a record lasts (kad-dht specification: 48 hours).
pub const PROVIDER_LASTS: Duration = Duration::from_secs(48 * 60 * 60);
/// How often a provider announces a key again (kad-dht specification: 22 hours, twice within a record's life).
pub const REPUBLISH_INTERVAL: Duration = Duration::from_secs(22 * 60 * 60);
/// Providers that one answer names (kad-dht: k).
pub const PROVIDERS_TOLD_MAX: usize = 20;
/// Providers kept for one key: a few answers' worth, of which each names others.
pub const PROVIDERS_PER_KEY_MAX: usize = 64;
/// Records in all: some 2 MiB of contacts, and far more than falls to one of a network's nodes while topics are
/// thousands.
pub const PROVIDERS_MAX: usize = 16_384;
/// Records of one provider, so that no one can fill more than a sixteenth.
pub const KEYS_PER_PROVIDER_MAX: usize = 1_024;

/// Why a record was not taken. The records are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The contact is not of the peer that sent it.
    NotItsOwn,
    /// The key has as many providers as are kept, or as many of this group.
    KeyFull,
    /// The provider has as many records as one may have.
    ProviderFull,
    /// There are as many records as are kept.
    Full,
}

#[derive(Clone, Debug)]
struct Record<C> {
    provider: C,
    expires_at: UnixMicros,
}

/// The provider records that a node keeps for others.
#[derive(Debug)]
pub struct Providers<C: Contact> {
    /// By the key's point; providers in ascending order of peer.
    records: BTreeMap<Point, Vec<Record<C>>>,
    /// How many records each provider has.
    by_provider: BTreeMap<C::Peer, usize>,
    len: usize,
}

impl<C: Contact> Default for Providers<C> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            by_provider: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<C: Contact> Providers<C> {
    /// Takes the word of a peer that it provides a key; a record that exists lasts anew.
    pub fn add(&mut self, key: Point, from: C::Peer, provider: C, now: Now) -> Result<(), Refused> {
        if provider.peer() != from {
            return Err(Refused::NotItsOwn);
        }
        let expires_at = now.unix + PROVIDER_LASTS;
        let known = self.records.get_mut(&key);
        if let Some(known) = known
            && let Ok(at) = known.binary_search_by_key(&from, |record| record.provider.peer())
        {
            known[at].expires_at = expires_at;
            if provider.issued_at() >= known[at].provider.issued_at() {
                known[at].provider = provider;
            }
            return Ok(());
        }
        if self.len >= PROVIDERS_MAX || self.is_crowded(key, &provider) {
            self.expire(now.unix);
        }
        if self.is_crowded(key, &provider) {
            return Err(Refused::KeyFull);
        }
        if self.by_provider.get(&from).copied().unwrap_or(0) >= KEYS_PER_PROVIDER_MAX {
            return Err(Refused::ProviderFull);
        }
        if self.len >= PROVIDERS_MAX {
            return Err(Refused::Full);
        }
        let records = self.records.entry(key).or_default();
        let at = records.partition_point(|record| record.provider.peer() < from);
        let record = Record {
            provider,
            expires_at,
        };
        records.insert(at, record);
        *self.by_provider.entry(from).or_default() += 1;
        self.len += 1;
        Ok(())
    }

    /// Returns up to 20 providers of a key, drawn at random if there are more: no one can make itself be named first.
    /// The asking peer isn't among them.
    pub fn of(&self, key: Point, but: C::Peer, now: Now, rng: &mut ChaCha8Rng) -> Vec<C> {
        let records = self.records.get(&key).into_iter().flatten();
        let mut providers: Vec<C> = records
            .filter(|record| record.expires_at > now.unix && record.provider.peer() != but)
            .filter(|record| record.provider.expires_at() > now.unix)
            .map(|record| record.provider.clone())
            .collect();
        while providers.len() > PROVIDERS_TOLD_MAX {
            providers.swap_remove(rng.random_range(0..providers.len()));
        }
        providers
    }

    /// Drops records that have expired.
    pub fn expire(&mut self, now: UnixMicros) {
        let by_provider = &mut self.by_provider;
        self.records.retain(|_, records| {
            records.retain(|record| {
                let lasts = record.expires_at > now;
                if !lasts && let Some(held) = by_provider.get_mut(&record.provider.peer()) {
                    *held -= 1;
                }
                lasts
            });
            !records.is_empty()
        });
        by_provider.retain(|_, held| *held > 0);
        self.len = self.records.values().map(Vec::len).sum();
    }

    /// Returns how many records are kept.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no record is kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether a key has no room for one more provider of this one's group.
    fn is_crowded(&self, key: Point, provider: &C) -> bool {
        let Some(records) = self.records.get(&key) else {
            return false;
        };
        let group = provider.group();
        let of_group = records
            .iter()
            .filter(|record| group.is_some() && record.provider.group() == group);
        records.len() >= PROVIDERS_PER_KEY_MAX || of_group.count() >= GROUP_PER_BUCKET_MAX
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::testing::{TestContact, TestPeer, at, contact};

    const HOUR_MS: u64 = 60 * 60 * 1_000;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    fn key(of: u32) -> Point {
        Point::of(&of.to_be_bytes())
    }

    fn peers(providers: &[TestContact]) -> Vec<u32> {
        providers.iter().map(|provider| provider.peer).collect()
    }

    #[test]
    fn a_record_counts_from_its_provider_only() {
        let mut providers = Providers::default();
        let refused = providers.add(key(1), TestPeer(7), contact(8), at(0));
        assert_eq!(refused, Err(Refused::NotItsOwn));
        assert!(providers.is_empty());
        assert_eq!(
            providers.add(key(1), TestPeer(8), contact(8), at(0)),
            Ok(())
        );
        let told = providers.of(key(1), TestPeer(7), at(0), &mut rng());
        assert_eq!(peers(&told), [8]);
        let itself = providers.of(key(1), TestPeer(8), at(0), &mut rng());
        assert_eq!(itself, []);
    }

    #[test]
    fn a_record_ends_after_48_hours_unless_it_is_announced_again() {
        let mut providers = Providers::default();
        for peer in [1, 2] {
            let added = providers.add(key(1), TestPeer(peer), contact(peer), at(0));
            assert_eq!(added, Ok(()));
        }
        let again = providers.add(key(1), TestPeer(2), contact(2), at(22 * HOUR_MS));
        assert_eq!((again, providers.len()), (Ok(()), 2));
        let later = at(48 * HOUR_MS);
        let told = providers.of(key(1), TestPeer(9), later, &mut rng());
        assert_eq!(peers(&told), [2]);
        providers.expire(later.unix);
        assert_eq!(providers.len(), 1);
    }

    #[test]
    fn an_answer_names_twenty_of_a_full_key_and_the_next_is_refused() {
        let mut providers = Providers::default();
        for peer in 0..64 {
            let added = providers.add(key(1), TestPeer(peer), contact(peer), at(0));
            assert_eq!(added, Ok(()));
        }
        let refused = providers.add(key(1), TestPeer(64), contact(64), at(0));
        assert_eq!(refused, Err(Refused::KeyFull));
        let told = providers.of(key(1), TestPeer(99), at(0), &mut rng());
        assert_eq!(told.len(), PROVIDERS_TOLD_MAX);
        let later = at(49 * HOUR_MS);
        let added = providers.add(key(1), TestPeer(64), contact(64), later);
        assert_eq!((added, providers.len()), (Ok(()), 1));
    }

    #[test]
    fn one_provider_and_one_group_have_their_share_only() {
        let mut providers = Providers::default();
        for of in 0..1_024 {
            let added = providers.add(key(of), TestPeer(1), contact(1), at(0));
            assert_eq!(added, Ok(()));
        }
        let refused = providers.add(key(1_024), TestPeer(1), contact(1), at(0));
        assert_eq!(refused, Err(Refused::ProviderFull));

        let of_group = |peer| TestContact {
            group: Some(5),
            ..contact(peer)
        };
        for peer in [10, 11] {
            let added = providers.add(key(1), TestPeer(peer), of_group(peer), at(0));
            assert_eq!(added, Ok(()));
        }
        let refused = providers.add(key(1), TestPeer(12), of_group(12), at(0));
        assert_eq!(refused, Err(Refused::KeyFull));
    }

    #[test]
    fn full_refuses_the_next_and_keeps_the_first() {
        let mut providers = Providers::default();
        for record in 0..16_384 {
            let (of, peer) = (record / 64, record % 64 + record / 64 % 16 * 64);
            let added = providers.add(key(of), TestPeer(peer), contact(peer), at(0));
            assert_eq!(added, Ok(()), "record {record}");
        }
        let refused = providers.add(key(9_999), TestPeer(7_777), contact(7_777), at(0));
        assert_eq!(refused, Err(Refused::Full));
        assert_eq!(providers.len(), PROVIDERS_MAX);
    }
}
