//! Memory as a budget: every byte on its way is in a buffer of this pool.
//!
//! Segment-sized buffers are kept and used again: mapping and faulting in fresh memory for each would cost more
//! than copying the bytes. A flight that finds no buffer waits. The last quarter is for flights that a reader
//! waits for, so that prefetch can't starve them.

use crate::memory::Memory;
use crate::segment::SEGMENT;
use headrace_sync::{Condvar, Instant, Mutex};
use std::sync::{Arc, Weak};
use std::time::Duration;

const SEGMENT_BYTES: usize = SEGMENT as usize;

/// A buffer of the pool; its bytes go back to the budget when dropped.
pub(crate) struct Buffer {
    memory: Option<Memory>,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(crate) fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::len)
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.memory.as_ref().map_or(std::ptr::NonNull::dangling().as_ptr(), Memory::as_ptr)
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut().map_or(std::ptr::NonNull::dangling().as_ptr(), Memory::as_mut_ptr)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give_back(memory);
        }
    }
}

/// Finds a buffer to give up when the pool is dry. The writer implements it: it knows what waits for the disk.
pub(crate) trait Relief: Send + Sync {
    /// Drops one segment that the cache file has; nothing is lost. True if one was dropped.
    fn drop_copy(&self) -> bool;
    /// Drops one segment that waits for the disk; `any` allows one that no reader has taken yet. True if one was dropped.
    fn drop_one(&self, any: bool) -> bool;
    /// True while the disk is known not to keep up.
    fn lagging(&self) -> bool;
    /// The pool is dry because of the disk.
    fn note_lag(&self);
}

/// What the pool holds, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStatus {
    /// The budget.
    pub limit_bytes: u64,
    /// In use now.
    pub used_bytes: u64,
    /// The most that was ever in use.
    pub peak_bytes: u64,
}

struct State {
    used: usize,
    peak: usize,
    free: Vec<Memory>,
}

pub(crate) struct Pool {
    limit: usize,
    reserve: usize,
    state: Mutex<State>,
    freed: Condvar,
    relief: Mutex<Option<Weak<dyn Relief>>>,
}

/// How long a reader's flight waits for the disk before the disk counts as lagging. A disk that keeps up on the whole,
/// on a machine that is busy with something else for a moment, must not cost bytes that are then fetched twice.
const LAG: Duration = Duration::from_secs(1);
/// How long it waits, on a disk that lags, before segments go that no reader has taken yet.
const PATIENCE: Duration = Duration::from_millis(250);
/// A prefetch that finds no buffer for this long gives up: it holds a connection that a reader may be waiting for.
const PREFETCH_PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

impl Pool {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX).max(8 * SEGMENT_BYTES);
        Arc::new(Self {
            limit,
            reserve: limit / 4,
            state: Mutex::new(State { used: 0, peak: 0, free: Vec::new() }),
            freed: Condvar::new(),
            relief: Mutex::new(None),
        })
    }

    pub(crate) fn set_relief(&self, relief: Weak<dyn Relief>) {
        *self.relief.lock() = Some(relief);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let state = self.state.lock();
        PoolStatus { limit_bytes: self.limit as u64, used_bytes: state.used as u64, peak_bytes: state.peak as u64 }
    }

    /// A buffer of at least `bytes` (at most a segment). Waits; `urgent` is asked again on every turn, because a
    /// reader may join a prefetch while it waits. `None` when `stop` says so, and for a prefetch that has waited for long.
    pub(crate) fn acquire(self: &Arc<Self>, bytes: usize, urgent: &dyn Fn() -> bool, stop: &dyn Fn() -> bool) -> Option<Buffer> {
        assert!(bytes <= SEGMENT_BYTES, "a buffer is at most one segment");
        let begun = Instant::now();
        loop {
            let demand = urgent();
            if let Some(buffer) = self.take(bytes, demand) {
                return Some(buffer);
            }
            if stop() || (!demand && begun.elapsed() > PREFETCH_PATIENCE) {
                return None;
            }
            if self.relieve(demand, begun.elapsed()) {
                continue;
            }
            let mut state = self.state.lock();
            if !self.fits(&state, bytes, demand) {
                self.freed.wait_for(&mut state, POLL);
            }
        }
    }

    /// A buffer if one is to be had at once, for answers read back from the disk.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize, urgent: bool) -> Option<Buffer> {
        let mut state = self.state.lock();
        if !self.fits(&state, bytes, urgent) {
            return None;
        }
        let size = size_class(bytes);
        let ready = if size == SEGMENT_BYTES { state.free.pop() } else { None };
        state.used += size;
        state.peak = state.peak.max(state.used);
        // Together, used and free buffers stay within the budget.
        while !state.free.is_empty() && state.used + state.free.len() * SEGMENT_BYTES > self.limit {
            state.free.pop();
        }
        drop(state);
        let memory = ready.unwrap_or_else(|| Memory::new(size));
        Some(Buffer { memory: Some(memory), pool: Arc::clone(self) })
    }

    fn fits(&self, state: &State, bytes: usize, urgent: bool) -> bool {
        let limit = if urgent { self.limit } else { self.limit - self.reserve };
        state.used + size_class(bytes) <= limit
    }

    fn relieve(&self, demand: bool, waited: Duration) -> bool {
        let Some(relief) = self.relief.lock().as_ref().and_then(Weak::upgrade) else { return false };
        if relief.drop_copy() {
            return true;
        }
        if relief.lagging() || (demand && waited > LAG) {
            relief.note_lag();
            return relief.drop_one(demand && waited > PATIENCE);
        }
        false
    }

    fn give_back(&self, memory: Memory) {
        let mut state = self.state.lock();
        state.used -= memory.len();
        // Together, used and free buffers stay within the budget.
        if memory.len() == SEGMENT_BYTES && state.used + (state.free.len() + 1) * SEGMENT_BYTES <= self.limit {
            state.free.push(memory);
        }
        drop(state);
        self.freed.notify_all();
    }
}

/// Small files need small buffers; larger pieces take a whole segment's, which can be used again.
fn size_class(bytes: usize) -> usize {
    const SMALL: usize = 256 * 1024;
    if bytes <= SMALL { bytes.next_multiple_of(16 * 1024) } else { SEGMENT_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[derive(Default)]
    struct Disk {
        lags: AtomicUsize,
    }

    impl Relief for Disk {
        fn drop_copy(&self) -> bool {
            false
        }

        fn drop_one(&self, _any: bool) -> bool {
            false
        }

        fn lagging(&self) -> bool {
            self.lags.load(Relaxed) > 0
        }

        fn note_lag(&self) {
            self.lags.fetch_add(1, Relaxed);
        }
    }

    fn dry(urgent: bool) -> (Arc<Pool>, Vec<Buffer>) {
        let pool = Pool::new(0);
        let buffers = std::iter::from_fn(|| pool.take(SEGMENT_BYTES, urgent)).collect();
        (pool, buffers)
    }

    #[test]
    fn a_prefetch_gives_up_waiting_for_memory_and_a_reader_has_a_reserve() {
        let (pool, held) = dry(false);
        assert!(!held.is_empty());
        assert!(pool.acquire(SEGMENT_BYTES, &|| false, &|| false).is_none());
        assert!(pool.acquire(SEGMENT_BYTES, &|| true, &|| false).is_some());
    }

    #[test]
    fn a_busy_machine_is_not_a_slow_disk() {
        let (pool, held) = dry(true);
        let disk = Arc::new(Disk::default());
        let relief: Weak<dyn Relief> = Arc::downgrade(&(Arc::clone(&disk) as Arc<dyn Relief>));
        pool.set_relief(relief);
        // The disk keeps up: after a few turns of waiting a buffer is free again.
        let (turns, held) = (Cell::new(0), RefCell::new(held));
        let waiting = || {
            turns.set(turns.get() + 1);
            if turns.get() == 6 {
                held.borrow_mut().pop();
            }
            false
        };
        assert!(pool.acquire(SEGMENT_BYTES, &|| true, &waiting).is_some());
        assert_eq!(disk.lags.load(Relaxed), 0);
    }
}
