//! What a node keeps on disk: a log-structured store on a thread of its own.
//!
//! **What it promises.** A batch that was answered is on disk, synced, as a whole; whoever waits at the same time shares one
//! sync (group commit). What is read is what was written: each entry carries a check, so that a flipped bit is found and
//! never served, and costs that entry alone. A full disk refuses writes and nothing else; once there is room again they go
//! on, without a restart. After a crash the store opens with all that was answered.
//!
//! **How it is made.** Entries are appended to segments (`frame.rs`), the newest of a key counts, and an index in memory
//! says where it lies (`index.rs`). `log.rs` writes and cleans, `read.rs` reads and scrubs, `open.rs` makes the index at a
//! start and tells torn from damaged, `mend.rs` makes a damaged segment whole again, `thread.rs` runs it all. The shape is
//! that of Bitcask (Sheehy & Smith, 2010), with the cleaning of a log-structured file system; why it isn't one of the
//! engines that there are stands in ARCHITECTURE under "Decisions".
//!
//! It has no cache: what was read lately lies in the system's, which gives way when memory is needed elsewhere.
//!
//! Keys and values are bytes to it. [`Table`] says what each table is for.

mod contents;
mod frame;
mod index;
pub(crate) mod kept;
mod log;
mod mend;
mod open;
mod read;
#[cfg(test)]
mod tests;
mod thread;
mod volume;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

pub use index::KeyId;
pub use thread::Store;

/// Bytes of a key: a record's is its point, its key of at most 512 bytes, and its dot.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Bytes of a value: twice the largest message, which is the largest thing that is kept.
pub const VALUE_BYTES_MAX: usize = 2 << 20;
/// Bytes of one batch: the replicated store's, of 8 MiB and what its last write brings. It is held in memory until it is on
/// disk.
pub const BATCH_BYTES_MAX: usize = 12 << 20;

/// What a key belongs to. Its number is on disk: one that was used is never used for something else.
///
/// What topics' logs keep is trimmed in the order in which it was written: that leaves segments dead as a whole, which is what
/// costs least here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// Records that this node holds as a replica.
    Records = 1,
    /// Which of them it holds for another one, until that is back.
    Hints = 2,
    /// The node's own newest records, of which it alone says what comes next.
    Owned = 3,
    /// What its neighbours claim to hold, and what it claims itself.
    Claims = 4,
    /// What is said of all the others.
    Meta = 5,
    /// Which topics have a log.
    Topics = 6,
    /// Their bundles.
    Held = 7,
    /// In which order these and gaps came.
    Arrived = 8,
    /// What is known of their streams beside that.
    Marks = 9,
    /// Where those who read them by name stand.
    Consumers = 10,
    /// The last dots that the node's own records of shared keys may have.
    Dots = 11,
}

impl Table {
    /// Returns the table that has a number.
    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Records),
            2 => Some(Self::Hints),
            3 => Some(Self::Owned),
            4 => Some(Self::Claims),
            5 => Some(Self::Meta),
            6 => Some(Self::Topics),
            7 => Some(Self::Held),
            8 => Some(Self::Arrived),
            9 => Some(Self::Marks),
            10 => Some(Self::Consumers),
            11 => Some(Self::Dots),
            _ => None,
        }
    }
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The key has this value from here on.
    Put {
        /// Where the key belongs.
        table: Table,
        /// The key, at most [`KEY_BYTES_MAX`].
        key: Bytes,
        /// The value, at most [`VALUE_BYTES_MAX`].
        value: Bytes,
    },
    /// The key has no value from here on.
    Remove {
        /// Where the key belongs.
        table: Table,
        /// The key, at most [`KEY_BYTES_MAX`].
        key: Bytes,
    },
}

impl Op {
    /// Returns about how many bytes it takes in memory and on disk.
    pub(crate) fn bytes(&self) -> usize {
        let (key, value) = match self {
            Self::Put { key, value, .. } => (key.len(), value.len()),
            Self::Remove { key, .. } => (key.len(), 0),
        };
        key + value + frame::ENTRY_BYTES_MIN
    }

    fn fits(&self) -> bool {
        match self {
            Self::Put { key, value, .. } => {
                key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX
            }
            Self::Remove { key, .. } => key.len() <= KEY_BYTES_MAX,
        }
    }
}

/// How the store behaves. The defaults are the daemon's; tests make it smaller and faster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes after which a segment is followed by the next. A guess: small enough that cleaning one is short, large enough
    /// that a gigabyte takes no more than 128 open files.
    pub segment_bytes: u64,
    /// Free bytes below which only removals are taken, so that the disk never gets so full that others fail, and cleaning
    /// has room.
    pub reserve_bytes: u64,
    /// Time from the end of one round of the scrub to the next. A guess: a bit that flips is found within the day.
    pub scrub_interval: Duration,
    /// Bytes that the scrub checks a second, little beside what any disk can read.
    pub scrub_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            reserve_bytes: 32 << 20,
            scrub_interval: Duration::from_hours(6),
            scrub_bytes: 1 << 20,
        }
    }
}

/// Why a store can't be used. Nothing in it has changed.
#[derive(Debug, thiserror::Error)]
#[error("can't use the store {}: {reason}", path.display())]
pub struct OpenError {
    /// Its directory.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Why a batch isn't known to be on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersistError {
    /// The disk is full. Nothing of the batch was written; it can be tried again once there is room.
    #[error("the disk is full")]
    Full,
    /// More is waiting to be written than may wait. Nothing of the batch was written; it can be tried again at once.
    #[error("too much is waiting to be written")]
    Busy,
    /// Writing or syncing failed. All of the batch may be there after a restart, or nothing.
    #[error("writing failed: {0}")]
    Failed(String),
}

/// Why a value can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is one, but what the disk holds of it is damaged. It stays so until the key is put or removed.
    #[error("it is damaged on disk")]
    Corrupt,
    /// More reads are waiting than may wait.
    #[error("too many reads are waiting")]
    Busy,
    /// The system couldn't read.
    #[error("reading failed: {0}")]
    Failed(String),
}

/// Damage that was found while opening, and is mended. It is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub file: String,
    /// Bytes of entries of which not even the key can be read; `None` if nobody can say how many. Keys whose values alone are
    /// lost aren't among them: they are in the store as lost.
    pub unnamed_bytes: Option<u64>,
    /// The name under which the damaged file is kept, if there is one.
    pub aside: Option<String>,
}

/// What a store found when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Bytes of a group that the last process was writing when it died; nobody was told that it counts.
    pub torn_bytes: u64,
}

impl Report {
    /// Says whether something that was acknowledged is gone, and nobody knows what: only a comparison with others can tell.
    pub fn is_lossy(&self) -> bool {
        let mut damage = self.damage.iter();
        damage.any(|damage| damage.unnamed_bytes != Some(0))
    }
}

/// Something that was found out while the store runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The value of a key can't be read any more: loading it answers [`LoadError::Corrupt`].
    Lost {
        /// The file in which it lies.
        file: PathBuf,
        /// Which key.
        id: KeyId,
        /// The key itself, if that can still be read.
        name: Option<(Table, Bytes)>,
    },
    /// A file that isn't needed any more can't be deleted; it is tried again.
    Undeleted {
        /// Which one.
        file: PathBuf,
        /// The system's word.
        why: String,
    },
}

impl Finding {
    /// Says it of a file by its name from a store in this directory.
    fn within(mut self, dir: &Path) -> Self {
        let (Self::Lost { file, .. } | Self::Undeleted { file, .. }) = &mut self;
        *file = dir.join(&*file);
        self
    }
}

/// How much a store holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that have a value.
    pub keys: usize,
    /// Bytes that these need.
    pub live_bytes: u64,
    /// Bytes that all segments have.
    pub bytes: u64,
    /// Batches that were made durable.
    pub batches: u64,
    /// Groups in which that was done: one write and one sync each.
    pub groups: u64,
}

/// Opens the store in a directory, which is made if it isn't there.
///
/// # Errors
///
/// If it holds something else than a store, or can't be read or written.
fn open_directory(
    path: &Path,
    options: Options,
) -> Result<open::Opened<volume::Directory>, OpenError> {
    let failed = |reason: String| OpenError {
        path: path.to_owned(),
        reason,
    };
    let volume = volume::Directory::make(path).map_err(|error| failed(error.to_string()))?;
    open::open(volume, options, || {
        let mut salt = frame::Salt::default();
        getrandom::fill(&mut salt)?;
        Ok(salt)
    })
    .map_err(failed)
}
