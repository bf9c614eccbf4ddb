//! How a segment lies on disk: a header, then frames of entries, each with its own check.
//!
//! ```text
//! segment  header, header again (each 64 bytes), then frames
//! header   magic "weftlog1", number u32, zero u32, end of the segment before u64, zero u64, salt 16, check 16
//! frame    magic u32, length of the entries u32, zero u64, check 16; then the entries
//! entry    table u8, kind u8, key length u16, value length u32; key; check of these 8; value; check of all 16
//! ```
//!
//! Integers are little-endian. A check is the first bytes of SHA-256 over the store's salt and what it covers; a frame's
//! also covers the segment's number and the place in it, so that bytes of an older life of the disk are never taken for a
//! frame. The salt is random and told to nobody: values come from peers, and none can hold bytes that pass for a frame or
//! an entry when damage makes a reader look for the next one.
//!
//! An entry's front has a check of its own, so that it is known which key's value is damaged. In a mended segment
//! (`mend.rs`) a *lost* entry stands for such a one, and *filler* where not even the key is known.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// Bytes of a segment before its first frame: the header twice, so that no single damage takes both.
pub(super) const FRAMES_AT: usize = 2 * HEADER_BYTES;
/// Bytes of a frame before its entries.
pub(super) const FRAME_HEAD_BYTES: usize = 32;
/// Bytes of an entry beside its key and value.
pub(super) const ENTRY_BYTES_MIN: usize = ENTRY_HEAD_BYTES + NAME_CHECK_BYTES + CHECK_BYTES;

const HEADER_BYTES: usize = 64;
const ENTRY_HEAD_BYTES: usize = 8;
const NAME_CHECK_BYTES: usize = 8;
const CHECK_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const SEGMENT_MAGIC: [u8; 8] = *b"weftlog1";
/// Four bytes that no text holds, so that looking for the next frame in one is quick.
const FRAME_MAGIC: [u8; 4] = [0xf7, 0x0c, 0x9e, 0xd1];

/// What makes this store's checks its own.
pub(super) type Salt = [u8; SALT_BYTES];

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The key has this value from here on.
    Put = 1,
    /// The key has none from here on.
    Remove = 2,
    /// The key has a value from here on, but what it is can't be read any more.
    Lost = 3,
    /// Nothing.
    Filler = 4,
}

impl Kind {
    /// Returns what a byte of an entry stands for.
    pub(super) const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Put),
            2 => Some(Self::Remove),
            3 => Some(Self::Lost),
            4 => Some(Self::Filler),
            _ => None,
        }
    }
}

/// An entry whose check holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    pub(super) table: u8,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The front of an entry, whose check holds, so that its length does too; its value may be damaged or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) kind: Kind,
    pub(super) table: u8,
    pub(super) key: &'a [u8],
    /// How long the entry is in all.
    pub(super) entry_bytes: usize,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u32,
    /// How long the segment before was when this one began; zero for the first.
    pub(super) before_end: u64,
    pub(super) salt: Salt,
}

impl Header {
    /// Returns the bytes with which the segment begins.
    pub(super) fn encode(&self) -> [u8; FRAMES_AT] {
        let mut once = [0; HEADER_BYTES];
        once[..8].copy_from_slice(&SEGMENT_MAGIC);
        once[8..12].copy_from_slice(&self.number.to_le_bytes());
        once[16..24].copy_from_slice(&self.before_end.to_le_bytes());
        once[32..48].copy_from_slice(&self.salt);
        let check = check(&self.salt, "segment", &[&once[..48]]);
        once[48..].copy_from_slice(&check);
        let mut twice = [0; FRAMES_AT];
        twice[..HEADER_BYTES].copy_from_slice(&once);
        twice[HEADER_BYTES..].copy_from_slice(&once);
        twice
    }

    /// Reads the header that begins a segment, from whichever copy is whole. The flag says whether both are.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, bool)> {
        let copies = [
            bytes.get(..HEADER_BYTES).and_then(Self::decode_copy),
            bytes
                .get(HEADER_BYTES..FRAMES_AT)
                .and_then(Self::decode_copy),
        ];
        let both = copies[0] == copies[1];
        copies[0].or(copies[1]).map(|header| (header, both))
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let salt: Salt = bytes.get(32..48)?.try_into().ok()?;
        let holds = bytes.get(..8)? == SEGMENT_MAGIC
            && bytes.get(48..64)? == check(&salt, "segment", &[bytes.get(..48)?]);
        holds.then_some(())?;
        Some(Self {
            number: u32_at(bytes, 8)?,
            before_end: u64_at(bytes, 16)?,
            salt,
        })
    }
}

/// A frame that is being made. Its entries' places are known at once; its own is bound when it is finished.
#[derive(Debug, Default)]
pub(super) struct FrameBuilder {
    bytes: Vec<u8>,
}

impl FrameBuilder {
    /// Adds an entry; returns where it stands from the frame's first byte, and its length.
    pub(super) fn push(&mut self, salt: &Salt, entry: &Entry<'_>) -> (usize, usize) {
        if self.bytes.is_empty() {
            self.bytes.resize(FRAME_HEAD_BYTES, 0);
        }
        let at = self.bytes.len();
        encode_entry(salt, entry, &mut self.bytes);
        (at, self.bytes.len() - at)
    }

    /// Returns how long the frame is so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether it has no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Binds the frame to its place and returns its bytes.
    pub(super) fn finish(&mut self, salt: &Salt, number: u32, at: u64) -> &[u8] {
        if !self.bytes.is_empty() {
            let head = frame_head(salt, number, at, self.bytes.len() - FRAME_HEAD_BYTES);
            self.bytes[..FRAME_HEAD_BYTES].copy_from_slice(&head);
        }
        &self.bytes
    }

    /// Empties it, and gives memory back beyond what an ordinary frame takes.
    pub(super) fn clear(&mut self, keep_bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep_bytes);
    }
}

/// Returns the head of a frame whose entries have a length.
pub(super) fn frame_head(
    salt: &Salt,
    number: u32,
    at: u64,
    entries_bytes: usize,
) -> [u8; FRAME_HEAD_BYTES] {
    let bytes = u32::try_from(entries_bytes).expect("a segment is far shorter than 4 GiB");
    let mut head = [0; FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&FRAME_MAGIC);
    head[4..8].copy_from_slice(&bytes.to_le_bytes());
    let check = frame_check(salt, number, at, &head[..16]);
    head[16..].copy_from_slice(&check);
    head
}

/// Reads the head of a frame at its place; returns how long its entries are.
pub(super) fn decode_frame_head(salt: &Salt, number: u32, at: u64, bytes: &[u8]) -> Option<usize> {
    // Cheap first: damage makes a reader try every position.
    (bytes.get(..4)? == FRAME_MAGIC).then_some(())?;
    (bytes.get(16..32)? == frame_check(salt, number, at, &bytes[..16])).then_some(())?;
    usize::try_from(u32_at(bytes, 4)?).ok()
}

/// Appends an entry's bytes.
pub(super) fn encode_entry(salt: &Salt, entry: &Entry<'_>, to: &mut Vec<u8>) {
    let begin = to.len();
    let key_bytes = u16::try_from(entry.key.len()).expect("the store's front bounds keys");
    let value_bytes = u32::try_from(entry.value.len()).expect("the store's front bounds values");
    to.extend_from_slice(&[entry.table, entry.kind as u8]);
    to.extend_from_slice(&key_bytes.to_le_bytes());
    to.extend_from_slice(&value_bytes.to_le_bytes());
    to.extend_from_slice(entry.key);
    let name_check = check(salt, "name", &[&to[begin..]]);
    to.extend_from_slice(&name_check[..NAME_CHECK_BYTES]);
    to.extend_from_slice(entry.value);
    let check = check(salt, "entry", &[&to[begin..]]);
    to.extend_from_slice(&check);
}

/// Reads the front of the entry that begins some bytes, if its check holds. Those bytes may end before the entry does.
pub(super) fn decode_name<'a>(salt: &Salt, bytes: &'a [u8]) -> Option<Name<'a>> {
    let name = parse_name(bytes)?;
    let front = ENTRY_HEAD_BYTES + name.key.len();
    let found = bytes.get(front..front + NAME_CHECK_BYTES)?;
    (found == &check(salt, "name", &[&bytes[..front]])[..NAME_CHECK_BYTES]).then_some(name)
}

/// Reads the entry that takes exactly these bytes, if its check holds.
pub(super) fn decode_entry<'a>(salt: &Salt, bytes: &'a [u8]) -> Option<Entry<'a>> {
    let (covered, found) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
    (found == check(salt, "entry", &[covered])).then_some(())?;
    parse_entry(bytes)
}

/// Says that a key's value is lost, if the front of its damaged entry still holds.
pub(super) fn lost_entry<'a>(salt: &Salt, damaged: &'a [u8]) -> Option<Entry<'a>> {
    decode_name(salt, damaged).map(|name| Entry {
        kind: Kind::Lost,
        table: name.table,
        key: name.key,
        value: &[],
    })
}

/// Reads the entry that takes exactly these bytes and is known to hold.
fn parse_entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let name = parse_name(bytes)?;
    (name.entry_bytes == bytes.len()).then_some(())?;
    Some(Entry {
        kind: name.kind,
        table: name.table,
        key: name.key,
        value: &bytes[value_range(name.key.len(), bytes.len())],
    })
}

/// Returns where the key lies in an entry whose key has a length.
pub(super) const fn key_range(key_bytes: usize) -> Range<usize> {
    ENTRY_HEAD_BYTES..ENTRY_HEAD_BYTES + key_bytes
}

/// Returns where the value lies in an entry of a length whose key has a length.
pub(super) const fn value_range(key_bytes: usize, entry_bytes: usize) -> Range<usize> {
    ENTRY_HEAD_BYTES + key_bytes + NAME_CHECK_BYTES..entry_bytes - CHECK_BYTES
}

/// Reads the front of the entry that begins some bytes and is known to hold.
pub(super) fn parse_name(bytes: &[u8]) -> Option<Name<'_>> {
    let kind = Kind::of(*bytes.get(1)?)?;
    let key_bytes = usize::from(u16::from_le_bytes(bytes.get(2..4)?.try_into().ok()?));
    let value_bytes = usize::try_from(u32_at(bytes, 4)?).ok()?;
    Some(Name {
        kind,
        table: bytes[0],
        key: bytes.get(key_range(key_bytes))?,
        entry_bytes: ENTRY_BYTES_MIN
            .checked_add(key_bytes)?
            .checked_add(value_bytes)?,
    })
}

/// Returns 16 bytes that say whether some others are what was written.
pub(super) fn check(salt: &Salt, what: &str, parts: &[&[u8]]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(what.as_bytes());
    for part in parts {
        hash.update(part);
    }
    let hash = hash.finalize();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

fn frame_check(salt: &Salt, number: u32, at: u64, head: &[u8]) -> [u8; CHECK_BYTES] {
    check(
        salt,
        "frame",
        &[&number.to_le_bytes(), &at.to_le_bytes(), head],
    )
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = [7; 16];

    fn entry<'a>(key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
        Entry {
            kind: Kind::Put,
            table: 1,
            key,
            value,
        }
    }

    #[test]
    fn a_header_survives_any_damage_to_one_copy() {
        let header = Header {
            number: 9,
            before_end: 1 << 33,
            salt: SALT,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some((header, true)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Some((header, false)), "bit {bit}");
        }
        assert_eq!(Header::decode(b"SQLite format 3\0"), None);
    }

    #[test]
    fn an_entry_holds_only_as_it_was_written_and_under_its_own_salt() {
        let mut bytes = Vec::new();
        encode_entry(&SALT, &entry(b"key", b"value"), &mut bytes);
        assert_eq!(decode_entry(&SALT, &bytes), Some(entry(b"key", b"value")));
        assert_eq!(decode_entry(&[8; 16], &bytes), None);
        assert_eq!(decode_entry(&SALT, &bytes[..bytes.len() - 1]), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_entry(&SALT, &flipped), None, "bit {bit}");
            // Beyond its front it is still known whose value it was.
            let name = decode_name(&SALT, &flipped).map(|name| (name.key, name.entry_bytes));
            let front = ENTRY_HEAD_BYTES + 3 + NAME_CHECK_BYTES;
            let known = (bit / 8 >= front).then_some((&b"key"[..], bytes.len()));
            assert_eq!(name, known, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_belongs_to_its_place_alone() {
        let mut frame = FrameBuilder::default();
        let (at, bytes) = frame.push(&SALT, &entry(b"key", b"value"));
        assert_eq!((at, bytes), (FRAME_HEAD_BYTES, frame.bytes() - at));
        let encoded = frame.finish(&SALT, 3, 128).to_vec();
        assert_eq!(
            decode_frame_head(&SALT, 3, 128, &encoded),
            Some(bytes),
            "it reads where it stands"
        );
        assert_eq!(decode_frame_head(&SALT, 4, 128, &encoded), None);
        assert_eq!(decode_frame_head(&SALT, 3, 129, &encoded), None);
        assert_eq!(decode_frame_head(&[8; 16], 3, 128, &encoded), None);
    }
}
