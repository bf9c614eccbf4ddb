//! Subscribing by name, and who has subscribed so.

use std::time::{SystemTime, UNIX_EPOCH};

use weft_core::TopicName;
use weft_rpc::{Start, types};

use super::{Node, SubscribeError, Subscription};
use crate::actor::Ask;
use crate::arrivals::LogId;
use crate::consumers::{Begin, BeginsAt, ConsumerName, ForgetError, Key, Known, Unwritten};

impl Node {
    /// Subscribes under a name, whose place this node keeps: what is confirmed ([`Subscription::confirmer`]) isn't read again by the
    /// name's next subscription, also after a restart of this node. Resolves once the node is a member and the starting place is
    /// fixed, and on disk where it is a new one. A name has one subscription at a time.
    pub async fn subscribe_as(
        &self,
        topic: &TopicName,
        name: ConsumerName,
        begin: &Begin,
    ) -> Result<Subscription, SubscribeError> {
        let topic = topic.clone();
        let key = Key { topic, name };
        let (claim, from) = self.shared.consumers.claim(key.clone(), begin).await?;
        let topic = key.topic;
        let start = match from {
            BeginsAt::Anew(start) => start,
            BeginsAt::Stand(stand) => {
                let log = LogId::new(self.shared.peer, &topic, stand.life);
                let after = log.cursor(stand.place.saturating_sub(1));
                let subscribed = self.subscribe(&topic, Start::After(after)).await;
                let subscribed = subscribed.map_err(|error| match error {
                    SubscribeError::Cursor(_) => SubscribeError::PlaceGone,
                    error => error,
                });
                return Ok(subscribed?.named(claim));
            }
        };
        let subscription = self.subscribe(&topic, start).await?;
        // The log first: nobody may stand in one that the next run doesn't find.
        let kept = self.ask(|reply| Ask::KeepLog { topic, reply }).await;
        let kept = kept.ok_or(SubscribeError::Stopped)?;
        kept.map_err(|_| SubscribeError::NotWritten)?;
        let life = subscription.log_id().life();
        let stands = claim.stand_at(life, subscription.place()).await;
        stands.map_err(|error| match error {
            Unwritten::Disk => SubscribeError::NotWritten,
            Unwritten::Stopped => SubscribeError::Stopped,
        })?;
        Ok(subscription.named(claim))
    }

    /// Returns who reads a topic by name, and where each stands; none once the node has stopped.
    pub async fn topic_consumers(&self, topic: &TopicName) -> Option<types::TopicConsumers> {
        let log = self.log(topic).await?;
        let now = SystemTime::now();
        let view = |known: Known| {
            let stand = known.stand;
            let id = LogId::new(self.shared.peer, topic, stand.life);
            let its = log.as_ref().filter(|log| log.id() == id);
            let age = stand.confirmed_at.map(|at| {
                let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                now.as_secs_f64() - at.0 as f64 / 1e6
            });
            types::TopicConsumer {
                consumer: known.name.to_string(),
                cursor: id.cursor(stand.place.saturating_sub(1)),
                lag: its.map(|log| log.messages_from(stand.place)),
                connected: known.is_connected,
                confirmed_age_s: age.map(|age| age.max(0.0)),
            }
        };
        let consumers = self.shared.consumers.of(topic);
        Some(types::TopicConsumers {
            topic: topic.as_str().to_owned(),
            consumers: consumers.into_iter().map(view).collect(),
        })
    }

    /// Forgets who reads a topic under a name; resolves once it is gone from disk too.
    pub async fn forget_consumer(
        &self,
        topic: &TopicName,
        name: ConsumerName,
    ) -> Result<(), ForgetError> {
        let topic = topic.clone();
        self.shared.consumers.forget(Key { topic, name }).await
    }
}
