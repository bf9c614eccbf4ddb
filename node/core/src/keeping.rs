//! What members of topics and the topics' keepers ask each other.
//!
//! A topic's keepers are the [`KEEPERS`] nodes closest to its point that store things for others. Members tell them that they are
//! members, and hear who else is; whoever lacks something of the topic's history asks them for it.

use weft_identity::PeerId;
use weft_overlay::digest::StreamDigest;
use weft_overlay::{Seqs, StreamId};

use crate::wire::membership::Membership;
use crate::{PeerContact, TopicBundle, TopicId, TopicName};

/// Nodes that keep a topic (the design's number).
pub const KEEPERS: usize = 3;
/// Nodes closest to a topic's point that are told of a member: a keeper's place may be anybody's whose table is a moment old.
pub const MET: usize = 2 * KEEPERS;
/// Streams that one request asks for.
pub const FETCH_STREAMS_MAX: usize = 256;
/// Bytes of bundles beyond which an answer ends: with one bundle more it stays below a frame's bound.
pub const FETCHED_BYTES: usize = 256 * 1024;
/// Bundles of one answer: empty ones cost memory too.
pub const FETCHED_MAX: usize = 1_024;

/// A message between a member of topics and a keeper.
#[derive(Clone, Debug)]
pub enum Message {
    /// A question.
    Query(Query),
    /// Its answer.
    Answer(Answer),
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Query {
    /// The sender is a member of these topics, and wants to know who else is.
    Meet(Membership),
    /// What is held of a topic's history.
    Digests {
        /// The topic.
        topic: TopicId,
        /// Streams after this one.
        after: Option<StreamId<PeerId>>,
    },
    /// Bundles are wanted.
    Fetch {
        /// The topic.
        topic: TopicId,
        /// Which ones, at most [`FETCH_STREAMS_MAX`] streams.
        streams: Vec<(StreamId<PeerId>, Seqs)>,
    },
    /// Are these on disk? Answered when they are, or can't be.
    Confirm {
        /// The topic.
        topic: TopicId,
        /// Whose.
        stream: StreamId<PeerId>,
        /// Which ones.
        seqs: Seqs,
    },
    /// A bundle is to be kept, and spread in the topic's swarm.
    Hand {
        /// The topic.
        topic: TopicName,
        /// The bundle.
        bundle: TopicBundle,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To Meet.
    Met {
        /// One for each topic that was named, in their order.
        topics: Vec<Meeting>,
        /// Members of them, at most [`crate::wire::CONTACTS_MAX`].
        contacts: Vec<PeerContact>,
    },
    /// To Digests: a page.
    Digests {
        /// In ascending order.
        streams: Vec<StreamDigest<PeerId>>,
        /// Whether there are others after these.
        more: bool,
    },
    /// To Fetch: what is held of it, in the order in which it was asked for, as far as it fits.
    Fetched {
        /// The topic.
        topic: TopicId,
        /// The bundles; none where nothing of it is held.
        bundles: Vec<Fetched>,
    },
    /// To Confirm and Hand.
    Confirmed {
        /// Whether they are on disk.
        durable: bool,
        /// Whether they are held at all.
        held: bool,
        /// Members that are subscribed, as far as the keeper knows.
        subscribed: u32,
    },
    /// The peer doesn't keep the topic.
    Unable,
}

/// A bundle in an answer; two are equal that hold the same bytes.
#[derive(Clone, Debug)]
pub struct Fetched(pub TopicBundle);

impl PartialEq for Fetched {
    fn eq(&self, other: &Self) -> bool {
        self.0.0.hash == other.0.0.hash
    }
}

/// How a peer stands to a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meeting {
    /// Whether it keeps the topic.
    pub keeps: bool,
    /// Whether it has got what keepers before it had.
    pub filled: bool,
    /// Whether it has more to say of the topic than that it keeps it from now on.
    pub based: bool,
    /// Members that are subscribed, as far as it knows.
    pub subscribed: u32,
    /// Which of the answer's contacts are members.
    pub contacts: Vec<u32>,
}
