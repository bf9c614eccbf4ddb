//! What the nodes of a store say to each other. Each query is answered once, and each may come twice.
//!
//! The bounds in this module are those of honest nodes; whoever decodes a message refuses what exceeds them.

use crate::kv::fingerprint::{Contents, Item, PARTS, Range, Summary};
use crate::kv::{Crowded, Header, Invalid, KvKey, KvPrefix, OverQuota, Record, RecordId, Untimely};
use crate::{Contact, Peer};

use super::claim::{Claim, Round};

/// Bytes of records in one message, beyond which a message takes no more: half of the design's frame of 2 MiB, so that
/// one more record of the largest size and all heads still fit.
pub const RECORDS_BYTES_MAX: usize = 1024 * 1024;
/// Records, heads or ids in one message: as many of the smallest size as fit [`RECORDS_BYTES_MAX`].
pub const ITEMS_MAX: usize = 4_096;
/// Peers of a sight: up to 8 settled replicas, and as many that fill or have gone.
pub const SIGHT_PEERS_MAX: usize = 20;
/// Ranges of one synchronisation query: a level of the tree, 16 for each of 256 ranges.
pub const RANGES_MAX: usize = 4_096;
/// Peers that a synchronisation is about: those of a claim, and the two.
pub const AMONG_MAX: usize = super::claim::CLAIM_PEERS_MAX + 2;

/// A peer near a point, in the sight of who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<C> {
    /// The peer.
    pub contact: C,
    /// The round of its newest claim that is known; 0 for none.
    pub round: Round,
    /// Whether it is settled for the point.
    pub settled: bool,
    /// Whether it is there.
    pub alive: bool,
}

/// What an answering node thinks of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight<C> {
    /// Whether it is settled and counts itself among the n.
    pub counts: bool,
    /// The closest peers it knows, itself among them: up to n that are settled, and those that are closer than the
    /// last of them; the closest first, at most [`SIGHT_PEERS_MAX`].
    pub peers: Vec<Seen<C>>,
}

/// Why a record comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<P> {
    /// Its writer's daemon writes it now.
    Write,
    /// The same, to a stand-in for this replica, which is not there.
    Hint(P),
    /// A replica lacked it: a read's repair or write-back, a hint handed off.
    Repair,
}

/// Which records two nodes compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<P> {
    /// The peers among which both must be one of the closest n, ordered, at most [`AMONG_MAX`]. The two may be missing.
    pub among: Vec<P>,
    /// The asked peer may stand this many places behind, at most 1: where the asking one is new and takes its place.
    pub behind: u8,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Query<C: Contact> {
    /// What do you have of a key?
    Get {
        /// The key.
        key: KvKey,
        /// How many replicas the asking node reckons with.
        copies: u8,
        /// Continues an answer that didn't hold everything, after this record.
        after: Option<RecordId<C::Peer>>,
    },
    /// The same without values.
    Heads {
        /// The key.
        key: KvKey,
        /// How many replicas the asking node reckons with.
        copies: u8,
    },
    /// Which keys begin with this?
    List {
        /// With what.
        prefix: KvPrefix,
        /// How many replicas the asking node reckons with.
        copies: u8,
        /// Continues after this key.
        after: Option<KvKey>,
    },
    /// Keep this.
    Put {
        /// The record.
        record: Record<C::Peer>,
        /// Why it comes.
        delivery: Delivery<C::Peer>,
    },
    /// This is what I claim. What do you?
    Claim {
        /// The sender's contact.
        contact: C,
        /// The sender's claim; `None` if it has none.
        claim: Option<Claim<C::Peer>>,
        /// Whether the sender leaves: others are to take its places.
        leaving: bool,
    },
    /// How does what you have compare with what I have?
    Compare {
        /// Of which records.
        scope: Scope<C::Peer>,
        /// What the sender has, at most [`RANGES_MAX`].
        ranges: Vec<(Range, Summary)>,
    },
    /// Give me these.
    Fetch {
        /// Which, at most [`ITEMS_MAX`].
        items: Vec<Item>,
    },
    /// Keep these, which you lack.
    Push {
        /// The records, at most [`RECORDS_BYTES_MAX`].
        records: Vec<Record<C::Peer>>,
    },
    /// I hold these and need not. Which do you lack?
    Offer {
        /// What stands for them, at most [`ITEMS_MAX`].
        items: Vec<Item>,
    },
}

/// Why a replica didn't take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No record can say this.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Not now.
    #[error(transparent)]
    Untimely(#[from] Untimely),
    /// There is no room beside what is there.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The writer has as much here as one may have.
    #[error(transparent)]
    Quota(#[from] OverQuota),
    /// It keeps hints for others as many as it may, or for strangers none.
    #[error("a stand-in holds as many hints as it may")]
    Hints,
    /// The disk is full.
    #[error("a disk is full")]
    DiskFull,
    /// The disk failed.
    #[error("a replica's disk failed")]
    DiskFailed,
    /// It does too much at once.
    #[error("a replica is busy")]
    Busy,
}

impl Refusal {
    /// Returns whether another replica, or the same one later, may well take the record.
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Self::Hints | Self::DiskFull | Self::DiskFailed | Self::Busy
        )
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<C: Contact> {
    /// Answers [`Query::Get`].
    Got {
        /// What the answering node thinks of the point.
        sight: Sight<C>,
        /// What it has, ordered by dot and hash.
        records: Vec<Record<C::Peer>>,
        /// Whether there is more after the last of them.
        more: bool,
    },
    /// Answers [`Query::Heads`] and [`Query::List`].
    Heads {
        /// What the answering node thinks of the point.
        sight: Sight<C>,
        /// What it has, ordered by key, dot and hash.
        heads: Vec<Header<C::Peer>>,
        /// Whether there is more after the last of them.
        more: bool,
    },
    /// Answers [`Query::Put`].
    Put {
        /// What the answering node thinks of the point.
        sight: Sight<C>,
        /// Whether the record, or what covers it, is on its disk.
        kept: Result<(), Refusal>,
    },
    /// Answers [`Query::Claim`]; the claim that came is on disk.
    Claim {
        /// The claim of the answering node.
        claim: Option<Claim<C::Peer>>,
        /// The round of the newest claim of the asking node that is known; 0 for none, and where nothing was known of the node
        /// before that came.
        yours: Round,
        /// Whether it leaves.
        leaving: bool,
    },
    /// Answers [`Query::Compare`].
    Compare {
        /// The ranges that differ, and what the answering node has there.
        differing: Vec<(Range, Contents)>,
    },
    /// Answers [`Query::Fetch`]. What was asked for and is not here is not there any more, or didn't fit.
    Fetched {
        /// The records.
        records: Vec<Record<C::Peer>>,
        /// Whether some didn't fit.
        more: bool,
    },
    /// Answers [`Query::Push`].
    Pushed {
        /// Whether all that could be kept is on disk.
        kept: Result<(), Refusal>,
    },
    /// Answers [`Query::Offer`].
    Lacks {
        /// The places in the offer of what isn't held; it may be covered.
        lacks: Vec<u32>,
    },
    /// The answering node can't say: its disk failed, or it does too much at once.
    Unable,
}

/// A message between two nodes of a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<C: Contact> {
    /// A query.
    Query(Query<C>),
    /// The answer to one.
    Answer(Answer<C>),
}

/// Returns about how many bytes a record takes on the wire.
pub fn record_bytes<P: Peer>(record: &Record<P>) -> usize {
    // Lengths and the frame's own fields.
    record.signed.len() + 16
}

/// Returns how many bytes a head takes on the wire at most, and so does a record beside its value.
pub fn head_bytes<P: Peer>(head: &Header<P>) -> usize {
    // As much as a decoder grants: for an interval, and for a signature and all the rest.
    head.key.as_str().len() + 96 * head.context.intervals().len() + 344
}

/// Returns about how many bytes a claim takes on the wire.
fn claim_bytes<P>(claim: Option<&Claim<P>>) -> usize {
    claim.map_or(0, |claim| 48 * claim.known.len() + 16)
}

/// Bytes of an id, as a peer's or a record's.
const PEER_BYTES: usize = 40;
/// Bytes of a contact: a signed descriptor with two addresses or so.
const CONTACT_BYTES: usize = 250;
/// Bytes of a record's id.
const ID_BYTES: usize = PEER_BYTES + 52;
/// Bytes of a summary: a count and a sum.
const SUMMARY_BYTES: usize = 22;
/// Bytes around every message: lengths, kinds, the request's id.
const FRAME_BYTES: usize = 16;

impl<C: Contact> Message<C> {
    /// Returns about how many bytes the message takes on the wire, to within a tenth for those that hold much.
    pub fn bytes(&self) -> usize {
        let scope = |scope: &Scope<C::Peer>| scope.among.len() * PEER_BYTES + 4;
        let records = |records: &[Record<C::Peer>]| -> usize {
            records.iter().map(record_bytes).sum::<usize>()
        };
        let sight = |sight: &Sight<C>| sight.peers.len() * CONTACT_BYTES;
        let body = match self {
            Self::Query(query) => match query {
                Query::Get { key, .. } | Query::Heads { key, .. } => key.as_str().len() + ID_BYTES,
                Query::List { prefix, .. } => prefix.as_str().len() + PEER_BYTES,
                Query::Put { record, .. } => record_bytes(record) + PEER_BYTES,
                Query::Claim { claim, .. } => CONTACT_BYTES + claim_bytes(claim.as_ref()),
                Query::Compare { scope: of, ranges } => {
                    scope(of) + ranges.len() * (SUMMARY_BYTES + 10)
                }
                Query::Fetch { items } | Query::Offer { items } => items.len() * 16,
                Query::Push { records: pushed } => records(pushed),
            },
            Self::Answer(answer) => match answer {
                Answer::Got {
                    sight: of,
                    records: got,
                    ..
                } => sight(of) + records(got),
                Answer::Heads {
                    sight: of, heads, ..
                } => sight(of) + heads.iter().map(head_bytes).sum::<usize>(),
                Answer::Put { sight: of, .. } => sight(of),
                Answer::Claim { claim, .. } => claim_bytes(claim.as_ref()),
                Answer::Compare { differing } => {
                    let contents = differing.iter().map(|(_, contents)| match contents {
                        Contents::Split(_) => PARTS * SUMMARY_BYTES + 10,
                        Contents::Items(items) => 16 * items.len() + 10,
                    });
                    contents.sum()
                }
                Answer::Fetched { records: got, .. } => records(got),
                Answer::Lacks { lacks } => lacks.len() * 3,
                Answer::Pushed { .. } | Answer::Unable => 4,
            },
        };
        FRAME_BYTES + body
    }
}
