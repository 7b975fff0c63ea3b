//! Builds a snapshot of a million keys, as a listing brings them, and looks names up in it. Prints one line of JSON:
//! seconds from the last page to the opened snapshot, the largest memory of this process (MiB), and the 99th
//! percentile of a look-up (µs), over directories and files in random order.
//!
//! `cargo run --release -p headrace-snapshot --example million -- DIRECTORY [KEYS]`

use headrace_snapshot::{Builder, EntryId, NewEntry, Snapshot, SnapshotHeader};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

const PAGE: usize = 1000;
const IN_A_DIRECTORY: usize = 1000;
const LOOKUPS: usize = 200_000;

fn key(number: usize) -> String {
    format!("shard-{:05}/part-{:07}.safetensors", number / IN_A_DIRECTORY, number)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: million DIRECTORY [KEYS]")?;
    let keys = arguments.next().map_or(Ok(1_000_000), |k| k.parse::<usize>())?;
    let target = Path::new(&directory).join("million.snap");
    let header = SnapshotHeader { endpoint: "http://s".into(), bucket: "b".into(), prefix: "m/".into(), created_ns: 1, versioned: false };
    let builder = Builder::create(&target, header)?;
    let baseline = memory_mib("VmHWM:")?;
    let etags: Vec<String> = (0..PAGE).map(|n| format!("\"{n:032x}\"")).collect();
    for first in (0..keys).step_by(PAGE) {
        let names: Vec<String> = (first..keys.min(first + PAGE)).map(key).collect();
        let entry = |(index, key): (usize, &String)| (key.clone(), 1 << 20 | index as u64, index);
        let page: Vec<_> = names.iter().enumerate().map(entry).collect();
        let page: Vec<NewEntry<'_>> = page
            .iter()
            .map(|(key, size, index)| NewEntry { key, size: *size, mtime_ns: 7, etag: &etags[*index], version: None, archived: false })
            .collect();
        builder.push(0, &page)?;
    }
    let began = Instant::now();
    builder.finish()?;
    let snapshot = Snapshot::open(&target)?;
    let ready = began.elapsed();
    let peak = memory_mib("VmHWM:")?;
    let p99 = look_up(&snapshot, keys)?;
    let bytes = fs::metadata(&target)?.len();
    fs::remove_file(&target)?;
    println!(
        "{{\"keys\": {keys}, \"ready_seconds\": {:.4}, \"build_mib\": {:.1}, \"baseline_mib\": {baseline:.1}, \"lookup_p99_us\": {p99:.3}, \"bytes\": {bytes}}}",
        ready.as_secs_f64(),
        peak - baseline,
    );
    Ok(())
}

/// 99th percentile, in µs, of finding one name in one directory.
fn look_up(snapshot: &Snapshot, keys: usize) -> Result<f64, Box<dyn Error>> {
    let mut state = 1u64;
    let mut times = Vec::with_capacity(2 * LOOKUPS);
    for _ in 0..LOOKUPS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = key((state >> 33) as usize % keys);
        let (directory, file) = name.split_once('/').ok_or("a key without a directory")?;
        let mut parent = EntryId(0);
        for part in [directory, file] {
            let began = Instant::now();
            let found = snapshot.lookup(parent, part.as_bytes());
            times.push(began.elapsed().as_nanos() as u64);
            parent = found.ok_or("a key that was listed is not found")?;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100] as f64 / 1000.0)
}

fn memory_mib(field: &str) -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).ok_or("no such field")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}
