//! The methods `topic_*`, but for the subscription.

use std::time::SystemTime;

use jsonrpsee::server::RpcModule;
use weft_rpc::limits::{
    MESSAGE_BYTES_MAX, NOTIFICATION_BYTES_MAX, NOTIFICATION_ITEMS_MAX, PUBLISH_MESSAGES_MAX,
};
use weft_rpc::method;
use weft_rpc::payload::Payload;
use weft_rpc::types;
use weft_rpc::{Error, Kind, Start};

use super::super::items::Writer;
use super::super::once::Named;
use super::super::{Context, errors};
use super::{Call, consumer_name, on, topic_name};
use crate::{Ack, Attributes, Message, Via};

pub(super) fn register(module: &mut RpcModule<Context>) {
    on::<method::TopicPublish, _, _>(
        module,
        |call, params| async move { call.publish(params).await },
    );
    on::<method::TopicList, _, _>(module, |call, _| async move {
        call.context
            .node
            .topics()
            .await
            .ok_or_else(errors::stopping)
    });
    on::<method::TopicMembers, _, _>(module, |call, params| async move {
        let topic = topic_name(&params.topic)?;
        let members = call.context.node.topic_members(&topic).await;
        members.ok_or_else(|| errors::unknown_topic(&params.topic))
    });
    on::<method::TopicStats, _, _>(module, |call, params| async move {
        let topic = topic_name(&params.topic)?;
        let stats = call.context.node.topic_stats(&topic).await;
        stats.ok_or_else(|| errors::unknown_topic(&params.topic))
    });
    on::<method::TopicHistory, _, _>(
        module,
        |call, params| async move { call.history(params).await },
    );
    on::<method::TopicCredit, _, _>(module, |call, params| async move {
        Ok(types::Credited {
            credited: call.connection.credit(params.credit_id, params.up_to),
        })
    });
    on::<method::TopicConfirm, _, _>(
        module,
        |call, params| async move { call.confirm(params).await },
    );
    on::<method::TopicConsumers, _, _>(module, |call, params| async move {
        let topic = topic_name(&params.topic)?;
        let consumers = call.context.node.topic_consumers(&topic).await;
        consumers.ok_or_else(errors::stopping)
    });
    on::<method::TopicForgetConsumer, _, _>(module, |call, params| async move {
        let topic = topic_name(&params.topic)?;
        let name = consumer_name(&params.consumer)?;
        let forgotten = call.context.node.forget_consumer(&topic, name).await;
        forgotten.map_err(|error| errors::forget(&error, &params))?;
        Ok(types::Forgotten {
            topic: params.topic,
            consumer: params.consumer,
        })
    });
}

impl Call {
    async fn history(&self, params: types::HistoryParams) -> Result<types::History, Error> {
        let topic = topic_name(&params.topic)?;
        let start = start(Some(params.from.as_deref().unwrap_or("earliest")))?;
        let items_max = params
            .items_max
            .unwrap_or(NOTIFICATION_ITEMS_MAX)
            .clamp(1, NOTIFICATION_ITEMS_MAX);
        let history = self
            .context
            .node
            .history(&topic, &start, items_max, NOTIFICATION_BYTES_MAX)
            .await
            .map_err(|error| errors::history(&error, &params.topic))?;
        let mut writer = Writer::new(&params.topic, history.log_id());
        let last = history
            .place
            .checked_sub(1)
            .filter(|_| !history.items.is_empty());
        Ok(types::History {
            cursor: last.map(|place| history.cursor(place)),
            items: history
                .items
                .into_iter()
                .map(|item| writer.item(item))
                .collect(),
        })
    }

    async fn confirm(&self, params: types::ConfirmParams) -> Result<types::Confirmed, Error> {
        let confirmer = self.connection.confirmer(params.credit_id);
        let confirmer = confirmer.ok_or_else(|| errors::no_subscription(params.credit_id))?;
        let confirmer = confirmer.ok_or_else(errors::no_name)?;
        let confirmed = confirmer.confirm(&params.cursor).await;
        let cursor = confirmed.map_err(|error| errors::confirm(&error))?;
        Ok(types::Confirmed { cursor })
    }

    /// Publishes a batch whole or not at all, as far as that can be known before the node is asked; once for all requests
    /// of one name.
    async fn publish(&self, params: types::PublishParams) -> Result<types::Published, Error> {
        let Some(_publishing) = self.connection.publish() else {
            return Err(
                Error::new(Kind::Busy, "this connection has a batch under way already")
                    .hint("wait for its receipts: one batch at a time keeps messages in order"),
            );
        };
        let topic = topic_name(&params.topic)?;
        let named = Named::call::<method::TopicPublish>(params.request_id.as_deref(), &params)?;
        let messages = decode(params.messages)?;
        let node = self.context.node.clone();
        let (via, ack) = way(params.via, params.ack)?;
        let work = async move {
            let published = node.publish(&topic, messages, via, ack).await;
            published.map_err(|error| errors::publish(&error))
        };
        let published = self.context.publishes.run(named, work).await?;
        let publisher = self.context.node.peer_id().to_string();
        let keepers: Vec<String> = published.keepers.iter().map(ToString::to_string).collect();
        let receipts = published
            .receipts
            .into_iter()
            .map(|receipt| types::Receipt {
                topic: params.topic.clone(),
                publisher: publisher.clone(),
                epoch: receipt.epoch,
                seq: receipt.seq,
                eager: receipt.eager,
                lazy: receipt.lazy,
                keepers: keepers.clone(),
                subscribers_known: receipt.subscribers_known,
            })
            .collect();
        Ok(types::Published { receipts })
    }
}

/// Returns which way messages leave and what their publish waits for.
fn way(via: Option<types::Via>, ack: Option<types::Ack>) -> Result<(Via, Ack), Error> {
    let via = match via.unwrap_or_default() {
        types::Via::Gossip => Via::Gossip,
        types::Via::Dht => Via::Dht,
        types::Via::Both => Via::Both,
    };
    let ack = match ack {
        // What goes through keepers alone is neither on this node's disk nor with a neighbour.
        None if via == Via::Dht => Ack::Keepers,
        None | Some(types::Ack::Local) => Ack::Local,
        Some(types::Ack::Sent) => Ack::Sent,
        Some(types::Ack::Link) => Ack::Link,
        Some(types::Ack::Keepers) => Ack::Keepers,
    };
    if via == Via::Dht && matches!(ack, Ack::Local | Ack::Link) {
        let reason =
            "what is published through keepers alone is acknowledged by keepers, or not at all";
        return Err(Error::new(Kind::InvalidParams, reason).hint("ack `keepers` or `sent`"));
    }
    Ok((via, ack))
}

/// Reads where a subscription or a reader of history begins; at the end where nothing is said.
pub(in super::super) fn start(text: Option<&str>) -> Result<Start, Error> {
    let Some(text) = text else {
        return Ok(Start::Latest);
    };
    Start::parse(text, SystemTime::now())
        .map_err(|error| Error::new(Kind::InvalidParams, error.to_string()))
}

/// Decodes a batch and holds it against the bounds.
fn decode(messages: Vec<types::NewMessage>) -> Result<Vec<Message>, Error> {
    if messages.len() > PUBLISH_MESSAGES_MAX {
        let count = messages.len();
        return Err(Error::new(
            Kind::TooLarge,
            format!("the batch has {count} messages, more than {PUBLISH_MESSAGES_MAX}; nothing was published"),
        )
        .hint("split it into several")
        .detail("messages_max", PUBLISH_MESSAGES_MAX));
    }
    let each = messages.into_iter().enumerate();
    each.map(|(index, message)| decode_one(index, message))
        .collect()
}

/// Decodes one message of a batch.
fn decode_one(index: usize, message: types::NewMessage) -> Result<Message, Error> {
    let invalid = |reason: String| {
        let reason = format!("message {index} of the batch: {reason}; nothing was published");
        Error::new(Kind::InvalidParams, reason).detail("index", index)
    };
    let payload = Payload::of_fields(message.data, message.data_base64)
        .ok_or_else(|| invalid("its payload stands either in data or in data_base64".to_owned()))?;
    let data = payload.into_bytes().map_err(|error| {
        invalid(format!("data_base64 is no base64: {error}"))
            .hint("RFC 4648, section 4, with padding")
    })?;
    let attributes = Attributes::new(message.content_type.as_deref(), &message.headers)
        .map_err(|error| invalid(error.to_string()))?;
    let message = Message { data, attributes };
    if message.bytes() > MESSAGE_BYTES_MAX {
        return Err(errors::message_too_large(index, message.bytes()));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: String) -> types::NewMessage {
        Payload::Text(data).into()
    }

    #[test]
    fn an_oversize_message_is_named_by_its_index() {
        let large = "x".repeat(MESSAGE_BYTES_MAX);
        let of_type = types::NewMessage {
            content_type: Some("a/b".to_owned()),
            ..text(large.clone())
        };
        for too_large in [text(format!("{large}x")), of_type] {
            let error = decode(vec![text("fits".into()), too_large]).unwrap_err();
            assert_eq!(error.kind, Kind::TooLarge);
            assert_eq!(error.details["index"], serde_json::Value::from(1));
        }
        assert!(decode(vec![text(large)]).is_ok());
    }

    #[test]
    fn what_is_no_message_is_named_by_its_index() {
        let header = |name: &str| [(name.to_owned(), String::new())].into();
        for (wrong, why) in [
            (
                Payload::Base64("?".into()).into(),
                "data_base64 is no base64",
            ),
            (
                types::NewMessage::default(),
                "either in data or in data_base64",
            ),
            (
                types::NewMessage {
                    content_type: Some(String::new()),
                    ..text(String::new())
                },
                "a content type has 1 to 127",
            ),
            (
                types::NewMessage {
                    headers: header("Trace"),
                    ..text(String::new())
                },
                "\"Trace\" does not fit",
            ),
        ] {
            let error = decode(vec![text(String::new()), wrong]).unwrap_err();
            assert_eq!(error.kind, Kind::InvalidParams);
            assert_eq!(error.details["index"], serde_json::Value::from(1));
            assert!(error.message.contains(why), "{error}");
        }
    }
}
