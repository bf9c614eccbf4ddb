//! What the log needs of a disk: a directory of files, and orders that make names and bytes durable.
//!
//! The daemon's is [`Directory`]. The tests have one in memory that loses what wasn't synced, tears writes, fails and fills
//! up, which no real disk does when asked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise, statvfs};
#[cfg(target_os = "linux")]
use rustix::io::{ReadWriteFlags, preadv2};

/// Files in one directory.
pub(super) trait Volume: Send + Sync + 'static {
    /// One of its files, open for reading and writing.
    type File: VolumeFile;

    /// Names what is in the directory.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Makes a file, in the place of one of this name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name, in the place of one of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name; one of that name must not exist.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes durable which names there are.
    fn sync_names(&self) -> io::Result<()>;
    /// Returns how many bytes can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file, read and written by position.
pub(super) trait VolumeFile: Send + Sync + 'static {
    /// Returns its length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills a buffer from a position.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// Fills a buffer from a position if all of that is in memory; returns whether it was.
    fn read_from_memory(&self, buffer: &mut [u8], at: u64) -> bool;
    /// Writes at a position; some of it may be there after a failure.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts it to a length.
    fn cut(&self, bytes: u64) -> io::Result<()>;
    /// Makes its bytes and its length durable.
    fn sync(&self) -> io::Result<()>;
    /// Drops what the system holds of a range in memory, so that the next read is from the disk itself.
    fn forget(&self, at: u64, bytes: u64);
}

/// A directory of a real file system.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory if it isn't there.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                if let Some(parent) = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                {
                    File::open(parent)?.sync_all()?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(io::Error::other(
                    "it is a file of something else where a directory belongs; move it away, and this node starts with an empty \
                     store that fills from its replicas",
                ));
            }
            Err(error) => return Err(error),
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Volume for Directory {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        // A name that isn't UTF-8 is none of the store's, and stands for itself as something foreign.
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = statvfs(&self.path)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

impl VolumeFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }

    #[cfg(target_os = "linux")]
    fn read_from_memory(&self, buffer: &mut [u8], at: u64) -> bool {
        let bytes = buffer.len();
        let mut into = [io::IoSliceMut::new(buffer)];
        // A file system that can't tell says so.
        let read = preadv2(self, &mut into, at, ReadWriteFlags::NOWAIT);
        read.is_ok_and(|read| read == bytes)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_from_memory(&self, _: &mut [u8], _: u64) -> bool {
        false
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget(&self, at: u64, bytes: u64) {
        // An advice: where it isn't taken the read is from memory, and finds what can be found there.
        let _ = fadvise(self, at, std::num::NonZeroU64::new(bytes), Advice::DontNeed);
    }
}
