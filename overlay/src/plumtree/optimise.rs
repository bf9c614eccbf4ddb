//! Path optimisation: a publisher's tree comes to be the tree of the shortest times of arrival.
//!
//! Plumtree's paper (§3.8) compares hop counts of announcements with those of what was received. Here times are compared, which
//! is what the tree is for: a digest says how long ago the sender got the head of the stream. If the head would have come
//! earlier over that neighbour than it came over the parent, the neighbour becomes the parent, and the old one is told to
//! stop at once, so that the change costs no duplicate.
//!
//! What a neighbour has said is remembered until the head moves on: a digest may overtake the head, which comes on a longer way, and
//! whoever loses its parent takes the neighbour that got the head first.
//!
//! What has changed is told on: the member's head would now have come earlier, and so it would to those behind it. So one
//! message is enough to find the shortest ways, as distances are in Bellman and Ford's algorithm, a digest a hop.
//!
//! No loop can come of it while members compare the same message: each new parent got it before its child did. Where they
//! compare different ones a loop may close for a moment, and digests repair what it holds back.
//!
//! A neighbour that claims what it doesn't keep is found out by the next message that comes from somebody else first; its
//! claims count for nothing for a while.

use std::time::Duration;

use super::Broadcast;
use crate::{Bundle, Now, StreamId};

/// What must be gained: less is noise (a guess: the jitter of a good link), and each change costs two frames.
const GAIN_MIN: Duration = Duration::from_millis(2);

impl<B: Bundle> Broadcast<B> {
    /// The head of a stream has come: of the neighbours that have said already when they got it, the earliest that is believed may be the
    /// better parent.
    pub(super) fn compare_all_arrivals(&mut self, id: StreamId<B::Peer>, now: Now) {
        let Some((newest, _)) = self.history.newest(id) else {
            return;
        };
        let said = self.neighbours.iter();
        let said = said.filter_map(|(peer, other)| Some((other.head_at(id, newest)?, *peer)));
        let mut said: Vec<_> = said.collect();
        said.sort_unstable();
        for (_, peer) in said {
            if self.compare_arrivals(peer, id, now) {
                return;
            }
        }
    }

    /// A neighbour has said how long it has had the head of a stream: it may be the better parent. Returns whether it is that now.
    pub(super) fn compare_arrivals(
        &mut self,
        from: B::Peer,
        id: StreamId<B::Peer>,
        now: Now,
    ) -> bool {
        if id.publisher == self.me || self.wants.distrusts(from) {
            return false;
        }
        let is_current = self.history.epochs(id.publisher).next_back() == Some(id.epoch);
        let Some((newest, came)) = self.history.newest(id).filter(|_| is_current) else {
            return false;
        };
        let Some(neighbour) = self.neighbours.get(&from).filter(|n| !n.congested) else {
            return false;
        };
        // A jitter in proportion to the way is no gain.
        let gain = GAIN_MIN + neighbour.rtt / 16;
        let earlier = neighbour
            .head_at(id, newest)
            .filter(|at| *at + gain <= came);
        let Some(earlier) = earlier else {
            return false;
        };
        let is_parent = self
            .trees
            .shortcut(id.publisher, from, now.time, &mut self.orders);
        if is_parent {
            self.history.would_have_come(id, earlier);
            let at = now.time + self.config.announce_delay;
            for (peer, neighbour) in self.neighbours.iter_mut() {
                if *peer != from {
                    neighbour.mark_untold(id, at);
                }
            }
        }
        is_parent
    }
}
