//! Facts that the core is told.

use weft_dht::dht::Call;
use weft_dht::kv::{KvKey, RecordId};
use weft_dht::store;
use weft_dht::{Key, Message};
use weft_identity::PeerId;

use crate::log::WriteId;
use crate::wire::Frame;
use crate::{Address, KadPeer, TopicName};

/// Names one order to dial, so that its outcome can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialId(pub u64);

/// Names a caller's request, so that its reply can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Names a query that came over a stream, so that it can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KadQueryId(pub u64);

/// Who dialled a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer dialled this node.
    Inbound,
    /// This node dialled the peer.
    Outbound,
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The peer said goodbye, or closed its half in order.
    Closed,
    /// The connection broke.
    Broken(String),
    /// The peer sent what no honest peer sends; the text says what.
    BadFrame(String),
    /// This core ordered it.
    Ordered,
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// Nobody answered; the text says what happened.
    Unreachable(String),
    /// The peer speaks for another network; the text is its name.
    WrongNetwork(String),
    /// Another peer than the one expected answered.
    OtherPeer(PeerId),
    /// The address is this node's own.
    SelfDial,
}

/// A fact.
#[derive(Debug)]
pub enum Input {
    /// The addresses that the node can be dialled at have changed.
    Listening(Vec<Address>),
    /// A link is up: one a peer, until its LinkDown.
    LinkUp {
        /// The peer, authenticated.
        peer: PeerId,
        /// Who dialled.
        direction: Direction,
        /// The remote address: where it was dialled (outbound), or where it came from (inbound).
        address: Option<Address>,
        /// The transport's name, such as `tcp`.
        transport: &'static str,
    },
    /// A link is down; every frame that came before it has been handed over.
    LinkDown {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: DownReason,
    },
    /// A frame came, decoded and verified.
    Frame {
        /// From whom.
        peer: PeerId,
        /// The frame.
        frame: Frame,
    },
    /// How a link stands, told before other inputs of a wake where it has changed.
    LinkState {
        /// The peer.
        peer: PeerId,
        /// Whether bytes have come since this was last told, be they whole frames or not.
        heard: bool,
        /// Bytes that wait in the link's lane for data.
        data_bytes: usize,
        /// Bytes that wait in the link's lane for repair.
        repair_bytes: usize,
    },
    /// A dial that was ordered has ended in a link (its LinkUp was told first, now or earlier).
    Dialled {
        /// Which.
        dial: DialId,
        /// Who answered.
        peer: PeerId,
    },
    /// A dial that was ordered has failed.
    DialFailed {
        /// Which.
        dial: DialId,
        /// Why.
        error: DialError,
    },
    /// A peer that is no link asks over a stream of the kad protocol. Answered by one [`crate::Output::KadReply`] at once.
    KadQuery {
        /// Names the reply.
        query: KadQueryId,
        /// Who asks, authenticated.
        peer: PeerId,
        /// Where the peer says that it listens; empty unless it serves.
        addresses: Vec<Address>,
        /// What it asks.
        message: Message<KadPeer>,
    },
    /// The answer to a [`crate::Output::KadAsk`] has come.
    KadAnswer {
        /// Who was asked, authenticated.
        peer: PeerId,
        /// The number that the question had.
        request: u64,
        /// Where it was reached.
        met_at: Address,
        /// The answer.
        message: Message<KadPeer>,
    },
    /// A [`crate::Output::KadAsk`] has failed: the peer can't be reached, or did not answer as it should.
    KadFailed {
        /// Who was asked.
        peer: PeerId,
    },
    /// What came of an order to write the store's records.
    Persisted {
        /// Which.
        id: store::OrderId,
        /// Whether all of it is on disk, or nothing.
        result: Result<(), store::DiskError>,
    },
    /// What came of an order to write topics' logs.
    Recorded {
        /// Which.
        id: WriteId,
        /// Whether all of it is on disk; otherwise all of it may be, or nothing.
        result: Result<(), store::DiskError>,
    },
    /// What came of an order to read the store's records.
    Loaded {
        /// Which.
        id: store::OrderId,
        /// One for each record that was wanted.
        records: Vec<store::Loaded<PeerId>>,
    },
    /// Records of the store that nobody has asked for were found damaged on disk.
    Damaged {
        /// Which ones.
        records: Vec<(KvKey, RecordId<PeerId>)>,
    },
    /// A caller wants something.
    Command(Command),
}

/// How far back a subscriber wants to read, beyond what came while this node was a member of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No further.
    Base,
    /// So many of the newest messages of each publisher.
    Last(u64),
    /// All that is held.
    All,
}

/// Which way messages leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// Over the swarm's links alone.
    Gossip,
    /// Through the topic's keepers, who spread them; this node needn't be a member.
    Dht,
    /// Over the swarm's links, and through keepers where there is no neighbour.
    #[default]
    Both,
}

/// What a publish waits for after its messages have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// Nothing: they are in history and queued to links.
    Sent,
    /// They are on this node's disk, and sent again after a restart.
    #[default]
    Local,
    /// A neighbour has them.
    Link,
    /// Most of the topic's keepers have them on disk.
    Keepers,
}

/// What a caller wants. Each is answered by one [`crate::Output::Reply`], now or later, unless it says otherwise.
#[derive(Debug)]
pub enum Command {
    /// Publish messages in order, each at most [`crate::bundle::MESSAGE_BYTES_MAX`]; answered once they
    /// are in history and queued to links, and acknowledged as `ack` says.
    Publish {
        /// Names the reply.
        request: RequestId,
        /// The topic; joined if the node is no member, unless it is published through keepers.
        topic: TopicName,
        /// The messages, in order.
        messages: Vec<crate::Message>,
        /// Which way they leave.
        via: Via,
        /// What the answer waits for.
        ack: Ack,
    },
    /// Open a subscription; answered once the node is a member, its starting place is fixed, and it has got what is to be had from before
    /// that.
    Subscribe {
        /// Names the reply.
        request: RequestId,
        /// The topic.
        topic: TopicName,
        /// How far back the subscriber reads.
        reach: Reach,
    },
    /// Close a subscription that was answered. Not answered.
    Unsubscribe {
        /// The topic.
        topic: TopicName,
    },
    /// Keep a topic's log from here on, though nothing may be left in it: somebody goes on where he stops. Answered once what there is of
    /// it is on disk.
    KeepLog {
        /// Names the reply.
        request: RequestId,
        /// The topic.
        topic: TopicName,
    },
    /// Keep a topic's log no longer than others. Not answered.
    FreeLog {
        /// The topic.
        topic: TopicName,
    },
    /// Dial an address and keep the peer in the address book.
    AddPeer {
        /// Names the reply.
        request: RequestId,
        /// The address; a peer id at its end pins who must answer.
        address: Address,
    },
    /// Close the link to a peer and forget its addresses.
    RemovePeer {
        /// Names the reply.
        request: RequestId,
        /// The peer.
        peer: PeerId,
    },
    /// Measure a round trip.
    Ping {
        /// Names the reply.
        request: RequestId,
        /// The peer.
        peer: PeerId,
    },
    /// Ask something of the structured layer.
    Dht {
        /// Names the reply.
        request: RequestId,
        /// What.
        call: Call<PeerId>,
    },
    /// No longer be a provider of a key; what is known of it elsewhere expires there.
    StopProviding {
        /// Names the reply.
        request: RequestId,
        /// The key.
        key: Key,
    },
    /// Do something with the replicated store.
    Kv {
        /// Names the reply.
        request: RequestId,
        /// What.
        call: store::Call<PeerId>,
    },
    /// The caller has gone and wants no reply any more. Not answered.
    Cancel {
        /// Which request.
        request: RequestId,
    },
    /// Leave every swarm and say goodbye; links are closed by the outputs that follow. Answered when all is ordered.
    Stop {
        /// Names the reply.
        request: RequestId,
    },
}
