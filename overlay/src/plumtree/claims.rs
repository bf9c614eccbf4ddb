//! When a bundle proves that where this member began in a stream was a false word.

use super::{Broadcast, Output, Push};
use crate::{Bundle, Now};

impl<B: Bundle> Broadcast<B> {
    /// Weighs the base of a bundle's stream against the bundle, and lowers it where it was false.
    pub(super) fn weigh_base(&mut self, from: B::Peer, bundle: &B, push: Push, now: Now) {
        let Some(claim) = self.history.weigh(bundle, push, now) else {
            return;
        };
        let proof = bundle.header();
        let id = proof.stream;
        self.showed(from, &proof);
        // What nobody can supply is not waited for. Whoever made the claim has no say in it.
        let others = self.neighbours.iter();
        let others = others.filter(|(peer, other)| **peer != claim.by && other.last(id) > 0);
        let floor = others.map(|(_, other)| other.supplies_from(id)).min();
        let floor = floor.map_or(u64::MAX, |first| first.saturating_sub(1));
        self.history.lower_base(&proof, floor);
        self.outputs.push_back(Output::BaseLowered {
            stream: id,
            from: claim.base,
        });
        self.outputs.push_back(Output::Misbehaviour {
            peer: claim.by,
            what: "vouched for messages that were never published",
        });
        // Nobody has pushed or supplied what this member was told to have.
        for neighbour in self.neighbours.values_mut() {
            neighbour.mark_untold(id, now.time);
        }
        self.wants.lacking(id, now.time);
    }
}
