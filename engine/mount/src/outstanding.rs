//! Requests read from the kernel and not answered yet, for kernels that can't send them again (before Linux 6.9).
//!
//! The device is read straight into memory that the keeper holds too, and a request is copied into a place of its own
//! there before it is worked on; its reply empties the place. So whatever moment a node is killed at, its successor
//! finds every unanswered request: in its place, or still in the buffer it was read into. Answering one twice is
//! harmless, because the kernel never uses a unique id again and refuses the second answer.
//!
//! Where the kernel sends requests again by itself none of this is done.

use memmap2::MmapRaw;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

/// Buffers for threads that read the device.
pub(crate) const READERS: usize = 2;
/// Largest request: the kernel asks for at least 8 KiB and sends us nothing near this, because nothing is written.
const BUFFER_BYTES: usize = 128 * 1024;
const BUFFER_SPAN: usize = BUFFER_BYTES + 8;
/// Requests kept; the kernel's background requests are limited to far fewer, so these are mostly waiting programs.
const PLACES: usize = 16 * 1024;
/// A header (40 bytes), a name (256 bytes) and a little more. Longer requests are only those that get EROFS whatever they say.
const PLACE_BYTES: usize = 320;
const PLACE_SPAN: usize = PLACE_BYTES + 8;

/// Bytes of shared memory it takes; only what is used is ever touched.
pub(crate) const BYTES: usize = READERS * BUFFER_SPAN + PLACES * PLACE_SPAN;

const EMPTY: u64 = 0;
const HELD: u64 = 1;

#[derive(Default)]
struct Index {
    places: HashMap<u64, usize>,
    free: Vec<usize>,
}

pub(crate) struct Outstanding {
    map: Arc<MmapRaw>,
    start: usize,
    index: Mutex<Index>,
}

impl Outstanding {
    /// Over `BYTES` of `map` from `start` (a multiple of 8); goes on with what a predecessor left there.
    pub(crate) fn new(map: Arc<MmapRaw>, start: usize) -> Self {
        assert!(start.is_multiple_of(8) && start + BYTES <= map.len(), "the region lies within the ledger");
        let this = Self { map, start, index: Mutex::default() };
        {
            let mut index = this.index.lock();
            for place in (0..PLACES).rev() {
                if this.flag(this.place(place)).load(Acquire) == HELD {
                    index.places.insert(unique_of(this.bytes(this.place(place), PLACE_BYTES)), place);
                } else {
                    index.free.push(place);
                }
            }
        }
        this
    }

    /// What a predecessor has not answered. To be called before any thread reads the device again.
    pub(crate) fn left(&self) -> Vec<Vec<u8>> {
        let index = self.index.lock();
        let mut left: Vec<_> = index.places.values().map(|place| self.bytes(self.place(*place), PLACE_BYTES).to_vec()).collect();
        for reader in 0..READERS {
            let buffer = self.bytes(self.buffer_at(reader), BUFFER_BYTES);
            let length = length_of(buffer);
            let read = (HEADER_BYTES..=BUFFER_BYTES).contains(&length);
            if read && !index.places.contains_key(&unique_of(buffer)) && self.flag(self.buffer_at(reader)).load(Acquire) == HELD {
                left.push(buffer[..length].to_vec());
            }
        }
        left
    }

    /// The buffer of a reading thread, emptied, so that a request in it is a new one.
    ///
    /// # Safety
    /// No other slice of this reader's buffer may be alive: each reader is used by one thread, one request at a time.
    #[allow(clippy::mut_from_ref, reason = "the memory is shared with the keeper's process in any case; see Safety")]
    pub(crate) unsafe fn buffer(&self, reader: usize) -> &mut [u8] {
        let at = self.buffer_at(reader);
        // Emptied first and marked second: a mark is only ever beside an empty or a fresh request.
        // SAFETY: within the mapping; the caller vouches for being alone.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(at + 8), BUFFER_BYTES) };
        buffer[..HEADER_BYTES].fill(0);
        self.flag(at).store(HELD, Release);
        buffer
    }

    /// Keeps a request until it is answered; `reader` is where it was read. False when all places are taken.
    pub(crate) fn keep(&self, reader: usize, request: &[u8], unique: u64) -> bool {
        let mut index = self.index.lock();
        let Some(place) = index.free.pop() else { return false };
        index.places.insert(unique, place);
        drop(index);
        let at = self.place(place);
        let length = request.len().min(PLACE_BYTES);
        // SAFETY: the place is ours alone until its flag says otherwise, and lies within the mapping.
        let target = unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(at + 8), PLACE_BYTES) };
        target[..length].copy_from_slice(&request[..length]);
        target[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        self.flag(at).store(HELD, Release);
        self.flag(self.buffer_at(reader)).store(EMPTY, Release);
        true
    }

    /// The request has been answered.
    pub(crate) fn answered(&self, unique: u64) {
        let mut index = self.index.lock();
        if let Some(place) = index.places.remove(&unique) {
            self.flag(self.place(place)).store(EMPTY, Release);
            index.free.push(place);
        }
    }

    fn buffer_at(&self, reader: usize) -> usize {
        assert!(reader < READERS, "a reader's number");
        self.start + reader * BUFFER_SPAN
    }

    fn place(&self, place: usize) -> usize {
        self.start + READERS * BUFFER_SPAN + place * PLACE_SPAN
    }

    fn flag(&self, at: usize) -> &AtomicU64 {
        // SAFETY: 8-aligned, within the mapping, which lives as long as self, and only ever used as an atomic.
        unsafe { &*self.map.as_ptr().add(at).cast::<AtomicU64>() }
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        // SAFETY: within the mapping; only called before anything is written, or for places whose flag says HELD.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at + 8), length) }
    }
}

const HEADER_BYTES: usize = crate::wire::IN_HEADER;

fn length_of(request: &[u8]) -> usize {
    request.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b) as usize)
}

fn unique_of(request: &[u8]) -> u64 {
    request.get(8..16).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Arc<MmapRaw> {
        Arc::new(MmapRaw::from(memmap2::MmapMut::map_anon(BYTES).unwrap()))
    }

    fn request(unique: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![7; length];
        bytes[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        bytes
    }

    fn read(outstanding: &Outstanding, reader: usize, request: &[u8]) {
        // SAFETY: one slice at a time in these tests.
        unsafe { outstanding.buffer(reader)[..request.len()].copy_from_slice(request) };
    }

    #[test]
    fn a_successor_finds_what_was_not_answered() {
        let map = memory();
        let first = Outstanding::new(Arc::clone(&map), 0);
        for unique in 1..=3 {
            let request = request(unique, 80);
            read(&first, 0, &request);
            assert!(first.keep(0, &request, unique));
        }
        first.answered(2);
        // Killed between reading a request and keeping it.
        read(&first, 1, &request(4, 120));
        let next = Outstanding::new(Arc::clone(&map), 0);
        let mut left: Vec<_> = next.left().iter().map(|r| (unique_of(r), length_of(r))).collect();
        left.sort_unstable();
        assert_eq!(left, [(1, 80), (3, 80), (4, 120)]);
        next.answered(1);
        next.answered(3);
        assert_eq!(next.left().len(), 1);
    }

    #[test]
    fn a_request_kept_is_not_found_twice() {
        let map = memory();
        let first = Outstanding::new(Arc::clone(&map), 0);
        let request = request(9, 64);
        read(&first, 0, &request);
        assert!(first.keep(0, &request, 9));
        assert_eq!(Outstanding::new(Arc::clone(&map), 0).left().len(), 1);
        first.answered(9);
        // Its bytes still lie in the buffer, but it was kept and answered.
        assert_eq!(Outstanding::new(map, 0).left().len(), 0);
    }

    #[test]
    fn a_thread_killed_while_it_waits_leaves_nothing() {
        let map = memory();
        let first = Outstanding::new(Arc::clone(&map), 0);
        // SAFETY: one slice at a time in these tests.
        unsafe { first.buffer(0) };
        assert!(Outstanding::new(map, 0).left().is_empty());
    }

    #[test]
    fn long_requests_are_kept_as_far_as_they_matter_and_places_run_out() {
        let outstanding = Outstanding::new(memory(), 0);
        assert!(outstanding.keep(0, &request(1, 4000), 1));
        let left = outstanding.left();
        assert_eq!((left.len(), length_of(&left[0])), (1, PLACE_BYTES));
        for unique in 2..=PLACES as u64 {
            assert!(outstanding.keep(0, &request(unique, 48), unique));
        }
        assert!(!outstanding.keep(0, &request(1 << 40, 48), 1 << 40));
        outstanding.answered(5);
        assert!(outstanding.keep(0, &request(1 << 40, 48), 1 << 40));
    }
}
