//! The one door to locks, threads and time for crates whose concurrency is checked.
//!
//! Without the feature `shuttle` these are `parking_lot` and `std`, re-exported: not a line of code is in between.
//! With it they belong to [shuttle](https://docs.rs/shuttle), which runs all threads of a test as coroutines of one
//! thread and decides at every lock, wait, atomic and notification who goes on. The same interfaces (guards without
//! `unwrap`, waiting on a borrowed guard) are kept, so that the code that is checked is the code that ships.
//!
//! Time is part of the model, because waits with a deadline are: see [`model`]. What stays real on purpose: files,
//! `Arc` (shuttle has no other), and counters that nothing is decided by.

#[cfg(feature = "shuttle")]
pub mod model;

#[cfg(feature = "shuttle")]
pub use model::{
    Instant, SystemTime, condvar::Condvar, mutex::Mutex, mutex::MutexGuard, rwlock::RwLock, rwlock::RwLockReadGuard,
    rwlock::RwLockWriteGuard, thread,
};
#[cfg(feature = "shuttle")]
pub use shuttle::sync::{atomic, mpsc};

#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(feature = "shuttle"))]
pub use std::{
    sync::{atomic, mpsc},
    thread,
    time::{Instant, SystemTime},
};
