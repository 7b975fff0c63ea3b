//! `parking_lot::RwLock` in the model: shuttle's has no downgrade, so the gate is built as theirs is, from a semaphore.
//! A task that takes the lock twice fails the test, for reading too: with a writer in between it would wait for itself.

use std::ops::{Deref, DerefMut};

use parking_lot::lock_api;
use shuttle::future::batch_semaphore::{BatchSemaphore, Fairness};
use shuttle::thread::ThreadId;

/// More than there are readers in any test; a writer takes all.
const READERS: usize = 1 << 16;

/// A lock for many readers or one writer.
pub struct RwLock<T> {
    gate: BatchSemaphore,
    holders: parking_lot::Mutex<Vec<ThreadId>>,
    /// Always free for whoever came through the gate.
    data: parking_lot::RwLock<T>,
}

/// One holder's way out through the gate.
struct Pass<'a> {
    gate: &'a BatchSemaphore,
    holders: &'a parking_lot::Mutex<Vec<ThreadId>>,
    me: ThreadId,
    permits: usize,
}

type Guard<'a, G> = (G, Pass<'a>);

/// What the lock guards, for reading.
pub struct RwLockReadGuard<'a, T>(Guard<'a, parking_lot::RwLockReadGuard<'a, T>>);

/// What the lock guards, for writing.
pub struct RwLockWriteGuard<'a, T>(Guard<'a, parking_lot::RwLockWriteGuard<'a, T>>);

impl<T> RwLock<T> {
    /// A free lock.
    pub fn new(value: T) -> RwLock<T> {
        RwLock {
            gate: BatchSemaphore::new(READERS, Fairness::Unfair),
            holders: parking_lot::Mutex::default(),
            data: parking_lot::RwLock::new(value),
        }
    }

    /// Waits until no writer has it.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let pass = self.enter(1);
        RwLockReadGuard((self.data.try_read().expect("the gate keeps writers out"), pass))
    }

    /// Waits until nobody has it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let pass = self.enter(READERS);
        RwLockWriteGuard((self.data.try_write().expect("the gate keeps all out"), pass))
    }

    /// For reading, if no writer has it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.gate.try_acquire(1).ok()?;
        let pass = self.pass(1);
        Some(RwLockReadGuard((self.data.try_read().expect("the gate keeps writers out"), pass)))
    }

    /// What it guards; nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    fn enter(&self, permits: usize) -> Pass<'_> {
        let me = shuttle::thread::current().id();
        assert!(!self.holders.lock().contains(&me), "a task takes a lock that it holds: with a writer in between it waits for itself");
        // Closed only when the execution is torn down, and then nobody else runs.
        let _ = self.gate.acquire_blocking(permits);
        self.pass(permits)
    }

    fn pass(&self, permits: usize) -> Pass<'_> {
        let me = shuttle::thread::current().id();
        self.holders.lock().push(me);
        Pass { gate: &self.gate, holders: &self.holders, me, permits }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut holders = self.holders.lock();
        let at = holders.iter().position(|holder| *holder == self.me).expect("a holder is noted");
        holders.swap_remove(at);
        drop(holders);
        self.gate.release(self.permits);
    }
}

impl<'a, T> RwLockWriteGuard<'a, T> {
    /// Lets readers in without letting a writer in between.
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let (data, mut pass) = guard.0;
        let data = lock_api::RwLockWriteGuard::downgrade(data);
        let others = std::mem::replace(&mut pass.permits, 1) - 1;
        pass.gate.release(others);
        RwLockReadGuard((data, pass))
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.0
    }
}
