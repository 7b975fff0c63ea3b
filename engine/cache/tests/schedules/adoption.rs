//! What an earlier process left is counted by the scan while it is opened, read, completed and evicted.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use headrace_cache::ObjectIdentity;
use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::stage::{BLOCK, CHUNK, LIMIT, Stage, file, read, write_all, write_one};
use crate::support::{BOOT, OTHER_BOOT, check, data_path, meta_path, object};

const SIZE: u64 = BLOCK + CHUNK + 3;

fn left_behind() -> (Stage, [ObjectIdentity; 3]) {
    let stage = Stage::new();
    let cache = stage.open();
    let objects = ["whole", "part", "orphan"].map(|key| object(key, SIZE));
    write_all(&cache, &objects[0], &[0..BLOCK, BLOCK..SIZE]);
    write_one(&cache, &objects[1], CHUNK..3 * CHUNK);
    write_one(&cache, &objects[2], 0..CHUNK);
    drop(cache);
    fs::remove_file(meta_path(stage.path(), &objects[2].id())).unwrap();
    (stage, objects)
}

/// Far more than any file system has: what is not counted yet is in nobody's way.
const BOUNDLESS: u64 = 1 << 60;

#[test]
fn the_scan_and_first_use_agree() {
    explore(&Exploration { name: "scan against first use", schedules: 400 }, || {
        let (stage, [whole, part, orphan]) = left_behind();
        let cache = stage.open_at_once(BOUNDLESS, BOOT);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(check(&file(&cache, &whole)), SIZE.div_ceil(CHUNK)));
            scope.spawn(|| {
                write_one(&cache, &part, 0..SIZE);
                check(&file(&cache, &part));
            });
            scope.spawn(|| {
                write_one(&cache, &orphan, 0..BLOCK);
                check(&file(&cache, &orphan));
            });
        });
        stage.settled(&cache);
        assert_eq!(check(&file(&cache, &part)), SIZE.div_ceil(CHUNK), "there was room for all of it");
        assert_eq!(cache.usage().files, 3);
    });
}

#[test]
fn the_scan_and_eviction_agree() {
    explore(&Exploration { name: "scan against eviction", schedules: 400 }, || {
        let (stage, [whole, part, orphan]) = left_behind();
        let cache = stage.open_at_once(LIMIT, BOOT);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Open, and so known before the scan has come to it.
                let _open = file(&cache, &whole);
                some_time(20);
                cache.evict(&whole.id()).unwrap();
            });
            scope.spawn(|| {
                some_time(20);
                cache.peek(&part.id());
                check(&file(&cache, &whole));
                cache.evict(&part.id()).unwrap();
            });
            scope.spawn(|| {
                write_one(&cache, &orphan, 0..CHUNK);
                cache.evict(&orphan.id()).unwrap();
            });
        });
        stage.settled(&cache);
    });
}

/// Somebody looked at the object just when the scan came by: the left-over stayed, and was counted nowhere.
#[test]
fn a_leftover_goes_although_somebody_looks_at_its_object() {
    explore(&Exploration { name: "left-overs", schedules: 400 }, || {
        let (stage, [_, _, orphan]) = left_behind();
        let cache = stage.open_at_once(LIMIT, BOOT);
        thread::scope(|scope| {
            scope.spawn(|| read(&cache, &orphan, 1));
            scope.spawn(|| read(&cache, &orphan, 1));
        });
        stage.settled(&cache);
        assert!(!data_path(stage.path(), &orphan.id()).exists());
    });
}

#[test]
fn after_a_power_loss_no_door_and_no_reader_gets_what_was_lost() {
    explore(&Exploration { name: "power loss", schedules: 400 }, || {
        let (stage, [whole, ..]) = left_behind();
        unsynced(&stage, &whole);
        let data = OpenOptions::new().write(true).open(data_path(stage.path(), &whole.id())).unwrap();
        data.write_all_at(&[0; 4096], 2 * CHUNK).unwrap();
        let cache = stage.open_at_once(BOUNDLESS, OTHER_BOOT);
        thread::scope(|scope| {
            scope.spawn(|| read(&cache, &whole, 2));
            scope.spawn(|| {
                if let Ok(door) = file(&cache, &whole).door() {
                    assert_eq!(check(door.file()), SIZE.div_ceil(CHUNK));
                }
            });
            scope.spawn(|| write_one(&cache, &whole, 0..SIZE));
        });
        stage.settled(&cache);
        check(&file(&cache, &whole));
    });
}

/// As if the power had gone before the disk confirmed the file: the head, of another boot, does not say synced.
fn unsynced(stage: &Stage, identity: &ObjectIdentity) {
    let meta = meta_path(stage.path(), &identity.id());
    let mut head = fs::read(&meta).unwrap();
    head[24] &= !2; // SYNCED
    let check = xxhash_rust::xxh3::xxh3_64(&head[..56]);
    head[56..64].copy_from_slice(&check.to_le_bytes());
    fs::write(&meta, head).unwrap();
}
