//! A descriptor leaves for complete, confirmed files only, and whoever has one keeps its bytes.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use headrace_cache::{Cache, CacheError, DoorHandle, ObjectIdentity};
use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::stage::{BLOCK, CHUNK, Stage, file, write_all, write_one};
use crate::support::{bytes, check, object};

const SIZE: u64 = BLOCK + 2 * CHUNK + 9;

#[test]
fn a_door_is_whole_and_stays_whole() {
    explore(&Exploration { name: "doors", schedules: 400 }, || {
        let stage = Stage::new();
        let cache = stage.open();
        let identity = object("o", SIZE);
        thread::scope(|scope| {
            scope.spawn(|| write_all(&cache, &identity, &[0..BLOCK, BLOCK..SIZE, 0..SIZE]));
            scope.spawn(|| {
                some_time(60);
                let doors: Vec<DoorHandle> = (0..4).filter_map(|_| door(&cache, &identity)).collect();
                some_time(20);
                doors.iter().for_each(whole);
            });
            scope.spawn(|| {
                if let Some(door) = door(&cache, &identity) {
                    cache.evict(&identity.id()).unwrap();
                    whole(&door);
                }
            });
            scope.spawn(|| {
                some_time(80);
                let _held = file(&cache, &identity).hold();
                some_time(20);
            });
            scope.spawn(|| {
                for _ in 0..2 {
                    some_time(60);
                    cache.evict(&identity.id()).unwrap();
                }
            });
        });
        stage.settled(&cache);
    });
}

/// The second eviction took away the name of the file's successor, and with it the books of both.
#[test]
fn two_who_evict_a_held_file_take_its_name_once() {
    explore(&Exploration { name: "two evictions", schedules: 400 }, || {
        let stage = Stage::new();
        let cache = stage.open();
        let identity = object("o", SIZE);
        write_one(&cache, &identity, 0..SIZE);
        let held = door(&cache, &identity).expect("the file is complete");
        thread::scope(|scope| {
            scope.spawn(|| cache.evict(&identity.id()).unwrap());
            scope.spawn(|| cache.evict(&identity.id()).unwrap());
            scope.spawn(|| write_one(&cache, &identity, 0..SIZE));
            scope.spawn(|| cache.set_pinned(&identity, false).or_else(evicted).unwrap());
        });
        whole(&held);
        drop(held);
        stage.settled(&cache);
        let left = cache.peek(&identity.id()).map(|presence| presence.present_bytes);
        drop(cache);
        let adopted = stage.open();
        assert_eq!(left, adopted.peek(&identity.id()).map(|presence| presence.present_bytes), "what is cached has its name");
        stage.settled(&adopted);
    });
}

/// Evicted meanwhile: no failure.
fn evicted(error: CacheError) -> Result<(), CacheError> {
    if matches!(error, CacheError::Evicted { .. }) { Ok(()) } else { Err(error) }
}

fn door(cache: &Cache, identity: &ObjectIdentity) -> Option<DoorHandle> {
    match file(cache, identity).door() {
        Ok(door) => {
            whole(&door);
            Some(door)
        }
        Err(CacheError::NotComplete { .. } | CacheError::Evicted { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn whole(door: &DoorHandle) {
    let mut found = vec![0; SIZE as usize];
    let descriptor = File::from(door.as_fd().try_clone_to_owned().unwrap());
    descriptor.read_exact_at(&mut found, 0).unwrap();
    assert!(found == bytes(&door.file().id(), 0..SIZE), "a program was given a hole");
    assert_eq!(check(door.file()), SIZE.div_ceil(CHUNK), "nor does the node forget what is held");
}
