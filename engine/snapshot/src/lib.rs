//! Immutable lists of a volume's files.
//!
//! A snapshot is one file, memory-mapped: fixed-width entries, their names, and every directory's children sorted by
//! name. A look-up is a binary search among a directory's children; nothing is held in memory but the mapping.
//!
//! It is built by streaming. Listings arrive in byte order of keys, in which all keys of a directory are neighbours, so one
//! pass with a stack of open directories builds the tree; only a directory's list of children has to be sorted when it closes
//! (`a-b/` comes before `a/` in key order, after it in path order). Listings in another order are sorted first, in bounded memory.
//!
//! **Keys that cannot be paths** are skipped, counted and listed: an empty, `.` or `..` part (so also a leading or double slash),
//! a NUL, a part over 255 bytes, a path over 4,096 bytes, the same key twice, and an object `a` beside keys under `a/`: the
//! directory wins. `x/` is a directory, also an empty one, with the marker's time; other directories have the snapshot's.

mod build;
mod diff;
mod error;
mod key;
mod layout;
mod read;
mod spool;
mod tree;

pub use build::{BuildReport, Builder, NewEntry, SnapshotHeader};
pub use diff::{Change, ChangeKind, DiffCounts, diff};
pub use error::SnapshotError;
pub use key::SkipReason;
pub use read::{Children, Entry, EntryId, EntryKind, Snapshot, Totals};
