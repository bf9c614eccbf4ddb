//! What others ask of this node, and what it makes of their answers.

use crate::lookup;
use crate::message::{Answer, Message, Query, RequestId};
use crate::table::{Entered, Entry, K, Standing};
use crate::{Contact, Now, Point};

use super::{Asked, Dht, Output, Purpose};

impl<C: Contact> Dht<C> {
    pub(super) fn on_query(
        &mut self,
        from: C::Peer,
        contact: Option<C>,
        request: RequestId,
        query: Query<C>,
        now: Now,
    ) {
        self.notice(from, contact, now);
        if !self.me.serves() {
            self.counters.queries_ignored += 1;
            return;
        }
        let answer = match query {
            Query::Ping => Answer::Pong,
            Query::FindNode { key } => Answer::Closer {
                contacts: self.closer(key.point(), from, now),
            },
            Query::GetProviders { key } => {
                let point = key.point();
                Answer::Providers {
                    providers: self.providers.of(point, from, now, &mut self.rng),
                    closer: self.closer(point, from, now),
                }
            }
            Query::AddProvider { key, provider } => {
                let provider = self.believable(from, vec![provider], 1, now).pop();
                let added =
                    provider.map(|it| self.providers.add(key.point(), from, it, now).is_ok());
                self.counters.providers_refused += u64::from(added != Some(true));
                return;
            }
        };
        self.outputs.push_back(Output::Send {
            to: from,
            contact: None,
            request,
            message: Message::Answer(answer),
        });
    }

    pub(super) fn on_answer(
        &mut self,
        from: C::Peer,
        contact: Option<C>,
        request: RequestId,
        answer: Answer<C>,
        now: Now,
    ) {
        let Some(request) = self.requests.answered(request, from) else {
            self.counters.unasked += 1;
            return;
        };
        self.counters.answers += 1;
        let Asked {
            contact: asked,
            purpose,
            ..
        } = request.why;
        let newer = contact.filter(|contact| contact.issued_at() >= asked.issued_at());
        self.on_proven(newer.unwrap_or(asked), now);
        let took = now.time.since(request.sent_at);
        self.table.answered_in(from, took);
        self.everyone.sample_of_many(took);
        match purpose {
            Purpose::Lookup(id) => self.on_lookup_answer(id, from, answer, now),
            // Whatever it said, it is there.
            Purpose::Probe => {
                self.probes.remove(&from);
            }
        }
    }

    pub(super) fn on_slow(&mut self, peer: C::Peer, asked: &Asked<C>, now: Now) {
        match asked.purpose {
            Purpose::Lookup(id) => self.tell_lookup(id, lookup::Input::Slow { peer }, now),
            Purpose::Probe => {}
        }
    }

    pub(super) fn on_failed(&mut self, peer: C::Peer, asked: Asked<C>, now: Now) {
        self.counters.failures += 1;
        match asked.purpose {
            Purpose::Lookup(id) => {
                if self.table.suspect(peer) {
                    self.probe(asked.contact, now);
                }
                self.tell_lookup(id, lookup::Input::Failed { peer }, now);
            }
            Purpose::Probe => self.on_probe_failed(peer, now),
        }
    }

    /// Takes a peer that has answered into the table, and pings whoever may have to make room for it.
    fn on_proven(&mut self, contact: C, now: Now) {
        let alone = !self.has_live();
        match self.table.proven(contact, now) {
            Entered::Spare { check: Some(peer) } => {
                let oldest = self.table.entry(peer).map(|entry| entry.contact().clone());
                if let Some(contact) = oldest {
                    self.probe(contact, now);
                }
            }
            Entered::New | Entered::Known if alone => self.upkeep.begin(now.time),
            Entered::New | Entered::Known | Entered::Spare { check: None } | Entered::Refused => {}
        }
    }

    /// Notes that a peer spoke to us. If there is room for it, or if it was thought silent, it is pinged.
    pub(super) fn notice(&mut self, from: C::Peer, contact: Option<C>, now: Now) {
        self.table.heard(from, now);
        let standing = self.table.entry(from).map(Entry::standing);
        let worth = match (&contact, standing) {
            (Some(contact), None) => self.table.has_room_for(contact),
            (Some(contact), Some(Standing::Stale)) => contact.serves(),
            (Some(_), Some(Standing::Live | Standing::Suspect)) | (None, _) => false,
        };
        if let Some(contact) = contact.filter(|_| worth) {
            self.probe(contact, now);
        }
    }

    /// Returns the k closest live peers that this node knows, but for the one who asks.
    fn closer(&self, target: Point, asking: C::Peer, now: Now) -> Vec<C> {
        let worth = |entry: &Entry<C>| {
            entry.standing() == Standing::Live
                && entry.peer() != asking
                && entry.contact().expires_at() > now.unix
        };
        let closest = self.table.closest_where(target, K, worth);
        closest.into_iter().map(|e| e.contact().clone()).collect()
    }
}
