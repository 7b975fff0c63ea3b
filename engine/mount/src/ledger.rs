//! The little that a mount must remember across a killed node, in a memory file that the keeper holds.
//!
//! A killed process leaves stores it has made; so a record is made *before* the reply that makes it visible, and
//! counts err towards holding on for too long: an open is counted before its reply, a release after.
//! Layout: a header of u64 words, then records of four words: kind and opens, node id, backing id, last unique; then
//! the requests that were not answered (see `outstanding`).

use crate::outstanding::{self, Outstanding};
use memmap2::MmapRaw;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

const MAGIC: u64 = 0x4845_4144_5241_4345;
const FORMAT: u64 = 2;
const WORDS: usize = 4;
const HEADER_WORDS: usize = 16;
const RECORDS: usize = 1 << 15;
const RECORD_BYTES: usize = (HEADER_WORDS + RECORDS * WORDS) * 8;
const BYTES: usize = RECORD_BYTES + outstanding::BYTES;

const KIND_FREE: u64 = 0;
const KIND_BACKING: u64 = 1;

#[derive(Clone, Copy)]
enum Word {
    Magic = 0,
    Format = 1,
    InitFlags = 2,
    KernelMinor = 3,
    NextSlot = 4,
    CurrentSlot = 5,
}

/// A file open by passthrough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backing {
    pub(crate) id: i32,
    pub(crate) opens: u32,
    record: usize,
}

#[derive(Default)]
struct Index {
    backings: HashMap<u64, Backing>,
    free: Vec<usize>,
}

pub(crate) struct Ledger {
    file: File,
    map: Arc<MmapRaw>,
    index: Mutex<Index>,
}

impl Ledger {
    pub(crate) fn create() -> io::Result<Self> {
        // SAFETY: a constant name; the result is checked and owned at once.
        let file = unsafe {
            let fd = libc::memfd_create(c"headrace-mount".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from(OwnedFd::from_raw_fd(fd))
        };
        file.set_len(BYTES as u64)?;
        let ledger = Self::attach(file)?;
        ledger.set(Word::Format, FORMAT);
        ledger.set(Word::NextSlot, 1);
        ledger.set(Word::Magic, MAGIC);
        ledger.index.lock().free = (0..RECORDS).rev().collect();
        Ok(ledger)
    }

    /// Takes over what a predecessor wrote.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        if file.metadata()?.len() != BYTES as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the mount's ledger has another size: it was written by another version",
            ));
        }
        let ledger = Self::attach(file)?;
        if ledger.get(Word::Magic) != MAGIC || ledger.get(Word::Format) != FORMAT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the mount's ledger has another format: it was written by another version",
            ));
        }
        ledger.load();
        Ok(ledger)
    }

    fn attach(file: File) -> io::Result<Self> {
        let map = Arc::new(MmapRaw::map_raw(&file)?);
        Ok(Self { file, map, index: Mutex::default() })
    }

    fn load(&self) {
        let mut index = self.index.lock();
        for record in (0..RECORDS).rev() {
            let head = self.word(record, 0).load(Acquire);
            let node = self.word(record, 1).load(Acquire);
            let value = self.word(record, 2).load(Acquire);
            match head & 0xffff_ffff {
                KIND_BACKING => {
                    let opens = (head >> 32) as u32;
                    index.backings.insert(node, Backing { id: value as i32, opens, record });
                }
                _ => index.free.push(record),
            }
        }
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The part of it that keeps unanswered requests.
    pub(crate) fn outstanding(&self) -> Outstanding {
        Outstanding::new(Arc::clone(&self.map), RECORD_BYTES)
    }

    pub(crate) fn set_init(&self, flags: u64, minor: u32) {
        self.set(Word::InitFlags, flags);
        self.set(Word::KernelMinor, u64::from(minor));
    }

    pub(crate) fn init(&self) -> (u64, u32) {
        (self.get(Word::InitFlags), self.get(Word::KernelMinor) as u32)
    }

    /// The next slot number; `None` when all were used.
    pub(crate) fn take_slot(&self) -> Option<u16> {
        let slot = u16::try_from(self.get(Word::NextSlot)).ok()?;
        self.set(Word::NextSlot, u64::from(slot) + 1);
        Some(slot)
    }

    pub(crate) fn current_slot(&self) -> u16 {
        self.get(Word::CurrentSlot) as u16
    }

    pub(crate) fn set_current_slot(&self, slot: u16) {
        self.set(Word::CurrentSlot, u64::from(slot));
    }

    /// Counts one more open of `node` if it is open by passthrough already. A request sent again (same `unique`) is counted once.
    pub(crate) fn join(&self, node: u64, unique: u64) -> Option<i32> {
        let mut index = self.index.lock();
        let backing = index.backings.get_mut(&node)?;
        let last = self.word(backing.record, 3);
        if last.swap(unique, Release) != unique {
            backing.opens += 1;
            self.word(backing.record, 0).store(KIND_BACKING | u64::from(backing.opens) << 32, Release);
        }
        Some(backing.id)
    }

    /// Records the first open of `node`; false when the ledger is full.
    pub(crate) fn begin(&self, node: u64, id: i32, unique: u64) -> bool {
        let mut index = self.index.lock();
        let Some(record) = index.free.pop() else { return false };
        self.word(record, 1).store(node, Release);
        self.word(record, 2).store(id as u64, Release);
        self.word(record, 3).store(unique, Release);
        self.word(record, 0).store(KIND_BACKING | 1 << 32, Release);
        index.backings.insert(node, Backing { id, opens: 1, record });
        true
    }

    /// Counts one open less; gives the backing id when it was the last.
    pub(crate) fn leave(&self, node: u64) -> Option<i32> {
        let mut index = self.index.lock();
        let backing = index.backings.get_mut(&node)?;
        backing.opens = backing.opens.saturating_sub(1);
        let (id, opens, record) = (backing.id, backing.opens, backing.record);
        if opens > 0 {
            self.word(record, 0).store(KIND_BACKING | u64::from(opens) << 32, Release);
            return None;
        }
        self.word(record, 0).store(KIND_FREE, Release);
        index.backings.remove(&node);
        index.free.push(record);
        Some(id)
    }

    /// Node ids open by passthrough.
    pub(crate) fn open_nodes(&self) -> Vec<u64> {
        self.index.lock().backings.keys().copied().collect()
    }

    fn word(&self, record: usize, word: usize) -> &AtomicU64 {
        self.at(HEADER_WORDS + record * WORDS + word)
    }

    fn get(&self, word: Word) -> u64 {
        self.at(word as usize).load(Acquire)
    }

    fn set(&self, word: Word, value: u64) {
        self.at(word as usize).store(value, Release);
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < RECORD_BYTES / 8, "within the records");
        // SAFETY: the mapping is BYTES long, page-aligned, lives as long as self, and is only touched as atomics.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::BorrowedFd;

    fn adopted(ledger: &Ledger) -> Ledger {
        // SAFETY: the ledger owns the descriptor for the length of this call.
        let fd = unsafe { BorrowedFd::borrow_raw(ledger.raw()) };
        Ledger::adopt(fd.try_clone_to_owned().unwrap()).unwrap()
    }

    #[test]
    fn a_successor_knows_what_was_open() {
        let ledger = Ledger::create().unwrap();
        ledger.set_init(5, 44);
        assert_eq!(ledger.take_slot(), Some(1));
        ledger.set_current_slot(1);
        assert!(ledger.begin(77, 3, 100));
        assert_eq!(ledger.join(77, 101), Some(3));
        let next = adopted(&ledger);
        assert_eq!((next.init(), next.current_slot(), next.take_slot()), ((5, 44), 1, Some(2)));
        assert_eq!(next.leave(77), None);
        assert_eq!(next.leave(77), Some(3));
        assert!(next.open_nodes().is_empty());
    }

    #[test]
    fn a_request_sent_again_is_counted_once() {
        let ledger = Ledger::create().unwrap();
        assert!(ledger.begin(7, 1, 50));
        assert_eq!(adopted(&ledger).join(7, 50), Some(1));
        assert_eq!(adopted(&ledger).leave(7), Some(1));
    }
}
