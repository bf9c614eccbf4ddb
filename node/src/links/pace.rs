//! How fast a peer may talk.
//!
//! Bundles pay for themselves: each is signed, is worth having once, and its bytes are bounded by what a link may have waiting.
//! Everything else is small for the sender and work for the receiver, so it is counted in units of work, and a peer that sends
//! more than any honest one is read more slowly. Nothing is lost by that, and nobody but the peer itself waits.

use std::time::Duration;

use tokio::time::Instant;
use weft_core::keeping;
use weft_core::wire::{Frame, StoreMessage};
use weft_dht::{Answer, Message, Query, store::messages as store};
use weft_overlay::hyparview::Message as Membership;
use weft_overlay::plumtree::Message as Broadcast;

/// The time in which one unit of work is earned: some 4,000 a second, five in each of a node's swarms (1,024 at most), and a
/// few percent of a core.
const UNIT: Duration = Duration::from_micros(250);
/// Units that may be spent at once: a node that joins a thousand topics sends some eight frames for each.
const BURST: u32 = 8_192;
/// Streams of a digest, a request or a graft that are one unit of work.
const STREAMS_A_UNIT: usize = 8;
/// What a query of the structured layer costs beside its frame: the closest of some hundred peers are found, and twenty are
/// encoded. A guess; a lookup asks one peer once, so no honest one comes near a thousand queries a second.
const QUERY: usize = 3;
/// Records that are one unit of work: checking a signature takes some 60 microseconds.
const RECORDS_A_UNIT: usize = 4;
/// Ranges, heads or ids that are one unit of work.
const RANGES_A_UNIT: usize = 64;
/// Units of sums over a swarm's streams: over ten thousand they take some 2 milliseconds.
const SUMS_UNITS: usize = 8;
/// Units of a comparison: a node that holds 100,000 records makes its list of items in 12 milliseconds.
const COMPARISON_UNITS: usize = 48;
/// Units of a page of a topic's digests: a thousand of them are made and encoded. A guess.
const PAGE_UNITS: usize = 16;
/// Units of supplying bundles that a keeper is asked for: a quarter of a mebibyte is copied.
const SUPPLY_UNITS: usize = 4;

/// What one peer has spent.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all that was spent is earned again.
    paid_at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// Takes what a frame costs.
    pub(super) fn spend(&mut self, frame: &Frame, now: Instant) {
        self.paid_at = self.paid_at.max(now) + UNIT.saturating_mul(work(frame));
    }

    /// Returns how long to read nothing.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let owed = self.paid_at.saturating_duration_since(now);
        owed.saturating_sub(UNIT.saturating_mul(BURST))
    }
}

/// Returns the units of work that a frame makes.
fn work(frame: &Frame) -> u32 {
    let entries = match frame {
        Frame::Broadcast { message, .. } => match message {
            Broadcast::Bundle { .. } | Broadcast::Duplicate { .. } => return 0,
            Broadcast::Digest { kind, streams, .. } => {
                streams.len() / STREAMS_A_UNIT + kind.spans().len()
            }
            Broadcast::Split { parts, .. } => SUMS_UNITS + parts.len() / RANGES_A_UNIT,
            Broadcast::Want { ranges } => ranges.len() / STREAMS_A_UNIT,
            Broadcast::Graft { trees } | Broadcast::Prune { trees } => trees.len() / STREAMS_A_UNIT,
            Broadcast::Fingerprint { .. } | Broadcast::Beacon(_) => 0,
        },
        // Each descriptor has a signature, and checking one takes longer than all else.
        Frame::Membership {
            message: Membership::Shuffle { sample, .. } | Membership::ShuffleReply { sample },
            ..
        } => sample.len(),
        Frame::Kad {
            message: Message::Answer(answer),
            ..
        } => match answer {
            Answer::Pong => 0,
            Answer::Closer { contacts } => contacts.len(),
            Answer::Providers { providers, closer } => providers.len() + closer.len(),
        },
        Frame::Kad {
            message: Message::Query(query),
            ..
        } => match query {
            Query::Ping | Query::AddProvider { .. } => 0,
            Query::FindNode { .. } | Query::GetProviders { .. } => QUERY,
        },
        Frame::Store { message, .. } => store_work(message),
        Frame::Topics { message, .. } => topics_work(message),
        Frame::Membership { .. }
        | Frame::Hello { .. }
        | Frame::Ping { .. }
        | Frame::Pong { .. }
        | Frame::Stopping
        | Frame::Unknown => 0,
    };
    1 + entries as u32
}

/// Returns the units beyond one that a message of the store makes: records have signatures, what is asked for is read from
/// disk, and a comparison looks at everything that the two nodes share.
fn store_work(message: &StoreMessage) -> usize {
    match message {
        StoreMessage::Query(query) => match query {
            store::Query::Push { records } => records.len() / RECORDS_A_UNIT,
            store::Query::Compare { ranges, .. } => COMPARISON_UNITS + ranges.len() / RANGES_A_UNIT,
            store::Query::Fetch { items } => items.len() / RECORDS_A_UNIT,
            store::Query::Offer { items } => items.len() / RANGES_A_UNIT,
            store::Query::Get { .. }
            | store::Query::Heads { .. }
            | store::Query::List { .. }
            | store::Query::Put { .. }
            | store::Query::Claim { .. } => 0,
        },
        StoreMessage::Answer(answer) => match answer {
            store::Answer::Got { records, .. } | store::Answer::Fetched { records, .. } => {
                records.len() / RECORDS_A_UNIT
            }
            store::Answer::Heads { heads, .. } => heads.len() / RANGES_A_UNIT,
            store::Answer::Compare { differing } => differing.len() / RANGES_A_UNIT,
            store::Answer::Lacks { lacks } => lacks.len() / RANGES_A_UNIT,
            store::Answer::Put { .. }
            | store::Answer::Claim { .. }
            | store::Answer::Pushed { .. }
            | store::Answer::Unable => 0,
        },
    }
}

/// Returns the units beyond one that a message about topics makes. Bundles pay for themselves, here as elsewhere.
fn topics_work(message: &keeping::Message) -> usize {
    match message {
        keeping::Message::Query(query) => match query {
            keeping::Query::Meet(membership) => membership.topics.len() / STREAMS_A_UNIT,
            keeping::Query::Digests { .. } => PAGE_UNITS,
            keeping::Query::Fetch { streams, .. } => SUPPLY_UNITS + streams.len() / STREAMS_A_UNIT,
            keeping::Query::Confirm { .. } | keeping::Query::Hand { .. } => 0,
        },
        keeping::Message::Answer(answer) => match answer {
            keeping::Answer::Met { topics, contacts } => {
                contacts.len() + topics.len() / STREAMS_A_UNIT
            }
            keeping::Answer::Digests { streams, .. } => streams.len() / STREAMS_A_UNIT,
            keeping::Answer::Fetched { .. }
            | keeping::Answer::Confirmed { .. }
            | keeping::Answer::Unable => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed_to_the_rate() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..BURST {
            pace.spend(&Frame::Ping { nonce: 1 }, now);
        }
        assert_eq!(pace.pause(now), Duration::ZERO);
        for _ in 0..400 {
            pace.spend(&Frame::Unknown, now);
        }
        assert_eq!(pace.pause(now), UNIT * 400);
        assert_eq!(pace.pause(now + UNIT * 400), Duration::ZERO);
    }

    #[test]
    fn a_peer_that_rests_may_talk_again() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..10 * BURST {
            pace.spend(&Frame::Ping { nonce: 1 }, now);
        }
        let later = now + UNIT * 11 * BURST;
        for _ in 0..BURST {
            pace.spend(&Frame::Ping { nonce: 1 }, later);
        }
        assert_eq!(pace.pause(later), Duration::ZERO);
    }
}
