//! Topics: which ones the node is a member of, and who else has announced to be.
//!
//! Until topics have keepers, a member announces its topics over the root swarm: at once when they change, and again before the
//! announcement expires. Passive views of a topic's swarm fill from that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::plumtree::Start;
use weft_overlay::{Now, Time, UnixMicros, swarm};

use super::Core;
use super::swarms::Waiting;
use crate::input::Reach;
use crate::wire::membership::{self, Membership, TOPICS_MAX, TopicMembership};
use crate::{Output, PeerContact, Reply, RequestId, TopicBundle, TopicId, TopicName};

/// An announced membership holds for this long, and is renewed three times in it (the design's bounds).
pub(super) const MEMBERSHIP_VALID: Duration = Duration::from_secs(60);
pub(super) const MEMBERSHIP_RENEWED: Duration = Duration::from_secs(20);
/// Changes are announced together after this long: a node that subscribes to 200 topics at once says so in one message.
pub(super) const ANNOUNCE_AFTER: Duration = Duration::from_millis(5);
/// A topic that the node has not used for this long is left (the design's bound).
pub(super) const TOPIC_UNUSED: Duration = Duration::from_secs(300);
/// Topics that a node is a member of: a swarm takes some 20 kB at rest.
pub(super) const MEMBER_OF_MAX: usize = 1_024;
/// Announced memberships that are remembered, some 300 bytes each; 1,000 nodes with 64 topics each fit.
const MEMBERSHIPS_MAX: usize = 65_536;
/// Of what the peer with the most memberships has above a newcomer, this part goes at once when there is no room: looking for it costs
/// a walk through all peers.
const DISPLACED_SHARE: usize = 16;
/// Topics of one peer that are remembered.
const TOPICS_OF_PEER_MAX: usize = 2 * MEMBER_OF_MAX;
/// How long a publisher or a lone subscriber gives the announcements of others to arrive after joining the network.
const NETWORK_SETTLES: Duration = Duration::from_secs(1);

/// A peer that has announced to be a member of a topic.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) subscribed: bool,
    pub(super) heard_at: Time,
    expires_at: Time,
    issued_at: UnixMicros,
    contact: PeerContact,
}

/// Who has announced to be a member of what.
#[derive(Debug, Default)]
pub(super) struct Members {
    topics: BTreeMap<TopicName, BTreeMap<PeerId, Member>>,
    by_peer: BTreeMap<PeerId, BTreeSet<TopicName>>,
    count: usize,
    /// Own topics whose membership has changed since it was announced.
    unannounced: BTreeSet<TopicName>,
    /// When everything is announced again.
    renew_at: Time,
    /// When expired memberships are swept out.
    sweep_at: Time,
}

impl Members {
    /// Returns the topics that anybody has announced to be a member of.
    pub(super) fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.keys()
    }

    /// Returns how to reach the members of a topic.
    pub(super) fn contacts_of(&self, topic: &TopicName, now: Now) -> Vec<PeerContact> {
        self.current(topic, now.time)
            .map(|(_, member)| member.contact.clone())
            .collect()
    }

    /// Returns how many others are subscribed.
    pub(super) fn subscribed(&self, topic: &TopicName, now: Time) -> usize {
        self.current(topic, now)
            .filter(|(_, member)| member.subscribed)
            .count()
    }

    /// Returns the others whose announcements hold, in ascending order of peer.
    pub(super) fn current(
        &self,
        topic: &TopicName,
        now: Time,
    ) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.of(topic)
            .filter(move |(_, member)| member.expires_at > now)
    }

    fn of(&self, topic: &TopicName) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.topics.get(topic).into_iter().flatten()
    }

    /// Takes in one membership; returns false where there is no room for it.
    fn insert(&mut self, topic: TopicName, peer: PeerId, member: Member) -> bool {
        let of_peer = self.by_peer.get(&peer);
        let is_known = of_peer.is_some_and(|topics| topics.contains(&topic));
        let share = of_peer.map_or(0, BTreeSet::len);
        if !is_known
            && (share >= TOPICS_OF_PEER_MAX
                || (self.count >= MEMBERSHIPS_MAX && !self.displace(share)))
        {
            return false;
        }
        let members = self.topics.entry(topic.clone()).or_default();
        if members
            .get(&peer)
            .is_some_and(|known| known.issued_at > member.issued_at)
        {
            return true;
        }
        if members.insert(peer, member).is_none() {
            self.count += 1;
            self.by_peer.entry(peer).or_default().insert(topic);
        }
        true
    }

    /// Takes from the peer with the most memberships a part of what it has above `share`; returns false where nobody has more.
    fn displace(&mut self, share: usize) -> bool {
        let largest = self.by_peer.iter_mut().max_by_key(|(_, of)| of.len());
        let Some((peer, of)) = largest.filter(|(_, of)| of.len() > share + 1) else {
            return false;
        };
        let keeps = of.len() - ((of.len() - share) / DISPLACED_SHARE).max(1);
        while of.len() > keeps {
            let Some(topic) = of.pop_last() else { break };
            if let Some(members) = self.topics.get_mut(&topic) {
                members.remove(peer);
                if members.is_empty() {
                    self.topics.remove(&topic);
                }
            }
            self.count -= 1;
        }
        true
    }

    fn sweep(&mut self, now: Time) {
        let by_peer = &mut self.by_peer;
        let mut left = 0;
        self.topics.retain(|name, members| {
            members.retain(|peer, member| {
                let holds = member.expires_at > now;
                if !holds && let Some(topics) = by_peer.get_mut(peer) {
                    topics.remove(name);
                }
                holds
            });
            left += members.len();
            !members.is_empty()
        });
        by_peer.retain(|_, topics| !topics.is_empty());
        self.count = left;
    }
}

impl Core {
    pub(super) fn subscribe(
        &mut self,
        request: RequestId,
        name: TopicName,
        reach: Reach,
        now: Now,
    ) {
        let Some(topic) = self.join_topic(name.clone(), now) else {
            return self.reply(request, Reply::TooManyTopics);
        };
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        entry.subscriptions += 1;
        entry.used_at = now.time;
        entry.waiting.push(Waiting { request, reach });
        if entry.subscriptions == 1 {
            self.announce_soon(name, now);
            self.meet_soon(topic, now);
        }
        self.record_topic(topic, now);
        self.exchange_if_due(topic, now);
        self.answer_subscribers(topic);
    }

    /// Answers the subscribers that wait, as far as they have what they wait for.
    pub(super) fn answer_subscribers(&mut self, topic: TopicId) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        if !entry.swarm.has_bearings() {
            return;
        }
        let has_all = entry.is_filled();
        let reached = entry.reached;
        let is_served = |waiting: &mut Waiting| has_all || waiting.reach <= reached;
        let served: Vec<Waiting> = entry.waiting.extract_if(.., is_served).collect();
        for Waiting { request, .. } in served {
            let reply = entry.subscribed();
            self.outputs.push_back(Output::Reply { request, reply });
        }
    }

    pub(super) fn unsubscribe(&mut self, name: &TopicName, now: Now) {
        let topic = name.id(&self.network);
        if let Some(entry) = self.swarms.get_mut(&topic)
            && entry.subscriptions > 0
        {
            entry.subscriptions -= 1;
            entry.used_at = now.time;
            if entry.subscriptions == 0 {
                self.announce_soon(name.clone(), now);
                self.meet_soon(topic, now);
            }
        }
    }

    /// Becomes a member of a topic's swarm, if it isn't yet; none where it is one of too many.
    pub(super) fn join_topic(&mut self, name: TopicName, now: Now) -> Option<TopicId> {
        let topic = name.id(&self.network);
        if self.swarms.contains_key(&topic) {
            return Some(topic);
        }
        if !self.has_room_for_topics() {
            return None;
        }
        self.open_swarm(name.clone(), Start::Latest, now);
        let contacts = self.members.contacts_of(&name, now);
        let is_alone = contacts.is_empty() && self.is_alone_with(topic, now);
        let input = if is_alone && self.knows_the_network(now) {
            swarm::Input::Alone
        } else {
            swarm::Input::Learned(contacts)
        };
        self.tell_swarm(topic, input, now);
        self.announce_soon(name, now);
        self.meet_soon(topic, now);
        Some(topic)
    }

    /// Whether this node may be a member of one more topic.
    pub(super) fn has_room_for_topics(&self) -> bool {
        self.swarms.len() <= MEMBER_OF_MAX
    }

    /// Whether the node has been in the network for long enough to have heard who is a member of what.
    pub(super) fn knows_the_network(&self, now: Now) -> bool {
        self.swarms.get(&self.root).is_some_and(|entry| {
            entry.swarm.has_base()
                && now.time.since(entry.joined_at) >= NETWORK_SETTLES
                && !self.root_is_alone()
        })
    }

    /// Returns the topics of which a peer has announced to be a member as well.
    pub(super) fn shared_topics(&self, peer: PeerId) -> Vec<TopicId> {
        let theirs = self.members.by_peer.get(&peer);
        let shared = |name: &TopicName| theirs.is_some_and(|topics| topics.contains(name));
        let swarms = self.swarms.iter();
        let swarms = swarms.filter(|(_, entry)| shared(&entry.name));
        swarms.map(|(topic, _)| *topic).collect()
    }

    pub(super) fn announce_soon(&mut self, name: TopicName, now: Now) {
        self.members.unannounced.insert(name);
        self.announce_at = self.announce_at.min(now.time + ANNOUNCE_AFTER);
    }

    pub(super) fn next_topic_tick(&self) -> Time {
        self.announce_at.min(self.next_publish_tick())
    }

    pub(super) fn tick_topics(&mut self, now: Now) {
        if self.announce_at > now.time {
            return;
        }
        self.announce_at = Time::NEVER;
        let renew = self.members.renew_at <= now.time;
        if renew {
            self.leave_unused(now);
            self.members.renew_at = now.time + self.jitter(MEMBERSHIP_RENEWED);
        }
        if self.members.sweep_at <= now.time {
            self.members.sweep_at = now.time + MEMBERSHIP_RENEWED;
            self.members.sweep(now.time);
        }
        let changed = std::mem::take(&mut self.members.unannounced);
        let topics: Vec<TopicMembership> = self
            .swarms
            .iter()
            .filter(|(topic, entry)| {
                **topic != self.root && (renew || changed.contains(&entry.name))
            })
            .map(|(_, entry)| TopicMembership {
                name: entry.name.clone(),
                subscribed: entry.subscriptions > 0,
            })
            .collect();
        for topics in topics.chunks(TOPICS_MAX) {
            let payload = membership::encode(&Membership {
                topics: topics.to_vec(),
                contact: self.contact.clone(),
                issued_at: now.unix,
                expires_at: now.unix + MEMBERSHIP_VALID,
            });
            self.publish_own(self.root, &[payload.into()], now);
        }
        if self.swarms.len() > 1 || self.members.count > 0 {
            self.announce_at = self.announce_at.min(self.members.renew_at);
        }
    }

    fn leave_unused(&mut self, now: Now) {
        let unused: Vec<TopicId> = self
            .swarms
            .iter()
            .filter(|(topic, entry)| {
                **topic != self.root
                    && entry.subscriptions == 0
                    && !entry.keeps
                    && entry.publishing.is_idle()
                    && now.time.since(entry.used_at) > TOPIC_UNUSED
            })
            .map(|(topic, _)| *topic)
            .collect();
        for topic in unused {
            if !self.may_rest(topic) {
                self.end_log(topic);
            }
            self.close_swarm(topic, now);
        }
    }

    /// Somebody's announcement came over the root swarm.
    pub(super) fn announcements_came(&mut self, bundle: &TopicBundle, now: Now) {
        let publisher = bundle.0.value.publisher;
        if publisher == self.me {
            return;
        }
        for (_, payload) in bundle.messages() {
            match membership::decode(payload, publisher, &mut self.keys) {
                Ok(announced) => self.announced(publisher, announced, now),
                Err(_) => self.count("bad_announcements"),
            }
        }
    }

    pub(super) fn announced(&mut self, publisher: PeerId, announced: Membership, now: Now) {
        let lasts = announced
            .expires_at
            .since(now.unix)
            .min(MEMBERSHIP_VALID * 2);
        if lasts.is_zero() {
            return;
        }
        self.learned([&announced.contact], now);
        for TopicMembership { name, subscribed } in announced.topics {
            let member = Member {
                subscribed,
                heard_at: now.time,
                expires_at: now.time + lasts,
                issued_at: announced.issued_at,
                contact: announced.contact.clone(),
            };
            let topic = name.id(&self.network);
            if !self.members.insert(name, publisher, member) {
                self.count("announcements_past_the_bound");
                break;
            }
            if self.swarms.contains_key(&topic) {
                let contacts = vec![announced.contact.clone()];
                self.tell_swarm(topic, swarm::Input::Learned(contacts), now);
            }
        }
        self.announce_at = self.announce_at.min(now.time + MEMBERSHIP_RENEWED);
    }

    pub(super) fn forget_subscriber(&mut self, request: RequestId, now: Now) {
        let waits_in = self.swarms.values_mut().find_map(|entry| {
            let at = entry
                .waiting
                .iter()
                .position(|waiting| waiting.request == request)?;
            entry.waiting.remove(at);
            Some(entry.name.clone())
        });
        if let Some(name) = waits_in {
            self.unsubscribe(&name, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::Keypair;

    use super::*;
    use crate::core::book::issue;

    fn announce(members: &mut Members, who: u8, topics: std::ops::Range<usize>) -> usize {
        let key = Keypair::from_seed(&[who; 32]);
        let now = Now {
            time: Time::ZERO,
            unix: UnixMicros(1),
        };
        let contact = issue(&key, &[], crate::Roles::default(), now);
        let insert = |topic: usize| {
            let member = Member {
                subscribed: true,
                heard_at: now.time,
                expires_at: Time::NEVER,
                issued_at: now.unix,
                contact: contact.clone(),
            };
            let name = format!("topic/{topic}").parse().expect("a name");
            members.insert(name, key.peer_id(), member)
        };
        topics.map(insert).filter(|taken| *taken).count()
    }

    #[test]
    fn peers_that_announce_most_make_room_for_those_that_announce_little() {
        let mut members = Members::default();
        for who in 0..40 {
            announce(&mut members, who, 0..TOPICS_OF_PEER_MAX);
        }
        assert!(members.count > MEMBERSHIPS_MAX / 2 && members.count <= MEMBERSHIPS_MAX);
        for who in 100..130 {
            assert_eq!(announce(&mut members, who, 0..64), 64);
        }
        let counted: usize = members.topics.values().map(BTreeMap::len).sum();
        assert_eq!(counted, members.count);
        assert!(members.count <= MEMBERSHIPS_MAX);
        let kept = |who: u8| {
            let peer = Keypair::from_seed(&[who; 32]).peer_id();
            members.by_peer.get(&peer).map_or(0, BTreeSet::len)
        };
        assert!((100..130).all(|who| kept(who) == 64));
        assert!((0..40).all(|who| kept(who) > TOPICS_OF_PEER_MAX / 2));
    }
}
