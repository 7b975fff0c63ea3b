//! Writes past the page cache: the same bytes, the same records, and pages afterwards.

mod support;

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use headrace_cache::{BLOCK, CHUNK, CacheFile, Haste, Kept};
use support::*;

const SIZE: u64 = 6 * BLOCK + 12_345;

/// Memory that begins at a page, as the disk wants it.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut memory = vec![0; bytes.len() + 4096];
        let lead = memory.as_ptr().align_offset(4096);
        memory[lead..lead + bytes.len()].copy_from_slice(bytes);
        Self(memory, lead)
    }

    fn bytes(&self, length: usize) -> &[u8] {
        &self.0[self.1..self.1 + length]
    }
}

fn write_in_haste(file: &CacheFile, range: Range<u64>, haste: Haste) -> Kept {
    let range = range.start..range.end.min(file.size());
    let data = Aligned::new(&bytes(&file.id(), range.clone()));
    file.write_with(range.start, data.bytes((range.end - range.start) as usize), haste)
}

/// Writes two blocks at a time, as a writer that has fallen far behind.
fn fill_in_haste(file: &CacheFile) {
    for start in (0..file.size()).step_by(2 * BLOCK as usize) {
        assert_eq!(write_in_haste(file, start..start + 2 * BLOCK, Haste::FarBehind), Kept::Yes, "at {start}");
    }
}

/// Whether a page is in memory, and right.
fn is_in_memory(file: &CacheFile, at: u64) -> bool {
    let mut byte = [0];
    let found = file.try_read_nowait(at, &mut byte).unwrap() == Some(1);
    assert!(!found || byte[..] == bytes(&file.id(), at..at + 1), "a wrong byte at {at}");
    found
}

#[test]
fn a_hasty_file_is_right_and_is_read_back_into_memory() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 64 * BLOCK, BOOT);
    let file = cache.file(&object("model", SIZE)).unwrap();
    fill_in_haste(&file);
    assert!(file.is_complete());
    // The last piece is no multiple of a page: it went the usual way.
    assert_eq!(cache.counters().direct_bytes, 6 * BLOCK);
    assert!(cache.sync_all(PATIENCE));
    wait_until("the pages are made", || cache.to_read_back() == 0);
    assert_eq!(cache.counters().read_back_bytes, 6 * BLOCK);
    assert!((0..SIZE).step_by(4096).all(|at| is_in_memory(&file, at)));
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
}

#[test]
fn steps_are_read_back_while_the_file_is_written() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 64 * BLOCK, BOOT);
    let file = cache.file(&object("model", SIZE)).unwrap();
    let step = 2 * BLOCK;
    // The second step in two pieces, and half of the third.
    for range in [0..step, step..step + BLOCK, step + BLOCK..2 * step, 2 * step..2 * step + BLOCK] {
        assert_eq!(write_in_haste(&file, range, Haste::Behind), Kept::Yes);
    }
    wait_until("whole steps are read back", || cache.counters().read_back_bytes == 2 * step);
    // First what nobody shall have read: asking for a page that is there may make the kernel read on.
    assert!((2 * step..2 * step + BLOCK).step_by(4096).all(|at| !is_in_memory(&file, at)), "half a step is left alone");
    assert!((0..2 * step).step_by(4096).all(|at| is_in_memory(&file, at)));
    assert_eq!(write_in_haste(&file, 2 * step + BLOCK..SIZE, Haste::None), Kept::Yes);
    assert!(cache.sync_all(PATIENCE));
    wait_until("the rest is read back", || cache.to_read_back() == 0);
    assert_eq!(cache.counters().read_back_bytes, 3 * step, "and nothing twice");
    assert!((0..SIZE).step_by(4096).all(|at| is_in_memory(&file, at)));
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
}

/// What the kernel promises of direct writes beside pages of the same file is relied on here, so it is tried: pieces in any
/// order, some of them through the page cache, while others read what is there and steps are read back.
#[test]
fn pages_and_direct_writes_of_one_file_agree() {
    const PIECE: u64 = BLOCK / 2;
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 64 * BLOCK, BOOT);
    let identity = object("model", 12 * BLOCK + 12_345);
    for round in 0..20_u64 {
        let file = cache.file(&identity).unwrap();
        let pieces = file.size().div_ceil(PIECE);
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let turn = next.fetch_add(1, Relaxed);
                        if turn >= pieces {
                            break;
                        }
                        // Neighbours stay near each other, as in a stream, but not in order; 25 pieces and a stride of 7.
                        let start = (turn * 7 + round) % pieces * PIECE;
                        let haste = if turn % 8 == round % 8 { Haste::None } else { Haste::Behind };
                        assert_eq!(write_in_haste(&file, start..start + PIECE, haste), Kept::Yes);
                    }
                });
            }
            scope.spawn(|| {
                while !file.is_complete() {
                    check(&file);
                }
            });
        });
        let door = file.door().unwrap();
        let mut all = vec![0; file.size() as usize];
        File::from(door.as_fd().try_clone_to_owned().unwrap()).read_exact_at(&mut all, 0).unwrap();
        assert!(all == bytes(&file.id(), 0..file.size()), "round {round}");
        drop(door);
        cache.evict(&identity.id()).unwrap();
    }
    assert!(cache.counters().read_back_bytes > 0 && cache.counters().direct_bytes > 0);
}

#[test]
fn a_file_larger_than_what_may_be_read_back_is_not() {
    let place = tempfile::tempdir().unwrap();
    let cache = headrace_cache::Cache::open(headrace_cache::CacheConfig { page_bytes: SIZE - 1, ..config(place.path(), 64 * BLOCK, BOOT) })
        .unwrap();
    assert!(cache.wait_scanned(PATIENCE));
    let file = cache.file(&object("model", SIZE)).unwrap();
    fill_in_haste(&file);
    assert!(cache.sync_all(PATIENCE) && file.is_durable());
    assert_eq!((cache.to_read_back(), cache.counters().read_back_bytes), (0, 0));
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
}

#[test]
fn both_ways_in_one_file_and_adopted_by_the_next_process() {
    let place = tempfile::tempdir().unwrap();
    let identity = object("model", SIZE);
    for boot in [BOOT, OTHER_BOOT] {
        let cache = open(place.path(), 64 * BLOCK, BOOT);
        let file = cache.file(&identity).unwrap();
        // Pages first, where a chunk of a later hasty block is there already.
        assert_eq!(write(&file, 0..CHUNK), Kept::Yes);
        assert_eq!(write(&file, 3 * BLOCK..4 * BLOCK), Kept::Yes);
        fill_in_haste(&file);
        drop(file);
        cache.shutdown();
        drop(cache);
        let cache = open(place.path(), 64 * BLOCK, boot);
        let file = cache.file(&identity).unwrap();
        assert_eq!(check(&file), SIZE.div_ceil(CHUNK), "adopted in boot {boot}");
        assert_eq!(cache.counters().digest_failures, 0);
        cache.evict(&identity.id()).unwrap();
    }
}

#[test]
fn a_file_that_is_evicted_and_begun_anew_while_it_waits_to_be_read_back_has_its_own_bytes() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 64 * BLOCK, BOOT);
    let identity = object("model", SIZE);
    let file = cache.file(&identity).unwrap();
    for _ in 0..5 {
        fill_in_haste(&file);
        assert!(cache.sync_all(PATIENCE));
        cache.evict(&identity.id()).unwrap();
        assert_eq!(write_in_haste(&file, 2 * BLOCK..4 * BLOCK, Haste::FarBehind), Kept::Yes);
        wait_until("nobody reads back", || cache.to_read_back() == 0);
        assert_eq!(check(&file), 2 * BLOCK / CHUNK, "what was written anew, and no more");
    }
    fill_in_haste(&file);
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
}

#[test]
fn an_evicted_file_that_is_held_keeps_nothing_open_for_writing() {
    let place = tempfile::tempdir().unwrap();
    let cache = open(place.path(), 64 * BLOCK, BOOT);
    let file = cache.file(&object("model", SIZE)).unwrap();
    fill_in_haste(&file);
    let hold = file.hold();
    cache.evict(&file.id()).unwrap();
    drop(hold);
    let open_files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let mine: Vec<_> =
        open_files.filter(|path| path.starts_with(place.path()) && path.to_string_lossy().contains(&file.id().to_string())).collect();
    assert!(mine.is_empty(), "{mine:?}");
}
