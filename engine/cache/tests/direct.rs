//! Writes past the page cache: the same bytes, the same records, and pages afterwards.

mod support;

use headrace_cache::{BLOCK, CacheFile, Haste, Kept};
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

/// Writes two blocks at a time, as a writer that has fallen behind.
fn fill_in_haste(file: &CacheFile) {
    for start in (0..file.size()).step_by(2 * BLOCK as usize) {
        let end = (start + 2 * BLOCK).min(file.size());
        let data = Aligned::new(&bytes(&file.id(), start..end));
        assert_eq!(file.write_with(start, data.bytes((end - start) as usize), Haste::Behind), Kept::Yes, "at {start}");
    }
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
    let mut byte = [0];
    for at in (0..SIZE).step_by(4096) {
        assert_eq!(file.try_read_nowait(at, &mut byte).unwrap(), Some(1), "the page at {at} is in memory");
        assert_eq!(byte[..], bytes(&file.id(), at..at + 1));
    }
    assert_eq!(check(&file), SIZE.div_ceil(headrace_cache::CHUNK));
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
    assert_eq!(check(&file), SIZE.div_ceil(headrace_cache::CHUNK));
}

#[test]
fn both_ways_in_one_file_and_adopted_by_the_next_process() {
    let place = tempfile::tempdir().unwrap();
    let identity = object("model", SIZE);
    for boot in [BOOT, OTHER_BOOT] {
        let cache = open(place.path(), 64 * BLOCK, BOOT);
        let file = cache.file(&identity).unwrap();
        // Pages first, where a chunk of a later hasty block is there already.
        assert_eq!(write(&file, 0..headrace_cache::CHUNK), Kept::Yes);
        assert_eq!(write(&file, 3 * BLOCK..4 * BLOCK), Kept::Yes);
        fill_in_haste(&file);
        drop(file);
        cache.shutdown();
        drop(cache);
        let cache = open(place.path(), 64 * BLOCK, boot);
        let file = cache.file(&identity).unwrap();
        assert_eq!(check(&file), SIZE.div_ceil(headrace_cache::CHUNK), "adopted in boot {boot}");
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
        let data = Aligned::new(&bytes(&file.id(), 2 * BLOCK..4 * BLOCK));
        assert_eq!(file.write_with(2 * BLOCK, data.bytes(2 * BLOCK as usize), Haste::Behind), Kept::Yes);
        wait_until("nobody reads back", || cache.to_read_back() == 0);
        assert_eq!(check(&file), 2 * BLOCK / headrace_cache::CHUNK, "what was written anew, and no more");
    }
    fill_in_haste(&file);
    assert_eq!(check(&file), SIZE.div_ceil(headrace_cache::CHUNK));
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
