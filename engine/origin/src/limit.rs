//! How much at once: an adaptive limit on requests, and optional ceilings per second.

use parking_lot::{Condvar, Mutex};
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

/// A ceiling per second: a token bucket that may hold a quarter of a second's worth, and goes into debt instead of splitting what was asked.
pub(crate) struct Rate {
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    pub(crate) fn new(per_second: f64) -> Self {
        Self { per_second: per_second.max(1.0), state: Mutex::new((0.0, Instant::now())) }
    }

    /// Takes `amount` and says how long to wait for it.
    pub(crate) fn take(&self, amount: f64) -> Duration {
        let mut state = self.state.lock();
        let now = Instant::now();
        let gained = now.duration_since(state.1).as_secs_f64() * self.per_second;
        state.0 = (state.0 + gained).min(self.per_second / 4.0) - amount;
        state.1 = now;
        Duration::from_secs_f64((-state.0 / self.per_second).max(0.0))
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
        let rate = Rate::new(1000.0);
        let waits: Vec<_> = (0..10).map(|_| rate.take(500.0)).collect();
        assert!(waits[9] > Duration::from_secs(4) && waits[9] < Duration::from_secs(6), "{waits:?}");
    }
}
