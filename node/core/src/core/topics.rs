//! Topics: which ones the node is a member of, for whom, and when it leaves them.

use std::time::Duration;

use weft_overlay::plumtree::Start;
use weft_overlay::{Now, Time, swarm};

use super::Core;
use super::swarms::Waiting;
use crate::input::Reach;
use crate::{Output, Reply, RequestId, TopicId, TopicName};

/// A topic that the node has not used for this long is left (the design's bound).
pub(super) const TOPIC_UNUSED: Duration = Duration::from_secs(300);
/// Topics that a node is a member of: a swarm takes some 20 kB at rest.
pub(super) const MEMBER_OF_MAX: usize = 1_024;
/// How often it is looked for topics that are to be left.
const LEFT_EVERY: Duration = Duration::from_secs(20);
/// How long after joining the network nobody takes itself for a topic's first member: by then it knows who is near.
const NETWORK_SETTLES: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn subscribe(
        &mut self,
        request: RequestId,
        name: &TopicName,
        reach: Reach,
        now: Now,
    ) {
        let Some(topic) = self.join_topic(name, now) else {
            return self.reply(request, Reply::TooManyTopics);
        };
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        entry.subscriptions += 1;
        entry.used_at = now.time;
        entry.waiting.push(Waiting { request, reach });
        if entry.subscriptions == 1 {
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
                self.meet_soon(topic, now);
            }
        }
    }

    /// Becomes a member of a topic's swarm, if it isn't yet; none where it is one of too many.
    pub(super) fn join_topic(&mut self, name: &TopicName, now: Now) -> Option<TopicId> {
        let topic = name.id(&self.network);
        if self.swarms.contains_key(&topic) {
            return Some(topic);
        }
        if !self.has_room_for_topics() {
            return None;
        }
        self.open_swarm(name.clone(), Start::Latest, now);
        let contacts = self.members.contacts_of(name, now);
        let is_alone = contacts.is_empty() && self.is_alone_with(topic, now);
        let input = if is_alone && self.knows_the_network(now) {
            swarm::Input::Alone
        } else {
            swarm::Input::Learned(contacts)
        };
        self.tell_swarm(topic, input, now);
        self.meet_soon(topic, now);
        Some(topic)
    }

    /// Whether this node may be a member of one more topic.
    pub(super) fn has_room_for_topics(&self) -> bool {
        self.swarms.len() <= MEMBER_OF_MAX
    }

    /// Whether the node has been in the network for long enough to know who is near.
    pub(super) fn knows_the_network(&self, now: Now) -> bool {
        self.swarms.get(&self.root).is_some_and(|entry| {
            entry.swarm.has_base()
                && now.time.since(entry.joined_at) >= NETWORK_SETTLES
                && !self.root_is_alone()
        })
    }

    pub(super) fn next_topic_tick(&self) -> Time {
        let publishes = self.next_publish_tick();
        self.topics_at
            .min(self.members.poll_timeout())
            .min(publishes)
    }

    pub(super) fn tick_topics(&mut self, now: Now) {
        self.members.tick(now.time);
        if self.topics_at <= now.time {
            self.topics_at = now.time + LEFT_EVERY;
            self.leave_unused(now);
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
            self.leave_topic(topic, now);
        }
    }

    /// Is a member no more, and holds nothing of the topic unless somebody goes on with it.
    pub(super) fn leave_topic(&mut self, topic: TopicId, now: Now) {
        if !self.may_rest(topic) {
            self.end_log(topic);
        }
        self.close_swarm(topic, now);
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
