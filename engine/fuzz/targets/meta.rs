//! A cache's meta files: what an earlier process, or a power loss, left beside an object's bytes.
//!
//! The input is one byte of choices, then a meta file. It must be adopted or dropped, and what is adopted must be within the object.

#![no_main]

use headrace_cache::{BLOCK, Cache, ObjectIdentity};
use headrace_fuzz::{engine, memory, seal, take};
use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;

/// Three blocks, the last of a chunk and a few bytes.
const SIZE: u64 = 2 * BLOCK + 16_389;

/// Whoever has a doubt about a block reads it whole: a reader here, and the thread that confirms complete files.
const MEMORY_MAX: usize = 3 * BLOCK as usize;

struct Place {
    cache: Arc<Cache>,
    meta: PathBuf,
    _directory: TempDir,
}

fn identity() -> ObjectIdentity {
    ObjectIdentity { endpoint: "http://fuzz".into(), bucket: "b".into(), key: "k".into(), pin: "\"e\"".into(), size: SIZE }
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let directory = engine::scratch();
    let cache = engine::cache(directory.path().join("cache"));
    let id = identity().id().to_string();
    let folder = directory.path().join("cache/objects").join(&id[..2]);
    fs::create_dir_all(&folder).expect("a folder for the object");
    Place { cache, meta: folder.join(format!("{id}.meta")), _directory: directory }
});

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let [choice] = take(&mut rest);
    let mut meta = rest.to_vec();
    if choice & 1 != 0 {
        // A file too short for its checksums stays as it is.
        let _ = seal::meta(&mut meta);
    }
    fs::write(&PLACE.meta, &meta).expect("writing a scratch file");
    let bytes = File::create(PLACE.meta.with_extension("data")).expect("making a scratch file");
    bytes.set_len(if choice & 2 != 0 { SIZE + 1 } else { SIZE }).expect("a sparse file");
    // Whoever lists the cache meets it too.
    assert!(PLACE.cache.entries().len() <= 1);
    memory::within(MEMORY_MAX + 16 * data.len(), || adopt(choice & 2 != 0));
    clear();
});

/// Nothing of this input may be there for the next: neither its files, nor its file in memory that a background chore still holds.
fn clear() {
    assert!(PLACE.cache.sync_all(Duration::from_secs(10)), "chores that do not end");
    PLACE.cache.evict(&identity().id()).expect("evicting");
    if PLACE.meta.exists() {
        // Only a pinned one stays.
        PLACE.cache.set_pinned(&identity(), false).expect("unpinning");
        assert!(PLACE.cache.sync_all(Duration::from_secs(10)), "chores that do not end");
        PLACE.cache.evict(&identity().id()).expect("evicting");
    }
}

fn adopt(wrong_length: bool) {
    let file = PLACE.cache.file(&identity()).expect("a file, adopted or empty");
    let missing = file.missing(0..SIZE);
    let absent: u64 = missing.iter().map(|range| range.end - range.start).sum();
    assert!(missing.iter().all(|range| range.start < range.end && range.end <= SIZE));
    assert_eq!(file.present_bytes() + absent, SIZE, "present and missing are the whole");
    assert!(!file.is_complete() || absent == 0);
    assert!(!wrong_length || absent == SIZE, "an object of another length was adopted");
    let mut buffer = vec![1; 4096];
    for at in [0, BLOCK, SIZE - 4096] {
        let claimed = file.is_present(at..at + 4096);
        let given = file.read_at(at, &mut buffer).expect("the scratch disk works").is_some();
        assert!(claimed || !given, "bytes that nobody claims");
        assert!(!given || buffer.iter().all(|byte| *byte == 0), "other bytes than the file's");
    }
}
