//! Flights waiting for a worker: those that a reader waits for first, then prefetch, each in order.

use crate::flight::Flight;
use headrace_sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Default)]
struct State {
    demand: VecDeque<Arc<Flight>>,
    prefetch: VecDeque<Arc<Flight>>,
    prefetch_running: usize,
    closed: bool,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    /// Workers that prefetch may occupy; the others stay free for readers.
    prefetch_workers: usize,
}

impl Queue {
    pub(crate) fn new(workers: usize) -> Self {
        let prefetch_workers = (workers * 3 / 4).max(1);
        Self { state: Mutex::default(), ready: Condvar::new(), prefetch_workers }
    }

    /// Hands the flight back when the queue is closed: nobody would come for it.
    #[must_use]
    pub(crate) fn push(&self, flight: Arc<Flight>) -> Option<Arc<Flight>> {
        let mut state = self.state.lock();
        if state.closed {
            return Some(flight);
        }
        if flight.urgent() {
            state.demand.push_back(flight);
        } else {
            state.prefetch.push_back(flight);
        }
        drop(state);
        self.ready.notify_one();
        None
    }

    /// A reader now waits for a flight that may still be queued as prefetch.
    pub(crate) fn promote(&self, flight: &Arc<Flight>) {
        let mut state = self.state.lock();
        if let Some(at) = state.prefetch.iter().position(|f| Arc::ptr_eq(f, flight))
            && let Some(flight) = state.prefetch.remove(at)
        {
            state.demand.push_back(flight);
            drop(state);
            self.ready.notify_one();
        }
    }

    /// The next flight, and whether it runs as prefetch; `None` when closed.
    pub(crate) fn pop(&self) -> Option<(Arc<Flight>, bool)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(flight) = state.demand.pop_front() {
                return Some((flight, false));
            }
            if state.prefetch_running < self.prefetch_workers
                && let Some(flight) = state.prefetch.pop_front()
            {
                state.prefetch_running += 1;
                return Some((flight, true));
            }
            self.ready.wait(&mut state);
        }
    }

    pub(crate) fn prefetch_done(&self) {
        self.state.lock().prefetch_running -= 1;
        self.ready.notify_one();
    }

    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        state.demand.len() + state.prefetch.len()
    }

    /// Refuses further work and hands back what was queued.
    pub(crate) fn close(&self) -> Vec<Arc<Flight>> {
        let mut state = self.state.lock();
        state.closed = true;
        let mut left: Vec<_> = state.demand.drain(..).collect();
        left.extend(state.prefetch.drain(..));
        drop(state);
        self.ready.notify_all();
        left
    }
}
