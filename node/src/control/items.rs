//! A topic's items as JSON has them.

use weft_identity::PeerId;
use weft_rpc::payload::Payload;
use weft_rpc::types;

use crate::arrivals::LogId;
use crate::{Delivery, Item};

/// Writes items as JSON has them. Remembers the last publisher's id as text: most messages have the one before's.
pub(super) struct Writer<'a> {
    topic: &'a str,
    log: LogId,
    publisher: Option<(PeerId, String)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(topic: &'a str, log: LogId) -> Self {
        Self {
            topic,
            log,
            publisher: None,
        }
    }

    pub(super) fn item(&mut self, item: Item) -> types::Item {
        match item {
            Item::Message(delivery) => types::Item::Message(self.message(&delivery)),
            Item::Lost {
                publisher,
                epoch,
                from,
                to,
            } => types::Item::Gap(types::Gap {
                publisher: Some(self.text_of(publisher)),
                epoch: Some(epoch),
                from,
                to,
                reason: types::GapReason::Lost,
            }),
            Item::SlowReader { from, to } => types::Item::Gap(types::Gap {
                publisher: None,
                epoch: None,
                from,
                to,
                reason: types::GapReason::SlowReader,
            }),
        }
    }

    fn message(&mut self, delivery: &Delivery) -> types::Message {
        types::Message {
            topic: self.topic.to_owned(),
            publisher: self.text_of(delivery.publisher),
            epoch: delivery.epoch,
            seq: delivery.seq,
            hops: delivery.hops,
            published_at: humantime::format_rfc3339_micros(delivery.published_at).to_string(),
            received_at: humantime::format_rfc3339_micros(delivery.received_at).to_string(),
            cursor: self.log.cursor(delivery.place),
            content_type: delivery.attributes.content_type().map(str::to_owned),
            headers: delivery
                .attributes
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            payload: Payload::readable(&delivery.data),
        }
    }

    fn text_of(&mut self, publisher: PeerId) -> String {
        match &self.publisher {
            Some((last, text)) if *last == publisher => text.clone(),
            _ => {
                let text = publisher.to_string();
                self.publisher = Some((publisher, text.clone()));
                text
            }
        }
    }
}
