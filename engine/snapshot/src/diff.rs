//! What a refresh found: two trees walked in step, without a table of either.

use crate::entry::{Entry, EntryId, EntryKind};
use crate::members::Members;
use crate::snapshot::Snapshot;
use std::cmp::Ordering;
use std::iter::Peekable;

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// Only in the new snapshot.
    New,
    /// In both, with another ETag, version id or size.
    Changed,
    /// Only in the old snapshot.
    Gone,
}

/// One file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Its path, the same in both.
    pub path: String,
    /// Its id in the old snapshot.
    pub old: Option<EntryId>,
    /// Its id in the new snapshot.
    pub new: Option<EntryId>,
}

/// How many files differ, and how many don't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Only in the new snapshot.
    pub new: u64,
    /// In both, with another ETag, version id or size.
    pub changed: u64,
    /// Only in the old snapshot.
    pub gone: u64,
    /// The same in both; only the time may differ.
    pub unchanged: u64,
}

/// Tells every file that differs, in the order of names within each directory. Directories are not told: they are
/// nothing but their files' paths. A version id of `null` is none.
pub fn diff(old: &Snapshot, new: &Snapshot, visit: &mut dyn FnMut(Change)) -> DiffCounts {
    let mut walk = Walk { old, new, visit, counts: DiffCounts::default(), path: Vec::new() };
    walk.run();
    walk.counts
}

/// Two directories of the same path, or one where the other side has none.
struct Frame<'a> {
    old: Option<Peekable<Members<'a>>>,
    new: Option<Peekable<Members<'a>>>,
    path_bytes: usize,
}

struct Walk<'a> {
    old: &'a Snapshot,
    new: &'a Snapshot,
    visit: &'a mut dyn FnMut(Change),
    counts: DiffCounts,
    path: Vec<u8>,
}

type Found<'a> = Option<(EntryId, Entry<'a>)>;

impl<'a> Walk<'a> {
    fn run(&mut self) {
        let mut frames = vec![self.frame(Some(EntryId::ROOT), Some(EntryId::ROOT))];
        while let Some(frame) = frames.last_mut() {
            self.path.truncate(frame.path_bytes);
            let (old, new) = (peek(&mut frame.old), peek(&mut frame.new));
            let order = match (&old, &new) {
                (None, None) => {
                    frames.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((_, old)), Some((_, new))) => old.name.cmp(new.name),
            };
            let old = old.filter(|_| order.is_le());
            let new = new.filter(|_| order.is_ge());
            step(&mut frame.old, old.is_some());
            step(&mut frame.new, new.is_some());
            frames.extend(self.compare(old, new));
        }
    }

    /// Directories of the path that the walk has come to.
    fn frame(&self, old: Option<EntryId>, new: Option<EntryId>) -> Frame<'a> {
        let begin = |snapshot: &'a Snapshot, directory| snapshot.members(directory).peekable();
        Frame {
            old: old.map(|directory| begin(self.old, directory)),
            new: new.map(|directory| begin(self.new, directory)),
            path_bytes: self.path.len(),
        }
    }

    /// Tells what is to be told about one name; what must be walked below it comes back.
    fn compare(&mut self, old: Found<'a>, new: Found<'a>) -> Option<Frame<'a>> {
        let name = old.or(new).map(|(_, entry)| entry.name)?;
        self.path.extend_from_slice(name);
        let (old_file, old_directory) = sort_out(old);
        let (new_file, new_directory) = sort_out(new);
        match (old_file, new_file) {
            (Some((_, old)), Some((_, new))) if same(&old, &new) => self.counts.unchanged += 1,
            (None, None) => {}
            (old, new) => self.tell(old.map(|(id, _)| id), new.map(|(id, _)| id)),
        }
        if old_directory.is_none() && new_directory.is_none() {
            return None;
        }
        self.path.push(b'/');
        Some(self.frame(old_directory, new_directory))
    }

    fn tell(&mut self, old: Option<EntryId>, new: Option<EntryId>) {
        let (kind, count) = match (old, new) {
            (None, _) => (ChangeKind::New, &mut self.counts.new),
            (_, None) => (ChangeKind::Gone, &mut self.counts.gone),
            _ => (ChangeKind::Changed, &mut self.counts.changed),
        };
        *count += 1;
        let path = String::from_utf8_lossy(&self.path).into_owned();
        (self.visit)(Change { kind, path, old, new });
    }
}

fn peek<'a>(members: &mut Option<Peekable<Members<'a>>>) -> Found<'a> {
    members.as_mut()?.peek().copied()
}

fn step(members: &mut Option<Peekable<Members<'_>>>, taken: bool) {
    if let (Some(members), true) = (members, taken) {
        members.next();
    }
}

fn sort_out(found: Found<'_>) -> (Found<'_>, Option<EntryId>) {
    match found {
        Some((id, entry)) if entry.kind == EntryKind::Directory => (None, Some(id)),
        file => (file, None),
    }
}

fn same(old: &Entry<'_>, new: &Entry<'_>) -> bool {
    let version = |version: &&str| *version != "null";
    old.etag == new.etag && old.size == new.size && old.version.filter(version) == new.version.filter(version)
}
