//! When whom is met: at once whoever has not been, and everybody again before memberships expire.
//!
//! What is said again goes out peer by peer, with all topics that a peer is close to in one message, and spread over the whole time: a
//! member of 250 topics has 1,500 meetings with perhaps 200 peers, and no reason to have links to all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_dht::Peer;
use weft_dht::table::K;
use weft_identity::PeerId;
use weft_overlay::{Now, Time};

use super::point_of;
use crate::core::asking::What;
use crate::core::members::MEMBERSHIP_VALID;
use crate::core::{Core, peer_of};
use crate::keeping::{MET, Query};
use crate::wire::membership::{Membership, TOPICS_MAX, TopicMembership};
use crate::{PeerContact, TopicId};

/// How long a round takes at most in which all memberships are told again: two of them are over before one expires.
const RENEWED: Duration = Duration::from_secs(140);
/// The grain in which a round is spread over its time.
const SPREAD_STEP: Duration = Duration::from_millis(250);
/// The end of a round, in which nothing waits for fewer links any more.
const MAKES_ROUND: Duration = Duration::from_secs(20);
/// How often it is looked whether others have come close to a topic's point.
const LOOKS_AROUND: Duration = Duration::from_secs(1);

/// Whom to meet, and in which topics.
type Meetings = BTreeMap<PeerId, (PeerContact, Vec<TopicId>)>;

/// What is said again to peers, a few at a time.
#[derive(Debug)]
pub(in crate::core) struct Renewals {
    /// When this round shall be over, and the next one is made up.
    round_at: Time,
    /// Who is still to be met in this round, and in which topics.
    due: Meetings,
    next_at: Time,
    /// When it is looked who has come close, and a mark of who was there then.
    looks_at: Time,
    near_mark: u64,
}

impl Renewals {
    pub(in crate::core) const fn new(now: Now) -> Self {
        Self {
            round_at: now.time,
            due: Meetings::new(),
            next_at: Time::NEVER,
            looks_at: now.time,
            near_mark: 0,
        }
    }

    fn poll_timeout(&self) -> Time {
        self.round_at.min(self.next_at).min(self.looks_at)
    }

    /// Returns whether the next step can wait: until the round is nearly over.
    fn can_wait(&self, now: Time) -> bool {
        self.round_at.since(now) > MAKES_ROUND
    }

    /// Takes out who is met now: as many as bring the round to its end in time.
    fn take_step(&mut self, now: Time) -> Vec<(PeerContact, Vec<TopicId>)> {
        let steps = self.round_at.since(now).as_millis() / SPREAD_STEP.as_millis();
        let steps = usize::try_from(steps).unwrap_or(usize::MAX).max(1);
        let count = self.due.len().div_ceil(steps);
        let taken = (0..count).map_while(|_| self.due.pop_first());
        let taken = taken.map(|(_, meeting)| meeting).collect();
        self.next_at = match self.due.is_empty() {
            true => Time::NEVER,
            false => now + SPREAD_STEP,
        };
        taken
    }
}

fn add(meetings: &mut Meetings, contact: PeerContact, topic: TopicId) {
    let peer = peer_of(&contact);
    let (_, topics) = meetings.entry(peer).or_insert((contact, Vec::new()));
    topics.push(topic);
}

impl Core {
    pub(in crate::core) fn tick_rendezvous(&mut self, now: Now) {
        if self.asking.at > now.time {
            return;
        }
        self.give_up_late(now);
        self.look_who_is_near(now);
        let is_full = self.is_full();
        let renewals = &mut self.asking.renewals;
        let is_due = renewals.next_at <= now.time;
        if is_due && is_full && renewals.can_wait(now.time) {
            renewals.next_at = now.time + SPREAD_STEP;
        } else if is_due {
            for (contact, topics) in self.asking.renewals.take_step(now.time) {
                self.meet_with(&contact, &topics, now);
            }
        }
        if self.asking.renewals.round_at <= now.time {
            self.begin_renewals(now);
        }
        self.meet(now);
        self.begin_lookups(now);
        let next = self.swarms.values().map(|entry| entry.rendezvous.meet_at);
        let next = next.min().unwrap_or(Time::NEVER);
        self.asking.at = next
            .min(self.asking.given_up_at())
            .min(self.asking.renewals.poll_timeout());
    }

    /// Notes whom this node meets again, in all of its topics.
    fn begin_renewals(&mut self, now: Now) {
        let mut due = Meetings::new();
        for topic in self.topics_met() {
            self.keep_if_close(topic, now);
            self.provide_if_due(topic, now);
            for contact in self.closest_to(topic, now) {
                add(&mut due, contact, topic);
            }
            if let Some(entry) = self.swarms.get_mut(&topic) {
                let keepers = &mut entry.rendezvous.keepers;
                keepers.retain(|_, known| now.time.since(known.heard_at) < MEMBERSHIP_VALID);
            }
        }
        let round_at = now.time + self.jitter(RENEWED);
        let renewals = &mut self.asking.renewals;
        renewals.round_at = round_at;
        renewals.next_at = now.time;
        renewals.due = due;
    }

    /// Returns the topics for which this node meets others.
    pub(super) fn topics_met(&self) -> Vec<TopicId> {
        let topics = self.swarms.keys().filter(|topic| **topic != self.root);
        topics.copied().collect()
    }

    /// Whoever has come close to topics of this node's is told of it, and what this node has come close to it keeps.
    fn look_who_is_near(&mut self, now: Now) {
        if self.asking.renewals.looks_at > now.time {
            return;
        }
        self.asking.renewals.looks_at = now.time + LOOKS_AROUND;
        let mark = self.near_mark();
        if std::mem::replace(&mut self.asking.renewals.near_mark, mark) == mark {
            return;
        }
        for topic in self.topics_met() {
            self.keep_if_close(topic, now);
            let closest = self.closest_to(topic, now);
            let closest: BTreeSet<PeerId> = closest.iter().map(peer_of).collect();
            let Some(entry) = self.swarms.get_mut(&topic) else {
                continue;
            };
            let met = &mut entry.rendezvous.met;
            // Who comes back has perhaps forgotten.
            met.retain(|peer| closest.contains(peer));
            if met.len() < closest.len() {
                self.meet_at(topic, now.time);
            }
        }
    }

    /// Meets those closest to the topics that are due, as far as they haven't been met.
    fn meet(&mut self, now: Now) {
        let due = self.swarms_where(|entry| entry.rendezvous.meet_at <= now.time);
        let mut meetings = Meetings::new();
        for &topic in &due {
            self.keep_if_close(topic, now);
            let closest = self.closest_to(topic, now);
            let Some(entry) = self.swarms.get_mut(&topic) else {
                continue;
            };
            entry.rendezvous.meet_at = Time::NEVER;
            entry.rendezvous.met_at = now.time;
            let met = &entry.rendezvous.met;
            for contact in closest {
                if !met.contains(&peer_of(&contact)) {
                    add(&mut meetings, contact, topic);
                }
            }
        }
        for (contact, topics) in meetings.into_values() {
            self.meet_with(&contact, &topics, now);
        }
        // Where there is nobody to ask, that was all.
        for topic in due {
            self.round_over(topic, now);
        }
    }

    /// A link has come up: what is still to be said again in this round goes over it, rather than over one of its own.
    pub(in crate::core) fn renew_over_link(&mut self, peer: PeerId, now: Now) {
        if let Some((contact, topics)) = self.asking.renewals.due.remove(&peer) {
            self.meet_with(&contact, &topics, now);
        }
    }

    fn meet_with(&mut self, contact: &PeerContact, topics: &[TopicId], now: Now) {
        for topics in topics.chunks(TOPICS_MAX) {
            self.meet_in(contact, topics, false, now);
        }
    }

    /// Asks what the end of a link has left open.
    pub(in crate::core) fn meet_again(
        &mut self,
        contact: &PeerContact,
        topics: &[TopicId],
        now: Now,
    ) {
        for topic in topics {
            if let Some(entry) = self.swarms.get_mut(topic) {
                entry.rendezvous.asked = entry.rendezvous.asked.saturating_sub(1);
            }
        }
        self.meet_in(contact, topics, true, now);
    }

    fn meet_in(&mut self, contact: &PeerContact, topics: &[TopicId], is_again: bool, now: Now) {
        let mut memberships = Vec::with_capacity(topics.len());
        let mut asked = Vec::with_capacity(topics.len());
        for topic in topics {
            if let Some(entry) = self.swarms.get_mut(topic) {
                entry.rendezvous.asked += 1;
                entry.rendezvous.met.insert(peer_of(contact));
                asked.push(*topic);
                memberships.push(TopicMembership {
                    name: entry.name.clone(),
                    subscribed: entry.subscriptions > 0,
                });
            }
        }
        if asked.is_empty() {
            return;
        }
        let query = Query::Meet(Membership {
            topics: memberships,
            contact: self.contact.clone(),
            issued_at: now.unix,
            expires_at: now.unix + MEMBERSHIP_VALID,
        });
        let to = peer_of(contact);
        let what = What::Meet {
            topics: asked,
            is_again,
        };
        self.ask_keeper(to, Some(contact), what, &query, now);
    }

    /// Returns those closest to a topic's point that keep things, and looks for closer ones now and then. Where too few keep anything,
    /// others may at least tell members of each other.
    fn closest_to(&mut self, topic: TopicId, now: Now) -> Vec<PeerContact> {
        let point = point_of(topic);
        let mut closest = self.near(point, now);
        if self.table().len() > K {
            if let Some(entry) = self.swarms.get(&topic) {
                closest.extend(entry.rendezvous.found.iter().cloned());
            }
            self.look_up_if_due(topic, now);
        }
        let by_distance = |contact: &PeerContact| peer_of(contact).point() ^ point;
        closest.retain(|contact| peer_of(contact) != self.me);
        closest.sort_by_key(by_distance);
        closest.dedup_by_key(|contact| peer_of(contact));
        closest.truncate(MET);
        if closest.len() < MET {
            let mut others = self.near_serving(point, now);
            others.retain(|other| !closest.contains(other));
            others.truncate(MET - closest.len());
            closest.extend(others);
        }
        closest
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::Keypair;
    use weft_overlay::UnixMicros;

    use super::*;
    use crate::core::book::issue;

    /// A round that has just begun, with 200 peers to meet.
    fn round() -> Renewals {
        let now = Now {
            time: Time::ZERO,
            unix: UnixMicros(1),
        };
        let mut renewals = Renewals::new(now);
        for who in 0..200 {
            let key = Keypair::from_seed(&[who; 32]);
            let contact = issue(&key, &[], crate::Roles::default(), now);
            add(&mut renewals.due, contact, TopicId::from_bytes([who; 32]));
        }
        renewals.round_at = now.time + RENEWED;
        renewals.next_at = now.time;
        renewals
    }

    /// Takes all steps that are left, each in its time; returns how many are met in one of them at most.
    fn most_at_once(mut renewals: Renewals) -> usize {
        let (mut met, mut most) = (BTreeSet::new(), 0);
        while renewals.next_at != Time::NEVER {
            let at = renewals.next_at;
            assert!(at <= renewals.round_at);
            let step = renewals.take_step(at);
            most = most.max(step.len());
            for (contact, topics) in step {
                assert!(met.insert(peer_of(&contact)));
                assert_eq!(topics.len(), 1);
            }
        }
        assert_eq!(met.len(), 200);
        most
    }

    #[test]
    fn a_round_of_renewals_meets_each_once_and_is_spread_over_its_time() {
        let most = most_at_once(round());
        assert!(most <= 2, "{most} at once");
    }

    #[test]
    fn a_round_that_has_waited_for_fewer_links_still_ends_in_time() {
        let mut renewals = round();
        while renewals.can_wait(renewals.next_at) {
            renewals.next_at = renewals.next_at + SPREAD_STEP;
        }
        assert_eq!(renewals.round_at.since(renewals.next_at), MAKES_ROUND);
        let most = most_at_once(renewals);
        assert!(most <= 3, "{most} at once");
    }
}
