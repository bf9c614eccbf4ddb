//! Kademlia's geometry: keys, the points that they stand at, and the distance between points (Maymounkov & Mazières,
//! "Kademlia", IPTPS 2002, §2.1; 256 bits instead of 160, as in libp2p's kad-dht specification).
//!
//! A key travels as its own bytes, and each side hashes it: a peer can't choose the point of its id more cheaply than by
//! making keys.

use std::cmp::Ordering;
use std::fmt;
use std::ops::BitXor;

use sha2::{Digest, Sha256};

/// The longest key in bytes. libp2p sets none; the longest multihashes in use take 68 bytes, and names of ours 200.
pub const KEY_BYTES_MAX: usize = 256;
/// Bits of a point.
pub const POINT_BITS: u32 = 256;

/// What is looked up: at most [`KEY_BYTES_MAX`] bytes, of which the point is SHA-256.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

/// A key that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTooLong {
    /// Its length in bytes.
    pub len: usize,
}

impl fmt::Display for KeyTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len } = self;
        write!(f, "a key of {len} bytes, at most {KEY_BYTES_MAX}")
    }
}

impl std::error::Error for KeyTooLong {}

impl Key {
    /// Takes a key's bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyTooLong> {
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyTooLong { len: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// Takes 32 bytes, which are never too long.
    pub fn from_array(bytes: [u8; 32]) -> Self {
        Self(bytes.into())
    }

    /// Returns the key's bytes, as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns where the key stands.
    pub fn point(&self) -> Point {
        Point::of(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        hex(&self.0[..self.0.len().min(8)], f)?;
        f.write_str("…)")
    }
}

/// A place in the 256-bit key space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point([u8; 32]);

impl Point {
    /// Returns the point of a key's bytes: their SHA-256.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Takes a point's bytes, the most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the point's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns how many leading bits the two points share, 256 if they are one.
    #[inline]
    pub fn shared_prefix(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
}

impl BitXor for Point {
    type Output = Distance;

    /// Returns the distance between two points.
    #[inline]
    fn bitxor(self, rhs: Self) -> Distance {
        let mut bytes = self.0;
        for (byte, other) in bytes.iter_mut().zip(rhs.0) {
            *byte ^= other;
        }
        Distance(bytes)
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Point(")?;
        hex(&self.0[..4], f)?;
        f.write_str("…)")
    }
}

/// The distance between two points: their exclusive or, as a number. For a point and a distance there is one other
/// point.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Distance([u8; 32]);

impl Ord for Distance {
    /// Compares as numbers; nearly always the leading bits decide, without a comparison of bytes.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let leads = self.lead().cmp(&other.lead());
        leads.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Distance {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Distance {
    /// Returns the number of leading zero bits, which is the number of leading bits that the two points share.
    #[inline]
    pub fn leading_zeros(self) -> u32 {
        let lead = self.lead();
        if lead != 0 {
            return lead.leading_zeros();
        }
        let first = self.0.iter().position(|byte| *byte != 0);
        first.map_or(POINT_BITS, |at| {
            8 * u32::try_from(at).unwrap_or(0) + self.0[at].leading_zeros()
        })
    }

    /// Returns its 64 leading bits as a number, by which nearly any two differ.
    #[inline]
    pub fn lead(self) -> u64 {
        let mut lead = [0; 8];
        lead.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(lead)
    }

    /// Returns whether this is the distance of a point to itself.
    #[inline]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 32]
    }

    /// Returns the number that `count` bits from bit `from` on make, at most 8 of them; bits beyond the last are zero.
    #[inline]
    pub(crate) fn bits(self, from: u32, count: u32) -> usize {
        let byte = |at: u32| u32::from(self.0.get(at as usize).copied().unwrap_or(0));
        let two = byte(from / 8) << 8 | byte(from / 8 + 1);
        (two << (from % 8) & 0xffff) as usize >> (16 - count)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distance(")?;
        hex(&self.0[..4], f)?;
        f.write_str("…)")
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_sha_256_of_the_key() {
        // FIPS 180-2, appendix B.1.
        let point = Key::new(b"abc").unwrap().point();
        assert_eq!(format!("{point:?}"), "Point(ba7816bf…)");
    }

    #[test]
    fn a_key_may_be_256_bytes_long_and_no_longer() {
        assert!(Key::new(&[0; 256]).is_ok());
        assert_eq!(Key::new(&[0; 257]), Err(KeyTooLong { len: 257 }));
    }

    #[test]
    fn distance_is_symmetric_and_zero_only_to_itself() {
        let (a, b) = (Point::of(b"a"), Point::of(b"b"));
        assert_eq!(a ^ b, b ^ a);
        let itself = a ^ Point::of(b"a");
        assert_eq!(
            (itself.leading_zeros(), itself.is_zero()),
            (POINT_BITS, true)
        );
        assert!((a ^ b) > itself && !(a ^ b).is_zero());
    }

    #[test]
    fn bits_are_read_across_bytes() {
        let mut bytes = [0; 32];
        (bytes[0], bytes[1], bytes[31]) = (0b0000_0110, 0b1010_0000, 0b1101);
        let distance = Point::from_bytes(bytes) ^ Point::from_bytes([0; 32]);
        assert_eq!(distance.bits(5, 4), 0b1101);
        assert_eq!(distance.bits(0, 8), 0b0110);
        assert_eq!(distance.bits(252, 4), 0b1101);
        assert_eq!(distance.bits(254, 4), 0b0100);
        assert_eq!(distance.bits(256, 4), 0);
    }

    #[test]
    fn shared_prefixes_are_counted_in_bits() {
        let with = |byte: u8| {
            let mut bytes = [0; 32];
            bytes[1] = byte;
            Point::from_bytes(bytes)
        };
        assert_eq!(with(0).shared_prefix(with(0x80)), 8);
        assert_eq!(with(0).shared_prefix(with(0x01)), 15);
        assert_eq!(with(0x0f).shared_prefix(with(0x0e)), 15);
    }
}
