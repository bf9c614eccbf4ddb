//! Into the network, and back into it, for ever: the addresses to join, and contacts for swarms that run short of them.

use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::hyparview::ContactSource;
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::dials::Dial;
use crate::{Address, DialError, Event, PeerContact, TopicId};

/// The first wait before an address is tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(250);
/// The longest wait of a node without neighbours before an address is tried again.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How rarely a node that has neighbours tries an address that has never answered.
const RETRY_CALM: Duration = Duration::from_secs(30);
/// An address that the node was told to join.
#[derive(Debug)]
pub(super) struct JoinAddress {
    address: Address,
    try_at: Time,
    wait: Duration,
    /// It has answered at least once.
    answered: bool,
    /// Its refusal was told.
    told: bool,
    /// It is this node's own.
    own: bool,
}

impl JoinAddress {
    pub(super) const fn new(address: Address, now: Now) -> Self {
        Self {
            address,
            try_at: now.time,
            wait: RETRY_MIN,
            answered: false,
            told: false,
            own: false,
        }
    }

    pub(super) const fn is_own(&self) -> bool {
        self.own
    }
}

impl Core {
    pub(super) fn next_join_tick(&self) -> Time {
        self.joins
            .iter()
            .map(|join| join.try_at)
            .min()
            .unwrap_or(Time::NEVER)
    }

    pub(super) fn tick_joins(&mut self, now: Now) {
        for index in 0..self.joins.len() {
            if self.joins[index].try_at <= now.time {
                // Its outcome plans the next try.
                self.joins[index].try_at = Time::NEVER;
                let address = self.joins[index].address.clone();
                self.dial(Dial::Join(index), None, vec![address]);
            }
        }
    }

    /// An address to join has answered: that peer brings the node into the root swarm, unless it is in already.
    pub(super) fn joined(&mut self, index: usize, peer: PeerId, now: Now) {
        if let Some(join) = self.joins.get_mut(index) {
            join.answered = true;
            join.wait = RETRY_MIN;
        }
        self.tell_swarm(self.root, swarm::Input::Join { via: peer }, now);
    }

    pub(super) fn join_failed(&mut self, index: usize, error: DialError, now: Now) {
        let alone = self.root_is_alone();
        let jitter = self.joins.get(index).map_or(RETRY_MIN, |join| join.wait);
        let wait = self.jitter(jitter);
        let Some(join) = self.joins.get_mut(index) else {
            return;
        };
        if error == DialError::SelfDial {
            join.own = true;
            return;
        }
        join.try_at = if alone || !join.answered {
            now.time + wait
        } else {
            Time::NEVER
        };
        let longest = if alone { RETRY_MAX } else { RETRY_CALM };
        join.wait = (join.wait * 2).min(longest);
        // Nobody there yet is what retrying is for; another network or another peer won't mend itself.
        if !join.told && !matches!(error, DialError::Unreachable(_)) {
            join.told = true;
            let address = join.address.clone();
            self.event(Event::JoinFailed { address, error });
        }
    }

    /// A swarm wants contacts from outside: a topic's from its keepers, the root from the routing table and the address book.
    pub(super) fn feed(&mut self, topic: TopicId, now: Now) {
        if topic != self.root {
            return self.find_members(topic, now);
        }
        // The table has an even sample of who answers; the book holds what was linked, so its entries are tried even when
        // their descriptors have expired.
        let sample = self.sample_contacts(now);
        let contacts: Vec<PeerContact> = self.book.contacts(now);
        let all = sample.into_iter().chain(contacts.iter().cloned()).collect();
        self.tell_swarm(topic, swarm::Input::Learned(all), now);
        if self.root_is_alone() {
            self.dial_book(&contacts);
            for join in self.joins.iter_mut().filter(|join| !join.own) {
                if join.answered {
                    join.try_at = join.try_at.min(now.time);
                } else if join.try_at != Time::NEVER {
                    join.try_at = join.try_at.min(now.time + RETRY_MAX);
                }
            }
        }
    }

    /// A node without any neighbour dials a few peers of its book, whatever their descriptors' age.
    fn dial_book(&mut self, contacts: &[PeerContact]) {
        const AT_ONCE: usize = 3;
        for contact in contacts.iter().take(AT_ONCE * 8) {
            let peer = super::peer_of(contact);
            if self.dials.len() >= AT_ONCE {
                break;
            }
            if !self.links.contains_key(&peer) {
                self.dial(Dial::Book, Some(peer), contact.0.value.addresses.clone());
            }
        }
    }

    pub(super) fn root_is_alone(&self) -> bool {
        self.swarms
            .get(&self.root)
            .is_none_or(|entry| entry.swarm.membership().active().next().is_none())
    }
}
