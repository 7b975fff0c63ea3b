//! The books of one cache directory: what each file occupies, when it was last used, what is promised to
//! writers, and what unlinked files still hold. Pure memory, no disk.
//!
//! Eviction order is by last use. Uses of open files are not booked one by one (a read would then take a lock
//! here); whoever evicts asks the open file and books the newer time then.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::ObjectId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Blocks of data and meta file, in bytes.
    pub allocated: u64,
    /// Nanoseconds since 1970.
    pub last_used: u64,
    pub complete: bool,
    pub pinned: bool,
}

/// A place in the order of eviction.
pub type Turn = (u64, ObjectId);

#[derive(Default)]
pub struct Ledger {
    entries: HashMap<ObjectId, Entry>,
    /// Everything neither pinned nor protected, oldest use first.
    order: BTreeSet<Turn>,
    /// What stays as if it were pinned, for as long as this process says so.
    protected: HashSet<ObjectId>,
    allocated: u64,
    complete_files: u64,
    /// Promised to writers that have not written yet.
    pub reserved: u64,
    /// Blocks of files without a name that somebody still holds.
    pub unlinked: u64,
    /// While the directory is being scanned: how much there may be that nobody counted yet.
    pub uncounted: u64,
    /// While the directory is being scanned: files removed meanwhile, which the scan must not book.
    removed: Option<HashSet<ObjectId>>,
}

impl Ledger {
    /// The books before a scan, when up to `uncounted` bytes may lie in the directory.
    pub fn unscanned(uncounted: u64) -> Ledger {
        Ledger { uncounted, removed: Some(HashSet::new()), ..Ledger::default() }
    }

    /// Everything known that counts against the limit, in bytes.
    pub fn total(&self) -> u64 {
        self.allocated + self.reserved + self.unlinked
    }

    pub fn allocated(&self) -> u64 {
        self.allocated + self.unlinked
    }

    pub fn files(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn complete_files(&self) -> u64 {
        self.complete_files
    }

    pub fn get(&self, id: &ObjectId) -> Option<Entry> {
        self.entries.get(id).copied()
    }

    pub fn ids(&self) -> Vec<ObjectId> {
        self.entries.keys().copied().collect()
    }

    /// Books a file, new or changed.
    pub fn set(&mut self, id: ObjectId, entry: Entry) {
        self.forget(&id);
        self.allocated += entry.allocated;
        self.complete_files += u64::from(entry.complete);
        if !entry.pinned && !self.protected.contains(&id) {
            self.order.insert((entry.last_used, id));
        }
        self.entries.insert(id, entry);
    }

    /// Books a file that the scan found, unless it is known better by now.
    pub fn set_scanned(&mut self, id: ObjectId, entry: Entry) {
        self.uncounted = self.uncounted.saturating_sub(entry.allocated);
        let removed = self.removed.as_ref().is_some_and(|removed| removed.contains(&id));
        if !removed && !self.entries.contains_key(&id) {
            self.set(id, entry);
        }
    }

    pub fn end_scan(&mut self) {
        self.uncounted = 0;
        self.removed = None;
    }

    pub fn is_scanned(&self) -> bool {
        self.removed.is_none()
    }

    pub fn remove(&mut self, id: &ObjectId) -> Option<Entry> {
        if let Some(removed) = &mut self.removed {
            removed.insert(*id);
        }
        self.forget(id)
    }

    /// Books a later use; an earlier one changes nothing.
    pub fn touch(&mut self, id: ObjectId, last_used: u64) {
        if let Some(entry) = self.get(&id).filter(|entry| entry.last_used < last_used) {
            self.set(id, Entry { last_used, ..entry });
        }
    }

    /// From now on these stay, and what was protected before may go.
    pub fn protect(&mut self, ids: HashSet<ObjectId>) {
        let before = std::mem::replace(&mut self.protected, ids);
        let changed: Vec<_> = before.symmetric_difference(&self.protected).copied().collect();
        for id in changed {
            if let Some(entry) = self.get(&id) {
                self.set(id, entry);
            }
        }
    }

    pub fn is_protected(&self, id: &ObjectId) -> bool {
        self.protected.contains(id)
    }

    /// The file to evict next, after `turn` in order.
    pub fn next(&self, turn: Option<Turn>) -> Option<(Turn, u64)> {
        let next = match turn {
            None => self.order.first(),
            Some(turn) => self.order.range((std::ops::Bound::Excluded(turn), std::ops::Bound::Unbounded)).next(),
        }?;
        Some((*next, self.entries[&next.1].allocated))
    }

    fn forget(&mut self, id: &ObjectId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.order.remove(&(entry.last_used, *id));
        self.allocated -= entry.allocated;
        self.complete_files -= u64::from(entry.complete);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId([n; 16])
    }

    fn entry(allocated: u64, last_used: u64) -> Entry {
        Entry { allocated, last_used, ..Entry::default() }
    }

    #[test]
    fn order_is_by_last_use_without_pinned_files() {
        let mut ledger = Ledger::default();
        ledger.set(id(1), entry(10, 5));
        ledger.set(id(2), entry(20, 3));
        ledger.set(id(3), Entry { pinned: true, ..entry(30, 1) });
        let first = ledger.next(None).unwrap();
        assert_eq!(first, ((3, id(2)), 20));
        ledger.touch(id(2), 9);
        assert_eq!(ledger.next(None).unwrap().0, (5, id(1)));
        assert_eq!(ledger.next(Some((5, id(1)))).unwrap().0, (9, id(2)));
        assert_eq!(ledger.next(Some((9, id(2)))), None);
        assert_eq!(ledger.total(), 60);
    }

    #[test]
    fn what_is_protected_has_no_turn_until_it_is_no_more() {
        let mut ledger = Ledger::default();
        ledger.set(id(1), entry(10, 5));
        ledger.protect(HashSet::from([id(1), id(2)]));
        ledger.set(id(2), entry(20, 3));
        ledger.touch(id(1), 6);
        assert_eq!(ledger.next(None), None);
        ledger.protect(HashSet::from([id(2)]));
        assert_eq!(ledger.next(None).unwrap().0, (6, id(1)));
        assert_eq!(ledger.next(Some((6, id(1)))), None);
        assert_eq!((ledger.total(), ledger.files()), (30, 2));
    }

    #[test]
    fn books_balance_after_any_change() {
        let mut ledger = Ledger::default();
        ledger.set(id(1), Entry { complete: true, ..entry(10, 5) });
        ledger.set(id(1), entry(4, 6));
        assert_eq!((ledger.total(), ledger.files(), ledger.complete_files()), (4, 1, 0));
        ledger.reserved += 7;
        ledger.unlinked += 1;
        assert_eq!((ledger.total(), ledger.allocated()), (12, 5));
        assert_eq!(ledger.remove(&id(1)).unwrap().allocated, 4);
        assert_eq!(ledger.next(None), None);
    }

    #[test]
    fn a_scan_books_neither_what_is_known_nor_what_is_gone() {
        let mut ledger = Ledger::unscanned(100);
        ledger.set(id(1), entry(10, 5));
        ledger.set(id(2), entry(10, 5));
        ledger.remove(&id(2));
        ledger.set_scanned(id(1), entry(99, 1));
        ledger.set_scanned(id(2), entry(99, 1));
        ledger.set_scanned(id(3), entry(1, 1));
        assert_eq!(ledger.total(), 11);
        assert_eq!(ledger.uncounted, 0, "two files of 99 were among the 100");
        ledger.end_scan();
        assert!(ledger.is_scanned());
        assert_eq!(ledger.total(), 11);
    }
}
