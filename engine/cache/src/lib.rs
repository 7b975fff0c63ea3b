//! Sparse cache files, presence, digests, adoption, eviction.
//!
//! Every object version that a node touches is one sparse file here, laid out like the object itself.
//! Beside it lies a small *meta file*: a head, the object's identity, and one 32-byte record for each block
//! that says which chunks are there, what the block's digest is, and during which boot that was written.
//!
//! The rules that everything in this crate serves:
//!
//! 1. A chunk is marked present after `pwrite` returned, in the file first and in memory second. A crash may
//!    lose work, it cannot invent bytes.
//! 2. What was written in this boot is trusted after a kill, because the page cache outlived the process.
//!    What was written in another boot is trusted when the file was synced; otherwise a block with a digest is
//!    checked before its first use, and a block without one is dropped. See [`mod@format`].
//! 3. A descriptor leaves ([`CacheFile::door`]) only for a complete, checked file, opened read-only.
//! 4. A complete file is evicted by unlink, never by punching. An incomplete one may be punched: absent is
//!    written and said first, then the blocks go.
//! 5. The limit counts allocated blocks, also those of unlinked files that somebody still holds.
//!
//! Locks, outermost first: a directory's `evicting` → the map of open files (held briefly, never over slow
//! work) → a file's `writing` → a file's `disk` → a directory's ledger. Callbacks run with none of them held.

// `presence` takes its atomics from here, so that another checker can put its own in their place.
use headrace_sync as sync;

mod admission;
mod cache;
mod counters;
mod direct;
mod directory;
mod door;
mod error;
mod evict;
mod file;
mod format;
mod identity;
mod ledger;
mod load;
mod lock;
mod loss;
mod marker;
mod pages;
mod presence;
mod read;
mod report;
mod scan;
mod shared;
mod shortage;
mod space;
mod steward;
mod verify;
mod write;

pub use cache::{Cache, CacheConfig, CacheDirectory};
pub use counters::CounterValues;
pub use direct::Haste;
pub use door::DoorHandle;
pub use error::CacheError;
pub use file::{CacheFile, Hold};
pub use identity::{ObjectId, ObjectIdentity};
pub use report::{CachedEntry, DirectoryUsage, Presence, Usage};
pub use verify::{BadBlock, VerifyReport};
pub use write::{Kept, Unkept};

/// Unit of presence, in bytes.
pub const CHUNK: u64 = 16 * 1024;
/// Unit of digest and of eviction by punching, in bytes. Small where schedules are tried, which need many files and no volume.
pub const BLOCK: u64 = if cfg!(feature = "shuttle") { 4 * CHUNK } else { 1024 * 1024 };
/// The largest object that is cached, in bytes: its map in memory takes 16 bytes for each block.
pub const MAX_OBJECT: u64 = 1 << 46;
/// The smallest limit a cache directory may have, in bytes: below it one fetch window would evict itself.
pub const MIN_LIMIT: u64 = 8 * BLOCK;
