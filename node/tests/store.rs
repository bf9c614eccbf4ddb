//! The store in real processes on a real disk: killed in the middle of writing, without room, and within its memory. The
//! program starts itself again as the process that is killed or limited; what it was started for stands in [`ROLE`].
//!
//! It prints figures of this disk: groups a second with 1 and with 64 batches under way, beside a bare `fdatasync`.

#![expect(clippy::unwrap_used, reason = "a test, though it isn't marked as one")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weft_node::store::{LoadError, Op, Options, PersistError, Store, Table};

const ROLE: &str = "WEFT_STORE_TEST_ROLE";
const DIR: &str = "WEFT_STORE_TEST_DIR";

/// How often the writing process is killed.
const KILLS: usize = 100;
/// Keys that it writes, over and over.
const KEYS: u64 = 300;
/// Batches that it has under way.
const IN_FLIGHT: usize = 64;
/// Memory of its own that a process with a store may take, whatever goes through it: the longest group and what waits.
const MEMORY_MAX: u64 = 24 << 20;

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        let dir = std::env::var(DIR).unwrap();
        match role.as_str() {
            "write" => write_until_killed(Path::new(&dir)),
            "full" => fill_and_go_on(Path::new(&dir)),
            "memory" => stay_within_memory(Path::new(&dir)),
            other => panic!("no role {other}"),
        }
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, fn()); 4] = [
        (
            "killed_while_writing_it_loses_nothing_that_was_answered",
            killed,
        ),
        ("without_room_reads_go_on_and_writes_come_back", full),
        ("its_memory_is_bounded", memory),
        ("those_who_wait_share_a_sync", figures),
    ];
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for (name, test) in tests {
        if wanted
            .as_ref()
            .is_none_or(|wanted| name.contains(wanted.as_str()))
        {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn open(dir: &Path) -> Store {
    let options = Options {
        segment_bytes: 256 << 10,
        ..Options::default()
    };
    let on_finding = |finding| panic!("{finding:?}");
    let (store, report) = Store::open(&dir.join("store"), options, on_finding).unwrap();
    assert_eq!(report.damage, [], "a killed process is no damage");
    store
}

fn again(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role).env(DIR, dir);
    command
}

/// The value that a key is given by the `nth` write of a run: it says so itself, so that a wrong one is known as wrong.
fn value(run: u64, nth: u64) -> Vec<u8> {
    let mut value = [run.to_le_bytes(), nth.to_le_bytes()].concat();
    value.resize(16 + usize::try_from(nth * 37 % 1_500).unwrap(), nth as u8);
    value
}

fn put(key: u64, value: Vec<u8>) -> Op {
    Op::Put {
        table: Table::Records,
        key: Bytes::copy_from_slice(&key.to_le_bytes()),
        value: value.into(),
    }
}

fn persist(store: &Store, ops: Vec<Op>) -> Result<(), PersistError> {
    let (told, outcome) = channel();
    store.persist(ops, move |outcome| told.send(outcome).unwrap());
    outcome.recv().unwrap()
}

fn load(store: &Store, key: u64) -> Result<Option<Bytes>, LoadError> {
    let (told, outcome) = channel();
    let key = Bytes::copy_from_slice(&key.to_le_bytes());
    store.load(Table::Records, vec![key], move |outcome| {
        told.send(outcome).unwrap();
    });
    outcome.recv().unwrap().remove(0)
}

/// Keeps so many batches under way; calls for each that is done, until that says stop.
fn keep_in_flight(
    store: &Store,
    in_flight: usize,
    mut next: impl FnMut() -> Vec<Op>,
    mut done: impl FnMut(usize) -> bool,
) {
    let (told, outcomes): (Sender<usize>, Receiver<usize>) = channel();
    let mut begin = |nth: usize| {
        let told = told.clone();
        store.persist(next(), move |outcome| {
            outcome.unwrap();
            // The last ones find nobody who waits.
            let _ = told.send(nth);
        });
    };
    (0..in_flight).for_each(&mut begin);
    for (began, nth) in outcomes.iter().enumerate() {
        if !done(nth) {
            return;
        }
        begin(in_flight + began);
    }
}

// Killed.

fn write_until_killed(dir: &Path) {
    let store = open(dir);
    let run = u64::from(std::process::id());
    let mut out = std::io::stdout().lock();
    let mut count = 0;
    let next = || {
        count += 1;
        // Two keys a batch: both or none.
        let key = count % KEYS;
        vec![
            put(key, value(run, count)),
            put(KEYS + key, value(run, count)),
        ]
    };
    keep_in_flight(&store, IN_FLIGHT, next, |nth| {
        writeln!(out, "{run} {}", nth + 1).unwrap();
        out.flush().unwrap();
        true
    });
}

fn killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // What each key was last answered to hold, and what it held after the kill before.
    let mut answered: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut all = 0;
    for _ in 0..KILLS {
        let mut child = again("write", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (run, count) = kill_after(&mut child, rng.random_range(1..150));
        all += count.len();
        for nth in count {
            let newest = answered.entry(nth % KEYS).or_insert((run, nth));
            if newest.0 != run || newest.1 < nth {
                *newest = (run, nth);
            }
        }
        let store = open(dir.path());
        for (key, (run, nth)) in &mut answered {
            let held = load(&store, *key).unwrap().expect("it was answered");
            assert_eq!(
                load(&store, KEYS + *key),
                Ok(Some(held.clone())),
                "both or none"
            );
            let number = |at: usize| u64::from_le_bytes(held[at..at + 8].try_into().unwrap());
            let (held_run, held_nth) = (number(0), number(8));
            assert_eq!(held[..], value(held_run, held_nth));
            // A write of the last run that wasn't answered may be there; one before what was answered may not.
            assert!(
                held_run != *run || held_nth >= *nth,
                "key {key}: {nth} of run {run} was answered, {held_nth} is there"
            );
            assert!(
                held_run == *run || held_run == u64::from(child.id()),
                "key {key}"
            );
            (*run, *nth) = (held_run, held_nth);
        }
        store.close();
    }
    println!("{KILLS} kills, {all} batches answered, none lost");
    assert!(all > KILLS * 20, "{all} answers are too few to mean much");
}

/// Kills a writing process once it has answered so many batches; returns its run and all that it answered.
fn kill_after(child: &mut Child, answers: usize) -> (u64, Vec<u64>) {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut run, mut count) = (0, Vec::new());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // The last one may be cut off.
        if let Some((of, nth)) = line
            .strip_suffix('\n')
            .and_then(|line| line.split_once(' '))
        {
            run = of.parse().unwrap();
            count.push(nth.parse().unwrap());
        }
        line.clear();
        if count.len() == answers {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(count.len() >= answers, "it ended by itself: {status}");
    (run, count)
}

// Without room.

fn full() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the length of files is a full disk that any user can have. Its signal is one to ignore.
    let script = "trap '' XFSZ; ulimit -S -f 256; exec \"$0\"";
    let this = again("full", dir.path());
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(this.get_program())
        .envs(
            this.get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn fill_and_go_on(dir: &Path) {
    let limit = getrlimit(Resource::Fsize);
    assert!(
        limit.current.is_some_and(|bytes| bytes <= 256 << 10),
        "{limit:?}"
    );
    let options = Options::default();
    let (store, _) =
        Store::open(&dir.join("store"), options, |finding| panic!("{finding:?}")).unwrap();
    let mut held = 0;
    let error = loop {
        match persist(&store, vec![put(held, value(1, held))]) {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, PersistError::Full);
    assert!(held > 50, "{held}");
    let check = |store: &Store| {
        for key in 0..held {
            assert_eq!(load(store, key), Ok(Some(value(1, key).into())));
        }
    };
    check(&store);
    assert_eq!(
        persist(&store, vec![put(0, vec![0; 9_000])]),
        Err(PersistError::Full)
    );
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    for key in held..held * 2 {
        persist(&store, vec![put(key, value(1, key))]).expect("there is room again");
    }
    check(&store);
    store.close();
    check(&open(dir));
}

// Memory.

fn memory() {
    let dir = tempfile::tempdir().unwrap();
    let status = again("memory", dir.path()).status().unwrap();
    assert!(status.success(), "{status}");
}

fn stay_within_memory(dir: &Path) {
    let (store, _) = Store::open(&dir.join("store"), Options::default(), |_| {}).unwrap();
    let before = own_memory();
    // 96 MiB go through, of which 32 stay: it rolls, cleans and reads.
    let mut most = 0;
    for nth in 0..384_u64 {
        let first = nth % 128 * 256;
        let batch = (first..first + 256)
            .map(|key| put(key, vec![nth as u8; 1_000]))
            .collect();
        persist(&store, batch).unwrap();
        most = most.max(own_memory());
    }
    for key in 0..256 * 128 {
        assert_eq!(load(&store, key).unwrap().unwrap().len(), 1_000);
    }
    most = most.max(own_memory());
    let stats = store.stats();
    assert_eq!(stats.keys, 128 * 256);
    assert!(stats.bytes < 2 * stats.live_bytes + (32 << 20), "{stats:?}");
    println!(
        "memory: {} KiB after opening, at most {} KiB with {} keys, {} MiB live, {} MiB on disk",
        before >> 10,
        most >> 10,
        stats.keys,
        stats.live_bytes >> 20,
        stats.bytes >> 20
    );
    assert!(most < MEMORY_MAX, "{most} bytes");
}

/// Returns the memory that is this process's alone: not the program's text, nor the system's cache of files.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

// Figures.

fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(1);
    let bare = bare_syncs(dir.path(), long);
    println!("bare fdatasync: {}", rate(&bare, bare.len()));
    let (store, _) = Store::open(&dir.path().join("store"), Options::default(), |_| {}).unwrap();
    for in_flight in [1, IN_FLIGHT] {
        let before = store.stats();
        let (begin, mut count) = (Instant::now(), 0);
        let mut began = Vec::new();
        let mut lasted = Vec::new();
        let begins = std::cell::RefCell::new(&mut began);
        let next = || {
            count += 1;
            begins.borrow_mut().push(Instant::now());
            vec![put(count, vec![7; 300])]
        };
        keep_in_flight(&store, in_flight, next, |nth| {
            lasted.push(begins.borrow()[nth].elapsed());
            begin.elapsed() < long
        });
        let after = store.stats();
        let (batches, groups) = (after.batches - before.batches, after.groups - before.groups);
        println!(
            "{in_flight} batches of 300 B under way: {}; {groups} groups",
            rate(&lasted, lasted.len())
        );
        if in_flight > 1 {
            assert!(batches > groups * 4, "{batches} batches in {groups} groups");
        }
    }
    store.close();
}

/// Appends a block and syncs it, over and over; returns how long each took.
fn bare_syncs(dir: &Path, long: Duration) -> Vec<Duration> {
    let file = File::create(dir.join("bare")).unwrap();
    let (begin, mut lasted) = (Instant::now(), Vec::new());
    while begin.elapsed() < long {
        let at = Instant::now();
        file.write_all_at(&[7; 400], lasted.len() as u64 * 400)
            .unwrap();
        file.sync_data().unwrap();
        lasted.push(at.elapsed());
    }
    lasted
}

/// Says how many there were a second, and how long they took.
fn rate(lasted: &[Duration], count: usize) -> String {
    let mut lasted = lasted.to_vec();
    lasted.sort_unstable();
    let at = |percent: usize| lasted[(lasted.len() * percent / 100).min(lasted.len() - 1)];
    format!("{count} a second, p50 {:?}, p99 {:?}", at(50), at(99))
}
