//! A scheduler of shuttle's that lets time pass only when nothing else can happen, and now and then regardless.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use super::clock;

/// One step in so many may be the clock's although others could go on.
const EARLY: u64 = 256;

pub(super) struct WithClock<S> {
    pub(super) inner: S,
    pub(super) random: u64,
}

impl<S> WithClock<S> {
    fn time_may_pass(&mut self) -> bool {
        // xorshift64: what it decides is part of the schedule that is recorded.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(EARLY)
    }
}

impl<S: Scheduler> Scheduler for WithClock<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let schedule = self.inner.new_execution()?;
        self.random = schedule.seed | 1; // never 0, from which nothing would follow
        Some(schedule)
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let clock = clock::task();
        let others: Vec<&Task> = runnable.iter().copied().filter(|task| Some(usize::from(task.id())) != clock).collect();
        if others.is_empty() || (others.len() < runnable.len() && self.time_may_pass()) {
            return runnable.iter().map(|task| task.id()).find(|id| Some(usize::from(*id)) == clock);
        }
        self.inner.next_task(&others, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}
