//! The snapshot against a plain map, by seed.

use headrace_snapshot::{Builder, ChangeKind, EntryId, EntryKind, NewEntry, SkipReason, Snapshot, SnapshotHeader, diff};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn header() -> SnapshotHeader {
    SnapshotHeader { endpoint: "http://s".into(), bucket: "b".into(), prefix: "p/".into(), created_ns: 7, versioned: false }
}

fn build(path: &Path, segments: &[Vec<(String, u64)>]) -> (Snapshot, bool) {
    let builder = Builder::create(path, header()).unwrap();
    for (number, segment) in segments.iter().enumerate() {
        for (key, size) in segment {
            let etag = format!("\"{size:032x}\"");
            let entry = NewEntry { key, size: *size, mtime_ns: 5, etag: &etag, version: None, archived: size % 7 == 0 };
            builder.push(number as u32, &[entry]).unwrap();
        }
    }
    let report = builder.finish().unwrap();
    let snapshot = Snapshot::open(path).unwrap();
    assert_eq!(snapshot.totals().files, report.files);
    (snapshot, report.external_sort)
}

fn random_keys(seed: u64, count: usize) -> BTreeMap<String, u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let parts = ["a", "a!", "a-b", "a.b", "a0", "b", "é", "model-00001", "z z", "..", ".", ""];
    (0..count)
        .map(|_| {
            let depth = rng.usize(1..5);
            let mut part = || {
                let odd = if rng.u8(..) < 240 { 3 } else { 0 };
                parts[rng.usize(..parts.len() - odd)]
            };
            let mut key = (0..depth).map(|_| part()).collect::<Vec<_>>().join("/");
            if rng.u8(..) < 20 {
                key.push('/');
            }
            (key, rng.u64(..1000))
        })
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

/// The files that the written rule lets through.
fn expected(keys: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let valid = |key: &str| key.trim_end_matches('/').split('/').all(|p| !matches!(p, "" | "." | "..")) && !key.ends_with("//");
    let directories: BTreeSet<String> =
        keys.keys().filter(|k| valid(k)).flat_map(|k| k.match_indices('/').map(|(at, _)| k[..at].to_owned()).collect::<Vec<_>>()).collect();
    keys.iter().filter(|(k, _)| valid(k) && !k.ends_with('/') && !directories.contains(*k)).map(|(k, s)| (k.clone(), *s)).collect()
}

fn listed(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut stack = vec![EntryId(0)];
    while let Some(id) = stack.pop() {
        let children = snapshot.children(id);
        let mut last: Option<Vec<u8>> = None;
        for index in 0..children.len() {
            let child = children.get(index).unwrap();
            let entry = snapshot.entry(child).unwrap();
            assert!(last.as_deref() < Some(entry.name), "sorted and unique");
            last = Some(entry.name.to_vec());
            assert_eq!(snapshot.lookup(id, entry.name), Some(child));
            assert_eq!(entry.parent, id);
            match entry.kind {
                EntryKind::Directory => stack.push(child),
                EntryKind::File => {
                    let path = snapshot.path(child);
                    assert_eq!(snapshot.find(&path), Some(child));
                    assert_eq!((entry.etag, entry.archived), (format!("\"{:032x}\"", entry.size).as_str(), entry.size.is_multiple_of(7)));
                    found.insert(path, entry.size);
                }
            }
        }
    }
    found
}

#[test]
fn random_keys_in_any_order_and_any_number_of_segments() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..60 {
        let keys = random_keys(seed, 200);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut all: Vec<_> = keys.clone().into_iter().collect();
        let shuffled = seed % 3 == 0;
        if shuffled {
            rng.shuffle(&mut all);
        }
        let pieces = rng.usize(1..6);
        let segments: Vec<Vec<_>> = all.chunks(all.len().div_ceil(pieces)).map(<[_]>::to_vec).collect();
        let (snapshot, sorted) = build(&directory.path().join(format!("{seed}.snap")), &segments);
        assert_eq!(sorted, shuffled);
        assert_eq!(listed(&snapshot), expected(&keys), "seed {seed}");
        let totals = snapshot.totals();
        assert_eq!(totals.bytes, expected(&keys).values().sum::<u64>());
        assert_eq!(snapshot.files().count() as u64, totals.files);
        assert_eq!(snapshot.skipped().count() as u64, totals.skipped);
    }
}

#[test]
fn the_rule_for_keys_that_cannot_be_paths() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(256);
    let keys = ["a", "a/b", "d/", "../up", "x//y", "/lead", "nul\0", &long, "ok"];
    let mut keys: Vec<_> = keys.iter().map(|k| ((*k).to_owned(), 1)).collect();
    keys.push(("ok".into(), 2)); // listed twice: the first one counts
    keys.sort();
    let (snapshot, _) = build(&directory.path().join("s"), &[keys]);
    assert_eq!(listed(&snapshot), BTreeMap::from(["a/b", "ok"].map(|key| (key.to_owned(), 1))));
    assert_eq!(snapshot.entry(snapshot.find("d").unwrap()).unwrap().kind, EntryKind::Directory);
    let mut skipped: Vec<_> = snapshot.skipped().collect();
    skipped.sort_by(|a, b| a.0.cmp(&b.0));
    let reasons: Vec<_> = skipped.iter().map(|(_, r)| *r).collect();
    use SkipReason::{BesideDirectory, DotPart, Duplicate, EmptyPart, LongName, NulByte};
    assert_eq!(reasons, [DotPart, EmptyPart, BesideDirectory, NulByte, Duplicate, EmptyPart, LongName]);
}

#[test]
fn what_a_connection_check_writes_is_left_out_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let keys = [".headrace-check-1", "a", "d/.headrace-check-2", "e/.headrace-check-3", "e/b"].map(|key| (key.to_owned(), 1));
    let (snapshot, _) = build(&directory.path().join("s"), &[keys.to_vec()]);
    assert_eq!(listed(&snapshot), BTreeMap::from(["a", "e/b"].map(|key| (key.to_owned(), 1))));
    assert!(snapshot.find("d").is_none());
    let totals = snapshot.totals();
    assert_eq!((totals.files, totals.bytes, totals.skipped, snapshot.skipped().count()), (2, 2, 0, 0));
}

#[test]
fn a_diff_is_what_a_plain_comparison_says() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..30 {
        let (one, two) = (random_keys(seed, 120), random_keys(seed + 1, 120));
        let flat = |m: &BTreeMap<String, u64>| vec![m.clone().into_iter().collect::<Vec<_>>()];
        let (old, _) = build(&directory.path().join("old"), &flat(&one));
        let (new, _) = build(&directory.path().join("new"), &flat(&two));
        let mut found = BTreeSet::new();
        let counts = diff(&old, &new, &mut |c| {
            found.insert((c.path, c.kind as u8));
        });
        let (one, two) = (expected(&one), expected(&two));
        let mut wanted = BTreeSet::new();
        for key in one.keys().chain(two.keys()) {
            match (one.get(key), two.get(key)) {
                (Some(a), Some(b)) if a == b => None,
                (Some(_), Some(_)) => Some(ChangeKind::Changed),
                (Some(_), None) => Some(ChangeKind::Gone),
                _ => Some(ChangeKind::New),
            }
            .map(|kind| wanted.insert((key.clone(), kind as u8)));
        }
        assert_eq!(found, wanted);
        assert_eq!(counts.new + counts.changed + counts.gone, wanted.len() as u64);
    }
}

#[test]
fn damage_is_an_error_or_stays_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let keys: Vec<_> = random_keys(3, 30).into_iter().collect();
    build(&path, &[keys]);
    let good = std::fs::read(&path).unwrap();
    let bad = directory.path().join("bad");
    for length in (0..good.len()).step_by(97) {
        std::fs::write(&bad, &good[..length]).unwrap();
        assert!(Snapshot::open(&bad).is_err());
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&bad, &bytes).unwrap();
        let Ok(snapshot) = Snapshot::open(&bad) else { continue };
        for id in 0..200 {
            let id = EntryId(id);
            let _ = (snapshot.path(id), snapshot.children(id).len(), snapshot.lookup(id, b"a"), snapshot.entry(id).is_some());
        }
        let _ = (snapshot.skipped().count(), snapshot.files().count());
    }
}
