//! A node's own keys: their owner's daemon is the only one that writes them, and so it decides in which order.
//!
//! The order is that of the owner's dots. What a key is now is known here without asking anybody, because each record
//! is on this node's disk before it is sent: so a compare-and-set is decided here, and what it decided outlives a crash.
//!
//! A write goes [`Owned::begin`], [`Owned::made`] once the record is signed, [`Owned::persisted`]. One that is on its way
//! to disk counts at once for those that come after it: had it not, two could both find the key absent. If the disk
//! fails it, it never was; a write that was refused because of it was refused for nothing, and nothing else has happened.

use std::collections::{BTreeMap, VecDeque};

use crate::kv::{Content, Header, KvKey, Seq};
use crate::{Peer, UnixMicros};

/// Keys of its own that a node may have: as many as a replica takes of one writer.
pub const OWN_KEYS_MAX: usize = 65_536;
/// Writes of one key on their way to disk. A guess: clients that compete for a key; they are told to come again.
const PENDING_MAX: usize = 64;

/// What a key must be for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Anything,
    /// Without a value: never written, deleted or expired.
    Absent,
    /// Of this version.
    Version(Seq),
}

/// What the record that is to be made takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// The version before it that somebody may still hold, if there is one: [`Header::prev`] of the record.
    pub prev: Option<Seq>,
    /// When nobody holds that any more; `None` if that may never be, zero if there is none. A tombstone expires
    /// accordingly ([`super::tombstone_expires_at`]).
    pub ends_at: Option<UnixMicros>,
}

/// Why a write doesn't begin. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The key isn't what it was expected to be.
    #[error("{}", conflict(*current))]
    Conflict {
        /// The version that is there; `None` if the key is absent.
        current: Option<Seq>,
    },
    /// This node has as many keys of its own as it may.
    #[error(
        "this node has {OWN_KEYS_MAX} keys of its own, more are not possible: delete some and let that expire"
    )]
    TooMany,
    /// Too many writes of the key are under way.
    #[error("{PENDING_MAX} writes of the key are under way: try again")]
    Busy,
}

fn conflict(current: Option<Seq>) -> String {
    current.map_or_else(
        || "the key has no value".to_owned(),
        |current| format!("the key's version is {current}"),
    )
}

/// What matters of one record of an own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    seq: Seq,
    /// When the value is no longer valid; `None` for never.
    expires_at: Option<UnixMicros>,
    ends_at: Option<UnixMicros>,
    is_tombstone: bool,
}

impl Version {
    fn of<P: Peer>(header: &Header<P>) -> Self {
        Self {
            seq: header.dot.seq,
            expires_at: header.expires_at,
            ends_at: header.ends_at(),
            is_tombstone: header.content == Content::Tombstone,
        }
    }

    fn is_shown(&self, now: UnixMicros) -> bool {
        !self.is_tombstone && self.expires_at.is_none_or(|at| now < at)
    }

    fn has_ended(&self, now: UnixMicros) -> bool {
        self.ends_at.is_some_and(|end| end + super::SKEW_MAX < now)
    }
}

/// One own key.
#[derive(Clone, Debug, Default)]
struct OwnKey {
    durable: Option<Version>,
    /// On their way to disk, in order.
    pending: VecDeque<Version>,
    /// A write has begun, and its record isn't made yet.
    is_begun: bool,
}

impl OwnKey {
    fn newest(&self) -> Option<&Version> {
        self.pending.back().or(self.durable.as_ref())
    }

    fn is_idle(&self) -> bool {
        !self.is_begun && self.pending.is_empty()
    }
}

/// A node's own keys, with the newest version of each.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    keys: BTreeMap<KvKey, OwnKey>,
}

impl Owned {
    /// Takes what the disk holds as the newest record of an own key.
    pub fn restore<P: Peer>(&mut self, header: &Header<P>) {
        let key = self.keys.entry(header.key.clone()).or_default();
        key.durable = Some(Version::of(header));
    }

    /// Begins a write of one of this node's own keys, if the key is what is expected. Until the record is
    /// [made](Self::made) or [given up](Self::given_up) no other write of the key begins.
    pub fn begin(
        &mut self,
        key: &KvKey,
        expect: Expect,
        now: UnixMicros,
    ) -> Result<Replaces, Unmet> {
        let known = self.keys.get(key);
        if known.is_some_and(|own| own.is_begun || own.pending.len() >= PENDING_MAX) {
            return Err(Unmet::Busy);
        }
        if known.is_none() && self.keys.len() >= OWN_KEYS_MAX {
            return Err(Unmet::TooMany);
        }
        let newest = known
            .and_then(OwnKey::newest)
            .filter(|newest| !newest.has_ended(now));
        let shown = newest.filter(|newest| newest.is_shown(now));
        let current = shown.map(|shown| shown.seq);
        let is_met = match expect {
            Expect::Anything => true,
            Expect::Absent => current.is_none(),
            Expect::Version(version) => current == Some(version),
        };
        if !is_met {
            return Err(Unmet::Conflict { current });
        }
        let replaces = Replaces {
            prev: newest.map(|newest| newest.seq),
            ends_at: newest.map_or(Some(UnixMicros(0)), |newest| newest.ends_at),
        };
        self.keys.entry(key.clone()).or_default().is_begun = true;
        Ok(replaces)
    }

    /// Takes the record that was made of a write that had begun; it goes to disk now.
    pub fn made<P: Peer>(&mut self, header: &Header<P>) {
        let key = self.keys.entry(header.key.clone()).or_default();
        key.is_begun = false;
        key.pending.push_back(Version::of(header));
    }

    /// Takes back a write that had begun and of which no record was made.
    pub fn given_up(&mut self, key: &KvKey) {
        if let Some(own) = self.keys.get_mut(key) {
            own.is_begun = false;
        }
        self.forget_if_unwritten(key);
    }

    /// Takes note that a record is on disk.
    pub fn persisted(&mut self, key: &KvKey, seq: Seq) {
        if let Some(own) = self.keys.get_mut(key)
            && let Some(version) = take(&mut own.pending, seq)
            && own.durable.is_none_or(|durable| durable.seq < seq)
        {
            own.durable = Some(version);
        }
    }

    /// Takes note that the disk failed a record: it never was.
    pub fn failed(&mut self, key: &KvKey, seq: Seq) {
        if let Some(own) = self.keys.get_mut(key) {
            take(&mut own.pending, seq);
        }
        self.forget_if_unwritten(key);
    }

    /// Forgets keys whose newest record has ended, which nobody can hold any more, and returns them: they can leave the
    /// disk as well.
    pub fn forget_ended(&mut self, now: UnixMicros) -> Vec<KvKey> {
        let ended = self.keys.extract_if(.., |_, own| {
            own.is_idle() && own.durable.is_some_and(|durable| durable.has_ended(now))
        });
        ended.map(|(key, _)| key).collect()
    }

    /// Returns the newest version on disk of a key; `None` for a key that was never written or is forgotten.
    pub fn durable(&self, key: &KvKey) -> Option<Seq> {
        Some(self.keys.get(key)?.durable?.seq)
    }

    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn forget_if_unwritten(&mut self, key: &KvKey) {
        if self
            .keys
            .get(key)
            .is_some_and(|own| own.is_idle() && own.durable.is_none())
        {
            self.keys.remove(key);
        }
    }
}

fn take(pending: &mut VecDeque<Version>, seq: Seq) -> Option<Version> {
    let at = pending.iter().position(|version| version.seq == seq)?;
    pending.remove(at)
}

#[cfg(test)]
mod tests;
