//! A snapshot opened: every answer comes out of the mapped file.

use crate::columns::{Children, Columns};
use crate::entry::{Entry, EntryId, EntryKind, SnapshotHeader, Totals};
use crate::error::SnapshotError;
use crate::layout::{BadHeader, CHILDREN, FORMAT, FileHeader, RECORDS, SECTION_NAMES, SECTIONS, SKIPPED, SKIPPED_HEAD_BYTES, TEXT, u32_at};
use crate::members::Members;
use crate::record::{Body, RECORD_BYTES};
use crate::rules::SkipReason;
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// An immutable list of files, mapped into memory; see the crate's story.
///
/// Opening verifies every byte against the file's checksums (about 10 GB/s once it is in the page cache), so what
/// is open is what was built. Beyond that, no answer trusts the bytes: whatever is in the file, every call ends,
/// within bounds and without a panic. The file must not be shortened while it is open; snapshots are replaced by
/// `rename` and never written again, which keeps that promise.
pub struct Snapshot {
    map: Mmap,
    header: SnapshotHeader,
    totals: Totals,
    sections: [Range<usize>; SECTIONS],
}

impl Snapshot {
    /// Opens and verifies.
    ///
    /// # Errors
    /// There is no such file, it is no snapshot, it has another format, or one of its bytes is not as written.
    pub fn open(path: &Path) -> Result<Snapshot, SnapshotError> {
        let file = File::open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => SnapshotError::Absent { path: path.to_path_buf() },
            _ => SnapshotError::io("open", path)(cause),
        })?;
        let not_a_snapshot = || SnapshotError::NotASnapshot { path: path.to_path_buf() };
        let about = file.metadata().map_err(SnapshotError::io("open", path))?;
        if !about.is_file() || about.len() == 0 {
            return Err(not_a_snapshot());
        }
        // SAFETY: snapshots are replaced by rename and neither written nor shortened once published; the directory
        // belongs to the node alone (mode 0700).
        let map = unsafe { Mmap::map(&file) }.map_err(SnapshotError::io("map", path))?;
        Self::verify(map).map_err(|bad| match bad {
            Bad::Header(BadHeader::NotASnapshot) => not_a_snapshot(),
            Bad::Header(BadHeader::UnknownFormat(found)) => SnapshotError::UnknownFormat { path: path.to_path_buf(), found, known: FORMAT },
            Bad::Header(BadHeader::Corrupt(what)) => corrupt(path, what.to_owned()),
            Bad::Section(what) => corrupt(path, what),
        })
    }

    fn verify(map: Mmap) -> Result<Snapshot, Bad> {
        let (header, mut at) = FileHeader::decode(&map).map_err(Bad::Header)?;
        let mut sections: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
        for (index, section) in header.sections.iter().enumerate() {
            let name = SECTION_NAMES[index];
            let end = usize::try_from(section.bytes).ok().and_then(|bytes| at.checked_add(bytes));
            let Some((end, bytes)) = end.and_then(|end| Some((end, map.get(at..end)?))) else {
                return Err(Bad::Section(format!("the {name} are cut off")));
            };
            if xxh3_64(bytes) != section.xxh3 {
                return Err(Bad::Section(format!("the checksum of the {name}")));
            }
            sections[index] = at..end;
            at = end;
        }
        let snapshot = Snapshot { map, header: header.about, totals: header.totals, sections };
        let whole = snapshot.section(RECORDS).len().is_multiple_of(RECORD_BYTES);
        let root = snapshot.entry(EntryId::ROOT).map(|root| root.kind);
        if at != snapshot.map.len() {
            return Err(Bad::Section("bytes after its end".to_owned()));
        }
        if !whole || root != Some(EntryKind::Directory) {
            return Err(Bad::Section("the records have no root".to_owned()));
        }
        let entries = (snapshot.section(RECORDS).len() / RECORD_BYTES) as u64;
        // Sums are made of them, and answers for `statfs`.
        if snapshot.totals.files.saturating_add(snapshot.totals.dirs) >= entries {
            return Err(Bad::Section("the totals: more than there are records".to_owned()));
        }
        Ok(snapshot)
    }

    /// What it is a snapshot of.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// What it holds.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The entry called `name` in a directory.
    pub fn lookup(&self, dir: EntryId, name: &[u8]) -> Option<EntryId> {
        let (columns, children) = (self.columns(), self.children(dir));
        let (mut low, mut high) = (0, children.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let id = children.get(middle)?;
            match columns.name_of(id.0)?.cmp(name) {
                std::cmp::Ordering::Equal => return Some(id),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// What an id stands for; `None` for an id that no answer of this snapshot held.
    pub fn entry(&self, id: EntryId) -> Option<Entry<'_>> {
        let columns = self.columns();
        let record = columns.record(id.0)?;
        let name = columns.name(&record)?;
        let mut entry = Entry {
            kind: EntryKind::Directory,
            name,
            parent: EntryId(record.parent),
            size: 0,
            mtime_ns: record.mtime_ns,
            etag: "",
            version: None,
            archived: false,
        };
        if let Body::File { size, etag_bytes, version_bytes, archived, dropped } = record.body {
            if dropped {
                return None;
            }
            let text = |skip: usize, bytes: u16| std::str::from_utf8(columns.text(&record, skip, bytes.into())?).ok();
            entry.kind = EntryKind::File;
            entry.size = size;
            entry.etag = text(name.len(), etag_bytes)?;
            if let Some(bytes) = version_bytes {
                entry.version = Some(text(name.len() + usize::from(etag_bytes), bytes)?);
            }
            entry.archived = archived;
        }
        Some(entry)
    }

    /// What is in a directory, sorted by the bytes of the names; nothing for a file or an unknown id.
    pub fn children(&self, dir: EntryId) -> Children<'_> {
        let record = self.columns().record(dir.0);
        Children::of(record.as_ref(), dir.0, self.section(CHILDREN))
    }

    /// What is in a directory, as [`Snapshot::children`], with the entries; a walk by it ends, whatever the file holds.
    pub fn members(&self, dir: EntryId) -> Members<'_> {
        Members::of(self, dir)
    }

    /// The entry at a path such as `a/b`, without slashes around it; `""` is the root.
    pub fn find(&self, path: &str) -> Option<EntryId> {
        if path.is_empty() {
            return Some(EntryId::ROOT);
        }
        path.split('/').try_fold(EntryId::ROOT, |dir, name| self.lookup(dir, name.as_bytes()))
    }

    /// Path of an entry, `""` for the root and for an unknown id. A file's key is prefix + path.
    pub fn path(&self, id: EntryId) -> String {
        String::from_utf8_lossy(&self.columns().path(id.0)).into_owned()
    }

    /// Keys (with the prefix) that could not be paths, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (String, SkipReason)> + '_ {
        let mut rest = self.section(SKIPPED);
        std::iter::from_fn(move || {
            let reason = SkipReason::from_byte(*rest.first()?)?;
            let bytes = u32_at(rest, 1)? as usize;
            let (key, after) = rest.get(SKIPPED_HEAD_BYTES..)?.split_at_checked(bytes)?;
            rest = after;
            Some((format!("{}{}", self.header.prefix, String::from_utf8_lossy(key)), reason))
        })
    }

    /// All files in the order of their keys.
    pub fn files(&self) -> impl Iterator<Item = EntryId> + '_ {
        let columns = self.columns();
        let entries = (columns.records.len() / RECORD_BYTES) as u32;
        (0..entries)
            .filter(move |id| {
                let body = columns.record(*id).map(|record| record.body);
                matches!(body, Some(Body::File { dropped: false, .. }))
            })
            .map(EntryId)
    }

    pub(crate) fn columns(&self) -> Columns<'_> {
        Columns { records: self.section(RECORDS), text: self.section(TEXT) }
    }

    fn section(&self, index: usize) -> &[u8] {
        self.map.get(self.sections[index].clone()).unwrap_or_default()
    }
}

enum Bad {
    Header(BadHeader),
    Section(String),
}

fn corrupt(path: &Path, what: String) -> SnapshotError {
    SnapshotError::Corrupt { path: path.to_path_buf(), what }
}
