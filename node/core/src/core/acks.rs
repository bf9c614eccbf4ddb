//! Acknowledgements: what a publish waits for after its messages have left.
//!
//! A caller may want more than that: that they are on this node's disk, that a neighbour has them, or that most of the topic's
//! keepers have them on theirs. Keepers are members of the swarm, so they get messages along its trees; they are asked whether
//! they have, and get by hand what they lack.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_dht::store::DiskError;
use weft_identity::PeerId;
use weft_overlay::{Now, Seqs, StreamId, Time};

use super::Core;
use super::asking::What;
use super::journal::{Ticket, Written};
use crate::input::Ack;
use crate::keeping::{KEEPERS, Query};
use crate::{PublishError, Published, Receipt, Reply, RequestId, TopicId};

/// How long a publish waits for its acknowledgement: several times what a killed keeper takes to be replaced.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// Publishes that wait at once.
const ACKS_MAX: usize = 4_096;
/// How often keepers are asked that have not said yes.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// A publish that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    request: RequestId,
    topic: TopicId,
    ack: Ack,
    receipts: Vec<Receipt>,
    ticket: Ticket,
    /// Keepers that have all of it on disk.
    keepers: BTreeSet<PeerId>,
    /// How many questions and bundles for it are on their way to a keeper, which need not be sent again: they are answered or
    /// given up.
    unanswered: BTreeMap<PeerId, usize>,
    /// How many keepers there are to be at least, as far as the own table knows.
    need: usize,
    ask_at: Time,
    until: Time,
}

impl Unacknowledged {
    /// A keeper has answered one question, or won't.
    fn answered(&mut self, keeper: PeerId) {
        if let Entry::Occupied(mut entry) = self.unanswered.entry(keeper) {
            match *entry.get() {
                0 | 1 => drop(entry.remove()),
                _ => *entry.get_mut() -= 1,
            }
        }
    }

    /// Returns the seqs that it published.
    fn seqs(&self) -> Seqs {
        let first = self.receipts.first().map_or(1, |receipt| receipt.seq);
        let last = self.receipts.last().map_or(0, |receipt| receipt.seq);
        Seqs::range(first, last)
    }
}

/// How an acknowledgement stands.
enum Standing {
    Given,
    /// So many have it, of so many that must.
    Open {
        got: usize,
        need: usize,
    },
}

impl Core {
    /// Whether one more publish may wait.
    pub(super) const fn has_room_for_acks(&self) -> bool {
        self.acks.len() < ACKS_MAX
    }

    /// All messages of a publish have left: it is answered now or when it is acknowledged.
    pub(super) fn published(
        &mut self,
        request: RequestId,
        topic: TopicId,
        ack: Ack,
        receipts: Vec<Receipt>,
        now: Now,
    ) {
        // A walk through the table that only this one needs.
        let need = match ack {
            Ack::Sent | Ack::Local | Ack::Link => 0,
            Ack::Keepers => self.keepers_needed(topic, now),
        };
        self.acks.push(Unacknowledged {
            request,
            topic,
            ack,
            receipts,
            // Only who waits for the disk makes it hurry.
            ticket: match ack {
                Ack::Sent | Ack::Link => Ticket::default(),
                Ack::Local | Ack::Keepers => self.logs.ticket(),
            },
            keepers: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            need,
            ask_at: now.time,
            until: now.time + ACK_WAIT,
        });
    }

    pub(super) fn next_ack_tick(&self) -> Time {
        let waits = self.acks.iter();
        let asks = |it: &Unacknowledged| (it.ack == Ack::Keepers).then_some(it.ask_at);
        let ticks = waits.map(|it| asks(it).unwrap_or(it.until).min(it.until));
        ticks.min().unwrap_or(Time::NEVER)
    }

    /// Answers publishes that have what they wait for.
    pub(super) fn check_acks(&mut self, now: Now) {
        let mut at = 0;
        while at < self.acks.len() {
            match self.standing(&self.acks[at]) {
                Standing::Given => {
                    let given = self.acks.remove(at);
                    let keepers = self.keepers_of(&given);
                    let receipts = given.receipts;
                    let published = Published { receipts, keepers };
                    self.reply(given.request, Reply::Published(Ok(published)));
                }
                Standing::Open { got, need } if self.acks[at].until <= now.time => {
                    let late = self.acks.remove(at);
                    let ack = late.ack;
                    let error = PublishError::Unacknowledged { ack, got, need };
                    self.reply(late.request, Reply::Published(Err(error)));
                }
                Standing::Open { .. } => {
                    self.ask_for_ack(at, now);
                    at += 1;
                }
            }
        }
    }

    fn standing(&self, waits: &Unacknowledged) -> Standing {
        let open = |got| Standing::Open { got, need: 1 };
        let entry = self.swarms.get(&waits.topic);
        match waits.ack {
            Ack::Sent => Standing::Given,
            Ack::Local if self.logs.is_written(waits.ticket) => Standing::Given,
            Ack::Local => open(0),
            Ack::Link => {
                let id = self.own_stream();
                let reached = entry.map_or(0, |entry| entry.swarm.furthest(id));
                match waits.seqs().last() {
                    Some(last) if reached < last => open(0),
                    _ => Standing::Given,
                }
            }
            Ack::Keepers => {
                let got = waits.keepers.len() + usize::from(self.keeps_own(waits));
                let Some(entry) = entry.filter(|entry| entry.rendezvous.is_over()) else {
                    let need = KEEPERS / 2 + 1;
                    return Standing::Open { got, need };
                };
                let keepers = entry.rendezvous.keepers.len() + usize::from(entry.keeps);
                // Keepers that are lost sight of are still needed, as long as others could take their place.
                let need = (keepers.min(KEEPERS) / 2 + 1).max(waits.need);
                match got >= need {
                    true => Standing::Given,
                    false => Standing::Open { got, need },
                }
            }
        }
    }

    /// Returns the keepers that have a publish's messages on disk, this node among them if it is one.
    fn keepers_of(&self, waits: &Unacknowledged) -> Vec<PeerId> {
        let own = self.keeps_own(waits).then_some(self.me);
        waits.keepers.iter().copied().chain(own).collect()
    }

    /// Whether this node has a publish's messages on disk as one of the topic's keepers.
    fn keeps_own(&self, waits: &Unacknowledged) -> bool {
        let keeps = self.swarms.get(&waits.topic).is_some_and(|it| it.keeps);
        let first = waits.receipts.first().map_or(1, |receipt| receipt.seq);
        keeps
            && waits.ack == Ack::Keepers
            && self.logs.is_written(waits.ticket)
            && !self.logs.lacks(waits.topic, self.own_stream(), first)
    }

    fn own_stream(&self) -> StreamId<PeerId> {
        StreamId {
            publisher: self.me,
            epoch: self.epoch,
        }
    }

    /// Returns how many keepers are most of those that there should be, by who is near and stores things.
    pub(super) fn keepers_needed(&self, topic: TopicId, now: Now) -> usize {
        let others = self.near(super::rendezvous::point_of(topic), now).len();
        let able = others + usize::from(self.roles.stores);
        able.min(KEEPERS) / 2 + 1
    }

    /// Asks the keepers that have not said yes.
    fn ask_for_ack(&mut self, at: usize, now: Now) {
        let stream = self.own_stream();
        let waits = &self.acks[at];
        if waits.ack != Ack::Keepers || waits.ask_at > now.time {
            return;
        }
        let need = self.keepers_needed(waits.topic, now);
        let waits = &mut self.acks[at];
        waits.need = need;
        waits.ask_at = now.time + ASKED_EVERY;
        let (request, topic, seqs) = (waits.request, waits.topic, waits.seqs());
        let Some(entry) = self.swarms.get(&topic) else {
            return;
        };
        let keepers = entry.rendezvous.keepers.keys().copied();
        let silent: Vec<PeerId> = keepers
            .filter(|it| !waits.keepers.contains(it) && !waits.unanswered.contains_key(it))
            .collect();
        for keeper in &silent {
            waits.unanswered.insert(*keeper, 1);
        }
        let query = Query::Confirm {
            topic,
            stream,
            seqs,
        };
        for keeper in silent {
            self.ask_keeper(keeper, None, What::Confirm(request), &query, now);
        }
    }

    /// A keeper says whether it has a publish's messages.
    pub(super) fn confirmed(
        &mut self,
        request: RequestId,
        peer: PeerId,
        (durable, held): (bool, bool),
        now: Now,
    ) {
        let Some(waits) = self.acks.iter_mut().find(|it| it.request == request) else {
            return;
        };
        if durable {
            waits.keepers.insert(peer);
        }
        waits.answered(peer);
        if !held {
            let (topic, seqs) = (waits.topic, waits.seqs());
            self.hand_over(topic, &seqs, peer, Some(request), now);
        }
    }

    fn unacknowledged(&mut self, publish: Option<RequestId>) -> Option<&mut Unacknowledged> {
        let mut waits = self.acks.iter_mut();
        waits.find(|it| publish == Some(it.request))
    }

    /// A question or bundle of a publish that waits, if any does, has been answered or given up.
    pub(super) fn hand_over_ended(&mut self, request: Option<RequestId>, peer: PeerId) {
        if let Some(waits) = self.unacknowledged(request) {
            waits.answered(peer);
        }
    }

    /// Gives a keeper what it lacks of this node's own messages, perhaps for a publish that waits.
    pub(super) fn hand_over(
        &mut self,
        topic: TopicId,
        seqs: &Seqs,
        to: PeerId,
        publish: Option<RequestId>,
        now: Now,
    ) {
        let id = self.own_stream();
        let Some(entry) = self.swarms.get(&topic) else {
            return;
        };
        let name = entry.name.clone();
        let bundles: Vec<_> = super::keepers::held_of(entry, id, seqs).cloned().collect();
        let count = bundles.len();
        for bundle in bundles {
            let query = Query::Hand {
                topic: name.clone(),
                bundle,
            };
            // It is asked again whether it has all of them.
            self.ask_keeper(to, None, What::Handed(publish), &query, now);
        }
        if let Some(waits) = self.unacknowledged(publish).filter(|_| count > 0) {
            *waits.unanswered.entry(to).or_default() += count;
        }
    }

    /// A write has ended: whoever waited for it and can't get it is told at once.
    pub(super) fn refuse_unwritten(&mut self, written: &Written) {
        let Err(error) = written.result else {
            return;
        };
        let lost = |it: &mut Unacknowledged| it.ack == Ack::Local && it.ticket <= written.upto;
        let lost: Vec<Unacknowledged> = self.acks.extract_if(.., lost).collect();
        let full = error == DiskError::Full;
        for Unacknowledged { request, .. } in lost {
            let error = PublishError::NotWritten { full };
            self.reply(request, Reply::Published(Err(error)));
        }
    }

    pub(super) fn forget_ack(&mut self, request: RequestId) {
        self.acks.retain(|waits| waits.request != request);
    }

    /// Answers everybody who waits, since this node stops: what is published is published.
    pub(super) fn end_acks(&mut self, now: Now) {
        for waits in &mut self.acks {
            waits.until = now.time;
        }
        self.check_acks(now);
    }
}
