//! A disk in memory that does what a real one does when things go wrong: it loses what wasn't synced, in any mixture of
//! sectors, stops in the middle, fails to sync, fills up, and flips bits.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::store::volume::{Volume, VolumeFile};

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// The disk. Copies of it are the same disk.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    rng: ChaCha8Rng,
    /// Changes until the process dies in the middle of one.
    dies_in: Option<u64>,
    syncs_fail: bool,
    capacity: u64,
    unreadable: Option<(usize, std::ops::Range<u64>)>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, usize),
    Rename(String, String),
    Remove(String),
}

/// A file of it.
#[derive(Debug)]
pub(super) struct DiskFile {
    disk: Disk,
    file: usize,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            dies_in: None,
            syncs_fail: false,
            capacity: u64::MAX,
            unreadable: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Returns another disk with the same bytes, all of them durable.
    pub(super) fn copied(&self) -> Self {
        let copy = Self::new(0);
        for (name, bytes) in self.contents() {
            copy.put(&name, bytes);
        }
        copy
    }

    pub(super) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let names = state.names.iter();
        names
            .map(|(name, file)| (name.clone(), state.files[*file].now.clone()))
            .collect()
    }

    /// Puts a file there as it is to be.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        if let Some(file) = state.names.get(name).copied() {
            state.files[file].now.clone_from(&bytes);
            state.files[file].durable = bytes;
            return;
        }
        let file = state.files.len();
        let durable = bytes.clone();
        state.files.push(Content {
            now: bytes,
            durable,
        });
        state.names.insert(name.into(), file);
        state.durable_names.insert(name.into(), file);
    }

    pub(super) fn delete(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    pub(super) fn flip(&self, name: &str, bit: usize) {
        let mut bytes = self.contents()[name].clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.put(name, bytes);
    }

    /// Lets the process die at some change from now on, in the middle of it.
    pub(super) fn die_in(&self, changes: u64) {
        self.state().dies_in = Some(changes);
    }

    pub(super) fn fail_syncs(&self, fail: bool) {
        self.state().syncs_fail = fail;
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    pub(super) fn used(&self) -> u64 {
        self.state().used()
    }

    /// Makes a range of a file unreadable, as a bad sector is.
    pub(super) fn break_sectors(&self, name: &str, range: std::ops::Range<u64>) {
        let mut state = self.state();
        state.unreadable = Some((state.names[name], range));
    }

    /// The process is killed and started again: what it wrote stands as it wrote it.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        state.dies_in = None;
        state.syncs_fail = false;
    }

    /// The power fails: of what wasn't synced any sector may be there or not, and of the names' changes
    /// any beginning and any removal.
    pub(super) fn lose_power(&self) {
        self.restart();
        let mut state = self.state();
        let State {
            files,
            names,
            durable_names,
            name_changes,
            rng,
            ..
        } = &mut *state;
        let kept = rng.random_range(0..=name_changes.len());
        for (nth, change) in name_changes.drain(..).enumerate() {
            let is_kept = match change {
                NameChange::Remove(_) => rng.random(),
                NameChange::Set(..) | NameChange::Rename(..) => nth < kept,
            };
            if is_kept {
                change.apply(durable_names);
            }
        }
        names.clone_from(durable_names);
        for file in files {
            let long = if rng.random() {
                file.now.len()
            } else {
                file.durable.len()
            };
            let mut after = file.durable.clone();
            after.resize(long, 0);
            for at in (0..long).step_by(SECTOR_BYTES) {
                let sector = at..(at + SECTOR_BYTES).min(long);
                if let Some(written) = file.now.get(sector.clone())
                    && rng.random()
                {
                    after[sector].copy_from_slice(written);
                }
            }
            file.now.clone_from(&after);
            file.durable = after;
        }
    }
}

impl State {
    fn used(&self) -> u64 {
        let files = self.names.values();
        files.map(|file| self.files[*file].now.len() as u64).sum()
    }

    /// Counts a change; says whether the process dies now, or is dead already.
    fn lives(&mut self) -> Result<(), Death> {
        match &mut self.dies_in {
            None => Ok(()),
            Some(0) => Err(Death::Before),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(Death::Now) } else { Ok(()) }
            }
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        match self.lives() {
            Ok(()) => {}
            Err(Death::Now) if self.rng.random() => {
                change.apply(&mut self.names);
                self.name_changes.push(change);
                return Err(dead());
            }
            Err(_) => return Err(dead()),
        }
        change.apply(&mut self.names);
        self.name_changes.push(change);
        Ok(())
    }
}

enum Death {
    Now,
    Before,
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Volume for Disk {
    type File = DiskFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        let file = self.state().names.get(name).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(DiskFile {
            disk: self.clone(),
            file,
        })
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Content::default());
        state.change_name(NameChange::Set(name.into(), file))?;
        Ok(DiskFile {
            disk: self.clone(),
            file,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let change = NameChange::Rename(from.into(), to.into());
        self.state().change_name(change)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Set(to.into(), file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove(name.into()))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.lives().map_err(|_| dead())?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

impl VolumeFile for DiskFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.disk.state();
        let end = at + buffer.len() as u64;
        if let Some((file, range)) = &state.unreadable
            && *file == self.file
            && at < range.end
            && range.start < end
        {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let bytes = state.files[self.file].now.get(at as usize..end as usize);
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_from_memory(&self, buffer: &mut [u8], at: u64) -> bool {
        self.read_at(buffer, at).is_ok()
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let death = state.lives();
        let at = at as usize;
        let now_long = state.files[self.file].now.len();
        let growth = (at + bytes.len()).saturating_sub(now_long) as u64;
        let free = state.capacity.saturating_sub(state.used());
        let fits = bytes.len() - growth.saturating_sub(free) as usize;
        let some = match death {
            Ok(()) => fits,
            // The system takes what lies within a sector as a whole: it stands in one page of its memory.
            Err(Death::Now) => {
                let end = at + state.rng.random_range(0..=fits);
                (end - end % SECTOR_BYTES).saturating_sub(at)
            }
            Err(Death::Before) => 0,
        };
        let now = &mut state.files[self.file].now;
        if some > 0 {
            now.resize(now_long.max(at + some), 0);
            now[at..at + some].copy_from_slice(&bytes[..some]);
        }
        death.map_err(|_| dead())?;
        if some < bytes.len() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.lives().map_err(|_| dead())?;
        if state.syncs_fail && state.rng.random() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.files[self.file].now.truncate(bytes as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let death = state.lives();
        // A sync that doesn't come back may have done its work.
        let does = match death {
            Ok(()) => !state.syncs_fail,
            Err(Death::Now) => state.rng.random(),
            Err(Death::Before) => false,
        };
        let file = &mut state.files[self.file];
        if does {
            file.durable.clone_from(&file.now);
        }
        death.map_err(|_| dead())?;
        if does {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(EIO))
        }
    }

    fn forget(&self, _at: u64, _bytes: u64) {}
}

/// Returns random bytes.
pub(super) fn bytes(rng: &mut impl Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=most)];
    rng.fill_bytes(&mut bytes);
    bytes
}
