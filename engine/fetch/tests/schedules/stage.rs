//! What every schedule needs: a cache in memory, a fetcher over it, readers, and the question whether all is in order.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use headrace_cache::{Cache, CacheConfig, CacheDirectory, ObjectIdentity};
use headrace_fetch::{FetchConfig, Fetcher, Object, ObjectSpec, Piece, ReadError, ReadReply, Source};
use headrace_sync::{Condvar, Mutex};

use crate::source::{Scripted, content};

pub const BLOCK: u64 = headrace_cache::BLOCK;
pub const CHUNK: u64 = headrace_cache::CHUNK;
pub const SEGMENT: u64 = 2 * BLOCK;
/// The least budget there is: eight segments.
pub const MEMORY: u64 = 8 * SEGMENT;

pub struct Stage {
    directory: tempfile::TempDir,
    pub fetcher: Arc<Fetcher>,
    pub source: Arc<Scripted>,
    tally: Arc<Tally>,
}

/// Reads asked for and answered.
#[derive(Default)]
struct Tally {
    open: Mutex<usize>,
    answered: Condvar,
}

/// How one read must end.
pub enum Expected {
    Bytes,
    BytesOrError,
}

struct Reply {
    object: Arc<Object>,
    range: Range<u64>,
    expected: Expected,
    tally: Arc<Tally>,
}

impl Stage {
    pub fn new(cache_bytes: u64, source: Scripted) -> Stage {
        Stage::with_deadline(cache_bytes, source, Duration::from_secs(3600))
    }

    pub fn with_deadline(cache_bytes: u64, source: Scripted, deadline: Duration) -> Stage {
        let directory = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is a file system in memory");
        let cache = Cache::open(CacheConfig {
            directories: vec![CacheDirectory { path: directory.path().join("cache"), limit_bytes: cache_bytes }],
            reserve_bytes: 0,
            max_age: None,
            verify_reads: false,
            page_bytes: u64::MAX,
            boot_id: "a-boot".into(),
            locks: Vec::new(),
        })
        .expect("the directory is ours");
        // In the model time may pass at any moment, so a time-out says nothing; what never ends is found by the clock.
        while !cache.wait_scanned(Duration::from_secs(1)) {}
        let config = FetchConfig { memory_bytes: MEMORY, workers: 3, writers: 1, deadline };
        let fetcher = Fetcher::start(cache, config).expect("threads are to be had");
        Stage { directory, fetcher, source: Arc::new(source), tally: Arc::default() }
    }

    pub fn cache(&self) -> &Arc<Cache> {
        self.fetcher.cache()
    }

    pub fn object(&self, size: u64) -> Arc<Object> {
        let spec = ObjectSpec { key: "o".into(), size, etag: "\"e\"".into(), version: None, archived: false };
        let identity = ObjectIdentity { endpoint: "http://s".into(), bucket: "b".into(), key: "o".into(), pin: "\"e\"".into(), size };
        let source: Arc<dyn Source> = self.source.clone();
        self.fetcher.object("origin", identity, &source, spec, None)
    }

    /// Asks as a door does, without waiting.
    pub fn ask(&self, object: &Arc<Object>, range: Range<u64>, token: u64, expected: Expected) {
        *self.tally.open.lock() += 1;
        let reply = Reply { object: object.clone(), range: range.clone(), expected, tally: self.tally.clone() };
        object.read(range.start, range.end - range.start, token, Box::new(reply));
    }

    /// Waits until nothing is fetched any more.
    pub fn all_quiet(&self, object: &Arc<Object>) {
        let known = || (self.source.sent(), object.cache_file().map_or(0, |file| file.present_bytes()));
        while known().0 != known().1 {
            Condvar::new().wait_for(&mut Mutex::new(()).lock(), Duration::from_millis(100));
        }
    }

    /// Waits until every read is answered; one that never is is found by the clock.
    pub fn all_answered(&self) {
        let mut open = self.tally.open.lock();
        while *open > 0 {
            self.tally.answered.wait(&mut open);
        }
    }

    /// Ends everything: nothing is left under way, nobody waits, and the books are what the disk has.
    pub fn end(self) {
        self.all_answered();
        self.fetcher.stop();
        assert_eq!(self.fetcher.counters().waiting.load(std::sync::atomic::Ordering::Relaxed), 0, "nobody waits");
        assert_eq!(self.fetcher.queued(), 0);
        let pool = self.fetcher.pool();
        assert!(pool.peak_bytes <= pool.limit_bytes, "{pool:?}");
        assert_eq!(pool.used_bytes, 0, "all memory came back");
        let cache = self.cache().clone();
        drop(self.fetcher);
        assert_eq!(Arc::strong_count(&cache), 1, "nothing of the fetcher is left: it would keep the cache, and its lock");
        while !cache.sync_all(Duration::from_secs(1)) {}
        let usage = cache.usage();
        assert_eq!(usage.held_unlinked_bytes, 0, "nobody holds an unlinked file");
        assert_eq!(usage.allocated_bytes, allocated(&self.directory.path().join("cache/objects")), "the books against the disk");
        assert!(usage.allocated_bytes <= usage.limit_bytes, "{usage:?}");
    }
}

/// Reads and waits, as the SDK does.
pub fn read(object: &Arc<Object>, range: Range<u64>) -> Result<(), ReadError> {
    let mut found = vec![0; (range.end - range.start) as usize];
    let count = object.read_blocking(range.start, &mut found)?;
    let end = range.end.min(object.spec().size);
    assert!(found[..count] == *content(range.start..end), "wrong bytes in {range:?}");
    Ok(())
}

impl ReadReply for Reply {
    fn ready(self: Box<Self>, pieces: Vec<Piece>) {
        let mut at = self.range.start;
        for piece in &pieces {
            let end = at + piece.len() as u64;
            match piece {
                Piece::Memory { segment, offset, len } => {
                    assert!(segment.bytes()[*offset..*offset + *len] == *content(at..end), "wrong bytes in memory, {at}..{end}");
                }
                Piece::File { offset, .. } => {
                    assert_eq!(*offset, at);
                    let mut found = vec![0; piece.len()];
                    // It may have been punched since: then a door asks again.
                    let present = self.object.cache_file().and_then(|file| file.read_at(at, &mut found).expect("inside the object"));
                    assert!(present.is_none() || found == *content(at..end), "wrong bytes in the file, {at}..{end}");
                }
            }
            at = end;
        }
        assert_eq!(at, self.range.end.min(self.object.spec().size), "the pieces cover the range");
    }

    fn failed(self: Box<Self>, error: ReadError) {
        assert!(matches!(self.expected, Expected::BytesOrError), "{error}");
    }
}

/// Whatever became of it, the read is closed; that it is answered twice its type forbids.
impl Drop for Reply {
    fn drop(&mut self) {
        *self.tally.open.lock() -= 1;
        self.tally.answered.notify_all();
    }
}

fn allocated(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).expect("the directory is there").map(|entry| entry.expect("it can be read"));
    entries
        .map(|entry| {
            let about = entry.metadata().expect("nobody deletes it");
            if about.is_dir() { allocated(&entry.path()) } else { about.blocks() * 512 }
        })
        .sum()
}
