//! Keys in byte order in, records of a tree out, in one pass with a stack.

use crate::column::Column;
use crate::entry::Totals;
use crate::error::SnapshotError;
use crate::layout::{CHILDREN, RECORDS, SECTIONS, SKIPPED, TEXT};
use crate::record::{Body, RECORD_BYTES, Record};
use crate::rules::{self, SkipReason};
use crate::spooled::Spooled;
use std::io;
use std::path::Path;

/// Ids are u32 and the last one is left free.
const ENTRIES_MAX: u64 = u32::MAX as u64;

pub(crate) struct Tree {
    pub(crate) columns: [Column; SECTIONS],
    pub(crate) totals: Totals,
    pub(crate) versioned: bool,
    /// Directories whose children came in another order than that of names; see [`crate::names`].
    pub(crate) unordered: Vec<u32>,
    created_ns: i64,
    open: Vec<OpenDirectory>,
    /// Path of the innermost open directory, with a trailing slash unless it is the root.
    path: Vec<u8>,
    last_key: Option<Vec<u8>>,
    next_id: u32,
}

/// A directory that more keys may follow for.
struct OpenDirectory {
    id: u32,
    record: Record,
    /// Length of its path, with the trailing slash.
    path_bytes: usize,
    /// The marker's, once there was one.
    marked_ns: Option<i64>,
    children: Vec<u32>,
    last_name: Vec<u8>,
    ordered: bool,
}

impl Tree {
    pub(crate) fn new(columns: [Column; SECTIONS], created_ns: i64) -> io::Result<Self> {
        let mut tree = Tree {
            columns,
            totals: Totals::default(),
            versioned: false,
            unordered: Vec::new(),
            created_ns,
            open: Vec::new(),
            path: Vec::new(),
            last_key: None,
            next_id: 0,
        };
        tree.open_directory(b"")?;
        Ok(tree)
    }

    /// Adds one key; none may be smaller than the one before.
    pub(crate) fn add(&mut self, entry: &Spooled<'_>, target: &Path) -> Result<(), SnapshotError> {
        let failed = || SnapshotError::io("write", target);
        if rules::is_ours(entry.key) {
            return Ok(());
        }
        let verdict = match &mut self.last_key {
            Some(last) if last == entry.key => Err(SkipReason::Duplicate),
            last => {
                let last = last.get_or_insert_default();
                last.clear();
                last.extend(entry.key);
                rules::check(entry.key)
            }
        };
        if let Err(reason) = verdict {
            return self.skip(entry.key, reason).map_err(failed());
        }
        // A key opens at most one directory for every two bytes, so this leaves room enough.
        if u64::from(self.next_id) + entry.key.len() as u64 >= ENTRIES_MAX {
            return Err(SnapshotError::TooMany { path: target.to_path_buf(), maximum: ENTRIES_MAX });
        }
        self.versioned |= entry.version.is_some_and(|v| v != b"null");
        self.place(entry).map_err(failed())
    }

    fn place(&mut self, entry: &Spooled<'_>) -> io::Result<()> {
        let slash = entry.key.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = entry.key.split_at(slash.map_or(0, |at| at + 1));
        while !directory.starts_with(&self.path) {
            self.close_directory()?;
        }
        let known = self.path.len();
        for part in directory[known..].split_inclusive(|byte| *byte == b'/') {
            self.open_directory(part.strip_suffix(b"/").unwrap_or(part))?;
        }
        if name.is_empty() {
            if let Some(directory) = self.open.last_mut() {
                directory.marked_ns = Some(entry.mtime_ns);
            }
            return Ok(());
        }
        self.file(name, entry)
    }

    fn file(&mut self, name: &[u8], entry: &Spooled<'_>) -> io::Result<()> {
        let (id, parent, text) = self.adopt(name)?;
        self.columns[TEXT].append(entry.etag)?;
        self.columns[TEXT].append(entry.version.unwrap_or_default())?;
        let record = Record {
            text,
            mtime_ns: entry.mtime_ns,
            parent,
            name_bytes: name.len() as u8,
            body: Body::File {
                size: entry.size,
                etag_bytes: entry.etag.len() as u16,
                version_bytes: entry.version.map(|v| v.len() as u16),
                archived: entry.archived,
                dropped: false,
            },
        };
        debug_assert_eq!(self.columns[RECORDS].bytes(), id as u64 * RECORD_BYTES as u64);
        self.columns[RECORDS].append(&record.encode())?;
        self.totals.files += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(entry.size);
        Ok(())
    }

    fn open_directory(&mut self, name: &[u8]) -> io::Result<()> {
        let (id, parent, text) = self.adopt(name)?;
        let record =
            Record { text, mtime_ns: 0, parent, name_bytes: name.len() as u8, body: Body::Directory { first_child: 0, children: 0 } };
        self.columns[RECORDS].append(&record.encode())?;
        if id > 0 {
            self.path.extend(name);
            self.path.push(b'/');
            self.totals.dirs += 1;
        }
        self.open.push(OpenDirectory {
            id,
            record,
            path_bytes: self.path.len(),
            marked_ns: None,
            children: Vec::new(),
            last_name: Vec::new(),
            ordered: true,
        });
        Ok(())
    }

    /// Gives the next id to a child of the innermost open directory; also says its parent and where its text is.
    fn adopt(&mut self, name: &[u8]) -> io::Result<(u32, u32, u64)> {
        let id = self.next_id;
        self.next_id += 1;
        let text = self.columns[TEXT].bytes();
        self.columns[TEXT].append(name)?;
        let Some(directory) = self.open.last_mut() else {
            return Ok((id, 0, text));
        };
        // Equal names, an object beside a directory, count as unordered: they are told apart then.
        directory.ordered &= directory.children.is_empty() || *directory.last_name < *name;
        directory.last_name.clear();
        directory.last_name.extend(name);
        directory.children.push(id);
        Ok((id, directory.id, text))
    }

    fn close_directory(&mut self) -> io::Result<()> {
        let Some(mut directory) = self.open.pop() else {
            return Ok(());
        };
        let parent_path = self.open.last().map_or(0, |parent| parent.path_bytes);
        self.path.truncate(parent_path);
        directory.record.mtime_ns = directory.marked_ns.unwrap_or(self.created_ns);
        directory.record.body =
            Body::Directory { first_child: self.columns[CHILDREN].bytes() / 4, children: directory.children.len() as u32 };
        for child in &directory.children {
            self.columns[CHILDREN].append(&child.to_le_bytes())?;
        }
        if !directory.ordered {
            self.unordered.push(directory.id);
        }
        let at = u64::from(directory.id) * RECORD_BYTES as u64;
        self.columns[RECORDS].replace(at, &directory.record.encode())
    }

    /// Notes a key that is not in the tree.
    pub(crate) fn skip(&mut self, key: &[u8], reason: SkipReason) -> io::Result<()> {
        self.totals.skipped += 1;
        let column = &mut self.columns[SKIPPED];
        column.append(&[reason as u8])?;
        column.append(&(key.len() as u32).to_le_bytes())?;
        column.append(key)
    }

    /// Ends all directories; everything is in the columns' files then.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        while !self.open.is_empty() {
            self.close_directory()?;
        }
        self.columns.iter_mut().try_for_each(Column::flush)
    }
}
