//! Threads for what may touch a disk. The kernel bounds the queue: it sends only so many requests at once.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    ready: Condvar,
}

impl Pool {
    pub(crate) fn start(threads: usize) -> std::io::Result<Arc<Self>> {
        let pool = Arc::new(Self::default());
        for index in 0..threads {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new().name(format!("mount-disk-{index}")).spawn(move || pool.work())?;
        }
        Ok(pool)
    }

    /// Queues a job; after `close` it is dropped (the mount has ended, nobody waits).
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.state.lock();
        if !state.closed {
            state.jobs.push_back(Box::new(job));
            drop(state);
            self.ready.notify_one();
        }
    }

    fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let job = loop {
                if let Some(job) = state.jobs.pop_front() {
                    break job;
                }
                if state.closed {
                    return;
                }
                self.ready.wait(&mut state);
            };
            drop(state);
            job();
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }
}
