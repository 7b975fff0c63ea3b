//! Reading a snapshot from its mapping. Whatever its bytes are, nothing here panics or leaves the mapping.

use crate::build::SnapshotHeader;
use crate::error::SnapshotError;
use crate::key::SkipReason;
use crate::layout::{ENTRY, FLAG_ARCHIVED, HEADER, Header, KIND_DIRECTORY, KIND_FILE, u16_at, u32_at, u64_at};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// A file or directory of a snapshot; 0 is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u32);

/// File or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// What a snapshot knows of a file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// File or directory.
    pub kind: EntryKind,
    /// Its own name; empty for the root.
    pub name: &'a [u8],
    /// The directory it is in; the root's is itself.
    pub parent: EntryId,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// With its quotes; empty for a directory.
    pub etag: &'a str,
    /// Version id, where the bucket has versions.
    pub version: Option<&'a str>,
    /// In a storage class without bytes to read.
    pub archived: bool,
}

/// Sums over a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Directories, with the root.
    pub dirs: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Keys that cannot be paths.
    pub skipped: u64,
}

/// An immutable list of files.
pub struct Snapshot {
    map: Mmap,
    header: SnapshotHeader,
    totals: Totals,
    /// Where each column begins and ends.
    columns: [(usize, usize); 4],
}

/// Deeper than any path of 4,096 bytes: what goes on longer is damage.
const DEPTH_MAX: usize = 4096;

impl Snapshot {
    /// Maps a snapshot.
    ///
    /// # Errors
    /// When it can't be read, or is not a whole snapshot of this format.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let disk = SnapshotError::disk(path);
        let corrupt = |detail| SnapshotError::Corrupt { path: path.to_owned(), detail };
        let file = File::open(path).map_err(&disk)?;
        // SAFETY: published snapshots are never written to again, only unlinked, in a directory that is ours alone.
        let map = unsafe { Mmap::map(&file) }.map_err(&disk)?;
        let header = Header::unpack(&map).map_err(corrupt)?;
        let columns = place(&header, map.len()).ok_or_else(|| corrupt("it has another length than its header says"))?;
        let text = &map[columns[1].0..columns[1].1];
        let origin = origin(&header, text).ok_or_else(|| corrupt("its origin can't be read"))?;
        let totals = Totals { files: header.files, dirs: header.directories, bytes: header.bytes, skipped: header.skipped };
        let snapshot = Self { map, header: origin, totals, columns };
        match snapshot.entry(EntryId(0)) {
            Some(root) if root.kind == EntryKind::Directory => Ok(snapshot),
            _ => Err(corrupt("it has no root")),
        }
    }

    /// What it says of itself.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Sums.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn column(&self, index: usize) -> &[u8] {
        let (start, end) = self.columns[index];
        &self.map[start..end]
    }

    fn record(&self, id: EntryId) -> Option<&[u8]> {
        let at = (id.0 as usize).checked_mul(ENTRY)?;
        self.column(0).get(at..at + ENTRY)
    }

    fn text(&self, at: u64, length: u16) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.column(1).get(at..at.checked_add(usize::from(length))?)
    }

    fn name(&self, id: EntryId) -> Option<&[u8]> {
        let record = self.record(id)?;
        self.text(u64_at(record, 8)?, u16_at(record, 2)?)
    }

    /// What is known of `id`; `None` when there is no such entry.
    pub fn entry(&self, id: EntryId) -> Option<Entry<'_>> {
        let record = self.record(id)?;
        let (name, parent) = (self.name(id)?, EntryId(u32_at(record, 4)?));
        let mtime_ns = u64_at(record, 24)?.cast_signed();
        match record[0] {
            KIND_DIRECTORY => {
                Some(Entry { kind: EntryKind::Directory, name, parent, size: 0, mtime_ns, etag: "", version: None, archived: false })
            }
            KIND_FILE => {
                let etag = std::str::from_utf8(self.text(u64_at(record, 32)?, u16_at(record, 40)?)?).ok()?;
                let version = std::str::from_utf8(self.text(u64_at(record, 48)?, u16_at(record, 42)?)?).ok()?;
                Some(Entry {
                    kind: EntryKind::File,
                    name,
                    parent,
                    size: u64_at(record, 16)?,
                    mtime_ns,
                    etag,
                    version: (!version.is_empty()).then_some(version),
                    archived: record[1] & FLAG_ARCHIVED != 0,
                })
            }
            _ => None,
        }
    }

    /// What a directory holds, sorted by name; nothing for a file.
    pub fn children(&self, directory: EntryId) -> Children<'_> {
        Children { ids: self.child_ids(directory).unwrap_or(&[]) }
    }

    fn child_ids(&self, directory: EntryId) -> Option<&[u8]> {
        let record = self.record(directory).filter(|r| r[0] == KIND_DIRECTORY)?;
        let first = usize::try_from(u64_at(record, 16)?).ok()?.checked_mul(4)?;
        let length = (u32_at(record, 32)? as usize).checked_mul(4)?;
        self.column(2).get(first..first.checked_add(length)?)
    }

    /// The child of `directory` called `name`.
    pub fn lookup(&self, directory: EntryId, name: &[u8]) -> Option<EntryId> {
        let children = self.children(directory);
        let (mut low, mut high) = (0, children.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let id = children.get(middle)?;
            match self.name(id)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(id),
            }
        }
        None
    }

    /// The entry at a path such as `a/b`; "" is the root.
    pub fn find(&self, path: &str) -> Option<EntryId> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(EntryId(0), |at, part| self.lookup(at, part.as_bytes()))
    }

    /// The path of an entry, "" for the root. The object's key is the prefix and this.
    pub fn path(&self, id: EntryId) -> String {
        let mut parts = Vec::new();
        let mut at = id;
        while at.0 != 0 && parts.len() < DEPTH_MAX {
            let Some(entry) = self.entry(at) else { break };
            parts.push(String::from_utf8_lossy(entry.name));
            at = entry.parent;
        }
        parts.reverse();
        parts.join("/")
    }

    /// Every file, in key order.
    pub fn files(&self) -> impl Iterator<Item = EntryId> + '_ {
        let count = u32::try_from(self.column(0).len() / ENTRY).unwrap_or(u32::MAX);
        (0..count).map(EntryId).filter(|id| self.record(*id).is_some_and(|r| r[0] == KIND_FILE))
    }

    /// Keys that cannot be paths, with the reason.
    pub fn skipped(&self) -> impl Iterator<Item = (String, SkipReason)> + '_ {
        let mut rest = self.column(3);
        std::iter::from_fn(move || {
            let length = u32_at(rest, 0)? as usize;
            let reason = SkipReason::from_byte(*rest.get(4)?)?;
            let key = rest.get(5..length.checked_add(5)?)?;
            rest = &rest[5 + length..];
            Some((String::from_utf8_lossy(key).into_owned(), reason))
        })
    }
}

/// A directory's children.
#[derive(Clone, Copy, Debug)]
pub struct Children<'a> {
    ids: &'a [u8],
}

impl Children<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        self.ids.len() / 4
    }

    /// True for an empty directory.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The one at `index`, in the order of names.
    pub fn get(&self, index: usize) -> Option<EntryId> {
        u32_at(self.ids, index.checked_mul(4)?).map(EntryId)
    }
}

fn place(header: &Header, length: usize) -> Option<[(usize, usize); 4]> {
    let mut at = HEADER;
    let mut places = [(0, 0); 4];
    for (place, bytes) in places.iter_mut().zip(header.columns) {
        let end = at.checked_add(usize::try_from(bytes).ok()?)?;
        *place = (at, end);
        at = end;
    }
    (at == length).then_some(places)
}

fn origin(header: &Header, text: &[u8]) -> Option<SnapshotHeader> {
    let mut at = usize::try_from(header.origin[0]).ok()?;
    let mut next = |length: u64| {
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        let part = std::str::from_utf8(text.get(at..end)?).ok()?.to_owned();
        at = end;
        Some(part)
    };
    let (endpoint, bucket, prefix) = (next(header.origin[1])?, next(header.origin[2])?, next(header.origin[3])?);
    Some(SnapshotHeader { endpoint, bucket, prefix, created_ns: header.created_ns.cast_signed(), versioned: header.versioned != 0 })
}
