//! The two views, and the contacts that were lost, as plain data.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::config::{CONTACT_SKEW, LOST_MAX};
use crate::small::SmallMap;
use crate::{Contact, Now, Peer, Time, UnixMicros};

/// A neighbour, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveEntry<P> {
    /// Who.
    pub peer: P,
    /// Since when.
    pub since: Time,
}

/// A contact in reserve, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveEntry<P> {
    /// Who.
    pub peer: P,
    /// When it was heard of last.
    pub heard_at: Time,
}

/// What is known of a neighbour.
#[derive(Clone, Debug)]
pub(super) struct Neighbour<P, C> {
    /// None until it has told: one joins through a peer whose contact one doesn't know.
    pub(super) contact: Option<C>,
    pub(super) since: Time,
    /// Another neighbour of ours that it has named as its own, if its last shuffle named one.
    pub(super) beside: Option<P>,
    /// Whether it asked with high priority.
    pub(super) was_in_need: bool,
}

/// Returns whether a contact is worth keeping: not expired, and not issued too far ahead of our clock.
pub(super) fn is_live<C: Contact>(contact: &C, unix: UnixMicros) -> bool {
    contact.expires_at() > unix && contact.issued_at() <= unix + CONTACT_SKEW
}

/// Returns one of the candidates at random.
pub(super) fn choose<T: Copy>(candidates: &[T], rng: &mut ChaCha8Rng) -> Option<T> {
    match candidates.len() {
        0 => None,
        len => Some(candidates[rng.random_range(0..len)]),
    }
}

/// Returns up to `count` of the candidates in random order.
pub(super) fn sample<T: Copy>(
    mut candidates: Vec<T>,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<T> {
    let count = count.min(candidates.len());
    for at in 0..count {
        let other = rng.random_range(at..candidates.len());
        candidates.swap(at, other);
    }
    candidates.truncate(count);
    candidates
}

#[derive(Clone, Debug)]
struct Known<P, C> {
    contact: C,
    /// Who told; none for what came from the address book or the other layer.
    source: Option<P>,
    heard_at: Time,
}

/// The passive view.
#[derive(Clone, Debug)]
pub(super) struct Passive<P, C> {
    entries: SmallMap<P, Known<P, C>>,
    max: usize,
    per_source_max: usize,
}

impl<P: Peer, C: Contact<Peer = P>> Passive<P, C> {
    pub(super) fn new(max: usize, per_source_max: usize) -> Self {
        Self {
            entries: SmallMap::new(),
            max,
            per_source_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contact(&self, peer: P) -> Option<&C> {
        self.entries.get(&peer).map(|known| &known.contact)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = PassiveEntry<P>> + '_ {
        self.entries.iter().map(|(&peer, known)| PassiveEntry {
            peer,
            heard_at: known.heard_at,
        })
    }

    pub(super) fn contacts(&self) -> impl Iterator<Item = &C> {
        self.entries.values().map(|known| &known.contact)
    }

    /// Returns the peers whose contacts have not expired, in ascending order.
    pub(super) fn live(&self, unix: UnixMicros) -> Vec<P> {
        self.entries
            .iter()
            .filter(|(_, known)| is_live(&known.contact, unix))
            .map(|(&peer, _)| peer)
            .collect()
    }

    pub(super) fn remove(&mut self, peer: P) -> Option<C> {
        self.entries.remove(&peer).map(|known| known.contact)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn remove_expired(&mut self, unix: UnixMicros) {
        self.entries
            .retain(|_, known| is_live(&known.contact, unix));
    }

    /// Adds what was learned outside the swarm: it fills the view and displaces at most its own kind.
    pub(super) fn fill(&mut self, contact: C, now: Now, rng: &mut ChaCha8Rng) {
        let peer = contact.peer();
        if self.entries.contains_key(&peer) {
            self.refresh(contact, now.time);
            return;
        }
        if self.entries.len() >= self.max {
            let learned = self.of_source(None);
            let Some(victim) = choose(&learned, rng) else {
                return;
            };
            self.entries.remove(&victim);
        }
        self.insert(contact, None, now.time);
    }

    /// Adds what `source` told; if there is no room, something else goes: what `sent` names first (the peer has it now),
    /// then what was learned outside the swarm, then anything.
    pub(super) fn add(
        &mut self,
        contact: C,
        source: P,
        sent: &[P],
        now: Now,
        rng: &mut ChaCha8Rng,
    ) {
        let peer = contact.peer();
        if let Some(known) = self.entries.get_mut(&peer) {
            known.source = known.source.or(Some(source));
            self.refresh(contact, now.time);
            return;
        }
        let of_source = self.of_source(Some(source));
        if of_source.len() >= self.per_source_max {
            if let Some(victim) = choose(&of_source, rng) {
                self.entries.remove(&victim);
            }
        } else if self.entries.len() >= self.max {
            self.make_room(sent, rng);
        }
        self.insert(contact, Some(source), now.time);
    }

    fn make_room(&mut self, sent: &[P], rng: &mut ChaCha8Rng) {
        let held: Vec<P> = sent
            .iter()
            .copied()
            .filter(|peer| self.entries.contains_key(peer))
            .collect();
        let victim = choose(&held, rng)
            .or_else(|| choose(&self.of_source(None), rng))
            .or_else(|| choose(&self.entries.keys().copied().collect::<Vec<_>>(), rng));
        if let Some(victim) = victim {
            self.entries.remove(&victim);
        }
    }

    fn insert(&mut self, contact: C, source: Option<P>, heard_at: Time) {
        let known = Known {
            source,
            heard_at,
            contact,
        };
        self.entries.insert(known.contact.peer(), known);
    }

    fn refresh(&mut self, contact: C, heard_at: Time) {
        if let Some(known) = self.entries.get_mut(&contact.peer()) {
            known.heard_at = heard_at;
            if contact.issued_at() > known.contact.issued_at() {
                known.contact = contact;
            }
        }
    }

    fn of_source(&self, source: Option<P>) -> Vec<P> {
        self.entries
            .iter()
            .filter(|(_, known)| known.source == source)
            .map(|(&peer, _)| peer)
            .collect()
    }
}

#[derive(Clone, Debug)]
struct LostPeer<C> {
    contact: C,
    lost_at: Time,
    probe_at: Time,
}

/// Contacts that were lost lately; probing them is what merges a network that was split.
#[derive(Clone, Debug)]
pub(super) struct Lost<P, C> {
    entries: SmallMap<P, LostPeer<C>>,
}

impl<P: Peer, C: Contact<Peer = P>> Lost<P, C> {
    pub(super) fn new() -> Self {
        Self {
            entries: SmallMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a contact, or notes that a probe of it failed.
    pub(super) fn add(&mut self, contact: C, now: Time, probe_at: Time) {
        if let Some(lost) = self.entries.get_mut(&contact.peer()) {
            lost.probe_at = probe_at;
            return;
        }
        if self.entries.len() >= LOST_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, lost)| lost.lost_at);
            if let Some((&oldest, _)) = oldest {
                self.entries.remove(&oldest);
            }
        }
        let lost = LostPeer {
            lost_at: now,
            probe_at,
            contact,
        };
        self.entries.insert(lost.contact.peer(), lost);
    }

    pub(super) fn contact(&self, peer: P) -> Option<&C> {
        self.entries.get(&peer).map(|lost| &lost.contact)
    }

    pub(super) fn remove(&mut self, peer: P) -> Option<C> {
        self.entries.remove(&peer).map(|lost| lost.contact)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Returns who is due for a probe, and forgets who was lost before `lost_for`.
    pub(super) fn due(&mut self, lost_for: std::time::Duration, now: Now) -> Vec<P> {
        self.entries.retain(|_, lost| {
            now.time.since(lost.lost_at) < lost_for && is_live(&lost.contact, now.unix)
        });
        self.entries
            .iter()
            .filter(|(_, lost)| lost.probe_at <= now.time)
            .map(|(&peer, _)| peer)
            .collect()
    }

    pub(super) fn postpone(&mut self, peer: P, probe_at: Time) {
        if let Some(lost) = self.entries.get_mut(&peer) {
            lost.probe_at = probe_at;
        }
    }

    /// Returns when the next probe is due, leaving out those that `skip` names.
    pub(super) fn next_probe(&self, skip: impl Fn(P) -> bool) -> Time {
        self.entries
            .iter()
            .filter(|(peer, _)| !skip(**peer))
            .map(|(_, lost)| lost.probe_at)
            .min()
            .unwrap_or(Time::NEVER)
    }
}
