//! Rendezvous: how the members of a topic find its keepers, and through them each other and its history.
//!
//! Whoever is a member of a topic says so to the nodes closest to the topic's point: at once, again before that expires, and to
//! whoever turns out to be close later. Those among them that keep the topic answer with other members. A member that has just
//! joined waits for this round before it takes itself for the first one. When whom is met stands in [`meetings`], how those closest are
//! found in the network in [`lookups`], what those show of other topics in [`neighbourhoods`], and which members are known for a topic to
//! others than its keepers in [`providing`].

mod lookups;
mod meetings;
mod neighbourhoods;
mod providing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt as _;
use weft_dht::{Key, Peer, Point};
use weft_identity::PeerId;
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::topics::TOPIC_UNUSED;
use crate::input::Reach;
use crate::keeping::{KEEPERS, Meeting};
use crate::{PeerContact, TopicId};

pub(super) use lookups::Lookups;
pub(super) use meetings::Renewals;

/// A changed membership is told after this long: a node that subscribes to 200 topics at once says so in few messages.
const TOLD_AFTER: Duration = Duration::from_millis(5);
/// How soon after a keeper is lost the closest are met anew: by then the table has noticed, if it is gone for good.
const REPLACED_AFTER: Duration = Duration::from_secs(2);
/// How soon a peer is met again that has not answered.
const MET_AGAIN: Duration = Duration::from_secs(5);
/// How often while there are too few, or no lookup could be begun.
const LOOKUP_AGAIN: Duration = Duration::from_secs(30);
/// Contacts of members that are remembered of a topic, from the last answers: what an active view takes several times.
const CONTACTS_KEPT: usize = 24;
/// How often members are asked for because a swarm is short of neighbours. One that has none asks sooner.
const ASKED_FOR_MEMBERS: Duration = Duration::from_secs(60);
const ASKED_WHEN_ALONE: Duration = Duration::from_secs(2);

/// What a member knows of its topic's keepers.
#[derive(Debug)]
pub(super) struct Rendezvous {
    /// When those closest are met that have not been.
    meet_at: Time,
    /// Who has been told how this node stands to the topic.
    met: BTreeSet<PeerId>,
    met_at: Time,
    look_up_at: Time,
    /// Whether a lookup runs, or waits for its turn.
    is_looked_up: bool,
    /// Whether the next one is to find members rather than the closest nodes, who name none.
    seeks_members: bool,
    /// The closest nodes that the last lookup found.
    found: Vec<PeerContact>,
    /// Members that keepers have named, the newest last.
    named: VecDeque<PeerContact>,
    pub(super) keepers: BTreeMap<PeerId, Known>,
    /// Meetings that wait for an answer.
    asked: usize,
    /// Whether everybody who was asked first has answered, or won't.
    is_over: bool,
    /// Whether anybody has said that the topic has had members before this one.
    is_known: bool,
    /// Whether this node provides the topic.
    pub(super) is_provided: bool,
}

/// What is known of one keeper.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) filled: bool,
    pub(super) subscribed: usize,
    /// How far back what it had has been taken over.
    pub(super) reached: Option<Reach>,
    /// When that was last done.
    pub(super) exchanged_at: Option<Time>,
    /// When an exchange with it failed last, and how often in a row.
    pub(super) failed_at: Option<Time>,
    pub(super) failures: u8,
    /// When it last said that it keeps the topic.
    pub(super) heard_at: Time,
}

/// Exchanges with a keeper that fail in a row, after which it counts for nothing until one succeeds.
const FAILURES_MAX: u8 = 3;

impl Known {
    pub(super) const fn is_hopeless(&self) -> bool {
        self.failures >= FAILURES_MAX
    }
}

impl Rendezvous {
    pub(super) const fn new(now: Now) -> Self {
        Self {
            meet_at: Time::NEVER,
            met: BTreeSet::new(),
            met_at: now.time,
            look_up_at: now.time,
            is_looked_up: false,
            seeks_members: false,
            found: Vec::new(),
            named: VecDeque::new(),
            keepers: BTreeMap::new(),
            asked: 0,
            is_over: false,
            is_known: false,
            is_provided: false,
        }
    }

    /// Has the point looked up again soon, rather than in its time.
    fn look_up_again(&mut self, now: Now) {
        self.look_up_at = self.look_up_at.min(now.time + LOOKUP_AGAIN);
    }

    /// Whether the closest nodes have said, once, whether they keep the topic.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether nothing is left to be taken over from those that are known.
    pub(super) fn all_exchanged(&self) -> bool {
        let mut keepers = self.keepers.values();
        keepers.all(|known| known.reached == Some(Reach::All) || known.is_hopeless())
    }

    fn name_member(&mut self, contact: &PeerContact) {
        let peer = super::peer_of(contact);
        self.named.retain(|named| super::peer_of(named) != peer);
        if self.named.len() >= CONTACTS_KEPT {
            self.named.pop_front();
        }
        self.named.push_back(contact.clone());
    }

    /// Returns the subscribers that keepers know of: whoever knows most has heard from most.
    pub(super) fn subscribed(&self) -> usize {
        let known = self.keepers.values().map(|known| known.subscribed);
        known.max().unwrap_or(0)
    }
}

/// Returns where a topic stands in the key space.
pub(super) fn point_of(topic: TopicId) -> Point {
    Key::from_array(*topic.as_bytes()).point()
}

impl Core {
    /// This node's part in a topic has changed: those closest shall know.
    pub(super) fn meet_soon(&mut self, topic: TopicId, now: Now) {
        if let Some(entry) = self.swarms.get_mut(&topic) {
            entry.rendezvous.met.clear();
        }
        self.meet_at(topic, now.time + TOLD_AFTER);
    }

    fn meet_anew(&mut self, topic: TopicId, peer: PeerId, now: Now) {
        if let Some(entry) = self.swarms.get_mut(&topic) {
            entry.rendezvous.met.remove(&peer);
        }
        self.meet_at(topic, now.time + TOLD_AFTER);
    }

    fn meet_at(&mut self, topic: TopicId, at: Time) {
        if let Some(entry) = self.swarms.get_mut(&topic) {
            entry.rendezvous.meet_at = entry.rendezvous.meet_at.min(at);
            self.asking.at = self.asking.at.min(at);
        }
    }

    /// Returns whether nobody could keep a topic but this node.
    pub(super) fn is_alone_with(&self, topic: TopicId, now: Now) -> bool {
        self.near(point_of(topic), now).is_empty()
    }

    /// Returns whether this node is one of those closest to a topic's point that keep things for others.
    pub(super) fn is_keeper_of(&self, topic: TopicId, now: Now) -> bool {
        let point = point_of(topic);
        let own = self.me.point() ^ point;
        let near = self.near(point, now);
        let closer = near
            .iter()
            .filter(|contact| (super::peer_of(contact).point() ^ point) < own);
        self.roles.stores && closer.count() < KEEPERS
    }

    fn keep_if_close(&mut self, topic: TopicId, now: Now) {
        if self.is_of_use(topic, now) && self.is_keeper_of(topic, now) {
            self.keep(topic, now);
        }
    }

    /// A topic's swarm is short of neighbours: those that keepers have named may be some, and keepers may name others.
    pub(super) fn find_members(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get(&topic) else {
            return;
        };
        let mut contacts = self.members.contacts_of(&entry.name, now);
        contacts.extend(entry.rendezvous.named.iter().cloned());
        let is_alone = entry.swarm.membership().active().next().is_none();
        let rest = match is_alone {
            true => ASKED_WHEN_ALONE,
            false => ASKED_FOR_MEMBERS,
        };
        if now.time.since(entry.rendezvous.met_at) >= rest {
            let keepers = &entry.rendezvous.keepers;
            let at = self.rng.random_range(0..keepers.len().max(1));
            match keepers.keys().nth(at).copied() {
                // One keeper knows enough of them; who has many topics would ask everybody there is otherwise.
                Some(keeper) if !is_alone => self.meet_anew(topic, keeper, now),
                _ => self.meet_soon(topic, now),
            }
        }
        if is_alone {
            self.look_up_if_lost(topic, now);
        }
        if !contacts.is_empty() {
            self.tell_swarm(topic, swarm::Input::Learned(contacts), now);
        }
    }

    /// Whether a topic is worth being kept: somebody has a use for it, or there is history of it.
    pub(super) fn is_of_use(&self, topic: TopicId, now: Now) -> bool {
        self.swarms.get(&topic).is_some_and(|entry| {
            entry.subscriptions > 0
                || entry.history_bytes > 0
                || !entry.publishing.is_idle()
                || self.members.subscribed(&entry.name, now.time) > 0
                || now.time.since(entry.used_at) < TOPIC_UNUSED
        })
    }

    /// A node close to a topic's point says how it stands to it.
    pub(super) fn met_in(
        &mut self,
        topic: TopicId,
        peer: PeerId,
        meeting: &Meeting,
        contacts: &[PeerContact],
        now: Now,
    ) {
        let keeper = self.links.get(&peer).and_then(|link| link.contact.clone());
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let rendezvous = &mut entry.rendezvous;
        rendezvous.asked = rendezvous.asked.saturating_sub(1);
        let subscribed = usize::try_from(meeting.subscribed).unwrap_or(usize::MAX);
        let own = usize::from(entry.subscriptions > 0);
        rendezvous.is_known |= meeting.based || subscribed > own;
        if meeting.keeps {
            let known = rendezvous.keepers.entry(peer).or_insert(Known {
                filled: false,
                subscribed: 0,
                reached: None,
                exchanged_at: None,
                failed_at: None,
                failures: 0,
                heard_at: now.time,
            });
            known.filled = meeting.filled;
            known.subscribed = subscribed;
            known.heard_at = now.time;
        } else if rendezvous.keepers.remove(&peer).is_some() {
            // Others are closer than it: perhaps they are known here, perhaps not.
            rendezvous.look_up_again(now);
        }
        let members = meeting.contacts.iter();
        let members = members.filter_map(|place| contacts.get(usize::try_from(*place).ok()?));
        let keeper = keeper.filter(|_| meeting.keeps && meeting.based);
        let learned: Vec<PeerContact> = members
            .filter(|contact| super::peer_of(contact) != self.me)
            .cloned()
            .chain(keeper)
            .collect();
        for contact in &learned {
            rendezvous.name_member(contact);
        }
        if !learned.is_empty() {
            self.tell_swarm(topic, swarm::Input::Learned(learned), now);
        }
        self.round_over(topic, now);
        self.exchange_if_due(topic, now);
        // The next topic shall know of the links that this one wants.
        self.tell_links(now);
    }

    /// Ends a topic's first round once nobody is left who has been asked in it.
    fn round_over(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let rendezvous = &entry.rendezvous;
        if rendezvous.is_over || rendezvous.asked > 0 || rendezvous.is_looked_up {
            return;
        }
        entry.rendezvous.is_over = true;
        let is_first = !entry.rendezvous.is_known && !entry.swarm.has_base();
        if is_first && self.knows_the_network(now) {
            self.tell_swarm(topic, swarm::Input::Alone, now);
        }
        self.provide_if_due(topic, now);
        self.exchange_if_due(topic, now);
    }

    /// A peer has not answered: it is met again, and if it has kept a topic, somebody may take its place.
    pub(super) fn not_met(&mut self, topics: &[TopicId], peer: PeerId, now: Now) {
        self.asking.lookups.neighbourhoods.forget(peer);
        for topic in topics {
            let Some(entry) = self.swarms.get_mut(topic) else {
                continue;
            };
            let rendezvous = &mut entry.rendezvous;
            rendezvous.asked = rendezvous.asked.saturating_sub(1);
            rendezvous.met.remove(&peer);
            let mut found = rendezvous.found.iter();
            if let Some(at) = found.position(|contact| super::peer_of(contact) == peer) {
                rendezvous.found.remove(at);
                rendezvous.look_up_again(now);
            }
            if rendezvous.keepers.remove(&peer).is_some() {
                rendezvous.met.clear();
            }
            self.meet_at(*topic, now.time + MET_AGAIN);
            self.round_over(*topic, now);
        }
    }

    /// A peer can't be reached any more.
    pub(super) fn keeper_lost(&mut self, peer: PeerId, now: Now) {
        self.give_up_questions(peer, now);
        for topic in self.topics_met() {
            let Some(entry) = self.swarms.get_mut(&topic) else {
                continue;
            };
            if entry.rendezvous.keepers.contains_key(&peer) {
                entry.rendezvous.met.clear();
                self.meet_at(topic, now.time + REPLACED_AFTER);
            }
        }
    }
}
