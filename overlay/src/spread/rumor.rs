//! Rumor mongering: hot rumors are told to random partners until too many knew them already.
//!
//! **The cycle.** A rumor that a member learns in a cycle is told from its next cycle on, and counts as needed by whoever
//! else brings it in the same cycle. Both are what a synchronous simulation with a snapshot at the start of each cycle
//! does, and only with both come the paper's tables out (one without the second misses 20% instead of 18% at k=1).
//!
//! **The counter.** The paper says so in a footnote to its pull table, and Table 1 shows that push does the same: of the
//! contacts of one cycle, if any recipient needed the rumor the counter starts anew; if all knew it, one is added. A
//! counter that never starts anew would give .048/3.0 at k=2 where the table has .037/3.3. A cycle in which nobody
//! answers, because the partner is dead or the frame was lost, counts for nothing.

use std::collections::BTreeSet;

use rand::RngExt;

use super::config::{Decision, Notice, Removal, Rumor};
use super::known::{Admission, Contacts, HELD_MAX};
use super::message::{BundleId, Carried, Message, Verdict};
use super::{Epidemic, Output};
use crate::Bundle;

impl<B: Bundle> Epidemic<B> {
    /// Judges the contacts of the cycle that has ended: rumors that have lost their interest are dropped.
    pub(super) fn lose_interest(&mut self, rumor: Rumor) {
        let Removal::Sir { k, decision, .. } = rumor.removal else {
            return;
        };
        let rng = &mut self.rng;
        self.known
            .retain(|held| match std::mem::take(&mut held.contacts) {
                Contacts::Silent => true,
                Contacts::Needed => {
                    held.unneeded = 0;
                    true
                }
                Contacts::Unneeded => match decision {
                    Decision::Counter => {
                        held.unneeded = held.unneeded.saturating_add(1);
                        held.unneeded < k.get()
                    }
                    Decision::Coin => rng.random_range(0..k.get()) != 0,
                },
            });
    }

    /// Returns whether any rumor is old enough to be told.
    pub(super) fn has_hot(&self, cycle: u64) -> bool {
        self.known.held().values().any(|held| held.learned < cycle)
    }

    /// Tells a partner the hot rumors, asks for its own, or both.
    pub(super) fn gossip(&mut self, to: B::Peer, rumor: Rumor, cycle: u64) {
        let rumors = if rumor.direction.pushes() {
            self.hot(rumor, cycle, &BTreeSet::new())
        } else {
            Vec::new()
        };
        let ask = rumor.direction.pulls();
        self.counters.requests_sent += u64::from(ask);
        self.send_rumors(to, rumors, ask);
    }

    /// Takes what a member tells, says what was needed, and tells it what is hot here if it asks.
    pub(super) fn told(
        &mut self,
        from: B::Peer,
        rumors: Vec<Carried<B>>,
        ask: bool,
        rumor: Rumor,
        cycle: u64,
    ) {
        let mut verdicts = Vec::with_capacity(rumors.len());
        for carried in rumors.into_iter().take(HELD_MAX) {
            let header = carried.bundle.header();
            let id = BundleId {
                stream: header.stream,
                first: header.first,
            };
            let needed = match self.take(&carried, cycle) {
                Admission::New => true,
                Admission::Refused => false,
                Admission::Duplicate => self
                    .known
                    .held()
                    .get(&id)
                    .is_some_and(|held| held.learned == cycle),
            };
            verdicts.push(Verdict { id, needed });
        }
        let heard = verdicts.iter().map(|verdict| verdict.id).collect();
        if !verdicts.is_empty() && listens(rumor) {
            self.counters.feedback_sent += 1;
            self.send(from, Message::Feedback { verdicts });
        }
        if ask {
            let rumors = self.hot(rumor, cycle, &heard);
            self.send_rumors(from, rumors, false);
        }
    }

    /// Takes what a recipient thought of rumors that it was told.
    pub(super) fn judged(&mut self, verdicts: Vec<Verdict<B::Peer>>) {
        for verdict in verdicts.into_iter().take(HELD_MAX) {
            if let Some(held) = self.known.held_mut(verdict.id) {
                held.contacts = match (held.contacts, verdict.needed) {
                    (Contacts::Needed, _) | (_, true) => Contacts::Needed,
                    (Contacts::Silent | Contacts::Unneeded, false) => Contacts::Unneeded,
                };
            }
        }
    }

    /// Returns the rumors to tell now, without those that the partner has just told itself.
    fn hot(
        &mut self,
        rumor: Rumor,
        cycle: u64,
        heard: &BTreeSet<BundleId<B::Peer>>,
    ) -> Vec<Carried<B>> {
        let ids: Vec<_> = self
            .known
            .held()
            .iter()
            .filter(|(id, held)| held.learned < cycle && !heard.contains(id))
            .map(|(id, _)| *id)
            .collect();
        let mut rumors = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(held) = self.known.held_mut(id) {
                if !listens(rumor) {
                    held.contacts = Contacts::Unneeded;
                }
                rumors.push(held.carry());
            }
        }
        rumors
    }

    fn send_rumors(&mut self, to: B::Peer, rumors: Vec<Carried<B>>, ask: bool) {
        if rumors.is_empty() && !ask {
            return;
        }
        self.counters.payloads_sent += rumors.len() as u64;
        let message = Message::Rumors { rumors, ask };
        self.outputs.push_back(Output::Send { to, message });
    }
}

/// Returns whether members want to hear what recipients knew.
const fn listens(rumor: Rumor) -> bool {
    match rumor.removal {
        Removal::Sir { notice, .. } => matches!(notice, Notice::Feedback),
        Removal::Sis => false,
    }
}
