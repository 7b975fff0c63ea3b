//! The S3 client: list, head and pinned ranged GET over connections of its own.
//!
//! One connection is one blocking socket on the caller's thread: body bytes go from the socket straight into
//! the buffer that the caller gives, without a general-purpose HTTP client and its copies in between. Every answer is
//! checked (status, `Content-Range`, length, ETag) before one byte of it counts; a body that breaks off is resumed
//! at its next byte, so no byte is fetched twice.

mod config;
mod connect;
mod connection;
mod counters;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod limit;
mod list;
mod origin;
mod pool;
mod request;
mod retry;
mod sign;
mod xml;

pub use config::{Addressing, Credentials, OriginConfig, OriginIdentity};
pub use counters::OriginCounters;
pub use error::OriginError;
pub use get::{BodySink, Pinned, Stop};
pub use list::{ListSink, ListSummary, ListedObject};
pub use origin::{ObjectHead, Origin};
