//! What a slow disk could not keep is filled in later, when nobody waits: one small flight at a time.

use crate::fetcher::Shared;
use crate::object::Object;
use headrace_cache::BLOCK;
use headrace_sync::Mutex;
use headrace_sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed},
};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Objects remembered; beyond it the next read fetches what is missing.
const REMEMBERED: usize = 1024;
const PIECE: u64 = 8 * BLOCK;

/// Objects with holes that the disk's slowness left.
#[derive(Default)]
pub(crate) struct Fill {
    objects: Mutex<VecDeque<Weak<Object>>>,
    flying: Arc<AtomicBool>,
}

impl Fill {
    pub(crate) fn note(&self, object: &Arc<Object>) {
        let mut objects = self.objects.lock();
        if objects.len() < REMEMBERED && !objects.iter().any(|o| std::ptr::eq(o.as_ptr(), Arc::as_ptr(object))) {
            objects.push_back(Arc::downgrade(object));
        }
    }

    /// Starts one flight if the engine is idle and the disk has caught up. Called by the ticker.
    pub(crate) fn step(&self, shared: &Shared) {
        let busy = shared.counters.waiting.load(Relaxed) > 0 || shared.queue.len() > 0 || !shared.writer.idle();
        if busy || self.flying.load(Relaxed) {
            return;
        }
        let Some(object) = self.front() else { return };
        if object.busy() {
            return;
        }
        let missing = object.uncovered(&(0..object.spec().size)).into_iter().next();
        let Some(part) = missing.filter(|_| object.standing_error().is_none()) else {
            self.objects.lock().pop_front();
            return;
        };
        if self.flying.swap(true, AcqRel) {
            return;
        }
        let flying = Arc::clone(&self.flying);
        let landed = Box::new(move || flying.store(false, Relaxed));
        let end = ((part.start / PIECE + 1) * PIECE).min(part.end);
        if !object.prefetch(part.start..end, landed) {
            self.flying.store(false, Relaxed);
        }
    }

    fn front(&self) -> Option<Arc<Object>> {
        let mut objects = self.objects.lock();
        loop {
            match objects.front()?.upgrade() {
                Some(object) => return Some(object),
                None => objects.pop_front(),
            };
        }
    }
}
