//! Hinted handoff: what a stand-in keeps for a replica goes there once the replica is back, and then is a hint no more.
//!
//! It is offered first, because the replica has read most of it from the others by then.

use std::collections::BTreeMap;

use crate::kv::fingerprint::Item;
use crate::kv::{KvKey, Record, RecordId};
use crate::{Contact, Now};

use super::config::OFFER_AFTER;
use super::disk::{Then, Write};
use super::get::messages_of;
use super::loads::Reader;
use super::messages::{Answer, Query, RECORDS_BYTES_MAX, head_bytes};
use super::{Purpose, Store};

/// Hints in one offer. A guess: 1,024 items take 16 KiB.
const OFFERED_MAX: usize = 1_024;

/// What one replica is offered.
#[derive(Debug)]
struct Offer<P> {
    hints: Vec<(KvKey, RecordId<P>)>,
    /// Pushes that are not acknowledged yet.
    pushes: usize,
    whole: bool,
}

/// Hand-offs under way.
#[derive(Debug)]
pub(super) struct Handoff<P> {
    offers: BTreeMap<P, Offer<P>>,
}

impl<P> Default for Handoff<P> {
    fn default() -> Self {
        Self {
            offers: BTreeMap::new(),
        }
    }
}

impl<C: Contact> Store<C> {
    /// Plans to offer a replica what is kept for it: it may be there already, and was only slow.
    pub(super) fn offer_soon(&mut self, replica: C::Peer, now: Now) {
        if self.members.is_alive(replica) {
            self.sync.plan_at(replica, now.time + OFFER_AFTER);
        }
    }

    /// Keeps no hints any more for replicas that were away for too long: others have taken their places, and what is kept
    /// goes to those (`drops.rs`).
    pub(super) fn release_hints(&mut self) {
        let forgotten = self.holding.hinted();
        let forgotten: Vec<C::Peer> = forgotten
            .filter(|&replica| self.members.get(replica).is_none())
            .collect();
        for replica in forgotten {
            let hints = self.holding.hints_for(replica).take(OFFERED_MAX);
            let hints: Vec<_> = hints.cloned().collect();
            self.disk
                .write(Write::DropHints(replica, hints), Then::Nothing);
        }
    }

    /// Offers a replica what is kept for it.
    pub(super) fn begin_handoff(&mut self, replica: C::Peer, now: Now) {
        if self.handoff.offers.contains_key(&replica) {
            return;
        }
        let hints = self.holding.hints_for(replica).take(OFFERED_MAX);
        let hints: Vec<(KvKey, RecordId<C::Peer>)> = hints.cloned().collect();
        let contact = self.members.get(replica).map(|m| m.contact.clone());
        let Some(contact) = contact.filter(|_| !hints.is_empty()) else {
            return;
        };
        let held = hints
            .iter()
            .map(|(key, id)| self.holding.index.find(key, id));
        // What isn't held any more was covered: it needs no hint.
        let items = held.map(|held| held.map_or(Item(0), Item::of)).collect();
        let query = Query::Offer { items };
        let offer = Offer {
            hints,
            pushes: 0,
            whole: true,
        };
        self.handoff.offers.insert(replica, offer);
        self.ask(&contact, query, Purpose::Handoff, now);
    }

    pub(super) fn on_handoff_answer(&mut self, replica: C::Peer, answer: Answer<C>, now: Now) {
        let Some(offer) = self.handoff.offers.get_mut(&replica) else {
            return;
        };
        match answer {
            Answer::Lacks { lacks } => {
                let mut bytes = 0;
                let mut wanted = Vec::new();
                for at in lacks {
                    let hint = usize::try_from(at).ok().and_then(|at| offer.hints.get(at));
                    let Some((key, id)) = hint else { continue };
                    let Some(held) = self.holding.index.find(key, id) else {
                        continue;
                    };
                    bytes += held.content.value_bytes() as usize + head_bytes(held);
                    if bytes > RECORDS_BYTES_MAX && !wanted.is_empty() {
                        // The rest is offered again.
                        offer.whole = false;
                        break;
                    }
                    wanted.push((key.clone(), *id));
                }
                if wanted.is_empty() {
                    self.end_handoff(replica, now);
                } else {
                    if !offer.whole {
                        offer.hints = wanted.clone();
                    }
                    self.load(wanted, Reader::Handoff { to: replica });
                }
            }
            Answer::Pushed { kept } if kept.is_ok_and(|()| true) || is_lasting(&kept) => {
                offer.pushes = offer.pushes.saturating_sub(1);
                if offer.pushes == 0 {
                    self.end_handoff(replica, now);
                }
            }
            _ => self.on_handoff_failed(replica, now),
        }
    }

    /// Sends a replica what was kept for it.
    pub(super) fn hand_over(&mut self, replica: C::Peer, records: Vec<Record<C::Peer>>, now: Now) {
        let contact = self.members.get(replica).map(|m| m.contact.clone());
        let (Some(contact), Some(offer)) = (contact, self.handoff.offers.get_mut(&replica)) else {
            return;
        };
        let messages = messages_of(records);
        offer.pushes = messages.len();
        if messages.is_empty() {
            self.end_handoff(replica, now);
            return;
        }
        for records in messages {
            self.ask(&contact, Query::Push { records }, Purpose::Handoff, now);
        }
    }

    /// Drops the hints that were handed off, and goes on with the next.
    fn end_handoff(&mut self, replica: C::Peer, now: Now) {
        let Some(offer) = self.handoff.offers.remove(&replica) else {
            return;
        };
        self.counters.hints_handed += offer.hints.len() as u64;
        for (key, id) in &offer.hints {
            self.holding.drop_hint(replica, key, *id);
        }
        self.disk
            .write(Write::DropHints(replica, offer.hints), Then::Nothing);
        self.begin_handoff(replica, now);
    }

    pub(super) fn on_handoff_failed(&mut self, replica: C::Peer, now: Now) {
        self.handoff.offers.remove(&replica);
        self.offer_soon(replica, now);
    }
}

/// Returns whether the replica won't take the records later either.
fn is_lasting(kept: &Result<(), super::messages::Refusal>) -> bool {
    kept.is_err_and(|why| !why.is_passing())
}
