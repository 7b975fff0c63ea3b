//! Virtual time of one execution. All tasks of an execution run on one thread of the system, so it lies in a
//! thread-local; each execution starts it anew.

use std::cell::{Cell, RefCell};
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use shuttle::thread::Thread;

/// 2100-01-01: later than every file that an execution finds on the disk.
const BEGINNING: Duration = Duration::from_secs(4_102_444_800);
/// An execution in which so many deadlines pass is stuck: somebody ticks, and nothing comes of it.
const TURNS: u32 = 400;

const WAITING: u8 = 0;
const NOTIFIED: u8 = 1;
const TIMED_OUT: u8 = 2;

/// One wait of one task. Its state changes once.
pub(super) struct Waiter {
    task: Thread,
    state: AtomicU8,
}

impl Waiter {
    pub(super) fn new() -> Arc<Waiter> {
        Arc::new(Waiter { task: shuttle::thread::current(), state: AtomicU8::new(WAITING) })
    }

    /// Blocks its task until it is notified or its time is over; true when it was notified.
    pub(super) fn wait(&self) -> bool {
        while self.state.load(Relaxed) == WAITING {
            shuttle::thread::park();
        }
        self.state.load(Relaxed) == NOTIFIED
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Relaxed) == WAITING
    }

    pub(super) fn notify(&self) {
        self.end(NOTIFIED);
    }

    fn end(&self, state: u8) {
        self.state.store(state, Relaxed);
        self.task.unpark();
    }
}

#[derive(Default)]
struct Clock {
    now_ns: Cell<u64>,
    timers: RefCell<Vec<(u64, Arc<Waiter>)>>,
    task: RefCell<Option<Thread>>,
    stopped: Cell<bool>,
}

thread_local! {
    static CLOCK: Clock = Clock::default();
}

/// Runs `body` in an execution with a clock.
pub(super) fn with_clock(body: impl FnOnce()) {
    CLOCK.with(|clock| {
        clock.now_ns.set(0);
        clock.timers.borrow_mut().clear();
        clock.stopped.set(false);
    });
    let ticking = shuttle::thread::spawn(run);
    CLOCK.with(|clock| *clock.task.borrow_mut() = Some(ticking.thread().clone()));
    body();
    CLOCK.with(|clock| clock.stopped.set(true));
    ticking.thread().unpark();
    ticking.join().expect("the clock ended well");
}

/// The number of the clock's task, for the scheduler.
pub(super) fn task() -> Option<usize> {
    CLOCK.with(|clock| clock.task.borrow().as_ref().map(|task| task.id().into()))
}

/// Has `waiter` woken at `deadline`, unless it is notified before.
pub(super) fn wake_at(deadline: Instant, waiter: &Arc<Waiter>) {
    CLOCK.with(|clock| clock.timers.borrow_mut().push((deadline.0, Arc::clone(waiter))));
    let task = CLOCK.with(|clock| clock.task.borrow().clone());
    task.expect("an execution has a clock").unpark();
}

fn run() {
    let mut turns = 0;
    loop {
        // Whoever was just woken may go first.
        shuttle::thread::yield_now();
        match CLOCK.with(next) {
            Some(waiter) => {
                turns += 1;
                assert!(turns < TURNS, "{TURNS} deadlines have passed and the test has not ended: something waits for ever");
                waiter.end(TIMED_OUT);
            }
            None if CLOCK.with(|clock| clock.stopped.get()) => return,
            None => shuttle::thread::park(),
        }
    }
}

/// Moves time to the next deadline that somebody still waits for.
fn next(clock: &Clock) -> Option<Arc<Waiter>> {
    let mut timers = clock.timers.borrow_mut();
    timers.retain(|(_, waiter)| waiter.is_waiting());
    let first = timers.iter().enumerate().min_by_key(|(_, (deadline, _))| *deadline)?.0;
    let (deadline, waiter) = timers.remove(first);
    clock.now_ns.set(clock.now_ns.get().max(deadline));
    Some(waiter)
}

/// As `std::time::Instant`, in virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// This moment. No two are alike.
    pub fn now() -> Instant {
        CLOCK.with(|clock| {
            clock.now_ns.set(clock.now_ns.get() + 1);
            Instant(clock.now_ns.get())
        })
    }

    /// Time since then.
    pub fn elapsed(&self) -> Duration {
        Instant::now().duration_since(*self)
    }

    /// Time since `earlier`, none when that is later.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, more: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// As `std::time::SystemTime::now`, in virtual time.
pub struct SystemTime;

impl SystemTime {
    /// This moment. No two are alike.
    pub fn now() -> std::time::SystemTime {
        UNIX_EPOCH + BEGINNING + Duration::from_nanos(Instant::now().0)
    }
}
