//! A cache in a temporary directory, and objects whose every byte is known.
#![allow(dead_code, reason = "each test file uses its part of this")]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_cache::{BLOCK, CHUNK, Cache, CacheConfig, CacheDirectory, CacheError, CacheFile, Kept, ObjectId, ObjectIdentity};

pub const BOOT: &str = "11111111-1111-1111-1111-111111111111";
pub const OTHER_BOOT: &str = "22222222-2222-2222-2222-222222222222";
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn config(path: &Path, limit_bytes: u64, boot: &str) -> CacheConfig {
    CacheConfig {
        directories: vec![CacheDirectory { path: path.into(), limit_bytes }],
        reserve_bytes: 0,
        max_age: None,
        verify_reads: false,
        page_bytes: 1 << 30,
        boot_id: boot.into(),
        locks: Vec::new(),
    }
}

pub fn try_open(path: &Path, limit_bytes: u64, boot: &str) -> Result<Arc<Cache>, CacheError> {
    Cache::open(config(path, limit_bytes, boot))
}

/// An open cache that has been counted.
pub fn open(path: &Path, limit_bytes: u64, boot: &str) -> Arc<Cache> {
    let cache = try_open(path, limit_bytes, boot).unwrap();
    assert!(cache.wait_scanned(PATIENCE));
    cache
}

pub fn object(key: &str, size: u64) -> ObjectIdentity {
    ObjectIdentity { endpoint: "http://origin".into(), bucket: "models".into(), key: key.into(), pin: "\"etag\"".into(), size }
}

/// The object's bytes in a range: never zero, different in every object and at every place.
pub fn bytes(id: &ObjectId, range: Range<u64>) -> Vec<u8> {
    let seed = u64::from_le_bytes(id.0[..8].try_into().unwrap());
    let byte = |at: u64| {
        let word = (at / 8).wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (word >> (at % 8 * 8)) as u8 | 1
    };
    range.map(byte).collect()
}

pub fn write(file: &CacheFile, range: Range<u64>) -> Kept {
    let range = range.start..range.end.min(file.size());
    file.write(range.start, &bytes(&file.id(), range))
}

/// Writes block by block and insists that all is kept.
pub fn fill(file: &CacheFile) {
    for start in (0..file.size()).step_by(BLOCK as usize) {
        assert_eq!(write(file, start..start + BLOCK), Kept::Yes, "at {start}");
    }
}

/// Reads chunk by chunk: how many chunks are there; a wrong byte is a failure.
pub fn check(file: &CacheFile) -> u64 {
    let mut present = 0;
    for start in (0..file.size()).step_by(CHUNK as usize) {
        let end = (start + CHUNK).min(file.size());
        let mut buffer = vec![0; (end - start) as usize];
        if file.read_at(start, &mut buffer).unwrap().is_some() {
            present += 1;
            assert!(buffer == bytes(&file.id(), start..end), "wrong bytes at {start}");
        }
    }
    present
}

/// Blocks that all files below a directory occupy.
pub fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        match entry.metadata() {
            Ok(about) if about.is_dir() => total += allocated(&entry.path()),
            Ok(about) => total += about.blocks() * 512,
            Err(_) => {} // evicted while we look
        }
    }
    total
}

pub fn data_path(root: &Path, id: &ObjectId) -> std::path::PathBuf {
    let hex = id.to_string();
    root.join("objects").join(&hex[..2]).join(format!("{hex}.data"))
}

pub fn meta_path(root: &Path, id: &ObjectId) -> std::path::PathBuf {
    data_path(root, id).with_extension("meta")
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::yield_now();
    }
}

/// Says what cannot be tested here, and fails unless HEADRACE_TEST_ALLOW_SKIPS is set.
pub fn skip(what: &str) {
    eprintln!("NOT RUN: {what}");
    assert!(
        std::env::var_os("HEADRACE_TEST_ALLOW_SKIPS").is_some(),
        "cannot test here: {what}; set HEADRACE_TEST_ALLOW_SKIPS=1 to go on without"
    );
}
