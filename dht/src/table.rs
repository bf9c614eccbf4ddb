//! The routing table (Maymounkov & Mazières, "Kademlia", IPTPS 2002, §2.2, §2.4, §4.1): buckets of at most k peers each,
//! a cache of replacements, and eviction of the peer heard least recently, once it fails to answer a ping.
//!
//! A bucket is the peers that share exactly so many leading bits with this node. The paper starts with one bucket and
//! splits the one around the own point; that ends at the same buckets, except that the last one before a split holds k
//! peers where these hold k for each prefix length. The table gains from it exactly the peers nearest to this node,
//! which is where replicas are placed, and there is nothing to split: all buckets lie in one list sorted by distance to
//! this node, because each longer prefix is nearer than any shorter one. A simulation of 100,000 nodes needs that
//! plainness.
//!
//! Only a peer that has *answered* is handed in here ([`Table::proven`]), and only one that serves gets in. A peer that
//! falls silent is *suspect* until it was pinged, then replaced by a spare; without a spare it stays as *stale*, neither
//! asked nor named to others, until somebody needs its place or it answers again. So a node that was cut off
//! from everybody keeps everybody it knew.
//!
//! One difference more: a lookup brings peers that lie close together, so that a bucket filled by one knows a single
//! corner of its part of the space, and a path through it takes half a hop more (measured with 10,000 nodes: 3.0 hops
//! where tables of random peers give 2.5). Buckets are therefore *even*: a full one takes a newcomer from a corner of
//! which it knows fewer peers, and gives up the youngest of the corner of which it knows most. Each such swap makes it
//! more even, so they end; and a flood of new ids displaces none of the old peers of an even bucket.
//!
//! Against one party that fills a table from few networks, a group (an IP prefix) gets [`GROUP_PER_BUCKET_MAX`] and
//! [`GROUP_PER_TABLE_MAX`] places.

mod entry;
mod list;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

pub use entry::{Entry, Standing};
use list::List;

use crate::{Contact, Distance, Group, Now, Peer, Point, UnixMicros};

/// k: peers of a bucket (Kademlia §2.2, kad-dht: 20; so many that they hardly all fail within an hour).
pub const K: usize = 20;
/// Peers of one group in a bucket. What geth's discovery allows of a /24 (`bucketIPLimit`).
pub const GROUP_PER_BUCKET_MAX: usize = 2;
/// Peers of one group in the table. What geth's discovery allows of a /24 (`tableIPLimit`).
pub const GROUP_PER_TABLE_MAX: usize = 10;
/// Replacements kept for a bucket. A guess: what fails between two refreshes of a bucket is less than a quarter of it.
pub const SPARES_PER_BUCKET_MAX: usize = 5;
/// Bits after a bucket's prefix that tell its corners apart: 16 corners for 20 peers.
const CORNER_BITS: u32 = 4;
/// A peer heard within this time isn't pinged when another wants its place. A guess: two heartbeats of a busy lookup.
const QUIET_MIN: Duration = Duration::from_secs(60);

/// The peers that a node knows, by their distance to it.
#[derive(Debug)]
pub struct Table<C> {
    me: Point,
    /// Ascending by distance to the own point, so that buckets are ranges, the deepest first.
    entries: List<C>,
    /// Replacements, in the same order.
    spares: List<C>,
}

/// What became of a peer that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered<P> {
    /// It has a place, since now.
    New,
    /// It had one already.
    Known,
    /// Its bucket is full, so it is a replacement.
    Spare {
        /// The peer that was heard least recently, long ago: ping it, and tell [`Table::silent`] if it doesn't answer.
        check: Option<P>,
    },
    /// It doesn't serve, is this node, or its group has its share.
    Refused,
}

impl<C: Contact> Table<C> {
    /// Makes the empty table of the node that stands at a point.
    pub fn new(me: Point) -> Self {
        Self {
            me,
            entries: List::around(me),
            spares: List::around(me),
        }
    }

    /// Takes a peer that has answered at this contact. A known peer is moved to the fresh end of its bucket, and of its
    /// two contacts the one issued later stays.
    pub fn proven(&mut self, contact: C, now: Now) -> Entered<C::Peer> {
        let point = contact.peer().point();
        if point == self.me {
            return Entered::Refused;
        }
        if !contact.serves() {
            self.remove(point);
            return Entered::Refused;
        }
        if let Ok(at) = self.place(point) {
            return self.renew(at, contact, now);
        }
        let bucket = self.bucket_at(point);
        let entry = Entry::new(point, contact, now.time);
        if bucket.len() >= K {
            return self.enter_full(entry, bucket, now);
        }
        if !self.group_has_room(entry.contact().group(), &bucket, None) {
            return Entered::Refused;
        }
        self.forget_spare(point);
        self.entries.insert(entry);
        Entered::New
    }

    /// Takes the news of a peer that has a place; if it has moved into a group that has its share, it loses that place.
    fn renew(&mut self, at: usize, contact: C, now: Now) -> Entered<C::Peer> {
        let entry = &self.entries[at];
        let bucket = self.bucket_at(entry.point());
        let moved = contact.group() != entry.contact().group();
        if moved && !self.group_has_room(contact.group(), &bucket, Some(at)) {
            self.entries.remove(at);
            return Entered::Refused;
        }
        self.entries[at].renew(contact, now.time);
        Entered::Known
    }

    /// Takes the place of a stale or surplus peer of a full bucket, or waits as a spare.
    fn enter_full(&mut self, entry: Entry<C>, bucket: Range<usize>, now: Now) -> Entered<C::Peer> {
        if let Some(at) = self.dispensable(entry.point(), entry.contact().group(), &bucket) {
            self.forget_spare(entry.point());
            let old = self.entries.remove(at);
            if old.standing() == Standing::Live {
                self.keep_spare(old);
            }
            self.entries.insert(entry);
            return Entered::New;
        }
        self.keep_spare(entry);
        let oldest = self.entries[bucket]
            .iter()
            .filter(|old| old.standing() == Standing::Live)
            .min_by_key(|old| old.seen_at());
        let check = oldest
            .filter(|old| now.time.since(old.seen_at()) >= QUIET_MIN)
            .map(Entry::peer);
        Entered::Spare { check }
    }

    /// Returns which peer of a full bucket gives way to a newcomer at a point: a stale one, else the youngest of the
    /// fullest corner, if that holds at least two more than the newcomer's.
    fn dispensable(
        &self,
        point: Point,
        group: Option<Group>,
        bucket: &Range<usize>,
    ) -> Option<usize> {
        let mut all = bucket.clone();
        let stale = all.find(|&at| self.entries[at].standing() == Standing::Stale);
        let at = stale.or_else(|| self.surplus(point, bucket))?;
        self.group_has_room(group, bucket, Some(at)).then_some(at)
    }

    fn surplus(&self, point: Point, bucket: &Range<usize>) -> Option<usize> {
        let from = self.prefix(point) + 1;
        let corner = |point: Point| self.distance(point).bits(from, CORNER_BITS);
        let mut held = [0_usize; 1 << CORNER_BITS];
        for entry in &self.entries[bucket.clone()] {
            held[corner(entry.point())] += 1;
        }
        let most = held.iter().copied().max()?;
        if most < held[corner(point)] + 2 {
            return None;
        }
        let crowded = |at: &usize| held[corner(self.entries[*at].point())] == most;
        let surplus = bucket.clone().filter(crowded);
        surplus.max_by_key(|&at| self.entries[at].since())
    }

    /// Notes that a peer spoke to us: it isn't the one to suspect. What it says proves no way to reach it.
    pub fn heard(&mut self, peer: C::Peer, now: Now) {
        if let Ok(at) = self.place(peer.point()) {
            self.entries[at].hear(now.time);
        }
    }

    /// Takes how long a peer took to answer.
    pub fn answered_in(&mut self, peer: C::Peer, took: Duration) {
        if let Ok(at) = self.place(peer.point()) {
            self.entries[at].sample(took);
        }
    }

    /// Notes that a peer left a request unanswered. Until it answers or [`Self::silent`] is told, nobody is sent to it.
    /// Returns whether it should be pinged.
    pub fn suspect(&mut self, peer: C::Peer) -> bool {
        let Ok(at) = self.place(peer.point()) else {
            return false;
        };
        let live = self.entries[at].standing() == Standing::Live;
        if live {
            self.entries[at].stand(Standing::Suspect);
        }
        live
    }

    /// Notes that a peer left a ping unanswered: the freshest spare of its bucket takes its place, or it becomes stale.
    pub fn silent(&mut self, peer: C::Peer) {
        let point = peer.point();
        self.forget_spare(point);
        let Ok(at) = self.place(point) else {
            return;
        };
        self.entries[at].stand(Standing::Stale);
        let bucket = self.bucket_at(point);
        let spares = self.spares.range(self.prefix(point));
        let freshest = spares
            .filter(|&spare| {
                let group = self.spares[spare].contact().group();
                self.group_has_room(group, &bucket, Some(at))
            })
            .max_by_key(|&spare| (self.spares[spare].seen_at(), Reverse(spare)));
        if let Some(spare) = freshest {
            let spare = self.spares.remove(spare);
            self.entries.remove(at);
            self.entries.insert(spare);
        }
    }

    /// Drops stale peers whose contact has expired, and spares too: nobody would take them from us, and where they are
    /// now we don't know.
    pub fn expire(&mut self, unix: UnixMicros) {
        let lasts = |entry: &Entry<C>| entry.contact().expires_at() > unix;
        self.entries
            .retain(|entry| entry.standing() != Standing::Stale || lasts(entry));
        self.spares.retain(lasts);
    }

    /// Takes a peer's place away.
    pub fn forget(&mut self, peer: C::Peer) {
        self.remove(peer.point());
    }

    /// Returns whether a peer that isn't known yet would get a place: so it is worth a ping.
    pub fn has_room_for(&self, contact: &C) -> bool {
        let point = contact.peer().point();
        if point == self.me || !contact.serves() || self.place(point).is_ok() {
            return false;
        }
        let bucket = self.bucket_at(point);
        if bucket.len() < K {
            return self.group_has_room(contact.group(), &bucket, None);
        }
        self.dispensable(point, contact.group(), &bucket).is_some()
    }

    /// Returns the `n` live peers closest to a point, the closest first: exactly those, of all buckets.
    pub fn closest(&self, target: Point, n: usize) -> Vec<&Entry<C>> {
        self.closest_where(target, n, |entry| entry.standing() == Standing::Live)
    }

    /// Returns the `n` closest peers that pass, the closest first.
    ///
    /// Peers of the target's own bucket are closer to it than all that are nearer to us, those closer than
    /// the next bucket outward, and so on: so the table is read bucket by bucket, and only while there are too few.
    pub fn closest_where(
        &self,
        target: Point,
        n: usize,
        pass: impl Fn(&Entry<C>) -> bool,
    ) -> Vec<&Entry<C>> {
        let mut found: Vec<&Entry<C>> = Vec::with_capacity(n + K);
        let own = self.entries.range(self.prefix(target));
        let mut outward = own.end;
        let mut parts = vec![own.clone(), 0..own.start];
        loop {
            for part in parts.drain(..) {
                if found.len() < n {
                    let from = found.len();
                    found.extend(self.entries[part].iter().filter(|entry| pass(entry)));
                    found[from..].sort_unstable_by_key(|entry| entry.point() ^ target);
                }
            }
            let Some(next) = self.entries.get(outward).filter(|_| found.len() < n) else {
                found.truncate(n);
                return found;
            };
            let bucket = self.entries.range(self.prefix(next.point()));
            outward = bucket.end;
            parts.push(bucket);
        }
    }

    /// Returns the `n` live peers that have been known for longest, the oldest first.
    pub fn oldest(&self, n: usize) -> Vec<&Entry<C>> {
        let live = |entry: &&Entry<C>| entry.standing() == Standing::Live;
        let mut live: Vec<&Entry<C>> = self.entries.iter().filter(live).collect();
        live.sort_by_key(|entry| entry.since());
        live.truncate(n);
        live
    }

    /// Returns a peer of the table.
    pub fn entry(&self, peer: C::Peer) -> Option<&Entry<C>> {
        let at = self.place(peer.point()).ok()?;
        Some(&self.entries[at])
    }

    /// Returns all peers, the closest to this node first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<C>> + '_ {
        self.entries.iter()
    }

    /// Returns the replacements, the closest to this node first.
    pub fn spares(&self) -> impl Iterator<Item = &Entry<C>> + '_ {
        self.spares.iter()
    }

    /// Returns the peers of one bucket, which share so many leading bits with this node.
    pub fn bucket(&self, prefix: u32) -> &[Entry<C>] {
        &self.entries[self.entries.range(prefix)]
    }

    /// Returns the prefix length of the bucket that holds the k-th closest peer: what lies deeper is among the k
    /// closest, which a lookup of this node itself brings. With fewer peers than k that is the first bucket.
    pub fn depth(&self) -> u32 {
        let last = self.entries.get(K - 1).or(self.entries.last());
        last.map_or(0, |entry| self.prefix(entry.point()))
    }

    /// Returns how many peers have a place.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether nobody has a place.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads what a search reads first, so that it is in the cache when one comes; returns anything made of it.
    pub fn touch(&self) -> u64 {
        self.entries.touch()
    }

    fn prefix(&self, point: Point) -> u32 {
        self.me.shared_prefix(point)
    }

    fn distance(&self, point: Point) -> Distance {
        self.me ^ point
    }

    /// Finds a peer's place, or the place that it would take.
    fn place(&self, point: Point) -> Result<usize, usize> {
        self.entries.place(point)
    }

    /// Returns where a point's bucket lies.
    fn bucket_at(&self, point: Point) -> Range<usize> {
        self.entries.range(self.prefix(point))
    }

    fn remove(&mut self, point: Point) {
        self.forget_spare(point);
        if let Ok(at) = self.place(point) {
            self.entries.remove(at);
        }
    }

    /// Returns whether one more of a group may enter a bucket, the one at `freed` having left.
    fn group_has_room(
        &self,
        group: Option<Group>,
        bucket: &Range<usize>,
        freed: Option<usize>,
    ) -> bool {
        let Some(group) = group else { return true };
        let members = self
            .entries
            .iter()
            .enumerate()
            .filter(|(at, entry)| Some(*at) != freed && entry.contact().group() == Some(group));
        let (mut in_bucket, mut in_table) = (0, 0);
        for (at, _) in members {
            in_table += 1;
            in_bucket += usize::from(bucket.contains(&at));
        }
        in_bucket < GROUP_PER_BUCKET_MAX && in_table < GROUP_PER_TABLE_MAX
    }

    /// Keeps a replacement, instead of the one of its bucket that was heard least recently.
    fn keep_spare(&mut self, spare: Entry<C>) {
        self.forget_spare(spare.point());
        let bucket = self.spares.range(self.prefix(spare.point()));
        if bucket.len() >= SPARES_PER_BUCKET_MAX
            && let Some(oldest) = bucket.min_by_key(|&at| self.spares[at].seen_at())
        {
            self.spares.remove(oldest);
        }
        self.spares.insert(spare);
    }

    fn forget_spare(&mut self, point: Point) {
        if let Ok(at) = self.spares.place(point) {
            self.spares.remove(at);
        }
    }
}
