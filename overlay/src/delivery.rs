//! Delivery: each publisher's messages in order and once, and told gaps where messages will not come.
//!
//! A publisher's epochs follow each other: an epoch's first bundle names the one before it and, after a clean stop, its last
//! seq, so that a lost tail is seen. A hole is waited for as long as a neighbour can fill it; it is told as a gap once a bound
//! has passed without progress and no neighbour has it. What arrives after its gap was told stays in history only.

use std::collections::VecDeque;
use std::time::Duration;

use crate::history::History;
use crate::outbox::Outbox;
use crate::plumtree::Broadcast;
use crate::small::SmallMap;
use crate::{Bundle, Header, Now, Peer, Seqs, StreamId, Time};

/// A hole is told as a gap after this long without progress, if nobody has what is missing (the design's bound).
pub const GAP_BOUND: Duration = Duration::from_secs(15);
/// A publisher that crashed doesn't say where its epoch ended: its next epoch begins once nobody has shown more for this
/// long since the next one is known (a guess: several times an exchange between neighbours).
const EPOCH_SETTLE: Duration = Duration::from_millis(500);
/// What somebody says it has and doesn't supply is waited for so long without progress (a guess: many attempts of all neighbours).
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a blocked publisher is looked at again.
const RECHECK: Duration = Duration::from_millis(500);
/// Epochs that were left and whose late messages are still told: as many as a publisher has that are known.
const LEFT_MAX: usize = crate::history::EPOCHS_MAX;
/// From how many on those go that history has forgotten.
const LEFT_FORGOTTEN_MAX: usize = crate::history::EPOCHS_SPENT_MAX;
/// Publishers whose places are kept: twice the streams that a member keeps, so that one whose stream was displaced goes on where it
/// stood. One more, and the places of publishers without a stream go.
const PLACES_MAX: usize = 2 * crate::history::STREAMS_MAX;

/// What a subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered<P> {
    /// A bundle that is held in history, from a seq on (usually its first).
    Bundle {
        /// Where it stands.
        header: Header<P>,
        /// The first seq that is due.
        from: u64,
    },
    /// Messages that will not come.
    Gap {
        /// Of which stream.
        stream: StreamId<P>,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// Where a subscriber stands with one publisher.
#[derive(Clone, Debug)]
struct Place {
    /// Epochs that were left, oldest first, and the seq that was due next in each. Earlier ones are not owed.
    left: VecDeque<(u64, u64)>,
    epoch: u64,
    next: u64,
    /// Since when nothing could be delivered although something later is known.
    blocked: Option<Time>,
}

impl Place {
    /// Leaves the epoch where it stands, in which nothing more is expected.
    fn leave(&mut self, is_known: impl Fn(u64) -> bool) {
        self.left.push_back((self.epoch, self.next));
        while let Some((oldest, _)) = self.left.front()
            && self.left.len() > LEFT_FORGOTTEN_MAX
            && (self.left.len() > LEFT_MAX || !is_known(*oldest))
        {
            self.left.pop_front();
        }
    }

    /// Returns whether it stands in an epoch by another's word alone while an earlier one has more than this member began with.
    fn waits_in_vain<B: Bundle>(&self, header: &Header<B::Peer>, history: &History<B>) -> bool {
        let id = header.stream;
        let place = StreamId {
            epoch: self.epoch,
            ..id
        };
        self.left.is_empty()
            && history.is_claimed(place)
            && (history.base(id) > 0 || history.is_after_base(header))
    }
}

/// Why a publisher's next message can't be delivered, and what would be told if it never came.
enum Hole {
    /// Seqs of the current epoch.
    Seqs { to: u64 },
    /// The current epoch may have a tail that nobody has shown.
    Tail { next_epoch: u64 },
    /// The current epoch has a tail up to this seq.
    KnownTail { to: u64 },
}

/// The places of all publishers of a swarm.
#[derive(Clone, Debug)]
pub struct Delivery<P> {
    places: SmallMap<P, Place>,
    outputs: Outbox<Delivered<P>>,
    recheck_at: Time,
}

impl<P: Peer> Default for Delivery<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Peer> Delivery<P> {
    /// Makes a delivery that has seen no publisher.
    pub const fn new() -> Self {
        Self {
            places: SmallMap::new(),
            outputs: Outbox::new(),
            recheck_at: Time::NEVER,
        }
    }

    /// Returns what is due next.
    pub fn poll_output(&mut self) -> Option<Delivered<P>> {
        self.outputs.pop_front()
    }

    /// Returns when to look at blocked publishers again.
    pub const fn poll_timeout(&self) -> Time {
        self.recheck_at
    }

    /// Returns the seq of a stream that is due next; none where none of it is due.
    pub(crate) fn due(&self, id: StreamId<P>) -> Option<u64> {
        let place = self.places.get(&id.publisher)?;
        let current = (place.epoch, place.next);
        let mut epochs = place.left.iter().copied().chain([current]);
        epochs.find_map(|(epoch, next)| (epoch == id.epoch).then_some(next))
    }

    /// Returns whether some publisher's messages wait for earlier ones.
    pub(crate) fn is_blocked(&self) -> bool {
        self.recheck_at != Time::NEVER
    }

    /// Goes on in a stream that is later than those of its publisher that this was called for before.
    pub(crate) fn resume(&mut self, id: StreamId<P>, next: u64) {
        let earlier = self.places.remove(&id.publisher);
        let mut left = VecDeque::new();
        if let Some(mut earlier) = earlier {
            earlier.leave(|_| true);
            left = earlier.left;
        }
        let place = Place {
            left,
            epoch: id.epoch,
            next,
            blocked: None,
        };
        self.places.insert(id.publisher, place);
    }

    /// The base is fixed: every publisher that is known begins where it says.
    pub fn start<B: Bundle<Peer = P>>(&mut self, broadcast: &Broadcast<B>, now: Now) {
        let mut publishers: Vec<P> = broadcast
            .history()
            .streams()
            .map(|id| id.publisher)
            .collect();
        publishers.dedup();
        for publisher in publishers {
            self.advance(publisher, broadcast, now);
        }
    }

    /// A bundle was taken into history.
    pub fn received<B: Bundle<Peer = P>>(
        &mut self,
        header: &Header<P>,
        broadcast: &Broadcast<B>,
        now: Now,
    ) {
        let id = header.stream;
        if let Some(place) = self.places.get(&id.publisher)
            && id.epoch < place.epoch
            && place.waits_in_vain(header, broadcast.history())
        {
            self.places.remove(&id.publisher);
        }
        if let Some(place) = self.places.get(&id.publisher)
            && id.epoch < place.epoch
        {
            let left = place.left.iter().find(|(epoch, _)| *epoch == id.epoch);
            if let Some((_, next)) = left
                && header.last >= *next
            {
                // Its epoch was left because nobody had shown this: it is too late for order, and told.
                self.outputs.push_back(Delivered::Gap {
                    stream: id,
                    from: header.first.max(*next),
                    to: header.last,
                });
            }
            return;
        }
        self.advance(id.publisher, broadcast, now);
    }

    /// Where this member began in a stream was false: whoever waits there waits for what comes after the true base.
    pub(crate) fn base_lowered(&mut self, id: StreamId<P>, from: u64) {
        if let Some(place) = self.places.get_mut(&id.publisher)
            && place.epoch == id.epoch
            && place.next == from.saturating_add(1)
        {
            place.next = 1;
            place.blocked = None;
        }
    }

    /// Looks at blocked publishers again.
    pub fn handle_timeout<B: Bundle<Peer = P>>(&mut self, broadcast: &Broadcast<B>, now: Now) {
        if self.recheck_at > now.time {
            return;
        }
        self.recheck_at = Time::NEVER;
        let blocked: Vec<P> = self
            .places
            .iter()
            .filter(|(_, place)| place.blocked.is_some())
            .map(|(publisher, _)| *publisher)
            .collect();
        for publisher in blocked {
            self.advance(publisher, broadcast, now);
        }
    }

    /// This process was stopped for a while: nobody is blamed for the time that passed.
    pub fn forgive(&mut self, now: Now) {
        for place in self
            .places
            .values_mut()
            .filter(|place| place.blocked.is_some())
        {
            place.blocked = Some(now.time);
        }
    }

    fn advance<B: Bundle<Peer = P>>(&mut self, publisher: P, broadcast: &Broadcast<B>, now: Now) {
        let history = broadcast.history();
        let place = self.places.remove(&publisher);
        let Some(mut place) = place.or_else(|| first_place(publisher, broadcast)) else {
            return;
        };
        loop {
            let id = StreamId {
                publisher,
                epoch: place.epoch,
            };
            // A base that was lowered rises while it is made good.
            place.next = place.next.max(history.base(id).saturating_add(1));
            if let Some(held) = history.held(id, place.next) {
                let header = held.bundle.header();
                self.outputs.push_back(Delivered::Bundle {
                    header,
                    from: place.next,
                });
                place.next = header.last.saturating_add(1);
                place.blocked = None;
                continue;
            }
            let Some(hole) = hole(id, place.next, broadcast) else {
                place.blocked = None;
                break;
            };
            let since = *place.blocked.get_or_insert(now.time);
            if !may_give_up(&hole, id, place.next, since, broadcast, now) {
                self.recheck_at = self.recheck_at.min(now.time + RECHECK);
                break;
            }
            match hole {
                Hole::Seqs { to } | Hole::KnownTail { to } => {
                    self.outputs.push_back(Delivered::Gap {
                        stream: id,
                        from: place.next,
                        to,
                    });
                    place.next = to.saturating_add(1);
                }
                Hole::Tail { next_epoch } => {
                    place.leave(|epoch| history.seen(StreamId { publisher, epoch }).is_some());
                    place.epoch = next_epoch;
                    place.next = history
                        .base(StreamId {
                            publisher,
                            epoch: next_epoch,
                        })
                        .saturating_add(1);
                }
            }
            place.blocked = None;
        }
        if self.places.len() >= PLACES_MAX {
            self.places
                .retain(|publisher, _| history.epochs(*publisher).next().is_some());
        }
        self.places.insert(publisher, place);
    }
}

/// A publisher that was not known before begins at its oldest stream that has something after this member's base.
fn first_place<B: Bundle>(publisher: B::Peer, broadcast: &Broadcast<B>) -> Option<Place> {
    let history = broadcast.history();
    let epochs: Vec<u64> = history.epochs(publisher).collect();
    let has_more = |epoch: &&u64| {
        let id = StreamId {
            publisher,
            epoch: **epoch,
        };
        history.seen(id).and_then(Seqs::last) > Some(history.base(id))
    };
    let epoch = *epochs.iter().find(has_more).or(epochs.last())?;
    // What neighbours still hold of an older epoch that began after this member's base is owed as well.
    let epoch = broadcast
        .epochs_told(publisher)
        .filter(|told| *told < epoch && !epochs.contains(told))
        .find(|epoch| {
            let id = StreamId {
                publisher,
                epoch: *epoch,
            };
            broadcast.somebody_has(id, 1, u64::MAX)
        })
        .unwrap_or(epoch);
    let base = history.base(StreamId { publisher, epoch });
    Some(Place {
        left: VecDeque::new(),
        epoch,
        next: base.saturating_add(1),
        blocked: None,
    })
}

/// Returns what keeps a publisher's next message from being delivered; none where nothing later is known.
fn hole<B: Bundle>(id: StreamId<B::Peer>, next: u64, broadcast: &Broadcast<B>) -> Option<Hole> {
    let history = broadcast.history();
    let last_seen = history.seen(id).and_then(Seqs::last).unwrap_or(0);
    if last_seen >= next {
        let to = history
            .held_from(id, next)
            .map_or(last_seen, |held| held.bundle.header().first - 1);
        return Some(Hole::Seqs { to });
    }
    let next_epoch = history
        .epochs_after(id)
        .find(|&epoch| !history.is_claimed(StreamId { epoch, ..id }))?;
    let later = StreamId {
        epoch: next_epoch,
        ..id
    };
    match history.previous_epoch(later) {
        Some(previous) if previous.epoch == id.epoch => match previous.last {
            Some(last) if last >= next => Some(Hole::KnownTail { to: last }),
            _ => Some(Hole::Tail { next_epoch }),
        },
        // An epoch between the two, of which nothing came at all.
        Some(previous) if id.epoch < previous.epoch && previous.epoch < next_epoch => {
            Some(Hole::Tail {
                next_epoch: previous.epoch,
            })
        }
        _ => Some(Hole::Tail { next_epoch }),
    }
}

fn may_give_up<B: Bundle>(
    hole: &Hole,
    id: StreamId<B::Peer>,
    next: u64,
    since: Time,
    broadcast: &Broadcast<B>,
    now: Now,
) -> bool {
    let history = broadcast.history();
    let waited = now.time.since(since);
    let patience = waited >= history.horizon().min(PATIENCE);
    match *hole {
        Hole::Seqs { to } => {
            // What was seen and isn't held any more was passed by retention.
            let was_dropped = history.seen(id).is_some_and(|seen| seen.covers(next, to));
            was_dropped
                || patience
                || (waited >= GAP_BOUND
                    && broadcast.all_told_since(id, since, now.time)
                    && !broadcast.somebody_has(id, next, to))
        }
        Hole::KnownTail { to } => {
            patience
                || (waited >= GAP_BOUND
                    && broadcast.all_told_since(id, since, now.time)
                    && !broadcast.somebody_has(id, next, to))
        }
        Hole::Tail { next_epoch } => {
            let later = StreamId {
                epoch: next_epoch,
                ..id
            };
            // A clean stop names the last seq; it has been reached.
            let settled = history
                .previous_epoch(later)
                .is_some_and(|previous| previous.epoch == id.epoch && previous.last.is_some());
            // Of many such epochs that are known together each has shown no more all the while.
            let known = history.held_from(later, 1).map(|held| held.received);
            let shown_no_more = now
                .time
                .since(known.map_or(since, |known| since.min(known)));
            settled
                || patience
                || (shown_no_more >= EPOCH_SETTLE
                    && (broadcast.all_told(now.time) || waited >= GAP_BOUND)
                    && !broadcast.somebody_has(id, next, u64::MAX))
        }
    }
}
