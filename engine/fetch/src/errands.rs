//! Parts of other files that a learned order wants fetched: opening a file may wait for the disk, and a read never waits.

use crate::load::Load;
use headrace_sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Errands that may wait; more are not run. What they would have fetched is fetched when it is asked for.
const WAITING_MAX: usize = 1024;

struct Errand {
    load: Arc<Load>,
    file: u32,
    range: Range<u64>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Errand>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Errands {
    state: Mutex<State>,
    ready: Condvar,
}

impl Errands {
    pub(crate) fn push(&self, load: &Arc<Load>, file: u32, range: Range<u64>) {
        let mut state = self.state.lock();
        if !state.closed && state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(Errand { load: Arc::clone(load), file, range });
            drop(state);
            self.ready.notify_one();
        }
    }

    /// Runs errands on the calling thread until closed.
    pub(crate) fn run(&self) {
        while let Some(errand) = self.next() {
            if let Some(object) = errand.load.open(errand.file) {
                object.fetch_part_ahead(&errand.range);
            }
        }
    }

    fn next(&self) -> Option<Errand> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(errand) = state.waiting.pop_front() {
                return Some(errand);
            }
            self.ready.wait(&mut state);
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.ready.notify_all();
    }
}
