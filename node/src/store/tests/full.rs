//! No room: writes are refused, reads and removals go on, and so do writes once there is room again.

use super::super::{Op, Options, PersistError, open};
use super::disk::Disk;
use super::{Model, all, apply, open_log, options, put, remove};

/// Writes until the disk is full; returns what was answered.
fn fill(log: &mut super::Log<Disk>, model: &mut Model) -> usize {
    let first = model.len();
    for nth in first..first + 10_000 {
        let batch = [put(format!("key {nth}").as_bytes(), vec![7; 500])];
        match log.commit(&[&batch]).remove(0) {
            Ok(()) => apply(model, &batch),
            Err(error) => {
                assert_eq!(error, PersistError::Full);
                return nth - first;
            }
        }
    }
    panic!("the disk is never full");
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else_and_recovers_by_itself() {
    for capacity in (40_000..44_000).step_by(97) {
        let disk = Disk::new(capacity);
        disk.set_capacity(capacity);
        let (mut log, _) = open_log(&disk);
        let mut model = Model::new();
        let full_at = fill(&mut log, &mut model);
        assert_eq!(all(&log), model, "reads go on");
        assert_eq!(
            log.commit(&[&[put(b"more", vec![0; 9_000])]]),
            [Err(PersistError::Full)]
        );
        disk.set_capacity(capacity * 2);
        let more = fill(&mut log, &mut model);
        assert!(more > full_at / 2, "it goes on once there is room");
        drop(log);
        let (log, damage) = open_log(&disk);
        assert_eq!(
            (damage, all(&log)),
            (vec![], model),
            "and so after a restart"
        );
    }
}

#[test]
fn a_full_store_is_opened_and_read() {
    let disk = Disk::new(1);
    disk.set_capacity(50_000);
    let (mut log, _) = open_log(&disk);
    let mut model = Model::new();
    fill(&mut log, &mut model);
    drop(log);
    disk.set_capacity(disk.used());
    let (mut log, damage) = open_log(&disk);
    assert_eq!((damage, all(&log)), (vec![], model));
    assert_eq!(
        log.commit(&[&[put(b"a", vec![0; 100])]]),
        [Err(PersistError::Full)]
    );
}

#[test]
fn within_the_reserve_only_removals_are_taken_and_cleaning_makes_room() {
    let disk = Disk::new(2);
    disk.set_capacity(120_000);
    let options = Options {
        reserve_bytes: 30_000,
        ..options()
    };
    let opened = open::open(disk.clone(), options, || Ok([3; 16])).unwrap();
    let (mut log, mut model) = (opened.log, Model::new());
    fill(&mut log, &mut model);
    assert!(disk.used() < 120_000 - 29_000, "the reserve is kept");
    let put_and_remove: [Op; 2] = [put(b"new", vec![1]), remove(b"key 0")];
    let removal = [remove(b"key 1")];
    assert_eq!(
        log.commit(&[&put_and_remove, &removal]),
        [Err(PersistError::Full), Ok(())],
        "each batch for itself, and as a whole"
    );
    apply(&mut model, &removal);
    assert_eq!(all(&log), model);
    let keys: Vec<_> = model.keys().cloned().collect();
    for key in &keys[5..] {
        log.commit(&[&[remove(key)]]).remove(0).unwrap();
        model.remove(key);
    }
    while log.wants_cleaning() {
        log.clean().unwrap();
    }
    assert_eq!(all(&log), model);
    assert!(disk.used() < 40_000, "{} bytes are left", disk.used());
    log.commit(&[&put_and_remove]).remove(0).unwrap();
}

#[test]
fn a_log_that_is_overwritten_stays_short() {
    let disk = Disk::new(3);
    let (mut log, _) = open_log(&disk);
    let mut model = Model::new();
    let mut most = 0;
    for nth in 0..5_000_u32 {
        let batch = [put(
            format!("key {}", nth % 50).as_bytes(),
            nth.to_le_bytes().repeat(50),
        )];
        log.commit(&[&batch]).remove(0).unwrap();
        apply(&mut model, &batch);
        most = most.max(disk.used());
    }
    assert_eq!(all(&log), model);
    // Twice what is live (50 entries of 230 bytes and their frames), two segments, and one on its way out.
    assert!(most < 2 * 50 * 280 + 4 * 9_000, "{most} bytes");
}
