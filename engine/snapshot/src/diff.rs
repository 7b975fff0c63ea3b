//! What a refresh found: two trees walked in step, without a table of either.

use crate::entry::{Entry, EntryId, EntryKind};
use crate::snapshot::Snapshot;
use std::cmp::Ordering;

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
struct Frame {
    old: Option<Cursor>,
    new: Option<Cursor>,
    path_bytes: usize,
}

struct Cursor {
    directory: EntryId,
    index: usize,
}

impl Cursor {
    fn begin(directory: EntryId) -> Self {
        Cursor { directory, index: 0 }
    }
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
        let mut frames = vec![Frame { old: Some(Cursor::begin(EntryId::ROOT)), new: Some(Cursor::begin(EntryId::ROOT)), path_bytes: 0 }];
        while let Some(frame) = frames.last_mut() {
            self.path.truncate(frame.path_bytes);
            let (old, new) = (peek(self.old, &frame.old), peek(self.new, &frame.new));
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

    /// Tells what is to be told about one name; what must be walked below it comes back.
    fn compare(&mut self, old: Found<'a>, new: Found<'a>) -> Option<Frame> {
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
        Some(Frame { old: old_directory.map(Cursor::begin), new: new_directory.map(Cursor::begin), path_bytes: self.path.len() })
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

fn peek<'a>(snapshot: &'a Snapshot, cursor: &Option<Cursor>) -> Found<'a> {
    let cursor = cursor.as_ref()?;
    let id = snapshot.children(cursor.directory).get(cursor.index)?;
    Some((id, snapshot.entry(id)?))
}

fn step(cursor: &mut Option<Cursor>, taken: bool) {
    if let Some(cursor) = cursor {
        cursor.index += usize::from(taken);
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
