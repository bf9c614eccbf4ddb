//! What this node asks topics' keepers, and those that may be some: each question's way there, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::{Now, Time};

use super::Core;
use super::reach::Question;
use super::rendezvous::{Lookups, Renewals};
use crate::keeping::{Answer, Message, Query};
use crate::wire::{OutFrame, encode_topics};
use crate::{Event, Lane, Output, PeerContact, RequestId, TopicId};

/// How long an answer is waited for: longer than a dial and a round trip, shorter than a link takes to be found dead.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a message above which it goes with what may wait: it holds bundles or many digests.
const LARGE_BYTES: usize = 4 * 1024;

/// A question that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    of: PeerId,
    what: What,
    until: Time,
}

/// What was asked.
#[derive(Debug)]
pub(super) enum What {
    /// To meet in these topics.
    Meet {
        topics: Vec<TopicId>,
        /// Whether it was asked before, and the link closed under the question.
        is_again: bool,
    },
    /// A step of a topic's exchange.
    Exchange(TopicId),
    /// Whether it has what a publish has published.
    Confirm(RequestId),
    /// To take a bundle that is published through keepers, the how-manyth of its publish.
    Hand(RequestId, usize),
    /// To take a bundle of a publish that waits for keepers, if any does: whether it has is asked apart from that.
    Handed(Option<RequestId>),
}

/// The questions of this node to keepers.
#[derive(Debug)]
pub(super) struct Asking {
    asked: BTreeMap<u64, Asked>,
    next: u64,
    pub(super) lookups: Lookups,
    pub(super) renewals: Renewals,
    /// When to look what is due; never later than that.
    pub(super) at: Time,
}

impl Asking {
    pub(super) fn new(now: Now) -> Self {
        Self {
            asked: BTreeMap::new(),
            next: 0,
            lookups: Lookups::default(),
            renewals: Renewals::new(now),
            at: now.time,
        }
    }

    /// Returns the questions to a peer.
    fn of(&self, peer: PeerId) -> Vec<u64> {
        let asked = self.asked.iter();
        let of_it = asked.filter(|(_, asked)| asked.of == peer);
        of_it.map(|(request, _)| *request).collect()
    }

    /// Returns whether a peer has not yet answered a question.
    pub(super) fn awaits(&self, peer: PeerId) -> bool {
        self.asked.values().any(|asked| asked.of == peer)
    }

    /// Returns when the first question is given up.
    pub(super) fn given_up_at(&self) -> Time {
        let asked = self.asked.values().map(|asked| asked.until);
        asked.min().unwrap_or(Time::NEVER)
    }
}

impl Core {
    /// Asks a keeper, or who may be one.
    pub(super) fn ask_keeper(
        &mut self,
        to: PeerId,
        contact: Option<&PeerContact>,
        what: What,
        query: &Query,
        now: Now,
    ) {
        self.asking.next += 1;
        let request = self.asking.next;
        let until = now.time + ANSWER_WAIT;
        let asked = Asked {
            of: to,
            what,
            until,
        };
        self.asking.asked.insert(request, asked);
        self.asking.at = self.asking.at.min(until);
        let frame = encode_topics(request, &Message::Query(query.clone()));
        match self.link_to(to) {
            Some(link) if link.is_alive() => {
                link.touch(now);
                self.send_to_keeper(to, frame);
            }
            Some(_) => {}
            None => {
                let known = contact.cloned().or_else(|| self.contact_of(to, now));
                if let Some(contact) = known {
                    self.link_for_dht(&contact, Some(Question::unhurried(frame)), now);
                }
            }
        }
    }

    fn contact_of(&self, peer: PeerId, now: Now) -> Option<PeerContact> {
        self.book.lasting(peer, now)
    }

    pub(super) fn send_to_keeper(&mut self, peer: PeerId, frame: OutFrame) {
        if let Some(link) = self.links.get_mut(&peer)
            && frame.len() > LARGE_BYTES
        {
            link.repair_bytes += frame.len();
        }
        let lane = if frame.len() > LARGE_BYTES {
            Lane::Repair
        } else {
            Lane::Control
        };
        self.outputs.push_back(Output::Send { peer, lane, frame });
    }

    /// A message about topics came.
    pub(super) fn topics_came(&mut self, peer: PeerId, request: u64, message: Message, now: Now) {
        self.touch_link(peer, now);
        match message {
            Message::Query(query) => self.keeper_asked(peer, request, query, now),
            Message::Answer(answer) => self.keeper_answered(peer, request, answer, now),
        }
    }

    fn keeper_answered(&mut self, peer: PeerId, request: u64, answer: Answer, now: Now) {
        let is_expected = self.asking.asked.get(&request);
        if is_expected.is_none_or(|asked| asked.of != peer) {
            // It came too late, or nobody has asked.
            return self.count("topic_answers_unasked");
        }
        let Some(asked) = self.asking.asked.remove(&request) else {
            return;
        };
        match (asked.what, answer) {
            (
                What::Meet { topics, .. },
                Answer::Met {
                    topics: met,
                    contacts,
                },
            ) if topics.len() == met.len() => {
                for (topic, meeting) in topics.into_iter().zip(met) {
                    self.met_in(topic, peer, &meeting, &contacts, now);
                }
            }
            (What::Confirm(request), Answer::Confirmed { durable, held, .. }) => {
                self.confirmed(request, peer, (durable, held), now);
            }
            (What::Handed(request), Answer::Confirmed { .. }) => {
                self.hand_over_ended(request, peer);
            }
            (What::Hand(request, at), answer) => {
                self.hand_answered((request, at), peer, Some(&answer), now);
            }
            (What::Exchange(topic), answer) => self.exchange_answered(topic, peer, answer, now),
            (what, answer) => {
                if answer != Answer::Unable {
                    let what = "an answer to another question about topics";
                    self.event(Event::Misbehaviour { peer, what });
                }
                self.gone_unanswered(peer, what, now);
            }
        }
    }

    /// Gives up the questions whose time is over.
    pub(super) fn give_up_late(&mut self, now: Now) {
        let asked = self.asking.asked.iter();
        let late = asked.filter(|(_, asked)| asked.until <= now.time);
        for request in late.map(|(request, _)| *request).collect::<Vec<_>>() {
            self.unanswered(request, now);
        }
    }

    fn unanswered(&mut self, request: u64, now: Now) {
        if let Some(asked) = self.asking.asked.remove(&request) {
            self.gone_unanswered(asked.of, asked.what, now);
        }
    }

    fn gone_unanswered(&mut self, peer: PeerId, what: What, now: Now) {
        match what {
            What::Meet { topics, .. } => self.not_met(&topics, peer, now),
            What::Exchange(topic) => self.exchange_failed(topic, peer, now),
            // It is asked again for as long as anybody waits.
            What::Confirm(request) => self.hand_over_ended(Some(request), peer),
            What::Handed(request) => self.hand_over_ended(request, peer),
            What::Hand(request, at) => self.hand_answered((request, at), peer, None, now),
        }
    }

    /// A peer can't be reached any more: what it was asked it won't answer.
    pub(super) fn give_up_questions(&mut self, peer: PeerId, now: Now) {
        for request in self.asking.of(peer) {
            self.unanswered(request, now);
        }
    }

    /// A link that its peer doesn't need was closed, perhaps under a question: to meet it is asked once more, and bundles that it may not
    /// have are given to it again.
    pub(super) fn keeper_unlinked(&mut self, peer: PeerId, now: Now) {
        for request in self.asking.of(peer) {
            let Some(asked) = self.asking.asked.remove(&request) else {
                continue;
            };
            match (asked.what, self.contact_of(peer, now)) {
                (
                    What::Meet {
                        topics,
                        is_again: false,
                    },
                    Some(contact),
                ) => self.meet_again(&contact, &topics, now),
                (What::Hand(request, at), _) => self.hand_unlinked((request, at), peer),
                (what, _) => self.gone_unanswered(peer, what, now),
            }
        }
    }
}
