//! Lookups of topics' points, a few at a time: a node that joins hundreds of topics at once leaves room for its callers' lookups.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_dht::dht::{self, Call, CallId};
use weft_dht::providers::PROVIDERS_TOLD_MAX;
use weft_identity::PeerId;
use weft_overlay::Now;

use super::neighbourhoods::Neighbourhoods;
use super::providing::key_of;
use super::{LOOKUP_AGAIN, point_of};
use crate::core::Core;
use crate::keeping::MET;
use crate::{KadContact, PeerContact, TopicId};

/// Lookups that run at a time (a guess: each asks some twenty peers).
const RUNNING_MAX: usize = 4;
/// The same while this node has many links: it makes those of one lookup after those of the other.
const RUNNING_MAX_IF_CROWDED: usize = 1;
/// How often the closest nodes are looked for in the network, where the table can't hold all of them: seldom while keepers are known,
/// who know their neighbours.
const LOOKUP_EVERY: Duration = Duration::from_secs(1_800);

/// What a lookup of a topic's point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The closest nodes.
    Closest,
    /// Members that provide the topic, as nobody names any.
    Members,
    /// To be known as one of those.
    Provide,
    /// The closest nodes, for a publish by hand.
    Hand,
}

/// The lookups that run, and the topics that wait for theirs.
#[derive(Debug, Default)]
pub(in crate::core) struct Lookups {
    running: BTreeMap<CallId, (TopicId, Wanted)>,
    waiting: VecDeque<(TopicId, Wanted)>,
    pub(super) neighbourhoods: Neighbourhoods,
}

impl Lookups {
    /// Takes out whose turn it is: a caller who waits goes first, and who looks for others before who is to be found.
    fn take_next(&mut self) -> Option<(TopicId, Wanted)> {
        let wanted = self.waiting.iter().map(|(_, wanted)| *wanted);
        let first = |is: fn(Wanted) -> bool| wanted.clone().position(is);
        let at = first(|wanted| wanted == Wanted::Hand);
        let at = at.or_else(|| first(|wanted| wanted != Wanted::Provide));
        self.waiting.remove(at.unwrap_or(0))
    }
}

impl Core {
    /// Has the closest nodes to a topic's point looked for in the network, if that is due.
    pub(super) fn look_up_if_due(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let rendezvous = &mut entry.rendezvous;
        if rendezvous.look_up_at > now.time {
            return;
        }
        rendezvous.look_up_at = now.time + LOOKUP_EVERY;
        if !std::mem::replace(&mut rendezvous.is_looked_up, true) {
            let wanted = match std::mem::take(&mut rendezvous.seeks_members) {
                true => Wanted::Members,
                false => Wanted::Closest,
            };
            self.look_up_in_turn(topic, wanted, now);
        }
    }

    pub(super) fn look_up_in_turn(&mut self, topic: TopicId, wanted: Wanted, now: Now) {
        self.asking.lookups.waiting.push_back((topic, wanted));
        self.asking.at = now.time;
    }

    /// Begins those whose turn it is.
    pub(super) fn begin_lookups(&mut self, now: Now) {
        let running_max = match self.is_crowded() {
            true => RUNNING_MAX_IF_CROWDED,
            false => RUNNING_MAX,
        };
        while self.asking.lookups.running.len() < running_max
            && let Some((topic, wanted)) = self.asking.lookups.take_next()
        {
            if self.is_wanted(topic, wanted) && !self.is_found(topic, wanted, now) {
                let id = self.next_dht_call();
                self.asking.lookups.running.insert(id, (topic, wanted));
                let call = match wanted {
                    Wanted::Closest | Wanted::Members => Call::Providers(key_of(topic)),
                    Wanted::Provide => Call::Provide(key_of(topic)),
                    Wanted::Hand => Call::Closest(key_of(topic)),
                };
                self.tell_dht(dht::Input::Call { id, call }, now);
            }
        }
    }

    fn is_wanted(&self, topic: TopicId, wanted: Wanted) -> bool {
        let entry = self.swarms.get(&topic);
        match wanted {
            Wanted::Closest | Wanted::Members => entry.is_some(),
            Wanted::Provide => entry.is_some_and(|entry| entry.rendezvous.is_provided),
            Wanted::Hand => self.hands_on(topic),
        }
    }

    /// Has the closest nodes to a topic's point looked for, for a publish by hand.
    pub(in crate::core) fn look_up_for_hand(&mut self, topic: TopicId, now: Now) {
        self.look_up_in_turn(topic, Wanted::Hand, now);
    }

    /// A peer is no keeper of a topic, or has not answered: what lookups have shown of where it is is not true any more.
    pub(in crate::core) fn unsee(&mut self, peer: PeerId) {
        self.asking.lookups.neighbourhoods.forget(peer);
    }

    /// Returns those closest to a topic's point as far as lookups have shown them lately.
    pub(in crate::core) fn seen_closest(&self, topic: TopicId, now: Now) -> Vec<PeerContact> {
        let seen = &self.asking.lookups.neighbourhoods;
        seen.closest(point_of(topic), now).unwrap_or_default()
    }

    /// Takes those closest to a topic's point from what other lookups have shown, and returns whether they have.
    fn is_found(&mut self, topic: TopicId, wanted: Wanted, now: Now) -> bool {
        if wanted != Wanted::Closest {
            return false;
        }
        let known = &self.asking.lookups.neighbourhoods;
        let closest = known.closest(point_of(topic), now);
        let is_found = closest.is_some();
        if is_found {
            self.found_closest(topic, closest, now);
        }
        is_found
    }

    /// The lookup of a topic's point is over.
    fn found_closest(&mut self, topic: TopicId, closest: Option<Vec<PeerContact>>, now: Now) {
        if let Some(entry) = self.swarms.get_mut(&topic) {
            let rendezvous = &mut entry.rendezvous;
            rendezvous.is_looked_up = false;
            match closest {
                Some(closest) => rendezvous.found = closest,
                None => rendezvous.look_up_at = now.time + LOOKUP_AGAIN,
            }
            // Those that are new are met; where there are none, the first round may be over.
            self.meet_at(topic, now.time);
        }
    }

    /// A lookup has ended; returns whether it was for a topic.
    pub(in crate::core) fn topic_found(
        &mut self,
        lookup: CallId,
        outcome: &dht::Outcome<KadContact>,
        now: Now,
    ) -> bool {
        let Some((topic, wanted)) = self.asking.lookups.running.remove(&lookup) else {
            return false;
        };
        self.asking.at = now.time;
        if wanted == Wanted::Hand {
            let closest = match outcome {
                dht::Outcome::Closest { contacts } => self.note_closest(topic, contacts, now),
                _ => Vec::new(),
            };
            self.hand_found(topic, &closest, now);
            return true;
        }
        if wanted == Wanted::Provide {
            // It may have ended meanwhile. If it came to nothing, the next round of renewals tries again.
            if !matches!(outcome, dht::Outcome::Provided { .. })
                && let Some(entry) = self.swarms.get_mut(&topic)
            {
                entry.rendezvous.is_provided = false;
            }
            return true;
        }
        let dht::Outcome::Providers { providers, closest } = outcome else {
            self.found_closest(topic, None, now);
            return true;
        };
        self.providers_found(topic, providers, now);
        let found = match providers.len() {
            // It has asked everybody there.
            ..PROVIDERS_TOLD_MAX => self.note_closest(topic, closest, now),
            _ => those_that_keep(closest),
        };
        self.found_closest(topic, Some(found), now);
        true
    }

    /// Notes whom a lookup that asked everybody has found around a topic's point; returns the closest of them that keep things.
    fn note_closest(
        &mut self,
        topic: TopicId,
        closest: &[KadContact],
        now: Now,
    ) -> Vec<PeerContact> {
        let known = &mut self.asking.lookups.neighbourhoods;
        known.note(point_of(topic), closest, now);
        those_that_keep(closest)
    }
}

/// Returns the closest that keep things for others.
fn those_that_keep(closest: &[KadContact]) -> Vec<PeerContact> {
    let stores = closest.iter().filter(|contact| contact.stores());
    let found = stores.filter_map(|contact| contact.descriptor().cloned());
    found.take(MET).collect()
}
