//! The model's side: locks over shuttle's, and a clock.
//!
//! Nobody waits for real time here. The clock is a task of its own that moves time to the next deadline and wakes who
//! waits for it. It runs when nothing else can, and now and then when something could: a machine may be slow at any
//! moment. So a time-out is one more event that schedules are made of, a schedule can be replayed, and a deadlock is
//! found in spite of tickers: it shows as time that passes and changes nothing.

mod clock;
pub mod condvar;
mod explore;
pub mod mutex;
pub mod rwlock;
mod scheduler;
pub mod thread;

pub use clock::{Instant, SystemTime};
pub use explore::{Exploration, explore, some_time};
