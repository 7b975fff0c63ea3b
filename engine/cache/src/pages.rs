//! Pages for files that were written past the page cache, so that the next reader finds them in memory as if they had been
//! written the usual way.
//!
//! The disk does the copying, straight into huge pages where the file system has them: a mapping that wishes for them
//! makes the kernel read two megabytes for one touch, and a program that maps the file later touches it with one fault
//! instead of hundreds. One thread, a step at a time. Steps are read back as they become whole, while the file is still being
//! written, unless writers are far behind; what was left out follows when the file is whole and they have caught up. Then
//! each page is touched too: on a virtual machine the first touch of what the disk has filled may cost a trip to the host.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use headrace_sync::{Condvar, Mutex};

use crate::counters::Counters;
use crate::presence::Warmth;
use crate::shared::Shared;
use crate::{BLOCK, CacheFile, ObjectId};

/// Bytes made at once: a huge page.
const STEP: u64 = 2 * BLOCK;
/// How long after a writer was in a hurry the disk and the memory are left to it.
const QUIET: Duration = Duration::from_millis(300);
/// Files that wait; beyond it their first reader makes the pages.
const WAITING: usize = 256;
/// Steps that wait; beyond it they wait for the whole file.
const STEPS: usize = 64;
const PAGE: u64 = 4096;

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<CacheFile>>,
    /// Steps of files that are being written, by their first byte.
    steps: VecDeque<(ObjectId, u64)>,
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

    fn add_step(&self, id: ObjectId, start: u64) {
        let mut state = self.state.lock();
        if state.stopped || state.steps.len() >= STEPS {
            return;
        }
        state.steps.push_back((id, start));
        drop(state);
        self.changed.notify_all();
    }

    fn take_step(&self) -> Option<(ObjectId, u64)> {
        self.state.lock().steps.pop_front()
    }

    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.steps.clear();
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        drop(left); // not under the lock: a file that goes takes others
    }

    /// Files whose pages are still to be made.
    pub fn pending(&self) -> usize {
        self.state.lock().pending
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if !state.steps.is_empty() {
                return Some(Work::Steps);
            }
            if let Some(file) = state.waiting.pop_front() {
                return Some(Work::File(file));
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

enum Work {
    Steps,
    File(Arc<CacheFile>),
}

/// The thread.
pub fn serve(shared: &Arc<Shared>) {
    while let Some(work) = shared.pages.next() {
        let Work::File(file) = work else {
            serve_steps(shared);
            continue;
        };
        if let Err(error) = file.make_pages() {
            log::debug!("cached object {}: its pages were not made: {error}", file.id());
        }
        drop(file);
        shared.pages.state.lock().pending -= 1;
    }
}

/// What files that are being written wait for.
fn serve_steps(shared: &Shared) {
    while let Some((id, start)) = shared.pages.take_step() {
        let made = shared.live(&id).map_or(Ok(()), |file| file.read_step_back(start));
        if let Err(error) = made {
            log::debug!("cached object {id}: pages at {start} were not made: {error}");
        }
    }
}

impl CacheFile {
    fn make_pages(&self) -> io::Result<()> {
        for start in (0..self.size()).step_by(STEP as usize) {
            if self.blocks_of(start).all(|block| self.presence.warmth(block) == Warmth::Warm) {
                continue;
            }
            while self.is_hurried() {
                if !self.shared.pages.pause(QUIET) {
                    return Ok(());
                }
            }
            serve_steps(&self.shared);
            if self.shared.pages.is_stopped() || self.is_evicted() {
                return Ok(());
            }
            let Some(data) = self.whole_data()? else { return Ok(()) };
            self.read_back_from(&data, start)?;
            touch_pages(&data, start..(start + STEP).min(self.size()));
            self.blocks_of(start).for_each(|block| self.presence.set_warmth(block, Warmth::Warm));
        }
        Ok(())
    }

    fn blocks_of(&self, start: u64) -> Range<usize> {
        (start / BLOCK) as usize..((start + STEP).min(self.size()).div_ceil(BLOCK)) as usize
    }

    /// Reads a step back unless it is in memory.
    fn read_back_from(&self, data: &File, start: u64) -> io::Result<()> {
        if self.blocks_of(start).any(|block| self.presence.warmth(block) == Warmth::Cold) {
            let length = STEP.min(self.size() - start);
            populate(data, start, length as usize)?;
            self.blocks_of(start).for_each(|block| self.presence.set_warmth(block, Warmth::ReadBack));
            Counters::add(&self.shared.counters.read_back_bytes, length);
        }
        Ok(())
    }

    /// Announces the steps of a range just written that are whole now.
    pub(crate) fn read_back_steps(&self, written: Range<u64>) {
        if self.size() > self.shared.page_bytes || !reads_steps_exactly() {
            return;
        }
        for start in (written.start / STEP * STEP..written.end).step_by(STEP as usize) {
            let cold = |block| self.presence.warmth(block) == Warmth::Cold;
            if self.is_whole_step(start) && self.blocks_of(start).any(cold) {
                self.shared.pages.add_step(self.id(), start);
            }
        }
    }

    /// The last piece of a file is not a step: pages are wanted that belong to nothing else.
    fn is_whole_step(&self, start: u64) -> bool {
        start + STEP <= self.size() && self.is_present(start..start + STEP)
    }

    fn read_step_back(&self, start: u64) -> io::Result<()> {
        if self.is_evicted() || self.is_hurried() || !self.is_whole_step(start) {
            return Ok(());
        }
        let data = self.disk.read().as_ref().map(|disk| disk.data.try_clone()).transpose()?;
        data.map_or(Ok(()), |data| self.read_back_from(&data, start))
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
        let wanted = self.size() <= self.shared.page_bytes && self.has_pages_to_make();
        if wanted {
            self.shared.pages.announce();
        }
        wanted
    }

    fn has_pages_to_make(&self) -> bool {
        (0..self.presence.block_count()).any(|block| self.presence.warmth(block) != Warmth::Warm)
    }

    /// Has the pages made. No lock may be held.
    pub(crate) fn read_back(&self) {
        self.shared.pages.add(self.shared.live(&self.id()));
    }
}

/// Reads a step of a file, and nothing else, into the page cache, in huge pages if there are any.
fn populate(file: &File, start: u64, length: usize) -> io::Result<()> {
    let length = length.next_multiple_of(PAGE as usize);
    // SAFETY: asks for new memory at no particular place, readable only.
    let view =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), start as libc::off_t) };
    if view == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping was just made with this length. The first two are wishes; the last (Linux 5.14) touches every page
    // in the kernel, where a failing disk is an error and not a signal.
    let result = unsafe {
        if reads_steps_exactly() {
            libc::madvise(view, length, libc::MADV_RANDOM); // or it would read the next step as well
        }
        libc::madvise(view, length, libc::MADV_HUGEPAGE);
        libc::madvise(view, length, libc::MADV_POPULATE_READ)
    };
    let outcome = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: as above, and nobody else knows of it.
    unsafe { libc::munmap(view, length) };
    outcome
}

/// Whether [`populate`] reads what it is asked for at once and no more: Linux has done so since 5.18, where a huge page is a
/// step. It reads page by page where it may read nothing else and has none.
fn reads_steps_exactly() -> bool {
    static DOES: LazyLock<bool> = LazyLock::new(|| {
        let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
        let is_step = huge.is_ok_and(|size| size.trim().parse() == Ok(STEP));
        is_step && kernel_release().is_some_and(|release| release >= (5, 18))
    });
    *DOES
}

fn kernel_release() -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Reads a byte of each page that is in memory.
fn touch_pages(data: &File, range: Range<u64>) {
    let mut byte = [0_u8];
    for at in range.step_by(PAGE as usize) {
        let vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: the vector describes `byte`, and the descriptor is open. What is not in memory is left alone.
        unsafe { libc::preadv2(data.as_raw_fd(), &vector, 1, at as libc::off_t, libc::RWF_NOWAIT) };
    }
}
