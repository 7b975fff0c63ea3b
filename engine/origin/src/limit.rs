//! How much at once: an adaptive limit on requests, and optional ceilings per second.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Additive increase, multiplicative decrease on "slow down", as TCP does it.
pub(crate) struct Limit {
    state: Mutex<State>,
    freed: Condvar,
    most: f64,
}

struct State {
    allowed: f64,
    running: usize,
    lowered: Option<Instant>,
}

/// One decrease for all answers of the same burst.
const BURST: Duration = Duration::from_secs(1);

/// A running request; dropping it makes room.
pub(crate) struct Permit<'a>(&'a Limit);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.freed.notify_one();
    }
}

impl Limit {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { state: Mutex::new(State { allowed: most, running: 0, lowered: None }), freed: Condvar::new(), most }
    }

    /// Waits for room; `None` when `until` passes first.
    pub(crate) fn acquire(&self, until: Instant) -> Option<Permit<'_>> {
        let mut state = self.state.lock();
        while state.running >= (state.allowed as usize).max(1) {
            if self.freed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
        state.running += 1;
        Some(Permit(self))
    }

    pub(crate) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.allowed = (state.allowed + 1.0 / state.allowed).min(self.most);
    }

    pub(crate) fn throttled(&self) {
        let mut state = self.state.lock();
        if state.lowered.is_none_or(|at| at.elapsed() > BURST) {
            state.allowed = (state.allowed / 2.0).max(1.0);
            state.lowered = Some(Instant::now());
        }
    }
}

/// A ceiling per second, or none: a token bucket that may hold a quarter of a second's worth, and goes into debt instead of splitting what was asked.
pub(crate) struct Rate {
    /// Whether there is a ceiling: most have none, and take no lock.
    is_set: AtomicBool,
    bucket: Mutex<Bucket>,
    /// Grows with every change of the ceiling.
    changes: AtomicU64,
}

struct Bucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Rate {
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        let bucket = Bucket { per_second: per_second.unwrap_or_default().max(1.0), level: 0.0, at: Instant::now() };
        Self { is_set: AtomicBool::new(per_second.is_some()), bucket: Mutex::new(bucket), changes: AtomicU64::new(0) }
    }

    /// Another ceiling from now on. Who waits already sees that it has changed, and takes anew.
    pub(crate) fn set(&self, per_second: Option<f64>) {
        let mut bucket = self.bucket.lock();
        bucket.per_second = per_second.unwrap_or_default().max(1.0);
        bucket.level = 0.0;
        bucket.at = Instant::now();
        self.is_set.store(per_second.is_some(), Relaxed);
        self.changes.fetch_add(1, Relaxed);
    }

    /// How often the ceiling has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Takes `amount` and says how long to wait for it.
    pub(crate) fn take(&self, amount: f64) -> Duration {
        if !self.is_set.load(Relaxed) {
            return Duration::ZERO;
        }
        let mut bucket = self.bucket.lock();
        let now = Instant::now();
        let gained = now.duration_since(bucket.at).as_secs_f64() * bucket.per_second;
        bucket.level = (bucket.level + gained).min(bucket.per_second / 4.0) - amount;
        bucket.at = now;
        Duration::from_secs_f64((-bucket.level / bucket.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_down_halves_once_and_success_recovers() {
        let limit = Limit::new(16);
        limit.throttled();
        limit.throttled();
        assert_eq!(limit.state.lock().allowed, 8.0);
        (0..200).for_each(|_| limit.succeeded());
        assert_eq!(limit.state.lock().allowed, 16.0);
    }

    #[test]
    fn a_rate_makes_what_exceeds_it_wait() {
        let rate = Rate::new(Some(1000.0));
        let waits: Vec<_> = (0..10).map(|_| rate.take(500.0)).collect();
        assert!(waits[9] > Duration::from_secs(4) && waits[9] < Duration::from_secs(6), "{waits:?}");
    }

    #[test]
    fn a_ceiling_comes_changes_and_goes() {
        let rate = Rate::new(None);
        assert_eq!(rate.take(1e12), Duration::ZERO);
        rate.set(Some(1000.0));
        assert!(rate.take(2000.0) > Duration::from_secs(1));
        rate.set(Some(1e9));
        assert!(rate.take(1000.0) < Duration::from_millis(1));
        rate.set(None);
        assert_eq!(rate.take(1e12), Duration::ZERO);
    }
}
