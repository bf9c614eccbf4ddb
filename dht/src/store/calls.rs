//! What callers ask for, and what they are told.

use std::time::Duration;

use bytes::Bytes;

use crate::kv::{COPIES_DEFAULT, Context, Expect, Header, KvKey, KvPrefix, Record, Seq};
use crate::{Point, UnixMicros};

use super::claim::quorum;
use super::messages::Refusal;

/// Names a caller's request; the caller gives it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// How many replicas must have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One.
    One,
    /// More than half.
    Quorum,
    /// All.
    All,
    /// So many, at least one and at most all.
    Exactly(u8),
}

impl Level {
    /// Returns how many of n replicas that is.
    pub fn of(self, copies: u8) -> usize {
        let n = usize::from(copies.max(1));
        match self {
            Self::One => 1,
            Self::Quorum => quorum(n),
            Self::All => n,
            Self::Exactly(count) => usize::from(count).clamp(1, n),
        }
    }
}

/// Under which terms a call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many replicas there are to be (N), 1 to 8.
    pub copies: u8,
    /// How many must have answered (R or W).
    pub level: Level,
    /// Whether only replicas count, and nobody who stands in for one.
    pub strict: bool,
    /// For how long this is tried.
    pub timeout: Duration,
}

impl Default for Terms {
    /// Returns Dynamo's usual 3, 2, 2 (§6).
    fn default() -> Self {
        Self {
            copies: COPIES_DEFAULT,
            level: Level::Quorum,
            strict: false,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A value.
    Value(Bytes),
    /// Nothing any more: the key is deleted.
    Nothing,
}

/// What a write takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis<P> {
    /// What a read finds first.
    Read,
    /// What the caller has read.
    Context(Context<P>),
    /// Nothing: it stands beside what is there.
    Blind,
    /// On a key of this node's own: what is there, if it is as expected.
    Expect(Expect),
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call<P> {
    /// What a key has.
    Get {
        /// The key.
        key: KvKey,
        /// The terms.
        terms: Terms,
    },
    /// To write a key.
    Put {
        /// The key.
        key: KvKey,
        /// What is written.
        content: Written,
        /// How long it lasts; for ever if `None`.
        ttl: Option<Duration>,
        /// What it takes the place of.
        basis: Basis<P>,
        /// The terms.
        terms: Terms,
    },
    /// Who has which version of a key.
    Locate {
        /// The key.
        key: KvKey,
        /// The terms; all replicas are asked in any case.
        terms: Terms,
    },
    /// The keys with a value that begin with a prefix.
    List {
        /// The prefix, which holds a tag.
        prefix: KvPrefix,
        /// Continues after this key.
        after: Option<KvKey>,
        /// The terms.
        terms: Terms,
    },
    /// That all replicas of a key have what any of them has.
    Repair {
        /// The key.
        key: KvKey,
        /// The terms; all replicas are asked in any case.
        terms: Terms,
    },
    /// That this node compares what it has with its neighbours now.
    Synchronise,
    /// That others take this node's places, so that it may stop.
    Leave,
}

/// What the owner is to make a record of and sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft<P> {
    /// The key.
    pub key: KvKey,
    /// What is written.
    pub content: Written,
    /// How long it lasts.
    pub ttl: Option<Duration>,
    /// What it cites.
    pub context: Context<P>,
    /// Which of this node's writes came before it on the key, if that is known.
    pub prev: Option<Seq>,
    /// When what it covers has ended, for a tombstone's expiry; `None` for never.
    pub covered_ends_at: Option<UnixMicros>,
    /// The copies.
    pub copies: u8,
}

/// What one replica, or who stood in for one, did for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<P> {
    /// Who.
    pub peer: P,
    /// Whether the record is on its disk.
    pub durable: bool,
    /// For which replica it stands in.
    pub hint_for: Option<P>,
    /// Whether it counts: it is settled and one of the n.
    pub counts: bool,
}

/// Who answered a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replies<P> {
    /// How many were needed.
    pub need: usize,
    /// How many there were.
    pub got: usize,
    /// Whether that includes nodes that stood in for replicas.
    pub sloppy: bool,
    /// Those that answered.
    pub replicas: Vec<Reply<P>>,
}

/// Who holds what of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<P> {
    /// Who.
    pub peer: P,
    /// Whether it is settled for the key.
    pub settled: bool,
    /// Whether it is there, in the sight of those that answered.
    pub alive: bool,
    /// What it holds; `None` if it didn't answer.
    pub heads: Option<Vec<Header<P>>>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<P> {
    /// What the key has.
    Got {
        /// Who answered.
        replies: Replies<P>,
        /// The records that nothing covers, tombstones and expired ones among them: see [`Header::is_shown`].
        records: Vec<Record<P>>,
        /// What a write must cite to take their place.
        context: Context<P>,
    },
    /// It is written.
    Put {
        /// Who acknowledged.
        replies: Replies<P>,
        /// What the record says.
        header: Header<P>,
    },
    /// Who has what.
    Located {
        /// Where the key stands.
        point: Point,
        /// The replicas and who else answered, the closest first.
        holders: Vec<Holder<P>>,
    },
    /// The keys.
    Listed {
        /// Who answered.
        replies: Replies<P>,
        /// The keys, in order.
        keys: Vec<KvKey>,
        /// Whether there are more.
        more: bool,
    },
    /// The replicas have been brought up to date.
    Repaired {
        /// Who answered.
        replies: Replies<P>,
        /// How many records the key has.
        records: usize,
        /// How many replicas lacked some.
        repaired: usize,
    },
    /// The comparison with all neighbours has ended.
    Synchronised {
        /// How many neighbours there were.
        peers: usize,
        /// With how many it failed.
        failed: usize,
        /// Records that came.
        fetched: u64,
        /// Records that others lacked.
        pushed: u64,
    },
    /// Others have taken this node's places.
    Left,
    /// Not enough replicas answered in time.
    QuorumNotMet {
        /// Who did.
        replies: Replies<P>,
        /// Whether the record may have been written all the same, and may show.
        possibly_written: bool,
        /// Why one of those that answered didn't take the record.
        refused: Option<Refusal>,
    },
    /// The record was refused.
    Refused {
        /// Why.
        why: Refusal,
        /// Whether some replica may have it all the same.
        possibly_written: bool,
    },
    /// The key isn't as was expected; nothing was written.
    Conflict {
        /// Its version; `None` if there is no value.
        version: Option<Seq>,
    },
    /// Only the owner's daemon decides what its keys are expected to be, and shared keys have no version; nothing was
    /// written.
    NotOwner,
    /// There are as many calls running as may be, or as many writes of the key, or keys of this node's own; nothing was
    /// done.
    Busy,
}
