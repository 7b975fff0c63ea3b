//! Writing past the page cache (`O_DIRECT`), for streams that come faster than pages can be made for them.
//!
//! A write through the page cache leaves pages that serve the next read: the better way as long as the processors have
//! time for it. Making a page and copying into it costs several times what receiving the bytes did, more on virtual
//! machines that must first ask their host for memory. A writer that falls behind takes the short way instead: the disk
//! fetches the bytes from the buffer they came in, and fills the pages too, when they are read back (`pages`).
//!
//! On a disk that is much slower than memory the short way is the longer one. So both are timed, and a writer in a hurry
//! takes pages after all where the disk lately needed [`WORTH`] times as long for a byte; the other way is tried again
//! from time to time.
//!
//! Pages and direct writes of one file agree: the kernel throws pages of a range away before and after a direct write to it, and
//! the range becomes present after that. To leave it little to throw away, nothing is read from an incomplete file but ranges that
//! are present ([`expect_pieces`]). And a file that was complete once, whose pages may be mapped anywhere, is never written this way
//! again. See docs/decisions/0023.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use headrace_sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use headrace_sync::{Instant, Mutex};

use crate::BLOCK;

/// Whether the writer keeps up with what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// It does: the page cache gets the bytes too.
    None,
    /// It does not: the disk gets them the quickest way there is, and fills the pages meanwhile.
    Behind,
    /// By far: as before, and the disk is left to the writers alone.
    FarBehind,
}

/// Every file system takes direct writes of this alignment.
const ALIGNMENT: u64 = 4096;

/// No page belongs to a direct write in part: whoever reads the rest of it would read what is being written as well.
fn alignment() -> u64 {
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(page).unwrap_or(0).max(ALIGNMENT)
}

/// Shorter ones are dominated by what a write costs anyway.
const LEAST: u64 = BLOCK / 4;
/// Waiting for the disk costs no processor, making pages costs nothing else: so the former may take longer by this much.
const WORTH: u64 = 4;
/// Among this many hasty writes one goes the way that seemed longer, to see whether it still is.
const TRY_AGAIN: u32 = 64;

/// How long a directory's disk lately took for a byte, by both ways.
#[derive(Default)]
pub struct Ways {
    /// Nanoseconds for a block, smoothed; 0 while unknown.
    direct: AtomicU64,
    pages: AtomicU64,
    turn: AtomicU32,
    refused: AtomicBool,
    /// When somebody was last far behind.
    hurried: Mutex<Option<Instant>>,
}

impl Ways {
    /// Writes `bytes` at `offset`; true when they went past the page cache.
    pub fn write(&self, data: &File, direct: &mut Option<File>, bytes: &[u8], offset: u64, haste: Haste) -> io::Result<bool> {
        if haste == Haste::FarBehind {
            *self.hurried.lock() = Some(Instant::now());
        }
        if haste == Haste::None || !fit(bytes, offset) || !self.prefers_direct() {
            return self.timed(&self.pages, bytes, || data.write_all_at(bytes, offset)).map(|()| false);
        }
        if direct.is_none() {
            *direct = self.open(data);
        }
        let Some(file) = direct else {
            return data.write_all_at(bytes, offset).map(|()| false);
        };
        match self.timed(&self.direct, bytes, || file.write_all_at(bytes, offset)) {
            Ok(()) => Ok(true),
            // What the file system will not take this way, it takes the other way.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.refused.store(true, Relaxed);
                data.write_all_at(bytes, offset).map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    /// True when a writer of this directory was far behind within the last `age`.
    pub fn hurried(&self, age: Duration) -> bool {
        self.hurried.lock().is_some_and(|at| at.elapsed() < age)
    }

    fn prefers_direct(&self) -> bool {
        if self.refused.load(Relaxed) {
            return false;
        }
        let (direct, pages) = (self.direct.load(Relaxed), self.pages.load(Relaxed));
        let shorter = direct == 0 || pages == 0 || direct <= WORTH * pages;
        let other = self.turn.fetch_add(1, Relaxed) % TRY_AGAIN == TRY_AGAIN - 1;
        shorter != other
    }

    fn timed<T>(&self, way: &AtomicU64, bytes: &[u8], write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let began = Instant::now();
        let result = write()?;
        if bytes.len() as u64 >= LEAST {
            let now = began.elapsed().as_nanos() as u64 * BLOCK / bytes.len() as u64;
            let before = way.load(Relaxed);
            way.store(if before == 0 { now } else { before - before / 4 + now / 4 }.max(1), Relaxed);
        }
        Ok(result)
    }

    fn open(&self, data: &File) -> Option<File> {
        let path = format!("/proc/self/fd/{}", data.as_raw_fd());
        match OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                log::info!("the cache's file system takes no direct writes ({error}); they go through the page cache");
                self.refused.store(true, Relaxed);
                None
            }
        }
    }
}

/// Tells the kernel whether to read more of a file than it is asked for.
pub fn expect_pieces(data: &File, pieces: bool) {
    let advice = if pieces { libc::POSIX_FADV_RANDOM } else { libc::POSIX_FADV_NORMAL };
    // SAFETY: takes a descriptor, open for the call, and numbers.
    let result = unsafe { libc::posix_fadvise(data.as_raw_fd(), 0, 0, advice) };
    debug_assert_eq!(result, 0, "a plain file takes advice");
}

fn fit(bytes: &[u8], offset: u64) -> bool {
    let alignment = alignment();
    let aligned = |number: u64| number.is_multiple_of(alignment);
    bytes.len() as u64 >= LEAST && aligned(offset) && aligned(bytes.len() as u64) && aligned(bytes.as_ptr() as u64)
}
