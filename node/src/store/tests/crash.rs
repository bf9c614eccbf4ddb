//! Crashes at any moment, with and without power, held against a model: what was answered is there, what wasn't is there as
//! a whole group or not at all, and a crash is never taken for damage.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{Op, PersistError};
use super::disk::{self, Disk};
use super::{Model, all, apply, load, open_log, put, remove};

const KEYS: u32 = 30;

fn batch(rng: &mut impl Rng) -> Vec<Op> {
    (0..rng.random_range(1..4))
        .map(|_| {
            let key = format!("key {}", rng.random_range(0..KEYS)).into_bytes();
            if rng.random_ratio(1, 4) {
                remove(&key)
            } else {
                put(&key, disk::bytes(rng, 900))
            }
        })
        .collect()
}

/// Runs groups until the process dies, over and over on one disk.
fn run(seed: u64) -> (usize, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = Disk::new(seed);
    let (mut model, mut groups, mut deaths) = (Model::new(), 0, 0);
    for _life in 0..6 {
        let (mut log, damage) = open_log(&disk);
        assert_eq!(damage, [], "seed {seed}: a crash was taken for damage");
        assert_eq!(all(&log), model, "seed {seed}");
        disk.die_in(rng.random_range(1..150));
        // What the group may have left behind that was not answered, and those before it since the last that was.
        let mut perhaps: Vec<Model> = Vec::new();
        loop {
            disk.fail_syncs(rng.random_ratio(1, 20));
            let batches: Vec<Vec<Op>> = (0..rng.random_range(1..4))
                .map(|_| batch(&mut rng))
                .collect();
            let group: Vec<&[Op]> = batches.iter().map(|batch| &batch[..]).collect();
            let outcomes = log.commit(&group);
            let mut after = model.clone();
            batches.iter().for_each(|batch| apply(&mut after, batch));
            if outcomes.iter().all(Result::is_ok) {
                model = after;
                perhaps.clear();
                groups += 1;
                let key = format!("key {}", rng.random_range(0..KEYS));
                assert_eq!(
                    load(&log, key.as_bytes()),
                    Ok(model.get(key.as_bytes()).cloned()),
                    "seed {seed}"
                );
                continue;
            }
            perhaps.push(after);
            let is_dead = Err(PersistError::Failed("the process is dead".into()));
            if outcomes.contains(&is_dead) {
                break;
            }
            assert_eq!(all(&log), model, "seed {seed}: what failed isn't served");
        }
        deaths += 1;
        if rng.random() {
            disk.lose_power();
        } else {
            disk.restart();
        }
        let (log, damage) = open_log(&disk);
        assert_eq!(damage, [], "seed {seed}: a crash was taken for damage");
        let found = all(&log);
        assert!(
            found == model || perhaps.contains(&found),
            "seed {seed}: what was answered is lost, or a group is there in part"
        );
        model = found;
    }
    (groups, deaths)
}

#[test]
fn a_crash_at_any_moment_loses_nothing_that_was_answered() {
    let (mut groups, mut deaths) = (0, 0);
    for seed in 0..150 {
        let (more_groups, more_deaths) = run(seed);
        groups += more_groups;
        deaths += more_deaths;
    }
    println!("{deaths} deaths, {groups} groups answered");
    assert!(deaths == 900 && groups > 10_000, "{groups}");
}

#[test]
fn a_crash_while_opening_loses_nothing() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = Disk::new(seed);
        let (mut log, _) = open_log(&disk);
        let mut model = Model::new();
        for _ in 0..40 {
            let batch = batch(&mut rng);
            log.commit(&[&batch]).remove(0).unwrap();
            apply(&mut model, &batch);
        }
        drop(log);
        let last = disk
            .contents()
            .keys()
            .filter(|name| name.ends_with(".log"))
            .count();
        assert!(last > 1, "seed {seed}: more than one segment");
        for changes in 1..8 {
            disk.die_in(changes);
            drop(super::open::open(disk.clone(), super::options(), || {
                Ok([1; 16])
            }));
            disk.lose_power();
        }
        let (log, damage) = open_log(&disk);
        assert_eq!((damage, all(&log)), (vec![], model), "seed {seed}");
    }
}

#[test]
fn what_a_killed_process_left_unsynced_is_not_built_upon() {
    for seed in 0..100 {
        for changes in 1..25 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let disk = Disk::new(seed);
            let (mut log, _) = open_log(&disk);
            // Full to its bound, so that the next group begins a segment.
            let first = [put(b"first", vec![1; 8_200])];
            log.commit(&[&first]).remove(0).unwrap();
            disk.die_in(changes);
            drop(log.commit(&[&batch(&mut rng)]));
            disk.restart();
            let (mut log, _) = open_log(&disk);
            let (mut model, second) = (all(&log), [put(b"second", vec![2])]);
            log.commit(&[&second]).remove(0).unwrap();
            apply(&mut model, &second);
            disk.lose_power();
            let (log, damage) = open_log(&disk);
            assert_eq!(
                (damage, all(&log)),
                (vec![], model),
                "seed {seed}, {changes}"
            );
        }
    }
}

#[test]
fn nothing_more_goes_where_a_sync_has_failed() {
    let disk = Disk::new(1);
    let (mut log, _) = open_log(&disk);
    log.commit(&[&[put(b"before", vec![1])]]).remove(0).unwrap();
    disk.fail_syncs(true);
    let outcome = log.commit(&[&[put(b"lost", vec![2])]]).remove(0);
    assert!(
        matches!(outcome, Err(PersistError::Failed(_))),
        "{outcome:?}"
    );
    assert_eq!(
        load(&log, b"lost"),
        Ok(None),
        "what wasn't answered isn't served"
    );
    disk.fail_syncs(false);
    log.commit(&[&[put(b"after", vec![3])]]).remove(0).unwrap();
    assert!(
        disk.contents().contains_key("00000002.log"),
        "a new segment"
    );
    drop(log);
    let (log, damage) = open_log(&disk);
    assert_eq!(damage, []);
    assert_eq!(all(&log).len(), 2, "before and after");
}
