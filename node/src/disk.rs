//! What a node keeps on disk beside its store: its epoch, and the peers it knows.
//!
//! A file is replaced whole: written beside the old one, synced, renamed, and the directory synced, so that a crash leaves
//! the old file or the new one.
//!
//! **A full disk.** A node must start on one, for it serves what it has; but an epoch may not be used before it is on disk.
//! So the file `epoch` has a spare beside it, whose blocks are there already: the new epoch is written over what the spare
//! holds, and the two change places in one step. What the spare holds is never read. Where a file system writes nothing in
//! place (btrfs, ZFS) it may refuse this as well; then the start fails, and says what it needs.

mod epoch;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use weft_core::PeerContact;
use weft_core::config::PreviousRun;
use weft_core::wire::{decode_descriptors, encode_descriptors};

/// What a start found on disk and put there.
#[derive(Debug)]
pub(crate) struct Opened {
    /// This run's epoch, on disk already.
    pub(crate) epoch: u64,
    /// The run before, if there was one.
    pub(crate) previous_run: Option<PreviousRun>,
    /// Peers that the run before knew.
    pub(crate) address_book: Vec<PeerContact>,
}

/// A file that can't be used, and what to do.
#[derive(Debug)]
pub(crate) struct DiskError {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

/// The node's files; without a directory nothing is kept.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    dir: Option<PathBuf>,
}

impl Disk {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// Returns the node's directory.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Reads what the run before left, and puts this run's epoch on disk before it is used.
    pub(crate) fn open(&self, unix_ms: u64) -> Result<Opened, DiskError> {
        let Some(dir) = &self.dir else {
            return Ok(Opened {
                epoch: unix_ms,
                previous_run: None,
                address_book: Vec::new(),
            });
        };
        let path = dir.join("epoch");
        let failed = |reason: String| DiskError {
            path: path.clone(),
            reason,
        };
        let previous_run = match fs::read(&path) {
            Ok(bytes) => Some(epoch::parse(&bytes).map_err(|what| failed(damaged(what)))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error.to_string())),
        };
        let stored = previous_run.as_ref().map_or(0, |run| run.epoch);
        let next = stored
            .checked_add(1)
            .ok_or_else(|| failed(damaged("no epoch is left")))?;
        let epoch = next.max(unix_ms);
        if let Some(ahead) = far_ahead(epoch, unix_ms) {
            tracing::warn!(
                path = %path.display(), ahead_s = ahead.as_secs(),
                "the last run's epoch lies ahead of this machine's clock, and other nodes refuse what this one publishes until the \
                 clock has caught up; if the clock is wrong, set it; if it was wrong then, use another key in a new directory"
            );
        }
        self.write_epoch(&PreviousRun {
            epoch,
            ..PreviousRun::default()
        })
        .map_err(|error| failed(unwritten(&error)))?;
        Ok(Opened {
            epoch,
            previous_run,
            address_book: read_peers(&dir.join("peers")),
        })
    }

    /// Writes what the next run must know of this one.
    pub(crate) fn write_epoch(&self, run: &PreviousRun) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let bytes = epoch::encode(run);
        let (path, spare) = (dir.join("epoch"), dir.join("epoch.spare"));
        overwrite(&spare, &bytes)?;
        let exchanged = renameat_with(CWD, &spare, CWD, &path, RenameFlags::EXCHANGE);
        if exchanged.is_err() {
            // There is no file yet whose place it takes, or the file system can't do that.
            fs::rename(&spare, &path)?;
        }
        File::open(dir)?.sync_all()?;
        if exchanged.is_err() {
            // For the next time. Without it the next write needs room.
            let _ = overwrite(&spare, &bytes);
        }
        Ok(())
    }

    /// Writes the peers that the next run begins with.
    pub(crate) fn write_peers(&self, contacts: &[PeerContact]) -> io::Result<()> {
        self.replace("peers", &encode_descriptors(contacts))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let temporary = dir.join(format!("{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(name))?;
        File::open(dir)?.sync_all()
    }
}

/// Writes a file over what it holds, so that it needs no room that it hasn't got.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

fn unwritten(error: &io::Error) -> String {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&error.kind()) {
        return "the disk is full, and a run's number must be on disk before the run begins; make room beside it for a file of a few \
                hundred bytes, a block of the disk (4 KiB on most)"
            .to_owned();
    }
    format!("writing it failed: {error}")
}

/// Returns how far an epoch is ahead of the clock, if that is more than other nodes bear with.
fn far_ahead(epoch: u64, unix_ms: u64) -> Option<Duration> {
    let ahead = Duration::from_millis(epoch.saturating_sub(unix_ms));
    (ahead > weft_overlay::history::Config::default().skew).then_some(ahead)
}

fn damaged(what: &str) -> String {
    format!(
        "it is damaged ({what}), so which epochs were used is not known; if this machine's clock is right, move the file \
         away: the next epoch is then taken from the clock, which is past every earlier one"
    )
}

/// Reads the peers of the run before. A damaged file is set aside: joining makes up for it.
fn read_peers(path: &Path) -> Vec<PeerContact> {
    let why = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => error.to_string(),
        Ok(bytes) => match decode_descriptors(&bytes) {
            Ok(contacts) => return contacts,
            Err(error) => error.to_string(),
        },
    };
    let aside = path.with_extension("damaged");
    let moved = fs::rename(path, &aside);
    tracing::warn!(
        path = %path.display(), why, aside = %aside.display(), moved = moved.is_ok(),
        "the address book can't be read and is set aside; this run learns its peers anew"
    );
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, Disk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Some(dir.path().to_owned()));
        (dir, disk)
    }

    #[test]
    fn each_run_gets_a_larger_epoch_whatever_the_clock_says() {
        let (_dir, disk) = disk();
        let first = disk.open(1_000).unwrap();
        assert_eq!((first.epoch, first.previous_run), (1_000, None));
        let second = disk.open(500).unwrap();
        assert_eq!(second.epoch, 1_001, "the clock went back");
        let previous = second.previous_run.unwrap();
        assert_eq!((previous.epoch, previous.clean), (1_000, false));
        assert_eq!(disk.open(5_000).unwrap().epoch, 5_000);
    }

    #[test]
    fn an_epoch_that_others_refuse_is_known_for_one() {
        assert_eq!(far_ahead(1_000, 5_000), None);
        assert_eq!(far_ahead(65_000, 5_000), None);
        assert_eq!(far_ahead(95_000, 5_000), Some(Duration::from_secs(90)));
    }

    #[test]
    fn a_clean_stop_leaves_the_last_seqs() {
        let (_dir, disk) = disk();
        let epoch = disk.open(1_000).unwrap().epoch;
        let run = PreviousRun {
            epoch,
            clean: true,
            last_seqs: [("logs".parse().unwrap(), 42), ("a/b".parse().unwrap(), 7)].into(),
        };
        disk.write_epoch(&run).unwrap();
        assert_eq!(disk.open(1_000).unwrap().previous_run, Some(run));
    }

    #[test]
    fn an_epoch_is_written_over_the_one_before_the_last_and_takes_no_new_room() {
        use std::os::unix::fs::MetadataExt;
        let (dir, disk) = disk();
        let inode = |name: &str| dir.path().join(name).metadata().unwrap().ino();
        disk.open(1_000).unwrap();
        let (first, spare) = (inode("epoch"), inode("epoch.spare"));
        assert_ne!(first, spare);
        for (epoch, expected) in [(1_001, spare), (1_002, first), (1_003, spare)] {
            assert_eq!(disk.open(1_000).unwrap().epoch, epoch);
            assert_eq!(inode("epoch"), expected);
        }
        // A longer one, then a shorter one in its place.
        let last_seqs = [("a/long/name/of/a/topic".parse().unwrap(), 42)].into();
        let run = PreviousRun {
            epoch: 1_003,
            clean: true,
            last_seqs,
        };
        disk.write_epoch(&run).unwrap();
        assert_eq!(disk.open(1_000).unwrap().previous_run, Some(run));
        disk.open(1_000).unwrap();
        assert_eq!(disk.open(1_000).unwrap().epoch, 1_006);
    }

    #[test]
    fn what_the_spare_holds_is_never_read() {
        let (dir, disk) = disk();
        disk.open(1_000).unwrap();
        fs::write(dir.path().join("epoch.spare"), b"torn by a crash").unwrap();
        assert_eq!(disk.open(1_000).unwrap().epoch, 1_001);
        assert_eq!(disk.open(1_000).unwrap().epoch, 1_002);
    }

    #[test]
    fn a_damaged_epoch_is_an_error_that_says_what_to_do() {
        let (dir, disk) = disk();
        disk.open(1_000).unwrap();
        fs::write(dir.path().join("epoch"), b"weft").unwrap();
        let error = disk.open(1_000).unwrap_err();
        assert!(error.reason.contains("move the file away"), "{error:?}");
        fs::remove_file(dir.path().join("epoch")).unwrap();
        assert_eq!(disk.open(2_000).unwrap().epoch, 2_000);
    }

    #[test]
    fn damaged_peers_are_set_aside() {
        let (dir, disk) = disk();
        fs::write(dir.path().join("peers"), b"garbage").unwrap();
        assert!(disk.open(1_000).unwrap().address_book.is_empty());
        assert!(dir.path().join("peers.damaged").exists());
        assert!(!dir.path().join("peers").exists());
        disk.write_peers(&[]).unwrap();
        assert!(disk.open(1_000).unwrap().address_book.is_empty());
        assert!(dir.path().join("peers").exists());
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let disk = Disk::new(None);
        assert_eq!(disk.open(9).unwrap().epoch, 9);
        disk.write_peers(&[]).unwrap();
    }
}
