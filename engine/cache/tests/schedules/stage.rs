//! What every schedule needs: a directory in memory, a cache there, and the question whether the books are right.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use headrace_cache::{Cache, CacheFile, MIN_LIMIT, ObjectIdentity};

use crate::support;

/// Room for eight of the small blocks.
pub const LIMIT: u64 = MIN_LIMIT;
pub const BLOCK: u64 = headrace_cache::BLOCK;
pub const CHUNK: u64 = headrace_cache::CHUNK;

/// What lies in the same file system, more than the limit: so a cache that does not know yet what it holds admits
/// nothing, whatever else is in memory while the test runs.
static BALLAST: LazyLock<File> = LazyLock::new(|| {
    let mut file = tempfile::tempfile_in(MEMORY).expect("there is some memory");
    file.write_all(&[1; 2 * LIMIT as usize]).expect("there is some memory");
    file
});
const MEMORY: &str = "/dev/shm";

/// A directory of one execution. In memory: blocks are counted the moment they are written.
pub struct Stage(tempfile::TempDir);

impl Stage {
    pub fn new() -> Stage {
        LazyLock::force(&BALLAST);
        Stage(tempfile::tempdir_in(MEMORY).expect("it is a file system in memory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A cache whose scan is over.
    pub fn open(&self) -> Arc<Cache> {
        let cache = self.open_at_once(LIMIT, support::BOOT);
        scanned(&cache);
        cache
    }

    /// A cache whose scan is only beginning.
    pub fn open_at_once(&self, limit_bytes: u64, boot: &str) -> Arc<Cache> {
        support::try_open(self.path(), limit_bytes, boot).expect("the directory is ours")
    }

    /// Waits for the threads of the cache to have done what there is, and looks at the books.
    pub fn settled(&self, cache: &Cache) {
        scanned(cache);
        while !cache.sync_all(support::PATIENCE) {}
        self.books_balance(cache);
    }

    /// Once all have let go: nothing is left without a name, and what is booked is what the disk has.
    fn books_balance(&self, cache: &Cache) {
        let usage = cache.usage();
        assert_eq!(usage.held_unlinked_bytes, 0, "nobody holds an unlinked file");
        assert_eq!(usage.allocated_bytes, support::allocated(&self.path().join("objects")), "the books against the disk");
        assert_eq!(support::allocated(&self.path().join("trash")), 0, "the trash is empty");
        assert_eq!(usage.directories[0].failed, None);
    }
}

/// In the model time may pass at any moment, so a time-out says nothing; what never ends is found by the clock.
pub fn scanned(cache: &Cache) {
    while !cache.wait_scanned(support::PATIENCE) {}
}

/// The cached file of an object, new when the last one was evicted.
pub fn file(cache: &Cache, identity: &ObjectIdentity) -> Arc<CacheFile> {
    cache.file(identity).expect("the object is not too large")
}

/// Reads what is there of an object, so many times; a wrong byte is a failure.
pub fn read(cache: &Cache, identity: &ObjectIdentity, times: usize) {
    for _ in 0..times {
        support::check(&file(cache, identity));
    }
}

/// Writes ranges one after the other, asking anew for the file each time, as fetching does.
pub fn write_all(cache: &Cache, identity: &ObjectIdentity, ranges: &[Range<u64>]) {
    ranges.iter().for_each(|range| write_one(cache, identity, range.clone()));
}

/// Writes a range. What is not kept is none of its business.
pub fn write_one(cache: &Cache, identity: &ObjectIdentity, range: Range<u64>) {
    let _ = support::write(&file(cache, identity), range);
}
