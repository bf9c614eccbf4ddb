//! What remains of the records of one key.

use crate::kv::{CONTEXT_INTERVALS_MAX, Content, Context, Dot, Header, RecordId, Seq, Versioned};
use crate::{Peer, UnixMicros};

/// Siblings of a key (the design's bound): as many writes that knew nothing of each other. The next write that cites
/// them makes them one.
pub const SIBLINGS_MAX: usize = 32;

/// Records that one dot may have. Two prove that their writer broke the rules; more prove nothing more.
const PER_DOT_MAX: usize = 2;

/// What a record that came did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered<R> {
    /// It is there now, and what it covers is not.
    New {
        /// What it covers of what was there, in order.
        dropped: Vec<R>,
    },
    /// It was there.
    Known,
    /// What is there covers it, or proves already what it would prove.
    Covered,
}

/// Why a record was not taken. Nothing was dropped for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// There are so many siblings.
    #[error(
        "the key has {held} values that nobody has merged, at most {SIBLINGS_MAX} are possible: read it and write it \
         once with the context that the read returns"
    )]
    Siblings {
        /// How many are held.
        held: usize,
    },
    /// With it the siblings would be and cite so many intervals.
    #[error(
        "the key would have {writers} writers, at most {CONTEXT_INTERVALS_MAX} are possible: delete it and let that \
         expire, or use another key"
    )]
    Writers {
        /// How many they would be.
        writers: usize,
    },
}

/// The records of one key that no other one covers, ordered by dot and hash.
///
/// `R` is a record ([`super::Record`]) or what is kept in its place. [`Self::merge`] is commutative, associative and
/// idempotent for records whose contexts contain those of all that they cover, as they do that are built from what
/// [`Self::context`] returned, and up to what is refused for want of room.
///
/// On an owner's key the greatest place in the owner's order covers all others. Two records of one dot prove that their
/// writer broke the rules: the two with the smallest hashes stay, on any key, until something covers their dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings<R>(Vec<R>);

impl<R> Default for Siblings<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Siblings<R> {
    /// Returns no records.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns the records, ordered by dot and hash.
    pub fn iter(&self) -> std::slice::Iter<'_, R> {
        self.0.iter()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a, R> IntoIterator for &'a Siblings<R> {
    type Item = &'a R;
    type IntoIter = std::slice::Iter<'a, R>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<R> IntoIterator for Siblings<R> {
    type Item = R;
    type IntoIter = std::vec::IntoIter<R>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<R: Versioned> Siblings<R> {
    /// Takes a record that is valid and timely ([`Header::check`], [`Header::timely`]).
    pub fn merge(&mut self, record: R, now: UnixMicros) -> Result<Entered<R>, Crowded> {
        let new = record.header();
        let Err(at) = self.place_of(&new.id()) else {
            return Ok(Entered::Known);
        };
        if self.headers().any(|held| covers(held, new)) {
            return Ok(Entered::Covered);
        }
        let mut leaves: Vec<bool> = self.headers().map(|held| covers(new, held)).collect();
        let same_dot = self.headers().filter(|held| held.dot == new.dot).count();
        if same_dot >= PER_DOT_MAX {
            // Those of one dot lie together, ordered by hash: where the new one would come last, it is one too many.
            let greatest = self.0.partition_point(|held| held.header().dot <= new.dot) - 1;
            if at > greatest {
                return Ok(Entered::Covered);
            }
            leaves[greatest] = true;
        }
        self.check_room(new, &leaves, now)?;
        let mut leaves = leaves.into_iter();
        let dropped = self.0.extract_if(.., |_| leaves.next() == Some(true));
        let dropped = dropped.collect();
        let at = self.place_of(&record.header().id()).unwrap_or_else(|at| at);
        self.0.insert(at, record);
        Ok(Entered::New { dropped })
    }

    /// Returns a record that is there.
    pub fn find(&self, id: &RecordId<R::Peer>) -> Option<&R> {
        self.place_of(id).ok().and_then(|at| self.0.get(at))
    }

    /// Returns whether a record is there, or one that covers it.
    pub fn has(&self, id: &RecordId<R::Peer>) -> bool {
        self.headers()
            .any(|held| held.id() == *id || covers_dot(held, id.dot))
    }

    /// Removes a record, whatever covers it.
    pub fn remove(&mut self, id: &RecordId<R::Peer>) -> Option<R> {
        self.place_of(id).ok().map(|at| self.0.remove(at))
    }

    /// Removes the records that have ended and returns them ([`Header::has_ended`]).
    pub fn remove_ended(&mut self, now: UnixMicros) -> Vec<R> {
        let ended = |record: &mut R| record.header().has_ended(now);
        self.0.extract_if(.., ended).collect()
    }

    /// Returns the records that have a value to show: neither tombstones nor expired.
    pub fn shown(&self, now: UnixMicros) -> impl Iterator<Item = &R> {
        self.iter()
            .filter(move |record| record.header().is_shown(now))
    }

    /// Returns what a write at a moment that takes the place of all of them must cite: the dots that they are and
    /// cite. An owner's records cite nothing.
    pub fn context(&self, now: UnixMicros) -> Context<R::Peer> {
        context_of(self.headers(), now)
    }

    /// Returns the greatest place in its writer's order; on an owner's key, the version that is there.
    pub fn version(&self) -> Option<Seq> {
        self.headers().map(|held| held.dot.seq).max()
    }

    fn headers(&self) -> impl Iterator<Item = &Header<R::Peer>> {
        self.0.iter().map(Versioned::header)
    }

    fn place_of(&self, id: &RecordId<R::Peer>) -> Result<usize, usize> {
        self.0.binary_search_by_key(id, |held| held.header().id())
    }

    /// Checks that a record may enter when those that it covers leave.
    fn check_room(
        &self,
        new: &Header<R::Peer>,
        leaves: &[bool],
        now: UnixMicros,
    ) -> Result<(), Crowded> {
        let stays = self.headers().zip(leaves).filter(|(_, leaves)| !**leaves);
        let stays: Vec<_> = stays.map(|(held, _)| held).collect();
        if stays.len() >= SIBLINGS_MAX {
            return Err(Crowded::Siblings { held: stays.len() });
        }
        // Whoever may not write the key any more for want of room may still delete it: it takes all out of the way.
        if stays.is_empty() && new.content == Content::Tombstone {
            return Ok(());
        }
        let writers = context_of(stays.into_iter().chain([new]), now)
            .intervals()
            .len();
        if writers > CONTEXT_INTERVALS_MAX {
            return Err(Crowded::Writers { writers });
        }
        Ok(())
    }
}

/// Returns whether a record takes the place of another one of its key.
fn covers<P: Peer>(record: &Header<P>, other: &Header<P>) -> bool {
    covers_dot(record, other.dot)
}

fn covers_dot<P: Peer>(record: &Header<P>, dot: Dot<P>) -> bool {
    if record.key.is_owned() {
        record.dot.seq > dot.seq
    } else {
        record.context.covers(dot)
    }
}

fn context_of<'a, P: Peer + 'a>(
    headers: impl Iterator<Item = &'a Header<P>>,
    now: UnixMicros,
) -> Context<P> {
    let shared = headers.filter(|header| !header.key.is_owned());
    let intervals = shared.flat_map(|header| {
        let cited = header.context.intervals().iter().copied();
        cited.chain([header.interval()])
    });
    Context::union(intervals).as_of(now)
}

#[cfg(test)]
mod tests;
