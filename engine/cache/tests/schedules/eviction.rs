//! Room is made while others read, write and hold: never a wrong byte, never more than the limit.

use headrace_cache::{Cache, ObjectIdentity};
use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::stage::{BLOCK, CHUNK, LIMIT, Stage, file, read, write_all};
use crate::support::{check, object};

const SIZE: u64 = 2 * BLOCK + 5;
const LARGE: u64 = 4 * BLOCK + 2 * CHUNK;

#[test]
fn readers_of_what_is_punched_and_unlinked_see_no_hole() {
    explore(&Exploration { name: "eviction against readers", schedules: 400 }, || {
        let stage = Stage::new();
        let cache = stage.open();
        let identity = object("o", SIZE);
        thread::scope(|scope| {
            scope.spawn(|| {
                let hold = file(&cache, &identity).hold();
                write_all(&cache, &identity, &[0..BLOCK, BLOCK..SIZE]);
                check(hold.file());
            });
            scope.spawn(|| write_all(&cache, &identity, &[CHUNK..BLOCK, 0..SIZE]));
            scope.spawn(|| read(&cache, &identity, 3));
            scope.spawn(|| {
                for _ in 0..3 {
                    some_time(60);
                    cache.evict(&identity.id()).unwrap();
                }
            });
        });
        stage.settled(&cache);
    });
}

#[test]
fn writers_that_need_more_than_there_is_stay_within_the_limit() {
    explore(&Exploration { name: "limit", schedules: 400 }, || {
        let stage = Stage::new();
        let cache = stage.open();
        let objects: Vec<ObjectIdentity> = ["a", "b", "c"].map(|key| object(key, LARGE)).into();
        thread::scope(|scope| {
            for identity in &objects {
                scope.spawn(|| fill_and_read(&cache, identity));
            }
            scope.spawn(|| {
                for _ in 0..20 {
                    let allocated = cache.usage().allocated_bytes;
                    assert!(allocated <= LIMIT, "{allocated} of {LIMIT}");
                    thread::yield_now();
                }
            });
        });
        assert!(cache.usage().allocated_bytes <= LIMIT);
        stage.settled(&cache);
    });
}

fn fill_and_read(cache: &Cache, identity: &ObjectIdentity) {
    // Held, so that the others find incomplete files to punch as well as idle ones to unlink.
    let hold = file(cache, identity).hold();
    write_all(cache, identity, &[0..BLOCK, BLOCK..3 * BLOCK, 3 * BLOCK..LARGE]);
    check(hold.file());
}
