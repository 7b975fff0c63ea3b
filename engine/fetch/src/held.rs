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
pub(crate) struct Held {
    entries: Mutex<VecDeque<Entry>>,
}

impl Held {
    pub(crate) fn keep(&self, object: Arc<Object>, segment: Arc<Segment>) {
        self.entries.lock().push_back(Entry { object, segment, since: Instant::now() });
    }

    /// Gives one up, best one that a reader has taken; false when there is none.
    pub(crate) fn drop_one(&self) -> bool {
        let mut entries = self.entries.lock();
        let at = entries.iter().take(SCAN).position(|entry| entry.segment.consumed()).unwrap_or(0);
        let Some(entry) = entries.remove(at) else { return false };
        drop(entries);
        entry.object.release_segment(&entry.segment, true);
        true
    }

    /// Gives up those whose moment is over.
    pub(crate) fn expire(&self) {
        let mut entries = self.entries.lock();
        let over = entries.iter().take_while(|entry| entry.since.elapsed() > MOMENT).count();
        let gone: Vec<Entry> = entries.drain(..over).collect();
        drop(entries);
        release(gone);
    }

    /// Gives all up.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut *self.entries.lock());
        release(gone);
    }
}

fn release(gone: impl IntoIterator<Item = Entry>) {
    for entry in gone {
        entry.object.release_segment(&entry.segment, true);
    }
}
