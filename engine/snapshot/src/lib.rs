//! Immutable lists of a volume's files: build, diff, open, lookup, readdir.
//!
//! # The story
//!
//! A listing of a bucket is turned into one file, the *snapshot*, which is then memory-mapped and answers every
//! look-up, `stat` and `readdir` without a server. The list never sits in memory, neither when it is built nor
//! when it is used:
//!
//! 1. **Spool** ([`Builder::push`]). Pages of keys are appended to an unnamed file beside the target, each
//!    segment of a parallel listing in its own order, with a few MiB of buffers in all.
//! 2. **Order** ([`Builder::finish`]). Segments that kept byte order, as S3 promises, are simply read one after
//!    the other. Those that didn't (some servers list folder by folder) are sorted in runs on disk; the report
//!    says so. All runs are merged into one stream of keys in byte order.
//! 3. **Tree.** In byte order all keys of a directory are neighbours, so a stack of open directories is all the
//!    state there is. An entry's id is its number of arrival: the parent always comes before the child, and
//!    `parent < child` makes loops impossible in whatever bytes a file holds.
//! 4. **Names' order.** Byte order of keys is not byte order of names: `a!`, `a-b` come before `a/`, yet as names
//!    after `a`. Directories in which this happened are noted on the way and their children sorted afterwards.
//! 5. **Publication.** Checksums, header, `fsync`, one `rename`, and `fsync` of the directory.
//!
//! Memory: about 32 MiB of buffers, four bytes for each child of the directories open at one time, and the key
//! that a segment began and ended with. Disk: about the size of the snapshot once more while building.
//!
//! # What becomes a path
//!
//! A key, relative to the volume's prefix, is split at `/`. A key that ends in `/` is a *marker*: it makes a
//! directory, also an empty one, whatever bytes the marker object holds. All else is a file. Paths map back
//! unchanged: a file's key is always prefix + path. Nothing is renamed to fit; a key that cannot be a path is
//! **skipped**, counted in [`Totals::skipped`] and listed by [`Snapshot::skipped`] with its reason:
//!
//! | key | reason |
//! |---|---|
//! | empty part: leading `/`, `//` inside or at the end | [`SkipReason::EmptyPart`] |
//! | a part that is `.` or `..` | [`SkipReason::DotPart`] |
//! | a NUL byte | [`SkipReason::NulByte`] |
//! | a part over 255 bytes of UTF-8 | [`SkipReason::LongName`] |
//! | over 4096 bytes in all | [`SkipReason::LongPath`] |
//! | `a` while `a/` or `a/b` is there too: the directory wins | [`SkipReason::BesideDirectory`] |
//! | listed twice: the one listed first stays | [`SkipReason::Duplicate`] |
//!
//! A skipped key makes no directories either: of `a` and `a//b`, `a` is a file.
//! An object whose name begins with `.headrace-check-` is what a connection check writes and removes again; it is left out quietly.
//!
//! A directory's time is its marker's; one without a marker has the time the snapshot was made.

mod builder;
mod column;
mod columns;
mod diff;
mod entry;
mod error;
mod layout;
mod members;
mod merge;
mod names;
mod publish;
mod record;
mod rules;
mod snapshot;
mod sort;
mod spool;
mod spooled;
mod tree;

pub use builder::{BuildReport, Builder};
pub use columns::Children;
pub use diff::{Change, ChangeKind, DiffCounts, diff};
pub use entry::{Entry, EntryId, EntryKind, NewEntry, SnapshotHeader, Totals};
pub use error::SnapshotError;
pub use members::Members;
pub use rules::SkipReason;
pub use snapshot::Snapshot;
