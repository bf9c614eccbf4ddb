//! The reading side of the log: a key's value, a table's, and the scrub. It never waits for a sync.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, Kind, Salt};
use super::index::{KeyId, Place};
use super::log::{Shared, lock, segment_name};
use super::volume::VolumeFile;
use super::{Finding, LoadError, Table};

/// Bytes that are read at once where a part of a segment can't be: what a disk loses, it loses by blocks of this or less.
const BLOCK_BYTES: usize = 4 << 10;
/// Bytes of an entry that is read at once where it is in memory (a guess: more is worth a thread's while).
const AT_ONCE_BYTES: u32 = 16 << 10;
/// The system's number for a disk that can't read.
const EIO: i32 = 5;

/// Reads what the index knows of.
#[derive(Debug)]
pub(super) struct Reader<F> {
    index: Shared<F>,
    salt: Salt,
    scrub: Scrub,
}

/// How far a round of the scrub has come.
#[derive(Debug, Default)]
struct Scrub {
    segment: u32,
    /// What is left of the segment, last place first.
    left: Vec<(KeyId, Place)>,
}

impl<F: VolumeFile> Reader<F> {
    pub(super) fn new(index: Shared<F>, salt: Salt) -> Self {
        let scrub = Scrub::default();
        Self { index, salt, scrub }
    }

    /// Reads a key's value; `None` if it has none.
    pub(super) fn load(
        &self,
        table: Table,
        key: &[u8],
        found: &mut Vec<Finding>,
    ) -> Result<Option<Bytes>, LoadError> {
        let id = KeyId::of(table, key);
        match self.read(id) {
            Ok(read) => Ok(read.map(|(bytes, found)| Bytes::from(bytes).slice(found.value))),
            Err(Unread::Damaged { segment, bytes }) => {
                found.push(Finding::lost(&self.salt, segment, id, &bytes));
                Err(LoadError::Corrupt)
            }
            Err(Unread::Failed(error)) => Err(LoadError::Failed(error.to_string())),
        }
    }

    /// Reads a key's value as [`Self::load`] does if nothing has to be waited for; `None` if something has, or anything is wrong.
    pub(super) fn load_at_once(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        let id = KeyId::of(table, key);
        let Some((place, file)) = self.find(id).ok()? else {
            return Some(None);
        };
        if place.bytes > AT_ONCE_BYTES {
            return None;
        }
        let mut bytes = vec![0; place.bytes as usize];
        if !file.read_from_memory(&mut bytes, u64::from(place.at)) {
            return None;
        }
        let found = self.decode(id, &bytes)?;
        Some(Some(Bytes::from(bytes).slice(found.value)))
    }

    /// Reads all of a table in the order in which it was written, with no value where that is lost. Returns of how many not
    /// even the key can be read.
    pub(super) fn scan(
        &self,
        table: Table,
        mut each: impl FnMut(Bytes, Option<Bytes>),
    ) -> io::Result<usize> {
        let places = lock(&self.index).live(|place| place.table == table as u8);
        let mut unnamed = 0;
        for (id, _) in places {
            match self.read(id) {
                Ok(None) => {}
                Ok(Some((bytes, found))) => {
                    let bytes = Bytes::from(bytes);
                    each(bytes.slice(found.key), Some(bytes.slice(found.value)));
                }
                Err(Unread::Damaged { bytes, .. }) => {
                    match frame::decode_name(&self.salt, &bytes) {
                        Some(name) => each(Bytes::copy_from_slice(name.key), None),
                        None => unnamed += 1,
                    }
                }
                Err(Unread::Failed(error)) => return Err(error),
            }
        }
        Ok(unnamed)
    }

    /// Checks some of what the log holds, from the disk itself. Returns whether the round has come to its end.
    pub(super) fn scrub(&mut self, budget_bytes: u64, found: &mut Vec<Finding>) -> bool {
        let mut checked = 0;
        while checked < budget_bytes {
            let Some((id, place)) = self.scrub.left.pop() else {
                if self.next_segment() {
                    continue;
                }
                self.scrub = Scrub::default();
                return true;
            };
            checked += u64::from(place.bytes);
            let damaged = match self.find(id) {
                Ok(Some((now, file))) if now == place => {
                    file.forget(u64::from(place.at), u64::from(place.bytes));
                    self.read_at(id, place, &*file).err()
                }
                // What was written anew, copied or removed meanwhile needs no check.
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if let Some(Unread::Damaged { segment, bytes }) = damaged {
                found.push(Finding::lost(&self.salt, segment, id, &bytes));
            }
        }
        false
    }

    fn next_segment(&mut self) -> bool {
        let index = lock(&self.index);
        let mut later = index.segments().range(self.scrub.segment + 1..);
        let Some((number, _)) = later.next() else {
            return false;
        };
        self.scrub.segment = *number;
        self.scrub.left = index.live(|place| place.segment == *number);
        self.scrub.left.reverse();
        true
    }

    /// Reads a key's newest entry, if it has one.
    fn read(&self, id: KeyId) -> Result<Option<(Vec<u8>, Found)>, Unread> {
        self.find(id)?
            .map(|(place, file)| self.read_at(id, place, &*file))
            .transpose()
    }

    /// Returns where a key's newest entry lies. The file stays readable even if it is deleted meanwhile.
    fn find(&self, id: KeyId) -> Result<Option<(Place, Arc<F>)>, Unread> {
        let index = lock(&self.index);
        let Some(place) = index.place(id) else {
            return Ok(None);
        };
        // A segment goes only after what was live in it stands elsewhere, or can't be read.
        let file = index.file(place.segment);
        file.map_or_else(
            || Err(Unread::at(place, Vec::new())),
            |file| Ok(Some((place, file))),
        )
    }

    fn read_at(&self, id: KeyId, place: Place, file: &F) -> Result<(Vec<u8>, Found), Unread> {
        let mut bytes = vec![0; place.bytes as usize];
        match file.read_at(&mut bytes, u64::from(place.at)) {
            Err(error) if is_unreadable(&error) => return Err(Unread::at(place, Vec::new())),
            outcome => outcome.map_err(Unread::Failed)?,
        }
        match self.decode(id, &bytes) {
            Some(found) => Ok((bytes, found)),
            None => Err(Unread::at(place, bytes)),
        }
    }

    /// Returns where the parts of a key's entry lie; `None` if the bytes are not its entry as it was written.
    fn decode(&self, id: KeyId, bytes: &[u8]) -> Option<Found> {
        let entry = frame::decode_entry(&self.salt, bytes)?;
        let is_it = entry.kind == Kind::Put && KeyId::of_raw(entry.table, entry.key) == id;
        let key_bytes = is_it.then_some(entry.key.len())?;
        Some(Found {
            key: frame::key_range(key_bytes),
            value: frame::value_range(key_bytes, bytes.len()),
        })
    }
}

/// Why an entry can't be read.
enum Unread {
    /// These bytes stand where it should, in this segment; none if the disk can't read any.
    Damaged { segment: u32, bytes: Vec<u8> },
    /// The system's word.
    Failed(io::Error),
}

impl Unread {
    fn at(place: Place, bytes: Vec<u8>) -> Self {
        let segment = place.segment;
        Self::Damaged { segment, bytes }
    }
}

impl Finding {
    /// Says that a key's value is lost, with the key itself if the damaged entry still tells it.
    pub(super) fn lost(salt: &Salt, segment: u32, id: KeyId, damaged: &[u8]) -> Self {
        let name = frame::decode_name(salt, damaged).and_then(|name| {
            let key = Bytes::copy_from_slice(name.key);
            Some((Table::of(name.table)?, key))
        });
        let file = segment_name(segment).into();
        Self::Lost { file, id, name }
    }
}

/// Where the parts of an entry lie in its bytes.
struct Found {
    key: Range<usize>,
    value: Range<usize>,
}

/// Reads a whole file into a buffer; zeros stand for what the disk can't read.
pub(super) fn read_all<F: VolumeFile>(file: &F, into: &mut [u8]) -> io::Result<()> {
    match file.read_at(into, 0) {
        Err(error) if is_unreadable(&error) => {}
        outcome => return outcome,
    }
    for (nth, block) in into.chunks_mut(BLOCK_BYTES).enumerate() {
        match file.read_at(block, (nth * BLOCK_BYTES) as u64) {
            Err(error) if is_unreadable(&error) => block.fill(0),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Says whether the bytes are gone, or the disk can't read them; that is damage, like bytes that have changed.
fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO) || error.kind() == ErrorKind::UnexpectedEof
}
