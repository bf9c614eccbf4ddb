//! Flipped bits, cut and missing files, bad sectors: found, told, mended, and never served.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::frame::{self, Entry, FrameBuilder, Kind};
use super::super::{Finding, KeyId, LoadError, PersistError, Report, Table};
use super::disk::{self, Disk};
use super::{Model, all, all_and_lost, apply, load, open_log, put, reader, remove};

/// Positions of each file that are damaged, one at a time.
const SAMPLES: usize = 300;

/// A disk with a log of several segments, in which keys were overwritten and removed; what it holds, and all it ever held.
fn filled() -> (Disk, Model, BTreeMap<Bytes, BTreeSet<Bytes>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let disk = Disk::new(5);
    let (mut log, _) = open_log(&disk);
    let (mut model, mut ever) = (Model::new(), BTreeMap::<Bytes, BTreeSet<Bytes>>::new());
    for _ in 0..60 {
        let key = format!("key {}", rng.random_range(0..25)).into_bytes();
        let batch = if rng.random_ratio(1, 6) {
            vec![remove(&key)]
        } else {
            vec![
                put(&key, disk::bytes(&mut rng, 800)),
                put(b"each time", vec![1]),
            ]
        };
        log.commit(&[&batch]).remove(0).unwrap();
        apply(&mut model, &batch);
        for (key, value) in &model {
            ever.entry(key.clone()).or_default().insert(value.clone());
        }
    }
    assert!(disk.contents().len() > 3, "several segments and the mark");
    (disk, model, ever)
}

/// Opens a damaged disk: damage is told, what is served is something that once was right, and a second time all is well.
fn check(
    disk: &Disk,
    model: &Model,
    ever: &BTreeMap<Bytes, BTreeSet<Bytes>>,
    what: &str,
) -> Report {
    let (log, damage) = open_log(disk);
    let report = Report {
        damage,
        torn_bytes: 0,
    };
    assert_ne!(report.damage, [], "{what}: not found");
    let (found, lost, unnamed) = all_and_lost(&log);
    assert_eq!(unnamed, 0, "{what}: what is mended is read");
    for (key, value) in &found {
        assert!(ever[key].contains(value), "{what}: {key:?} was never that");
    }
    let mut wanted = model.clone();
    wanted.retain(|key, _| !lost.contains(key));
    assert!(
        found == wanted || report.is_lossy(),
        "{what}: something is gone without a word"
    );
    for key in &lost {
        assert_eq!(load(&log, key), Err(LoadError::Corrupt), "{what}");
    }
    for aside in report
        .damage
        .iter()
        .filter_map(|damage| damage.aside.as_ref())
    {
        assert!(
            disk.contents().contains_key(aside),
            "{what}: {aside} isn't there"
        );
    }
    drop(log);
    let (mut log, damage) = open_log(disk);
    let again = all_and_lost(&log);
    assert_eq!(
        (damage, again),
        (vec![], (found, lost, 0)),
        "{what}: the second time"
    );
    log.commit(&[&[put(b"after", vec![7])]]).remove(0).unwrap();
    assert_eq!(load(&log, b"after"), Ok(Some(Bytes::from_static(&[7]))));
    report
}

#[test]
fn a_flipped_bit_anywhere_is_found_at_the_start_and_costs_one_entry() {
    let (disk, model, ever) = filled();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut kept_all = 0;
    for (name, bytes) in disk.contents() {
        for _ in 0..SAMPLES {
            let bit = rng.random_range(0..bytes.len() * 8);
            let disk = disk.copied();
            disk.flip(&name, bit);
            let report = check(&disk, &model, &ever, &format!("bit {bit} of {name}"));
            kept_all += usize::from(!report.is_lossy());
            let unnamed = report
                .damage
                .iter()
                .filter_map(|damage| damage.unnamed_bytes);
            // The longest entry there is: a value of 800 bytes with its key.
            assert!(
                unnamed.sum::<u64>() <= 848,
                "bit {bit} of {name}: {report:?}"
            );
        }
    }
    assert!(kept_all > 0, "damage to frames' heads costs nothing");
}

#[test]
fn a_flipped_bit_costs_nothing_else_of_its_group() {
    let disk = Disk::new(1);
    let (mut log, _) = open_log(&disk);
    let batch: Vec<_> = (0..10).map(|nth| put(&[nth], vec![nth; 100])).collect();
    log.commit(&[&batch]).remove(0).unwrap();
    drop(log);
    let name = "00000001.log";
    for bit in frame::FRAMES_AT * 8..disk.contents()[name].len() * 8 {
        let disk = disk.copied();
        disk.flip(name, bit);
        let (log, damage) = open_log(&disk);
        let (found, lost, _) = all_and_lost(&log);
        let in_head = bit < (frame::FRAMES_AT + frame::FRAME_HEAD_BYTES) * 8;
        assert_eq!(
            found.len(),
            if in_head { 10 } else { 9 },
            "bit {bit}: {damage:?}"
        );
        let is_named = damage[0].unnamed_bytes == Some(0);
        assert_eq!(lost.len(), usize::from(is_named && !in_head), "bit {bit}");
    }
}

#[test]
fn what_lies_past_the_end_of_a_segment_with_a_successor_is_not_read() {
    let (disk, model, _) = filled();
    let name = "00000001.log";
    let (mut bytes, last) = (
        disk.contents()[name].clone(),
        disk.contents()["00000002.log"].clone(),
    );
    bytes.extend_from_slice(&last);
    disk.put(name, bytes);
    let (log, damage) = open_log(&disk);
    assert_eq!((damage, all(&log)), (vec![], model));
}

#[test]
fn a_file_cut_anywhere_is_found() {
    let (disk, model, ever) = filled();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (name, bytes) in disk.contents() {
        for _ in 0..SAMPLES / 4 {
            let long = rng.random_range(0..bytes.len());
            let disk = disk.copied();
            disk.put(&name, bytes[..long].to_vec());
            check(&disk, &model, &ever, &format!("{name} cut to {long}"));
        }
    }
}

#[test]
fn a_missing_segment_is_found() {
    let (disk, model, ever) = filled();
    let names: Vec<String> = disk
        .contents()
        .into_keys()
        .filter(|name| name.ends_with(".log"))
        .collect();
    // The oldest may be gone for good reasons: that is what cleaning does.
    for name in &names[1..] {
        let disk = disk.copied();
        disk.delete(name);
        assert!(check(&disk, &model, &ever, name).is_lossy());
    }
}

#[test]
fn a_lost_block_is_found_whatever_stands_in_its_place() {
    let (disk, model, ever) = filled();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (name, bytes) in disk
        .contents()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".log"))
    {
        for _ in 0..SAMPLES / 10 {
            let at = rng.random_range(0..bytes.len());
            let mut damaged = bytes.clone();
            let end = (at + 600).min(damaged.len());
            if rng.random() {
                damaged[at..end].fill(0);
            } else {
                rand::Rng::fill_bytes(&mut rng, &mut damaged[at..end]);
            }
            let disk = disk.copied();
            disk.put(&name, damaged);
            check(&disk, &model, &ever, &format!("{name} from {at}"));
        }
    }
}

#[test]
fn a_bad_sector_is_found() {
    let (disk, model, ever) = filled();
    let name = "00000002.log";
    disk.break_sectors(name, 4_096..4_608);
    assert!(check(&disk, &model, &ever, "a bad sector").is_lossy());
}

#[test]
fn damage_while_running_costs_one_value_and_is_found_by_the_scrub() {
    let (disk, model, _) = filled();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut hit = 0;
    for (name, bytes) in disk
        .contents()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".log"))
    {
        for _ in 0..SAMPLES / 10 {
            let disk = disk.copied();
            let (log, _) = open_log(&disk);
            disk.flip(&name, rng.random_range(0..bytes.len() * 8));
            let mut lost = Vec::new();
            for (key, value) in &model {
                match load(&log, key) {
                    Ok(found) => assert_eq!(found.as_ref(), Some(value), "{name}"),
                    Err(error) => {
                        assert_eq!(error, LoadError::Corrupt);
                        lost.push(KeyId::of(Table::Records, key));
                    }
                }
            }
            assert!(lost.len() <= 1, "{name}: {lost:?}");
            hit += lost.len();
            let mut found = Vec::new();
            let mut reader = reader(&log);
            while !reader.scrub(500, &mut found) {}
            let ids = found.iter().map(|finding| match finding {
                Finding::Lost {
                    file,
                    id,
                    name: key,
                } => {
                    assert_eq!(file.to_str(), Some(&*name), "the damaged file is named");
                    let named = key.as_ref().map(|(table, key)| KeyId::of(*table, key));
                    assert!(named.is_none_or(|named| named == *id));
                    *id
                }
                Finding::Undeleted { .. } => panic!("{finding:?}"),
            });
            assert_eq!(ids.collect::<Vec<_>>(), lost, "{name}");
        }
    }
    assert!(hit > 10, "{hit} flips hit what is live");
}

#[test]
fn what_is_damaged_can_be_written_anew() {
    let (disk, model, _) = filled();
    let (mut log, _) = open_log(&disk);
    for name in disk
        .contents()
        .into_keys()
        .filter(|name| name.ends_with(".log"))
    {
        let mut bytes = disk.contents()[&name].clone();
        bytes[frame::FRAMES_AT..].fill(0xaa);
        disk.put(&name, bytes);
    }
    for (key, value) in &model {
        assert_eq!(load(&log, key), Err(LoadError::Corrupt));
        log.commit(&[&[put(key, value.to_vec())]])
            .remove(0)
            .unwrap();
        assert_eq!(load(&log, key), Ok(Some(value.clone())));
    }
}

#[test]
fn cleaning_tells_what_it_cannot_copy_and_keeps_the_file() {
    let disk = Disk::new(1);
    let (mut log, _) = open_log(&disk);
    for key in [&b"lost"[..], b"kept"] {
        log.commit(&[&[put(key, vec![3; 600])]]).remove(0).unwrap();
    }
    let first = "00000001.log".to_owned();
    disk.flip(
        &first,
        (frame::FRAMES_AT + frame::FRAME_HEAD_BYTES + 100) * 8,
    );
    let mut found = Vec::new();
    let mut deadline = 10_000;
    while disk.contents().contains_key(&first) {
        log.commit(&[&[put(b"again and again", vec![4; 700])]])
            .remove(0)
            .unwrap();
        found.extend(log.take_found());
        deadline -= 1;
        assert!(deadline > 0, "it is never cleaned");
    }
    let id = KeyId::of(Table::Records, b"lost");
    let name = Some((Table::Records, Bytes::from_static(b"lost")));
    let file = first.clone().into();
    assert_eq!(found, [Finding::Lost { file, id, name }]);
    assert_eq!(load(&log, b"lost"), Err(LoadError::Corrupt));
    // It is carried along, so that a start doesn't forget it.
    drop(log);
    let (log, _) = open_log(&disk);
    assert_eq!(load(&log, b"lost"), Err(LoadError::Corrupt));
    assert_eq!(load(&log, b"kept"), Ok(Some(vec![3; 600].into())));
    assert!(disk.contents().contains_key("00000001.log.damaged-1"));
}

#[test]
fn a_value_that_looks_like_frames_is_never_taken_for_one() {
    let disk = Disk::new(2);
    let (mut log, _) = open_log(&disk);
    // What a peer could make: all that a frame and an entry have, but not the store's salt.
    let mut frame = FrameBuilder::default();
    let forged = Entry {
        kind: Kind::Put,
        table: Table::Records as u8,
        key: b"victim",
        value: b"forged",
    };
    frame.push(&[0; 16], &forged);
    let forged = frame.finish(&[0; 16], 1, 200).to_vec();
    log.commit(&[&[put(b"victim", vec![1]), put(b"bait", forged.repeat(20))]])
        .remove(0)
        .unwrap();
    drop(log);
    for bit in frame::FRAMES_AT * 8..disk.contents()["00000001.log"].len() * 8 {
        let disk = disk.copied();
        disk.flip("00000001.log", bit);
        let (log, _) = open_log(&disk);
        let victim = all_and_lost(&log).0.remove(&b"victim"[..]);
        assert!(victim.is_none_or(|value| value[..] == [1]), "bit {bit}");
    }
}

#[test]
fn what_is_no_store_is_not_made_one() {
    for (name, bytes) in [
        ("notes.txt", &b"mine"[..]),
        ("00000001.log", b""),
        ("00000001.log", b"2026-01-01 all is well\n"),
        ("mark", &[0; 32]),
    ] {
        let disk = Disk::new(3);
        disk.put(name, bytes.to_vec());
        let before = disk.contents();
        let opened = super::open::open(disk.clone(), super::options(), || Ok([1; 16]));
        let why = opened
            .err()
            .unwrap_or_else(|| panic!("{name} {bytes:?} was opened"));
        assert!(why.contains("move"), "it says what to do: {why}");
        assert_eq!(disk.contents(), before, "nothing has changed");
    }
}

#[test]
fn segments_of_another_store_are_refused() {
    let (disk, ..) = filled();
    let other = Disk::new(4);
    let opened = super::open::open(other.clone(), super::options(), || Ok([9; 16]));
    drop(opened);
    disk.put("00000077.log", other.contents()["00000001.log"].clone());
    assert!(super::open::open(disk, super::options(), || Ok([1; 16])).is_err());
}

#[test]
fn damage_on_a_full_disk_keeps_nobody_from_starting() {
    let (disk, model, _) = filled();
    for name in disk
        .contents()
        .into_keys()
        .filter(|name| name.ends_with(".log"))
    {
        let disk = disk.copied();
        let bytes = disk.contents()[&name].len();
        disk.flip(&name, (bytes - 20) * 8);
        let full = disk.used();
        disk.set_capacity(full);
        let (mut log, damage) = open_log(&disk);
        assert_eq!(
            (damage.len(), damage[0].aside.as_ref()),
            (1, None),
            "{name}"
        );
        let refused = log.commit(&[&[put(b"new", vec![1])]]);
        assert_eq!(refused, [Err(PersistError::Full)]);
        let (found, lost, _) = all_and_lost(&log);
        assert!(
            found.len() + lost.len() == model.len() && lost.len() <= 1,
            "{name}"
        );
        disk.set_capacity(u64::MAX);
        log.commit(&[&[put(b"new", vec![1])]]).remove(0).unwrap();
        drop(log);
        let (log, damage) = open_log(&disk);
        assert!(
            damage[0].aside.is_some(),
            "{name}: mended once there is room"
        );
        assert_eq!(all_and_lost(&log).0.len(), found.len() + 1);
        let (_, damage) = open_log(&disk);
        assert_eq!(damage, []);
    }
}
