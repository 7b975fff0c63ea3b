//! A piece of an object in memory: filled by one flight, read by many doors while it fills.

use crate::budget::Buffer;
use headrace_cache::BLOCK;
use headrace_sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::cell::UnsafeCell;

/// The most a segment holds; none reaches over a multiple of it. Two blocks, because the cache file's pages come into being
/// by writing a segment: the kernel gives a write of 2 MiB one huge page, and a program that maps the file later touches it
/// with one fault instead of hundreds (measured: 170 GB/s instead of 40 for a byte a page, and a sixth more for a plain read).
pub(crate) const SEGMENT: u64 = 2 * BLOCK;

/// Smaller segments are read back from the page cache in no time.
const SMALL: usize = SEGMENT as usize / 8;

/// Up to 2 MiB of an object, starting at `base`. Bytes below `filled` never change.
pub struct Segment {
    base: u64,
    length: usize,
    filled: AtomicUsize,
    served: AtomicUsize,
    /// Set once by whoever takes the segment out of memory, so that it happens once.
    released: AtomicBool,
    /// The cache could not take it; it stays for readers while memory lasts.
    refused: AtomicBool,
    /// The cache file has it: what is in memory is a copy.
    kept: AtomicBool,
    /// A reader's stream brought it, not a warm-up.
    for_reader: bool,
    buffer: UnsafeCell<Buffer>,
}

// SAFETY: the buffer has one writer (the flight, through `tail`, which is unsafe to call) that only touches
// bytes at and above `filled`; readers only touch bytes below it. `filled` is published with Release and read with Acquire.
unsafe impl Sync for Segment {}
// SAFETY: Buffer is a plain boxed slice with an accounting handle.
unsafe impl Send for Segment {}

impl Segment {
    pub(crate) fn new(base: u64, length: usize, buffer: Buffer, for_reader: bool) -> Self {
        assert!(buffer.capacity() >= length, "a segment's buffer holds its bytes");
        Self {
            base,
            length,
            filled: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            released: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            for_reader,
            buffer: UnsafeCell::new(buffer),
        }
    }

    /// Offset of the first byte in the object.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes the segment will hold when full.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes that have arrived.
    pub fn filled(&self) -> usize {
        self.filled.load(Acquire)
    }

    /// The bytes that have arrived.
    pub fn bytes(&self) -> &[u8] {
        let filled = self.filled();
        // SAFETY: see the Sync impl; bytes below `filled` are initialised and never change.
        unsafe { std::slice::from_raw_parts((*self.buffer.get()).as_ptr(), filled) }
    }

    /// Room for the bytes to come.
    ///
    /// # Safety
    /// Only the flight that fills the segment may call this, from one thread at a time, and it must drop the slice before `advance`.
    #[allow(clippy::mut_from_ref, reason = "the writer's half of a split buffer; see the Sync impl")]
    pub(crate) unsafe fn tail(&self) -> &mut [u8] {
        let filled = self.filled.load(Relaxed);
        // SAFETY: the caller is the only writer, and readers stay below `filled`.
        unsafe {
            let start = (*self.buffer.get()).as_mut_ptr().add(filled);
            std::slice::from_raw_parts_mut(start, self.length - filled)
        }
    }

    pub(crate) fn advance(&self, count: usize) {
        let filled = self.filled.load(Relaxed) + count;
        assert!(filled <= self.length, "a segment is never filled past its end");
        self.filled.store(filled, Release);
    }

    /// Notes that a door took `count` bytes.
    pub(crate) fn serve(&self, count: usize) {
        self.served.fetch_add(count, Relaxed);
    }

    /// True when readers took as many bytes as arrived: dropping it costs no reader another request.
    pub(crate) fn consumed(&self) -> bool {
        self.served.load(Relaxed) >= self.filled()
    }

    /// Notes whether the cache refused it when it was last offered; returns what was noted before.
    pub(crate) fn set_refused(&self, refused: bool) -> bool {
        self.refused.swap(refused, Relaxed)
    }

    /// True when the cache could not take it: it no longer is on its way to the disk.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Notes that the cache file has it.
    pub(crate) fn set_kept(&self) {
        self.kept.store(true, Release);
    }

    /// True when the cache file was given its bytes. It may have dropped them again since.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Acquire)
    }

    /// True when a copy is worth its memory once the cache file has the bytes: a reader is on its way to it, and
    /// reading it back would cost more than looking it up.
    pub(crate) fn worth_holding(&self) -> bool {
        self.for_reader && self.length > SMALL
    }

    /// True for the first caller only.
    pub(crate) fn release_once(&self) -> bool {
        !self.released.swap(true, AcqRel)
    }
}
