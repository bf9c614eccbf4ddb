//! Lookups of topics' points, a few at a time: a node that joins hundreds of topics at once leaves room for its callers' lookups.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_dht::Key;
use weft_dht::dht::{self, Call, CallId};
use weft_overlay::Now;

use super::LOOKUP_AGAIN;
use crate::core::Core;
use crate::keeping::MET;
use crate::{KadContact, TopicId};

/// Lookups that run at a time (a guess: each asks some twenty peers).
const RUNNING_MAX: usize = 4;
/// How often the closest nodes are looked for in the network, where the table can't hold all of them: seldom while keepers are known,
/// who know their neighbours.
const LOOKUP_EVERY: Duration = Duration::from_secs(1_800);

/// The lookups that run, and the topics that wait for theirs.
#[derive(Debug, Default)]
pub(in crate::core) struct Lookups {
    running: BTreeMap<CallId, TopicId>,
    waiting: VecDeque<TopicId>,
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
            self.asking.lookups.waiting.push_back(topic);
            self.asking.at = now.time;
        }
    }

    /// Begins those whose turn it is.
    pub(super) fn begin_lookups(&mut self, now: Now) {
        while self.asking.lookups.running.len() < RUNNING_MAX
            && let Some(topic) = self.asking.lookups.waiting.pop_front()
        {
            if self.swarms.contains_key(&topic) {
                let id = self.next_dht_call();
                self.asking.lookups.running.insert(id, topic);
                let call = Call::Closest(Key::from_array(*topic.as_bytes()));
                self.tell_dht(dht::Input::Call { id, call }, now);
            }
        }
    }

    /// A lookup has ended; returns whether it was for a topic.
    pub(in crate::core) fn topic_found(
        &mut self,
        lookup: CallId,
        outcome: &dht::Outcome<KadContact>,
        now: Now,
    ) -> bool {
        let Some(topic) = self.asking.lookups.running.remove(&lookup) else {
            return false;
        };
        if let Some(entry) = self.swarms.get_mut(&topic) {
            let rendezvous = &mut entry.rendezvous;
            rendezvous.is_looked_up = false;
            if let dht::Outcome::Closest { contacts } = outcome {
                let stores = contacts.iter().filter(|contact| contact.stores());
                let found = stores.filter_map(|contact| contact.descriptor().cloned());
                rendezvous.found = found.take(MET).collect();
            } else {
                rendezvous.look_up_at = now.time + LOOKUP_AGAIN;
            }
            // Those that are new are met; where there are none, the first round may be over.
            self.meet_at(topic, now.time);
        }
        self.asking.at = now.time;
        true
    }
}
