//! Orders that the core gives.

use std::time::Duration;

use bytes::Bytes;
use weft_dht::dht::Outcome;
use weft_dht::kv::{KvKey, RecordId};
use weft_dht::lookup::Stats;
use weft_dht::store;
use weft_identity::PeerId;
use weft_overlay::{StreamId, UnixMicros};

use crate::config::PreviousRun;
use crate::input::Ack;
use crate::log::{LogOp, WriteId};
use crate::wire::OutFrame;
use crate::{
    Address, DialError, DialId, KadContact, KadQueryId, PeerContact, RequestId, TopicBundle,
    TopicName,
};

/// A link's queue for frames of one kind. Control goes out first; data and repair share what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Membership, trees, digests, heartbeats.
    Control,
    /// Bundles pushed along a tree.
    Data,
    /// Bundles supplied on request.
    Repair,
}

/// An order.
#[derive(Debug)]
pub enum Output {
    /// Queue a frame to a linked peer; a full lane drops and counts it.
    Send {
        /// To whom.
        peer: PeerId,
        /// In which lane.
        lane: Lane,
        /// The frame.
        frame: OutFrame,
    },
    /// Dial a peer; ends in Dialled or DialFailed, at once where it is linked already.
    Dial {
        /// Names the outcome.
        dial: DialId,
        /// Who must answer; none where that isn't known.
        peer: Option<PeerId>,
        /// Where, in order of preference.
        addresses: Vec<Address>,
    },
    /// Reach a linked peer at one of its addresses, on a connection that is let go at once; ends as a Dial does.
    Prove {
        /// Names the outcome.
        dial: DialId,
        /// Who must answer.
        peer: PeerId,
        /// Where.
        addresses: Vec<Address>,
    },
    /// Ask a peer over a stream of the kad protocol; ends in KadAnswer or KadFailed.
    KadAsk {
        /// Whom.
        peer: PeerId,
        /// Where it may be reached: the connection must be one that this node makes.
        addresses: Vec<Address>,
        /// Names the outcome.
        request: u64,
        /// The question, its length in front.
        packet: Bytes,
        /// Whether an answer comes; where none does, only a failure is told.
        is_answered: bool,
    },
    /// Answer a query that came over a stream.
    KadReply {
        /// Which.
        query: KadQueryId,
        /// The answer, its length in front; none where there is none to be sent.
        packet: Option<Bytes>,
    },
    /// Close a link in order: send what waits, half-close, wait for the peer to have read it. LinkDown follows.
    Close {
        /// Whose.
        peer: PeerId,
        /// How long that may take.
        within: Duration,
        /// Why, for the log.
        reason: &'static str,
    },
    /// A topic's arrival log begins, or that of an earlier run begins again. Every other order about it stands between this and
    /// its [`Output::EndLog`].
    BeginLog {
        /// The topic.
        topic: TopicName,
        /// What tells the log from earlier ones of the topic.
        life: u64,
        /// The place that the next arrival gets at the earliest. Those of an earlier run follow at once, with the places below
        /// that they had.
        place: u64,
    },
    /// Something arrived for the topic's arrival log, in order for each publisher.
    Deliver {
        /// The topic.
        topic: TopicName,
        /// The place of its first message, past all that were there before: not always the next, after a restart.
        place: u64,
        /// What.
        item: Delivered,
    },
    /// Put what came before all else in front of the topic's arrival log.
    Backfill {
        /// The topic.
        topic: TopicName,
        /// The place of the first message; those of all items follow each other, and end where the log began.
        first_place: u64,
        /// What, oldest first.
        items: Vec<Delivered>,
    },
    /// What stood below a place of the topic's arrival log is gone.
    TrimLog {
        /// The topic.
        topic: TopicName,
        /// The place. Nothing that is kept need stand there: the next may be later.
        below: u64,
    },
    /// What stood at some places of the topic's arrival log, between others, is gone.
    LoseArrivals {
        /// The topic.
        topic: TopicName,
        /// The places, in ascending order; each range is that of whole arrivals.
        places: Vec<std::ops::Range<u64>>,
    },
    /// The topic's arrival log ends, with all that is in it.
    EndLog {
        /// The topic.
        topic: TopicName,
    },
    /// Write all of this or nothing; ends in Recorded once it would survive a loss of power. There is one such order at a
    /// time, but for those that follow a Stop.
    Record {
        /// Names the outcome.
        id: WriteId,
        /// What to write, in order.
        ops: Vec<LogOp>,
    },
    /// Write all of this or nothing; ends in Persisted once it would survive a loss of power. There is one such order at a time.
    Persist {
        /// Names the outcome.
        id: store::OrderId,
        /// What to write, in order.
        ops: Vec<store::Op<PeerContact>>,
    },
    /// Read records of the store; ends in Loaded.
    Load {
        /// Names the outcome.
        id: store::OrderId,
        /// Which ones.
        wanted: Vec<(KvKey, RecordId<PeerId>)>,
    },
    /// The address book has changed enough to be written: the encoded descriptors of proven peers.
    PersistAddressBook,
    /// A request's answer.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Something happened that a person may want to see.
    Event(Event),
}

/// What a topic's subscribers get.
#[derive(Debug, Clone)]
pub enum Delivered {
    /// A bundle, next in its publisher's order.
    Bundle {
        /// The bundle.
        bundle: TopicBundle,
        /// The first seq that is due; those before it are older than where the node began.
        from: u64,
        /// Links it has travelled; 0 on the publishing node.
        hops: u8,
        /// When it came here.
        received_at: UnixMicros,
    },
    /// Messages that will not come.
    Gap {
        /// Whose.
        publisher: PeerId,
        /// Of which epoch.
        epoch: u64,
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// Arrivals that this node had and can't read any more.
    Missed {
        /// How many places they have.
        places: u64,
    },
}

/// A request's answer.
#[derive(Debug)]
pub enum Reply {
    /// To Publish.
    Published(Result<Published, PublishError>),
    /// To Subscribe: neighbours in the topic's swarm.
    Subscribed {
        /// How many.
        neighbours: usize,
        /// Of streams of which more was published than has arrived, the last seq that is known of: who wants only what is
        /// new doesn't want what comes of it.
        heads: Vec<(StreamId<PeerId>, u64)>,
    },
    /// To Subscribe: the node is a member of as many topics as it may be.
    TooManyTopics,
    /// To AddPeer.
    PeerAdded(Result<PeerId, AddPeerError>),
    /// To RemovePeer: whether the peer was linked or known.
    PeerRemoved(bool),
    /// To Ping; none where the peer is not linked or its link was lost.
    Pong(Option<Duration>),
    /// To Kv.
    Kv(store::Outcome<PeerId>),
    /// To Dht.
    Dht {
        /// What became of it.
        outcome: Outcome<KadContact>,
        /// What its lookup cost.
        stats: Stats,
    },
    /// To KeepLog: whether it is on disk; otherwise it may be.
    LogKept(Result<(), store::DiskError>),
    /// To StopProviding: whether the key was provided.
    ProvidingStopped(bool),
    /// To Stop: what the next run should know of this one.
    Stopped(PreviousRun),
}

/// What became of a publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// A receipt a message.
    pub receipts: Vec<Receipt>,
    /// The keepers that are known to have all of them on disk.
    pub keepers: Vec<PeerId>,
}

/// A published message's place and how it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The publisher's epoch.
    pub epoch: u64,
    /// The message's seq.
    pub seq: u64,
    /// Neighbours it was pushed to.
    pub eager: usize,
    /// Neighbours it is announced to.
    pub lazy: usize,
    /// Subscribed nodes that this node knows of, itself included.
    pub subscribers_known: usize,
}

/// Why a publish has failed. None of its messages was published, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// A message is too large.
    TooLarge {
        /// Which of the batch, from 0.
        index: usize,
        /// Its bytes, attributes counted.
        bytes: usize,
    },
    /// Too many publishes wait already, or the node is a member of as many topics as it may be.
    Busy,
    /// Nobody is known who could keep the topic.
    NoKeepers,
    /// They were published, but this node's disk has not taken them.
    NotWritten {
        /// Whether it is full.
        full: bool,
    },
    /// They were published, but not acknowledged in time.
    Unacknowledged {
        /// What was waited for.
        ack: Ack,
        /// How many have acknowledged them.
        got: usize,
        /// How many had to.
        need: usize,
    },
    /// The node is stopping.
    Stopping,
}

/// Why a peer was not added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddPeerError {
    /// The dial failed.
    Dial(DialError),
    /// As many dials as allowed are under way.
    Busy,
    /// The node is stopping.
    Stopping,
}

/// Something that a person may want to see; the shell logs it, rate-limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first neighbour in the root swarm.
    Joined {
        /// Who.
        peer: PeerId,
    },
    /// The last neighbour in the root swarm has gone.
    Isolated,
    /// A dial to join was refused because the peer is of another network, or ended in a lasting error; told once an address.
    JoinFailed {
        /// Where.
        address: Address,
        /// Why.
        error: DialError,
    },
    /// A publisher signed two bundles for one place.
    Equivocation {
        /// On which topic.
        topic: TopicName,
        /// Who.
        publisher: PeerId,
        /// Of which epoch.
        epoch: u64,
        /// Where.
        seq: u64,
    },
    /// A peer sent what no honest peer sends; counted under the name.
    Misbehaviour {
        /// Who.
        peer: PeerId,
        /// The counter's name.
        what: &'static str,
    },
    /// Something about the replicated store.
    Store(store::Event<PeerId>),
    /// Messages were lost for good.
    Lost {
        /// On which topic.
        topic: TopicName,
        /// Whose.
        publisher: PeerId,
        /// Of which epoch.
        epoch: u64,
        /// From.
        from: u64,
        /// To.
        to: u64,
    },
    /// The disk took topics' logs more slowly than they came; what was dropped isn't there after a restart.
    LogsFellBehind {
        /// Bytes that were dropped since this was last told.
        bytes: u64,
    },
    /// This process was stopped for a while and has resumed.
    Stalled {
        /// For how long.
        late: Duration,
    },
}
