//! Publishing: messages become bundles, at a pace that the neighbours can follow.
//!
//! At rest a message leaves at once, alone in its bundle. Under load what waits shares a bundle and a signature. A publisher
//! waits while a neighbour's lane is filling, and while more than a window of its own bundles is not yet in the digests of half of
//! its neighbours; the window begins small and grows with what is acknowledged, so that a fresh topic isn't flooded.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_identity::Hash;
use weft_overlay::plumtree::Reach;
use weft_overlay::{Bundle, Now, PreviousEpoch, StreamId, Time};

use super::Core;
use super::swarms::Entry;
use crate::bundle::{MESSAGE_BYTES_MAX, Place, fits};
use crate::config::PreviousRun;
use crate::input::{Ack, Via};
use crate::{
    Message, PublishError, Published, Receipt, Reply, RequestId, TopicBundle, TopicId, TopicName,
};

/// How long a publisher that has just joined a topic waits for a first neighbour (the design's bound).
const NEIGHBOUR_WAIT: Duration = Duration::from_secs(1);
/// Own bytes that may be under way: from the first bundle on, and at most (the design's bound).
const WINDOW_MIN: usize = 256 * 1024;
const WINDOW_MAX: usize = 4 * 1024 * 1024;
/// A window without any acknowledgement for this long is opened again: neighbours that can't acknowledge must not stop a publisher.
const WINDOW_TIMEOUT: Duration = Duration::from_secs(2);
/// Publishes of one topic that may wait: each is a caller's batch.
const JOBS_MAX: usize = 256;
/// Topics that a run may publish on: a hundred bytes each, kept for the run because a seq is never used twice.
const OWN_STREAMS_MAX: usize = 65_536;

/// This run's stream on a topic. It outlives the membership.
#[derive(Debug)]
pub(super) struct OwnStream {
    next_seq: u64,
    head: Option<Hash>,
}

/// A caller's batch that isn't out yet.
#[derive(Debug)]
struct Job {
    request: RequestId,
    via: Via,
    ack: Ack,
    messages: VecDeque<Message>,
    receipts: Vec<Receipt>,
}

/// What waits to be published on a topic, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    jobs: VecDeque<Job>,
    /// Last seq and bytes of own bundles that aren't acknowledged.
    under_way: VecDeque<(u64, usize)>,
    under_way_bytes: usize,
    acknowledged_bytes: usize,
    /// Since when the window has been full without an acknowledgement.
    full_since: Option<Time>,
}

impl Publishing {
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    fn window(&self) -> usize {
        (WINDOW_MIN + self.acknowledged_bytes).min(WINDOW_MAX)
    }

    fn acknowledge(&mut self, upto: u64) {
        while let Some(&(last, bytes)) = self.under_way.front() {
            if last > upto {
                break;
            }
            self.under_way.pop_front();
            self.under_way_bytes -= bytes;
            self.acknowledged_bytes = self.acknowledged_bytes.saturating_add(bytes);
            self.full_since = None;
        }
    }

    /// Takes what fits one bundle from the front; returns the messages and how many each job gave.
    fn take_bundle(&mut self) -> (Vec<Message>, Vec<usize>) {
        let (mut messages, mut shares, mut bytes) = (Vec::new(), Vec::new(), 0);
        'jobs: for job in &mut self.jobs {
            shares.push(0);
            while let Some(message) = job.messages.front() {
                if !fits(messages.len() + 1, bytes + message.bytes()) {
                    break 'jobs;
                }
                bytes += message.bytes();
                messages.extend(job.messages.pop_front());
                if let Some(share) = shares.last_mut() {
                    *share += 1;
                }
            }
        }
        (messages, shares)
    }
}

impl Core {
    pub(super) fn publish(
        &mut self,
        request: RequestId,
        name: TopicName,
        messages: Vec<Message>,
        (via, ack): (Via, Ack),
        now: Now,
    ) {
        let oversize = messages
            .iter()
            .position(|message| message.bytes() > MESSAGE_BYTES_MAX);
        if let Some(index) = oversize {
            let bytes = messages[index].bytes();
            return self.reply(
                request,
                Reply::Published(Err(PublishError::TooLarge { index, bytes })),
            );
        }
        if via == Via::Dht && !messages.is_empty() {
            if !self.is_keeper_of(name.id(&self.network), now) {
                return self.publish_by_hand(request, name, &messages, ack, now);
            }
            self.keep_named(&name, now);
        }
        let may_open = self.may_publish_on(&name) && self.has_room_for_acks();
        let topic = may_open.then(|| self.join_topic(&name, now)).flatten();
        let open = topic.and_then(|topic| Some((topic, self.swarms.get_mut(&topic)?)));
        let Some((topic, entry)) = open.filter(|(_, entry)| entry.publishing.jobs.len() < JOBS_MAX)
        else {
            return self.reply(request, Reply::Published(Err(PublishError::Busy)));
        };
        entry.used_at = now.time;
        if messages.is_empty() {
            return self.reply(request, Reply::Published(Ok(Published::default())));
        }
        entry.publishing.jobs.push_back(Job {
            request,
            via,
            ack,
            receipts: Vec::with_capacity(messages.len()),
            messages: messages.into(),
        });
        self.publishing.insert(topic);
    }

    /// Whether this run may publish on a topic.
    pub(super) fn may_publish_on(&self, name: &TopicName) -> bool {
        self.own_streams.len() < OWN_STREAMS_MAX || self.own_streams.contains_key(name)
    }

    /// Publishes what waits, on every topic that may go on.
    pub(super) fn pump_publishing(&mut self, now: Now) {
        // This follows every input: a node that publishes nothing, on however many topics, must not pay for it.
        let waiting: Vec<TopicId> = self.publishing.iter().copied().collect();
        for topic in waiting {
            while self.may_publish(topic, now) {
                self.publish_next(topic, now);
            }
            let entry = self.swarms.get(&topic);
            if entry.is_none_or(|entry| entry.publishing.is_idle()) {
                self.publishing.remove(&topic);
            }
        }
    }

    fn may_publish(&mut self, topic: TopicId, now: Now) -> bool {
        let id = StreamId {
            publisher: self.me,
            epoch: self.epoch,
        };
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return false;
        };
        if entry.publishing.is_idle() {
            return false;
        }
        let acknowledged = entry.swarm.acknowledged(id);
        let neighbours: Vec<_> = entry.swarm.membership().active().collect();
        if neighbours.is_empty() && now.time.since(entry.joined_at) < NEIGHBOUR_WAIT {
            return false;
        }
        let publishing = &mut entry.publishing;
        match acknowledged {
            Some(upto) => publishing.acknowledge(upto),
            // Nobody could acknowledge anything.
            None => publishing.acknowledge(u64::MAX),
        }
        if publishing.under_way_bytes >= publishing.window() {
            let since = *publishing.full_since.get_or_insert(now.time);
            if now.time.since(since) < WINDOW_TIMEOUT {
                return false;
            }
            publishing.acknowledge(u64::MAX);
            publishing.acknowledged_bytes = 0;
        }
        neighbours
            .iter()
            .filter_map(|peer| self.busy_until(*peer))
            .all(|until| until <= now.time)
    }

    /// Returns when a publisher that waits goes on even if nothing happens.
    pub(super) fn next_publish_tick(&self) -> Time {
        self.publishing
            .iter()
            .filter_map(|topic| self.swarms.get(topic))
            .map(|entry| self.goes_on_at(entry))
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// Returns when a topic's publisher goes on at the latest, by what it waits for.
    fn goes_on_at(&self, entry: &Entry) -> Time {
        let mut neighbours = entry.swarm.membership().active().peekable();
        if neighbours.peek().is_none() {
            return entry.joined_at + NEIGHBOUR_WAIT;
        }
        if let Some(since) = entry.publishing.full_since {
            return since + WINDOW_TIMEOUT;
        }
        neighbours
            .filter_map(|peer| self.busy_until(peer))
            .max()
            .unwrap_or(Time::NEVER)
    }

    fn publish_next(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let (messages, shares) = entry.publishing.take_bundle();
        let via = entry.publishing.jobs.front().map(|job| job.via);
        let Some(receipt) = self.publish_own(topic, &messages, now) else {
            return;
        };
        if receipt.eager + receipt.lazy == 0 && via != Some(Via::Gossip) {
            self.hand_to_keepers(topic, &receipt, now);
        }
        let mut seq = receipt.seq;
        for share in shares {
            let Some(entry) = self.swarms.get_mut(&topic) else {
                return;
            };
            let Some(job) = entry.publishing.jobs.front_mut() else {
                return;
            };
            for _ in 0..share {
                job.receipts.push(Receipt { seq, ..receipt });
                seq += 1;
            }
            if job.messages.is_empty()
                && let Some(job) = entry.publishing.jobs.pop_front()
            {
                self.published(job.request, topic, job.ack, job.receipts, now);
            }
        }
    }

    /// Signs messages that fit one bundle as the next of this node's stream on a topic.
    pub(super) fn next_bundle(
        &mut self,
        topic: TopicId,
        name: &TopicName,
        messages: &[Message],
        now: Now,
    ) -> TopicBundle {
        let previous_epoch = previous_epoch(self.previous_run.as_ref(), name);
        let stream = self.own_streams.entry(name.clone()).or_insert(OwnStream {
            next_seq: 1,
            head: None,
        });
        let place = Place {
            epoch: self.epoch,
            first: stream.next_seq,
            predecessor: stream.head,
            previous_epoch: previous_epoch.filter(|_| stream.next_seq == 1),
            published_at: now.unix,
        };
        let bundle = TopicBundle::publish(&self.keypair, topic, place, messages);
        stream.next_seq += messages.len() as u64;
        stream.head = Some(bundle.0.hash);
        bundle
    }

    /// Signs messages that fit one bundle and spreads it; returns the first message's receipt.
    pub(super) fn publish_own(
        &mut self,
        topic: TopicId,
        messages: &[Message],
        now: Now,
    ) -> Option<Receipt> {
        let entry = self.swarms.get_mut(&topic)?;
        let name = entry.name.clone();
        let subscribed_here = usize::from(entry.subscriptions > 0);
        let known_to_keepers = entry.rendezvous.subscribed();
        let before = self.unspread.take(topic, now);
        let bundle = self.next_bundle(topic, &name, messages, now);
        let entry = self.swarms.get_mut(&topic)?;
        for bundle in before {
            entry.spread(bundle, now);
        }
        let header = bundle.header();
        let reach = entry.spread(bundle, now);
        entry.used_at = now.time;
        self.drain(topic, now);
        let receipt = Receipt {
            epoch: self.epoch,
            seq: header.first,
            eager: reach.eager,
            lazy: reach.lazy,
            subscribers_known: (self.members.subscribed(&name, now.time) + subscribed_here)
                .max(known_to_keepers),
        };
        Some(receipt)
    }

    /// What the next run shall know of this one.
    pub(super) fn this_run(&self) -> PreviousRun {
        PreviousRun {
            epoch: self.epoch,
            clean: true,
            last_seqs: self
                .own_streams
                .iter()
                .map(|(name, stream)| (name.clone(), stream.next_seq - 1))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    pub(super) fn forget_publish(&mut self, request: RequestId) {
        self.forget_ack(request);
        // What its caller gave up on is published all the same where it has begun: a batch is never torn by a client that left.
        for entry in self.swarms.values_mut() {
            entry
                .publishing
                .jobs
                .retain(|job| job.request != request || !job.receipts.is_empty());
        }
    }

    /// Publishes what is left of batches that have begun, at no pace, and refuses the others, since this node stops.
    pub(super) fn end_publishing(&mut self, now: Now) {
        for topic in std::mem::take(&mut self.publishing) {
            let Some(entry) = self.swarms.get_mut(&topic) else {
                continue;
            };
            // Batches go out one after another, so only the first can have begun.
            let jobs = &mut entry.publishing.jobs;
            let begun = jobs.front().is_some_and(|job| !job.receipts.is_empty());
            for job in jobs.split_off(usize::from(begun)) {
                self.reply(job.request, Reply::Published(Err(PublishError::Stopping)));
            }
            let has_more = |entry: &Entry| !entry.publishing.is_idle();
            while self.swarms.get(&topic).is_some_and(has_more) {
                self.publish_next(topic, now);
            }
        }
    }
}

impl Entry {
    /// Gives this node's next bundle to its swarm.
    fn spread(&mut self, bundle: TopicBundle, now: Now) -> Reach {
        let (last, cost) = (bundle.header().last, bundle.cost_bytes());
        self.publishing.under_way.push_back((last, cost));
        self.publishing.under_way_bytes += cost;
        self.swarm.publish(bundle, now)
    }
}

fn previous_epoch(previous: Option<&PreviousRun>, name: &TopicName) -> Option<PreviousEpoch> {
    let previous = previous?;
    Some(PreviousEpoch {
        epoch: previous.epoch,
        last: previous
            .clean
            .then(|| previous.last_seqs.get(name).copied().unwrap_or(0)),
    })
}
