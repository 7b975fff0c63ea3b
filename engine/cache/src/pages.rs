//! Pages for files that were written past the page cache: made when the file is whole and nobody is in a hurry, so that
//! the next reader finds it in memory as if it had been written the usual way.
//!
//! The disk does the copying, straight into huge pages where the file system has them: a mapping that wishes for them
//! makes the kernel read two megabytes for one touch, and a program that maps the file later touches it with one fault
//! instead of hundreds. One thread, a step at a time: between steps it gives way to writers that have fallen behind.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use headrace_sync::{Condvar, Mutex};

use crate::counters::Counters;
use crate::shared::Shared;
use crate::{BLOCK, CacheFile};

/// Bytes made at once: a huge page.
const STEP: u64 = 2 * BLOCK;
/// How long after a writer was in a hurry the disk and the memory are left to it.
const QUIET: Duration = Duration::from_millis(300);
/// Files that wait; beyond it their first reader makes the pages.
const WAITING: usize = 256;

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<CacheFile>>,
    /// Files announced, waiting or being read: whoever sees a file confirmed sees it here.
    pending: usize,
    stopped: bool,
}

/// Files whose pages are still to be made.
#[derive(Default)]
pub struct Pages {
    state: Mutex<State>,
    changed: Condvar,
}

impl Pages {
    /// A file will follow.
    fn announce(&self) {
        self.state.lock().pending += 1;
    }

    /// The file announced; `None` when it is gone meanwhile.
    fn add(&self, file: Option<Arc<CacheFile>>) {
        let mut state = self.state.lock();
        let room = !state.stopped && state.waiting.len() < WAITING;
        match file.filter(|_| room) {
            Some(file) => state.waiting.push_back(file),
            None => state.pending -= 1,
        }
        drop(state);
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        drop(left); // not under the lock: a file that goes takes others
    }

    /// Files whose pages are still to be made.
    pub fn pending(&self) -> usize {
        self.state.lock().pending
    }

    fn next(&self) -> Option<Arc<CacheFile>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(file) = state.waiting.pop_front() {
                return Some(file);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits for `pause`; false when stopped.
    fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stopped {
            self.changed.wait_for(&mut state, pause);
        }
        !state.stopped
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}

/// The thread.
pub fn serve(shared: &Arc<Shared>) {
    while let Some(file) = shared.pages.next() {
        if let Err(error) = file.make_pages() {
            log::debug!("cached object {}: its pages were not made: {error}", file.id());
        }
        drop(file);
        shared.pages.state.lock().pending -= 1;
    }
}

impl CacheFile {
    fn make_pages(&self) -> io::Result<()> {
        for start in (0..self.size()).step_by(STEP as usize) {
            let blocks = (start / BLOCK) as usize..((start + STEP).min(self.size()).div_ceil(BLOCK)) as usize;
            if !blocks.clone().any(|block| self.presence.is_cold(block)) {
                continue;
            }
            while self.is_hurried() {
                if !self.shared.pages.pause(QUIET) {
                    return Ok(());
                }
            }
            if self.shared.pages.is_stopped() || self.is_evicted() {
                return Ok(());
            }
            let Some(data) = self.whole_data()? else { return Ok(()) };
            let length = STEP.min(self.size() - start);
            populate(&data, start, length as usize)?;
            blocks.for_each(|block| self.presence.set_cold(block, false));
            Counters::add(&self.shared.counters.read_back_bytes, length);
        }
        Ok(())
    }

    /// A descriptor of its own of a file that is whole: reading takes long, and the lock is needed for closing. `None` when it
    /// is not, or no longer: an eviction may have begun it anew, and what is being written is left alone.
    fn whole_data(&self) -> io::Result<Option<File>> {
        let disk = self.disk.read();
        disk.as_ref().filter(|_| self.is_durable()).map(|disk| disk.data.try_clone()).transpose()
    }

    fn is_hurried(&self) -> bool {
        self.disk.read().as_ref().is_some_and(|disk| disk.directory.ways.hurried(QUIET))
    }

    /// True, and announced, when the file was written past the page cache and is to be read back. Then
    /// [`CacheFile::read_back`] must follow.
    pub(crate) fn announce_read_back(&self) -> bool {
        let wanted = self.size() <= self.shared.page_bytes && (0..self.presence.block_count()).any(|block| self.presence.is_cold(block));
        if wanted {
            self.shared.pages.announce();
        }
        wanted
    }

    /// Has the pages made. No lock may be held.
    pub(crate) fn read_back(&self) {
        self.shared.pages.add(self.shared.live(&self.id()));
    }
}

/// Reads part of a file into the page cache, in huge pages if there are any.
fn populate(file: &File, start: u64, length: usize) -> io::Result<()> {
    let length = length.next_multiple_of(4096);
    // SAFETY: asks for new memory at no particular place, readable only.
    let view =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), start as libc::off_t) };
    if view == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping was just made with this length. The first is a wish; the second (Linux 5.14) touches every page
    // in the kernel, where a failing disk is an error and not a signal.
    let result = unsafe {
        libc::madvise(view, length, libc::MADV_HUGEPAGE);
        libc::madvise(view, length, libc::MADV_POPULATE_READ)
    };
    let outcome = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: as above, and nobody else knows of it.
    unsafe { libc::munmap(view, length) };
    outcome
}
