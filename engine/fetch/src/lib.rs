//! *When* and *how much*: flights, streams, windows and the memory budget.
//!
//! A door asks an [`Object`] for a range and never blocks. What the cache file or the buffers in memory hold is
//! answered at once; for the rest a **flight** (one ranged GET) is planned, or the one already under way is
//! joined: a byte is never asked for twice while it is on its way. A flight fills 2 MiB **segments** from a
//! bounded pool. Readers are answered from a segment as its bytes arrive; full segments go to the disk
//! writer. Only when the cache says a chunk is kept does the segment leave memory, so at every moment a byte
//! that arrived can be found in one place or the other.
//!
//! A disk slower than the network must not slow a reader down to it: when the pool runs dry because the
//! writer lags, segments that readers have already consumed are dropped unwritten and counted as unkept.
//!
//! Locks, outermost first: an object's state, then its load, the queue or the pool. Replies are sent with none held.

mod at_hand;
mod blocking;
mod budget;
mod chunks;
mod counters;
mod errands;
mod error;
mod failures;
mod fetcher;
mod fill;
mod flight;
mod following;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod held;
mod layout;
mod load;
mod memory;
mod object;
mod order;
mod part;
mod queue;
mod ranges;
mod reply;
mod room;
mod segment;
mod source;
mod stream;
mod warm;
mod writer;

pub use budget::PoolStatus;
pub use counters::{Event, FetchCounters};
pub use error::ReadError;
pub use fetcher::{FetchConfig, Fetcher, ObjectSpec};
pub use load::{Directory, Load, LoadLimits};
pub use object::Object;
pub use order::{FILES_MAX, Order, STEPS_MAX, Step};
pub use reply::{Piece, ReadReply};
pub use room::Room;
pub use segment::Segment;
pub use source::Source;
pub use warm::{WarmFailure, WarmProgress};
