//! Segments that the cache file has by now and that readers are about to ask for.
//!
//! Prefetch is ahead of the reader by a window, and the disk has a segment long before the reader comes. Giving the buffer
//! up then would mean to read the bytes back: a copy more through the page cache, or a read from the disk where they were
//! written past it. So a segment that a reader's stream brought stays for a moment. It is the first thing to go when
//! memory is wanted: nothing is lost with it.

use crate::object::Object;
use crate::segment::Segment;
use headrace_sync::{Instant, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A reader that takes longer than this reads from the cache file.
const MOMENT: Duration = Duration::from_secs(2);
/// How many to look at for one that a reader has taken already.
const SCAN: usize = 64;

struct Entry {
    object: Arc<Object>,
    segment: Arc<Segment>,
    since: Instant,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Held {
    state: Mutex<State>,
}

impl Held {
    /// Keeps a segment of which the cache file has every byte; false when it is too late for that.
    pub(crate) fn keep(&self, object: &Arc<Object>, segment: &Arc<Segment>) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        state.entries.push_back(Entry { object: Arc::clone(object), segment: Arc::clone(segment), since: Instant::now() });
        drop(state);
        object.note_kept(segment);
        true
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Gives one up, best one that a reader has taken; false when there is none.
    pub(crate) fn drop_one(&self) -> bool {
        let mut state = self.state.lock();
        let at = state.entries.iter().take(SCAN).position(|entry| entry.segment.consumed()).unwrap_or(0);
        let Some(entry) = state.entries.remove(at) else { return false };
        drop(state);
        release([entry]);
        true
    }

    /// Gives up those whose moment is over.
    pub(crate) fn expire(&self) {
        let mut state = self.state.lock();
        let over = state.entries.iter().take_while(|entry| entry.since.elapsed() > MOMENT).count();
        let gone: Vec<Entry> = state.entries.drain(..over).collect();
        drop(state);
        release(gone);
    }

    /// Gives all up and takes no more: an entry that stays would keep its object, and so all of us, for ever.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let gone = std::mem::take(&mut state.entries);
        drop(state);
        release(gone);
    }
}

fn release(gone: impl IntoIterator<Item = Entry>) {
    for entry in gone {
        entry.object.release_segment(&entry.segment, true);
    }
}
