//! From pages of a listing to a published snapshot.

use crate::column::Column;
use crate::entry::{NewEntry, SnapshotHeader};
use crate::error::SnapshotError;
use crate::layout::{self, CHILDREN, FileHeader, RECORDS, SECTIONS, SKIPPED, Section, TEXT};
use crate::merge::Merge;
use crate::names;
use crate::publish::{Partial, directory, unnamed_file};
use crate::sort;
use crate::spool::Spool;
use crate::tree::Tree;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use xxhash_rust::xxh3::Xxh3;

/// Bytes hashed at a time.
const HASH_BYTES: usize = 1024 * 1024;

/// Takes a listing in; see the crate's story. Shared by the threads that list.
///
/// Dropped without [`Builder::finish`], it leaves nothing behind.
pub struct Builder {
    target: PathBuf,
    header: SnapshotHeader,
    spool: Spool,
    files: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicBool,
}

/// What a finished snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildReport {
    /// Files.
    pub files: u64,
    /// Directories, without the root.
    pub dirs: u64,
    /// Sum of the files' sizes, in bytes.
    pub bytes: u64,
    /// Keys that could not be paths; the snapshot lists them.
    pub skipped: u64,
    /// The origin broke byte order somewhere, so that sorting was needed.
    pub external_sort: bool,
}

impl Builder {
    /// Begins a snapshot that will be the file `target`. Scratch files are made in the same directory, which is
    /// made (mode 0700) if it is missing.
    ///
    /// # Errors
    /// The directory cannot be made or written; the header's texts are longer than 64 KiB together.
    pub fn create(target: &Path, header: SnapshotHeader) -> Result<Builder, SnapshotError> {
        let bytes = layout::header_bytes(&header);
        if bytes > layout::HEADER_BYTES_MAX {
            return Err(too_long(target, "endpoint, bucket and prefix", bytes, layout::HEADER_BYTES_MAX));
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory(target));
        made.map_err(SnapshotError::io("create the directory of", target))?;
        let spool = unnamed_file(target).map_err(SnapshotError::io("create", target))?;
        Ok(Builder {
            target: target.to_path_buf(),
            header,
            spool: Spool::new(spool),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Takes one page of a segment. Keys of a lower segment are expected before those of a higher one, and those
    /// within a segment in byte order; what comes otherwise is sorted in the end. Threads may push at the same
    /// time, each to a segment of its own.
    ///
    /// # Errors
    /// The disk is full or fails; a text is too long to be kept. After an error the snapshot cannot be finished.
    pub fn push(&self, segment: u32, entries: &[NewEntry<'_>]) -> Result<(), SnapshotError> {
        let pushed = self.check(entries).and_then(|()| {
            let failed = SnapshotError::io("write", &self.target);
            self.spool.push(segment, entries).map_err(failed)
        });
        if pushed.is_err() {
            self.failed.store(true, Relaxed);
            return pushed;
        }
        let files = entries.iter().filter(|entry| !entry.key.ends_with('/'));
        let (count, bytes) = files.fold((0, 0u64), |(n, sum), e| (n + 1, sum.saturating_add(e.size)));
        self.files.fetch_add(count, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    fn check(&self, entries: &[NewEntry<'_>]) -> Result<(), SnapshotError> {
        for entry in entries {
            let texts = [
                ("a key", entry.key.len(), u32::MAX as usize),
                ("an ETag", entry.etag.len(), u16::MAX.into()),
                ("a version id", entry.version.map_or(0, str::len), u16::MAX.into()),
            ];
            for (field, bytes, maximum) in texts {
                if bytes > maximum {
                    return Err(too_long(&self.target, field, bytes, maximum));
                }
            }
        }
        Ok(())
    }

    /// Files and their bytes pushed so far, for progress; keys that will be skipped included.
    pub fn count(&self) -> (u64, u64) {
        (self.files.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// Builds the tree and publishes the target in one step: before, it is absent or what it was; after, whole and
    /// on the disk.
    ///
    /// # Errors
    /// The disk is full or fails, an earlier push failed, or there are 2³² entries. Nothing is left behind then.
    pub fn finish(self) -> Result<BuildReport, SnapshotError> {
        let target = self.target;
        if self.failed.into_inner() {
            return Err(SnapshotError::Incomplete { path: target });
        }
        let failed = |operation| SnapshotError::io(operation, &target);
        let spooling = self.spool.finish().map_err(failed("write"))?;
        let external_sort = !spooling.disordered.is_empty();
        let mut runs = spooling.ordered;
        if external_sort {
            let scratch = unnamed_file(&target).map_err(failed("create"))?;
            runs.extend(sort::sort(spooling.disordered, scratch).map_err(failed("sort the keys"))?);
        }
        let partial = Partial::create(&target).map_err(failed("create"))?;
        let base = layout::header_bytes(&self.header) as u64;
        let columns = columns(&partial, base, &target).map_err(failed("create"))?;
        let mut tree = Tree::new(columns, self.header.created_ns).map_err(failed("write"))?;
        let mut merge = Merge::new(runs);
        while let Some(entry) = merge.next().map_err(failed("read back the keys"))? {
            tree.add(&entry, &target)?;
        }
        drop(merge);
        tree.close().map_err(failed("write"))?;
        names::put_in_order(&mut tree).map_err(failed("sort the names"))?;
        let mut header = FileHeader {
            about: self.header,
            totals: tree.totals,
            sections: join(&tree.columns, partial.file(), base).map_err(failed("write"))?,
        };
        header.about.versioned |= tree.versioned;
        let written = partial.file().write_all_at(&header.encode(), 0);
        written.map_err(failed("write"))?;
        partial.publish(&target).map_err(failed("publish"))?;
        let totals = header.totals;
        Ok(BuildReport { files: totals.files, dirs: totals.dirs, bytes: totals.bytes, skipped: totals.skipped, external_sort })
    }
}

fn too_long(target: &Path, field: &'static str, bytes: usize, maximum: usize) -> SnapshotError {
    SnapshotError::TooLong { path: target.to_path_buf(), field, bytes, maximum }
}

/// The largest section is written where it stays, the others beside it.
fn columns(partial: &Partial, base: u64, target: &Path) -> io::Result<[Column; SECTIONS]> {
    let beside = || unnamed_file(target).map(|file| Column::new(file, 0));
    let records = Column::new(partial.file().try_clone()?, base);
    Ok([records, beside()?, beside()?, beside()?])
}

/// Puts all sections into one file, each behind the one before.
fn join(columns: &[Column; SECTIONS], mut file: &File, base: u64) -> io::Result<[Section; SECTIONS]> {
    let mut sections = [Section::default(); SECTIONS];
    file.seek(SeekFrom::Start(base + columns[RECORDS].bytes()))?;
    for index in [TEXT, CHILDREN, SKIPPED] {
        let mut section = columns[index].file();
        section.seek(SeekFrom::Start(0))?;
        let copied = io::copy(&mut section, &mut file)?;
        if copied != columns[index].bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut at = base;
    for (section, column) in sections.iter_mut().zip(columns) {
        let bytes = column.bytes();
        *section = Section { bytes, xxh3: checksum(file, at, bytes)? };
        at += bytes;
    }
    Ok(sections)
}

/// Read back rather than kept while writing, because records change after they were written.
fn checksum(file: &File, mut at: u64, bytes: u64) -> io::Result<u64> {
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; HASH_BYTES];
    let end = at + bytes;
    while at < end {
        let count = (end - at).min(HASH_BYTES as u64);
        let piece = &mut buffer[..count as usize];
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += count;
    }
    Ok(hasher.digest())
}
