//! How two members find what they have seen differently, without telling each other all of it.
//!
//! Source: Meyer, "Range-Based Set Reconciliation", SRDS 2023. The streams in the order of their ids are divided into spans of equal
//! numbers; two members compare what they have seen of a span by a hash, and divide it further where that differs, until so few
//! streams are left that their digests are told. Where this differs:
//! - what is compared of a stream is what was *seen*, not what is held: members drop bundles at different times;
//! - everything is compared by 16 bytes, for a match is what two neighbours rest on. The sums of spans have 4, with a salt that each
//!   message draws anew: what two of them hide by chance shows with the next exchange, and nobody can prepare bundles for a salt
//!   that comes from the sender's clock at that moment.
//!
//! Nobody keeps a tree: a sum is a hash over 72 bytes for each stream of the span.

use weft_identity::Hash;

use crate::history::History;
use crate::span::{Span, between};
use crate::stream::Stream;
use crate::{Bundle, StreamId, Time};

/// Parts of a span that is divided: 8 sums with their bounds take 120 bytes, and ten thousand streams are four levels.
pub const PARTS: usize = 8;
/// Streams of a span that isn't divided but told: their digests take about as much as what dividing would cost on the way.
pub const TOLD_STREAMS_MAX: usize = 8;

impl<B: Bundle> Stream<B> {
    /// Appends what was seen of the stream. Its head hash stands for the publisher, whose signed bytes it covers.
    fn write_seen(&self, epoch: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(&epoch.to_be_bytes());
        for range in self.seen.iter() {
            out.extend_from_slice(&range.start().to_be_bytes());
            out.extend_from_slice(&range.end().to_be_bytes());
        }
    }
}

impl<B: Bundle> History<B> {
    /// Returns the first 16 bytes of a hash over everything seen; zero where that is nothing.
    pub fn fingerprint(&mut self) -> [u8; 16] {
        if let Some(known) = self.fingerprint {
            return known;
        }
        let mut fingerprint = [0; 16];
        if !self.streams.is_empty() {
            let hash = self.hash_of(Span::ALL, &[]);
            fingerprint.copy_from_slice(&hash.as_bytes()[..16]);
        }
        self.fingerprint = Some(fingerprint);
        fingerprint
    }

    /// Returns what stands for everything seen of a span, under a salt.
    pub fn sum(&self, span: Span<B::Peer>, salt: u32) -> u32 {
        let hash = self.hash_of(span, &salt.to_be_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn hash_of(&self, span: Span<B::Peer>, before: &[u8]) -> Hash {
        let mut bytes = before.to_vec();
        for (id, stream) in self.streams.span(span.first, span.upto) {
            stream.write_seen(id.epoch, &mut bytes);
        }
        Hash::of(&bytes)
    }

    /// Returns the known streams of a span, in order.
    pub fn streams_of(&self, span: Span<B::Peer>) -> impl Iterator<Item = StreamId<B::Peer>> {
        let streams = self.streams.span(span.first, span.upto);
        streams.map(|(id, _)| *id)
    }

    /// Returns whether a span has so few streams that they are told instead of dividing it.
    pub fn is_told(&self, span: Span<B::Peer>) -> bool {
        self.streams_of(span).nth(TOLD_STREAMS_MAX).is_none()
    }

    /// Divides a span into at most [`PARTS`] of equal numbers of streams.
    pub fn divide(&self, span: Span<B::Peer>) -> Vec<Span<B::Peer>> {
        let each = self.streams_of(span).count().div_ceil(PARTS).max(1);
        let mut parts = Vec::with_capacity(PARTS);
        let mut first = span.first;
        let mut before = None;
        for (at, id) in self.streams_of(span).enumerate() {
            if let Some(before) = before.filter(|_| at.is_multiple_of(each)) {
                let upto = Some(between(before, id));
                parts.push(Span { first, upto });
                first = upto;
            }
            before = Some(id);
        }
        let upto = span.upto;
        parts.push(Span { first, upto });
        parts
    }

    /// Returns the streams of which something has come since.
    pub(crate) fn changed_since(&self, since: Time) -> impl Iterator<Item = StreamId<B::Peer>> {
        let streams = self.streams.iter();
        let changed = streams.filter(move |(_, stream)| stream.touched >= since);
        changed.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests;
