//! The store's two threads: one writes, so that a group forms while the one before it is synced, and one reads, so that
//! nobody who reads waits for a sync. Both are reached through bounded queues, and answer by a call.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::log::{Log, Shared, lock};
use super::read::Reader;
use super::volume::{Directory, VolumeFile};
use super::{
    BATCH_BYTES_MAX, Finding, LoadError, Op, OpenError, Options, PersistError, Report, Stats,
    Table, open_directory,
};

/// Batches that wait to be written. A slow disk syncs a hundred times a second, and each sync takes all that wait.
const WRITES_MAX: usize = 1_024;
/// Bytes of batches that wait to be written.
const WRITE_BYTES_MAX: usize = 16 << 20;
/// Reads that wait: some milliseconds' worth on a disk without moving parts.
const READS_MAX: usize = 1_024;
/// Keys of a read that may be read on the caller's thread: a key and some siblings.
const KEYS_AT_ONCE: usize = 4;
/// Bytes of batches in a group beyond which the rest waits for the next, so that none waits for very much of others.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Time after cleaning has failed until it is tried again without being asked.
const CLEAN_AGAIN: Duration = Duration::from_secs(5);
/// How often the scrub checks a bit of the log during a round.
const SCRUB_TICK: Duration = Duration::from_secs(1);

/// What is said when a thread isn't there any more, which only a bug can bring about.
const ENDED: &str = "the store's thread has ended";

/// What is called with an outcome, on a thread of the store or the caller's: it must not wait.
type Done<T> = Box<dyn FnOnce(T) + Send>;
/// What is called when something is found out while the store runs.
type OnFinding = Arc<dyn Fn(Finding) + Send + Sync>;

/// A store that is open. It closes when the last queued write is done after it is dropped, or with [`Store::close`].
#[derive(Debug)]
pub struct Store {
    writes: SyncSender<Write>,
    reads: SyncSender<Read>,
    waiting_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    index: Shared<std::fs::File>,
    reader: Reader<std::fs::File>,
    threads: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    groups: AtomicU64,
}

struct Write {
    ops: Vec<Op>,
    bytes: usize,
    done: Done<Result<(), PersistError>>,
}

struct Read {
    table: Table,
    keys: Vec<Bytes>,
    done: Done<Vec<Result<Option<Bytes>, LoadError>>>,
}

impl Store {
    /// Opens the store in a directory and starts its threads; what was found is logged and returned.
    ///
    /// # Errors
    ///
    /// If the directory holds something else than a store, or can't be read or written; nothing in it has changed then.
    pub fn open(
        path: &Path,
        options: Options,
        on_finding: impl Fn(Finding) + Send + Sync + 'static,
    ) -> Result<(Self, Report), OpenError> {
        let opened = open_directory(path, options.clone())?;
        let report = Report {
            damage: opened.damage,
            torn_bytes: opened.torn_bytes,
        };
        tell(path, &report);
        let dir = path.to_owned();
        let on_finding: OnFinding =
            Arc::new(move |finding: Finding| on_finding(finding.within(&dir)));
        let (writes, writes_taken) = sync_channel(WRITES_MAX);
        let (reads, reads_taken) = sync_channel(READS_MAX);
        let index = Arc::clone(opened.log.index());
        let salt = *opened.log.salt();
        let (waiting_bytes, counters) = (Arc::<AtomicUsize>::default(), Arc::<Counters>::default());
        let writer = Writer {
            log: opened.log,
            writes: writes_taken,
            waiting_bytes: Arc::clone(&waiting_bytes),
            counters: Arc::clone(&counters),
            on_finding: Arc::clone(&on_finding),
        };
        let scrubber = Reader::new(Arc::clone(&index), salt);
        let spawned = spawn("weft-store", move || writer.run()).and_then(|writing| {
            let reading = spawn("weft-store-read", move || {
                run_reader(scrubber, &reads_taken, &options, &on_finding);
            })?;
            Ok([writing, reading])
        });
        let threads = spawned.map_err(|error| OpenError {
            path: path.to_owned(),
            reason: format!("the system starts no thread: {error}"),
        })?;
        let store = Self {
            writes,
            reads,
            waiting_bytes,
            counters,
            reader: Reader::new(Arc::clone(&index), salt),
            index,
            threads,
        };
        Ok((store, report))
    }

    /// Makes a batch durable, all of it or nothing; `done` is called once it is, or can't be.
    pub fn persist(
        &self,
        ops: Vec<Op>,
        done: impl FnOnce(Result<(), PersistError>) + Send + 'static,
    ) {
        let bytes = ops.iter().map(Op::bytes).sum();
        if bytes > BATCH_BYTES_MAX || !ops.iter().all(Op::fits) {
            return done(Err(PersistError::Failed(
                "it is larger than may be written at once".into(),
            )));
        }
        // Counted before it is sent, so that the writer never takes off what wasn't put on.
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WRITE_BYTES_MAX {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return done(Err(PersistError::Busy));
        }
        let done = Box::new(done);
        if let Err(error) = self.writes.try_send(Write { ops, bytes, done }) {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(write) => (write.done)(Err(PersistError::Busy)),
                TrySendError::Disconnected(write) => {
                    (write.done)(Err(PersistError::Failed(ENDED.into())));
                }
            }
        }
    }

    /// Reads keys' values as of the last batch that was answered, in their order; `None` for one that has none. A few that the system
    /// has in memory are read on the calling thread: two changes of threads take longer than that.
    pub fn load(
        &self,
        table: Table,
        keys: Vec<Bytes>,
        done: impl FnOnce(Vec<Result<Option<Bytes>, LoadError>>) + Send + 'static,
    ) {
        if keys.len() <= KEYS_AT_ONCE {
            let found = keys.iter();
            let found = found.map(|key| self.reader.load_at_once(table, key).map(Ok));
            if let Some(found) = found.collect() {
                return done(found);
            }
        }
        let done = Box::new(done);
        let (read, error) = match self.reads.try_send(Read { table, keys, done }) {
            Ok(()) => return,
            Err(TrySendError::Full(read)) => (read, LoadError::Busy),
            Err(TrySendError::Disconnected(read)) => (read, LoadError::Failed(ENDED.into())),
        };
        (read.done)(vec![Err(error); read.keys.len()]);
    }

    /// Reads all of a table, in the order in which it was written, on the calling thread; a value that is lost is `None`.
    /// Returns of how many not even the key can be read.
    ///
    /// # Errors
    ///
    /// If the system can't read.
    pub fn scan(
        &self,
        table: Table,
        each: impl FnMut(Bytes, Option<Bytes>),
    ) -> std::io::Result<usize> {
        self.reader.scan(table, each)
    }

    /// Says how much the store holds and has done.
    pub fn stats(&self) -> Stats {
        let (keys, live_bytes, bytes) = lock(&self.index).sizes();
        Stats {
            keys,
            live_bytes,
            bytes,
            batches: self.counters.batches.load(Ordering::Relaxed),
            groups: self.counters.groups.load(Ordering::Relaxed),
        }
    }

    /// Closes the store once all that waits is written. It waits for that.
    pub fn close(self) {
        let Self {
            writes,
            reads,
            threads,
            ..
        } = self;
        drop((writes, reads));
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

/// Logs what was found while opening.
fn tell(path: &Path, report: &Report) {
    for damage in &report.damage {
        let (file, aside) = (path.join(&damage.file), &damage.aside);
        tracing::warn!(
            file = %file.display(), aside, unnamed_bytes = damage.unnamed_bytes,
            "the store is damaged here; what can still be read is kept, what is lost comes again from replicas; look to your disk"
        );
    }
    if report.torn_bytes > 0 {
        tracing::info!(
            path = %path.display(), bytes = report.torn_bytes,
            "the last run died while it was writing; what it hadn't acknowledged is dropped"
        );
    }
}

struct Writer {
    log: Log<Directory>,
    writes: Receiver<Write>,
    waiting_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    on_finding: OnFinding,
}

impl Writer {
    fn run(mut self) {
        let mut clean_at = Instant::now();
        loop {
            let wants_cleaning = self.log.wants_cleaning();
            let first = if !wants_cleaning {
                self.writes
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                let wait = clean_at.saturating_duration_since(Instant::now());
                self.writes.recv_timeout(wait)
            };
            match first {
                Ok(first) => self.write(first),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.log.clean() {
                        tracing::debug!(%error, "cleaning the store failed; it is tried again");
                        clean_at = Instant::now() + CLEAN_AGAIN;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for finding in self.log.take_found() {
                (self.on_finding)(finding);
            }
        }
        self.log.close();
    }

    /// Writes what waits, by one sync.
    fn write(&mut self, first: Write) {
        let (mut group, mut bytes) = (vec![first], 0);
        while bytes < GROUP_BYTES_MAX
            && let Ok(next) = self.writes.try_recv()
        {
            bytes += next.bytes;
            group.push(next);
        }
        let batches: Vec<&[Op]> = group.iter().map(|write| &write.ops[..]).collect();
        let outcomes = self.log.commit(&batches);
        let durable = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        self.counters.batches.fetch_add(durable, Ordering::Relaxed);
        self.counters
            .groups
            .fetch_add(u64::from(durable > 0), Ordering::Relaxed);
        for (write, outcome) in group.into_iter().zip(outcomes) {
            self.waiting_bytes.fetch_sub(write.bytes, Ordering::Relaxed);
            (write.done)(outcome);
        }
    }
}

/// Reads what is asked for, and between that checks what the log holds, a little each second, a round each interval.
fn run_reader<F: VolumeFile>(
    mut reader: Reader<F>,
    reads: &Receiver<Read>,
    options: &Options,
    on_finding: &OnFinding,
) {
    let mut scrub_at = Instant::now() + options.scrub_interval;
    loop {
        match reads.recv_timeout(scrub_at.saturating_duration_since(Instant::now())) {
            Ok(Read { table, keys, done }) => {
                let mut found = Vec::new();
                let loaded = keys.iter().map(|key| reader.load(table, key, &mut found));
                done(loaded.collect());
                found.into_iter().for_each(|finding| on_finding(finding));
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut found = Vec::new();
                let bytes = options.scrub_bytes * SCRUB_TICK.as_secs();
                let is_done = reader.scrub(bytes, &mut found);
                found.into_iter().for_each(|finding| on_finding(finding));
                scrub_at = Instant::now()
                    + if is_done {
                        options.scrub_interval
                    } else {
                        SCRUB_TICK
                    };
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
