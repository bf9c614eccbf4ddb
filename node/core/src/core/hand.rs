//! Publishing by hand: a node that is no member of a topic gives its bundles to the topic's keepers, who spread them.
//!
//! One bundle after the other, so that keepers get them in their order; each goes to all keepers at once, and is signed when its
//! turn comes, so that a publish that fails half-way has taken no seqs for what never left. A node that should keep the topic
//! itself becomes a member and publishes as one.
//!
//! Who keeps the topic is first taken from what is known. Where one of these says no or nothing, and the table can't hold everybody, the
//! keepers are looked up in the network.

mod unspread;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weft_dht::Peer as _;
use weft_dht::table::K;
use weft_identity::PeerId;
use weft_overlay::{Bundle, Now, Time};

pub(super) use unspread::Unspread;

use super::Core;
use super::asking::What;
use super::rendezvous::point_of;
use crate::input::Ack;
use crate::keeping::{Answer, KEEPERS, MET, Query};
use crate::{
    Message, PeerContact, PublishError, Published, Receipt, Reply, RequestId, TopicBundle, TopicId,
    TopicName,
};

/// How long a bundle may take to be acknowledged, as one that a member publishes.
const HANDED_WITHIN: Duration = Duration::from_secs(10);
/// How often a bundle is given again to keepers that don't have it on disk yet.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the lookup of a topic's keepers is waited for before the others that are known are asked.
const LOOKED_UP_WITHIN: Duration = Duration::from_secs(3);
/// Publishes by hand at once: each has a caller who waits, and bundles of at most its batch.
const HANDING_MAX: usize = 256;

/// Whether a publish has looked for the topic's keepers in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// What is known has been good enough so far.
    Unneeded,
    /// Until then nobody is asked who has not been.
    Awaited(Time),
    Over,
}

/// A publish that is being handed to keepers.
#[derive(Debug)]
pub(super) struct Handing {
    name: TopicName,
    ack: Ack,
    receipts: Vec<Receipt>,
    /// What isn't signed yet, a bundle each.
    parts: VecDeque<Vec<Message>>,
    /// What is: first those that a failed publish has left.
    bundles: Vec<TopicBundle>,
    /// The bundle that is under way; past the last, keepers get what they lack of those before.
    at: usize,
    /// Who may keep the topic, the closest first, as far as they haven't said no or nothing.
    targets: Vec<PeerContact>,
    /// Who has been asked.
    asked: BTreeSet<PeerId>,
    /// Who has said that it doesn't keep the topic.
    refused: BTreeSet<PeerId>,
    lookup: Lookup,
    /// How many must have it on disk, by who is near: as for a member's publish, those that don't answer count.
    need: usize,
    /// Which bundles a peer has, and which on disk.
    held: BTreeMap<PeerId, BTreeSet<usize>>,
    durable: BTreeMap<PeerId, BTreeSet<usize>>,
    /// Which bundles are on their way to a peer, and need not be sent again: they are answered or given up.
    unanswered: BTreeSet<(PeerId, usize)>,
    subscribed: usize,
    ask_at: Time,
    until: Time,
}

impl Handing {
    /// Returns how many of those that may keep the topic have what is waited for, and how many must.
    fn standing(&self) -> (usize, usize) {
        let (have, need) = match self.ack {
            Ack::Sent => (&self.held, 1),
            Ack::Local | Ack::Link | Ack::Keepers => (&self.durable, self.need),
        };
        let is_enough = |has: &&BTreeSet<usize>| match self.at < self.bundles.len() {
            true => has.contains(&self.at),
            false => has.len() == self.bundles.len(),
        };
        let targets = self.targets.iter().map(super::peer_of);
        let have = targets.filter_map(|peer| have.get(&peer));
        (have.filter(is_enough).count(), need)
    }

    fn is_awaiting(&self) -> bool {
        matches!(self.lookup, Lookup::Awaited(_))
    }

    /// Returns who is asked now.
    fn asks(&self) -> impl Iterator<Item = &PeerContact> {
        let first = self.targets.iter().take(KEEPERS);
        first.filter(|it| !self.is_awaiting() || self.asked.contains(&super::peer_of(it)))
    }

    /// Returns which bundles a peer is to be given now.
    fn lacking(&self, peer: PeerId) -> Vec<usize> {
        let durable = self.durable.get(&peer);
        let lacks = |at: &usize| durable.is_none_or(|durable| !durable.contains(at));
        match self.at < self.bundles.len() {
            true => [self.at].into_iter().filter(lacks).collect(),
            false => (0..self.bundles.len()).filter(lacks).collect(),
        }
    }
}

impl Core {
    /// Publishes through a topic's keepers alone.
    pub(super) fn publish_by_hand(
        &mut self,
        request: RequestId,
        name: TopicName,
        messages: &[Message],
        ack: Ack,
        now: Now,
    ) {
        let topic = name.id(&self.network);
        let mut targets = self.near(point_of(topic), now);
        targets.extend(self.seen_closest(topic, now));
        close_in(&mut targets, topic);
        let error = if targets.is_empty() {
            Some(PublishError::NoKeepers)
        } else if self.handing.len() >= HANDING_MAX || !self.may_publish_on(&name) {
            Some(PublishError::Busy)
        } else {
            None
        };
        if let Some(error) = error {
            return self.reply(request, Reply::Published(Err(error)));
        }
        let handing = Handing {
            name,
            ack,
            receipts: Vec::with_capacity(messages.len()),
            parts: parts(messages).into_iter().map(<[_]>::to_vec).collect(),
            bundles: self.unspread.take(topic, now),
            at: 0,
            targets,
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            lookup: Lookup::Unneeded,
            need: self.keepers_needed(topic, now),
            held: BTreeMap::new(),
            durable: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            subscribed: 0,
            ask_at: now.time,
            until: now.time + HANDED_WITHIN,
        };
        self.handing.insert(request, handing);
        self.hand_on(request, now);
    }

    /// Signs what is next of a publish; not before all is signed of those before it on its topic, so that seqs follow the calls.
    /// Returns whether it did.
    fn sign_next(&mut self, request: RequestId, now: Now) -> bool {
        let Some(handing) = self.handing.get(&request) else {
            return false;
        };
        let name = handing.name.clone();
        let mut before = self.handing.range(..request);
        let waits = before.any(|(_, other)| other.name == name && !other.parts.is_empty());
        let Some(handing) = self.handing.get_mut(&request) else {
            return false;
        };
        if waits {
            // It is woken.
            (handing.ask_at, handing.until) = (Time::NEVER, Time::NEVER);
            return false;
        }
        let Some(part) = handing.parts.pop_front() else {
            return false;
        };
        let is_last = handing.parts.is_empty();
        let bundle = self.next_bundle(name.id(&self.network), &name, &part, now);
        let header = bundle.header();
        if let Some(handing) = self.handing.get_mut(&request) {
            let seqs = header.first..=header.last;
            handing.receipts.extend(seqs.map(|seq| Receipt {
                epoch: self.epoch,
                seq,
                eager: 0,
                lazy: 0,
                subscribers_known: 0,
            }));
            handing.bundles.push(bundle);
            handing.ask_at = now.time;
            handing.until = now.time + HANDED_WITHIN;
        }
        if is_last {
            self.wake_handing(&name, now);
        }
        true
    }

    /// Those that wait for their turn on a topic look whether it has come.
    fn wake_handing(&mut self, name: &TopicName, now: Now) {
        for handing in self.handing.values_mut() {
            if handing.name == *name && handing.until == Time::NEVER {
                handing.ask_at = now.time;
            }
        }
    }

    /// A publish has failed: what nobody is known to have of it comes with the next one.
    fn handing_failed(&mut self, request: RequestId, (got, need): (usize, usize), now: Now) {
        let Some(handing) = self.handing.remove(&request) else {
            return;
        };
        let topic = handing.name.id(&self.network);
        for (at, bundle) in handing.bundles.into_iter().enumerate() {
            let mut held = handing.held.values().chain(handing.durable.values());
            if !held.any(|held| held.contains(&at)) {
                self.unspread.push(topic, bundle);
            }
        }
        self.wake_handing(&handing.name, now);
        let ack = Ack::Keepers;
        let error = PublishError::Unacknowledged { ack, got, need };
        self.reply(request, Reply::Published(Err(error)));
    }

    pub(super) fn next_handing_tick(&self) -> Time {
        let handing = self.handing.values();
        let ticks = handing.map(|it| it.ask_at.min(it.until));
        ticks.min().unwrap_or(Time::NEVER)
    }

    pub(super) fn tick_handing(&mut self, now: Now) {
        let due = |it: &&Handing| it.ask_at.min(it.until) <= now.time;
        let handing = self.handing.iter().filter(|(_, it)| due(it));
        let requests: Vec<RequestId> = handing.map(|(request, _)| *request).collect();
        for request in requests {
            self.hand_on(request, now);
        }
    }

    /// Goes on with a publish as far as it can.
    fn hand_on(&mut self, request: RequestId, now: Now) {
        loop {
            let Some(handing) = self.handing.get_mut(&request) else {
                return;
            };
            if handing.at >= handing.bundles.len() && !handing.parts.is_empty() {
                match self.sign_next(request, now) {
                    true => continue,
                    false => return,
                }
            }
            let (got, need) = handing.standing();
            if got >= need || handing.ack == Ack::Sent && handing.at >= handing.bundles.len() {
                if handing.at >= handing.bundles.len() {
                    return self.handed_over(request);
                }
                handing.at += 1;
                handing.ask_at = now.time;
                handing.until = now.time + HANDED_WITHIN;
                continue;
            }
            if let Lookup::Awaited(until) = handing.lookup
                && until <= now.time
            {
                handing.lookup = Lookup::Over;
            }
            let is_hopeless = handing.targets.is_empty() && !handing.is_awaiting();
            if is_hopeless || handing.until <= now.time {
                return self.handing_failed(request, (got, need), now);
            }
            if handing.ask_at > now.time {
                return;
            }
            handing.ask_at = now.time + AGAIN;
            let topic = handing.name.id(&self.network);
            let need = self.keepers_needed(topic, now);
            let Some(handing) = self.handing.get_mut(&request) else {
                return;
            };
            handing.need = need;
            let keepers: Vec<PeerContact> = handing.asks().cloned().collect();
            let mut asks = Vec::new();
            for keeper in keepers {
                let peer = super::peer_of(&keeper);
                handing.asked.insert(peer);
                for at in handing.lacking(peer) {
                    if !handing.unanswered.insert((peer, at)) {
                        continue;
                    }
                    let query = Query::Hand {
                        topic: handing.name.clone(),
                        bundle: handing.bundles[at].clone(),
                    };
                    asks.push((keeper.clone(), at, query));
                }
            }
            for (keeper, at, query) in asks {
                let to = super::peer_of(&keeper);
                self.ask_keeper(to, Some(&keeper), What::Hand(request, at), &query, now);
            }
        }
    }

    /// A keeper has answered; none where it won't, or doesn't keep the topic.
    pub(super) fn hand_answered(
        &mut self,
        (request, at): (RequestId, usize),
        peer: PeerId,
        answer: Option<&Answer>,
        now: Now,
    ) {
        let Some(handing) = self.handing.get_mut(&request) else {
            return;
        };
        handing.unanswered.remove(&(peer, at));
        if let Some(Answer::Confirmed {
            durable,
            held,
            subscribed,
        }) = answer
        {
            if *held {
                handing.held.entry(peer).or_default().insert(at);
            }
            if *durable {
                handing.durable.entry(peer).or_default().insert(at);
            }
            let subscribed = usize::try_from(*subscribed).unwrap_or(usize::MAX);
            handing.subscribed = handing.subscribed.max(subscribed);
        } else {
            // The next closest may keep it, or others of whom nothing is known here.
            handing.targets.retain(|it| super::peer_of(it) != peer);
            handing.ask_at = now.time;
            if answer.is_some() {
                handing.refused.insert(peer);
            }
            let topic = handing.name.id(&self.network);
            let is_looked_up = handing.lookup != Lookup::Unneeded;
            self.unsee(peer);
            if !is_looked_up && self.table().len() > K {
                self.await_keepers(request, topic, now);
            }
        }
        self.hand_on(request, now);
    }

    /// A keeper's link was closed, perhaps under what it was given: it is given that again.
    pub(super) fn hand_unlinked(&mut self, (request, at): (RequestId, usize), peer: PeerId) {
        if let Some(handing) = self.handing.get_mut(&request) {
            handing.unanswered.remove(&(peer, at));
        }
    }

    fn await_keepers(&mut self, request: RequestId, topic: TopicId, now: Now) {
        if let Some(handing) = self.handing.get_mut(&request) {
            handing.lookup = Lookup::Awaited(now.time + LOOKED_UP_WITHIN);
            self.look_up_for_hand(topic, now);
        }
    }

    /// Returns whether a publish waits until a topic's keepers are found.
    pub(super) fn hands_on(&self, topic: TopicId) -> bool {
        let mut handing = self.handing.values();
        handing.any(|it| it.is_awaiting() && it.name.id(&self.network) == topic)
    }

    /// The closest to a topic's point are found; none where nobody could look.
    pub(super) fn hand_found(&mut self, topic: TopicId, closest: &[PeerContact], now: Now) {
        let mut waiting = Vec::new();
        for (request, handing) in &mut self.handing {
            if !handing.is_awaiting() || handing.name.id(&self.network) != topic {
                continue;
            }
            handing.lookup = Lookup::Over;
            handing.ask_at = now.time;
            // They have just answered, from where they are now.
            let refused = &handing.refused;
            let mut targets: Vec<PeerContact> = closest.to_vec();
            targets.retain(|contact| !refused.contains(&super::peer_of(contact)));
            targets.append(&mut handing.targets);
            close_in(&mut targets, topic);
            handing.targets = targets;
            waiting.push(*request);
        }
        for request in waiting {
            self.hand_on(request, now);
        }
    }

    fn handed_over(&mut self, request: RequestId) {
        let Some(handing) = self.handing.remove(&request) else {
            return;
        };
        let mut receipts = handing.receipts;
        for receipt in &mut receipts {
            receipt.subscribers_known = handing.subscribed;
        }
        let has_all = |durable: &BTreeSet<usize>| durable.len() == handing.bundles.len();
        let keepers = handing.durable.into_iter();
        let keepers = keepers.filter(|(_, durable)| has_all(durable));
        let keepers = keepers.map(|(keeper, _)| keeper).collect();
        let published = Published { receipts, keepers };
        self.reply(request, Reply::Published(Ok(published)));
    }

    /// Answers everybody who waits, since this node stops.
    pub(super) fn end_handing(&mut self) {
        for (request, handing) in std::mem::take(&mut self.handing) {
            let (got, need) = handing.standing();
            let ack = Ack::Keepers;
            let error = PublishError::Unacknowledged { ack, got, need };
            self.reply(request, Reply::Published(Err(error)));
        }
    }

    /// What nobody has of a member's messages since it has no neighbour goes to the keepers that it knows.
    pub(super) fn hand_to_keepers(&mut self, topic: TopicId, receipt: &Receipt, now: Now) {
        let Some(entry) = self.swarms.get(&topic) else {
            return;
        };
        let keepers: Vec<PeerId> = entry.rendezvous.keepers.keys().copied().collect();
        let last = receipt.seq;
        let seqs = weft_overlay::Seqs::range(last, last);
        for keeper in keepers {
            self.hand_over(topic, &seqs, keeper, None, now);
        }
    }
}

/// Leaves those closest to a topic's point, the closest first.
fn close_in(contacts: &mut Vec<PeerContact>, topic: TopicId) {
    let point = point_of(topic);
    contacts.sort_by_key(|contact| super::peer_of(contact).point() ^ point);
    contacts.dedup_by_key(|contact| super::peer_of(contact));
    contacts.truncate(MET);
}

/// Divides messages into what fits a bundle each, in order.
fn parts(messages: &[Message]) -> Vec<&[Message]> {
    let (mut parts, mut rest) = (Vec::new(), messages);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().enumerate().take_while(|(at, message)| {
            bytes += message.bytes();
            crate::bundle::fits(at + 1, bytes)
        });
        let (part, others) = rest.split_at(fitting.count().max(1));
        parts.push(part);
        rest = others;
    }
    parts
}
