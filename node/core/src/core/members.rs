//! Who else is a member of which topic, as members tell those closest to a topic's point ([`super::rendezvous`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::{Now, Time, UnixMicros, swarm};

use super::Core;
use super::topics::MEMBER_OF_MAX;
use crate::wire::membership::{Membership, TopicMembership};
use crate::{PeerContact, TopicName};

/// How long a membership holds after it was told, unless it is told again. Who can't be reached is forgotten before that.
pub(super) const MEMBERSHIP_VALID: Duration = Duration::from_secs(300);
/// How often those that have expired are swept out.
const SWEPT_EVERY: Duration = Duration::from_secs(20);
/// Memberships that are remembered, some 300 bytes each: those of six closest nodes of 1,000 topics with ten members each.
const MEMBERSHIPS_MAX: usize = 65_536;
/// Of what the peer with the most memberships has above a newcomer, this part goes at once when there is no room: looking for it costs
/// a walk through all peers.
const DISPLACED_SHARE: usize = 16;
/// Topics of one peer that are remembered.
const TOPICS_OF_PEER_MAX: usize = 2 * MEMBER_OF_MAX;

/// A peer that says that it is a member of a topic.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) subscribed: bool,
    pub(super) heard_at: Time,
    expires_at: Time,
    issued_at: UnixMicros,
    contact: PeerContact,
}

/// Who is a member of what.
#[derive(Debug, Default)]
pub(super) struct Members {
    topics: BTreeMap<TopicName, BTreeMap<PeerId, Member>>,
    by_peer: BTreeMap<PeerId, BTreeSet<TopicName>>,
    /// How many topics each peer is subscribed to; those that are to none are left out.
    subscriptions: BTreeMap<PeerId, usize>,
    count: usize,
    /// When expired memberships are swept out; never where there are none.
    sweep_at: Option<Time>,
}

impl Members {
    /// Returns the topics of which anybody is known to be a member.
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

    /// Returns the others whose memberships hold, in ascending order of peer.
    pub(super) fn current(
        &self,
        topic: &TopicName,
        now: Time,
    ) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.of(topic)
            .filter(move |(_, member)| member.expires_at > now)
    }

    /// Returns to how many topics that subscriber of a topic is subscribed who is to the fewest; one without any counts as too many.
    pub(super) fn least_share_in(&self, topic: &TopicName) -> usize {
        let subscribers = self.of(topic).filter(|(_, member)| member.subscribed);
        let shares = subscribers.filter_map(|(peer, _)| self.subscriptions.get(peer));
        shares.min().copied().unwrap_or(usize::MAX)
    }

    fn count_subscription(subscriptions: &mut BTreeMap<PeerId, usize>, peer: PeerId, is_new: bool) {
        let count = subscriptions.entry(peer).or_default();
        *count = match is_new {
            true => *count + 1,
            false => count.saturating_sub(1),
        };
        if *count == 0 {
            subscriptions.remove(&peer);
        }
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
        let subscribes = member.subscribed;
        let known = members.insert(peer, member);
        if known.is_none() {
            self.count += 1;
            self.by_peer.entry(peer).or_default().insert(topic);
        }
        if known.is_some_and(|known| known.subscribed) != subscribes {
            Self::count_subscription(&mut self.subscriptions, peer, subscribes);
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
                if members.remove(peer).is_some_and(|it| it.subscribed) {
                    Self::count_subscription(&mut self.subscriptions, *peer, false);
                }
                if members.is_empty() {
                    self.topics.remove(&topic);
                }
            }
            self.count -= 1;
        }
        true
    }

    /// A peer can't be reached: it is a member of nothing until it says so again.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.subscriptions.remove(&peer);
        for topic in self.by_peer.remove(&peer).unwrap_or_default() {
            if let Some(members) = self.topics.get_mut(&topic) {
                self.count -= usize::from(members.remove(&peer).is_some());
                if members.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.sweep_at.unwrap_or(Time::NEVER)
    }

    /// Sweeps out what has expired, if it is time.
    pub(super) fn tick(&mut self, now: Time) {
        if self.poll_timeout() <= now {
            self.sweep(now);
            self.sweep_at = (self.count > 0).then(|| now + SWEPT_EVERY);
        }
    }

    fn sweep(&mut self, now: Time) {
        let (by_peer, subscriptions) = (&mut self.by_peer, &mut self.subscriptions);
        let mut left = 0;
        self.topics.retain(|name, members| {
            members.retain(|peer, member| {
                let holds = member.expires_at > now;
                if !holds && let Some(topics) = by_peer.get_mut(peer) {
                    topics.remove(name);
                }
                if !holds && member.subscribed {
                    Self::count_subscription(subscriptions, *peer, false);
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
    /// A peer says of which topics it is a member.
    pub(super) fn take_membership(&mut self, peer: PeerId, told: Membership, now: Now) {
        let lasts = told.expires_at.since(now.unix).min(MEMBERSHIP_VALID * 2);
        if lasts.is_zero() {
            return;
        }
        self.learned([&told.contact], now);
        for TopicMembership { name, subscribed } in told.topics {
            let member = Member {
                subscribed,
                heard_at: now.time,
                expires_at: now.time + lasts,
                issued_at: told.issued_at,
                contact: told.contact.clone(),
            };
            let topic = name.id(&self.network);
            if !self.members.insert(name, peer, member) {
                self.count("memberships_past_the_bound");
                break;
            }
            if self.swarms.contains_key(&topic) {
                let contacts = vec![told.contact.clone()];
                self.tell_swarm(topic, swarm::Input::Learned(contacts), now);
            }
        }
        let sweep_at = now.time + SWEPT_EVERY;
        self.members.sweep_at.get_or_insert(sweep_at);
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::Keypair;

    use super::*;
    use crate::core::book::issue;

    fn tell(members: &mut Members, who: u8, topics: std::ops::Range<usize>) -> usize {
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
    fn peers_with_most_memberships_make_room_for_those_with_few() {
        let mut members = Members::default();
        for who in 0..40 {
            tell(&mut members, who, 0..TOPICS_OF_PEER_MAX);
        }
        assert!(members.count > MEMBERSHIPS_MAX / 2 && members.count <= MEMBERSHIPS_MAX);
        for who in 100..130 {
            assert_eq!(tell(&mut members, who, 0..64), 64);
        }
        let counted: usize = members.topics.values().map(BTreeMap::len).sum();
        assert_eq!(counted, members.count);
        assert_eq!(members.subscriptions.values().sum::<usize>(), members.count);
        assert!(members.count <= MEMBERSHIPS_MAX);
        let kept = |who: u8| {
            let peer = Keypair::from_seed(&[who; 32]).peer_id();
            members.by_peer.get(&peer).map_or(0, BTreeSet::len)
        };
        assert!((100..130).all(|who| kept(who) == 64));
        assert!((0..40).all(|who| kept(who) > TOPICS_OF_PEER_MAX / 2));
    }

    #[test]
    fn who_cannot_be_reached_is_a_member_of_nothing() {
        let mut members = Members::default();
        tell(&mut members, 1, 0..3);
        tell(&mut members, 2, 2..4);
        members.forget(Keypair::from_seed(&[1; 32]).peer_id());
        assert_eq!(members.count, 2);
        let topics: Vec<&str> = members.topics().map(TopicName::as_str).collect();
        assert_eq!(topics, ["topic/2", "topic/3"]);
        members.forget(Keypair::from_seed(&[2; 32]).peer_id());
        assert_eq!((members.count, members.topics().count()), (0, 0));
        assert!(members.subscriptions.is_empty());
    }

    #[test]
    fn a_topic_counts_by_the_subscriber_with_the_fewest() {
        let mut members = Members::default();
        let name = |topic: usize| format!("topic/{topic}").parse().expect("a name");
        tell(&mut members, 1, 0..30);
        tell(&mut members, 2, 5..7);
        tell(&mut members, 2, 6..8);
        assert_eq!(members.least_share_in(&name(0)), 30);
        assert_eq!(members.least_share_in(&name(5)), 3);
        assert_eq!(members.least_share_in(&name(99)), usize::MAX);
        members.sweep(Time::NEVER);
        assert!(members.subscriptions.is_empty());
    }
}
