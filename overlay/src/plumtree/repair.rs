//! Repair: noticing what is missing, asking one neighbour for it, and supplying what neighbours ask for.

use std::time::Duration;

use super::message::{Message, Push};
use super::neighbour::Neighbour;
use super::trees::Order;
use super::wants::ASK_TIMEOUT;
use super::{Broadcast, Output};
use crate::{Bundle, Now, Seqs, StreamId, Time};

/// The shortest and longest wait for a tree to bring what an announcement has shown: it follows the link's round trip.
const GRAFT_DELAY_MIN: Duration = Duration::from_millis(50);
const GRAFT_DELAY_MAX: Duration = Duration::from_secs(1);
/// How long after a stream was forgotten others may still ask for what was announced of it: they are told all they don't know within
/// an exchange or two.
const FORGOTTEN_FOR: Duration = Duration::from_secs(30);
/// Streams that one neighbour may be asked for, or ask for, in one message; others follow when these are done.
pub(super) const WANT_STREAMS_MAX: usize = 256;

impl<B: Bundle> Broadcast<B> {
    /// Asks at once for what a neighbour shows that has been made the parent and has pushed nothing since: frames arrive in
    /// order, so it got that before it knew and won't push it.
    pub(super) fn ask_new_parent(&mut self, from: B::Peer, id: StreamId<B::Peer>, now: Now) {
        let is_due = self.trees.is_on_trial(id.publisher, from)
            && self.wants.asked(id).is_empty()
            && self.wants.is_lacking(id);
        if is_due {
            self.wants.lacking(id, now.time);
            self.ask_for_missing(now);
        }
    }

    /// Plans to ask if anything of a stream is missing that a neighbour has.
    pub(super) fn notice_missing(&mut self, id: StreamId<B::Peer>, now: Now) {
        if !self.has_base() || self.wants.is_lacking(id) || self.missing(id).is_empty() {
            return;
        }
        let delay = if self.trees.has_parent(id.publisher) {
            let rtt = self
                .neighbours
                .values()
                .map(|neighbour| neighbour.rtt)
                .max()
                .unwrap_or_default();
            // The ways of the shared tree, on which a new publisher begins, are longer: whoever has been overtaken asks sooner.
            let round_trips = if self.knows(id.publisher) { 2 } else { 1 };
            (rtt * round_trips).clamp(GRAFT_DELAY_MIN, GRAFT_DELAY_MAX)
        } else {
            Duration::ZERO
        };
        self.wants.lacking(id, now.time + delay);
        if delay.is_zero() {
            self.ask_for_missing(now);
        }
    }

    /// Plans to ask for everything that neighbours have shown so far, as a member does that has just fixed its base.
    pub(super) fn notice_all_missing(&mut self, now: Now) {
        let mut streams: Vec<_> = self
            .neighbours
            .values()
            .flat_map(Neighbour::streams)
            .collect();
        streams.sort_unstable();
        streams.dedup();
        for id in streams {
            self.notice_missing(id, now);
        }
    }

    /// Returns what neighbours can supply of a stream and this member hasn't seen.
    pub(super) fn missing(&self, id: StreamId<B::Peer>) -> Seqs {
        let mut shown = Seqs::default();
        for (peer, neighbour) in self.neighbours.iter() {
            if !self.wants.distrusts(*peer) {
                shown.extend(&neighbour.can_supply(id));
            }
        }
        let shown = match self.history.seen(id) {
            Some(seen) => shown.difference(seen),
            None => shown,
        };
        self.wants.acceptable(id, shown)
    }

    /// Asks for what has been missing for long enough.
    pub(super) fn ask_for_missing(&mut self, now: Now) {
        for id in self.wants.due(now.time) {
            self.ask_for(id, now);
        }
        while let Some(peer) = self.wants.unmasked() {
            let what = "announced bundles that it does not supply";
            self.outputs.push_back(Output::Misbehaviour { peer, what });
        }
    }

    fn ask_for(&mut self, id: StreamId<B::Peer>, now: Now) {
        let missing = self.missing(id);
        if missing.is_empty() {
            self.wants.complete(id);
            return;
        }
        let mut open = missing.difference(&self.wants.expected(id));
        if open.is_empty() {
            return;
        }
        // Whoever was asked in vain is asked last. Of the others, whoever has most of it is asked first: one supplier in order
        // beats several in pieces.
        let mut suppliers: Vec<_> = self
            .neighbours
            .iter()
            .filter(|(peer, neighbour)| !neighbour.congested && self.wants.may_ask(id, **peer))
            .filter(|(peer, _)| !self.wants.distrusts(**peer))
            .map(|(peer, neighbour)| {
                (
                    open.intersection(&neighbour.can_supply(id)),
                    neighbour.rtt,
                    *peer,
                )
            })
            .filter(|(share, ..)| !share.is_empty())
            .collect();
        suppliers.sort_by_key(|(share, rtt, peer)| {
            let is_vain = self.wants.is_vain(*peer);
            (is_vain, std::cmp::Reverse(share.count()), *rtt, *peer)
        });
        for (index, (_, _, peer)) in suppliers.into_iter().enumerate() {
            let Some(neighbour) = self.neighbours.get(&peer) else {
                continue;
            };
            let share = open.intersection(&neighbour.can_supply(id));
            if share.is_empty() {
                continue;
            }
            open = open.difference(&share);
            self.wants.ask(id, peer, share.clone(), now.time);
            // A hole below what the tree has brought since is no fault of the tree.
            let newest = self.history.seen(id).and_then(Seqs::last);
            if index == 0 && share.last() > newest && !self.wants.is_vain(peer) {
                self.graft_for(id, peer);
            }
            self.send(
                peer,
                Message::Want {
                    ranges: vec![(id, share)],
                },
            );
            if open.is_empty() {
                return;
            }
        }
        // Whoever has the rest is congested or busy with another part.
        self.wants.lacking(id, now.time + ASK_TIMEOUT);
    }

    /// What the tree should have brought comes from a neighbour instead: from now on it pushes.
    fn graft_for(&mut self, id: StreamId<B::Peer>, peer: B::Peer) {
        let newest = self.history.epochs(id.publisher).next_back();
        let is_current = newest.is_none_or(|newest| newest <= id.epoch);
        if !is_current || id.publisher == self.me {
            return;
        }
        let tree = id.publisher;
        if newest.is_some() {
            self.trees.graft(tree, peer, &mut self.orders);
        } else {
            // Whether there is such a publisher shows with its first bundle; its tree begins there.
            self.orders.push(Order::Graft(peer, tree));
        }
    }

    /// A bundle came: ends the asks that it has met.
    pub(super) fn settle_wants(&mut self, id: StreamId<B::Peer>, now: Now) {
        if !self.wants.is_lacking(id) {
            return;
        }
        if let Some(seen) = self.history.seen(id) {
            self.wants.seen(id, seen);
        }
        if self.wants.asked(id).is_empty() {
            if self.missing(id).is_empty() {
                self.wants.complete(id);
            } else {
                self.wants.lacking(id, now.time + GRAFT_DELAY_MIN);
            }
        }
    }

    /// A neighbour asks. What it asks for replaces what it had asked for of the same streams.
    pub(super) fn wanted(
        &mut self,
        from: B::Peer,
        ranges: Vec<(StreamId<B::Peer>, Seqs)>,
        now: Now,
    ) {
        // What this member has forgotten it may have announced before.
        let retired_at = self.history.retired_at;
        let forgets = retired_at.is_some_and(|at| now.time.since(at) < FORGOTTEN_FOR);
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        let mut never_had = false;
        let mut sought = Vec::new();
        for (id, seqs) in ranges.into_iter().take(WANT_STREAMS_MAX) {
            // Only what was announced is asked for, and what was announced was seen.
            let seen = self.history.seen(id).and_then(Seqs::last);
            never_had |= seqs.last() > seen && !(seen.is_none() && forgets);
            if seen.is_none() {
                continue;
            }
            let before = seqs.intersection(&self.history.before_base(id));
            if !before.is_empty() {
                sought.push((id, before));
            }
            neighbour.supplies.retain(|(of, _)| *of != id);
            if neighbour.supplies.len() < WANT_STREAMS_MAX {
                neighbour.supplies.push_back((id, seqs));
            }
        }
        self.seek(from, sought, now);
        if never_had {
            let what = "a request for bundles that nobody has announced to it";
            self.outputs
                .push_back(Output::Misbehaviour { peer: from, what });
        }
    }

    /// Returns whether a neighbour waits for supplies.
    pub fn owes(&self, peer: B::Peer) -> bool {
        self.neighbours
            .get(&peer)
            .is_some_and(|neighbour| !neighbour.supplies.is_empty())
    }

    /// Supplies what a neighbour asked for, up to `bytes` (one bundle may go over); returns the bytes that were ordered.
    pub fn supply(&mut self, peer: B::Peer, bytes: usize) -> usize {
        let mut ordered = 0;
        while ordered < bytes {
            let Some(neighbour) = self.neighbours.get_mut(&peer) else {
                break;
            };
            let Some((id, seqs)) = neighbour.supplies.front_mut() else {
                break;
            };
            let id = *id;
            let (first, last) = (seqs.first().unwrap_or(u64::MAX), seqs.last().unwrap_or(0));
            let held = self
                .history
                .held_from(id, first)
                .filter(|held| held.bundle.header().first <= last);
            let Some(held) = held else {
                // Whatever is left of it isn't held (any more): the next digest says so.
                if !seqs.is_empty() {
                    neighbour.mark_untold(id, Time::ZERO);
                }
                neighbour.supplies.pop_front();
                continue;
            };
            let header = held.bundle.header();
            let wanted = seqs.intersects(header.first, header.last);
            seqs.remove_below(header.last.saturating_add(1));
            if !wanted {
                continue;
            }
            ordered += held.bundle.cost_bytes();
            self.counters.bundles_supplied += 1;
            self.outputs.push_back(Output::Send {
                to: peer,
                message: Message::Bundle {
                    bundle: held.bundle.clone(),
                    hops: held.hops.saturating_add(1),
                    push: Push::Supplied,
                },
            });
        }
        ordered
    }
}
