//! Leaving: a node tells its neighbours that it goes, and waits until their claims have taken its places.

use crate::{Contact, Now};

use super::{CallId, Outcome, Store};

/// Callers that wait until this node may stop.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    calls: Vec<CallId>,
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

    /// Replies once every neighbour that is there and settled has claimed what it takes over.
    pub(super) fn check_left(&mut self) {
        if self.leaving.calls.is_empty() {
            return;
        }
        let me = self.members.me();
        let round = self.members.own().map_or(0, |own| own.claim().round);
        let taken = self.members.alive().all(|(_, member)| {
            let claim = member.region.as_ref().map(super::claim::Region::claim);
            claim.is_none_or(|claim| {
                let known = claim.of(me);
                known.is_none_or(|known| known.gone && known.round >= round)
            })
        });
        if taken || round == 0 {
            for call in std::mem::take(&mut self.leaving.calls) {
                self.reply(call, Outcome::Left);
            }
        }
    }
}
