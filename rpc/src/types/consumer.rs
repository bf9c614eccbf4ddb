//! What the methods about named consumers take and answer.

use serde::{Deserialize, Serialize};

/// What `topic_confirm` takes: the consumer has handled what carries the cursor, and all before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmParams {
    /// The id that the subscription's `Ready` carried; it has a consumer's name.
    pub credit_id: u64,
    /// Of a message, or of an `Items` notification.
    pub cursor: String,
}

/// What `topic_confirm` answers, once it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// After which the consumer goes on; a later one than asked for where that was confirmed before.
    pub cursor: String,
}

/// What `topic_consumers` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicConsumers {
    /// The topic's name.
    pub topic: String,
    /// Who reads it by name, by name.
    pub consumers: Vec<TopicConsumer>,
}

/// A named consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicConsumer {
    /// Its name.
    pub consumer: String,
    /// After which it goes on.
    pub cursor: String,
    /// Messages that this node has and it has not confirmed; null where the node no longer has the log that it stands in.
    pub lag: Option<u64>,
    /// Whether it is subscribed.
    pub connected: bool,
    /// Seconds since it last confirmed something; null where it has not since it began.
    pub confirmed_age_s: Option<f64>,
}

/// What `topic_forgetConsumer` takes; one that isn't there is the error `not_found`, one that is subscribed `busy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetParams {
    /// The topic's name.
    pub topic: String,
    /// The consumer's name.
    pub consumer: String,
}

/// What `topic_forgetConsumer` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The topic's name.
    pub topic: String,
    /// The consumer's name; where it stood, nobody knows any more.
    pub consumer: String,
}
