//! Bodies that were verified lately.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_identity::Hash;

use crate::{PeerContact, TopicId};

/// Bundles in one of two generations: at 10,000 bundles a second the copies of one come well within the three seconds
/// that this holds at least, and both together take some 6 MiB. One forgotten costs a signature check, nothing else.
const BUNDLES_PER_GENERATION: usize = 32_768;
/// Descriptors in one of two generations: those of the views of many swarms. At its largest one takes 5 KiB.
const CONTACTS_PER_GENERATION: usize = 512;

/// Bodies that were verified lately, shared by all links of a node, and the network that they belong to.
///
/// Only what was verified gets in, so that whoever sends a forged bundle can't keep the true one out.
#[derive(Debug, Default)]
pub struct KnownBodies {
    /// Records of the store are signed for it.
    network: Arc<str>,
    bundles: [BTreeSet<(Hash, TopicId)>; 2],
    contacts: [BTreeMap<Hash, PeerContact>; 2],
}

impl KnownBodies {
    /// Knows nothing of a network yet.
    pub fn new(network: &str) -> Self {
        Self {
            network: network.into(),
            ..Self::default()
        }
    }

    /// Returns the network's name.
    pub(super) fn network(&self) -> Arc<str> {
        Arc::clone(&self.network)
    }

    /// Records a bundle whose signature was made or checked here: a topic's, with this hash of its body.
    pub fn insert(&mut self, topic: TopicId, hash: Hash) {
        let [young, old] = &mut self.bundles;
        if young.len() >= BUNDLES_PER_GENERATION {
            *old = std::mem::take(young);
        }
        young.insert((hash, topic));
    }

    /// Returns whether a bundle was recorded lately.
    pub fn contains(&self, topic: TopicId, hash: Hash) -> bool {
        self.bundles.iter().any(|set| set.contains(&(hash, topic)))
    }

    /// Returns the descriptor whose body has this hash, if it was verified lately.
    pub(super) fn contact(&mut self, hash: &Hash) -> Option<PeerContact> {
        if let Some(contact) = self.contacts[0].get(hash) {
            return Some(contact.clone());
        }
        // What is still in use moves on to the young generation.
        let contact = self.contacts[1].remove(hash)?;
        self.insert_contact(contact.clone());
        Some(contact)
    }

    pub(super) fn insert_contact(&mut self, contact: PeerContact) {
        let [young, old] = &mut self.contacts;
        if young.len() >= CONTACTS_PER_GENERATION {
            *old = std::mem::take(young);
        }
        young.insert(contact.0.hash, contact);
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::Keypair;
    use weft_overlay::UnixMicros;

    use super::*;

    #[test]
    fn the_recent_ones_are_known_and_the_number_is_bounded() {
        let mut known = KnownBodies::default();
        let topic = TopicId::from_bytes([1; 32]);
        let hash = |n: usize| Hash::of(&n.to_be_bytes());
        let total = 3 * BUNDLES_PER_GENERATION;
        for n in 0..total {
            known.insert(topic, hash(n));
        }
        let kept: usize = known.bundles.iter().map(BTreeSet::len).sum();
        assert!((BUNDLES_PER_GENERATION..=2 * BUNDLES_PER_GENERATION).contains(&kept));
        assert!((total - BUNDLES_PER_GENERATION..total).all(|n| known.contains(topic, hash(n))));
        assert!(!known.contains(topic, hash(0)));
        assert!(!known.contains(TopicId::from_bytes([2; 32]), hash(total - 1)));
    }

    #[test]
    fn a_descriptor_in_use_outlives_the_others() {
        let mut known = KnownBodies::default();
        let key = Keypair::from_seed(&[1; 32]);
        let contact = |n: usize| {
            PeerContact::issue(
                &key,
                &[],
                UnixMicros(n as u64),
                UnixMicros(u64::MAX),
                crate::Roles::default(),
            )
        };
        let used = contact(0);
        known.insert_contact(used.clone());
        for n in 1..3 * CONTACTS_PER_GENERATION {
            known.insert_contact(contact(n));
            assert_eq!(known.contact(&used.0.hash), Some(used.clone()));
        }
        assert!(known.contact(&contact(1).0.hash).is_none());
        let kept: usize = known.contacts.iter().map(BTreeMap::len).sum();
        assert!(kept <= 2 * CONTACTS_PER_GENERATION);
    }
}
