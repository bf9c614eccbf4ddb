//! Requests in flight, and until when each may be answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{RequestId, Time};

/// How long a request may be answered at most: the longest patience twice. Never the ten seconds that libp2p-kad waits.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long a request may be answered at least: past that its peer is doubted and named to nobody until it answers a ping,
/// which a busy machine's scheduling alone shall not bring about. A guess.
const ANSWER_MIN: Duration = Duration::from_millis(200);

/// Returns how long a request may be answered that is slow after so long.
fn answer_within(patience: Duration) -> Duration {
    (patience * 2).clamp(ANSWER_MIN, ANSWER_MAX)
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    InTime,
    Slow,
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Request<P, W> {
    /// Who was asked.
    pub(crate) peer: P,
    /// What for.
    pub(crate) why: W,
    /// When.
    pub(crate) sent_at: Time,
    due_at: Time,
    patience: Duration,
    /// What it may take to reach the peer, while the request waits for that.
    reaching: Option<Duration>,
    stage: Stage,
}

/// What time did to a request.
#[derive(Clone, Debug)]
pub(crate) enum Overdue<P, W> {
    /// It is slow.
    Slow {
        /// Who was asked.
        peer: P,
        /// What for.
        why: W,
    },
    /// It has failed.
    Failed(Request<P, W>),
}

/// The requests in flight. What sends them bounds them: lookups and what each may have in flight, and probes.
#[derive(Debug)]
pub(crate) struct Requests<P, W> {
    next: u64,
    pending: BTreeMap<RequestId, Request<P, W>>,
    due: BTreeSet<(Time, RequestId)>,
}

impl<P: Copy + Eq, W: Clone> Requests<P, W> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Notes a request that is sent now; it is slow after its patience and has failed after twice that, 200 ms at least.
    pub(crate) fn send(&mut self, peer: P, why: W, patience: Duration, now: Time) -> RequestId {
        let id = self.next_id();
        let due_at = now + patience;
        let request = Request {
            peer,
            why,
            sent_at: now,
            due_at,
            patience,
            reaching: None,
            stage: Stage::InTime,
        };
        self.pending.insert(id, request);
        self.due.insert((due_at, id));
        id
    }

    /// Gives a request the time that it takes to reach its peer, before it is slow.
    pub(crate) fn waits(&mut self, id: RequestId, reaching: Duration) {
        if let Some(request) = self.pending.get_mut(&id) {
            let reaching = reaching.max(request.patience);
            request.reaching = Some(reaching);
            let due_at = request.sent_at + reaching;
            self.reschedule(id, due_at);
        }
    }

    /// Counts a request from when it has left.
    pub(crate) fn left(&mut self, id: RequestId, now: Time) {
        if let Some(request) = self.pending.get_mut(&id) {
            request.sent_at = now;
            request.reaching = None;
            let patience = match request.stage {
                Stage::InTime => request.patience,
                Stage::Slow => answer_within(request.patience),
            };
            self.reschedule(id, now + patience);
        }
    }

    /// Gives out the id of a query that has no answer.
    pub(crate) fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// Takes the request that a peer answers, if it was that peer's.
    pub(crate) fn answered(&mut self, id: RequestId, by: P) -> Option<Request<P, W>> {
        if self.pending.get(&id)?.peer != by {
            return None;
        }
        self.remove(id)
    }

    /// Returns whether a peer has not yet answered a request.
    pub(crate) fn awaits(&self, peer: P) -> bool {
        self.pending.values().any(|request| request.peer == peer)
    }

    /// Takes the requests to a peer that can't be reached.
    pub(crate) fn lost(&mut self, peer: P) -> Vec<Request<P, W>> {
        let to_peer = self.pending.iter().filter(|(_, r)| r.peer == peer);
        let ids: Vec<RequestId> = to_peer.map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Returns the next request that has become slow or has failed by now.
    pub(crate) fn overdue(&mut self, now: Time) -> Option<Overdue<P, W>> {
        let &(due_at, id) = self.due.first()?;
        if due_at > now {
            return None;
        }
        let request = self.pending.get_mut(&id)?;
        match request.stage {
            Stage::Slow => self.remove(id).map(Overdue::Failed),
            Stage::InTime => {
                request.stage = Stage::Slow;
                let patience = request.reaching.unwrap_or(request.patience);
                let overdue = Overdue::Slow {
                    peer: request.peer,
                    why: request.why.clone(),
                };
                let failed_at = request.sent_at + answer_within(patience);
                self.reschedule(id, failed_at);
                Some(overdue)
            }
        }
    }

    /// Gives every request so much more time: the node itself was stopped.
    pub(crate) fn forgive(&mut self, stopped: Duration) {
        let ids: Vec<RequestId> = self.pending.keys().copied().collect();
        for id in ids {
            if let Some(request) = self.pending.get_mut(&id) {
                request.sent_at = request.sent_at + stopped;
                let due_at = request.due_at + stopped;
                self.reschedule(id, due_at);
            }
        }
    }

    /// Returns when the next request becomes slow or fails.
    pub(crate) fn next_due(&self) -> Time {
        self.due.first().map_or(Time::NEVER, |&(due_at, _)| due_at)
    }

    fn reschedule(&mut self, id: RequestId, due_at: Time) {
        if let Some(request) = self.pending.get_mut(&id) {
            self.due.remove(&(request.due_at, id));
            request.due_at = due_at;
            self.due.insert((due_at, id));
        }
    }

    fn remove(&mut self, id: RequestId) -> Option<Request<P, W>> {
        let request = self.pending.remove(&id)?;
        self.due.remove(&(request.due_at, id));
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(at: u64) -> Time {
        Time::from_micros(at * 1_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_request_is_slow_and_then_fails() {
        let mut requests = Requests::new();
        requests.send(7, "why", ms(400), millis(0));
        assert_eq!(requests.next_due(), millis(400));
        assert!(requests.overdue(millis(399)).is_none());
        let slow = requests.overdue(millis(400)).unwrap();
        assert!(matches!(slow, Overdue::Slow { peer: 7, .. }));
        assert!(requests.overdue(millis(400)).is_none());
        let failed = requests.overdue(millis(800)).unwrap();
        assert!(matches!(failed, Overdue::Failed(request) if request.peer == 7));
        assert_eq!(requests.next_due(), Time::NEVER);
    }

    #[test]
    fn a_peer_that_is_fast_as_a_rule_is_doubted_no_sooner_than_a_busy_machine_answers() {
        let mut requests = Requests::new();
        requests.send(7, "why", ms(50), millis(0));
        assert!(matches!(
            requests.overdue(millis(50)),
            Some(Overdue::Slow { .. })
        ));
        assert!(requests.overdue(millis(199)).is_none());
        assert!(matches!(
            requests.overdue(millis(200)),
            Some(Overdue::Failed(_))
        ));
    }

    #[test]
    fn an_answer_counts_from_the_peer_that_was_asked() {
        let mut requests = Requests::new();
        let id = requests.send(7, (), ms(400), millis(0));
        assert!(requests.answered(id, 8).is_none());
        assert!(requests.answered(id, 7).is_some());
        assert!(requests.answered(id, 7).is_none());
    }

    #[test]
    fn a_lost_peer_fails_its_requests_and_no_others() {
        let mut requests = Requests::new();
        for peer in [7, 8, 7] {
            requests.send(peer, (), ms(400), millis(0));
        }
        assert_eq!(requests.lost(7).len(), 2);
        assert_eq!(requests.lost(8).len(), 1);
    }

    #[test]
    fn what_it_takes_to_reach_a_peer_is_not_held_against_its_answer() {
        let mut requests = Requests::new();
        let id = requests.send(7, (), ms(100), millis(0));
        requests.waits(id, ms(800));
        assert_eq!(requests.next_due(), millis(800));
        requests.left(id, millis(500));
        assert_eq!(requests.next_due(), millis(600));
        assert!(requests.overdue(millis(600)).is_some());
        assert_eq!(requests.next_due(), millis(700));
        let answered = requests.answered(id, 7).unwrap();
        assert_eq!(answered.sent_at, millis(500));
        // One that has become slow on its way keeps no more than its second half.
        let id = requests.send(7, (), ms(100), millis(1_000));
        assert!(requests.overdue(millis(1_100)).is_some());
        requests.left(id, millis(1_150));
        assert_eq!(requests.next_due(), millis(1_350));
        assert!(requests.answered(id, 7).is_some());
        // One that never leaves fails after twice what it may take to reach the peer.
        let id = requests.send(7, (), ms(100), millis(2_000));
        requests.waits(id, ms(500));
        assert!(requests.overdue(millis(2_499)).is_none());
        assert!(requests.overdue(millis(2_500)).is_some());
        assert_eq!(requests.next_due(), millis(3_000));
    }

    #[test]
    fn what_was_stopped_accuses_nobody() {
        let mut requests = Requests::new();
        requests.send(7, (), ms(400), millis(0));
        requests.forgive(ms(5_000));
        assert_eq!(requests.next_due(), millis(5_400));
        assert!(requests.overdue(millis(5_399)).is_none());
    }
}
