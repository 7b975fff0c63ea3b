//! A real engine over a small volume whose bytes are known at every offset, for the targets that are doors.

use headrace_cache::{Cache, CacheConfig, CacheDirectory};
use headrace_fetch::{FetchConfig, Fetcher, Source};
use headrace_origin::{Addressing, BodySink, OriginConfig, OriginError, Pinned};
use headrace_snapshot::{Builder, NewEntry, Snapshot, SnapshotHeader};
use headrace_volume::{Loads, Volume};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The boot that every cache here lives in.
pub const BOOT: &str = "fuzz";

/// A directory for scratch files: where `TMPDIR` says, which is in memory and cleaned up when `python -m fuzz` runs the target. libFuzzer ends
/// a process without dropping anything, so nothing here cleans up by itself.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("headrace-fuzz-").tempdir().expect("a directory for scratch files")
}

/// A cache in `directory`.
pub fn cache(directory: PathBuf) -> Arc<Cache> {
    let config = CacheConfig {
        directories: vec![CacheDirectory { path: directory, limit_bytes: 64 << 20 }],
        reserve_bytes: 0,
        max_age: None,
        verify_reads: false,
        page_bytes: 0,
        boot_id: BOOT.to_owned(),
        locks: Vec::new(),
    };
    Cache::open(config).expect("a cache in an empty directory")
}

/// The byte of a file at an offset.
pub fn byte_at(key: &str, offset: u64) -> u8 {
    let salted = offset.wrapping_add(key.len() as u64 * 0x1_0001);
    (salted.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Delivers those bytes.
struct Known;

impl Source for Known {
    fn fetch(&self, object: &Pinned, range: Range<u64>, _: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        let mut at = range.start;
        while at < range.end {
            let buffer = sink.buffer().map_err(|_| OriginError::Cancelled)?;
            let count = buffer.len().min((range.end - at) as usize);
            for (offset, byte) in (at..).zip(&mut buffer[..count]) {
                *byte = byte_at(&object.key, offset);
            }
            at += count as u64;
            sink.filled(count).map_err(|_| OriginError::Cancelled)?;
        }
        Ok(())
    }
}

/// Paths and sizes of the volume's files; the third is large enough to be opened by passthrough.
pub const FILES: [(&str, u64); 4] = [("a.bin", 70_000), ("d/empty", 0), ("d/m.safetensors", (2 << 20) + 5), ("d/old.gguf", 300)];

/// The snapshot of [`FILES`], as it lies in `directory`.
pub fn snapshot(directory: &Path) -> Arc<Snapshot> {
    let path = directory.join("v1.snap");
    let header = SnapshotHeader {
        endpoint: "http://fuzz".to_owned(),
        bucket: "b".to_owned(),
        prefix: "p/".to_owned(),
        created_ns: 1_700_000_000_000_000_000,
        versioned: false,
    };
    let builder = Builder::create(&path, header).expect("a snapshot in an empty directory");
    let entry = |(key, size)| NewEntry { key, size, mtime_ns: 1, etag: "\"e\"", version: None, archived: key == "d/old.gguf" };
    builder.push(0, &FILES.map(entry)).expect("four entries");
    builder.finish().expect("a published snapshot");
    Arc::new(Snapshot::open(&path).expect("the snapshot just published"))
}

/// An engine with a volume, for the life of the process.
pub struct Engine {
    /// Origin and engine.
    pub volume: Arc<Volume>,
    /// Of [`FILES`].
    pub snapshot: Arc<Snapshot>,
    _directory: TempDir,
}

impl Engine {
    /// Starts its threads; they end with the process.
    pub fn start() -> Self {
        let directory = scratch();
        let config = FetchConfig { memory_bytes: 32 << 20, workers: 2, writers: 1, deadline: Duration::from_secs(20) };
        let fetcher = Fetcher::start(cache(directory.path().join("cache")), config).expect("the engine's threads");
        let volume = Volume {
            origin: "o".to_owned(),
            endpoint: "http://fuzz".to_owned(),
            bucket: "b".to_owned(),
            source: Arc::new(Known),
            fetcher,
            loads: Loads::new(true),
        };
        let snapshot = snapshot(directory.path());
        Self { volume: Arc::new(volume), snapshot, _directory: directory }
    }
}

/// Settings of an origin whose answers are scripted.
pub fn origin() -> OriginConfig {
    OriginConfig {
        endpoint: "http://fuzz".to_owned(),
        region: "r".to_owned(),
        bucket: "b".to_owned(),
        addressing: Addressing::Path,
        anonymous: true,
        ca_bundle: None,
        proxy: None,
        source_addresses: Vec::new(),
        max_connections: 4,
        connect_timeout: Duration::from_secs(1),
        stall_timeout: Duration::from_secs(1),
        max_bytes_per_second: None,
        max_requests_per_second: None,
    }
}
