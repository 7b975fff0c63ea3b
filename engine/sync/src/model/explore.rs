//! Running a test under many schedules. Two kinds, half each: uniformly random ones, which mix everything, and PCT
//! ones, which preempt rarely and in between let threads run long, as machines do.
//!
//! | variable | |
//! |---|---|
//! | `HEADRACE_SCHEDULES_SECONDS` | so long for each test, instead of its usual number of schedules |
//! | `HEADRACE_SCHEDULES_SEED` | another seed; the usual one is fixed, so that a run finds what the last one found |
//! | `HEADRACE_SCHEDULE` | a file with the schedule that a failed test printed: only that one runs |
//!
//! After the failure itself a replay may add that the schedule ended early: what is let go on the way out takes steps too.

use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::clock;
use super::scheduler::WithClock;

/// Coroutines of the model run code that is compiled without optimisation, too.
const STACK_BYTES: usize = 512 * 1024;
/// Longer than any sound execution; beyond it one goes in circles.
const STEPS: usize = 400_000;
/// Preemptions of a PCT schedule: more than the known bugs of this kind needed.
const DEPTH: usize = 4;
const SEED: u64 = 20_261_124;

/// How much to try of one test.
pub struct Exploration {
    /// Its name, for the line about it.
    pub name: &'static str,
    /// Schedules of each kind in a usual run.
    pub schedules: usize,
}

/// Runs `body` under many schedules; a failing one is printed and fails the test.
///
/// # Panics
/// When `body` does, deadlocks, or does not end; and when a variable does not hold what it should.
pub fn explore(exploration: &Exploration, body: fn()) {
    if let Some(path) = std::env::var_os("HEADRACE_SCHEDULE") {
        let schedule = std::fs::read_to_string(path).expect("HEADRACE_SCHEDULE names a file");
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config(None)).run(move || clock::with_clock(body));
        return;
    }
    let seconds = number("HEADRACE_SCHEDULES_SECONDS");
    let seed = number("HEADRACE_SCHEDULES_SEED").unwrap_or(SEED);
    let count = seconds.map_or(exploration.schedules, |_| usize::MAX);
    let time = seconds.map(|seconds| Duration::from_millis(seconds * 1000 / 2));
    let random = run(RandomScheduler::new_from_seed(seed, count), time, body);
    let pct = run(PctScheduler::new_from_seed(seed, DEPTH, count), time, body);
    println!("{}: {random} random schedules, {pct} PCT schedules, seed {seed}", exploration.name);
}

/// Lets others go on for up to so many steps, how many being part of the schedule. Who disturbs calls it first: a task
/// that is as likely to run as all others has done its few steps long before theirs are over.
pub fn some_time(at_most: usize) {
    for _ in 0..shuttle::rand::thread_rng().gen_range(0..=at_most) {
        shuttle::thread::yield_now();
    }
}

fn run(inner: impl Scheduler + 'static, time: Option<Duration>, body: fn()) -> usize {
    Runner::new(WithClock { inner, random: 1 }, config(time)).run(move || clock::with_clock(body))
}

fn config(time: Option<Duration>) -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.max_time = time;
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true; // of atomics without weak memory: the decision says so
    config
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}
