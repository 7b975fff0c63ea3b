//! What is new, changed or gone between two snapshots: both trees walked in step.

use crate::read::{Entry, EntryId, EntryKind, Snapshot};
use std::cmp::Ordering;

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the new snapshot has it.
    New,
    /// Another version, ETag or size.
    Changed,
    /// Only the old snapshot has it.
    Gone,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Its path.
    pub path: String,
    /// Its entry in the old snapshot.
    pub old: Option<EntryId>,
    /// Its entry in the new one.
    pub new: Option<EntryId>,
}

/// How many files differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// New.
    pub new: u64,
    /// Changed.
    pub changed: u64,
    /// Gone.
    pub gone: u64,
}

/// Visits every file that differs and counts them.
pub fn diff(old: &Snapshot, new: &Snapshot, visit: &mut dyn FnMut(Change)) -> DiffCounts {
    let mut walk = Walk { old, new, visit, counts: DiffCounts::default() };
    let mut pairs = vec![(Some(EntryId(0)), Some(EntryId(0)))];
    while let Some((a, b)) = pairs.pop() {
        walk.step(a, b, &mut pairs);
    }
    walk.counts
}

type Pair = (Option<EntryId>, Option<EntryId>);

struct Walk<'a> {
    old: &'a Snapshot,
    new: &'a Snapshot,
    visit: &'a mut dyn FnMut(Change),
    counts: DiffCounts,
}

impl Walk<'_> {
    /// Compares two directories of the same path; either may be absent.
    fn step(&mut self, a: Option<EntryId>, b: Option<EntryId>, pairs: &mut Vec<Pair>) {
        let left = a.map(|id| self.old.children(id));
        let right = b.map(|id| self.new.children(id));
        let (mut i, mut j) = (0, 0);
        loop {
            let x = left.and_then(|c| c.get(i)).and_then(|id| self.old.entry(id).map(|e| (id, e)));
            let y = right.and_then(|c| c.get(j)).and_then(|id| self.new.entry(id).map(|e| (id, e)));
            let order = match (&x, &y) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((_, p)), Some((_, q))) => p.name.cmp(q.name),
            };
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
            match order {
                Ordering::Less => self.pair(x, None, pairs),
                Ordering::Greater => self.pair(None, y, pairs),
                Ordering::Equal => self.pair(x, y, pairs),
            }
        }
    }

    fn pair(&mut self, x: Option<(EntryId, Entry<'_>)>, y: Option<(EntryId, Entry<'_>)>, pairs: &mut Vec<Pair>) {
        let is = |e: &Option<(EntryId, Entry<'_>)>, kind| e.is_some_and(|(_, e)| e.kind == kind);
        let directory = |e: Option<(EntryId, Entry<'_>)>| e.filter(|(_, e)| e.kind == EntryKind::Directory).map(|(id, _)| id);
        let (a, b) = (directory(x), directory(y));
        if a.is_some() || b.is_some() {
            pairs.push((a, b));
        }
        let old = x.filter(|_| is(&x, EntryKind::File));
        let new = y.filter(|_| is(&y, EntryKind::File));
        let kind = match (old, new) {
            (Some((_, p)), Some((_, q))) if (p.etag, p.version, p.size) == (q.etag, q.version, q.size) => return,
            (Some(_), Some(_)) => ChangeKind::Changed,
            (Some(_), None) => ChangeKind::Gone,
            (None, Some(_)) => ChangeKind::New,
            (None, None) => return,
        };
        match kind {
            ChangeKind::New => self.counts.new += 1,
            ChangeKind::Changed => self.counts.changed += 1,
            ChangeKind::Gone => self.counts.gone += 1,
        }
        let path = match (new, old) {
            (Some((id, _)), _) => self.new.path(id),
            (None, Some((id, _))) => self.old.path(id),
            (None, None) => return,
        };
        (self.visit)(Change { kind, path, old: old.map(|(id, _)| id), new: new.map(|(id, _)| id) });
    }
}
