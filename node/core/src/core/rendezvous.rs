//! Rendezvous: how the members of a topic find its keepers, and through them each other and its history.
//!
//! Whoever is a member of a topic says so to the nodes closest to the topic's point, at once and again before that expires. Those
//! among them that keep the topic answer with other members. A member that has just joined waits for this round before it takes
//! itself for the first one.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_dht::dht::{self, Call as Lookup};
use weft_dht::table::K;
use weft_dht::{Key, Peer, Point};
use weft_identity::PeerId;
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::reach::Question;
use super::topics::{ANNOUNCE_AFTER, MEMBERSHIP_RENEWED, MEMBERSHIP_VALID, TOPIC_UNUSED};
use crate::input::Reach;
use crate::keeping::{Answer, KEEPERS, MET, Meeting, Message, Query};
use crate::wire::encode_topics;
use crate::wire::membership::{Membership, TopicMembership};
use crate::{Event, Lane, Output, PeerContact, RequestId, TopicId};

/// How long an answer is waited for: longer than a dial and a round trip, shorter than a link takes to be found dead.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How soon after a keeper is lost the closest are met anew: by then the table has noticed, if it is gone for good.
const REPLACED_AFTER: Duration = Duration::from_secs(2);
/// Topics in one message: so that its answer has room for some members of each.
const MEET_TOPICS_MAX: usize = 64;
/// Meetings due this soon go along with one that is due now.
const TOGETHER: Duration = Duration::from_secs(1);
/// How often the closest nodes are looked for in the network where the table can't hold all of them.
const LOOKUP_EVERY: Duration = Duration::from_secs(300);
/// Bytes of a message above which it goes with what may wait: it holds bundles or many digests.
const LARGE_BYTES: usize = 4 * 1024;

/// What a member knows of its topic's keepers.
#[derive(Debug)]
pub(super) struct Rendezvous {
    meet_at: Time,
    look_up_at: Time,
    /// The closest nodes that the last lookup found.
    found: Vec<PeerContact>,
    pub(super) keepers: BTreeMap<PeerId, Known>,
    /// Meetings that wait for an answer.
    asked: usize,
    /// Whether everybody who was asked first has answered, or won't.
    is_over: bool,
    /// Whether anybody has said that the topic has had members before this one.
    is_known: bool,
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
            look_up_at: now.time,
            found: Vec::new(),
            keepers: BTreeMap::new(),
            asked: 0,
            is_over: false,
            is_known: false,
        }
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

    /// Returns the subscribers that keepers know of: whoever knows most has heard from most.
    pub(super) fn subscribed(&self) -> usize {
        let known = self.keepers.values().map(|known| known.subscribed);
        known.max().unwrap_or(0)
    }
}

/// A question that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) of: PeerId,
    pub(super) what: What,
    pub(super) until: Time,
}

/// What was asked.
#[derive(Debug)]
pub(super) enum What {
    /// To meet in these topics.
    Meet(Vec<TopicId>),
    /// A step of a topic's exchange.
    Exchange(TopicId),
    /// Whether it has what a publish has published.
    Confirm(RequestId),
    /// To take a bundle that is published through keepers, the how-manyth of its publish.
    Hand(RequestId, usize),
    /// To take a bundle of a publish: whether it has is asked apart from that.
    Handed,
}

/// The questions of this node to keepers.
#[derive(Debug)]
pub(super) struct Asking {
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Lookups of topics' points that are running.
    lookups: BTreeMap<dht::CallId, TopicId>,
    /// When to look what is due; never later than that.
    pub(super) at: Time,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            asked: BTreeMap::new(),
            next: 0,
            lookups: BTreeMap::new(),
            at: Time::NEVER,
        }
    }
}

/// Returns where a topic stands in the key space.
pub(super) fn point_of(topic: TopicId) -> Point {
    Key::from_array(*topic.as_bytes()).point()
}

impl Core {
    /// A topic's membership has changed: its keepers shall know.
    pub(super) fn meet_soon(&mut self, topic: TopicId, now: Now) {
        self.meet_at(topic, now.time + ANNOUNCE_AFTER);
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

    pub(super) fn tick_rendezvous(&mut self, now: Now) {
        if self.asking.at > now.time {
            return;
        }
        self.asking.at = Time::NEVER;
        let late: Vec<u64> = self
            .asking
            .asked
            .iter()
            .filter(|(_, asked)| asked.until <= now.time)
            .map(|(request, _)| *request)
            .collect();
        for request in late {
            self.unanswered(request, now);
        }
        let due = |at: Time| at <= now.time;
        if self
            .swarms
            .values()
            .any(|entry| due(entry.rendezvous.meet_at))
        {
            self.meet(now);
        }
        let next = self.swarms.values().map(|entry| entry.rendezvous.meet_at);
        let asked = self.asking.asked.values().map(|asked| asked.until);
        let next = next.chain(asked).min().unwrap_or(Time::NEVER);
        self.asking.at = self.asking.at.min(next);
    }

    /// Says in which topics this node is a member, to those closest to each of them.
    fn meet(&mut self, now: Now) {
        let due: Vec<TopicId> = self
            .swarms
            .iter()
            .filter(|(_, entry)| entry.rendezvous.meet_at <= now.time + TOGETHER)
            .map(|(topic, _)| *topic)
            .collect();
        let mut meetings: BTreeMap<PeerId, (PeerContact, Vec<TopicId>)> = BTreeMap::new();
        for &topic in &due {
            if self.is_of_use(topic, now) && self.is_keeper_of(topic, now) {
                self.keep(topic, now);
            }
            let closest = self.closest_to(topic, now);
            let again = now.time + self.jitter(MEMBERSHIP_RENEWED);
            let Some(entry) = self.swarms.get_mut(&topic) else {
                continue;
            };
            entry.rendezvous.meet_at = again;
            let keepers = &mut entry.rendezvous.keepers;
            keepers.retain(|_, known| now.time.since(known.heard_at) < MEMBERSHIP_VALID);
            for contact in closest {
                let peer = super::peer_of(&contact);
                let (_, topics) = meetings.entry(peer).or_insert((contact, Vec::new()));
                topics.push(topic);
            }
        }
        for (contact, topics) in meetings.into_values() {
            for topics in topics.chunks(MEET_TOPICS_MAX) {
                self.meet_with(&contact, topics, now);
            }
        }
        // Where there is nobody to ask, that was all.
        for topic in due {
            self.round_over(topic, now);
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

    fn meet_with(&mut self, contact: &PeerContact, topics: &[TopicId], now: Now) {
        let mut memberships = Vec::with_capacity(topics.len());
        for topic in topics {
            if let Some(entry) = self.swarms.get_mut(topic) {
                entry.rendezvous.asked += 1;
                memberships.push(TopicMembership {
                    name: entry.name.clone(),
                    subscribed: entry.subscriptions > 0,
                });
            }
        }
        let query = Query::Meet(Membership {
            topics: memberships,
            contact: self.contact.clone(),
            issued_at: now.unix,
            expires_at: now.unix + MEMBERSHIP_VALID,
        });
        let to = super::peer_of(contact);
        self.ask_keeper(to, Some(contact), What::Meet(topics.to_vec()), &query, now);
    }

    /// Returns those closest to a topic's point that keep things, and looks for closer ones now and then.
    fn closest_to(&mut self, topic: TopicId, now: Now) -> Vec<PeerContact> {
        let point = point_of(topic);
        let mut closest = self.near(point, now);
        if self.table().len() > K {
            let Some(entry) = self.swarms.get_mut(&topic) else {
                return closest;
            };
            closest.extend(entry.rendezvous.found.iter().cloned());
            if entry.rendezvous.look_up_at <= now.time {
                entry.rendezvous.look_up_at = now.time + LOOKUP_EVERY;
                let id = self.next_dht_call();
                self.asking.lookups.insert(id, topic);
                let call = Lookup::Closest(Key::from_array(*topic.as_bytes()));
                self.tell_dht(dht::Input::Call { id, call }, now);
            }
        }
        closest.retain(|contact| super::peer_of(contact) != self.me);
        closest.sort_by_key(|contact| super::peer_of(contact).point() ^ point);
        closest.dedup_by_key(|contact| super::peer_of(contact));
        closest.truncate(MET);
        closest
    }

    /// A lookup has ended; returns whether it was for a topic.
    pub(super) fn topic_found(
        &mut self,
        lookup: dht::CallId,
        outcome: &dht::Outcome<crate::KadContact>,
        now: Now,
    ) -> bool {
        let Some(topic) = self.asking.lookups.remove(&lookup) else {
            return false;
        };
        if let dht::Outcome::Closest { contacts } = outcome
            && let Some(entry) = self.swarms.get_mut(&topic)
        {
            let stores = contacts.iter().filter(|contact| contact.stores());
            let found = stores.filter_map(|contact| contact.descriptor().cloned());
            entry.rendezvous.found = found.take(MET).collect();
            self.meet_soon(topic, now);
        }
        true
    }

    /// Asks a keeper, or who may be one.
    pub(super) fn ask_keeper(
        &mut self,
        to: PeerId,
        contact: Option<&PeerContact>,
        what: What,
        query: &Query,
        now: Now,
    ) {
        self.asking.next += 1;
        let request = self.asking.next;
        let until = now.time + ANSWER_WAIT;
        let asked = Asked {
            of: to,
            what,
            until,
        };
        self.asking.asked.insert(request, asked);
        self.asking.at = self.asking.at.min(until);
        let frame = encode_topics(request, &Message::Query(query.clone()));
        match self.links.get_mut(&to) {
            Some(link) if link.is_alive() => {
                link.touch(now);
                self.send_to_keeper(to, frame);
            }
            Some(_) => {}
            None => {
                let known = contact.cloned().or_else(|| self.contact_of(to, now));
                if let Some(contact) = known {
                    self.link_for_dht(&contact, Some(Question::unhurried(frame)), now);
                }
            }
        }
    }

    fn contact_of(&self, peer: PeerId, now: Now) -> Option<PeerContact> {
        self.book.lasting(peer, now)
    }

    pub(super) fn send_to_keeper(&mut self, peer: PeerId, frame: crate::wire::OutFrame) {
        if let Some(link) = self.links.get_mut(&peer)
            && frame.len() > LARGE_BYTES
        {
            link.repair_bytes += frame.len();
        }
        let lane = if frame.len() > LARGE_BYTES {
            Lane::Repair
        } else {
            Lane::Control
        };
        self.outputs.push_back(Output::Send { peer, lane, frame });
    }

    /// A message about topics came.
    pub(super) fn topics_came(&mut self, peer: PeerId, request: u64, message: Message, now: Now) {
        self.touch_link(peer, now);
        match message {
            Message::Query(query) => self.keeper_asked(peer, request, query, now),
            Message::Answer(answer) => self.keeper_answered(peer, request, answer, now),
        }
    }

    fn keeper_answered(&mut self, peer: PeerId, request: u64, answer: Answer, now: Now) {
        let is_expected = self.asking.asked.get(&request);
        if is_expected.is_none_or(|asked| asked.of != peer) {
            // It came too late, or nobody has asked.
            return self.count("topic_answers_unasked");
        }
        let Some(asked) = self.asking.asked.remove(&request) else {
            return;
        };
        match (asked.what, answer) {
            (
                What::Meet(topics),
                Answer::Met {
                    topics: met,
                    contacts,
                },
            ) if topics.len() == met.len() => {
                for (topic, meeting) in topics.into_iter().zip(met) {
                    self.met_in(topic, peer, &meeting, &contacts, now);
                }
            }
            (What::Confirm(request), Answer::Confirmed { durable, held, .. }) => {
                self.confirmed(request, peer, (durable, held), now);
            }
            (What::Handed, Answer::Confirmed { .. }) => {}
            (What::Hand(request, at), answer) => {
                self.hand_answered((request, at), peer, Some(&answer), now);
            }
            (What::Exchange(topic), answer) => self.exchange_answered(topic, peer, answer, now),
            (what, answer) => {
                if answer != Answer::Unable {
                    let what = "an answer to another question about topics";
                    self.event(Event::Misbehaviour { peer, what });
                }
                self.gone_unanswered(peer, what, now);
            }
        }
    }

    /// A node close to a topic's point says how it stands to it.
    fn met_in(
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
        } else {
            rendezvous.keepers.remove(&peer);
        }
        let members = meeting.contacts.iter();
        let members = members.filter_map(|place| contacts.get(usize::try_from(*place).ok()?));
        let keeper = keeper.filter(|_| meeting.keeps && meeting.based);
        let learned: Vec<PeerContact> = members
            .filter(|contact| super::peer_of(contact) != self.me)
            .cloned()
            .chain(keeper)
            .collect();
        if !learned.is_empty() {
            self.tell_swarm(topic, swarm::Input::Learned(learned), now);
        }
        self.round_over(topic, now);
        self.exchange_if_due(topic, now);
    }

    /// Ends a topic's first round once nobody is left who has been asked in it.
    fn round_over(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        if entry.rendezvous.is_over || entry.rendezvous.asked > 0 {
            return;
        }
        entry.rendezvous.is_over = true;
        let is_first = !entry.rendezvous.is_known && !entry.swarm.has_base();
        if is_first && self.knows_the_network(now) {
            self.tell_swarm(topic, swarm::Input::Alone, now);
        }
        self.exchange_if_due(topic, now);
    }

    fn unanswered(&mut self, request: u64, now: Now) {
        if let Some(asked) = self.asking.asked.remove(&request) {
            self.gone_unanswered(asked.of, asked.what, now);
        }
    }

    fn gone_unanswered(&mut self, peer: PeerId, what: What, now: Now) {
        match what {
            What::Meet(topics) => {
                for topic in topics {
                    if let Some(entry) = self.swarms.get_mut(&topic) {
                        let rendezvous = &mut entry.rendezvous;
                        rendezvous.asked = rendezvous.asked.saturating_sub(1);
                        rendezvous.keepers.remove(&peer);
                        self.round_over(topic, now);
                    }
                }
            }
            What::Exchange(topic) => self.exchange_failed(topic, peer, now),
            // It is asked again for as long as anybody waits.
            What::Confirm(_) | What::Handed => {}
            What::Hand(request, at) => self.hand_answered((request, at), peer, None, now),
        }
    }

    /// A peer can't be reached: what it was asked it won't answer.
    pub(super) fn keeper_lost(&mut self, peer: PeerId, now: Now) {
        let asked = self.asking.asked.iter();
        let asked: Vec<u64> = asked
            .filter(|(_, asked)| asked.of == peer)
            .map(|(request, _)| *request)
            .collect();
        for request in asked {
            self.unanswered(request, now);
        }
        let swarms = self.swarms.iter();
        let kept = swarms.filter_map(|(topic, entry)| {
            let known = entry.rendezvous.keepers.get(&peer);
            known.map(|_| *topic)
        });
        for topic in kept.collect::<Vec<_>>() {
            // Perhaps nobody needed the link, perhaps another is to take its place: that shows when it is met.
            self.meet_at(topic, now.time + REPLACED_AFTER);
        }
    }
}
