//! The many topics of a node, beside the one whose every message is watched.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weft_core::input::{Ack, Reach, Via};
use weft_core::{Command, Input, RequestId, TopicName};
use weft_overlay::Now;

use super::Member;
use crate::machine::{NodeId, OfTopic};

/// Bytes of a message there.
const BYTES: usize = 64;

/// What a node has of them.
#[derive(Debug, Default)]
pub(super) struct Topics {
    numbers: BTreeMap<TopicName, u32>,
    /// Subscriptions that have no base yet.
    waiting: BTreeSet<u64>,
    delivered: BTreeMap<u32, u32>,
}

impl Topics {
    /// Returns whether a subscription that has its base now is one of these.
    pub(super) fn based(&mut self, request: RequestId) -> bool {
        self.waiting.remove(&request.0)
    }

    /// Counts a bundle of one of these; a node keeps others for those who subscribe to them.
    pub(super) fn delivered(&mut self, topic: &TopicName) {
        if let Some(number) = self.numbers.get(topic) {
            *self.delivered.entry(*number).or_default() += 1;
        }
    }
}

fn name(topic: u32) -> TopicName {
    format!("many/{topic}").parse().expect("a valid name")
}

impl Member {
    pub(super) fn subscribe_to(&mut self, topics: Vec<u32>, now: Now) {
        for number in topics {
            let topic = name(number);
            let request = self.request();
            self.topics.numbers.insert(topic.clone(), number);
            self.topics.waiting.insert(request.0);
            let reach = Reach::Base;
            let subscribe = Command::Subscribe {
                request,
                topic,
                reach,
            };
            self.tell(Input::Command(subscribe), now);
        }
    }

    pub(super) fn publish_on(&mut self, topic: u32, now: Now) {
        let request = self.request();
        let publish = Command::Publish {
            request,
            topic: name(topic),
            messages: vec![Bytes::from_static(&[7; BYTES]).into()],
            ack: Ack::Sent,
            via: Via::Both,
        };
        self.tell(Input::Command(publish), now);
    }

    pub(super) fn look_at(&self, topic: u32, now: Now) -> Option<OfTopic> {
        let view = self.core.swarm_view(name(topic).as_str(), now)?;
        let peers = view.active.iter();
        let neighbours: Vec<NodeId> = peers.filter_map(|a| self.keys.node(a.peer)).collect();
        Some(OfTopic {
            neighbours,
            delivered: self.topics.delivered.get(&topic).copied().unwrap_or(0),
        })
    }
}
