//! More bytes than there is memory or room on the disk: the budget holds, and so do the bytes.

use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::source::Scripted;
use crate::stage::{BLOCK, CHUNK, Expected, MEMORY, SEGMENT, Stage, read};

/// More than the budget.
const LARGE: u64 = MEMORY + 2 * SEGMENT + 123;
const SMALL: u64 = 2 * SEGMENT + 3;
/// The least a cache directory may have.
const LITTLE_ROOM: u64 = headrace_cache::MIN_LIMIT;

#[test]
fn an_object_larger_than_memory_and_cache_reads_right() {
    explore(&Exploration { name: "little memory, little room", schedules: 200 }, || {
        let stage = Stage::new(LITTLE_ROOM, Scripted::default());
        let object = stage.object(LARGE);
        thread::scope(|scope| {
            scope.spawn(|| (0..LARGE).step_by(3 * BLOCK as usize).for_each(|at| read(&object, at..LARGE.min(at + 3 * BLOCK)).unwrap()));
            scope.spawn(|| read(&object, LARGE - SEGMENT..LARGE).unwrap());
            scope.spawn(|| read(&object, LARGE / 2..LARGE).unwrap());
            scope.spawn(|| stage.ask(&object, 4 * SEGMENT..5 * SEGMENT, 1, Expected::Bytes));
        });
        drop(object);
        stage.end();
    });
}

#[test]
fn what_is_evicted_while_it_is_read_is_fetched_again() {
    explore(&Exploration { name: "discarded while read", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::default());
        let object = stage.object(SMALL);
        thread::scope(|scope| {
            scope.spawn(|| read(&object, 0..SMALL).and_then(|()| read(&object, CHUNK..SMALL)).unwrap());
            scope.spawn(|| {
                stage.ask(&object, 0..SEGMENT + 1, 1, Expected::Bytes);
                object.discard();
            });
            scope.spawn(|| {
                some_time(200);
                if let Some(door) = object.door() {
                    assert!(door.file().is_complete());
                    object.discard();
                }
                object.discard();
            });
        });
        stage.all_answered();
        read(&object, 0..SMALL).unwrap();
        drop(object);
        stage.end();
    });
}

#[test]
fn a_warm_up_and_readers_fetch_once() {
    explore(&Exploration { name: "warm-up", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::default());
        let object = stage.object(SMALL);
        thread::scope(|scope| {
            scope.spawn(|| {
                let objects = Box::new(std::iter::once(object.clone()));
                let (progress, failures) = stage.fetcher.warm(objects, (1, SMALL), &mut |_| true);
                assert!(failures.is_empty(), "{failures:?}");
                assert_eq!((progress.files, progress.bytes), (1, SMALL));
            });
            scope.spawn(|| read(&object, BLOCK..SMALL).unwrap());
        });
        assert_eq!(stage.source.sent(), SMALL, "every byte once");
        drop(object);
        stage.end();
    });
}
