//! The fetcher over a real cache and a source in memory: right bytes, each fetched once, within the budget.

use headrace_cache::{Cache, CacheConfig, CacheDirectory, ObjectIdentity};
use headrace_fetch::{Directory, FetchConfig, Fetcher, Load, LoadLimits, Object, ObjectSpec, Order, Room, Source, Step};
use headrace_origin::{BodySink, OriginError, Pinned};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// Content that tells its own offset, so that any range can be checked.
fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

#[derive(Default)]
struct Memory {
    sent: AtomicU64,
    requests: AtomicU64,
}

impl Source for Memory {
    fn fetch(&self, _: &Pinned, range: Range<u64>, _: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        self.requests.fetch_add(1, Relaxed);
        let mut at = range.start;
        while at < range.end {
            let buffer = sink.buffer().map_err(|_| OriginError::Cancelled)?;
            let count = buffer.len().min(100_000).min((range.end - at) as usize);
            for (index, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = byte_at(at + index as u64);
            }
            self.sent.fetch_add(count as u64, Relaxed);
            at += count as u64;
            sink.filled(count).map_err(|_| OriginError::Cancelled)?;
        }
        Ok(())
    }
}

struct Bench {
    _directory: tempfile::TempDir,
    fetcher: Arc<Fetcher>,
    memory: Arc<Memory>,
}

fn bench(cache_bytes: u64, memory_bytes: u64) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let config = CacheConfig {
        directories: vec![CacheDirectory { path: directory.path().join("cache"), limit_bytes: cache_bytes }],
        reserve_bytes: 0,
        max_age: None,
        verify_reads: false,
        page_bytes: 1 << 30,
        boot_id: "a-boot".into(),
        locks: Vec::new(),
    };
    let cache = Cache::open(config).unwrap();
    let config = FetchConfig { memory_bytes, workers: 8, writers: 2, deadline: Duration::from_secs(20) };
    let fetcher = Fetcher::start(cache, config).unwrap();
    Bench { _directory: directory, fetcher, memory: Arc::default() }
}

impl Bench {
    fn object(&self, size: u64) -> Arc<Object> {
        self.part("m.bin", size, None)
    }

    fn part(&self, key: &str, size: u64, load: Option<&Arc<Load>>) -> Arc<Object> {
        let spec = ObjectSpec { key: key.into(), size, etag: "\"e\"".into(), version: None, archived: false };
        let identity = ObjectIdentity { endpoint: "http://s".into(), bucket: "b".into(), key: key.into(), pin: "\"e\"".into(), size };
        let source: Arc<dyn Source> = self.memory.clone();
        self.fetcher.object("o", identity, &source, spec, load.map(|load| (load, key)))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.fetcher.stop();
    }
}

fn check(object: &Arc<Object>, offset: u64, len: usize) {
    let mut buffer = vec![0; len];
    let count = object.read_blocking(offset, &mut buffer).unwrap();
    assert_eq!(count as u64, (len as u64).min(object.spec().size.saturating_sub(offset)), "at {offset}");
    for (index, byte) in buffer[..count].iter().enumerate() {
        assert_eq!(*byte, byte_at(offset + index as u64), "at {}", offset + index as u64);
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "{what} did not come about in 20 s");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn sizes_around_the_borders_of_chunks_and_blocks() {
    for size in [1, 16383, 16384, 16385, MIB - 1, MIB, MIB + 1, 3 * MIB + 12345] {
        let bench = bench(64 * MIB, 16 * MIB);
        let object = bench.object(size);
        check(&object, 0, size as usize + 10);
        check(&object, size - 1, 5);
        check(&object, size, 5);
        wait_until("completion", || object.is_complete());
        check(&object, 0, size as usize);
        assert_eq!(bench.memory.sent.load(Relaxed), size);
    }
}

#[test]
fn eight_readers_of_one_file_fetch_it_once() {
    let bench = bench(256 * MIB, 32 * MIB);
    let size = 40 * MIB + 777;
    let object = bench.object(size);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..size).step_by(256 * 1024).for_each(|at| check(&object, at, 256 * 1024)));
        }
    });
    wait_until("completion", || object.is_complete());
    assert_eq!(bench.memory.sent.load(Relaxed), size);
    assert!(bench.fetcher.pool().peak_bytes <= 32 * MIB);
}

#[test]
fn random_reads_cost_little_more_than_they_ask_for() {
    let bench = bench(512 * MIB, 64 * MIB);
    let object = bench.object(256 * MIB);
    let mut seed = 11u64;
    for _ in 0..200 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        check(&object, (seed >> 33) % (255 * MIB) + 1, 65536);
    }
    assert!(bench.memory.sent.load(Relaxed) <= 2 * 200 * 65536, "{}", bench.memory.sent.load(Relaxed));
}

#[test]
fn a_file_larger_than_the_cache_reads_right() {
    let bench = bench(16 * MIB, 16 * MIB);
    let size = 64 * MIB;
    let object = bench.object(size);
    for _ in 0..2 {
        (0..size).step_by(MIB as usize).for_each(|at| check(&object, at, MIB as usize));
    }
    let mut seed = 5u64;
    for _ in 0..200 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        check(&object, (seed >> 33) % (63 * MIB), 70_000);
    }
    assert!(bench.fetcher.cache().usage().allocated_bytes <= 16 * MIB);
}

#[test]
fn warm_up_holds_everything_and_a_second_one_asks_for_nothing() {
    let bench = bench(256 * MIB, 16 * MIB);
    let size = 50 * MIB + 3;
    let object = bench.object(size);
    let warm = || bench.fetcher.warm(Box::new(std::iter::once(Arc::clone(&object))), (1, size), &mut |_| true);
    let (progress, failures) = warm();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!((progress.files, progress.bytes, progress.origin_bytes), (1, size, size));
    let (again, _) = warm();
    assert_eq!((again.files, again.origin_bytes), (1, 0));
    check(&object, 0, MIB as usize);
}

#[test]
fn evicted_between_reads_is_fetched_again() {
    let bench = bench(64 * MIB, 16 * MIB);
    let object = bench.object(4 * MIB);
    check(&object, 0, 4 << 20);
    wait_until("completion", || object.is_complete());
    object.discard();
    check(&object, 0, 4 << 20);
    assert_eq!(bench.memory.sent.load(Relaxed), 8 * MIB);
}

/// A directory in which nothing is found that is not open.
#[derive(Default)]
struct Nowhere {
    asked: AtomicU64,
}

impl Directory for Nowhere {
    fn file(&self, _: &str, _: u64) -> Option<Arc<Object>> {
        self.asked.fetch_add(1, Relaxed);
        None
    }
}

/// A load that goes by an order of files of one size.
fn following(directory: &Arc<Nowhere>, files: &[&str], size: u64, steps: impl Iterator<Item = (u32, Range<u64>)>) -> Arc<Load> {
    let limits = LoadLimits { recorded: Room::new(1000), followed: Room::new(1000), learns: true };
    let load = Load::new(Arc::<Nowhere>::clone(directory), limits);
    let files = files.iter().map(|name| ((*name).to_owned(), size)).collect();
    load.follow(&Order { files, steps: steps.map(|(file, range)| Step { file, range }).collect() });
    Arc::new(load)
}

#[test]
fn the_window_along_a_learned_order_is_bound_by_the_cache() {
    let bench = bench(32 * MIB, 256 * MIB);
    let size = 128 * MIB;
    let places: Vec<u64> = (0..32).rev().map(|tensor| tensor * 4 * MIB).collect();
    let load = following(&Arc::default(), &["a"], size, places.iter().map(|&at| (0, at..at + 4 * MIB)));
    let object = bench.part("a", size, Some(&load));
    for &at in &places[..16] {
        (at..at + 4 * MIB).step_by(MIB as usize).for_each(|at| check(&object, at, MIB as usize));
    }
    let counters = bench.fetcher.counters();
    let ahead = counters.prefetched_bytes.load(Relaxed) - counters.prefetched_used_bytes.load(Relaxed);
    assert!((1..=4 * MIB).contains(&ahead), "{ahead}");
}

/// Reads 8 MiB of two files by turns as they were read before; gives for how many reads of the second file's first 8 MiB a request was made.
fn second_file(bench: &Bench, is_open: bool) -> u64 {
    let (size, tensor) = (32 * MIB, 8 * MIB);
    let turns = (0..4).flat_map(|turn| [0, 1].map(|file| (file, turn * tensor..(turn + 1) * tensor)));
    let directory: Arc<Nowhere> = Arc::default();
    let load = following(&directory, &["a", "b"], size, turns);
    let first = bench.part("a", size, Some(&load));
    let early = is_open.then(|| bench.part("b", size, Some(&load)));
    let read = |object: &Arc<Object>| (0..8).for_each(|at| check(object, at * MIB, MIB as usize));
    read(&first);
    if !is_open {
        wait_until("the end of all errands", || {
            let before = directory.asked.load(Relaxed);
            std::thread::park_timeout(Duration::from_millis(20));
            before > 0 && directory.asked.load(Relaxed) == before
        });
    }
    let second = early.unwrap_or_else(|| bench.part("b", size, Some(&load)));
    let before = bench.fetcher.counters().demand_flights.load(Relaxed);
    read(&second);
    bench.fetcher.counters().demand_flights.load(Relaxed) - before
}

#[test]
fn parts_of_an_open_file_are_fetched_wherever_it_is_listed() {
    let flights = second_file(&bench(256 * MIB, 64 * MIB), true);
    assert!(flights <= 1, "{flights}: only the errand may come later than the reader");
}

#[test]
fn parts_that_could_not_be_had_are_left_to_the_streams_of_their_file() {
    let flights = second_file(&bench(256 * MIB, 64 * MIB), false);
    assert!(flights <= 3, "{flights} of 8 reads waited for a request of their own");
}
