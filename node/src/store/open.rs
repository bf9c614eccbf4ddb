//! Opening the log: every byte of it is read and checked, and the index is made from what is there.
//!
//! What doesn't hold is one of two things. **Torn**: the process or the machine died while a group was being written. Nobody
//! was told that it counts; it is cut off. **Damaged**: something that was acknowledged can't be read any more. Those two
//! are told apart by what lies behind: a group is written only once the one before it is synced, so that whatever stands in
//! front of a whole frame, of a later segment or of the mark was durable once. Damage is reported, the damaged file is kept
//! under another name, and the segment is mended (`mend.rs`); the log then opens with all the rest.
//!
//! A directory without a segment in which something else lies is no store, and is not made one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::contents::{self, Found, Frame};
use super::frame::{self, FRAME_HEAD_BYTES, FRAMES_AT, Header, Kind, Salt};
use super::index::{Index, KeyId, Place};
use super::log::{
    DAMAGED, Head, Log, MARK, MARK_BYTES, NEW, create_segment, decode_mark, encode_mark,
    prepare_file, put_in_place, segment_name, segment_number, set_aside, write_file,
};
use super::mend;
use super::read;
use super::volume::{Volume, VolumeFile};
use super::{Damage, Options, PersistError};

/// Segments missing between two that are there, beyond which these aren't of one store.
const MISSING_MAX: u32 = 1_024;

/// Bytes of a segment, with much to spare: one ends with the first group past its bound.
const FILE_BYTES_MAX: usize = 1 << 30;

/// A log that is open, and what was found.
pub(super) struct Opened<V: Volume> {
    pub(super) log: Log<V>,
    pub(super) damage: Vec<Damage>,
    /// Bytes of a group that was being written when the last process died.
    pub(super) torn_bytes: u64,
}

/// Opens the log in a directory, or makes one in an empty one.
pub(super) fn open<V: Volume>(
    volume: V,
    options: Options,
    new_salt: impl FnOnce() -> io::Result<Salt>,
) -> Result<Opened<V>, String> {
    let mut numbers = segments(&volume)?;
    if numbers.is_empty() {
        let salt =
            new_salt().map_err(|error| format!("the system gives no randomness: {error}"))?;
        create_segment(&volume, &salt, 1, 0)
            .map_err(|error| format!("making it failed: {error}"))?;
        numbers.push(1);
    }
    let mut reader = Reader {
        volume,
        index: Index::default(),
        damage: Vec::new(),
        torn_bytes: 0,
        headers: BTreeMap::new(),
        salt: Salt::default(),
        mark: None,
    };
    reader.read_headers(&numbers)?;
    reader
        .read_mark()
        .map_err(|error| format!("{MARK}: {error}"))?;
    let head = reader.read_segments(&numbers)?;
    let mark = reader.rewrite_mark(&head);
    let index = Arc::new(Mutex::new(reader.index));
    Ok(Opened {
        log: Log::new(reader.volume, options, reader.salt, index, head, mark),
        damage: reader.damage,
        torn_bytes: reader.torn_bytes,
    })
}

/// Returns the numbers of the segments, in order; clears away what was being made when the last process died.
fn segments<V: Volume>(volume: &V) -> Result<Vec<u32>, String> {
    let names = volume.names().map_err(|error| error.to_string())?;
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    for name in names {
        let made = name.strip_suffix(NEW);
        if made.is_some_and(|made| made == MARK || segment_number(made).is_some()) {
            volume
                .remove(&name)
                .map_err(|error| format!("{name}: {error}"))?;
        } else if let Some(number) = segment_number(&name) {
            numbers.push(number);
        } else if !name.contains(DAMAGED) {
            others.push(name);
        }
    }
    numbers.sort_unstable();
    match others.first() {
        Some(other) if numbers.is_empty() => Err(format!(
            "it holds {other:?} but no segment of a store, and is not made a new store; if it isn't needed move it away, and \
             this node starts with an empty store that fills from its replicas"
        )),
        _ => Ok(numbers),
    }
}

struct Reader<V: Volume> {
    volume: V,
    index: Index<V::File>,
    damage: Vec<Damage>,
    torn_bytes: u64,
    /// The headers that can be read, and whether both of their copies can.
    headers: BTreeMap<u32, (Header, bool)>,
    salt: Salt,
    mark: Option<(u32, u64)>,
}

impl<V: Volume> Reader<V> {
    fn read_headers(&mut self, numbers: &[u32]) -> Result<(), String> {
        for number in numbers {
            let name = segment_name(*number);
            let failed = |error: io::Error| format!("{name}: {error}");
            let file = self.volume.open(&name).map_err(failed)?;
            let bytes = file.bytes().map_err(failed)?.min(FRAMES_AT as u64);
            let mut header = vec![0; usize::try_from(bytes).unwrap_or(FRAMES_AT)];
            file.read_at(&mut header, 0).map_err(failed)?;
            let Some((header, both)) = Header::decode(&header) else {
                continue;
            };
            if header.number != *number {
                let is = segment_name(header.number);
                return Err(format!("{name} is {is} under another name; move it away"));
            }
            self.headers.insert(*number, (header, both));
        }
        let mut salts = self.headers.values().map(|(header, _)| header.salt);
        self.salt = salts.next().ok_or(
            "none of its segments begins as one does: they are of something else, or damaged beyond reading; move the directory \
             away, and this node starts with an empty store that fills from its replicas",
        )?;
        if salts.any(|salt| salt != self.salt) {
            return Err(
                "it holds segments of two stores; move those away that don't belong here".into(),
            );
        }
        Ok(())
    }

    fn read_mark(&mut self) -> io::Result<()> {
        let file = match self.volume.open(MARK) {
            Ok(file) => file,
            // The process may have died before it made one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; MARK_BYTES];
        if file.bytes()? == MARK_BYTES as u64 {
            file.read_at(&mut bytes, 0)?;
            self.mark = decode_mark(&self.salt, &bytes);
        }
        if self.mark.is_none() {
            self.damage.push(Damage {
                file: MARK.into(),
                unnamed_bytes: Some(0),
                aside: None,
            });
        }
        Ok(())
    }

    /// Reads all segments in order, mends those that need it, and returns the last.
    fn read_segments(&mut self, numbers: &[u32]) -> Result<Head<V::File>, String> {
        let mut last: Option<Head<V::File>> = None;
        let mut bytes = Vec::new();
        for number in numbers {
            let missing = last.as_ref().map_or(0..0, |last| last.number + 1..*number);
            if missing.end - missing.start > MISSING_MAX {
                return Err(format!(
                    "too many segments are missing before {} for it to be of this store; move away what doesn't belong here",
                    segment_name(*number)
                ));
            }
            for number in missing {
                last = Some(self.make_up(number, last.as_ref())?);
            }
            let is_last = numbers.last() == Some(number);
            let head = self.read_segment(*number, last.as_ref(), is_last, &mut bytes);
            last = Some(head.map_err(|error| format!("{}: {error}", segment_name(*number)))?);
        }
        let last = last.ok_or("it has no segment")?;
        if let Some((marked, _)) = self.mark
            && marked > last.number
        {
            self.damage.push(Damage {
                file: segment_name(marked),
                unnamed_bytes: None,
                aside: None,
            });
        }
        Ok(last)
    }

    /// Puts a segment where one is missing, so that it is missed once.
    fn make_up(
        &mut self,
        number: u32,
        before: Option<&Head<V::File>>,
    ) -> Result<Head<V::File>, String> {
        let name = segment_name(number);
        let header = self.header(number, before);
        let end = self.end_by_successor(number).unwrap_or(FRAMES_AT);
        let bytes = mend::mended(&header, &[], &[], end).unwrap_or_else(|| header.encode().into());
        let file =
            write_file(&self.volume, &name, &bytes).map_err(|error| format!("{name}: {error}"))?;
        self.damage.push(Damage {
            file: name,
            unnamed_bytes: None,
            aside: None,
        });
        Ok(self.add(number, file, bytes.len()))
    }

    /// Reads one segment into the index, and mends it if need be.
    fn read_segment(
        &mut self,
        number: u32,
        before: Option<&Head<V::File>>,
        is_last: bool,
        bytes: &mut Vec<u8>,
    ) -> io::Result<Head<V::File>> {
        let mut file = self.volume.open(&segment_name(number))?;
        let long = place(file.bytes()?);
        if long > FILE_BYTES_MAX {
            return Err(io::Error::other(
                "it is far longer than a segment, and must be something else",
            ));
        }
        bytes.resize(long, 0);
        read::read_all(&file, bytes)?;
        // What lies past the end of a segment that has a successor was never acknowledged.
        let sealed_end = self.end_by_successor(number).filter(|_| !is_last);
        let mut frames = contents::frames(&self.salt, number, bytes);
        let marked = self.mark.filter(|(marked, _)| *marked == number);
        let end = sealed_end.unwrap_or_else(|| {
            let synced = marked.map_or(FRAMES_AT, |(_, end)| place(end));
            contents::whole_end(&frames).max(synced)
        });
        frames.retain(|frame| frame.at < end);
        let is_whole = matches!(self.headers.get(&number), Some((_, true)))
            && frames.iter().all(|frame| frame.is_whole)
            && contents::whole_end(&frames) == end;
        let mut is_suspect = false;
        if !is_whole {
            let header = self.header(number, before);
            let mended = self.mend(&header, bytes, &frames, end)?;
            is_suspect = mended.is_none();
            file = mended.unwrap_or(file);
        } else if long > end {
            self.torn_bytes += (long - end) as u64;
            file.cut(end as u64)?;
        }
        if is_last {
            // What a killed process wrote and didn't sync is here, but may be on no disk yet.
            file.sync()?;
            self.volume.sync_names()?;
        }
        let head = self.add(number, file, end);
        self.replay(number, bytes, &frames, end);
        Ok(Head { is_suspect, ..head })
    }

    /// Writes a segment anew from what holds of it, and keeps the damaged file under another name. `None` if the disk has no
    /// room for that: then it is read as it is, nothing more is written to it, and it is mended at a later start.
    fn mend(
        &mut self,
        header: &Header,
        bytes: &[u8],
        frames: &[Frame],
        end: usize,
    ) -> io::Result<Option<V::File>> {
        let name = segment_name(header.number);
        let bytes = &bytes[..end.min(bytes.len())];
        let mended = mend::mended(header, bytes, frames, end)
            .ok_or_else(|| io::Error::other("what is left of it fits no segment"))?;
        let known: usize = known(frames, end).map(|entry| entry.range.len()).sum();
        let heads = frames.len() * FRAME_HEAD_BYTES;
        let unnamed_bytes = Some(end.saturating_sub(FRAMES_AT + known + heads) as u64);
        let (file, aside) = match prepare_file(&self.volume, &name, &mended) {
            Ok(file) => {
                let aside = set_aside(&self.volume, &name)?;
                put_in_place(&self.volume, &name)?;
                (Some(file), Some(aside))
            }
            Err(error) if PersistError::of(&error) == PersistError::Full => {
                self.volume.remove(&format!("{name}{NEW}"))?;
                (None, None)
            }
            Err(error) => return Err(error),
        };
        self.damage.push(Damage {
            file: name,
            unnamed_bytes,
            aside,
        });
        Ok(file)
    }

    /// Tells the index what a segment holds.
    fn replay(&mut self, number: u32, bytes: &[u8], frames: &[Frame], end: usize) {
        for found in known(frames, end) {
            let Some(name) = frame::parse_name(bytes.get(found.range.start..).unwrap_or_default())
            else {
                continue;
            };
            let id = KeyId::of_raw(name.table, name.key);
            match name.kind {
                Kind::Filler => {}
                Kind::Remove => self.index.remove(id),
                Kind::Put | Kind::Lost => {
                    self.index
                        .put(id, Place::new(number, &found.range, name.table));
                }
            }
        }
    }

    fn add(&mut self, number: u32, file: V::File, end: usize) -> Head<V::File> {
        let (file, end) = (Arc::new(file), end as u64);
        self.index.add_segment(number, Arc::clone(&file), end);
        Head {
            number,
            file,
            end,
            is_suspect: false,
        }
    }

    /// Returns a segment's header, made up where it can't be read.
    fn header(&self, number: u32, before: Option<&Head<V::File>>) -> Header {
        self.headers.get(&number).map_or(
            Header {
                number,
                before_end: before.map_or(0, |before| before.end),
                salt: self.salt,
            },
            |(header, _)| *header,
        )
    }

    /// Returns how long a segment was when the next one began, if that one can say so.
    fn end_by_successor(&self, number: u32) -> Option<usize> {
        let (next, _) = self.headers.get(&number.checked_add(1)?)?;
        Some(place(next.before_end).max(FRAMES_AT))
    }

    /// Puts a mark where the log ends. A disk that has no room for it does without.
    fn rewrite_mark(&self, head: &Head<V::File>) -> Option<V::File> {
        let mark = encode_mark(&self.salt, head.number, head.end);
        if self.mark == Some((head.number, head.end)) {
            return self.volume.open(MARK).ok();
        }
        write_file(&self.volume, MARK, &mark).ok()
    }
}

/// Returns the entries of a segment of a length whose keys are known.
fn known(frames: &[Frame], end: usize) -> impl Iterator<Item = &Found> {
    let entries = frames.iter().flat_map(|frame| &frame.entries);
    entries.filter(move |entry| entry.range.end <= end)
}

/// Returns a place in a segment, which is far shorter than memory.
fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
