//! Lookups of topics' points, a few at a time: a node that joins hundreds of topics at once leaves room for its callers' lookups.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_dht::dht::{self, Call, CallId};
use weft_overlay::Now;

use super::LOOKUP_AGAIN;
use super::providing::key_of;
use crate::core::Core;
use crate::keeping::MET;
use crate::{KadContact, TopicId};

/// Lookups that run at a time (a guess: each asks some twenty peers).
const RUNNING_MAX: usize = 4;
/// How often the closest nodes are looked for in the network, where the table can't hold all of them: seldom while keepers are known,
/// who know their neighbours.
const LOOKUP_EVERY: Duration = Duration::from_secs(1_800);

/// What a lookup of a topic's point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The closest nodes, and members that provide the topic.
    Find,
    /// To be known as one of those.
    Provide,
}

/// The lookups that run, and the topics that wait for theirs.
#[derive(Debug, Default)]
pub(in crate::core) struct Lookups {
    running: BTreeMap<CallId, (TopicId, Wanted)>,
    waiting: VecDeque<(TopicId, Wanted)>,
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
            self.look_up_in_turn(topic, Wanted::Find, now);
        }
    }

    pub(super) fn look_up_in_turn(&mut self, topic: TopicId, wanted: Wanted, now: Now) {
        self.asking.lookups.waiting.push_back((topic, wanted));
        self.asking.at = now.time;
    }

    /// Begins those whose turn it is.
    pub(super) fn begin_lookups(&mut self, now: Now) {
        while self.asking.lookups.running.len() < RUNNING_MAX
            && let Some((topic, wanted)) = self.asking.lookups.waiting.pop_front()
        {
            if self.is_wanted(topic, wanted) {
                let id = self.next_dht_call();
                self.asking.lookups.running.insert(id, (topic, wanted));
                let call = match wanted {
                    Wanted::Find => Call::Providers(key_of(topic)),
                    Wanted::Provide => Call::Provide(key_of(topic)),
                };
                self.tell_dht(dht::Input::Call { id, call }, now);
            }
        }
    }

    fn is_wanted(&self, topic: TopicId, wanted: Wanted) -> bool {
        let entry = self.swarms.get(&topic);
        entry.is_some_and(|entry| wanted == Wanted::Find || entry.rendezvous.is_provided)
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
        if wanted == Wanted::Provide {
            // It may have ended meanwhile. If it came to nothing, the next round of renewals tries again.
            if !matches!(outcome, dht::Outcome::Provided { .. })
                && let Some(entry) = self.swarms.get_mut(&topic)
            {
                entry.rendezvous.is_provided = false;
            }
            return true;
        }
        if let dht::Outcome::Providers { providers, .. } = outcome {
            self.providers_found(topic, providers, now);
        }
        if let Some(entry) = self.swarms.get_mut(&topic) {
            let rendezvous = &mut entry.rendezvous;
            rendezvous.is_looked_up = false;
            if let dht::Outcome::Providers { closest, .. } = outcome {
                let stores = closest.iter().filter(|contact| contact.stores());
                let found = stores.filter_map(|contact| contact.descriptor().cloned());
                rendezvous.found = found.take(MET).collect();
            } else {
                rendezvous.look_up_at = now.time + LOOKUP_AGAIN;
            }
            // Those that are new are met; where there are none, the first round may be over.
            self.meet_at(topic, now.time);
        }
        true
    }
}
