//! History: every stream of a swarm, the newest bundles of them, and which bundles may enter.
//!
//! Retention is by arrival: the newest bytes and minutes are held (`arrived.rs` says whose). What has been *seen* outlives what is held, so that an
//! old bundle is recognised for as long as it could be accepted (its horizon), and so that a publisher that was silent
//! for a day goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::arrived::Arrived;
use crate::digest::StreamDigest;
use crate::outbox::Outbox;
use crate::retained::Change;
use crate::seqs::RANGES_MAX;
use crate::small::SmallMap;
use crate::stream::{Fit, Stream};
use crate::{Bundle, Header, Now, Seqs, StreamId, Time, UnixMicros};

pub use crate::stream::Held;

/// How much is held, and what may enter.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of bundles that are held: the design's bound before retention can be set.
    pub bytes_max: usize,
    /// How long a bundle is held.
    pub age_max: Duration,
    /// Bundles published longer ago than this (and the skew) are refused.
    pub horizon: Duration,
    /// How far a publisher's clock may be ahead of or behind ours.
    pub skew: Duration,
    /// Streams of one publisher that are known; one more retires the oldest, and what is held of it.
    pub epochs_max: usize,
    /// From how many on that is done with one that is spent: nothing of it is held, and nothing can come.
    pub epochs_spent_max: usize,
    /// Streams whose seen-state is kept: some 1.3 kB each while a bundle is held. More displace those silent past the horizon or, where there are none, of
    /// the neighbour that brought most the ones silent for longest.
    pub streams_max: usize,
    /// Whether changes are told ([`Change`]), for somebody who keeps the same on disk.
    pub tells_changes: bool,
}

impl Config {
    /// Returns how long nothing has come of a stream of which nothing may enter any more that was published when it last did.
    fn silent_after(&self) -> Duration {
        self.horizon + self.skew * 2
    }
}

/// How much is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of bundles.
    pub bytes_max: usize,
    /// How long after it came a bundle is held.
    pub age_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bytes_max: 16 * 1024 * 1024,
            age_max: Duration::from_secs(300),
            horizon: Duration::from_secs(300),
            skew: Duration::from_secs(60),
            epochs_max: EPOCHS_MAX,
            epochs_spent_max: EPOCHS_SPENT_MAX,
            streams_max: STREAMS_MAX,
            tells_changes: false,
        }
    }
}

/// Streams of one publisher that are known by default: one each fifteen seconds, for the hour that messages are kept. A program that
/// fails again and again starts its daemon, and publishes, more often than a person does.
pub const EPOCHS_MAX: usize = 256;

/// Streams of one publisher from which on one that is spent makes room for the next, by default (the design's bound).
pub const EPOCHS_SPENT_MAX: usize = 8;

/// Streams of a swarm whose seen-state is kept by default: ten thousand publishers, and room for runs of theirs that have ended.
pub const STREAMS_MAX: usize = 16_384;

/// Proofs of equivocation that are kept: each is two bundles; enough to show who and how, bounded for memory.
pub const PROOFS_MAX: usize = 16;

/// Of the streams that may be displaced, this part goes at once: looking for them costs a walk through all.
const DISPLACED_SHARE: usize = 16;

/// Bundles of a stream that are held, from which on it is displaced only after those with fewer: making up publishers that say much
/// costs a signature for each bundle.
const ESTABLISHED: usize = 8;

/// How often streams are looked through for holes that are past the horizon.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Why a bundle may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Published before the horizon.
    TooOld,
    /// Published, or its epoch begun, later than our clock and the skew allow.
    Future,
    /// Its epoch was retired by later ones.
    RetiredEpoch,
    /// Its predecessor's hash is not that of the bundle before it.
    BrokenChain,
    /// More holes in one stream than can be told: it may come again later.
    TooManyHoles,
    /// More live streams than are kept.
    TooManyStreams,
}

/// What became of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is held now.
    New,
    /// It was seen before.
    Duplicate,
    /// It makes good a base that was proven false, and lies before the true one.
    BeforeBase,
    /// The publisher has signed another bundle for its place; the first one stays, both are kept as proof.
    Equivocation,
    /// It may not enter.
    Refused(Refusal),
}

/// Every stream of a swarm and the newest bundles of them.
#[derive(Clone, Debug)]
pub struct History<B: Bundle> {
    pub(crate) config: Config,
    pub(crate) streams: SmallMap<StreamId<B::Peer>, Stream<B>>,
    /// Held bundles in the order of their arrival.
    pub(crate) arrived: Arrived<B::Peer>,
    pub(crate) bytes: usize,
    proofs: VecDeque<(B, B)>,
    /// When this member began where others stood; none while it has not.
    pub(crate) based_at: Option<UnixMicros>,
    /// When a stream last ceased to be known.
    pub(crate) retired_at: Option<Time>,
    pub(crate) fingerprint: Option<[u8; 16]>,
    sweep_at: Time,
    pub(crate) changes: Outbox<Change<B::Peer>>,
}

impl<B: Bundle> History<B> {
    /// Makes an empty history.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            streams: SmallMap::new(),
            arrived: Arrived::new(),
            bytes: 0,
            proofs: VecDeque::new(),
            based_at: None,
            retired_at: None,
            fingerprint: None,
            sweep_at: Time::ZERO,
            changes: Outbox::new(),
        }
    }

    /// Takes in a verified bundle if it is new and may enter; `from` is who brought it, none where it is this member's own.
    pub fn admit(&mut self, bundle: &B, hops: u8, from: Option<B::Peer>, now: Now) -> Admission {
        let header = bundle.header();
        if let Some(stream) = self.streams.get(&header.stream) {
            match stream.fit(&header, Some(bundle.predecessor())) {
                Fit::New => {}
                Fit::Duplicate => return Admission::Duplicate,
                Fit::Conflict => return self.prove(bundle, &header),
                Fit::BrokenChain => return Admission::Refused(Refusal::BrokenChain),
                Fit::TooManyHoles => return Admission::Refused(Refusal::TooManyHoles),
            }
        }
        if let Err(refusal) = self.check_age(bundle, now) {
            return Admission::Refused(refusal);
        }
        if let Err(refusal) = self.open(header.stream, Some(bundle.published_at()), now.time) {
            return Admission::Refused(refusal);
        }
        let stream = self
            .streams
            .get_or_insert_with(header.stream, || Stream::new(from, now.time));
        if stream.passes_over(bundle) {
            self.fingerprint = None;
            self.note(Change::Moved(header.stream));
            return Admission::BeforeBase;
        }
        stream.keep(bundle.clone(), hops, now.unix, now.time);
        let messages = header.last - header.first + 1;
        self.arrived
            .push_back(header.stream, header.first, messages);
        self.bytes += bundle.cost_bytes();
        self.note_weight(header.stream.publisher);
        self.fingerprint = None;
        self.shed(now.time);
        Admission::New
    }

    /// Recognises a bundle by its header alone, as one whose body was verified before.
    pub fn recognises(&self, header: &Header<B::Peer>) -> bool {
        self.streams
            .get(&header.stream)
            .is_some_and(|stream| stream.fit(header, None) == Fit::Duplicate)
    }

    pub(crate) fn check_age(&self, bundle: &B, now: Now) -> Result<(), Refusal> {
        let published = bundle.published_at();
        if now.unix.since(published) > self.config.horizon + self.config.skew {
            return Err(Refusal::TooOld);
        }
        let latest = now.unix + self.config.skew;
        if published > latest || bundle.header().stream.epoch > latest.0 / 1_000 {
            return Err(Refusal::Future);
        }
        Ok(())
    }

    /// Makes room for a stream that isn't known yet: a bundle's, or none where another names it.
    pub(crate) fn open(
        &mut self,
        id: StreamId<B::Peer>,
        published_at: Option<UnixMicros>,
        now: Time,
    ) -> Result<(), Refusal> {
        if self.streams.contains_key(&id) {
            return Ok(());
        }
        if let Some(oldest) = self.epoch_to_retire(id.publisher, now) {
            let epoch = match (self.made_up_epoch(id.publisher), published_at) {
                (_, None) => return Err(Refusal::RetiredEpoch),
                (Some(claimed), Some(at)) if self.based_at < Some(at) => claimed,
                _ if id.epoch < oldest => return Err(Refusal::RetiredEpoch),
                _ => oldest,
            };
            self.retire(&BTreeSet::from([StreamId { epoch, ..id }]), now);
        }
        if self.streams.len() >= self.config.streams_max {
            self.displace(now);
        }
        match self.streams.len() < self.config.streams_max {
            true => Ok(()),
            false => Err(Refusal::TooManyStreams),
        }
    }

    /// Returns the oldest epoch of a publisher, if one more costs it its place.
    fn epoch_to_retire(&self, publisher: B::Peer, now: Time) -> Option<u64> {
        let mut known = self.runs_of(publisher);
        let (oldest, stream) = known.next()?;
        let is_spent = stream.held.is_empty() && self.is_silent(stream, now);
        let most = match is_spent {
            true => self.config.epochs_spent_max,
            false => self.config.epochs_max,
        };
        (known.count() + 1 >= most).then_some(oldest.epoch)
    }

    /// Returns whether nothing has come of a stream for so long that nothing may enter of what was published then.
    fn is_silent(&self, stream: &Stream<B>, now: Time) -> bool {
        now.since(stream.touched) > self.config.silent_after()
    }

    /// Makes room for more streams. Whoever brings ever new publishers displaces what it has brought itself: others keep theirs.
    fn displace(&mut self, now: Time) {
        let brought = |(id, stream): (&StreamId<B::Peer>, &Stream<B>)| {
            let rank = (stream.held.len() >= ESTABLISHED, stream.touched);
            let is_silent = self.is_silent(stream, now);
            stream.source.map(|source| (source, rank, *id, is_silent))
        };
        let mut shares: BTreeMap<B::Peer, usize> = BTreeMap::new();
        for (source, ..) in self.streams.iter().filter_map(brought) {
            *shares.entry(source).or_default() += 1;
        }
        let largest = shares.into_iter().max_by_key(|(_, count)| *count);
        let largest = largest.map(|(source, _)| source);
        let (silent, others): (Vec<_>, Vec<_>) = self
            .streams
            .iter()
            .filter_map(brought)
            .partition(|(.., is_silent)| *is_silent);
        let mut leaving: Vec<_> = match silent.is_empty() {
            true => {
                let share = others.into_iter();
                share.filter(|(by, ..)| Some(*by) == largest).collect()
            }
            false => silent,
        };
        leaving.sort_unstable_by_key(|(_, rank, ..)| *rank);
        leaving.truncate((leaving.len() / DISPLACED_SHARE).max(1));
        self.retire(&leaving.into_iter().map(|(_, _, id, _)| id).collect(), now);
    }

    fn retire(&mut self, ids: &BTreeSet<StreamId<B::Peer>>, now: Time) {
        self.retired_at = Some(now);
        let mut messages = 0;
        for id in ids {
            if let Some(stream) = self.streams.remove(id) {
                self.bytes -= stream.bytes;
                self.fingerprint = None;
                for (first, held) in stream.held {
                    messages += held.bundle.header().last - first + 1;
                    self.note(Change::Dropped {
                        stream: *id,
                        first,
                        bytes: held.bundle.cost_bytes(),
                    });
                }
                self.note(Change::Retired(*id));
            }
        }
        self.arrived.remove(|id| ids.contains(id), messages);
    }

    fn prove(&mut self, bundle: &B, header: &Header<B::Peer>) -> Admission {
        let stream = self.streams.get(&header.stream);
        let known = stream
            .and_then(|stream| (header.first..=header.last).find_map(|seq| stream.held_at(seq)));
        if let Some(known) = known
            && !self
                .proofs
                .iter()
                .any(|(_, other)| other.header().hash == header.hash)
        {
            if self.proofs.len() >= PROOFS_MAX {
                self.proofs.pop_front();
            }
            self.proofs
                .push_back((known.bundle.clone(), bundle.clone()));
        }
        Admission::Equivocation
    }

    /// Returns the proofs of equivocation that are kept: pairs of different bundles that one publisher signed for one place.
    pub fn proofs(&self) -> impl Iterator<Item = &(B, B)> {
        self.proofs.iter()
    }

    /// A gap was told. Where holes have become many it counts as seen, so that later holes find room.
    pub(crate) fn gap_told(&mut self, id: StreamId<B::Peer>, from: u64, to: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.seen.range_count() > RANGES_MAX / 2
        {
            stream.seen.insert(from, to);
            self.fingerprint = None;
        }
    }

    /// Drops what is too old, oldest arrival first, and what is too much.
    pub fn shed(&mut self, now: Time) {
        while let Some((id, first)) = self.arrived.front() {
            let too_old = self
                .held(id, first)
                .is_none_or(|held| held.age(now) >= self.config.age_max);
            if !too_old {
                break;
            }
            if let Some(stream) = self.streams.get_mut(&id) {
                // Whatever is missing before it is older still.
                let last = stream
                    .held
                    .get(&first)
                    .map(|held| held.bundle.header().last);
                if stream.write_off_below(last.unwrap_or(0)) {
                    self.fingerprint = None;
                }
            }
            self.drop_oldest();
        }
        while self.bytes > self.config.bytes_max && self.make_room() > 0 {}
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP_INTERVAL;
            self.write_off_holes(now);
        }
    }

    /// Counts holes as seen that are past the horizon: what is missing in them could not enter any more, and members that
    /// missed different parts would never be in step again.
    fn write_off_holes(&mut self, now: Time) {
        let bound = self.config.silent_after();
        for stream in self.streams.values_mut() {
            if now.since(stream.touched) > bound && stream.write_off_below(u64::MAX) {
                self.fingerprint = None;
            }
        }
    }

    /// Returns when something held becomes too old.
    pub fn next_expiry(&self) -> Time {
        self.arrived
            .front()
            .and_then(|(id, first)| self.held(id, first))
            .map_or(Time::NEVER, |held| {
                held.received + self.config.age_max.saturating_sub(held.older)
            })
    }

    /// Returns the bytes that are held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how long a bundle can be accepted after it was published.
    pub const fn horizon(&self) -> Duration {
        self.config.horizon
    }

    /// Returns how many streams are known.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Returns the known streams in ascending order.
    pub fn streams(&self) -> impl Iterator<Item = StreamId<B::Peer>> {
        self.streams.keys().copied()
    }

    /// Returns the known epochs of a publisher in ascending order.
    pub fn epochs(&self, publisher: B::Peer) -> impl DoubleEndedIterator<Item = u64> {
        self.runs_of(publisher).map(|(id, _)| id.epoch)
    }

    /// Returns the known epochs of a stream's publisher that are later than it, in ascending order.
    pub(crate) fn epochs_after(&self, id: StreamId<B::Peer>) -> impl Iterator<Item = u64> {
        let of = |epoch| StreamId { epoch, ..id };
        let later = id.epoch.saturating_add(1);
        let streams = self.streams.range(of(later), of(u64::MAX));
        streams.map(|(id, _)| id.epoch)
    }

    /// Returns what has been seen of a stream; none where the stream isn't known.
    pub fn seen(&self, id: StreamId<B::Peer>) -> Option<&Seqs> {
        self.streams.get(&id).map(|stream| &stream.seen)
    }

    /// Returns the last seq before which this member starts; 0 where it starts at the stream's beginning.
    pub fn base(&self, id: StreamId<B::Peer>) -> u64 {
        self.streams.get(&id).map_or(0, |stream| stream.base)
    }

    /// Returns what counts as seen of a stream because this member starts after it, and isn't held all the same.
    pub(crate) fn before_base(&self, id: StreamId<B::Peer>) -> Seqs {
        let stream = self.streams.get(&id);
        stream.map_or_else(Seqs::default, |stream| {
            Seqs::range(1, stream.base.min(stream.supplies_from.saturating_sub(1)))
        })
    }

    /// Returns the seq from which on all that was seen of a stream is held; 1 where the stream isn't known.
    pub fn supplies_from(&self, id: StreamId<B::Peer>) -> u64 {
        self.streams
            .get(&id)
            .map_or(1, |stream| stream.supplies_from)
    }

    /// Returns a publisher's streams in ascending order of epoch.
    pub(crate) fn runs_of(
        &self,
        publisher: B::Peer,
    ) -> impl DoubleEndedIterator<Item = (&StreamId<B::Peer>, &Stream<B>)> {
        let of = |epoch| StreamId { publisher, epoch };
        self.streams.range(of(0), of(u64::MAX))
    }

    /// Returns the held bundle that holds a seq.
    pub fn held(&self, id: StreamId<B::Peer>, seq: u64) -> Option<&Held<B>> {
        self.streams.get(&id)?.held_at(seq)
    }

    /// Returns a stream's last seq, and when its bundle came or would have come; none where it isn't held any more.
    pub(crate) fn newest(&self, id: StreamId<B::Peer>) -> Option<(u64, Time)> {
        let stream = self.streams.get(&id)?;
        Some((stream.newest()?.bundle.header().last, stream.head_at))
    }

    /// The bundle at a stream's head would have come earlier over a better parent.
    pub(crate) fn would_have_come(&mut self, id: StreamId<B::Peer>, at: Time) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.head_at = stream.head_at.min(at);
        }
    }

    /// Returns the first held bundle that ends at or after a seq.
    pub fn held_from(&self, id: StreamId<B::Peer>, seq: u64) -> Option<&Held<B>> {
        let stream = self.streams.get(&id)?;
        stream
            .held_at(seq)
            .or_else(|| stream.held.range(seq..).next().map(|(_, held)| held))
    }

    /// Returns what a stream's first bundle says of the epoch before; none until that bundle was seen.
    pub fn previous_epoch(&self, id: StreamId<B::Peer>) -> Option<crate::PreviousEpoch> {
        self.streams.get(&id)?.previous_epoch
    }

    /// Returns the digest of one stream.
    pub fn digest(&self, id: StreamId<B::Peer>, now: Time) -> Option<StreamDigest<B::Peer>> {
        Some(self.streams.get(&id)?.digest(id, now))
    }
}
