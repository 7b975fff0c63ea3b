//! From the order of keys to the order of names, in the few directories where they differ.
//!
//! `a`, `a-b`, `a/x` is byte order of keys; `a` (the directory) before `a-b` is byte order of names. Here the
//! children of such directories are sorted, and an object that has the same path as a directory gives way to it:
//! only now do the two stand side by side.

use crate::columns::{Children, Columns};
use crate::layout::{CHILDREN, RECORDS, SKIPPED, TEXT};
use crate::record::{Body, RECORD_BYTES, Record};
use crate::rules::SkipReason;
use crate::tree::Tree;
use memmap2::{Mmap, MmapOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// A record as it shall be. Changes are made after nobody looks at the mapped bytes any more.
type Change = (u32, Record);

/// Sorts the children of every unordered directory of a closed tree.
pub(crate) fn put_in_order(tree: &mut Tree) -> io::Result<()> {
    let unordered = std::mem::take(&mut tree.unordered);
    if unordered.is_empty() {
        return Ok(());
    }
    let mut changes = Vec::new();
    {
        let (records, text) = (map(tree, RECORDS)?, map(tree, TEXT)?);
        let columns = Columns { records: &records, text: &text };
        for id in unordered {
            sort_directory(tree, &columns, id, &mut changes)?;
        }
    }
    for (id, record) in changes {
        let at = u64::from(id) * RECORD_BYTES as u64;
        tree.columns[RECORDS].replace(at, &record.encode())?;
    }
    tree.columns[SKIPPED].flush()
}

fn map(tree: &Tree, section: usize) -> io::Result<Mmap> {
    let column = &tree.columns[section];
    let bytes = usize::try_from(column.bytes()).map_err(io::Error::other)?;
    // SAFETY: the file is this builder's own (unnamed, or locked under a name nobody else uses), it is not
    // shortened, and nothing is written to this section while the map lives: changes are gathered first.
    unsafe { MmapOptions::new().offset(column.base()).len(bytes).map(column.file()) }
}

fn sort_directory(tree: &mut Tree, columns: &Columns<'_>, directory: u32, changes: &mut Vec<Change>) -> io::Result<()> {
    let mut record = columns.record(directory).ok_or_else(lost)?;
    let Body::Directory { first_child, children } = &mut record.body else {
        return Err(lost());
    };
    let at = tree.columns[CHILDREN].base() + *first_child * 4;
    let mut bytes = vec![0; *children as usize * 4];
    tree.columns[CHILDREN].file().read_exact_at(&mut bytes, at)?;
    let mut ids: Vec<u32> = Children::in_directory(directory, &bytes).iter().map(|id| id.0).collect();
    // Keys' order puts an object before the directory of its name, and the sort is stable.
    ids.sort_by(|a, b| columns.name_of(*a).cmp(&columns.name_of(*b)));
    let mut kept: Vec<u32> = Vec::with_capacity(ids.len());
    for id in ids {
        let beside = kept.last().copied().filter(|last| columns.name_of(*last) == columns.name_of(id));
        if let Some(object) = beside {
            changes.push((object, drop_object(tree, columns, object)?));
            kept.pop();
        }
        kept.push(id);
    }
    *children = kept.len() as u32;
    let bytes: Vec<u8> = kept.iter().flat_map(|id| id.to_le_bytes()).collect();
    tree.columns[CHILDREN].file().write_all_at(&bytes, at)?;
    changes.push((directory, record));
    Ok(())
}

fn drop_object(tree: &mut Tree, columns: &Columns<'_>, id: u32) -> io::Result<Record> {
    let mut record = columns.record(id).ok_or_else(lost)?;
    let Body::File { size, dropped, .. } = &mut record.body else {
        return Err(lost());
    };
    *dropped = true;
    tree.totals.files -= 1;
    tree.totals.bytes = tree.totals.bytes.saturating_sub(*size);
    tree.skip(&columns.path(id), SkipReason::BesideDirectory)?;
    Ok(record)
}

fn lost() -> io::Error {
    io::Error::other("a record written before reads back as another")
}
