//! A comparison that this node drives: what is still to be asked for, fetched and pushed.

use std::collections::VecDeque;

use crate::Peer;
use crate::kv::Record;
use crate::kv::fingerprint::{Contents, Item, Items, Range};

use super::super::config::{ITEMS_WAITING_MAX, RANGES_WAITING_MAX};
use super::super::messages::Scope;
use super::Why;

/// What a session does.
#[derive(Clone, Debug)]
pub(super) enum Step<P: Peer> {
    /// Ranges were asked for.
    Compares(Vec<Range>),
    /// Items were asked for.
    Fetches(Vec<Item>),
    /// What came is being written.
    Keeps,
    /// What the other lacks is being read.
    Reads,
    /// It was sent.
    Pushes(Vec<Record<P>>),
}

/// A comparison that this node drives.
#[derive(Debug)]
pub(super) struct Session<P: Peer> {
    pub(super) why: Why,
    pub(super) scope: Scope<P>,
    pub(super) set: Items,
    pub(super) step: Step<P>,
    pub(super) attempts: u8,
    pub(super) todo: VecDeque<Range>,
    pub(super) lacks: VecDeque<Item>,
    pub(super) surplus: VecDeque<Item>,
    /// Whether the other one showed more differences than are taken note of at once.
    pub(super) overfull: bool,
}

impl<P: Peer> Session<P> {
    /// Begins one with all that there is.
    pub(super) fn new(why: Why, scope: Scope<P>, set: Items) -> Self {
        Self {
            why,
            scope,
            set,
            step: Step::Keeps,
            attempts: 0,
            todo: VecDeque::from([Range::ALL]),
            lacks: VecDeque::new(),
            surplus: VecDeque::new(),
            overfull: false,
        }
    }

    /// Takes what the other side has in a range in which it has something else. What is too much is left for the next
    /// comparison.
    pub(super) fn differs(&mut self, range: Range, contents: Contents) {
        if self.todo.len() >= RANGES_WAITING_MAX || self.lacks.len() >= ITEMS_WAITING_MAX {
            self.overfull = true;
            return;
        }
        match contents {
            Contents::Items(theirs) => {
                let difference = self.set.difference(range, &theirs);
                self.lacks.extend(difference.theirs);
                self.surplus.extend(difference.ours);
            }
            Contents::Split(summaries) => {
                let parts = range.parts().into_iter().flatten();
                for (part, theirs) in parts.zip(*summaries) {
                    if self.set.summary(part) == theirs {
                        continue;
                    }
                    if theirs.count == 0 {
                        self.surplus.extend(self.set.of(part));
                    } else {
                        self.todo.push_back(part);
                    }
                }
            }
        }
    }
}
