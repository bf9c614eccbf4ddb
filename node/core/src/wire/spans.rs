//! Spans of streams: what digests are all of, and what exchanges divide.

use weft_identity::PeerId;
use weft_overlay::digest::SPANS_PER_FRAME_MAX;
use weft_overlay::plumtree::Part;
use weft_overlay::{Span, StreamId};

use super::encode::{bounded, id};
use super::fields::{Fields, Refused, malformed, once};
use super::proto;

/// Bytes of a span: two bounds with all bytes of a publisher, and a sum.
pub(super) const BYTES_MAX: usize = 128;
/// Bytes of a publisher.
const PEER_BYTES: usize = 32;

/// Encodes spans without sums.
pub(super) fn encode(spans: &[Span<PeerId>]) -> Vec<proto::Span> {
    let whole = |span: &Span<PeerId>| Part {
        span: *span,
        sum: None,
    };
    let parts: Vec<_> = spans.iter().map(whole).collect();
    encode_parts(&parts)
}

/// Encodes spans with what was seen of them. One that begins where the one before ends doesn't say so.
pub(super) fn encode_parts(parts: &[Part<PeerId>]) -> Vec<proto::Span> {
    let mut end = None;
    bounded(parts, SPANS_PER_FRAME_MAX)
        .map(|Part { span, sum }| {
            let first = span.first.filter(|_| span.first != end);
            end = span.upto;
            proto::Span {
                first: first.map(encode_bound),
                upto: span.upto.map(encode_bound),
                sum: *sum,
            }
        })
        .collect()
}

fn encode_bound(bound: StreamId<PeerId>) -> proto::Bound {
    let bytes = bound.publisher.as_bytes();
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    proto::Bound {
        publisher: id(&bytes[..PEER_BYTES - zeros]),
        epoch: bound.epoch,
    }
}

/// Reads the spans of a list, one after the other.
#[derive(Default)]
pub(super) struct Reader(Vec<Part<PeerId>>);

impl Reader {
    /// Reads the next one.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.0.len() >= SPANS_PER_FRAME_MAX {
            return malformed("over 256 spans");
        }
        let (mut first, mut upto, mut sum) = (None, None, None);
        for field in Fields::new(bytes) {
            let (number, value) = field?;
            match number {
                1 => once(&mut first, bound(value.bytes()?)?)?,
                2 => once(&mut upto, bound(value.bytes()?)?)?,
                3 => once(&mut sum, value.fixed32()?)?,
                _ => {}
            }
        }
        let before = self.0.last().map(|part| part.span);
        let span = Span {
            first: first.or(before.and_then(|before| before.upto)),
            upto,
        };
        if span.is_empty() || before.is_some_and(|before| !span.follows(&before)) {
            return malformed("spans that overlap, or are empty");
        }
        self.0.push(Part { span, sum });
        Ok(())
    }

    /// Returns the spans with what was seen of them.
    pub(super) fn parts(self) -> Vec<Part<PeerId>> {
        self.0
    }

    /// Returns the spans alone.
    pub(super) fn spans(self) -> Vec<Span<PeerId>> {
        self.0.into_iter().map(|part| part.span).collect()
    }
}

fn bound(bytes: &[u8]) -> Result<StreamId<PeerId>, Refused> {
    let (mut publisher, mut epoch) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut publisher, value.bytes()?)?,
            2 => once(&mut epoch, value.seq()?)?,
            _ => {}
        }
    }
    let mut whole = [0; PEER_BYTES];
    let said = publisher.unwrap_or_default();
    match whole.get_mut(..said.len()) {
        Some(place) => place.copy_from_slice(said),
        None => return malformed("a bound of over 32 bytes"),
    }
    Ok(StreamId {
        publisher: PeerId::from_bytes(whole),
        epoch: epoch.unwrap_or(0),
    })
}
