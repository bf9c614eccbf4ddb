//! A member that was away goes on where it stopped.
//!
//! Its base is where it stopped, so that what was published meanwhile is owed to it. Until it has heard from a neighbour how
//! much that is, nobody should begin where it stands, and a subscriber who wants only what is new has to wait for that.

use std::sync::Arc;

use super::neighbour::Neighbour;
use super::{Broadcast, Config, Output};
use crate::history::History;
use crate::{Bundle, Now, StreamId};

impl<B: Bundle> Broadcast<B> {
    /// Makes the broadcast of a member that goes on with a history.
    pub(crate) fn resume(
        me: B::Peer,
        config: impl Into<Arc<Config>>,
        history: History<B>,
        now: Now,
    ) -> Self {
        let mut broadcast = Self::new(me, config, now);
        broadcast.history = history;
        broadcast.lost_until = broadcast.base_until.take();
        broadcast
    }

    /// Makes the broadcast of a member that joins and has something of its own to supply.
    pub(crate) fn join_with(
        me: B::Peer,
        config: impl Into<Arc<Config>>,
        history: History<B>,
        now: Now,
    ) -> Self {
        let mut broadcast = Self::new(me, config, now);
        broadcast.history = history;
        broadcast
    }

    /// Takes the history out, for somebody who resumes with it.
    pub(crate) fn into_history(self) -> History<B> {
        self.history
    }

    /// Returns whether it is known where this member begins and, where that is in the past, where others stand.
    pub(crate) const fn has_bearings(&self) -> bool {
        self.base_until.is_none() && self.lost_until.is_none()
    }

    /// Where others stand is known, or nobody is there who could say.
    pub(super) fn find_its_feet(&mut self) {
        if self.lost_until.take().is_some() {
            self.outputs.push_back(Output::Based);
        }
    }

    /// Returns the last seq of each stream that this member or a neighbour has.
    pub(crate) fn heads(&self) -> Vec<(StreamId<B::Peer>, u64)> {
        let own = self.history.streams();
        let theirs = self.neighbours.values().flat_map(Neighbour::streams);
        let mut streams: Vec<_> = own.chain(theirs).collect();
        streams.sort_unstable();
        streams.dedup();
        let last = |id: StreamId<B::Peer>| {
            let own = self.history.seen(id).and_then(crate::Seqs::last);
            let theirs = self.neighbours.values().map(|it| it.last(id)).max();
            (id, own.max(theirs).unwrap_or(0))
        };
        streams.into_iter().map(last).collect()
    }
}
