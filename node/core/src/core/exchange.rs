//! Taking over from a keeper what this node lacks of a topic's history.
//!
//! An exchange reads the keeper's digests page by page and fetches what they show: what this node is owed goes to its swarm, as if
//! a neighbour had supplied it, and what lies before its base goes in front of its arrival log, all at once when the exchange is
//! over. New keepers do it with each keeper that they learn of, subscribers when they want to read further back than they have
//! been members, and whoever waits for messages that no neighbour has.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::digest::StreamDigest;
use weft_overlay::history::History;
use weft_overlay::retained::Earlier;
use weft_overlay::{Bundle, Now, Seqs, StreamId, swarm};

use super::Core;
use super::asking::What;
use super::logs::LOG_BYTES_MAX;
use super::rendezvous::Known;
use super::swarms::Entry;
use crate::input::Reach;
use crate::keeping::{Answer, FETCH_STREAMS_MAX, Query};
use crate::{Event, TopicBundle, TopicId};

/// Exchanges at once that gather what lies before the base: together they hold no more than all histories do.
const GATHERING_MAX: usize = 2;
/// Pages of digests that are read of a keeper: all streams of a swarm, and some more.
const PAGES_MAX: usize = 32;
/// Answers in a row that bring nothing of what a keeper has shown, after which it is believed no more.
const IDLE_MAX: usize = 16;
/// Streams of which something is still to be fetched: a few pages.
const WANTS_MAX: usize = 8_192;
/// How long a keeper is left alone with which an exchange has failed.
const FAILED_FOR: Duration = Duration::from_secs(10);
/// How soon a keeper is asked again for what no neighbour brings: a few times before a gap is told.
const BLOCKED_AGAIN: Duration = Duration::from_secs(2);

/// An exchange that is under way.
#[derive(Debug)]
pub(super) struct Exchange {
    keeper: PeerId,
    /// How far before the base it reaches.
    reach: Reach,
    /// What is still to be fetched.
    wants: VecDeque<(StreamId<PeerId>, Seqs)>,
    /// Where the next page begins; none once all were read.
    next_page: Option<Option<StreamId<PeerId>>>,
    /// What came from before the base; a keeper holds no more of a topic than a log.
    before: Vec<TopicBundle>,
    before_bytes: usize,
    /// Pages read, and answers in a row that brought nothing.
    pages: usize,
    idle: usize,
}

impl Core {
    /// Begins an exchange if anything is to be had by one.
    pub(super) fn exchange_if_due(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        if entry.exchange.is_some() || !entry.swarm.has_base() {
            return;
        }
        let wanted = entry.reach_wanted();
        match entry.whom_to_ask(now) {
            Some(keeper) => self.begin_exchange(topic, keeper, wanted, now),
            // Nobody has more, or nobody can be asked.
            None if entry.rendezvous.is_over() && !entry.may_have_more(wanted) => {
                entry.reached = entry.reached.max(wanted);
                self.answer_subscribers(topic);
            }
            None => {}
        }
    }

    fn begin_exchange(&mut self, topic: TopicId, keeper: PeerId, reach: Reach, now: Now) {
        let gathers = |entry: &Entry| {
            let exchange = entry.exchange.as_ref();
            exchange.is_some_and(|it| it.reach > Reach::Base)
        };
        let is_crowded = reach > Reach::Base
            && self.swarms.values().filter(|it| gathers(it)).count() >= GATHERING_MAX;
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        // Its turn comes when another is over, or with the next look.
        if is_crowded && !entry.swarm.is_blocked() {
            return;
        }
        entry.exchange = Some(Exchange {
            keeper,
            reach,
            wants: VecDeque::new(),
            next_page: Some(None),
            before: Vec::new(),
            before_bytes: 0,
            pages: 0,
            idle: 0,
        });
        self.exchange_step(topic, now);
    }

    /// Asks for what is next: bundles that are wanted, else the next page.
    fn exchange_step(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let Some(exchange) = &entry.exchange else {
            return;
        };
        let query = if !exchange.wants.is_empty() {
            let streams = exchange.wants.iter().take(FETCH_STREAMS_MAX);
            Query::Fetch {
                topic,
                streams: streams.cloned().collect(),
            }
        } else if let Some(after) = exchange.next_page {
            Query::Digests { topic, after }
        } else {
            return self.exchange_over(topic, now);
        };
        let keeper = exchange.keeper;
        self.ask_keeper(keeper, None, What::Exchange(topic), &query, now);
    }

    pub(super) fn exchange_answered(
        &mut self,
        topic: TopicId,
        peer: PeerId,
        answer: Answer,
        now: Now,
    ) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let Some(exchange) = entry.exchange.as_mut().filter(|it| it.keeper == peer) else {
            return;
        };
        match answer {
            Answer::Digests { streams, more } if exchange.wants.is_empty() => {
                exchange.pages += 1;
                if exchange.pages > PAGES_MAX {
                    return self.exchange_failed(topic, peer, now);
                }
                let last = streams.last().map(|digest| digest.stream);
                let history = entry.swarm.history();
                for digest in streams {
                    exchange.wants_of(&digest, history);
                }
                let before = exchange.next_page.flatten();
                exchange.next_page = (more && last > before).then_some(last);
            }
            Answer::Fetched { topic: of, bundles } if of == topic => {
                let mut owed = Vec::new();
                let is_progress = bundles.into_iter().fold(false, |progress, fetched| {
                    let bundle = fetched.0;
                    if !exchange.take(&bundle) {
                        return progress;
                    }
                    let header = bundle.header();
                    if header.last <= entry.swarm.history().base(header.stream) {
                        exchange.keep(bundle);
                    } else {
                        owed.push(bundle);
                    }
                    true
                });
                exchange.idle = if is_progress { 0 } else { exchange.idle + 1 };
                if exchange.idle > IDLE_MAX {
                    return self.exchange_failed(topic, peer, now);
                }
                if !is_progress {
                    // It holds nothing more of what was asked for first.
                    exchange.wants.pop_front();
                }
                for bundle in owed {
                    let from = peer;
                    self.tell_swarm(topic, swarm::Input::Fetched { from, bundle }, now);
                }
            }
            Answer::Unable => return self.exchange_failed(topic, peer, now),
            _ => {
                let what = "an answer to another question about topics";
                self.event(Event::Misbehaviour { peer, what });
                return self.exchange_failed(topic, peer, now);
            }
        }
        self.exchange_step(topic, now);
    }

    /// A keeper has not answered, or keeps the topic no more.
    pub(super) fn exchange_failed(&mut self, topic: TopicId, peer: PeerId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        if entry.exchange.as_ref().is_none_or(|it| it.keeper != peer) {
            return;
        }
        if let Some(known) = entry.rendezvous.keepers.get_mut(&peer) {
            known.failed_at = Some(now.time);
            known.failures = known.failures.saturating_add(1);
        }
        self.exchange_ended(topic, now);
    }

    fn exchange_over(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        if let Some(exchange) = &entry.exchange
            && let Some(known) = entry.rendezvous.keepers.get_mut(&exchange.keeper)
        {
            known.exchanged_at = Some(now.time);
            known.failures = 0;
            known.reached = known.reached.max(Some(exchange.reach));
            if known.filled {
                entry.reached = entry.reached.max(exchange.reach);
            }
        }
        self.exchange_ended(topic, now);
    }

    /// Puts what has come where it belongs, and goes on with the next keeper.
    fn exchange_ended(&mut self, topic: TopicId, now: Now) {
        let Some(entry) = self.swarms.get_mut(&topic) else {
            return;
        };
        let Some(exchange) = entry.exchange.take() else {
            return;
        };
        if !exchange.before.is_empty() {
            let fitting = joined_on(exchange.before, entry.swarm.history());
            let earlier = in_order(fitting).into_iter();
            let earlier = earlier.map(|bundle| (as_published(bundle, now), 1));
            self.put_in_front(topic, earlier.collect(), now);
        }
        self.answer_subscribers(topic);
        self.exchange_if_due(topic, now);
    }
}

impl Entry {
    /// How far before the base this node wants to read now.
    fn reach_wanted(&self) -> Reach {
        let waiting = self.waiting.iter().map(|waiting| waiting.reach);
        let all = if self.keeps { Reach::All } else { Reach::Base };
        waiting.fold(all, Reach::max)
    }

    /// Whether a keeper may yet give more that is wanted, after a pause.
    fn may_have_more(&self, wanted: Reach) -> bool {
        let mut keepers = self.rendezvous.keepers.values();
        self.reached < wanted
            && keepers.any(|known| known.reached < Some(wanted) && !known.is_hopeless())
    }

    /// Returns the keeper that has what is wanted; none where nothing is, or nobody can be asked.
    fn whom_to_ask(&self, now: Now) -> Option<PeerId> {
        let keepers = self.rendezvous.keepers.iter();
        let may_be_asked = |known: &Known| {
            let failed_at = known.failed_at;
            failed_at.is_none_or(|at| now.time.since(at) >= FAILED_FOR)
        };
        let keepers = keepers.filter(|(_, known)| may_be_asked(known));
        let wanted = Some(self.reach_wanted());
        // Those that haven't given as much yet, of them those that have everything; else whoever was asked longest ago.
        let by_use = |known: &Known| {
            let is_done = known.reached >= wanted;
            (is_done, known.failures, known.exchanged_at, !known.filled)
        };
        let (peer, known) = keepers.min_by_key(|(_, known)| by_use(known))?;
        let is_new = known.reached < wanted;
        let reads_on = self.reached < self.reach_wanted() && !self.is_filled();
        let rested = known
            .exchanged_at
            .is_none_or(|at| now.time.since(at) >= BLOCKED_AGAIN);
        let asks = is_new && (self.keeps || reads_on) || self.swarm.is_blocked() && rested;
        asks.then_some(*peer)
    }
}

impl Exchange {
    /// Notes what a keeper's digest of a stream shows that is lacking here.
    fn wants_of(&mut self, digest: &StreamDigest<PeerId>, history: &History<TopicBundle>) {
        let id = digest.stream;
        let base = history.base(id);
        let held = Seqs::range(digest.supplies_from, u64::MAX).intersection(&digest.seqs);
        let mut wanted = match history.seen(id) {
            Some(seen) => held.difference(seen),
            None => held.clone(),
        };
        // In front of what is held here, unless that has been shortened since: the log goes on where it begins.
        let begins = history.supplies_from(id);
        if begins <= base.saturating_add(1) && begins > 1 {
            let lowest = match self.reach {
                Reach::Base => begins,
                Reach::Last(messages) => base.saturating_sub(messages).saturating_add(1),
                Reach::All => 1,
            };
            let before = Seqs::range(lowest, begins - 1);
            wanted.extend(&held.intersection(&before));
        }
        if !wanted.is_empty() && self.wants.len() < WANTS_MAX {
            self.wants.push_back((id, wanted));
        }
    }

    /// Takes a bundle off what is wanted; returns whether it was.
    fn take(&mut self, bundle: &TopicBundle) -> bool {
        let header = bundle.header();
        let streams = self.wants.iter_mut().take(FETCH_STREAMS_MAX);
        let Some((at, (_, seqs))) = streams
            .enumerate()
            .find(|(_, (id, _))| *id == header.stream)
        else {
            return false;
        };
        if !seqs.intersects(header.first, header.last) {
            return false;
        }
        *seqs = seqs.difference(&Seqs::range(1, header.last));
        if seqs.is_empty() {
            self.wants.remove(at);
        }
        true
    }

    fn keep(&mut self, bundle: TopicBundle) {
        self.before_bytes += bundle.cost_bytes();
        if self.before_bytes <= LOG_BYTES_MAX {
            self.before.push(bundle);
        } else {
            self.wants.clear();
            self.next_page = None;
        }
    }
}

/// What was published before this node was there counts as having come when it was published.
fn as_published(bundle: TopicBundle, now: Now) -> Earlier<TopicBundle> {
    let received_at = bundle.published_at().min(now.unix);
    let hops = 0;
    Earlier {
        bundle,
        hops,
        received_at,
    }
}

/// Leaves out what doesn't join on to what is held of its stream: what is put in front later would come after it.
fn joined_on(mut bundles: Vec<TopicBundle>, history: &History<TopicBundle>) -> Vec<TopicBundle> {
    bundles.sort_by_key(|bundle| {
        let header = bundle.header();
        (header.stream, header.first)
    });
    let mut begins = BTreeMap::new();
    let mut fitting = Vec::with_capacity(bundles.len());
    for bundle in bundles.into_iter().rev() {
        let header = bundle.header();
        let begin = begins
            .entry(header.stream)
            .or_insert_with(|| history.supplies_from(header.stream));
        if header.last.checked_add(1) == Some(*begin) {
            *begin = header.first;
            fitting.push(bundle);
        }
    }
    fitting
}

/// Puts bundles in the order in which they were published as far as that is known: each publisher's follow each other, and
/// between publishers their clocks decide.
fn in_order(mut bundles: Vec<TopicBundle>) -> Vec<TopicBundle> {
    bundles.sort_by_key(|bundle| {
        let header = bundle.header();
        (header.stream, header.first)
    });
    let mut latest = None;
    let mut keyed: Vec<_> = bundles
        .into_iter()
        .map(|bundle| {
            let publisher = bundle.header().stream.publisher;
            let at = bundle.published_at();
            let at = match latest {
                Some((of, before)) if of == publisher => at.max(before),
                _ => at,
            };
            latest = Some((publisher, at));
            (at, bundle)
        })
        .collect();
    // Stable: of one publisher's moment its order remains.
    keyed.sort_by_key(|(at, _)| *at);
    keyed.into_iter().map(|(_, bundle)| bundle).collect()
}
