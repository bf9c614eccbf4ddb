//! What is held of the history, for whoever sees to how much that is.

use super::Broadcast;
use crate::history::Retention;
use crate::retained::{Change, Earlier};
use crate::{Bundle, Now, StreamId, Time};

impl<B: Bundle> Broadcast<B> {
    /// Drops the bundle of the history that has to go so that others find room; returns the bytes freed.
    pub fn make_room(&mut self) -> usize {
        self.history.make_room()
    }

    /// Returns what has changed of the history, one after the other.
    pub(crate) fn poll_change(&mut self) -> Option<Change<B::Peer>> {
        self.history.poll_change()
    }

    /// Takes in bundles from before this member's base; returns which ones are held now.
    pub(crate) fn take_earlier(&mut self, earlier: Vec<Earlier<B>>, now: Now) -> Vec<bool> {
        self.history.take_earlier(earlier, now)
    }

    /// Holds more or less from now on.
    pub(crate) fn set_retention(&mut self, retention: Retention, now: Time) {
        self.history.set_retention(retention, now);
    }

    /// A subscriber was told of a gap.
    pub(crate) fn gap_told(&mut self, id: StreamId<B::Peer>, from: u64, to: u64) {
        self.history.gap_told(id, from, to);
    }
}
