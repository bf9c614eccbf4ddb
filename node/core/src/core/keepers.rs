//! Keeping topics: what a node does for topics whose point it is close to.
//!
//! A keeper is a member of the topic's swarm that begins with all that its neighbours hold and takes over what the keepers before
//! it had ([`super::exchange`]). It holds the topic's history for whoever comes later, tells members of each other, and spreads
//! what publishers hand to it that are no members themselves. It ceases when as many others that are closer have taken over.

use std::time::Duration;

use rand::RngExt;
use weft_identity::PeerId;
use weft_overlay::digest::STREAMS_PER_FRAME_MAX;
use weft_overlay::plumtree::Start;
use weft_overlay::{Bundle, Now, Seqs, StreamId, Time, swarm};

use super::Core;
use super::journal::Ticket;
use super::shared::affinity;
use super::swarms::Entry;
use crate::keeping::{
    Answer, FETCH_STREAMS_MAX, FETCHED_BYTES, FETCHED_MAX, Fetched, KEEPERS, Meeting, Message,
    Query,
};
use crate::wire::membership::Membership;
use crate::wire::{CONTACTS_MAX, encode_topics};
use crate::{PeerContact, TopicBundle, TopicId, TopicName};

/// Members of one topic that an answer names: a view's worth. Of them this many are the asker's own, as [`affinity`] has it.
const MEMBERS_TOLD: usize = 8;
const MEMBERS_OF_ITS_OWN: usize = 5;
/// How often it is looked whether topics are still to be kept, and whether messages are missing for which keepers can be asked: some
/// times before a gap is told.
const LOOKS_EVERY: Duration = Duration::from_secs(3);
/// Topics that are kept for others alone: half of what a node may be a member of stays free for its own use.
const KEPT_FOR_OTHERS_MAX: usize = super::topics::MEMBER_OF_MAX / 2;
/// Who is subscribed to more topics than this displaces none that is kept: to look for one costs a walk through all of them.
const FEW_TOPICS: usize = 64;
/// How long after its start a node takes up the topics of its run before: by then it knows who is near.
const RESUMES_AFTER: Duration = Duration::from_secs(3);
/// How long a publisher waits here for its messages to come along the trees and to be written: then it is told how things stand.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(400);
/// Publishers that wait at once, and questions of one of them: each is one frame, and is asked again.
const CONFIRMING_MAX: usize = 1_024;
const CONFIRMING_OF_PEER_MAX: usize = 128;

/// A publisher that waits to hear that its messages are on disk.
#[derive(Debug)]
struct Confirming {
    peer: PeerId,
    request: u64,
    topic: TopicId,
    stream: StreamId<PeerId>,
    seqs: Seqs,
    /// Once they are here: what must be written for them to be on disk.
    ticket: Option<Ticket>,
    until: Time,
}

/// What keeping topics takes of a node's state.
#[derive(Debug)]
pub(super) struct Keeping {
    looks_at: Time,
    /// Whether anything has come or been written since those who wait were last looked at.
    is_news: bool,
    /// When topics of the run before are taken up again.
    resumes_at: Time,
    /// Publishers that wait, whoever has waited longest first.
    confirming: Vec<Confirming>,
}

impl Keeping {
    pub(super) fn new(now: Now) -> Self {
        Self {
            looks_at: now.time,
            is_news: false,
            resumes_at: now.time + RESUMES_AFTER,
            confirming: Vec::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let confirming = self.confirming.first().map(|asked| asked.until);
        let looks_at = self.looks_at.min(self.resumes_at);
        looks_at.min(confirming.unwrap_or(Time::NEVER))
    }
}

impl Core {
    /// Something has come, or is on disk: publishers may wait for that.
    pub(super) const fn note_news(&mut self) {
        self.keeping.is_news = true;
    }

    pub(super) fn keeper_asked(&mut self, peer: PeerId, request: u64, query: Query, now: Now) {
        if self.stopping {
            return;
        }
        let answer = match query {
            Query::Meet(membership) => self.meeting(peer, membership, now),
            Query::Digests { topic, after } => self.digests_of(topic, after, now),
            Query::Fetch { topic, streams } => match self.has_room_for_supplies(peer) {
                true => self.fetched(topic, streams),
                // It asks again; until then what it has asked for is on its way.
                false => return self.count("topic_fetches_left_out"),
            },
            Query::Confirm {
                topic,
                stream,
                seqs,
            } => return self.confirm(peer, request, topic, stream, seqs, now),
            Query::Hand { topic, bundle } => {
                return self.handed(peer, request, &topic, bundle, now);
            }
        };
        self.answer_member(peer, request, answer);
    }

    fn answer_member(&mut self, peer: PeerId, request: u64, answer: Answer) {
        let frame = encode_topics(request, &Message::Answer(answer));
        self.send_to_keeper(peer, frame);
    }

    // What publishers want to know of, and hand over.

    /// A publisher asks whether its messages are on disk here.
    fn confirm(
        &mut self,
        peer: PeerId,
        request: u64,
        topic: TopicId,
        stream: StreamId<PeerId>,
        seqs: Seqs,
        now: Now,
    ) {
        let waiting = &self.keeping.confirming;
        let of_peer = waiting.iter().filter(|asked| asked.peer == peer).count();
        if waiting.len() >= CONFIRMING_MAX || of_peer >= CONFIRMING_OF_PEER_MAX {
            return self.count("topic_confirmations_left_out");
        }
        self.keeping.confirming.push(Confirming {
            peer,
            request,
            topic,
            stream,
            seqs,
            ticket: None,
            until: now.time + CONFIRMED_WITHIN,
        });
        self.keeping.is_news = true;
    }

    /// Somebody who need not be a member publishes a bundle through this keeper.
    fn handed(
        &mut self,
        peer: PeerId,
        request: u64,
        name: &TopicName,
        bundle: TopicBundle,
        now: Now,
    ) {
        let topic = name.id(&self.network);
        if self.is_keeper_of(topic, now) {
            self.keep_named(name, now);
        }
        if self.swarms.get(&topic).is_none_or(|entry| !entry.keeps) {
            return self.answer_member(peer, request, Answer::Unable);
        }
        let header = bundle.header();
        let from = peer;
        self.tell_swarm(topic, swarm::Input::Fetched { from, bundle }, now);
        let seqs = Seqs::range(header.first, header.last);
        self.confirm(peer, request, topic, header.stream, seqs, now);
    }

    /// Answers publishers whose messages are on disk by now, or won't be in time.
    pub(super) fn check_confirming(&mut self, now: Now) {
        let waiting = self.keeping.confirming.first();
        let is_late = waiting.is_some_and(|asked| asked.until <= now.time);
        // This follows every input; what decides is what came or was written.
        if !std::mem::take(&mut self.keeping.is_news) && !is_late {
            return;
        }
        let mut at = 0;
        while at < self.keeping.confirming.len() {
            let asked = &mut self.keeping.confirming[at];
            let entry = self.swarms.get(&asked.topic).filter(|entry| entry.keeps);
            let is_held = entry.is_some_and(|entry| has(entry, asked.stream, &asked.seqs));
            if is_held && asked.ticket.is_none() {
                asked.ticket = Some(self.logs.ticket());
            }
            let first = asked.seqs.first().unwrap_or(1);
            let durable = asked.ticket.is_some_and(|it| self.logs.is_written(it))
                && !self.logs.lacks(asked.topic, asked.stream, first);
            if !durable && entry.is_some() && now.time < asked.until {
                at += 1;
                continue;
            }
            let Confirming {
                peer,
                request,
                topic,
                ..
            } = self.keeping.confirming.remove(at);
            let answer = self.swarms.get(&topic).map_or(Answer::Unable, |entry| {
                let here = usize::from(entry.subscriptions > 0);
                let subscribed = self.members.subscribed(&entry.name, now.time) + here;
                Answer::Confirmed {
                    durable,
                    held: is_held,
                    subscribed: u32::try_from(subscribed).unwrap_or(u32::MAX),
                }
            });
            self.answer_member(peer, request, answer);
        }
    }

    // Meetings.

    /// A member says in which topics it is one.
    fn meeting(&mut self, peer: PeerId, membership: Membership, now: Now) -> Answer {
        let names: Vec<TopicName> = membership.topics.iter().map(|it| it.name.clone()).collect();
        self.take_membership(peer, membership, now);
        for name in &names {
            let topic = name.id(&self.network);
            if self.is_keeper_of(topic, now) {
                self.keep_named(name, now);
            }
        }
        let mut topics: Vec<Meeting> = names.iter().map(|name| self.stands_to(name, now)).collect();
        let mut contacts = Vec::new();
        let mut members: Vec<Vec<PeerContact>> = names
            .iter()
            .map(|name| {
                let mut members = self.members.contacts_of(name, now);
                members.retain(|contact| super::peer_of(contact) != peer);
                // The asker's own come last.
                if let Some(at) = members.len().checked_sub(MEMBERS_OF_ITS_OWN + 1) {
                    let of_it = |it: &PeerContact| affinity(peer, super::peer_of(it));
                    members.select_nth_unstable_by_key(at, of_it);
                }
                members
            })
            .collect();
        // First its own in all topics: where it is in many, they are the same ones, and one link serves all of these.
        for (meeting, members) in topics.iter_mut().zip(&mut members) {
            while meeting.contacts.len() < MEMBERS_OF_ITS_OWN
                && let Some(member) = members.pop()
            {
                name_member(meeting, member, &mut contacts);
            }
        }
        // Then others, so that each asker gets to know any, and an old one that can't be reached is not all that it gets.
        for (meeting, members) in topics.iter_mut().zip(&mut members) {
            while meeting.contacts.len() < MEMBERS_TOLD && !members.is_empty() {
                let member = members.swap_remove(self.rng.random_range(0..members.len()));
                name_member(meeting, member, &mut contacts);
            }
        }
        Answer::Met { topics, contacts }
    }

    /// Returns how this node stands to a topic.
    fn stands_to(&self, name: &TopicName, now: Now) -> Meeting {
        let topic = name.id(&self.network);
        let others = self.members.subscribed(name, now.time);
        let own = self.swarms.get(&topic);
        let subscribed = others + usize::from(own.is_some_and(|entry| entry.subscriptions > 0));
        Meeting {
            keeps: own.is_some_and(|entry| entry.keeps),
            filled: own.is_some_and(Entry::is_filled),
            based: own.is_some_and(|entry| entry.swarm.has_base()),
            subscribed: u32::try_from(subscribed).unwrap_or(u32::MAX),
            contacts: Vec::new(),
        }
    }

    /// Keeps a topic of which this node may be no member yet.
    pub(super) fn keep_named(&mut self, name: &TopicName, now: Now) {
        let topic = name.id(&self.network);
        if !self.swarms.contains_key(&topic) {
            if !self.has_room_to_keep(name, now) {
                return self.count("topics_not_kept");
            }
            self.open_swarm(name.clone(), Start::Retained, now);
        }
        self.keep(topic, now);
    }

    /// Whether one more topic may be kept. Where there are too many, one makes room in which nothing was published, and whose subscribers
    /// all have more topics than one of the newcomer's: who fills a keeper with topics loses them to those who have few.
    fn has_room_to_keep(&mut self, name: &TopicName, now: Now) -> bool {
        let is_for_others = |it: &Entry| it.keeps && it.subscriptions == 0;
        let for_others = self.swarms.iter().filter(|(_, it)| is_for_others(it));
        if for_others.clone().count() < KEPT_FOR_OTHERS_MAX && self.has_room_for_topics() {
            return true;
        }
        let share = self.members.least_share_in(name);
        if share > FEW_TOPICS {
            return false;
        }
        let is_idle = |it: &Entry| it.history_bytes == 0 && it.publishing.is_idle();
        let idle = for_others.filter(|(_, it)| is_idle(it));
        let shares = idle.map(|(topic, it)| (self.members.least_share_in(&it.name), *topic));
        let Some((_, topic)) = shares.max().filter(|(most, _)| *most > share) else {
            return false;
        };
        self.leave_topic(topic, now);
        self.count("kept_topics_displaced");
        true
    }

    /// Keeps a topic of which this node is a member.
    pub(super) fn keep(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        if !std::mem::replace(&mut entry.keeps, true) {
            entry.used_at = now.time;
            self.record_topic(topic, now);
            self.meet_soon(topic, now);
        }
    }

    /// Takes up topics of the run before: those that are to be kept, and those of which this node has published something that
    /// perhaps nobody else has.
    fn resume_topics(&mut self, now: Now) {
        for (name, has_own) in self.logs_at_rest() {
            if self.is_keeper_of(name.id(&self.network), now) {
                self.keep_named(&name, now);
            } else if has_own {
                self.join_topic(&name, now);
            }
        }
    }

    pub(super) fn tick_keeping(&mut self, now: Now) {
        if self.keeping.resumes_at <= now.time {
            self.keeping.resumes_at = Time::NEVER;
            self.resume_topics(now);
        }
        if self.keeping.looks_at > now.time {
            return;
        }
        self.keeping.looks_at = now.time + LOOKS_EVERY;
        let kept: Vec<TopicId> = self
            .swarms
            .iter()
            .filter(|(_, entry)| entry.keeps)
            .map(|(topic, _)| *topic)
            .collect();
        for topic in self.swarms.keys().copied().collect::<Vec<_>>() {
            self.exchange_if_due(topic, now);
        }
        for topic in kept {
            if !self.must_keep(topic, now)
                && let Some(entry) = self.swarms.get_mut(&topic)
            {
                // It leaves the swarm like any other member that has no use for it any more.
                entry.keeps = false;
                entry.used_at = now.time;
            }
        }
    }

    fn must_keep(&self, topic: TopicId, now: Now) -> bool {
        let Some(entry) = self.swarms.get(&topic) else {
            return false;
        };
        if !self.is_of_use(topic, now) {
            return false;
        }
        // Others have taken over only once they have all that this node has.
        let keepers = entry.rendezvous.keepers.values();
        let taken_over = keepers.filter(|known| known.filled).count() >= KEEPERS;
        !taken_over || self.is_keeper_of(topic, now)
    }

    // History.

    fn digests_of(&self, topic: TopicId, after: Option<StreamId<PeerId>>, now: Now) -> Answer {
        let Some(entry) = self.swarms.get(&topic).filter(|entry| entry.keeps) else {
            return Answer::Unable;
        };
        let history = entry.swarm.history();
        let mut ids = history
            .streams()
            .filter(|id| after.is_none_or(|after| *id > after))
            .peekable();
        let mut streams = Vec::new();
        while streams.len() < STREAMS_PER_FRAME_MAX
            && let Some(id) = ids.next()
        {
            streams.extend(history.digest(id, now.time));
        }
        Answer::Digests {
            more: ids.peek().is_some(),
            streams,
        }
    }

    fn fetched(&self, topic: TopicId, streams: Vec<(StreamId<PeerId>, Seqs)>) -> Answer {
        let Some(entry) = self.swarms.get(&topic).filter(|entry| entry.keeps) else {
            return Answer::Unable;
        };
        let (mut bundles, mut bytes) = (Vec::new(), 0);
        'streams: for (id, seqs) in streams.into_iter().take(FETCH_STREAMS_MAX) {
            for bundle in held_of(entry, id, &seqs) {
                if bytes >= FETCHED_BYTES || bundles.len() >= FETCHED_MAX {
                    break 'streams;
                }
                bytes += bundle.cost_bytes();
                bundles.push(Fetched(bundle.clone()));
            }
        }
        Answer::Fetched { topic, bundles }
    }
}

impl Entry {
    /// Whether it is kept, and nothing is known that a keeper before this node has and it lacks.
    pub(super) fn is_filled(&self) -> bool {
        self.keeps
            && self.rendezvous.is_over()
            && self.swarm.has_base()
            && self.rendezvous.all_exchanged()
    }
}

/// Adds a member to those that an answer names for a topic, unless it holds as many contacts as it may.
fn name_member(meeting: &mut Meeting, member: PeerContact, contacts: &mut Vec<PeerContact>) {
    let peer = super::peer_of(&member);
    let known = contacts.iter().position(|it| super::peer_of(it) == peer);
    let place = match known {
        Some(place) => place,
        None if contacts.len() < CONTACTS_MAX => {
            contacts.push(member);
            contacts.len() - 1
        }
        None => return,
    };
    meeting.contacts.extend(u32::try_from(place));
}

/// Returns whether a member holds all of these messages.
fn has(entry: &Entry, id: StreamId<PeerId>, seqs: &Seqs) -> bool {
    let seen = entry.swarm.history().seen(id);
    if seqs.is_empty() || seen.is_none_or(|seen| !seqs.difference(seen).is_empty()) {
        return false;
    }
    // What was seen may have been written off, or be gone again.
    let mut held = Seqs::default();
    for bundle in held_of(entry, id, seqs) {
        let header = bundle.header();
        held.insert(header.first, header.last);
    }
    seqs.difference(&held).is_empty()
}

/// Returns the held bundles of a stream that hold any of these seqs, in order.
pub(super) fn held_of<'a>(
    entry: &'a Entry,
    id: StreamId<PeerId>,
    seqs: &'a Seqs,
) -> impl Iterator<Item = &'a TopicBundle> {
    let history = entry.swarm.history();
    let mut at = seqs.first();
    std::iter::from_fn(move || {
        loop {
            let held = history.held_from(id, at?)?;
            let header = held.bundle.header();
            // Whatever is passed over uses up a range: there are no more steps than those and the bundles that are wanted.
            at = seqs.next_from(header.last.saturating_add(1));
            if seqs.intersects(header.first, header.last) {
                return Some(&held.bundle);
            }
        }
    })
}
