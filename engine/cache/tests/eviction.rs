//! The limit, and what goes in which order when it is reached.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

use headrace_cache::{BLOCK, CHUNK, Cache, Kept, MIN_LIMIT, Unkept};
use parking_lot::Mutex;
use support::*;

const LIMIT: u64 = 16 * BLOCK;

#[test]
fn the_longest_unused_goes_first_and_pinned_or_held_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let evicted = Arc::new(Mutex::new(Vec::new()));
    let list = evicted.clone();
    cache.on_evict(Box::new(move |id| list.lock().push(*id)));
    let keys = ["pinned", "oldest", "used-again", "held", "newer"];
    for key in keys {
        fill(&cache.file(&object(key, 3 * BLOCK)).unwrap());
    }
    cache.set_pinned(&object("pinned", 3 * BLOCK), true).unwrap();
    cache.file(&object("used-again", 3 * BLOCK)).unwrap().touch();
    let hold = cache.file(&object("held", 3 * BLOCK)).unwrap().hold();

    fill(&cache.file(&object("x", 3 * BLOCK)).unwrap());
    assert_eq!(*evicted.lock(), vec![object("oldest", 3 * BLOCK).id()]);
    fill(&cache.file(&object("y", 6 * BLOCK)).unwrap());
    assert_eq!(evicted.lock()[1..], [object("newer", 3 * BLOCK).id(), object("used-again", 3 * BLOCK).id()]);
    assert!(cache.peek(&object("pinned", 3 * BLOCK).id()).unwrap().complete);
    assert!(hold.file().is_complete());
    assert_eq!(check(hold.file()), 3 * BLOCK / CHUNK);
    assert!(cache.usage().allocated_bytes <= LIMIT);
    assert!(allocated(&dir.path().join("objects")) <= LIMIT + 64 * 4096);
}

#[test]
fn pins_survive_a_restart_even_of_what_is_not_cached() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let identity = object("p", 3 * BLOCK);
    cache.set_pinned(&identity, true).unwrap();
    drop(cache);
    let cache = open(dir.path(), LIMIT, BOOT);
    assert!(cache.entries()[0].pinned);
    assert_eq!(cache.entries()[0].identity, identity);
    fill(&cache.file(&identity).unwrap());
    fill(&cache.file(&object("big", 14 * BLOCK)).unwrap());
    assert!(cache.peek(&identity.id()).unwrap().complete);
    assert_eq!(cache.evict(&identity.id()).unwrap(), 0, "a pin holds against a request too");
    cache.set_pinned(&identity, false).unwrap();
    assert!(cache.evict(&identity.id()).unwrap() >= 3 * BLOCK);
}

#[test]
fn what_is_protected_stays_until_it_is_asked_for_or_protected_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let [kept, part] = [object("kept", 3 * BLOCK), object("part", 9 * BLOCK)];
    cache.protect(&HashSet::from([kept.id(), part.id()]));
    fill(&cache.file(&kept).unwrap());
    let incomplete = cache.file(&part).unwrap();
    let hold = incomplete.hold();
    assert_eq!(write(&incomplete, 0..3 * BLOCK), Kept::Yes);
    fill(&cache.file(&object("x", 6 * BLOCK)).unwrap());
    fill(&cache.file(&object("y", 6 * BLOCK)).unwrap());
    assert!(cache.peek(&kept.id()).unwrap().complete);
    assert_eq!(incomplete.present_bytes(), 3 * BLOCK, "nothing of it was punched");
    assert!(cache.peek(&object("x", 6 * BLOCK).id()).is_none());

    assert!(cache.evict(&kept.id()).unwrap() >= 3 * BLOCK, "asked for it goes");
    cache.protect(&HashSet::new());
    drop(hold);
    fill(&cache.file(&object("all", 14 * BLOCK)).unwrap());
    assert!(cache.peek(&part.id()).is_none());
}

#[test]
fn a_file_larger_than_the_limit_is_punched_behind_itself() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), MIN_LIMIT, BOOT);
    let file = cache.file(&object("huge", 40 * BLOCK + 3)).unwrap();
    let hold = file.hold();
    fill(&file);
    assert!(!file.is_complete());
    assert!(file.is_present(39 * BLOCK..40 * BLOCK), "what was written last is there");
    assert!(file.present_bytes() > MIN_LIMIT / 2);
    assert!(check(&file) > 0);
    assert!(cache.usage().allocated_bytes <= MIN_LIMIT);
    assert!(allocated(&dir.path().join("objects")) <= MIN_LIMIT);
    assert!(cache.counters().punched_bytes > 30 * BLOCK);
    drop(hold);
}

#[test]
fn when_all_is_held_new_bytes_pass_unkept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), MIN_LIMIT, BOOT);
    let full = cache.file(&object("full", 7 * BLOCK)).unwrap();
    fill(&full);
    let door = full.door().unwrap();
    let other = cache.file(&object("other", 7 * BLOCK)).unwrap();
    assert_eq!(write(&other, 0..BLOCK), Kept::No(Unkept::NoRoom));
    assert_eq!(cache.counters().unkept_no_room_bytes, BLOCK);
    drop(door);
    drop(full);
    assert_eq!(write(&other, 0..BLOCK), Kept::Yes);
}

#[test]
fn an_unlinked_file_counts_until_its_last_holder_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let identity = object("a", 4 * BLOCK);
    let file = cache.file(&identity).unwrap();
    fill(&file);
    let (hold, door) = (file.hold(), file.door().unwrap());
    assert_eq!(cache.evict(&identity.id()).unwrap(), 0);
    assert!(file.is_evicted());
    assert_eq!(check(&file), 4 * BLOCK / CHUNK);
    assert!(cache.usage().held_unlinked_bytes >= 4 * BLOCK);
    assert_eq!(write(&file, 0..BLOCK), Kept::Yes, "it is there already");

    let again = cache.file(&identity).unwrap();
    assert!(!Arc::ptr_eq(&file, &again));
    assert_eq!(again.present_bytes(), 0);
    fill(&again);
    drop(hold);
    assert!(cache.usage().held_unlinked_bytes >= 4 * BLOCK);
    drop(door);
    assert_eq!(cache.usage().held_unlinked_bytes, 0);
    assert_eq!(file.read_at(0, &mut [0]).unwrap(), None);
    assert_eq!(write(&file, 0..BLOCK), Kept::No(Unkept::Evicted));
    drop(file);
    assert!(Arc::ptr_eq(&again, &cache.file(&identity).unwrap()));
    assert_eq!(cache.usage().files, 1);
}

#[test]
fn an_evicted_file_that_is_held_writes_nothing_of_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let identity = object("again", 2 * BLOCK);
    let held = cache.file(&identity).unwrap();
    fill(&held);
    assert!(cache.sync_all(PATIENCE)); // its meta file is closed: whoever wants it opens it by name
    let door = held.door().unwrap();
    cache.evict(&identity.id()).unwrap();
    assert!(held.is_evicted());
    let successor = cache.file(&identity).unwrap();
    assert_eq!(write(&successor, 0..BLOCK), Kept::Yes);
    assert!(held.set_pinned(true).is_err(), "the name is another file's");
    drop((door, held, successor, cache));
    let cache = open(dir.path(), LIMIT, BOOT);
    let adopted = cache.file(&identity).unwrap();
    assert_eq!((adopted.present_bytes(), adopted.is_complete(), adopted.is_pinned()), (BLOCK, false, false));
}

#[test]
fn an_incomplete_file_in_use_is_emptied_on_request_and_fills_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&object("a", 4 * BLOCK)).unwrap();
    let _hold = file.hold();
    assert_eq!(write(&file, 0..2 * BLOCK), Kept::Yes);
    assert!(cache.evict(&file.id()).unwrap() >= 2 * BLOCK);
    assert!(!file.is_evicted());
    assert_eq!(file.present_bytes(), 0);
    fill(&file);
    assert_eq!(check(&file), 4 * BLOCK / CHUNK);
}

#[test]
fn old_files_go_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), LIMIT, BOOT);
    config.max_age = Some(Duration::ZERO);
    let cache = Cache::open(config).unwrap();
    assert!(cache.wait_scanned(PATIENCE));
    fill(&cache.file(&object("a", BLOCK)).unwrap());
    let held = cache.file(&object("b", BLOCK)).unwrap();
    fill(&held);
    let _hold = held.hold();
    cache.look_after_space();
    assert!(cache.peek(&object("a", BLOCK).id()).is_none());
    assert!(held.is_complete());
}

#[test]
fn punching_under_readers_never_yields_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), MIN_LIMIT, BOOT);
    let file = cache.file(&object("a", 32 * BLOCK)).unwrap();
    let _hold = file.hold();
    let expected = bytes(&file.id(), 0..file.size());
    let done = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..3u64 {
            let (file, expected, done, read) = (&file, &expected, &done, &read);
            scope.spawn(move || {
                let mut place = reader;
                let mut buffer = vec![0; 64 * 1024];
                while !done.load(Relaxed) {
                    place = place.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let start = (place >> 20) % (file.size() - 64 * 1024);
                    buffer.fill(0);
                    let count = if reader == 0 {
                        file.try_read_nowait(start, &mut buffer).unwrap()
                    } else {
                        file.read_at(start, &mut buffer).unwrap().map(|()| buffer.len())
                    };
                    if let Some(count) = count {
                        let right = &expected[start as usize..start as usize + count];
                        assert!(buffer[..count] == *right, "wrong bytes at {start}");
                        read.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        for round in 0..400u64 {
            let start = round * 7 % 32 * BLOCK;
            assert_eq!(file.write(start, &expected[start as usize..(start + BLOCK) as usize]), Kept::Yes);
        }
        wait_until("some reads hit", || read.load(Relaxed) > 100);
        done.store(true, Relaxed);
    });
    assert!(cache.counters().punched_bytes > 100 * BLOCK);
    assert!(cache.usage().allocated_bytes <= MIN_LIMIT);
}

#[test]
fn the_limit_holds_under_random_writes_with_holds_and_doors() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    std::thread::scope(|scope| {
        for seed in 1..5u64 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = seed;
                let mut next = |below: u64| {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(seed * 2 + 1);
                    (random >> 33) % below
                };
                let mut holds = Vec::new();
                let mut doors = Vec::new();
                for _ in 0..400 {
                    let key = next(12);
                    let size = (key + 1) * 600_000;
                    let file = cache.file(&object(&format!("k{key}"), size)).unwrap();
                    let start = next(size) / CHUNK * CHUNK;
                    let end = (start + (next(80) + 1) * CHUNK).min(size);
                    let _ = write(&file, start..end);
                    let mut buffer = vec![0; (end - start) as usize];
                    if file.read_at(start, &mut buffer).unwrap().is_some() {
                        assert!(buffer == bytes(&file.id(), start..end));
                    }
                    match next(10) {
                        0 => holds.push(file.hold()),
                        1 => doors.extend(file.door()),
                        2 => holds.clear(),
                        3 => doors.clear(),
                        4 => drop(cache.evict(&file.id()).unwrap()),
                        _ => {}
                    }
                    assert!(cache.usage().allocated_bytes <= LIMIT, "{:?}", cache.usage());
                }
            });
        }
    });
    // Everybody let go: the books say what the disk says.
    assert_eq!(cache.usage().held_unlinked_bytes, 0);
    let on_disk = allocated(&dir.path().join("objects"));
    let booked = cache.usage().allocated_bytes;
    assert!(booked.abs_diff(on_disk) <= 128 * 1024, "booked {booked}, on disk {on_disk}");
    assert_eq!(cache.verify(&|_, _| true, false).bad_blocks, 0);
    drop(cache);
    let again = open(dir.path(), LIMIT, BOOT);
    assert!(again.usage().allocated_bytes.abs_diff(booked) <= 128 * 1024);
}

#[test]
fn the_same_write_twice_is_kept_once_and_bad_ranges_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&object("a", BLOCK + 5)).unwrap();
    assert_eq!(cache.usage().files, 0, "nothing on disk before the first byte");
    for _ in 0..2 {
        assert_eq!(write(&file, BLOCK..BLOCK + 5), Kept::Yes);
    }
    assert_eq!(cache.counters().written_bytes, 5);
    for (offset, length) in [(1, CHUNK), (0, 5), (BLOCK, 6), (0, 0), (2 * BLOCK, CHUNK)] {
        assert_eq!(file.write(offset, &vec![1; length as usize]), Kept::No(Unkept::Misaligned));
    }
    assert!(file.read_at(BLOCK, &mut [0; 6]).is_err());
}

#[test]
fn overlapping_writers_complete_a_file_once_with_every_byte_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    cache.on_complete(Box::new(move |_| {
        count.fetch_add(1, Relaxed);
    }));
    let size = 6 * BLOCK + 9 * CHUNK + 1;
    let file = cache.file(&object("a", size)).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let file = &file;
            scope.spawn(move || {
                let step = [BLOCK, 3 * CHUNK, 40 * CHUNK, 2 * BLOCK][writer as usize];
                for start in (0..size).step_by(step as usize) {
                    assert_eq!(write(file, start..start + step), Kept::Yes);
                }
            });
        }
    });
    assert!(file.is_complete());
    assert_eq!(told.load(Relaxed), 1);
    assert_eq!(cache.counters().written_bytes, size);
    assert_eq!(check(&file), size.div_ceil(CHUNK));
    assert_eq!(cache.verify(&|_, _| true, false).bad_blocks, 0);
}

#[test]
fn an_absurd_size_is_an_error_and_no_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let error = cache.file(&object("a", u64::MAX)).err().unwrap();
    assert_eq!(error.code(), "cache-object-too-large");
}
