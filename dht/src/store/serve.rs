//! Answers to other nodes, and to this node's own calls.

use crate::kv::fingerprint::Item;
use crate::kv::{Arrival, Header, KvKey, KvPrefix, Record, RecordId, Slot};
use crate::{Contact, Now, RequestId};

use super::Store;
use super::disk::{Then, Write};
use super::loads::Reader;
use super::messages::{
    Answer, Delivery, ITEMS_MAX, Query, RECORDS_BYTES_MAX, Refusal, Sight, head_bytes,
};

/// Keys of one page of a listing.
const LISTED_MAX: usize = 1_000;

impl<C: Contact> Store<C> {
    pub(super) fn on_query(
        &mut self,
        from: C::Peer,
        request: RequestId,
        query: Query<C>,
        now: Now,
    ) {
        if !self.config.stores {
            self.unable(from, request);
            return;
        }
        match query {
            Query::Get { key, copies, after } => {
                self.serve_get(from, request, key, copies, after);
            }
            Query::Heads { key, copies } => self.serve_heads(from, request, &key, copies),
            Query::List {
                prefix,
                copies,
                after,
            } => self.serve_list(from, request, &prefix, copies, after.as_ref()),
            Query::Put { record, delivery } => self.serve_put(from, request, record, delivery),
            Query::Claim {
                contact,
                claim,
                leaving,
            } => self.on_claim(from, request, contact, claim, leaving, now),
            Query::Compare { scope, ranges } => {
                self.serve_compare(from, request, &scope, &ranges, now);
            }
            Query::Fetch { items } => self.serve_fetch(from, request, &items, now),
            Query::Push { records } => self.serve_push(from, request, records),
            Query::Offer { items } => self.serve_offer(from, request, items, now),
        }
    }

    pub(super) fn unable(&mut self, to: C::Peer, request: RequestId) {
        self.answer(to, request, Answer::Unable);
    }

    fn sight_of(&self, key: &KvKey, copies: u8) -> Sight<C> {
        let point = self
            .holding
            .index
            .slot(key)
            .map_or_else(|| key.point(), Slot::point);
        self.members.sight(point, usize::from(copies.max(1)))
    }

    pub(super) fn serve_get(
        &mut self,
        from: C::Peer,
        request: RequestId,
        key: KvKey,
        copies: u8,
        after: Option<RecordId<C::Peer>>,
    ) {
        if self.loads.is_lost(&key) || self.loads.is_busy() {
            self.unable(from, request);
            return;
        }
        let mut bytes = 0;
        let mut wanted: Vec<(KvKey, RecordId<C::Peer>)> = Vec::new();
        let mut more = false;
        if let Some(slot) = self.holding.index.slot(&key) {
            let rest = slot.siblings().iter().map(|held| (held, held.id()));
            for (held, id) in rest.filter(|(_, id)| after.is_none_or(|after| *id > after)) {
                bytes += held.content.value_bytes() as usize + head_bytes(held);
                if bytes > RECORDS_BYTES_MAX && !wanted.is_empty() {
                    more = true;
                    break;
                }
                wanted.push((key.clone(), id));
            }
        }
        if wanted.is_empty() {
            self.answer_get(from, request, &key, copies, Vec::new(), false);
            return;
        }
        let reader = Reader::Get {
            to: from,
            request,
            key,
            copies,
            more,
        };
        self.load(wanted, reader);
    }

    pub(super) fn answer_get(
        &mut self,
        to: C::Peer,
        request: RequestId,
        key: &KvKey,
        copies: u8,
        records: Vec<Record<C::Peer>>,
        more: bool,
    ) {
        let answer = Answer::Got {
            sight: self.sight_of(key, copies),
            records,
            more,
        };
        self.answer(to, request, answer);
    }

    fn serve_heads(&mut self, from: C::Peer, request: RequestId, key: &KvKey, copies: u8) {
        if self.loads.is_lost(key) {
            self.unable(from, request);
            return;
        }
        let slot = self.holding.index.slot(key);
        let heads = slot.map(|slot| slot.siblings().iter().cloned().collect());
        let answer = Answer::Heads {
            sight: self.sight_of(key, copies),
            heads: heads.unwrap_or_default(),
            more: false,
        };
        self.answer(from, request, answer);
    }

    fn serve_list(
        &mut self,
        from: C::Peer,
        request: RequestId,
        prefix: &KvPrefix,
        copies: u8,
        after: Option<&KvKey>,
    ) {
        if self.loads.lost_keys().any(|key| prefix.begins(key)) {
            self.unable(from, request);
            return;
        }
        let mut heads: Vec<Header<C::Peer>> = Vec::new();
        let mut bytes = 0;
        let mut more = false;
        for (at, (_, slot)) in self.holding.index.begin_with(prefix, after).enumerate() {
            bytes += slot.siblings().iter().map(head_bytes).sum::<usize>();
            // A page ends between keys, and holds one at least.
            if at > 0 && (at >= LISTED_MAX || bytes > RECORDS_BYTES_MAX) {
                more = true;
                break;
            }
            heads.extend(slot.siblings().iter().cloned());
        }
        let sight = self
            .members
            .sight(prefix.point(), usize::from(copies.max(1)));
        let answer = Answer::Heads { sight, heads, more };
        self.answer(from, request, answer);
    }

    fn serve_put(
        &mut self,
        from: C::Peer,
        request: RequestId,
        record: Record<C::Peer>,
        delivery: Delivery<C::Peer>,
    ) {
        if self.disk.is_busy() {
            let sight = self.sight_of(&record.header.key, record.header.copies);
            let kept = Err(Refusal::Busy);
            self.answer(from, request, Answer::Put { sight, kept });
            return;
        }
        let (hint_for, arrival) = match delivery {
            Delivery::Write => (None, Arrival::Direct),
            Delivery::Hint(replica) => (Some(replica), Arrival::Direct),
            Delivery::Repair => (None, Arrival::Passed),
        };
        let write = Write::Keep {
            records: vec![record],
            hint_for: hint_for.filter(|&replica| replica != self.members.me()),
            arrival,
        };
        self.disk.write(write, Then::AnswerPut(from, request));
    }

    fn serve_push(&mut self, from: C::Peer, request: RequestId, records: Vec<Record<C::Peer>>) {
        if self.disk.is_busy() {
            let kept = Err(Refusal::Busy);
            self.answer(from, request, Answer::Pushed { kept });
            return;
        }
        let write = Write::Keep {
            records,
            hint_for: None,
            arrival: Arrival::Passed,
        };
        self.disk.write(write, Then::AnswerPush(from, request));
    }

    /// Says which records of an offer this node lacks.
    fn serve_offer(&mut self, from: C::Peer, request: RequestId, items: Vec<Item>, now: Now) {
        if !self.paces.may_read(from, items.len(), 0, now.time) {
            self.counters.held_back += 1;
            self.unable(from, request);
            return;
        }
        let offered = items.into_iter().take(ITEMS_MAX).zip(0..);
        let lacked = offered.filter(|(item, _)| self.holding.index.of_item(*item).is_none());
        let lacks = lacked.map(|(_, at)| at).collect();
        self.answer(from, request, Answer::Lacks { lacks });
    }
}
