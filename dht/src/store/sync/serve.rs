//! The asked side of a comparison: it answers from a set of what it has, and keeps nothing else.

use crate::kv::Record;
use crate::kv::fingerprint::{Item, Items, Range, Summary};
use crate::{Contact, Now, RequestId};

use super::super::Store;
use super::super::config::SNAPSHOTS_MAX;
use super::super::loads::Reader;
use super::super::messages::{
    AMONG_MAX, Answer, ITEMS_MAX, Message, RANGES_MAX, RECORDS_BYTES_MAX, Scope, head_bytes,
};
use super::Snapshot;

impl<C: Contact> Store<C> {
    pub(in crate::store) fn serve_compare(
        &mut self,
        from: C::Peer,
        request: RequestId,
        scope: &Scope<C::Peer>,
        ranges: &[(Range, Summary)],
        now: Now,
    ) {
        let good =
            ranges.len() <= RANGES_MAX && scope.among.len() <= AMONG_MAX && scope.behind <= 1;
        if !good {
            self.misbehaved(from, "a comparison that exceeds its bounds");
            self.unable(from, request);
            return;
        }
        if self.leaving.is_done() {
            // Whoever read this node would take it for a replica.
            self.unable(from, request);
            return;
        }
        let begins = ranges.iter().any(|(range, _)| *range == Range::ALL);
        if !self.may_compare(from, scope, begins, now) {
            self.counters.held_back += 1;
            self.unable(from, request);
            return;
        }
        let set = self.snapshot(from, scope, begins, now);
        let mut differing = Vec::new();
        for &(range, theirs) in ranges {
            if let Some(contents) = set.compare(range, theirs) {
                differing.push((range, contents));
            }
        }
        self.sync_answer(from, request, Answer::Compare { differing });
    }

    /// Answers a comparison's query, and counts the bytes.
    fn sync_answer(&mut self, to: C::Peer, request: RequestId, answer: Answer<C>) {
        let message = Message::Answer(answer);
        self.counters.sync_bytes += message.bytes() as u64;
        let Message::Answer(answer) = message else {
            return;
        };
        self.answer(to, request, answer);
    }

    /// Returns whether a peer may have this node look through all that it has, if that is what its comparison takes.
    fn may_compare(&mut self, peer: C::Peer, scope: &Scope<C::Peer>, anew: bool, now: Now) -> bool {
        let mut known = self.sync.snapshots.iter();
        if !anew && known.any(|known| known.peer == peer && known.scope == *scope) {
            return true;
        }
        let records = self.holding.index.len();
        self.paces.may_read(peer, records + 1, 0, now.time)
    }

    /// Returns what this node has within a scope, as it was when the comparison began.
    fn snapshot(&mut self, peer: C::Peer, scope: &Scope<C::Peer>, anew: bool, now: Now) -> &Items {
        let mut known = self.sync.snapshots.iter();
        let known = known.position(|known| known.peer == peer && known.scope == *scope);
        let known = known.and_then(|at| self.sync.snapshots.remove(at));
        let snapshot = known.filter(|_| !anew).unwrap_or_else(|| Snapshot {
            peer,
            scope: scope.clone(),
            set: self.items(scope, peer, self.members.me(), now),
        });
        let snapshots = &mut self.sync.snapshots;
        snapshots.truncate(SNAPSHOTS_MAX - 1);
        snapshots.push_front(snapshot);
        &snapshots[0].set
    }

    pub(in crate::store) fn serve_fetch(
        &mut self,
        from: C::Peer,
        request: RequestId,
        items: &[Item],
        now: Now,
    ) {
        if items.len() > ITEMS_MAX || self.loads.is_busy() {
            self.unable(from, request);
            return;
        }
        let mut bytes = 0;
        let mut wanted = Vec::new();
        let mut more = false;
        for held in items.iter().filter_map(|&i| self.holding.index.of_item(i)) {
            bytes += held.content.value_bytes() as usize + head_bytes(held);
            if bytes > RECORDS_BYTES_MAX && !wanted.is_empty() {
                more = true;
                break;
            }
            wanted.push((held.key.clone(), held.id()));
        }
        if !self.paces.may_read(from, items.len(), bytes, now.time) {
            self.counters.held_back += 1;
            self.unable(from, request);
            return;
        }
        if wanted.is_empty() {
            self.answer_fetch(from, request, Vec::new(), false);
            return;
        }
        let reader = Reader::Fetch {
            to: from,
            request,
            more,
        };
        self.load(wanted, reader);
    }

    pub(in crate::store) fn answer_fetch(
        &mut self,
        to: C::Peer,
        request: RequestId,
        records: Vec<Record<C::Peer>>,
        more: bool,
    ) {
        self.sync_answer(to, request, Answer::Fetched { records, more });
    }
}
