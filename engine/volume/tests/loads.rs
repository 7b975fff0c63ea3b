//! What a volume learns of its directories, over a real engine and a source of zeros.

use headrace_cache::{Cache, CacheConfig, CacheDirectory};
use headrace_fetch::{FetchConfig, Fetcher, Object, Order, Source, Step};
use headrace_origin::{BodySink, OriginError, Pinned};
use headrace_snapshot::{Builder, NewEntry, Snapshot, SnapshotHeader};
use headrace_volume::{Loads, Volume};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// As many as a volume learns from, and some more.
const DIRECTORIES: u64 = 260;

struct Zeros;

impl Source for Zeros {
    fn fetch(&self, _: &Pinned, range: Range<u64>, _: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        let mut left = range.end - range.start;
        while left > 0 {
            let buffer = sink.buffer().map_err(|_| OriginError::Cancelled)?;
            let count = buffer.len().min(left as usize);
            buffer[..count].fill(0);
            left -= count as u64;
            sink.filled(count).map_err(|_| OriginError::Cancelled)?;
        }
        Ok(())
    }
}

struct Bench {
    volume: Arc<Volume>,
    directory: tempfile::TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.volume.fetcher.stop();
    }
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let config = CacheConfig {
        directories: vec![CacheDirectory { path: directory.path().join("cache"), limit_bytes: 256 * MIB }],
        reserve_bytes: 0,
        max_age: None,
        verify_reads: false,
        page_bytes: 0,
        boot_id: "a-boot".to_owned(),
        locks: Vec::new(),
    };
    let fetch = FetchConfig { memory_bytes: 64 * MIB, workers: 4, writers: 1, deadline: Duration::from_secs(20) };
    let volume = Volume {
        origin: "o".to_owned(),
        endpoint: "http://s".to_owned(),
        bucket: "b".to_owned(),
        source: Arc::new(Zeros),
        fetcher: Fetcher::start(Cache::open(config).unwrap(), fetch).unwrap(),
        loads: Loads::new(true),
    };
    let bench = Bench { volume: Arc::new(volume), directory };
    bench.list();
    bench
}

impl Bench {
    fn list(&self) {
        let header = SnapshotHeader {
            endpoint: "http://s".to_owned(),
            bucket: "b".to_owned(),
            prefix: "p/".to_owned(),
            created_ns: 1,
            versioned: false,
        };
        let builder = Builder::create(&self.directory.path().join("v1.snap"), header).unwrap();
        let keys: Vec<String> = (0..DIRECTORIES).flat_map(|d| ["a", "b"].map(|name| format!("d{d:03}/{name}"))).collect();
        let entry = |key| NewEntry { key, size: 8 * MIB, mtime_ns: 1, etag: "\"e\"", version: None, archived: false };
        builder.push(0, &keys.iter().map(|key| entry(key)).collect::<Vec<_>>()).unwrap();
        builder.finish().unwrap();
    }

    /// By a list of its own, which is gone as soon as the file is found: as the SDK does.
    fn open(&self, path: &str) -> Arc<Object> {
        let snapshot = Arc::new(Snapshot::open(&self.directory.path().join("v1.snap")).unwrap());
        self.volume.object(&snapshot, snapshot.find(path).unwrap()).unwrap()
    }

    fn read(&self, path: &str, offset: u64) {
        assert_eq!(self.open(path).read_blocking(offset, &mut [0; 16384]).unwrap(), 16384);
    }

    fn learned(&self) -> Vec<String> {
        let mut names: Vec<_> = self.volume.orders().into_iter().map(|(directory, _)| directory).collect();
        names.sort();
        names
    }
}

#[test]
fn what_nobody_has_asked_for_yet_makes_no_room() {
    let bench = bench();
    (0..DIRECTORIES).for_each(|directory| bench.read(&format!("d{directory:03}/a"), MIB));
    let told = bench.learned();
    assert_eq!((told.len(), told.first().map(String::as_str), told.last().map(String::as_str)), (256, Some("p/d000"), Some("p/d255")));
    bench.read("d259/b", MIB);
    assert_eq!(bench.learned(), ["p/d259"], "what was asked for does");
}

#[test]
fn forgetting_takes_a_directory_and_all_below_and_nothing_else() {
    let bench = bench();
    for directory in ["d001", "d002", "d003"] {
        bench.read(&format!("{directory}/a"), MIB);
    }
    bench.volume.forget("p/d00");
    bench.volume.forget("p/d001");
    assert_eq!(bench.learned(), ["p/d002", "p/d003"]);
    bench.read("d002/a", 2 * MIB);
    bench.volume.forget("p");
    assert!(bench.learned().is_empty());
}

#[test]
fn parts_of_files_that_nobody_has_open_are_found_by_the_latest_list() {
    let bench = bench();
    let step = |file, range: Range<u64>| Step { file, range };
    let files = ["a", "b"].map(|name| (name.to_owned(), 8 * MIB)).to_vec();
    let steps = vec![step(0, 0..2 * MIB), step(1, 0..2 * MIB), step(0, 2 * MIB..8 * MIB)];
    bench.volume.follow("p/d001", &Order { files, steps });
    bench.read("d002/a", 0);
    (0..2 * MIB).step_by(16384).for_each(|at| bench.read("d001/a", at));
    let other = bench.open("d001/b");
    let until = Instant::now() + Duration::from_secs(20);
    while !other.cache_file().is_some_and(|file| file.is_present(0..MIB)) {
        assert!(Instant::now() < until, "the other file's part did not come in 20 s");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert!(bench.volume.fetcher.counters().prefetched_bytes.load(Relaxed) >= MIB);
}
