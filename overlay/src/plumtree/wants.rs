//! What this member lacks, and whom it has asked for it.
//!
//! One mechanism serves lazy announcements, exchanges and holes alike: a digest shows something that this member hasn't
//! seen; if it doesn't come along a tree within a delay, one neighbour that has it is grafted and asked.

use std::collections::BTreeMap;
use std::time::Duration;

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

#[derive(Debug)]
struct Ask<P> {
    peer: P,
    seqs: Seqs,
    deadline: Time,
}

#[derive(Debug)]
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

#[derive(Debug)]
pub(crate) struct Wants<P> {
    lacks: BTreeMap<StreamId<P>, Lack<P>>,
    refused: BTreeMap<StreamId<P>, Seqs>,
}

impl<P: Peer> Wants<P> {
    pub(crate) const fn new() -> Self {
        Self {
            lacks: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Something of a stream is missing: ask at `ask_at` unless it is planned earlier.
    pub(crate) fn lacking(&mut self, id: StreamId<P>, ask_at: Time) {
        if self.lacks.len() >= LACKS_MAX && !self.lacks.contains_key(&id) {
            return;
        }
        let lack = self.lacks.entry(id).or_insert_with(|| Lack {
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
                    lack.failed = 0;
                }
            }
        }
    }

    /// A bundle may never enter: it isn't asked for again.
    pub(crate) fn refused(&mut self, header: &Header<P>) {
        if self.refused.len() >= REFUSED_MAX && !self.refused.contains_key(&header.stream) {
            self.refused.pop_first();
        }
        let refused = self.refused.entry(header.stream).or_default();
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
        for (id, lack) in &mut self.lacks {
            let before = lack.asked.len();
            lack.asked.retain(|ask| ask.deadline > now);
            let failed = u32::try_from(before - lack.asked.len()).unwrap_or(u32::MAX);
            lack.failed = lack.failed.saturating_add(failed);
            if lack.ask_at <= now || lack.asked.len() < before {
                lack.ask_at = Time::NEVER;
                due.push(*id);
            }
        }
        due
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
            let deadline = now + lack.patience();
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
            .min()
            .unwrap_or(Time::NEVER)
    }

    #[cfg(test)]
    pub(crate) fn check_bounds(&self) {
        assert!(self.lacks.len() <= LACKS_MAX, "{} lacks", self.lacks.len());
        assert!(self.refused.len() <= REFUSED_MAX);
        assert!(
            self.lacks
                .values()
                .all(|lack| lack.asked.len() <= ASKED_MAX)
        );
    }
}
