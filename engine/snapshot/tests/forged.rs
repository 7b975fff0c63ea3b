//! Files that no builder writes, with checksums that are right: answers stay within bounds, and walks end.

use headrace_snapshot::{Builder, EntryId, Snapshot, SnapshotHeader, diff};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

fn file(records: &[u8], text: &[u8], children: &[u8]) -> Vec<u8> {
    file_of(0, records, text, children)
}

/// A snapshot of these sections, which says that it has so many files.
fn file_of(files: u64, records: &[u8], text: &[u8], children: &[u8]) -> Vec<u8> {
    let sections = [records, text, children, &[]];
    let mut out = b"HEADRSNP".to_vec();
    out.extend(1u32.to_le_bytes());
    let length = 8 + 4 + 4 + 8 + 4 * 8 + 4 * 16 + 1 + 3 * 4 + 8;
    out.extend((length as u32).to_le_bytes());
    out.extend([0; 8]);
    out.extend(files.to_le_bytes());
    out.extend([0; 3 * 8]);
    for section in sections {
        out.extend((section.len() as u64).to_le_bytes());
        out.extend(xxh3_64(section).to_le_bytes());
    }
    out.extend([0; 1 + 3 * 4]);
    out.extend(xxh3_64(&out).to_le_bytes());
    assert_eq!(out.len(), length);
    out.extend(sections.concat());
    out
}

/// A directory named `d` whose children begin at `first_child`, or a file `d` where there are none.
fn record(parent: u32, first_child: u64, children: u32, name_bytes: u8) -> [u8; 36] {
    let mut out = [0; 36];
    out[8..16].copy_from_slice(&first_child.to_le_bytes());
    out[24..28].copy_from_slice(&parent.to_le_bytes());
    out[28..32].copy_from_slice(&children.to_le_bytes());
    out[32] = name_bytes;
    out[33] = u8::from(children > 0);
    out
}

fn open(path: &Path, bytes: &[u8]) -> Snapshot {
    std::fs::write(path, bytes).unwrap();
    Snapshot::open(path).unwrap()
}

fn empty(path: &Path) -> Snapshot {
    let header = SnapshotHeader { endpoint: String::new(), bucket: String::new(), prefix: String::new(), created_ns: 0, versioned: false };
    Builder::create(path, header).unwrap().finish().unwrap();
    Snapshot::open(path).unwrap()
}

/// 64 directories one below the other, each of which lists the next one twice: walked as listed, 2^64 paths.
#[test]
fn a_walk_ends_where_a_directory_lists_its_child_twice() {
    let depth = 64u32;
    let mut records = record(0, 0, 2, 0).to_vec();
    records.extend((1..depth).flat_map(|id| record(id - 1, u64::from(id) * 2, 2, 1)));
    records.extend(record(depth - 1, 0, 0, 1));
    let children: Vec<u8> = (1..=depth).flat_map(|id| [id.to_le_bytes(), id.to_le_bytes()].concat()).collect();
    walks_end(&file(&records, b"d", &children), 1);
}

/// Every directory has the same list of children, of which each belongs to one of them only.
#[test]
fn a_walk_ends_where_directories_share_their_children() {
    let count = 64u32;
    let mut records = record(0, 0, count, 0).to_vec();
    records.extend((1..=count).flat_map(|id| record(id - 1, 0, count, 1)));
    let children: Vec<u8> = (1..=count).flat_map(u32::to_le_bytes).collect();
    walks_end(&file(&records, b"d", &children), 0);
}

fn walks_end(bytes: &[u8], files: u64) {
    let directory = tempfile::tempdir().unwrap();
    let forged = open(&directory.path().join("forged"), bytes);
    let empty = empty(&directory.path().join("empty"));
    let counts = diff(&empty, &forged, &mut |change| assert!(change.new.is_some()));
    assert_eq!((counts.new, counts.gone), (files, 0));
    assert_eq!(diff(&forged, &empty, &mut |_| {}).gone, files);
    assert_eq!(diff(&forged, &forged, &mut |_| {}).unchanged, files);
    assert_eq!(forged.members(EntryId::ROOT).count(), 1, "the root has one child of its own");
}

#[test]
fn totals_beyond_the_records_are_refused() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let records = [record(0, 0, 1, 0), record(0, 0, 0, 1)].concat();
    for (files, good) in [(1, true), (2, false), (u64::MAX, false)] {
        std::fs::write(&path, file_of(files, &records, b"d", &1u32.to_le_bytes())).unwrap();
        assert_eq!(Snapshot::open(path.path()).is_ok(), good, "{files} files");
    }
}
