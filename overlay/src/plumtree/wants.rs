//! What this member lacks, and whom it has asked for it.
//!
//! One mechanism serves lazy announcements, exchanges and holes alike: a digest shows something that this member hasn't
//! seen; if it doesn't come along a tree within a delay, one neighbour that has it is grafted and asked.

use std::time::Duration;

use crate::bounds::within;
use crate::small::SmallMap;
use crate::{Header, Peer, Seqs, StreamId, Time};

/// Neighbours that are asked for parts of one stream at once: each of an active view.
const ASKED_MAX: usize = 8;
/// An ask without progress for this long goes to somebody else (a guess: many round trips, below the liveness bound of a link).
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks in vain that follow each other quickly: as many as an active view has members.
const FAILED_QUICK: u32 = 5;
/// How often the timeout doubles after that: to 32 s.
const FAILED_DOUBLINGS: u32 = 4;
/// Streams that something is lacked of at once: as many as are kept. What more is shown is noticed again by the next exchange.
pub(crate) const LACKS_MAX: usize = 4_096;

/// Streams of which refused seqs are remembered: only a faulty publisher or a very late supply has any.
const REFUSED_MAX: usize = 256;

/// Asks in vain after which a neighbour's word may count for nothing, and how long they must have been all that came of it: well
/// before a gap is told, and longer than an honest neighbour's link stays silent.
const VAIN_MAX: u32 = 3;
const VAIN_FOR: Duration = Duration::from_secs(8);
/// How long its word counts for nothing then (a guess).
const DISTRUSTED_FOR: Duration = Duration::from_secs(60);

/// What a neighbour was asked for in vain since it last supplied something.
#[derive(Clone, Debug)]
struct Vain {
    asks: u32,
    since: Time,
    /// Until when its word counts for nothing; none while it counts.
    distrusted_until: Option<Time>,
}

#[derive(Clone, Debug)]
struct Ask<P> {
    peer: P,
    seqs: Seqs,
    deadline: Time,
}

#[derive(Clone, Debug)]
struct Lack<P> {
    /// When somebody is asked for what nobody has been asked for yet.
    ask_at: Time,
    asked: Vec<Ask<P>>,
    /// Asks since the last progress that came to nothing.
    failed: u32,
}

impl<P> Lack<P> {
    /// Whoever announces what it never supplies is asked ever more rarely.
    fn patience(&self) -> Duration {
        ASK_TIMEOUT
            * (1 << self
                .failed
                .saturating_sub(FAILED_QUICK)
                .min(FAILED_DOUBLINGS))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Wants<P> {
    lacks: SmallMap<StreamId<P>, Lack<P>>,
    refused: SmallMap<StreamId<P>, Seqs>,
    /// Neighbours that were asked in vain: an entry dies with the neighbourhood.
    vain: SmallMap<P, Vain>,
    /// Who has come to be distrusted and was not told of yet.
    unmasked: Vec<P>,
}

impl<P: Peer> Wants<P> {
    pub(crate) const fn new() -> Self {
        Self {
            lacks: SmallMap::new(),
            refused: SmallMap::new(),
            vain: SmallMap::new(),
            unmasked: Vec::new(),
        }
    }

    /// Something of a stream is missing: ask at `ask_at` unless it is planned earlier.
    pub(crate) fn lacking(&mut self, id: StreamId<P>, ask_at: Time) {
        if self.lacks.len() >= LACKS_MAX && !self.lacks.contains_key(&id) {
            return;
        }
        let lack = self.lacks.get_or_insert_with(id, || Lack {
            ask_at,
            asked: Vec::new(),
            failed: 0,
        });
        lack.ask_at = lack.ask_at.min(ask_at);
    }

    /// Nothing of a stream is missing any more.
    pub(crate) fn complete(&mut self, id: StreamId<P>) {
        self.lacks.remove(&id);
    }

    pub(crate) fn is_lacking(&self, id: StreamId<P>) -> bool {
        self.lacks.contains_key(&id)
    }

    /// A neighbour has sent a bundle. If it was asked for it, its other supplies are on their way; what it pushes besides
    /// says nothing of them, for a supply may have been lost.
    pub(crate) fn progress(&mut self, header: &Header<P>, from: P, now: Time) {
        if let Some(lack) = self.lacks.get_mut(&header.stream) {
            for ask in &mut lack.asked {
                if ask.peer == from && ask.seqs.intersects(header.first, header.last) {
                    ask.deadline = now + ASK_TIMEOUT;
                    // What comes a second time is no progress.
                    let came = Seqs::range(header.first, header.last);
                    ask.seqs = ask.seqs.difference(&came);
                    lack.failed = 0;
                    self.vain.remove(&from);
                }
            }
        }
    }

    /// A bundle may never enter: it isn't asked for again.
    pub(crate) fn refused(&mut self, header: &Header<P>) {
        if self.refused.len() >= REFUSED_MAX && !self.refused.contains_key(&header.stream) {
            self.refused.pop_first();
        }
        let refused = self
            .refused
            .get_or_insert_with(header.stream, Seqs::default);
        refused.insert(header.first, header.last);
    }

    /// Returns what is left of `seqs` without what was refused.
    pub(crate) fn acceptable(&self, id: StreamId<P>, seqs: Seqs) -> Seqs {
        match self.refused.get(&id) {
            Some(refused) => seqs.difference(refused),
            None => seqs,
        }
    }

    /// Forgets what a neighbour was asked for, so that others are asked at once.
    pub(crate) fn neighbour_down(&mut self, peer: P, now: Time) {
        self.vain.remove(&peer);
        for lack in self.lacks.values_mut() {
            let before = lack.asked.len();
            lack.asked.retain(|ask| ask.peer != peer);
            if lack.asked.len() < before {
                lack.ask_at = now;
            }
        }
    }

    /// Returns the streams for which somebody shall be asked now; asks without progress are dropped.
    pub(crate) fn due(&mut self, now: Time) -> Vec<StreamId<P>> {
        let mut due = Vec::new();
        self.vain
            .retain(|_, vain| vain.distrusted_until.is_none_or(|until| until > now));
        for (id, lack) in self.lacks.iter_mut() {
            let before = lack.asked.len();
            for ask in lack.asked.extract_if(.., |ask| ask.deadline <= now) {
                let vain = self.vain.get_or_insert_with(ask.peer, || Vain {
                    asks: 0,
                    since: now,
                    distrusted_until: None,
                });
                vain.asks = vain.asks.saturating_add(1);
                if vain.asks >= VAIN_MAX
                    && now.since(vain.since) >= VAIN_FOR
                    && vain.distrusted_until.is_none()
                {
                    vain.distrusted_until = Some(now + DISTRUSTED_FOR);
                    self.unmasked.push(ask.peer);
                }
            }
            let failed = u32::try_from(before - lack.asked.len()).unwrap_or(u32::MAX);
            lack.failed = lack.failed.saturating_add(failed);
            if lack.ask_at <= now || lack.asked.len() < before {
                lack.ask_at = Time::NEVER;
                due.push(*id);
            }
        }
        due
    }

    /// Returns whether a neighbour's word counts for nothing: it has announced things and supplied none of them.
    pub(crate) fn distrusts(&self, peer: P) -> bool {
        let vain = self.vain.get(&peer);
        vain.is_some_and(|vain| vain.distrusted_until.is_some())
    }

    /// Returns whether a neighbour has supplied nothing since it was last asked in vain.
    pub(crate) fn is_vain(&self, peer: P) -> bool {
        self.vain.contains_key(&peer)
    }

    /// Returns a neighbour whose word has come to count for nothing, each time once.
    pub(crate) fn unmasked(&mut self) -> Option<P> {
        self.unmasked.pop()
    }

    /// Returns what has been asked for of a stream and is likely to come: from whom others were asked in vain, it isn't.
    pub(crate) fn expected(&self, id: StreamId<P>) -> Seqs {
        let mut all = Seqs::default();
        if let Some(lack) = self.lacks.get(&id) {
            for ask in &lack.asked {
                if !self.vain.contains_key(&ask.peer) {
                    all.extend(&ask.seqs);
                }
            }
        }
        all
    }

    /// Returns what has been asked for of a stream and not come yet.
    pub(crate) fn asked(&self, id: StreamId<P>) -> Seqs {
        let mut all = Seqs::default();
        if let Some(lack) = self.lacks.get(&id) {
            for ask in &lack.asked {
                all.extend(&ask.seqs);
            }
        }
        all
    }

    /// Returns whether somebody else may be asked.
    pub(crate) fn may_ask(&self, id: StreamId<P>, peer: P) -> bool {
        self.lacks.get(&id).is_none_or(|lack| {
            lack.asked.len() < ASKED_MAX && lack.asked.iter().all(|ask| ask.peer != peer)
        })
    }

    /// A neighbour is asked now.
    pub(crate) fn ask(&mut self, id: StreamId<P>, peer: P, seqs: Seqs, now: Time) {
        if let Some(lack) = self.lacks.get_mut(&id) {
            // Only whoever was asked in vain is asked more rarely: others shall not wait for its sake.
            let patience = match self.vain.contains_key(&peer) {
                true => lack.patience(),
                false => ASK_TIMEOUT,
            };
            let deadline = now + patience;
            lack.asked.push(Ask {
                peer,
                seqs,
                deadline,
            });
        }
    }

    /// What was asked of a stream has been seen: an ask that has been met ends, so that its neighbour can be asked again.
    pub(crate) fn seen(&mut self, id: StreamId<P>, seen: &Seqs) {
        if let Some(lack) = self.lacks.get_mut(&id) {
            lack.asked
                .retain(|ask| !ask.seqs.difference(seen).is_empty());
        }
    }

    pub(crate) fn next_timeout(&self) -> Time {
        self.lacks
            .values()
            .flat_map(|lack| {
                lack.asked
                    .iter()
                    .map(|ask| ask.deadline)
                    .chain([lack.ask_at])
            })
            .chain(self.vain.values().filter_map(|vain| vain.distrusted_until))
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// Returns whether nothing is lacked.
    pub(crate) fn is_empty(&self) -> bool {
        self.lacks.is_empty()
    }

    /// Returns what is beyond its bound, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let asked = self.lacks.values().map(|lack| lack.asked.len()).max();
        within("lacks", self.lacks.len(), LACKS_MAX)?;
        within("refused", self.refused.len(), REFUSED_MAX)?;
        within("asks of one stream", asked.unwrap_or(0), ASKED_MAX)
    }
}
