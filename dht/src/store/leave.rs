//! Leaving: a node tells its neighbours that it goes, and waits until their claims have taken its places.
//!
//! A claim is told before it holds (`fill.rs`), and only its maker's own answers say that it does. So whoever leaves asks
//! each that has told it a claim without it, until the answer is that claim: it has then read what there is to read here,
//! counts as a replica, and has told all others.

use std::collections::BTreeMap;

use crate::{Contact, Now, Peer};

use super::claim::{Claim, Round};
use super::{CallId, Outcome, Store};

/// How this node's leaving stands.
#[derive(Debug)]
pub(super) struct Leaving<P> {
    /// Callers that wait until this node may stop.
    calls: Vec<CallId>,
    /// Those whose claims hold that call this node gone, by their own answers, and as which of its rounds they knew it.
    taken: BTreeMap<P, Round>,
    /// Whether this node was told that it may stop: what it holds is no replica's any more.
    done: bool,
}

impl<P: Peer> Leaving<P> {
    pub(super) const fn new() -> Self {
        Self {
            calls: Vec::new(),
            taken: BTreeMap::new(),
            done: false,
        }
    }

    /// Returns whether others have taken all places of this node.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }
}

impl<C: Contact> Store<C> {
    pub(super) fn leave_for(&mut self, call: CallId, now: Now) {
        self.leaving.calls.push(call);
        self.members.set_leaving();
        let alive: Vec<C::Peer> = self.members.alive().map(|(peer, _)| peer).collect();
        for peer in alive {
            self.ask_claim(peer, now);
        }
        self.check_left();
    }

    /// Takes what a peer is about to claim, or claims: where that calls this node gone, the peer is asked whether it holds.
    pub(super) fn on_taking(&mut self, peer: C::Peer, claim: &Claim<C::Peer>, now: Now) {
        let waits = !self.leaving.calls.is_empty();
        if waits && self.calls_gone(claim) > self.leaving.taken.get(&peer).copied() {
            self.ask_claim(peer, now);
        }
    }

    /// Takes a claim that holds, by its maker's answer.
    pub(super) fn on_taken(&mut self, peer: C::Peer, claim: &Claim<C::Peer>) {
        if let Some(round) = self.calls_gone(claim).filter(|_| self.members.leaving()) {
            self.leaving.taken.insert(peer, round);
            self.check_left();
        }
    }

    /// Returns as which of its rounds a claim calls this node gone.
    fn calls_gone(&self, claim: &Claim<C::Peer>) -> Option<Round> {
        let known = claim.of(self.members.me()).filter(|known| known.gone);
        known.map(|known| known.round)
    }

    /// Replies to those that wait, if this node is needed no more.
    pub(super) fn check_left(&mut self) {
        let done = self.leaving.done || self.is_replaced();
        if !self.leaving.calls.is_empty() && done {
            self.leaving.done = true;
            for call in std::mem::take(&mut self.leaving.calls) {
                self.reply(call, Outcome::Left);
            }
        }
    }

    /// Returns whether every neighbour that is there, has claimed something and isn't itself about to leave holds what it
    /// takes over of this node's.
    fn is_replaced(&self) -> bool {
        let Some(own) = self.members.own() else {
            return true;
        };
        let (me, round) = (self.members.me(), own.claim().round);
        let mut stay = self.members.alive().filter(|(_, member)| !member.leaving);
        stay.all(|(peer, member)| {
            let claim = member.region.as_ref().map(super::claim::Region::claim);
            let knew_it = claim.is_some_and(|claim| claim.of(me).is_some());
            !knew_it || self.leaving.taken.get(&peer) >= Some(&round)
        })
    }
}
