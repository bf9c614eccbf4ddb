//! What a store is told, what it orders, and what it says of itself.

use crate::kv::{Header, Invalid, KvKey, Record, RecordId, Seq};
use crate::{Contact, Key, RequestId};

use super::calls::{Call, CallId, Draft, Outcome};
use super::claim::{Claim, Round};
use super::messages::Message;

/// Names an order to the disk, or one to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// Where the owner looks for peers close to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In what it knows: it answers at once.
    Table,
    /// In the network, by a lookup.
    Network,
}

/// What the disk failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// It is full.
    Full,
    /// Anything else.
    Failed,
}

/// What came of reading one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded<P> {
    /// Here it is.
    Record(Box<Record<P>>),
    /// It isn't there (any more).
    Missing,
    /// It is there, but isn't what was written.
    Corrupt,
    /// The disk failed.
    Failed,
}

/// One change of what lies on disk. A batch of them is written as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<C: Contact> {
    /// A record to keep.
    PutRecord(Record<C::Peer>),
    /// One to keep no more.
    DropRecord {
        /// Its key.
        key: KvKey,
        /// Which one.
        id: RecordId<C::Peer>,
    },
    /// A record is kept for a replica as well.
    PutHint {
        /// For which.
        replica: C::Peer,
        /// The record's key.
        key: KvKey,
        /// Which one.
        id: RecordId<C::Peer>,
    },
    /// It isn't any more.
    DropHint {
        /// For which.
        replica: C::Peer,
        /// The record's key.
        key: KvKey,
        /// Which one.
        id: RecordId<C::Peer>,
    },
    /// The newest record of a key of this node's own, in the place of the one before.
    PutOwned(Record<C::Peer>),
    /// One that isn't needed any more: nobody can hold it.
    DropOwned {
        /// Its key.
        key: KvKey,
    },
    /// The last dot that a record of this node's of a shared key may have, in the place of the one before.
    PutDot {
        /// The key.
        key: KvKey,
        /// The dot.
        seq: Seq,
    },
    /// One that is forgotten.
    DropDot {
        /// Its key.
        key: KvKey,
    },
    /// What a peer claims, or this node itself, in the place of its claim before.
    PutClaim {
        /// Whose claim.
        contact: C,
        /// The claim.
        claim: Claim<C::Peer>,
    },
    /// A peer's claim that is forgotten.
    DropClaim {
        /// Whose.
        peer: C::Peer,
    },
}

/// What lay on disk when the node started.
#[derive(Clone, Debug)]
pub struct Restored<C: Contact> {
    /// This run's number, greater than those of all runs before.
    pub epoch: u64,
    /// All records.
    pub records: Vec<Header<C::Peer>>,
    /// Which of them are kept for which replicas.
    pub hints: Vec<(C::Peer, KvKey, RecordId<C::Peer>)>,
    /// The newest records of this node's own keys.
    pub owned: Vec<Header<C::Peer>>,
    /// The last dots that this node's records of shared keys may have.
    pub dots: Vec<(KvKey, Seq)>,
    /// Claims by their makers, this node's among them.
    pub claims: Vec<(C, Claim<C::Peer>)>,
    /// Records that were there and are damaged.
    pub lost: Vec<(KvKey, RecordId<C::Peer>)>,
}

impl<C: Contact> Default for Restored<C> {
    fn default() -> Self {
        Self {
            epoch: 0,
            records: Vec::new(),
            hints: Vec::new(),
            owned: Vec::new(),
            dots: Vec::new(),
            claims: Vec::new(),
            lost: Vec::new(),
        }
    }
}

/// A fact that a store is told.
#[derive(Clone, Debug)]
pub enum Input<C: Contact> {
    /// The own contact was renewed.
    SetMe(C),
    /// Whom the owner believes to be there and near: the closest peers that store, without this node. Those that were
    /// and are not among them are gone or far.
    View {
        /// Their contacts, at most 20.
        contacts: Vec<C>,
    },
    /// A caller asks for something.
    Call {
        /// Pairs the reply with it.
        id: CallId,
        /// What it asks for.
        call: Call<C::Peer>,
    },
    /// The record that [`Output::Sign`] ordered.
    Signed {
        /// For which call.
        id: CallId,
        /// The record, or why there can't be one.
        record: Result<Record<C::Peer>, Invalid>,
    },
    /// A message arrived, with records whose signatures were checked.
    Received {
        /// From whom, as the link has proven it.
        from: C::Peer,
        /// For an answer the id of our query; for a query whatever pairs our answer with it.
        request: RequestId,
        /// The message.
        message: Message<C>,
    },
    /// A link to a peer could not be made or went down: what it was asked it won't answer.
    PeerLost {
        /// The peer.
        peer: C::Peer,
    },
    /// The peers that [`Output::Lookup`] asked for.
    Closest {
        /// Which order.
        id: OrderId,
        /// Peers that store, the closest first.
        contacts: Vec<C>,
    },
    /// What came of [`Output::Persist`].
    Persisted {
        /// Which order.
        id: OrderId,
        /// Whether all of it is on disk, or nothing.
        result: Result<(), DiskError>,
    },
    /// What came of [`Output::Load`].
    Loaded {
        /// Which order.
        id: OrderId,
        /// One for each record that was wanted.
        records: Vec<Loaded<C::Peer>>,
    },
    /// Records that nobody has asked for were found damaged on disk.
    Damaged {
        /// Which ones.
        records: Vec<(KvKey, RecordId<C::Peer>)>,
    },
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// This node is settled, with so many records.
    Settled {
        /// The round of its claim.
        round: Round,
        /// The records that it holds.
        records: usize,
    },
    /// A record on disk was damaged; it is fetched from replicas.
    Lost {
        /// Its key.
        key: KvKey,
        /// Which one.
        id: RecordId<P>,
    },
    /// It is here again, or what covers it.
    Recovered {
        /// Its key.
        key: KvKey,
    },
    /// A peer sent what no honest peer sends; it was ignored.
    Misbehaviour {
        /// The peer.
        peer: P,
        /// What it did.
        what: &'static str,
    },
}

/// An order that a store gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<C: Contact> {
    /// Send a message; link to the peer first if needed, and tell [`Input::PeerLost`] if that fails.
    Send {
        /// To whom.
        to: C::Peer,
        /// How to reach it; `None` where the message answers a query and goes back the way that came.
        contact: Option<C>,
        /// For a query the id that its answer must bring back; for an answer what came with the query.
        request: RequestId,
        /// The message.
        message: Message<C>,
    },
    /// Tell [`Input::Closest`].
    Lookup {
        /// Pairs the answer with it.
        id: OrderId,
        /// Close to what.
        key: Key,
        /// Where to look.
        reach: Reach,
    },
    /// Make a record and sign it: tell [`Input::Signed`].
    Sign {
        /// For which call.
        id: CallId,
        /// Which of this node's writes it is. No other record gets this number.
        seq: Seq,
        /// What it is to say.
        draft: Draft<C::Peer>,
    },
    /// Write all of this or nothing, and tell [`Input::Persisted`] once it would survive a loss of power. There is one
    /// such order at a time.
    Persist {
        /// Pairs the result with it.
        id: OrderId,
        /// What to write, in order.
        ops: Vec<Op<C>>,
    },
    /// Read records, and tell [`Input::Loaded`].
    Load {
        /// Pairs the result with it.
        id: OrderId,
        /// Which ones.
        wanted: Vec<(KvKey, RecordId<C::Peer>)>,
    },
    /// A caller's request has ended.
    Reply {
        /// Which one.
        id: CallId,
        /// What became of it.
        outcome: Outcome<C::Peer>,
    },
    /// Something worth a line in a log.
    Event(Event<C::Peer>),
}

/// How a store fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls to write that were begun.
    pub puts: u64,
    /// Calls to read that were begun.
    pub gets: u64,
    /// Calls refused because too many are running.
    pub calls_refused: u64,
    /// Calls that too few replicas answered.
    pub quorums_missed: u64,
    /// Calls answered with the help of stand-ins.
    pub sloppy: u64,
    /// Records refused as a replica.
    pub records_refused: u64,
    /// Hints taken.
    pub hints_kept: u64,
    /// Hints handed to their replica, or found there.
    pub hints_handed: u64,
    /// Replicas that a read found behind and sent what they lacked.
    pub read_repairs: u64,
    /// Synchronisations that this node began.
    pub syncs: u64,
    /// Bytes of synchronisations' messages that this node sent, records included.
    pub sync_bytes: u64,
    /// Records that came by synchronisation and were new.
    pub sync_fetched: u64,
    /// Records that others got by synchronisation.
    pub sync_pushed: u64,
    /// Records dropped because n settled replicas hold them.
    pub former_dropped: u64,
    /// Records dropped because they had ended.
    pub expired: u64,
    /// Batches written.
    pub batches: u64,
    /// Batches that the disk failed to write.
    pub batches_failed: u64,
    /// Records found damaged.
    pub lost: u64,
    /// Queries that weren't answered because their peer asks for too much.
    pub held_back: u64,
    /// Requests sent that were never answered, or too late.
    pub failures: u64,
}
