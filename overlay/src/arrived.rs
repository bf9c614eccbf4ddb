//! Which held bundles a history lets go of, and in which order they came.
//!
//! The oldest goes first, whoever has published it, as long as nobody has published much of what is held. A publisher of more than
//! its share ([`SHARES`]) makes room itself, of several the one with most: so the few bundles of others stay for as long as they
//! would without it. Shares are by publisher: whoever has many keys has many of them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::history::{Held, History};
use crate::retained::Change;
use crate::{Bundle, Peer, StreamId, UnixMicros};

/// Of what a history may hold, one part of so many is a publisher's share. A guess: seven publishers that flood a topic push
/// nobody else out, and those who publish at the same pace lose their oldest as if there were no shares.
const SHARES: usize = 8;
/// Where the numbers of arrivals begin: earlier ones are put in front.
const FIRST_NUMBER: u64 = 1 << 40;
/// Stands for a bundle that isn't held any more, between others that are: no seq is that.
const GONE: u64 = 0;
/// Such places beside which they are cleared away once they are half of all.
const GONE_MIN: usize = 256;

/// Held bundles in the order in which they came. Those at both ends are held.
#[derive(Clone, Debug)]
pub(crate) struct Arrived<P> {
    /// Streams and first seqs.
    order: VecDeque<(StreamId<P>, u64)>,
    /// The number of the first.
    front: u64,
    /// Places between others of which the bundle has gone.
    gone: usize,
    /// Messages in the bundles.
    messages: u64,
    /// Publishers that may have more than their share, and before which number nothing of theirs is found.
    heavy: Vec<(P, u64)>,
}

impl<P: Peer> Arrived<P> {
    pub(crate) const fn new() -> Self {
        Self {
            order: VecDeque::new(),
            front: FIRST_NUMBER,
            gone: 0,
            messages: 0,
            heavy: Vec::new(),
        }
    }

    /// Returns how many bundles there are.
    fn len(&self) -> usize {
        self.order.len() - self.gone
    }

    pub(crate) fn front(&self) -> Option<(StreamId<P>, u64)> {
        self.order.front().copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamId<P>, u64)> {
        let order = self.order.iter().copied();
        order.filter(|(_, first)| *first != GONE)
    }

    pub(crate) fn push_back(&mut self, id: StreamId<P>, first: u64, messages: u64) {
        self.order.push_back((id, first));
        self.messages += messages;
    }

    pub(crate) fn push_front(&mut self, id: StreamId<P>, first: u64, messages: u64) {
        self.order.push_front((id, first));
        self.messages += messages;
        self.front -= 1;
        self.look_again();
    }

    fn pop_front(&mut self) -> Option<(StreamId<P>, u64)> {
        let popped = self.order.pop_front()?;
        self.front += 1;
        self.tidy();
        Some(popped)
    }

    /// Takes out the first bundle of a publisher, which may have more than its share.
    fn take_first_of(&mut self, publisher: P) -> Option<(StreamId<P>, u64)> {
        let (_, from) = self.heavy.iter_mut().find(|(of, _)| *of == publisher)?;
        let skipped = usize::try_from(from.saturating_sub(self.front)).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.order.len());
        let is_its = |(id, first): &(StreamId<P>, u64)| id.publisher == publisher && *first != GONE;
        let at = skipped + self.order.range(skipped..).position(is_its)?;
        let taken = self.order[at];
        *from = self.front + at as u64 + 1;
        self.order[at].1 = GONE;
        self.gone += 1;
        self.tidy();
        Some(taken)
    }

    /// Takes out all bundles of some streams.
    pub(crate) fn remove(&mut self, is_of: impl Fn(&StreamId<P>) -> bool, messages: u64) {
        self.messages -= messages;
        self.order
            .retain(|(id, first)| *first != GONE && !is_of(id));
        self.gone = 0;
        self.look_again();
    }

    /// Lets both ends be held, and clears away what has gone between others where that is much.
    fn tidy(&mut self) {
        while self.order.front().is_some_and(|(_, first)| *first == GONE) {
            self.order.pop_front();
            self.front += 1;
            self.gone -= 1;
        }
        while self.order.back().is_some_and(|(_, first)| *first == GONE) {
            self.order.pop_back();
            self.gone -= 1;
        }
        if self.gone > GONE_MIN && self.gone * 2 > self.order.len() {
            self.order.retain(|(_, first)| *first != GONE);
            self.gone = 0;
            self.look_again();
        }
    }

    /// Numbers don't say any more where publishers' bundles are.
    fn look_again(&mut self) {
        for (_, from) in &mut self.heavy {
            *from = self.front;
        }
    }
}

impl<B: Bundle> History<B> {
    /// Notes that a publisher has something more.
    pub(crate) fn note_weight(&mut self, publisher: B::Peer) {
        let is_light = self.bytes <= self.share() || self.bytes_of(publisher) <= self.share();
        let heavy = &mut self.arrived.heavy;
        if !is_light && heavy.iter().all(|(of, _)| *of != publisher) {
            heavy.push((publisher, self.arrived.front));
        }
    }

    /// Drops the bundle that has to go so that others find room; returns how many bytes that freed.
    pub fn make_room(&mut self) -> usize {
        let heaviest = self.heaviest();
        let taken = heaviest.and_then(|publisher| self.arrived.take_first_of(publisher));
        match taken {
            Some((id, first)) => self.let_go(id, first),
            None => self.drop_oldest(),
        }
    }

    /// Drops the bundle that arrived first; returns how many bytes that freed.
    pub(crate) fn drop_oldest(&mut self) -> usize {
        match self.arrived.pop_front() {
            Some((id, first)) => self.let_go(id, first),
            None => 0,
        }
    }

    fn let_go(&mut self, id: StreamId<B::Peer>, first: u64) -> usize {
        let held = self.streams.get_mut(&id).and_then(|it| it.forget(first));
        let Some(held) = held else {
            return 0;
        };
        let (header, bytes) = (held.bundle.header(), held.bundle.cost_bytes());
        self.bytes -= bytes;
        self.arrived.messages -= header.last - header.first + 1;
        self.note(Change::Dropped {
            stream: id,
            first,
            bytes,
        });
        bytes
    }

    /// Returns who has most of what is held, if that is more than a share.
    fn heaviest(&mut self) -> Option<B::Peer> {
        let mut heavy = std::mem::take(&mut self.arrived.heavy);
        heavy.retain(|(publisher, _)| self.bytes_of(*publisher) > self.share());
        let heaviest = heavy.iter().map(|(publisher, _)| *publisher);
        let heaviest = heaviest.max_by_key(|publisher| self.bytes_of(*publisher));
        self.arrived.heavy = heavy;
        heaviest
    }

    fn share(&self) -> usize {
        self.config.bytes_max / SHARES
    }

    fn bytes_of(&self, publisher: B::Peer) -> usize {
        let streams = self.runs_of(publisher);
        streams.map(|(_, stream)| stream.bytes).sum()
    }

    /// Returns how many bundles are held.
    pub fn bundles(&self) -> usize {
        self.arrived.len()
    }

    /// Returns how many messages are in them.
    pub const fn messages(&self) -> u64 {
        self.arrived.messages
    }

    /// Returns when the first and the last of them came, in the order of their arrival; none where nothing is held.
    pub fn span(&self) -> Option<(UnixMicros, UnixMicros)> {
        let at = |place: Option<&(StreamId<B::Peer>, u64)>| {
            let (id, first) = place?;
            Some(self.held(*id, *first)?.received_at)
        };
        let order = &self.arrived.order;
        Some((at(order.front())?, at(order.back())?))
    }

    /// Returns what is held, in the order in which it came.
    pub fn held_in_order(&self) -> impl Iterator<Item = &Held<B>> {
        let arrived = self.arrived.iter();
        arrived.filter_map(|(id, first)| self.held(id, first))
    }
}
