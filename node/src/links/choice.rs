//! Which of a peer's connections carries the link.
//!
//! Two peers that dial each other at the same moment get two connections, and both must use the same one. The rule:
//! **of two peers the one with the smaller id decides, by opening its stream of the link.** It opens it on the first
//! connection that is established, and drops the others once the link is up; the other peer opens its own stream
//! where the decider's has come, and nowhere else. So there is no moment in which the two can disagree, nothing is sent
//! before the choice, and nobody has to guess whether a second connection is still on its way.
//!
//! Until the link is up, the decider keeps a second connection as a spare: the other may have let go of the first already,
//! as whoever dials several addresses at once does with all connections but one. When the chosen one closes, the decider
//! opens its stream on the spare.
//!
//! A decider that restarted opens a stream on a new connection while the other still holds the old link: the old one is
//! replaced. A follower that restarted dials in vain until the decider has noticed that the old connection is dead
//! (at once over TCP, within the heartbeat's three seconds otherwise), and dials again.

use std::collections::BTreeMap;

use weft_identity::PeerId;

/// What must happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act<C> {
    /// Open this side's stream on it: it carries the link.
    Open(C),
    /// Close it: it carries nothing.
    Drop(C),
    /// End the link on the first and open this side's stream on the second.
    Replace(C, C),
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is gone or given up, or its link is over.
    Dead,
    /// It may become a link.
    Pending,
    /// It carries a link.
    Linked,
}

/// Each peer's chosen connection. Holds at most one entry a connection that exists.
#[derive(Debug)]
pub(super) struct Choice<C> {
    this: PeerId,
    chosen: BTreeMap<PeerId, C>,
    spare: BTreeMap<PeerId, C>,
}

impl<C: Copy + PartialEq> Choice<C> {
    pub(super) fn new(this: PeerId) -> Self {
        Self {
            this,
            chosen: BTreeMap::new(),
            spare: BTreeMap::new(),
        }
    }

    /// Tells that a connection with a peer is established; `standing` says how the chosen one stands.
    pub(super) fn established(
        &mut self,
        peer: PeerId,
        connection: C,
        standing: impl Fn(C) -> Standing,
    ) -> Option<Act<C>> {
        if !self.decides(peer) {
            return None;
        }
        let chosen = self.chosen.get(&peer);
        match chosen.map_or(Standing::Dead, |&chosen| standing(chosen)) {
            Standing::Pending if !self.spare.contains_key(&peer) => {
                self.spare.insert(peer, connection);
                None
            }
            Standing::Pending | Standing::Linked => Some(Act::Drop(connection)),
            Standing::Dead => {
                self.chosen.insert(peer, connection);
                Some(Act::Open(connection))
            }
        }
    }

    /// Tells that the peer has opened its stream on a connection.
    pub(super) fn opened_by_peer(&mut self, peer: PeerId, connection: C) -> Option<Act<C>> {
        if self.decides(peer) {
            // An answer to this side's choice; a stream on any other connection goes with that connection.
            return None;
        }
        match self.chosen.insert(peer, connection) {
            Some(old) if old == connection => None,
            Some(old) => Some(Act::Replace(old, connection)),
            None => Some(Act::Open(connection)),
        }
    }

    /// Returns whether a connection is the one that carries the peer's link.
    pub(super) fn is_chosen(&self, peer: PeerId, connection: C) -> bool {
        self.chosen.get(&peer) == Some(&connection)
    }

    /// Tells that a peer's link is up.
    pub(super) fn linked(&mut self, peer: PeerId) -> Option<Act<C>> {
        self.spare.remove(&peer).map(Act::Drop)
    }

    /// Tells that a connection is gone or given up.
    pub(super) fn closed(&mut self, peer: PeerId, connection: C) -> Option<Act<C>> {
        if self.spare.get(&peer) == Some(&connection) {
            self.spare.remove(&peer);
        }
        if !self.is_chosen(peer, connection) {
            return None;
        }
        self.chosen.remove(&peer);
        let spare = self.spare.remove(&peer)?;
        self.chosen.insert(peer, spare);
        Some(Act::Open(spare))
    }

    fn decides(&self, peer: PeerId) -> bool {
        self.this < peer
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Dead, Linked, Pending};
    use super::*;

    const SMALL: PeerId = PeerId::from_bytes([1; 32]);
    const LARGE: PeerId = PeerId::from_bytes([2; 32]);

    #[test]
    fn the_smaller_peer_opens_on_its_first_connection_and_drops_the_others_once_it_is_linked() {
        let mut choice = Choice::new(SMALL);
        assert_eq!(
            choice.established(LARGE, 1, |_| Pending),
            Some(Act::Open(1))
        );
        assert_eq!(choice.established(LARGE, 2, |_| Pending), None);
        assert_eq!(
            choice.established(LARGE, 3, |_| Pending),
            Some(Act::Drop(3))
        );
        assert_eq!(choice.linked(LARGE), Some(Act::Drop(2)));
        assert_eq!(choice.linked(LARGE), None);
        assert_eq!(choice.established(LARGE, 4, |_| Linked), Some(Act::Drop(4)));
        assert!(choice.is_chosen(LARGE, 1) && !choice.is_chosen(LARGE, 2));
        assert_eq!(choice.opened_by_peer(LARGE, 1), None);
    }

    #[test]
    fn the_larger_peer_waits_for_the_smaller_ones_stream() {
        let mut choice = Choice::new(LARGE);
        assert_eq!(choice.established(SMALL, 1, |_| Pending), None);
        assert_eq!(choice.established(SMALL, 2, |_| Pending), None);
        assert_eq!(choice.opened_by_peer(SMALL, 2), Some(Act::Open(2)));
        assert!(choice.is_chosen(SMALL, 2));
    }

    #[test]
    fn a_restarted_decider_replaces_the_link() {
        let mut choice = Choice::new(LARGE);
        choice.established(SMALL, 1, |_| Pending);
        choice.opened_by_peer(SMALL, 1);
        choice.established(SMALL, 2, |_| Pending);
        assert_eq!(choice.opened_by_peer(SMALL, 2), Some(Act::Replace(1, 2)));
        choice.closed(SMALL, 1);
        assert!(
            choice.is_chosen(SMALL, 2),
            "the old one's end changes nothing"
        );
    }

    #[test]
    fn the_spare_is_taken_when_the_peer_lets_go_of_the_first() {
        let mut choice = Choice::new(SMALL);
        choice.established(LARGE, 1, |_| Pending);
        choice.established(LARGE, 2, |_| Pending);
        assert_eq!(choice.closed(LARGE, 1), Some(Act::Open(2)));
        assert_eq!(choice.established(LARGE, 3, |_| Pending), None);
        assert_eq!(choice.closed(LARGE, 3), None);
        assert_eq!(choice.closed(LARGE, 2), None);
        assert_eq!(choice.linked(LARGE), None);
    }

    #[test]
    fn a_dead_choice_is_chosen_anew() {
        let mut choice = Choice::new(SMALL);
        choice.established(LARGE, 1, |_| Pending);
        assert_eq!(choice.established(LARGE, 2, |_| Dead), Some(Act::Open(2)));
        choice.closed(LARGE, 2);
        assert_eq!(
            choice.established(LARGE, 3, |_| Pending),
            Some(Act::Open(3))
        );
    }

    #[test]
    fn whatever_the_order_both_sides_end_on_one_connection() {
        // Two connections; each side sees them established in either order, and the decider's stream arrives last.
        for small_order in [[1, 2], [2, 1]] {
            for large_order in [[1, 2], [2, 1]] {
                let (mut small, mut large) = (Choice::new(SMALL), Choice::new(LARGE));
                let mut opened = Vec::new();
                for connection in small_order {
                    if let Some(Act::Open(c)) = small.established(LARGE, connection, |_| Pending) {
                        opened.push(c);
                    }
                }
                for connection in large_order {
                    assert_eq!(large.established(SMALL, connection, |_| Pending), None);
                }
                assert_eq!(opened.len(), 1);
                assert_eq!(
                    large.opened_by_peer(SMALL, opened[0]),
                    Some(Act::Open(opened[0]))
                );
                assert!(small.is_chosen(LARGE, opened[0]) && large.is_chosen(SMALL, opened[0]));
            }
        }
    }
}
