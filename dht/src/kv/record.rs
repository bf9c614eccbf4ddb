//! A record: one write of one key, with what its writer had seen.
//!
//! A record comes here with its author's signature checked and the structure of its bytes found good; [`Header::check`]
//! says whether what it says makes sense at all, and [`Header::timely`] whether it comes at its time.

use std::time::Duration;

use bytes::Bytes;
use weft_identity::{Authored, Domain, PeerId};

use crate::kv::{CONTEXT_INTERVALS_MAX, Context, Dot, Interval, KvKey, Seq};
use crate::{Peer, UnixMicros};

/// Bytes of a value (the design's bound): a frame carries at least 16 siblings.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Replicas of a record, at most. As many as a node surely knows around a point: 20 is a lookup's answer.
pub const COPIES_MAX: u8 = 8;
/// Replicas of a record where nobody says otherwise (Dynamo §6: N is 3).
pub const COPIES_DEFAULT: u8 = 3;
/// How far the clocks of a writer and a replica may differ (the design's bound).
pub const SKEW_MAX: Duration = Duration::from_secs(60);
/// The longest time for which a value may be asked to last. Longer is for ever, which can be asked for as well.
pub const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How long what covers a record that never expires is held, so that replicas that missed it learn of it. A node that
/// was away longer serves nothing before it has reconciled (the design's bound).
pub const GRAVE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long after it was written a record may be held by anybody: the longest life of a value and the time for which
/// what covers others is held, with room for skew.
pub const LIFE_MAX: Duration = Duration::from_secs(TTL_MAX.as_secs() + 2 * GRAVE.as_secs());

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A value, of so many bytes.
    Value {
        /// Its length in bytes.
        bytes: u32,
    },
    /// Nothing: the key was deleted.
    Tombstone,
}

impl Content {
    /// Returns the bytes of the value; none for a tombstone.
    pub const fn value_bytes(self) -> u32 {
        match self {
            Self::Value { bytes } => bytes,
            Self::Tombstone => 0,
        }
    }
}

/// Which record of a key: its dot, and the hash of what was signed, which differs only where a writer broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId<P> {
    /// Which write.
    pub dot: Dot<P>,
    /// SHA-256 of the signed body.
    pub hash: [u8; 32],
}

/// All that a record says but its value. Its fields are as its writer signed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<P> {
    /// What it is a record of.
    pub key: KvKey,
    /// Which write it is.
    pub dot: Dot<P>,
    /// The writer's write before it on this key, if the writer knows which that was. On an owner's key it is `None`
    /// only where no earlier record can be held by anybody.
    pub prev: Option<Seq>,
    /// What the writer had seen of the key; empty on an owner's key.
    pub context: Context<P>,
    /// What it holds.
    pub content: Content,
    /// When it was written, by the writer's clock.
    pub written_at: UnixMicros,
    /// When its content is no longer valid, by the writer's clock; `None` for never, which a tombstone can't say.
    pub expires_at: Option<UnixMicros>,
    /// How many replicas it is to have: 1 to [`COPIES_MAX`].
    pub copies: u8,
    /// SHA-256 of the signed body.
    pub hash: [u8; 32],
}

/// A record with its value and what proves it. A clone shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<P> {
    /// What it says.
    pub header: Header<P>,
    /// The value, a slice of `signed`; empty for a tombstone.
    pub value: Bytes,
    /// The body and its writer's signature, as they travel and lie on disk; never encoded again.
    pub signed: Bytes,
}

/// A record, or what is kept in its place.
pub trait Versioned {
    /// Who writes.
    type Peer: Peer;

    /// Returns what the record says.
    fn header(&self) -> &Header<Self::Peer>;
}

impl<P: Peer> Versioned for Header<P> {
    type Peer = P;

    fn header(&self) -> &Self {
        self
    }
}

impl<P: Peer> Versioned for Record<P> {
    type Peer = P;

    fn header(&self) -> &Header<P> {
        &self.header
    }
}

impl Authored for Header<PeerId> {
    const DOMAIN: Domain = Domain::new("weft/record/1");

    fn author(&self) -> PeerId {
        self.dot.writer
    }
}

/// Why no record can say this, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The value is too large: so many bytes.
    #[error("the value has {0} bytes, at most {VALUE_BYTES_MAX} are possible")]
    TooLarge(u32),
    /// It asks for so many replicas.
    #[error("{0} replicas are asked for, 1 to {COPIES_MAX} are possible")]
    Copies(u8),
    /// The writes of a run are counted from 1, runs from 1, and the write before is an earlier one.
    #[error("the record's number or that of the one before it is out of order")]
    Order,
    /// It expires before it is written or at once, later than [`TTL_MAX`], or is a tombstone that never does.
    #[error("a record lasts for more than nothing and for at most 3660 days")]
    Expiry,
    /// It cites so many intervals.
    #[error(
        "the context has {0} writers, at most {CONTEXT_INTERVALS_MAX} are possible: delete the key and let that \
         expire, or use another key"
    )]
    TooManyWriters(usize),
    /// Its context covers the record itself or a later one of its writer, or lasts longer than records do.
    #[error("the context covers what its writer can't have seen")]
    Context,
    /// It is of an owner's key, but somebody else's.
    #[error("the key is another peer's own: only its owner's daemon writes it")]
    WrongOwner,
    /// It is of an owner's key and cites what it has seen, where the owner's order decides.
    #[error("a record of an owner's key has no context")]
    ContextOnOwned,
}

/// How a record came to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From the daemon that wrote it, just now.
    Direct,
    /// By hand-off, repair or synchronisation, however long after it was written.
    Passed,
}

/// Why a replica doesn't take a record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    /// The writer's clock is too far behind this replica's.
    #[error(
        "the writer's clock is {behind:?} behind a replica's, at most {SKEW_MAX:?} are possible"
    )]
    Behind {
        /// How far it was written before the replica's now.
        behind: Duration,
    },
    /// The writer's clock or the number of its run is too far ahead of this replica's clock.
    #[error(
        "the writer's clock is {ahead:?} ahead of a replica's, at most {SKEW_MAX:?} are possible"
    )]
    Ahead {
        /// How far it is.
        ahead: Duration,
    },
    /// It has expired, and nobody needs to hold it any more.
    #[error("the record expired {since:?} ago by a replica's clock")]
    Ended {
        /// How long ago.
        since: Duration,
    },
}

/// Returns when a tombstone is to expire that is written at a moment over what has this end
/// ([`Context::ends_at`], or [`Header::ends_at`] of an owner's record): when the last of it does, and after
/// [`GRAVE`] where that is never.
pub fn tombstone_expires_at(
    covered_ends_at: Option<UnixMicros>,
    written_at: UnixMicros,
) -> UnixMicros {
    // What has ended, or covers nothing, still has to arrive.
    let soonest = written_at + SKEW_MAX;
    covered_ends_at.map_or(written_at + GRAVE, |end| {
        end.clamp(soonest, written_at + LIFE_MAX)
    })
}

impl<P: Peer> Header<P> {
    /// Returns which record this is.
    pub fn id(&self) -> RecordId<P> {
        RecordId {
            dot: self.dot,
            hash: self.hash,
        }
    }

    /// Returns whether there is a value to show: the record is no tombstone and hasn't expired.
    pub fn is_shown(&self, now: UnixMicros) -> bool {
        matches!(self.content, Content::Value { .. }) && self.expires_at.is_none_or(|at| now < at)
    }

    /// Returns when nobody needs to hold the record any more; `None` for never.
    ///
    /// A record that expires may have covered one that doesn't. A replica that missed it still holds that one, and would
    /// bring it back once everybody else has dropped what covered it. So a value that has expired stays as a tombstone
    /// stays: until the last of what it covers has ended, and for [`GRAVE`] where that is never. An owner's record
    /// doesn't say what it covers, only whether it covers anything.
    pub fn ends_at(&self) -> Option<UnixMicros> {
        let expires_at = self.expires_at?;
        let covered = match (self.key.is_owned(), self.prev) {
            (true, Some(_)) => None,
            (true, None) | (false, _) => self.context.ends_at(),
        };
        let end = match (covered, self.content) {
            (Some(end), _) => expires_at.max(end),
            (None, Content::Value { .. }) => expires_at + GRAVE,
            (None, Content::Tombstone) => expires_at,
        };
        Some(end)
    }

    /// Returns whether the record can be dropped: it ended longer ago than clocks may differ.
    pub fn has_ended(&self, now: UnixMicros) -> bool {
        self.ends_at().is_some_and(|end| end + SKEW_MAX < now)
    }

    /// Returns what the record stands for in a context that is built from it.
    pub fn interval(&self) -> Interval<P> {
        Interval::of_dot(self.dot, self.prev, self.ends_at())
    }

    /// Checks what no clock and no other record is needed for.
    pub fn check(&self) -> Result<(), Invalid> {
        let value_bytes = self.content.value_bytes();
        if value_bytes as usize > VALUE_BYTES_MAX {
            return Err(Invalid::TooLarge(value_bytes));
        }
        if !(1..=COPIES_MAX).contains(&self.copies) {
            return Err(Invalid::Copies(self.copies));
        }
        let seq = self.dot.seq;
        if seq.epoch == 0 || seq.counter == 0 || self.prev.is_some_and(|prev| prev >= seq) {
            return Err(Invalid::Order);
        }
        self.check_expiry()?;
        if !self.key.may_be_written_by(&self.dot.writer) {
            return Err(Invalid::WrongOwner);
        }
        self.check_context()
    }

    fn check_expiry(&self) -> Result<(), Invalid> {
        let life_max = match self.content {
            Content::Value { .. } => TTL_MAX,
            Content::Tombstone => LIFE_MAX,
        };
        let lasts = match self.expires_at {
            Some(at) => self.written_at < at && at <= self.written_at + life_max,
            None => self.content != Content::Tombstone,
        };
        lasts.then_some(()).ok_or(Invalid::Expiry)
    }

    fn check_context(&self) -> Result<(), Invalid> {
        let cited = self.context.intervals();
        if self.key.is_owned() && !cited.is_empty() {
            return Err(Invalid::ContextOnOwned);
        }
        if cited.len() > CONTEXT_INTERVALS_MAX {
            return Err(Invalid::TooManyWriters(cited.len()));
        }
        let last = self.context.last_of(self.dot.writer);
        let ends_max = self.written_at + LIFE_MAX;
        let unseen = last.is_some_and(|last| last >= self.dot.seq);
        if unseen
            || cited
                .iter()
                .any(|i| i.ends_at.is_some_and(|end| end > ends_max))
        {
            return Err(Invalid::Context);
        }
        Ok(())
    }

    /// Checks whether a replica whose clock shows `now` may take the record.
    ///
    /// Neither the record nor what it cites may be of a run that begins in the future: a forged context could cover
    /// writes there that nobody has made yet.
    pub fn timely(&self, arrival: Arrival, now: UnixMicros) -> Result<(), Untimely> {
        let cited = self.context.intervals().iter().map(|i| i.to.epoch);
        let epoch = cited.fold(self.dot.seq.epoch, u64::max);
        let latest = self.written_at.max(UnixMicros(epoch.saturating_mul(1_000)));
        if latest > now + SKEW_MAX {
            return Err(Untimely::Ahead {
                ahead: latest.since(now),
            });
        }
        let behind = now.since(self.written_at);
        if arrival == Arrival::Direct && behind > SKEW_MAX {
            return Err(Untimely::Behind { behind });
        }
        match self.ends_at() {
            Some(end) if end <= now => Err(Untimely::Ended {
                since: now.since(end),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
