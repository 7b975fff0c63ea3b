//! Parts of other files that a learned order wants fetched: opening a file may wait for the disk, and a read never waits.

use crate::following::Elsewhere;
use crate::load::Load;
use headrace_sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Errands that may wait; more are not run. Readers of what they would have fetched find it as if no order were known, by the file's own
/// streams ([`crate::stream`]); and so it is with what an errand could not find or open.
const WAITING_MAX: usize = 1024;

struct Errand {
    load: Arc<Load>,
    part: Elsewhere,
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
    pub(crate) fn push(&self, load: &Arc<Load>, part: Elsewhere) {
        let mut state = self.state.lock();
        if state.closed || state.waiting.len() == WAITING_MAX {
            drop(state);
            return load.lose(&part);
        }
        state.waiting.push_back(Errand { load: Arc::clone(load), part });
        drop(state);
        self.ready.notify_one();
    }

    /// Runs errands on the calling thread until closed.
    pub(crate) fn run(&self) {
        while let Some(Errand { load, part }) = self.next() {
            match load.open(&part) {
                Some(object) => object.fetch_part_ahead(&part.range),
                None => load.lose(&part),
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
