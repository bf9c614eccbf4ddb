//! What the methods `topic_*` take and answer, and what a subscription sends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::payload::Payload;

/// What `topic_list` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Topics {
    /// Topics that this node is a member of or knows members of.
    pub topics: Vec<Topic>,
}

/// A topic as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Subscriptions of this node's clients.
    pub subscriptions: usize,
    /// Other members that it knows of.
    pub members_known: usize,
}

/// What `topic_members`, `topic_stats` and `topic_consumers` take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicParams {
    /// The topic's name.
    pub topic: String,
}

/// What `topic_members` answers; a topic that the node neither is a member of nor knows one of is the error `not_found`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicMembers {
    /// The topic's name.
    pub topic: String,
    /// Other members that the node knows of, by peer id.
    pub members: Vec<TopicMember>,
}

/// A member as the asked node knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicMember {
    /// Its peer id.
    pub peer_id: String,
    /// Whether it is subscribed, or only publishes and forwards; null where it has not announced itself.
    pub subscribed: Option<bool>,
    /// Whether it is a neighbour of the asked node in the topic's swarm.
    pub neighbour: bool,
    /// Whether it has said to the asked node that it keeps the topic.
    pub keeper: bool,
    /// Seconds since it was last heard to be a member.
    pub age_s: f64,
}

/// What `topic_stats` answers; a topic of which the node knows nothing is the error `not_found`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicStats {
    /// The topic's name.
    pub topic: String,
    /// Whether the node is a member.
    pub member: bool,
    /// Whether it keeps the topic for others.
    pub keeps: bool,
    /// Subscriptions of this node's clients.
    pub subscriptions: usize,
    /// Other members that the node knows of.
    pub members_known: usize,
    /// Those of them that have said that they keep the topic.
    pub keepers_known: usize,
    /// Streams that it knows of: runs of publishers.
    pub streams: usize,
    /// Bundles that it holds, to supply others.
    pub bundles_held: u64,
    /// Messages in them.
    pub messages_held: u64,
    /// Bytes that they cost.
    pub bytes_held: u64,
    /// When the oldest of them came; null where there is none.
    pub oldest: Option<String>,
    /// When the newest of them came; null where there is none.
    pub newest: Option<String>,
    /// Messages delivered in their publishers' order since it joined.
    pub delivered: u64,
    /// Messages told as lost since it joined.
    pub lost: u64,
    /// Copies of bundles that came again since it joined.
    pub duplicates: u64,
    /// What subscribers read; null where there was none.
    pub log: Option<TopicLog>,
}

/// An arrival log: what came of a topic, in the order in which it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicLog {
    /// The place of its oldest item.
    pub first: u64,
    /// The place that the next item will have.
    pub next: u64,
    /// How many items it has. Places between them may be left out.
    pub items: u64,
}

/// What `topic_publish` takes: one topic and a batch of messages, published in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishParams {
    /// The topic's name: 1 to 200 bytes of `[A-Za-z0-9._/-]`, not `network`, no leading `@`.
    pub topic: String,
    /// The messages.
    pub messages: Vec<NewMessage>,
    /// 1 to 64 bytes of the client's choice: a call that repeats one is answered as the first was, and publishes nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Which way they leave: `gossip` (over this node's links alone), `dht` (through the topic's keepers, who spread them; this node
    /// needn't be a member) or `both` (over links, and through keepers where there is no neighbour); absent, `both`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// What the answer waits for: `sent` (queued to neighbours), `local` (on this node's disk), `link` (a neighbour has them) or
    /// `keepers` (most of the topic's keepers have them on disk); absent, `local`, or
    /// `keepers` where they leave by `dht`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
}

/// Which way messages leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Over this node's links alone.
    Gossip,
    /// Through the topic's keepers, who spread them.
    Dht,
    /// Over links, and through keepers where there is no neighbour.
    #[default]
    Both,
}

/// What a publish waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Nothing: they are queued to neighbours.
    Sent,
    /// They are on this node's disk, and sent again after a restart.
    #[default]
    Local,
    /// A neighbour has them.
    Link,
    /// Most of the topic's keepers have them on disk.
    Keepers,
}

/// A message to publish: at most 1 MiB, what is said of it included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// The payload, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The payload in base64 (RFC 4648 §4); one of both stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// The payload's content type: 1 to 127 printable ASCII characters, by custom a media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// At most 16; names of 1 to 64 of the characters `a-z 0-9 -`, values of at most 1 KiB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl From<Payload> for NewMessage {
    /// Makes a message of which nothing is said.
    fn from(payload: Payload) -> Self {
        let (data, data_base64) = match payload {
            Payload::Text(text) => (Some(text), None),
            Payload::Base64(text) => (None, Some(text)),
        };
        Self {
            data,
            data_base64,
            ..Self::default()
        }
    }
}

/// What `topic_publish` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// One receipt a message, in order.
    pub receipts: Vec<Receipt>,
}

/// A published message's place and how it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The topic's name.
    pub topic: String,
    /// This node's peer id.
    pub publisher: String,
    /// The publisher's epoch.
    pub epoch: u64,
    /// The message's number in the epoch, from 1.
    pub seq: u64,
    /// Neighbours it was pushed to.
    pub eager: usize,
    /// Neighbours it is announced to.
    pub lazy: usize,
    /// Keepers that are known to have it on disk; they are asked where the publish waits for them.
    pub keepers: Vec<String>,
    /// Subscribed nodes that this node knows of, itself included.
    pub subscribers_known: usize,
}

/// What `topic_subscribe` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscribeParams {
    /// The topic's name.
    pub topic: String,
    /// Where to begin, as [`crate::Start`] is written; absent, `latest`, or where the consumer stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name under which the node keeps how far this reader has come: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`. A name has one
    /// subscription at a time; another is the error `busy`. `from` with a name that stands somewhere already is the error `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Begin at `from` though the consumer stands elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
}

/// What `topic_history` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryParams {
    /// The topic's name.
    pub topic: String,
    /// Where to begin, as [`crate::Start`] is written; absent, `earliest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Items at most; absent and at most 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_max: Option<usize>,
}

/// A page of what `topic_history` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct History {
    /// Messages and gaps, in the order in which they came; none at the end.
    pub items: Vec<Item>,
    /// The cursor of the last of them: the next page is `from` it. Null where there is none.
    pub cursor: Option<String>,
}

/// One notification of a subscription: items in order. The first notification of each subscription is `Ready`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notification {
    /// The node is a member of the topic's swarm and its starting place is fixed: all that is published from now on
    /// will come. Carries the id that `topic_credit` takes.
    Ready(Ready),
    /// Messages and gaps, and the place after the last of them.
    Items(Items),
}

/// What a subscription says first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// The id that `topic_credit` and `topic_confirm` take.
    pub credit_id: u64,
    /// The place from which the subscription reads.
    pub place: u64,
    /// Neighbours in the topic's swarm at this moment.
    pub neighbours: usize,
}

/// A batch of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Items {
    /// Messages and gaps in order.
    pub items: Vec<Item>,
    /// The place after the last of them, for `topic_credit`.
    pub place: u64,
    /// The cursor of the last of them, a gap or not, for `topic_confirm`.
    pub cursor: String,
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A message.
    Message(Message),
    /// Messages that will not come.
    Gap(Gap),
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The topic's name.
    pub topic: String,
    /// Who published it.
    pub publisher: String,
    /// The publisher's epoch.
    pub epoch: u64,
    /// Its number in the epoch, from 1.
    pub seq: u64,
    /// Links it travelled; 0 on the publishing node.
    pub hops: u32,
    /// When its publisher published it, by the publisher's clock.
    pub published_at: String,
    /// When this node received it.
    pub received_at: String,
    /// Its place in this node's arrival log, to go on after it: opaque, this node's alone.
    pub cursor: String,
    /// The payload's content type; absent where its publisher has not said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// What else its publisher says of it; absent where that is nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The payload.
    #[serde(flatten)]
    pub payload: Payload,
}

/// A range of messages that will not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose messages; null for messages of several publishers that a slow reader let pass.
    pub publisher: Option<String>,
    /// The publisher's epoch; null as above.
    pub epoch: Option<u64>,
    /// The first that is missing (a seq; a place for `slow_reader`).
    pub from: u64,
    /// The last that is missing (a seq; a place for `slow_reader`).
    pub to: u64,
    /// `lost` (nobody has it) or `slow_reader` (history passed this reader by).
    pub reason: GapReason,
}

/// Why messages will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Every neighbour has denied having it, or retention has passed it by.
    Lost,
    /// History was dropped before this reader read it.
    SlowReader,
}

/// What `topic_credit` takes: everything before `up_to` has been read, so more may be sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditParams {
    /// The id that the subscription's `Ready` carried.
    pub credit_id: u64,
    /// A place from an `Items` notification.
    pub up_to: u64,
}

/// What `topic_credit` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credited {
    /// Whether this connection has a subscription of that id.
    pub credited: bool,
}

/// What `topic_unsubscribe` takes; the id may also stand alone in an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsubscribeParams {
    /// The id that `topic_subscribe` answered.
    pub subscription: serde_json::Value,
}
