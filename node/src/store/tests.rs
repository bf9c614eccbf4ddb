//! The log on a disk that fails (`disk.rs`): crashes held against a model (`crash.rs`), damage at every place (`damage.rs`),
//! and no room (`full.rs`). Real processes on a real disk are `node/tests/store.rs`.

mod crash;
mod damage;
mod disk;
mod full;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use disk::Disk;

use super::log::Log;
use super::read::Reader;
use super::{Damage, LoadError, Op, Options, Table, open};

/// What the log is to hold.
type Model = BTreeMap<Bytes, Bytes>;

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn open_log(disk: &Disk) -> (Log<Disk>, Vec<Damage>) {
    let opened = open::open(disk.clone(), options(), || Ok([42; 16])).unwrap();
    (opened.log, opened.damage)
}

fn reader(log: &Log<Disk>) -> Reader<disk::DiskFile> {
    Reader::new(Arc::clone(log.index()), *log.salt())
}

fn put(key: &[u8], value: Vec<u8>) -> Op {
    Op::Put {
        table: Table::Records,
        key: Bytes::copy_from_slice(key),
        value: value.into(),
    }
}

fn remove(key: &[u8]) -> Op {
    Op::Remove {
        table: Table::Records,
        key: Bytes::copy_from_slice(key),
    }
}

fn apply(model: &mut Model, ops: &[Op]) {
    for op in ops {
        match op.clone() {
            Op::Put { key, value, .. } => drop(model.insert(key, value)),
            Op::Remove { key, .. } => drop(model.remove(&key)),
        }
    }
}

fn load(log: &Log<Disk>, key: &[u8]) -> Result<Option<Bytes>, LoadError> {
    let mut found = Vec::new();
    let loaded = reader(log).load(Table::Records, key, &mut found);
    let at_once = reader(log).load_at_once(Table::Records, key);
    assert_eq!(at_once, loaded.clone().ok(), "the same at once, or nothing");
    let is_corrupt = loaded == Err(LoadError::Corrupt);
    assert_eq!(
        found.len(),
        usize::from(is_corrupt),
        "damage that is read is told"
    );
    loaded
}

/// Reads all that the log holds; nothing of it may be lost.
fn all(log: &Log<Disk>) -> Model {
    let (all, lost, unnamed) = all_and_lost(log);
    assert_eq!(
        (lost, unnamed),
        (BTreeSet::new(), 0),
        "values that can't be read"
    );
    all
}

/// Reads all that the log holds, and which keys' values are lost.
fn all_and_lost(log: &Log<Disk>) -> (Model, BTreeSet<Bytes>, usize) {
    let (mut all, mut lost) = (Model::new(), BTreeSet::new());
    let unnamed = reader(log).scan(Table::Records, |key, value| match value {
        Some(value) => drop(all.insert(key, value)),
        None => drop(lost.insert(key)),
    });
    (all, lost, unnamed.unwrap())
}
