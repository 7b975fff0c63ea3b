//! Snapshot files: opened, asked, and compared with a good one.
//!
//! The input is one byte of choices, then a file. As it is, it must be refused or be consistent in itself; with its checksums made right
//! again (`seal`) every answer must still come, within bounds, and walks must end in a number of steps the size of the file.

#![no_main]

use headrace_fuzz::{engine, memory, seal, take};
use headrace_snapshot::{EntryId, EntryKind, Snapshot, SnapshotError, diff};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

struct Place {
    file: PathBuf,
    good: Arc<Snapshot>,
    _directory: TempDir,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let directory = engine::scratch();
    Place { file: directory.path().join("s.snap"), good: engine::snapshot(directory.path()), _directory: directory }
});

/// Bytes of one entry in a snapshot: no file has more entries than this allows.
const RECORD_BYTES: usize = 36;
/// Children of one directory that are looked at.
const CHILDREN_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let [choice] = take(&mut rest);
    let mut file = rest.to_vec();
    let sealed = choice & 1 != 0 && seal::snapshot(&mut file).is_some();
    std::fs::write(&PLACE.file, &file).expect("writing a scratch file");
    let bound = (1 << 20) + 64 * file.len();
    memory::within(bound, || match Snapshot::open(&PLACE.file) {
        Ok(snapshot) => ask(&snapshot, file.len() / RECORD_BYTES, !sealed),
        Err(error) => refused(&error),
    });
});

fn refused(error: &SnapshotError) {
    let known = matches!(error, SnapshotError::NotASnapshot { .. } | SnapshotError::UnknownFormat { .. } | SnapshotError::Corrupt { .. });
    assert!(known && error.to_string().contains("s.snap"), "an error that does not say what is wrong with the file: {error}");
}

fn ask(snapshot: &Snapshot, entries_max: usize, consistent: bool) {
    let files: Vec<EntryId> = snapshot.files().collect();
    assert!(files.len() <= entries_max);
    let totals = snapshot.totals();
    assert!(totals.files.checked_add(totals.dirs).is_some_and(|all| all < entries_max as u64), "more than there can be: {totals:?}");
    assert!(snapshot.skipped().count() <= entries_max * RECORD_BYTES);
    for id in (0..entries_max as u32 + 2).map(EntryId) {
        entry(snapshot, id, consistent);
    }
    if consistent {
        assert_eq!(files.len() as u64, snapshot.totals().files);
        for id in &files {
            assert_eq!(snapshot.find(&snapshot.path(*id)), Some(*id), "a file is found by its path");
        }
    }
    compare(snapshot, &PLACE.good, entries_max);
    compare(&PLACE.good, snapshot, entries_max);
    let (selected, _) = headrace_volume::select(snapshot, &["".to_owned(), "d".to_owned()]);
    assert!(selected.len() <= files.len(), "each file once");
}

fn entry(snapshot: &Snapshot, id: EntryId, consistent: bool) {
    let Some(entry) = snapshot.entry(id) else { return };
    let path = snapshot.path(id);
    assert!(entry.kind == EntryKind::Directory || !entry.name.is_empty() || !consistent, "{path}: a file without a name");
    let children = snapshot.children(id);
    for child in (0..children.len().min(CHILDREN_MAX)).filter_map(|index| children.get(index)) {
        let Some(about) = snapshot.entry(child) else { continue };
        let found = snapshot.lookup(id, about.name);
        let same = found.and_then(|f| snapshot.entry(f)).map(|e| e.name);
        assert!(same.is_none_or(|name| name == about.name), "another name than the one looked up");
        assert!(!consistent || found == Some(child), "a child is found by its name");
    }
}

/// Comparing ends, and tells no more than there is on both sides.
fn compare(old: &Snapshot, new: &Snapshot, entries_max: usize) {
    let most = (entries_max + PLACE.good.files().count()) as u64;
    let mut told = 0;
    let counts = diff(old, new, &mut |_| {
        told += 1;
        assert!(told <= most, "more changes than files");
    });
    assert!(counts.new + counts.changed + counts.gone == told && counts.unchanged <= most);
}
