//! A context as bytes that a client keeps for its next write and can't read.
//!
//! A version, a checksum, and the digest of the key that it belongs to; then each writer once with its intervals.
//! Nobody signs a token: a client could have its daemon cite anything anyway. The checksum is against bytes that got
//! lost on the way through somebody's shell.

use sha2::{Digest, Sha256};

use super::{CONTEXT_INTERVALS_MAX, Context, Interval};
use crate::kv::{KvKey, Seq};
use crate::{Peer, UnixMicros};

/// The form of the bytes.
const VERSION: u8 = 1;
/// Bytes of the checksum and of the key's digest: accidents are found, and nobody is deceived by a collision but itself.
const CHECK_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + 2 * CHECK_BYTES;
/// What siblings cite and are, together: their bound, and a tombstone's own dot, which may exceed it.
const INTERVALS_MAX: usize = CONTEXT_INTERVALS_MAX + 1;

/// Why bytes are no token of a key's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// They are not what a read of any key returned.
    #[error("the context is damaged or was never one: pass it exactly as `get` printed it")]
    Damaged,
    /// They are of a form that isn't known here.
    #[error("the context has version {0}, only {VERSION} is known: read the key again")]
    Version(u8),
    /// A read of another key returned them.
    #[error("the context belongs to another key: read this one and pass what that returns")]
    OtherKey,
}

impl<P: Peer> Context<P> {
    /// Returns the context as a token for a key: about 100 bytes for one writer, 40 more for each other.
    pub fn to_token(&self, key: &KvKey) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&digest_of(key));
        for of_writer in self.0.chunk_by(|a, b| a.writer == b.writer) {
            let Some(first) = of_writer.first() else {
                continue;
            };
            let writer = first.writer.key();
            put_number(&mut body, writer.as_bytes().len() as u64);
            body.extend_from_slice(writer.as_bytes());
            put_number(&mut body, of_writer.len() as u64);
            for interval in of_writer {
                put_interval(&mut body, interval);
            }
        }
        let mut token = vec![VERSION];
        token.extend_from_slice(&checksum(&body));
        token.extend_from_slice(&body);
        token
    }

    /// Reads the token of a key's context; `peer` reads a writer from the bytes of its key ([`Peer::key`]).
    pub fn from_token(
        token: &[u8],
        key: &KvKey,
        peer: impl Fn(&[u8]) -> Option<P>,
    ) -> Result<Self, TokenError> {
        let (version, rest) = token.split_first().ok_or(TokenError::Damaged)?;
        if *version != VERSION {
            return Err(TokenError::Version(*version));
        }
        if token.len() < HEAD_BYTES {
            return Err(TokenError::Damaged);
        }
        let (sum, body) = rest.split_at(CHECK_BYTES);
        if sum != checksum(body) {
            return Err(TokenError::Damaged);
        }
        let (of_key, mut left) = body.split_at(CHECK_BYTES);
        if of_key != digest_of(key) {
            return Err(TokenError::OtherKey);
        }
        let intervals = intervals(&mut left, peer).ok_or(TokenError::Damaged)?;
        Self::from_ordered(intervals).ok_or(TokenError::Damaged)
    }
}

/// Reads all intervals; `None` if they are not whole or too many.
fn intervals<P: Peer>(
    left: &mut &[u8],
    peer: impl Fn(&[u8]) -> Option<P>,
) -> Option<Vec<Interval<P>>> {
    let mut read = Vec::new();
    while !left.is_empty() {
        let len = usize::try_from(number(left)?).ok()?;
        let writer = peer(left.split_off(..len)?)?;
        for _ in 0..number(left)? {
            if read.len() == INTERVALS_MAX {
                return None;
            }
            read.push(interval(left, writer)?);
        }
    }
    Some(read)
}

/// Writes an interval; the second epoch is relative to the first, since both are mostly one.
fn put_interval<P>(out: &mut Vec<u8>, interval: &Interval<P>) {
    put_number(out, interval.after.epoch);
    put_number(out, interval.after.counter);
    put_number(out, interval.to.epoch - interval.after.epoch);
    put_number(out, interval.to.counter);
    let end = interval.ends_at.map_or(0, |end| end.0.saturating_add(1));
    put_number(out, end);
}

fn interval<P>(left: &mut &[u8], writer: P) -> Option<Interval<P>> {
    let after = Seq {
        epoch: number(left)?,
        counter: number(left)?,
    };
    let to = Seq {
        epoch: after.epoch.checked_add(number(left)?)?,
        counter: number(left)?,
    };
    Some(Interval {
        writer,
        after,
        to,
        ends_at: number(left)?.checked_sub(1).map(UnixMicros),
    })
}

/// Writes a number seven bits at a time, the lowest first; the eighth says that more follow (LEB128).
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(left: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *left.split_off_first()?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn digest_of(key: &KvKey) -> [u8; CHECK_BYTES] {
    first_bytes(Sha256::digest(key.as_str()).into())
}

fn checksum(body: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Sha256::new()
        .chain_update(b"weft/context")
        .chain_update(body);
    first_bytes(hash.finalize().into())
}

fn first_bytes([a, b, c, d, e, f, g, h, ..]: [u8; 32]) -> [u8; CHECK_BYTES] {
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
