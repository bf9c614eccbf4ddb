//! Anti-entropy: in each cycle a member and a random partner resolve all their differences.
//!
//! Whoever makes contact sends its digest. To pull, the partner answers with what the digest lacks; to push, with a
//! request for what it lacks itself. So a bundle travels only where it was missing a moment ago, and two members in step
//! spend one digest. The paper compares databases by checksum first, which saves bytes and no payloads: it is left out.
//!
//! The paper's exchanges happen one after the other; here several are under way at once. A member asks nobody for what it
//! has asked another for in this cycle, or push would supply a quarter of it twice. What its own contact brings by pull it
//! can't foresee: push-pull keeps some duplicates, and they are counted.

use std::collections::BTreeMap;

use super::config::{Direction, Sync};
use super::known::{HELD_MAX, STREAMS_MAX};
use super::message::{Carried, Message};
use super::{Epidemic, Output};
use crate::digest::StreamDigest;
use crate::{Bundle, Seqs, StreamId};

/// What a member has asked for in one cycle, and need not ask for again.
#[derive(Clone, Debug)]
pub(super) struct Asked<P> {
    cycle: u64,
    seqs: BTreeMap<StreamId<P>, Seqs>,
}

impl<P> Default for Asked<P> {
    fn default() -> Self {
        Self {
            cycle: 0,
            seqs: BTreeMap::new(),
        }
    }
}

impl<B: Bundle> Epidemic<B> {
    /// Opens the resolution with a partner.
    pub(super) fn compare(&mut self, to: B::Peer, sync: Sync) {
        let streams = self.known.digests();
        self.counters.digests_sent += 1;
        let direction = sync.direction;
        self.send(to, Message::Digest { streams, direction });
    }

    /// Answers a partner's digest.
    pub(super) fn compared(
        &mut self,
        from: B::Peer,
        streams: Vec<StreamDigest<B::Peer>>,
        direction: Direction,
        cycle: u64,
    ) {
        let theirs: BTreeMap<_, _> = streams
            .into_iter()
            .take(STREAMS_MAX)
            .map(|digest| (digest.stream, digest))
            .collect();
        if direction.pulls() {
            let lacks = |id: StreamId<B::Peer>, first, last| {
                theirs
                    .get(&id)
                    .is_none_or(|digest| !digest.seqs.intersects(first, last))
            };
            self.supply(from, lacks);
        }
        if direction.pushes() {
            if self.asked.cycle != cycle {
                self.asked = Asked {
                    cycle,
                    seqs: BTreeMap::new(),
                };
            }
            let ranges: Vec<_> = theirs
                .values()
                .map(|digest| (digest.stream, self.lacking(digest)))
                .filter(|(_, seqs)| !seqs.is_empty())
                .collect();
            for (stream, seqs) in &ranges {
                self.asked.seqs.entry(*stream).or_default().extend(seqs);
            }
            if !ranges.is_empty() {
                self.counters.requests_sent += 1;
                self.send(from, Message::Want { ranges });
            }
        }
    }

    /// Supplies what a partner wants.
    pub(super) fn wanted(&mut self, from: B::Peer, ranges: Vec<(StreamId<B::Peer>, Seqs)>) {
        let wants: BTreeMap<_, _> = ranges.into_iter().take(STREAMS_MAX).collect();
        self.supply(from, |id, first, last| {
            wants
                .get(&id)
                .is_some_and(|seqs| seqs.intersects(first, last))
        });
    }

    /// Takes what a partner supplies.
    pub(super) fn supplied(&mut self, bundles: Vec<Carried<B>>, cycle: u64) {
        for carried in bundles.into_iter().take(HELD_MAX) {
            self.take(&carried, cycle);
        }
    }

    /// Returns what a partner can supply of a stream and this member has neither seen nor asked for.
    fn lacking(&self, theirs: &StreamDigest<B::Peer>) -> Seqs {
        let mut lacking = theirs.seqs.clone();
        lacking.remove_below(theirs.supplies_from);
        let seen = self.known.seen(theirs.stream);
        for has in [seen, self.asked.seqs.get(&theirs.stream)].iter().flatten() {
            lacking = lacking.difference(has);
        }
        lacking
    }

    /// Sends the held bundles that stand where `lacks` says so.
    fn supply(&mut self, to: B::Peer, lacks: impl Fn(StreamId<B::Peer>, u64, u64) -> bool) {
        let bundles: Vec<_> = self
            .known
            .held()
            .iter()
            .filter(|(id, held)| lacks(id.stream, id.first, held.bundle.header().last))
            .map(|(_, held)| held.carry())
            .collect();
        if bundles.is_empty() {
            return;
        }
        self.counters.payloads_sent += bundles.len() as u64;
        let message = Message::Supply { bundles };
        self.outputs.push_back(Output::Send { to, message });
    }
}
