//! Segments on their way to the disk.
//!
//! The queue is bounded by the pool: every segment in it holds a buffer of the budget. When the pool runs
//! dry and the disk lags, segments are given up here: first those that readers have already taken.

use crate::budget::Relief;
use crate::counters::FetchCounters;
use crate::held::Held;
use crate::object::Object;
use crate::segment::{SEGMENT, Segment};
use headrace_cache::{Haste, Kept};
use headrace_sync::{Condvar, Instant, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

struct Entry {
    object: Arc<Object>,
    segment: Arc<Segment>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    /// Segments the cache could not take and no reader has taken yet: kept for them while memory lasts.
    limbo: VecDeque<Entry>,
    writing: usize,
    closed: bool,
    /// When the pool was last dry because of the disk.
    lagged: Option<Instant>,
    /// When more than a few segments last waited, and when more than the backlog did.
    behind: Option<Instant>,
    far_behind: Option<Instant>,
}

impl State {
    fn lagging(&self) -> bool {
        self.lagged.is_some_and(|at| self.queue.len() > CAUGHT_UP || at.elapsed() < REMEMBERED)
    }

    /// For a segment of an object that fits into the backlog, or does not.
    fn haste(&self, fits: bool) -> Haste {
        let lately = |when: Option<Instant>| when.is_some_and(|at| at.elapsed() < HURRIED);
        if lately(self.far_behind) {
            Haste::FarBehind
        } else if !fits && lately(self.behind) {
            Haste::Behind
        } else {
            Haste::None
        }
    }
}

pub(crate) struct Writer {
    state: Mutex<State>,
    changed: Condvar,
    counters: Arc<FetchCounters>,
    held: Held,
    /// A file that fits into this may wait until so much does.
    backlog_bytes: u64,
}

/// The disk has caught up when no more than this waits for it.
const CAUGHT_UP: usize = 4;
/// How long a disk that lagged is taken for slow after that: readers must not pay for finding it out again and again.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long a writer that fell behind stays in a hurry: what relieved it is the hurry.
const HURRIED: Duration = Duration::from_secs(1);
/// How many segments to look at for one that readers have taken.
const SCAN: usize = 64;

impl Writer {
    /// A writer that may let `backlog_bytes` wait before it hurries with files that fit into them: the memory is there to take up
    /// what comes in bursts, and they get their pages by being written.
    pub(crate) fn new(counters: Arc<FetchCounters>, backlog_bytes: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), counters, held: Held::default(), backlog_bytes })
    }

    pub(crate) fn push(&self, object: Arc<Object>, segment: Arc<Segment>) {
        let mut state = self.state.lock();
        if state.closed {
            // The writers may be gone, and an entry that stays would keep its object, and so all of us, for ever.
            drop(state);
            return object.release_segment(&segment, false);
        }
        state.queue.push_back(Entry { object, segment });
        let now = Instant::now();
        if state.queue.len() > CAUGHT_UP {
            state.behind = Some(now);
        }
        if state.queue.len() as u64 * SEGMENT > self.backlog_bytes {
            state.far_behind = Some(now);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Writes until closed and empty.
    pub(crate) fn run(&self) {
        while let Some((entry, haste)) = self.next() {
            self.write(entry, haste);
            let mut state = self.state.lock();
            state.writing -= 1;
            if !state.lagging() {
                state.lagged = None;
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<(Entry, Haste)> {
        let mut state = self.state.lock();
        loop {
            if let Some(entry) = state.queue.pop_front() {
                state.writing += 1;
                let haste = state.haste(entry.object.spec().size <= self.backlog_bytes);
                return Some((entry, haste));
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn write(&self, Entry { object, segment }: Entry, haste: Haste) {
        let length = object.keepable(&segment);
        let kept = match (object.cache_file(), length) {
            (_, 0) => false,
            (Some(file), _) => matches!(file.write_with(segment.base(), &segment.bytes()[..length], haste), Kept::Yes),
            (None, _) => false,
        };
        let refused_before = segment.set_refused(!kept);
        if !kept && !refused_before {
            self.counters.unkept_bytes.fetch_add(segment.filled() as u64, Relaxed);
        }
        // A partly filled last chunk is not kept, but a reader may still want its bytes: `uncovered` fetches them again.
        let hold = kept && length == segment.filled() && segment.worth_holding() && self.held.keep(&object, &segment);
        if !hold && (kept || length == 0 || segment.consumed() || !self.set_aside(&object, &segment)) {
            object.release_segment(&segment, kept);
        }
        if kept && refused_before {
            self.offer_again(usize::MAX);
        }
    }

    /// Keeps a refused segment for its readers; false when the time for that is over.
    fn set_aside(&self, object: &Arc<Object>, segment: &Arc<Segment>) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            state.limbo.push_back(Entry { object: Arc::clone(object), segment: Arc::clone(segment) });
        }
        !state.closed
    }

    /// Offers up to `count` segments that the cache refused to it again: there may be room now.
    pub(crate) fn offer_again(&self, count: usize) {
        let mut state = self.state.lock();
        let count = count.min(state.limbo.len());
        let State { queue, limbo, .. } = &mut *state;
        queue.extend(limbo.drain(..count));
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until nothing is queued or being written, or `patience` is over. True when drained.
    pub(crate) fn drain(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while !state.queue.is_empty() || state.writing > 0 {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// True when nothing waits for the disk.
    pub(crate) fn idle(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_empty() && state.writing == 0 && !state.lagging()
    }

    /// Gives up copies that no reader came for.
    pub(crate) fn expire_held(&self) {
        self.held.expire();
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let limbo = std::mem::take(&mut state.limbo);
        drop(state);
        self.changed.notify_all();
        self.held.close();
        for Entry { object, segment } in limbo {
            object.release_segment(&segment, false);
        }
    }

    fn give_up(&self, any: bool) -> Option<Entry> {
        let mut state = self.state.lock();
        let taken = |e: &Entry| e.segment.consumed();
        if let Some(at) = state.limbo.iter().take(SCAN).position(taken) {
            return state.limbo.remove(at);
        }
        if let Some(at) = state.queue.iter().take(SCAN).position(taken) {
            return state.queue.remove(at);
        }
        if any { state.limbo.pop_front().or_else(|| state.queue.pop_front()) } else { None }
    }
}

impl Relief for Writer {
    fn drop_copy(&self) -> bool {
        self.held.drop_one()
    }

    fn drop_one(&self, any: bool) -> bool {
        let Some(Entry { object, segment }) = self.give_up(any) else { return false };
        let bytes = segment.filled() as u64;
        self.counters.unkept_bytes.fetch_add(bytes, Relaxed);
        if !segment.consumed() {
            self.counters.dropped_bytes.fetch_add(bytes, Relaxed);
        }
        object.note_unkept();
        object.release_segment(&segment, false);
        true
    }

    fn lagging(&self) -> bool {
        let state = self.state.lock();
        state.lagging() || !state.limbo.is_empty()
    }

    fn note_lag(&self) {
        let mut state = self.state.lock();
        // With nothing in the queue it is not the disk that readers wait for: the cache has no room.
        if !state.queue.is_empty() && state.lagged.replace(Instant::now()).is_none() {
            drop(state);
            log::warn!("the cache disk does not keep up with the network: what it can't take in time is not kept");
        }
    }
}
