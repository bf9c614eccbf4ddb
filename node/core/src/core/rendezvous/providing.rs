//! Topics as keys that members provide: in a network that is larger than a table, some members of each topic are known for it to the
//! twenty nodes closest to its point, whether those keep the topic or not, and the lookup of the point finds them.
//!
//! Keepers tell of members; but all of them may be gone at once, or out of a member's reach, or leave members out. Provider records are
//! held by others besides, who need know nothing of topics (libp2p's kad-dht specification, "Content provider advertisement"), and a
//! record of a member that has gone costs a dial.

use weft_dht::table::K;
use weft_dht::{Key, Peer, dht};
use weft_overlay::{Now, swarm};

use super::lookups::Wanted;
use super::point_of;
use crate::core::Core;
use crate::{KadContact, TopicId};

/// Members that provide a topic besides its keepers, about: some views' worth, so that a few may have gone.
const PROVIDERS_WANTED: u128 = 8;

pub(super) fn key_of(topic: TopicId) -> Key {
    Key::from_array(*topic.as_bytes())
}

impl Core {
    /// Begins or ends to provide a topic, as this node's part in it has it.
    pub(super) fn provide_if_due(&mut self, topic: TopicId, now: Now) {
        let is_due = self.is_to_provide(topic);
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let was = std::mem::replace(&mut entry.rendezvous.is_provided, is_due);
        if is_due && !was {
            self.look_up_in_turn(topic, Wanted::Provide, now);
        } else if was && !is_due {
            self.stop_providing_topic(topic, now);
        }
    }

    pub(in crate::core) fn stop_providing_topic(&mut self, topic: TopicId, now: Now) {
        let key = key_of(topic);
        self.tell_dht(dht::Input::StopProviding { key }, now);
    }

    /// Keepers do, and of the members those closest to the point, so that about as many do as are wanted whoever comes and goes.
    fn is_to_provide(&self, topic: TopicId) -> bool {
        let Some(entry) = self.swarms.get(&topic) else {
            return false;
        };
        let rendezvous = &entry.rendezvous;
        if self.table().len() <= K || !self.roles.serves || !rendezvous.is_over {
            return false;
        }
        if entry.keeps || entry.subscriptions == 0 {
            return entry.keeps;
        }
        // Whoever does goes on until there are twice as many members: numbers that keepers tell differ a little.
        let wanted = PROVIDERS_WANTED << u32::from(rendezvous.is_provided);
        let share = u128::from((self.me.point() ^ point_of(topic)).lead());
        let subscribed = rendezvous.subscribed().try_into().unwrap_or(u128::MAX);
        share.saturating_mul(subscribed) < wanted << u64::BITS
    }

    /// A lookup has found members that provide the topic.
    pub(super) fn providers_found(&mut self, topic: TopicId, found: &[KadContact], now: Now) {
        let found = found.iter().filter_map(|contact| contact.descriptor());
        let found: Vec<_> = found.cloned().collect();
        let Some(entry) = self.swarms.get_mut(&topic).filter(|_| !found.is_empty()) else {
            return;
        };
        for contact in &found {
            entry.rendezvous.name_member(contact);
        }
        self.tell_swarm(topic, swarm::Input::Learned(found), now);
    }

    /// A member has no neighbour, and no keeper that could name one: others are looked for.
    pub(super) fn look_up_if_lost(&mut self, topic: TopicId, now: Now) {
        if let Some(entry) = self.swarms.get_mut(&topic)
            && entry.rendezvous.keepers.is_empty()
        {
            let rendezvous = &mut entry.rendezvous;
            rendezvous.look_up_again(now);
            rendezvous.seeks_members = true;
        }
    }
}
