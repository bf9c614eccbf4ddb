//! `topic_subscribe`: a topic's items to one client, no further ahead than its credit.

use std::collections::VecDeque;
use std::sync::Arc;

use jsonrpsee::core::SubscriptionError;
use jsonrpsee::server::{
    Extensions, PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink,
};
use jsonrpsee::types::Params;
use weft_rpc::limits::{
    CREDIT_BYTES, CREDIT_ITEMS, NOTIFICATION_BYTES_MAX, NOTIFICATION_ITEMS_MAX,
};
use weft_rpc::method::{self, Method, TOPIC_EVENT};
use weft_rpc::{Error, types};

use super::connection::Credit;
use super::items::Writer;
use super::methods::{connection, consumer_name, parse, start, topic_name};
use super::{Context, errors};
use crate::{Begin, Item, Subscription};

/// Registers `topic_subscribe` and `topic_unsubscribe`.
pub(super) fn register(module: &mut RpcModule<Context>) {
    module
        .register_subscription(
            method::TopicSubscribe::NAME,
            TOPIC_EVENT,
            method::TopicUnsubscribe::NAME,
            |params, pending, context, extensions| async move {
                subscribe(&params, pending, &context, &extensions).await;
            },
        )
        .expect("names in the table are unique, and each is registered once");
}

/// Joins the topic, answers the call, and feeds the client until either side ends.
async fn subscribe(
    params: &Params<'static>,
    pending: PendingSubscriptionSink,
    context: &Arc<Context>,
    extensions: &Extensions,
) {
    let opened = async {
        let params = parse::<method::TopicSubscribe>(params)?;
        let subscription = open(&params, context).await?;
        Ok::<_, Error>((params.topic, subscription))
    };
    let (topic, subscription) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return pending.reject(error).await,
    };
    // The client may be gone by now; then there is nobody to tell.
    let Ok(sink) = pending.accept().await else {
        return;
    };
    let confirmer = subscription.confirmer();
    let credit = connection(extensions).open_credit(subscription.place(), confirmer);
    if let Err(error) = feed(&topic, subscription, credit, &sink).await {
        tracing::debug!(topic, ?error, "subscription ended");
    }
}

/// Joins the topic, under a name or without.
async fn open(params: &types::SubscribeParams, context: &Context) -> Result<Subscription, Error> {
    let topic = topic_name(&params.topic)?;
    let from = params.from.as_deref();
    let Some(name) = &params.consumer else {
        if params.reset {
            return Err(errors::reset_of_nothing());
        }
        let subscribed = context.node.subscribe(&topic, start(from)?).await;
        return subscribed.map_err(|error| errors::subscribe(&error));
    };
    let begin = match (from, params.reset) {
        (None, false) => Begin::AtItsPlace,
        (Some(_), false) => Begin::First(start(from)?),
        (Some(_), true) => Begin::Again(start(from)?),
        (None, true) => return Err(errors::reset_of_nothing()),
    };
    let consumer = consumer_name(name)?;
    let subscribed = context.node.subscribe_as(&topic, consumer, &begin).await;
    subscribed.map_err(|error| errors::subscribe_as(&error, name))
}

/// Sends `ready`, then items within the window, until the client or the node is gone.
async fn feed(
    topic: &str,
    mut subscription: Subscription,
    mut credit: Credit,
    sink: &SubscriptionSink,
) -> Result<(), SubscriptionError> {
    let ready = types::Ready {
        credit_id: credit.id(),
        place: subscription.place(),
        neighbours: subscription.neighbours(),
    };
    send(sink, &types::Notification::Ready(ready)).await?;
    let mut window = Window::default();
    let mut writer = Writer::new(topic, subscription.log_id());
    loop {
        window.read_up_to(credit.read_up_to());
        let Some((items_max, bytes_max)) = window.room() else {
            tokio::select! {
                () = credit.changed() => continue,
                () = sink.closed() => return Ok(()),
            }
        };
        let next = tokio::select! {
            next = subscription.next(items_max, bytes_max) => next,
            () = sink.closed() => return Ok(()),
        };
        let Some((items, place)) = next else {
            return Ok(());
        };
        window.sent(place, items.len(), items.iter().map(Item::bytes).sum());
        let items = types::Items {
            items: items.into_iter().map(|item| writer.item(item)).collect(),
            place,
            cursor: subscription.cursor(place.saturating_sub(1)),
        };
        send(sink, &types::Notification::Items(items)).await?;
    }
}

async fn send(
    sink: &SubscriptionSink,
    notification: &types::Notification,
) -> Result<(), SubscriptionError> {
    let message =
        SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), notification)?;
    Ok(sink.send(message).await?)
}

/// What was sent and not yet credited. Its length is bounded by the items that it counts.
#[derive(Debug, Default)]
struct Window {
    /// Place after the batch, its items, its bytes.
    batches: VecDeque<(u64, usize, usize)>,
    items: usize,
    bytes: usize,
}

impl Window {
    fn sent(&mut self, place: u64, items: usize, bytes: usize) {
        self.batches.push_back((place, items, bytes));
        self.items += items;
        self.bytes += bytes;
    }

    fn read_up_to(&mut self, place: u64) {
        while let Some((after, items, bytes)) = self.batches.front().copied()
            && after <= place
        {
            self.batches.pop_front();
            self.items -= items;
            self.bytes -= bytes;
        }
    }

    /// Returns how many items and bytes may be sent now, or nothing while the client has to read first.
    fn room(&self) -> Option<(usize, usize)> {
        let items = CREDIT_ITEMS
            .saturating_sub(self.items)
            .min(NOTIFICATION_ITEMS_MAX);
        let bytes = CREDIT_BYTES
            .saturating_sub(self.bytes)
            .min(NOTIFICATION_BYTES_MAX);
        (items > 0 && bytes > 0).then_some((items, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_when_nothing_is_read_and_opens_again() {
        let mut window = Window::default();
        let mut place = 0;
        while let Some((items, _)) = window.room() {
            place += items as u64;
            window.sent(place, items, 0);
        }
        assert_eq!(place, CREDIT_ITEMS as u64);
        // A batch counts as read once all of it is.
        window.read_up_to(NOTIFICATION_ITEMS_MAX as u64 - 1);
        assert!(window.room().is_none());
        window.read_up_to(NOTIFICATION_ITEMS_MAX as u64);
        assert_eq!(
            window.room(),
            Some((NOTIFICATION_ITEMS_MAX, NOTIFICATION_BYTES_MAX))
        );
    }

    #[test]
    fn bytes_close_a_window_as_well() {
        let mut window = Window::default();
        window.sent(1, 1, CREDIT_BYTES * 2);
        assert!(window.room().is_none());
        window.read_up_to(1);
        assert!(window.room().is_some());
        assert_eq!((window.items, window.bytes), (0, 0));
    }
}
