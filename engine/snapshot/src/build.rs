//! The builder: pages in from several threads, one published file out.

use crate::error::SnapshotError;
use crate::layout::Header;
use crate::spool::{Merge, Record, Spool};
use crate::tree::{Counts, Tree};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Normalised endpoint.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// What stands before every path in its key; empty or ending in a slash.
    pub prefix: String,
    /// Nanoseconds since 1970.
    pub created_ns: i64,
    /// The bucket's versions were listed.
    pub versioned: bool,
}

/// An object as listed.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// Relative to the prefix.
    pub key: &'a str,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// With its quotes.
    pub etag: &'a str,
    /// Version id.
    pub version: Option<&'a str>,
    /// In a storage class without bytes to read.
    pub archived: bool,
}

/// What was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildReport {
    /// Files.
    pub files: u64,
    /// Directories, with the root.
    pub dirs: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Keys that cannot be paths.
    pub skipped: u64,
    /// The listing was not in byte order and had to be sorted.
    pub external_sort: bool,
}

#[derive(Default)]
struct State {
    spools: BTreeMap<u32, Spool>,
    files: u64,
    bytes: u64,
    versions: u64,
}

/// Takes a listing and publishes a snapshot. Dropped unfinished, it leaves nothing behind.
pub struct Builder {
    target: PathBuf,
    directory: PathBuf,
    header: SnapshotHeader,
    state: Mutex<State>,
}

impl Builder {
    /// Begins a snapshot that will be published as `target`.
    ///
    /// # Errors
    /// When the directory can't be made or written.
    pub fn create(target: &Path, header: SnapshotHeader) -> Result<Self, SnapshotError> {
        let directory = target.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        std::fs::create_dir_all(&directory).map_err(SnapshotError::disk(target))?;
        Ok(Self { target: target.to_owned(), directory, header, state: Mutex::default() })
    }

    /// Adds a page of `segment`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn push(&self, segment: u32, entries: &[NewEntry<'_>]) -> Result<(), SnapshotError> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let spool = match state.spools.entry(segment) {
            std::collections::btree_map::Entry::Occupied(spool) => spool.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Spool::create(&self.directory).map_err(SnapshotError::disk(&self.target))?)
            }
        };
        for entry in entries {
            spool.push(&Record::from_entry(entry)).map_err(SnapshotError::disk(&self.target))?;
            state.files += 1;
            state.bytes += entry.size;
            state.versions += u64::from(entry.version.is_some());
        }
        Ok(())
    }

    /// Keys and bytes taken so far.
    pub fn count(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.files, state.bytes)
    }

    /// Builds the tree and publishes it atomically.
    ///
    /// # Errors
    /// When the disk refuses, or there are more entries than ids.
    pub fn finish(self) -> Result<BuildReport, SnapshotError> {
        let state = self.state.into_inner();
        let disk = SnapshotError::disk(&self.target);
        let external_sort = state.spools.values().any(|s| !s.ordered);
        let mut runs = Vec::new();
        for spool in state.spools.into_values() {
            runs.extend(spool.into_runs(&self.directory).map_err(&disk)?);
        }
        let mut header = self.header;
        header.versioned = state.versions > 0;
        let mut tree = Tree::create(&self.directory, header.created_ns).map_err(&disk)?;
        let mut merge = Merge::new(runs).map_err(&disk)?;
        while let Some(record) = merge.next().map_err(&disk)? {
            if !tree.add(&record).map_err(&disk)? {
                return Err(SnapshotError::TooMany { path: self.target.clone() });
            }
        }
        let counts = publish(tree, &header, &self.directory, &self.target).map_err(&disk)?;
        Ok(BuildReport { files: counts.files, dirs: counts.directories, bytes: counts.bytes, skipped: counts.skipped, external_sort })
    }
}

fn publish(mut tree: Tree, header: &SnapshotHeader, directory: &Path, target: &Path) -> io::Result<Counts> {
    let origin_at = tree.text.bytes;
    for text in [&header.endpoint, &header.bucket, &header.prefix] {
        tree.text.push(text.as_bytes())?;
    }
    let (columns, counts) = tree.finish()?;
    let packed = Header {
        columns: [columns[0].1, columns[1].1, columns[2].1, columns[3].1],
        files: counts.files,
        directories: counts.directories,
        bytes: counts.bytes,
        skipped: counts.skipped,
        created_ns: header.created_ns.cast_unsigned(),
        versioned: u64::from(header.versioned),
        origin: [origin_at, header.endpoint.len() as u64, header.bucket.len() as u64, header.prefix.len() as u64],
    };
    let mut out = tempfile::Builder::new().prefix(".building-").tempfile_in(directory)?;
    out.write_all(&packed.pack())?;
    for (mut column, _) in columns {
        column.seek(SeekFrom::Start(0))?;
        io::copy(&mut column, out.as_file_mut())?;
    }
    out.as_file().sync_all()?;
    out.persist(target).map_err(|e| e.error)?;
    File::open(directory)?.sync_all()?;
    Ok(counts)
}
