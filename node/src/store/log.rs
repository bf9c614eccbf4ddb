//! The writing side of the log: groups of batches become frames at its end, and its beginning is cleaned away.
//!
//! **A group** is one frame, one write and one sync, whoever is in it. It counts once the sync has returned; until then the
//! index doesn't know it. If the write fails, the segment is cut back to where it was and the log is as before: there is no
//! error state to get out of. If the sync fails, what the disk holds of this segment's end is not known any more, and the
//! next group begins a new segment.
//!
//! **Cleaning** follows Rosenblum & Ousterhout ("The Design and Implementation of a Log-Structured File System", 1992) in
//! its simplest form: always the oldest segment. What is live in it is written again at the log's end, in front of a group's
//! own entries, then the segment is deleted. So the newest entry of a key is always the last one in the log, and a removal
//! in the oldest segment has nothing older that it must keep out: no tombstones are carried along. It runs while more than
//! half of the log is dead, so that a byte is written about twice in the long run; history that is trimmed from its old end
//! leaves segments that are dead as a whole, and costs nothing.
//!
//! **The mark**, a file of 32 bytes, says how far the log was synced. It isn't synced itself: a killed process leaves it as
//! it was written, and then a log that ends before its mark is known to be damaged, not torn.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::{self, Entry, FrameBuilder, Header, Kind, Salt};
use super::index::{Index, KeyId, Place};
use super::volume::{Volume, VolumeFile};
use super::{Finding, Op, Options, PersistError};

/// The mark's name.
pub(super) const MARK: &str = "mark";
/// Bytes of the mark.
pub(super) const MARK_BYTES: usize = 32;
/// Bytes that cleaning adds to a small group: little beside the sync, and many times what a small group brings.
const CLEAN_BYTES: usize = 64 << 10;
/// Bytes that the log may have beyond twice what is live, so that small stores aren't cleaned all the time: two segments.
const SLACK_SEGMENTS: u64 = 2;
/// Bytes of a frame's memory that are kept for the next.
const FRAME_KEPT_BYTES: usize = 256 << 10;
/// The part of the reserve that removals leave free as well: they and cleaning make room, and must be able to go on.
const LAST_RESERVE_SHARE: u64 = 32;

/// What the writing and the reading side share.
pub(super) type Shared<F> = Arc<Mutex<Index<F>>>;

/// Locks the index. A thread that panicked in between has left it consistent: each change of it is one call.
pub(super) fn lock<F>(index: &Shared<F>) -> MutexGuard<'_, Index<F>> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log's end, and what is being cleaned.
pub(super) struct Log<V: Volume> {
    volume: V,
    options: Options,
    salt: Salt,
    index: Shared<V::File>,
    head: Head<V::File>,
    mark: Option<V::File>,
    cleaning: Option<Cleaning>,
    frame: FrameBuilder,
    found: Vec<Finding>,
}

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Head<F> {
    pub(super) number: u32,
    pub(super) file: Arc<F>,
    pub(super) end: u64,
    /// Whether a failure has left its end unknown, so that nothing more may go there.
    pub(super) is_suspect: bool,
}

/// The oldest segment on its way out.
#[derive(Debug)]
struct Cleaning {
    number: u32,
    /// What was live in it when its turn came and isn't copied yet, newest place first.
    left: Vec<(KeyId, Place)>,
    /// Whether something in it could not be read; then the file is kept, under another name.
    is_damaged: bool,
    /// Whether it was told already that its file can't be deleted.
    is_told: bool,
}

/// What becomes of an entry of a frame once it is durable.
#[derive(Debug)]
struct Effect {
    id: KeyId,
    /// Its place in the frame and its length; `None` for a removal.
    put: Option<(usize, usize)>,
    table: u8,
}

impl<V: Volume> Log<V> {
    pub(super) fn new(
        volume: V,
        options: Options,
        salt: Salt,
        index: Shared<V::File>,
        head: Head<V::File>,
        mark: Option<V::File>,
    ) -> Self {
        Self {
            volume,
            options,
            salt,
            index,
            head,
            mark,
            cleaning: None,
            frame: FrameBuilder::default(),
            found: Vec::new(),
        }
    }

    pub(super) fn index(&self) -> &Shared<V::File> {
        &self.index
    }

    pub(super) fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Returns what cleaning has found that can't be read.
    pub(super) fn take_found(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.found)
    }

    /// Makes batches durable, all by one sync; each is there as a whole or not at all. Returns what came of each.
    pub(super) fn commit(&mut self, batches: &[&[Op]]) -> Vec<Result<(), PersistError>> {
        let free = self.volume.free_bytes();
        let mut outcomes: Vec<Result<(), PersistError>> = batches
            .iter()
            .map(|batch| self.admit(batch, &free))
            .collect();
        let admitted = batches.iter().zip(&outcomes);
        let admitted: Vec<&[Op]> = admitted
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(batch, _)| *batch)
            .collect();
        if let Err(error) = self.write_group(&admitted) {
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                *outcome = Err(error.clone());
            }
        }
        outcomes
    }

    /// Says whether more of the log is dead than should be.
    pub(super) fn wants_cleaning(&self) -> bool {
        let index = lock(&self.index);
        let (_, live, all) = index.sizes();
        let slack = SLACK_SEGMENTS * self.options.segment_bytes;
        index.segments().len() > 1 && all > live.saturating_mul(2).saturating_add(slack)
    }

    /// Cleans a little, with a sync of its own.
    pub(super) fn clean(&mut self) -> Result<(), PersistError> {
        self.write_group(&[])
    }

    /// Ends: the mark goes to disk, so that a power cut later leaves no doubt about the log's end.
    pub(super) fn close(self) {
        if let Some(mark) = self.mark {
            let _ = mark.sync();
        }
    }

    fn admit(&self, batch: &[Op], free: &io::Result<u64>) -> Result<(), PersistError> {
        let reserve = if batch.iter().any(|op| matches!(op, Op::Put { .. })) {
            self.options.reserve_bytes
        } else {
            self.options.reserve_bytes / LAST_RESERVE_SHARE
        };
        match free {
            Ok(free) if *free < reserve => Err(PersistError::Full),
            // Without an answer the write itself will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn write_group(&mut self, batches: &[&[Op]]) -> Result<(), PersistError> {
        self.frame.clear(FRAME_KEPT_BYTES);
        let ops = || batches.iter().flat_map(|batch| batch.iter());
        let group_bytes: usize = ops().map(Op::bytes).sum();
        // As much as comes in, so that cleaning keeps up however much that is.
        let mut effects = self.copy_live(group_bytes.max(CLEAN_BYTES));
        for op in ops() {
            effects.push(self.push(op));
        }
        if !self.frame.is_empty()
            && let Err(error) = self.append(effects)
        {
            // What was to be copied is no longer on its list.
            self.cleaning = None;
            return Err(error);
        }
        self.finish_cleaning();
        Ok(())
    }

    fn push(&mut self, op: &Op) -> Effect {
        let (kind, table, key, value) = match op {
            Op::Put { table, key, value } => (Kind::Put, *table as u8, key, &value[..]),
            Op::Remove { table, key } => (Kind::Remove, *table as u8, key, &[][..]),
        };
        let entry = Entry {
            kind,
            table,
            key,
            value,
        };
        let put = self.frame.push(&self.salt, &entry);
        Effect {
            id: KeyId::of_raw(table, key),
            put: (kind == Kind::Put).then_some(put),
            table,
        }
    }

    /// Writes the frame at the log's end and makes it durable; then, and only then, the index learns of it.
    fn append(&mut self, effects: Vec<Effect>) -> Result<(), PersistError> {
        if self.head.is_suspect || self.head.end >= self.options.segment_bytes {
            self.begin_segment()
                .map_err(|error| PersistError::of(&error))?;
        }
        let at = self.head.end;
        let bytes = self.frame.finish(&self.salt, self.head.number, at);
        let end = at + bytes.len() as u64;
        if let Err(error) = self.head.file.write_at(bytes, at) {
            // What is left past the end is no frame, and is written over by the next.
            self.head.is_suspect = self.head.file.cut(at).is_err();
            return Err(PersistError::of(&error));
        }
        if let Err(error) = self.head.file.sync() {
            // The system may have given up on the bytes and call them clean: no later sync would say so.
            self.head.is_suspect = true;
            let _ = self.head.file.cut(at);
            return Err(PersistError::of(&error));
        }
        self.head.end = end;
        self.write_mark();
        let begin = usize::try_from(at).unwrap_or(usize::MAX);
        let mut index = lock(&self.index);
        index.set_end(self.head.number, end);
        for effect in effects {
            match effect.put {
                None => index.remove(effect.id),
                Some((offset, bytes)) => {
                    let begin = begin + offset;
                    let range = begin..begin + bytes;
                    index.put(
                        effect.id,
                        Place::new(self.head.number, &range, effect.table),
                    );
                }
            }
        }
        Ok(())
    }

    /// Begins a new segment. It has its name only once it has its header, so that none is ever found without.
    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.head.number.checked_add(1);
        let number = number.ok_or_else(|| io::Error::other("no number is left for a segment"))?;
        let before_end = self.head.end;
        let file = create_segment(&self.volume, &self.salt, number, before_end)?;
        let (file, end) = (Arc::new(file), frame::FRAMES_AT as u64);
        lock(&self.index).add_segment(number, Arc::clone(&file), end);
        self.head = Head {
            number,
            file,
            end,
            is_suspect: false,
        };
        self.write_mark();
        Ok(())
    }

    /// Notes how far the log is synced. Without a mark damage at the log's very end is taken for a torn write, no more.
    fn write_mark(&mut self) {
        let mark = encode_mark(&self.salt, self.head.number, self.head.end);
        if let Some(file) = &self.mark {
            let _ = file.write_at(&mark, 0);
        }
    }

    // Cleaning.

    /// Puts some of what is live in the oldest segment into the frame.
    fn copy_live(&mut self, budget: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.cleaning.is_none() && self.wants_cleaning() {
            self.begin_cleaning();
        }
        let Some(cleaning) = &mut self.cleaning else {
            return effects;
        };
        let file = lock(&self.index).file(cleaning.number);
        while self.frame.bytes() < budget
            && let Some((id, place)) = cleaning.left.pop()
        {
            if lock(&self.index).place(id) != Some(place) {
                continue;
            }
            let mut bytes = vec![0; place.bytes as usize];
            let read = file
                .as_ref()
                .map(|file| file.read_at(&mut bytes, u64::from(place.at)));
            if !matches!(read, Some(Ok(()))) {
                bytes.fill(0);
            }
            let entry = frame::decode_entry(&self.salt, &bytes);
            if entry.is_none() {
                self.found
                    .push(Finding::lost(&self.salt, cleaning.number, id, &bytes));
                cleaning.is_damaged = true;
            }
            // Where not even the key is known it stays in the index, so that reading it says that it is lost.
            let Some(entry) = entry.or_else(|| frame::lost_entry(&self.salt, &bytes)) else {
                continue;
            };
            let (table, put) = (place.table, Some(self.frame.push(&self.salt, &entry)));
            effects.push(Effect { id, put, table });
        }
        effects
    }

    fn begin_cleaning(&mut self) {
        let index = lock(&self.index);
        let oldest = index.segments().keys().next().copied();
        let Some(number) = oldest.filter(|number| *number != self.head.number) else {
            return;
        };
        let mut left = index.live(|place| place.segment == number);
        left.reverse();
        self.cleaning = Some(Cleaning {
            number,
            left,
            is_damaged: false,
            is_told: false,
        });
    }

    /// Deletes the oldest segment once all that was live in it is durable elsewhere.
    ///
    /// Names go in order, and each for good before the next, so that no removal goes before what it removes.
    fn finish_cleaning(&mut self) {
        let Some(mut done) = self.cleaning.take_if(|cleaning| cleaning.left.is_empty()) else {
            return;
        };
        let name = segment_name(done.number);
        let gone = if done.is_damaged {
            set_aside(&self.volume, &name).map(drop)
        } else {
            Ok(())
        };
        let gone = gone.and_then(|()| match self.volume.remove(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => self.volume.sync_names(),
        });
        match gone {
            Ok(()) => lock(&self.index).remove_segment(done.number),
            Err(error) => {
                if !std::mem::replace(&mut done.is_told, true) {
                    let why = error.to_string();
                    let file = name.into();
                    self.found.push(Finding::Undeleted { file, why });
                }
                self.cleaning = Some(done);
            }
        }
    }
}

/// Gives a damaged file a second name, under which it stays; returns that name.
pub(super) fn set_aside<V: Volume>(volume: &V, name: &str) -> io::Result<String> {
    let mut number = 1;
    loop {
        let aside = format!("{name}{DAMAGED}{number}");
        match volume.link(name, &aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            outcome => return outcome.map(|()| aside),
        }
    }
}

/// Makes a segment's file with its header, durable under its name.
pub(super) fn create_segment<V: Volume>(
    volume: &V,
    salt: &Salt,
    number: u32,
    before_end: u64,
) -> io::Result<V::File> {
    let header = Header {
        number,
        before_end,
        salt: *salt,
    };
    write_file(volume, &segment_name(number), &header.encode())
}

/// Makes a file with some bytes, durable under its name, in the place of one of that name.
pub(super) fn write_file<V: Volume>(volume: &V, name: &str, bytes: &[u8]) -> io::Result<V::File> {
    let file = prepare_file(volume, name, bytes)?;
    put_in_place(volume, name)?;
    Ok(file)
}

/// Makes a file with some bytes, durable, but under a name that a start clears away.
pub(super) fn prepare_file<V: Volume>(volume: &V, name: &str, bytes: &[u8]) -> io::Result<V::File> {
    let file = volume.create(&format!("{name}{NEW}"))?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    Ok(file)
}

/// Gives a prepared file its name, for good.
pub(super) fn put_in_place<V: Volume>(volume: &V, name: &str) -> io::Result<()> {
    volume.rename(&format!("{name}{NEW}"), name)?;
    volume.sync_names()
}

/// How the name of a file that was set aside goes on; a number follows.
pub(super) const DAMAGED: &str = ".damaged-";
/// How a file's name ends while it is being made.
pub(super) const NEW: &str = ".new";

/// Returns the name of a segment's file.
pub(super) fn segment_name(number: u32) -> String {
    format!("{number:08x}.log")
}

/// Returns the number of the segment that a file is.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name.strip_suffix(".log")?, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Returns the bytes of a mark.
pub(super) fn encode_mark(salt: &Salt, number: u32, end: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..4].copy_from_slice(&number.to_le_bytes());
    mark[8..16].copy_from_slice(&end.to_le_bytes());
    let check = frame::check(salt, "mark", &[&mark[..16]]);
    mark[16..].copy_from_slice(&check);
    mark
}

/// Reads a mark: the segment, and how far it was synced.
pub(super) fn decode_mark(salt: &Salt, bytes: &[u8; MARK_BYTES]) -> Option<(u32, u64)> {
    let number = u32::from_le_bytes(bytes[..4].try_into().ok()?);
    let end = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    (encode_mark(salt, number, end) == *bytes).then_some((number, end))
}

impl PersistError {
    /// Says what a failed write means for the caller.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}
