//! `parking_lot::Condvar` in the model. Shuttle's own never times out and takes its guard by value.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::clock::{self, Instant, Waiter};
use super::mutex::MutexGuard;

/// A condition to wait for.
#[derive(Default)]
pub struct Condvar {
    /// In the order of their coming; never contended, since it is not held at a scheduling point.
    waiters: std::sync::Mutex<VecDeque<Arc<Waiter>>>,
    /// Read before a notification, so that others may come between it and what was done before.
    point: AtomicU64,
}

/// Whether a wait ended by its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True when nobody notified in time.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition nobody waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// Waits for a notification.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.sleep(guard, None);
    }

    /// Waits for a notification, at most until `deadline`.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        WaitTimeoutResult(!self.sleep(guard, Some(deadline)))
    }

    /// Waits for a notification, at most for `time`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        self.wait_until(guard, Instant::now() + time)
    }

    /// Wakes who has waited for longest.
    pub fn notify_one(&self) {
        self.point.load(SeqCst);
        if let Some(waiter) = self.take() {
            waiter.notify();
        }
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.point.load(SeqCst);
        let waiters = std::mem::take(&mut *self.queue());
        waiters.iter().filter(|waiter| waiter.is_waiting()).for_each(|waiter| waiter.notify());
    }

    fn sleep<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        let waiter = Waiter::new();
        self.queue().push_back(Arc::clone(&waiter));
        if let Some(deadline) = deadline {
            clock::wake_at(deadline, &waiter);
        }
        let notified = guard.unlocked(|| waiter.wait());
        self.queue().retain(|other| !Arc::ptr_eq(other, &waiter));
        notified
    }

    fn take(&self) -> Option<Arc<Waiter>> {
        let mut queue = self.queue();
        loop {
            let waiter = queue.pop_front()?;
            if waiter.is_waiting() {
                return Some(waiter);
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.waiters.lock().expect("nothing panics while it is held")
    }
}
