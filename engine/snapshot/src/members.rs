//! What is in a directory, for walks through a tree whose bytes nobody vouches for.
//!
//! Lists of children are bytes like all others: two directories may have the same list, or a list may have one child many times, and
//! then a walk through a file of 2 KiB would take longer than anybody waits. So a walk follows a child only where the child itself says
//! that it is, and names only in ascending order: it comes to each entry at most once, and a list ends at the first that does not fit.

use crate::columns::Children;
use crate::entry::{Entry, EntryId};
use crate::snapshot::Snapshot;

/// The entries of a directory, sorted by the bytes of their names.
pub struct Members<'a> {
    snapshot: &'a Snapshot,
    directory: EntryId,
    children: Children<'a>,
    index: usize,
    last_name: Option<&'a [u8]>,
}

impl<'a> Members<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, directory: EntryId) -> Self {
        Members { snapshot, directory, children: snapshot.children(directory), index: 0, last_name: None }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (EntryId, Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.children.get(self.index)?;
        let entry = self.snapshot.entry(id)?;
        let ascends = self.last_name.is_none_or(|last| last < entry.name);
        if entry.parent != self.directory || !ascends {
            return None;
        }
        self.index += 1;
        self.last_name = Some(entry.name);
        Some((id, entry))
    }
}
