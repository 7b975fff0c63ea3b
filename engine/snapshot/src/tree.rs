//! Keys in byte order become a tree, in one pass.

use crate::key::{SkipReason, check};
use crate::layout::{ENTRY, FLAG_ARCHIVED, KIND_DIRECTORY, KIND_FILE};
use crate::spool::Record;
use memmap2::MmapMut;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

const BUFFER: usize = 256 * 1024;

/// A directory whose children are still arriving.
struct Open {
    id: u32,
    /// Length of its path, with the slash behind it.
    path_len: usize,
    names: Vec<u8>,
    children: Vec<Child>,
}

#[derive(Clone, Copy)]
struct Child {
    at: usize,
    len: u16,
    id: u32,
    directory: bool,
}

/// What is known of a directory only when it closes.
struct Closed {
    id: u32,
    first: u64,
    count: u32,
}

/// A column in the making.
pub(crate) struct Column {
    out: BufWriter<File>,
    pub(crate) bytes: u64,
}

impl Column {
    fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { out: BufWriter::with_capacity(BUFFER, tempfile::tempfile_in(directory)?), bytes: 0 })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.bytes;
        self.out.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(at)
    }

    fn finish(self) -> io::Result<File> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) bytes: u64,
    pub(crate) skipped: u64,
}

/// Builds the columns.
pub(crate) struct Tree {
    entries: Column,
    pub(crate) text: Column,
    children: Column,
    skipped: Column,
    next: u32,
    created_ns: i64,
    stack: Vec<Open>,
    /// Path of the innermost open directory, with a slash behind each part.
    path: Vec<u8>,
    last_key: Option<Vec<u8>>,
    closed: Vec<Closed>,
    /// Files that a directory of the same name hides, with their sizes.
    dead: Vec<u32>,
    sizes_of_dead: u64,
    pub(crate) counts: Counts,
}

impl Tree {
    pub(crate) fn create(directory: &Path, created_ns: i64) -> io::Result<Self> {
        let mut tree = Self {
            entries: Column::create(directory)?,
            text: Column::create(directory)?,
            children: Column::create(directory)?,
            skipped: Column::create(directory)?,
            next: 0,
            created_ns,
            stack: Vec::new(),
            path: Vec::new(),
            last_key: None,
            closed: Vec::new(),
            dead: Vec::new(),
            sizes_of_dead: 0,
            counts: Counts::default(),
        };
        tree.open(b"", created_ns)?;
        Ok(tree)
    }

    /// False when there are more entries than ids.
    pub(crate) fn add(&mut self, record: &Record) -> io::Result<bool> {
        if let Err(reason) = check(&record.key) {
            self.skip(&record.key, reason)?;
            return Ok(true);
        }
        if self.last_key.as_deref() == Some(&record.key) {
            self.skip(&record.key, SkipReason::Repeated)?;
            return Ok(true);
        }
        // Room for every part as a directory.
        if self.next > u32::MAX - 4098 {
            return Ok(false);
        }
        self.last_key = Some(record.key.clone());
        self.close_to(&record.key)?;
        let marker = record.key.ends_with(b"/");
        let mut rest = &record.key[self.path.len()..];
        while let Some(slash) = rest.iter().position(|b| *b == b'/') {
            let (part, after) = (&rest[..slash], &rest[slash + 1..]);
            let mtime = if marker && after.is_empty() { record.mtime_ns } else { self.created_ns };
            self.open(part, mtime)?;
            rest = after;
        }
        if !rest.is_empty() {
            self.file(rest, record)?;
        }
        Ok(true)
    }

    /// Closes the directories that the key is not in.
    fn close_to(&mut self, key: &[u8]) -> io::Result<()> {
        while self.stack.len() > 1 && !key.starts_with(&self.path) {
            self.close()?;
        }
        Ok(())
    }

    fn open(&mut self, name: &[u8], mtime_ns: i64) -> io::Result<()> {
        let id = self.take_id();
        let parent = self.stack.last().map_or(0, |d| d.id);
        let name_at = self.text.push(name)?;
        let mut entry = head(KIND_DIRECTORY, 0, name, parent, name_at);
        entry[24..32].copy_from_slice(&mtime_ns.to_le_bytes());
        self.entries.push(&entry)?;
        if id > 0 {
            self.adopt(name, id, true);
            self.path.extend_from_slice(name);
            self.path.push(b'/');
        }
        self.stack.push(Open { id, path_len: self.path.len(), names: Vec::new(), children: Vec::new() });
        self.counts.directories += 1;
        Ok(())
    }

    fn file(&mut self, name: &[u8], record: &Record) -> io::Result<()> {
        let id = self.take_id();
        let parent = self.stack.last().map_or(0, |d| d.id);
        let name_at = self.text.push(name)?;
        let etag_at = self.text.push(&record.etag)?;
        let version_at = self.text.push(&record.version)?;
        let flags = if record.archived { FLAG_ARCHIVED } else { 0 };
        let mut entry = head(KIND_FILE, flags, name, parent, name_at);
        entry[16..24].copy_from_slice(&record.size.to_le_bytes());
        entry[24..32].copy_from_slice(&record.mtime_ns.to_le_bytes());
        entry[32..40].copy_from_slice(&etag_at.to_le_bytes());
        entry[40..42].copy_from_slice(&length(&record.etag));
        entry[42..44].copy_from_slice(&length(&record.version));
        entry[48..56].copy_from_slice(&version_at.to_le_bytes());
        self.entries.push(&entry)?;
        self.adopt(name, id, false);
        self.counts.files += 1;
        self.counts.bytes += record.size;
        Ok(())
    }

    fn take_id(&mut self) -> u32 {
        let id = self.next;
        self.next += 1;
        id
    }

    fn adopt(&mut self, name: &[u8], id: u32, directory: bool) {
        if let Some(parent) = self.stack.last_mut() {
            let at = parent.names.len();
            parent.names.extend_from_slice(name);
            let [low, high] = length(name);
            parent.children.push(Child { at, len: u16::from_le_bytes([low, high]), id, directory });
        }
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(mut open) = self.stack.pop() else { return Ok(()) };
        let name = |c: &Child| &open.names[c.at..c.at + usize::from(c.len)];
        // Directories after files of the same name, so that the later one of two neighbours is the one that stays.
        open.children.sort_by(|a, b| name(a).cmp(name(b)).then(a.directory.cmp(&b.directory)));
        let first = self.children.bytes / 4;
        let mut count = 0u32;
        let mut shadowed = Vec::new();
        for (index, child) in open.children.iter().enumerate() {
            if open.children.get(index + 1).is_some_and(|next| name(next) == name(child)) {
                shadowed.push((child.id, [&self.path[..open.path_len], name(child)].concat()));
                continue;
            }
            self.children.push(&child.id.to_le_bytes())?;
            count += 1;
        }
        for (id, key) in shadowed {
            self.dead.push(id);
            self.skip(&key, SkipReason::Shadowed)?;
        }
        self.closed.push(Closed { id: open.id, first, count });
        self.path.truncate(self.stack.last().map_or(0, |d| d.path_len));
        Ok(())
    }

    fn skip(&mut self, key: &[u8], reason: SkipReason) -> io::Result<()> {
        self.counts.skipped += 1;
        let length = u32::try_from(key.len()).map_err(io::Error::other)?;
        self.skipped.push(&length.to_le_bytes())?;
        self.skipped.push(&[reason as u8])?;
        self.skipped.push(key)?;
        Ok(())
    }

    /// The finished columns: entries, text, children, skipped, with their lengths.
    pub(crate) fn finish(mut self) -> io::Result<([(File, u64); 4], Counts)> {
        while !self.stack.is_empty() {
            self.close()?;
        }
        let lengths = [self.entries.bytes, self.text.bytes, self.children.bytes, self.skipped.bytes];
        let entries = self.entries.finish()?;
        // SAFETY: the temporary file is ours alone and keeps its length while mapped.
        let mut map = unsafe { MmapMut::map_mut(&entries)? };
        for closed in &self.closed {
            let at = closed.id as usize * ENTRY;
            map[at + 16..at + 24].copy_from_slice(&closed.first.to_le_bytes());
            map[at + 32..at + 36].copy_from_slice(&closed.count.to_le_bytes());
        }
        for id in &self.dead {
            let at = *id as usize * ENTRY;
            map[at] = 0;
            let size: [u8; 8] = map[at + 16..at + 24].try_into().map_err(io::Error::other)?;
            self.sizes_of_dead += u64::from_le_bytes(size);
        }
        drop(map);
        let mut counts = self.counts;
        counts.files -= self.dead.len() as u64;
        counts.bytes -= self.sizes_of_dead;
        let files = [entries, self.text.finish()?, self.children.finish()?, self.skipped.finish()?];
        let mut columns = files.into_iter().zip(lengths);
        let mut take = || columns.next().ok_or_else(|| io::Error::other("four columns"));
        Ok(([take()?, take()?, take()?, take()?], counts))
    }
}

fn head(kind: u8, flags: u8, name: &[u8], parent: u32, name_at: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0] = kind;
    entry[1] = flags;
    entry[2..4].copy_from_slice(&length(name));
    entry[4..8].copy_from_slice(&parent.to_le_bytes());
    entry[8..16].copy_from_slice(&name_at.to_le_bytes());
    entry
}

/// Names are at most 255 bytes; ETags and version ids are far below 64 KiB, and one that isn't loses its end.
fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes()
}
