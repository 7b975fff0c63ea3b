//! Holes of an incomplete file and pages: none are made of what is yet to be written past the page cache.

mod support;

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use headrace_cache::{BLOCK, CHUNK, CacheFile, Haste, Kept};
use support::*;

const PAGE: usize = 4096;
const SIZE: u64 = 16 * BLOCK;

/// Pages of a range that are in memory.
fn pages(path: &Path, range: Range<u64>) -> usize {
    let file = File::open(path).unwrap();
    let length = (range.end - range.start) as usize;
    let mut found = vec![0_u8; length.div_ceil(PAGE)];
    // SAFETY: a mapping of its own that nobody touches, asked about and given back; `found` has a byte for each of its pages.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), range.start as i64);
        assert_ne!(map, libc::MAP_FAILED);
        assert_eq!(libc::mincore(map, length, found.as_mut_ptr()), 0);
        libc::munmap(map, length);
    }
    found.iter().filter(|page| **page & 1 != 0).count()
}

fn drop_pages(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: takes a descriptor, open for the call, and numbers.
    assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
}

/// Reads in order what is there, as programs do and the kernel reads ahead for.
fn read_in_order(file: &CacheFile, range: Range<u64>) {
    let mut piece = vec![0; CHUNK as usize];
    for at in range.step_by(CHUNK as usize) {
        assert_eq!(file.read_at(at, &mut piece).unwrap(), Some(()));
        assert!(piece == bytes(&file.id(), at..at + CHUNK), "wrong bytes at {at}");
    }
}

/// Pages that read-ahead made of a hole could stay beside a direct write to it, and be served as zeros.
#[test]
fn reading_an_incomplete_file_makes_no_pages_of_its_holes() {
    let place = tempfile::tempdir().unwrap();
    let identity = object("model", SIZE);
    let path = data_path(place.path(), &identity.id());
    for process in ["the one that began the file", "one that adopted it"] {
        let cache = open(place.path(), 64 * BLOCK, BOOT);
        let file = cache.file(&identity).unwrap();
        assert_eq!(write(&file, 0..BLOCK), Kept::Yes);
        drop_pages(&path);
        read_in_order(&file, 0..BLOCK);
        assert!(pages(&path, 0..BLOCK) > 0, "nothing was read from the file, so this shows nothing");
        assert_eq!(pages(&path, BLOCK..SIZE), 0, "by {process}");
        drop(file);
        cache.shutdown();
    }
}

/// Once a file was complete its pages may be anywhere: with whoever opened it, or mapped it.
#[test]
fn a_file_that_was_complete_is_never_written_past_the_page_cache_again() {
    let place = tempfile::tempdir().unwrap();
    let identity = object("model", SIZE);
    let cache = open(place.path(), 64 * BLOCK, BOOT);
    let file = cache.file(&identity).unwrap();
    fill(&file);
    assert!(file.is_complete() && cache.sync_all(PATIENCE));
    let path = data_path(place.path(), &identity.id());
    File::options().write(true).open(&path).unwrap().write_all_at(b"damage", 4 * BLOCK).unwrap();
    assert_eq!(cache.verify(&|_, _| true, true).bad_blocks, 1);
    assert!(!file.is_complete());
    let bytes = bytes(&file.id(), 4 * BLOCK..5 * BLOCK);
    let mut memory = vec![0; bytes.len() + PAGE];
    let lead = memory.as_ptr().align_offset(PAGE);
    memory[lead..lead + bytes.len()].copy_from_slice(&bytes);
    assert_eq!(file.write_with(4 * BLOCK, &memory[lead..lead + bytes.len()], Haste::FarBehind), Kept::Yes);
    assert!(file.is_complete());
    assert_eq!(cache.counters().direct_bytes, 0);
    assert_eq!(check(&file), SIZE / CHUNK);
}
