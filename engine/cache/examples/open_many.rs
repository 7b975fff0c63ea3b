//! Prints how long a cache of many files takes to open, to answer for a file, and to be counted; then the cost
//! of writing and reading blocks.
//!
//! `cargo run --release -p headrace-cache --example open_many -- DIR [FILES]`: DIR is created and filled with
//! sparse files of 10 MiB, each with one chunk in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_cache::{BLOCK, CHUNK, Cache, CacheConfig, CacheDirectory, Kept, ObjectIdentity};

const PATIENCE: Duration = Duration::from_secs(600);

fn open(path: &Path) -> Arc<Cache> {
    let config = CacheConfig {
        directories: vec![CacheDirectory { path: path.into(), limit_bytes: 1 << 42 }],
        reserve_bytes: 0,
        max_age: None,
        verify_reads: false,
        page_bytes: 1 << 30,
        boot_id: "measured".into(),
        locks: Vec::new(),
    };
    Cache::open(config).expect("the directory can be opened")
}

fn object(key: String, size: u64) -> ObjectIdentity {
    ObjectIdentity { endpoint: "http://s3".into(), bucket: "b".into(), key, pin: "\"e\"".into(), size }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = work();
    println!("{what:<48} {:>9.3} ms", start.elapsed().as_secs_f64() * 1e3);
    out
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().expect("usage: open_many DIR [FILES]"));
    let files: u64 = arguments.next().map_or(100_000, |count| count.parse().expect("FILES is a number"));
    let chunk = vec![7; CHUNK as usize];
    let cache = open(&path);
    timed(&format!("create {files} files"), || {
        for number in 0..files {
            let file = cache.file(&object(format!("k{number}"), 10 * BLOCK)).expect("opens");
            assert_eq!(file.write(0, &chunk), Kept::Yes);
        }
    });
    drop(cache);

    let cache = timed("open", || open(&path));
    timed("first look at 1000 files while counting", || {
        for number in 0..files.min(1000) {
            let file = cache.file(&object(format!("k{number}"), 10 * BLOCK)).expect("opens");
            assert!(file.is_present(0..CHUNK));
        }
    });
    timed("counted", || assert!(cache.wait_scanned(PATIENCE)));
    println!("{:?}", cache.usage());

    let size = 2048 * BLOCK;
    let file = cache.file(&object("large".into(), size)).expect("opens");
    let mut block = vec![9; BLOCK as usize];
    timed("write 2 GiB in blocks", || {
        for start in (0..size).step_by(BLOCK as usize) {
            assert_eq!(file.write(start, &block), Kept::Yes);
        }
    });
    timed("read 2 GiB in blocks", || {
        for start in (0..size).step_by(BLOCK as usize) {
            assert!(file.read_at(start, &mut block).expect("in range").is_some());
        }
    });
    let mut page = vec![0; 4096];
    let hits = timed("read 1,000,000 pages of 4 KiB, without waiting", || {
        let start = |number: u64| number * 7919 % (size / 4096) * 4096;
        let mut hit = |number| file.try_read_nowait(start(number), &mut page).expect("in range").is_some();
        (0..1_000_000).filter(|&number| hit(number)).count()
    });
    println!("of which {hits} were to be had (none on file systems without RWF_NOWAIT, as tmpfs)");
}
