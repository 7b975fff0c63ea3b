//! What can go wrong when a snapshot is built or opened.

use std::io;
use std::path::{Path, PathBuf};

/// An error of a snapshot: the operation, the file, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error("snapshot {}: cannot {operation} ({cause}); {}", .path.display(), remedy(.cause))]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The snapshot's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// There is no such file.
    #[error("snapshot {}: no such file; list the origin again with `headrace refresh`", .path.display())]
    Absent {
        /// The snapshot's file.
        path: PathBuf,
    },
    /// The file is not a snapshot at all.
    #[error("snapshot {}: not a snapshot of Headrace; check the path", .path.display())]
    NotASnapshot {
        /// The file.
        path: PathBuf,
    },
    /// Another version of Headrace wrote it.
    #[error("snapshot {}: format {found}, this version reads {known}; list the origin again with `headrace refresh`", .path.display())]
    UnknownFormat {
        /// The snapshot's file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// The only format this version knows.
        known: u32,
    },
    /// The file is damaged, or a power loss came before all of it was on the disk.
    #[error("snapshot {}: damaged ({what}); delete it and list the origin again with `headrace refresh`", .path.display())]
    Corrupt {
        /// The snapshot's file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A value from the listing does not fit into a snapshot.
    #[error("snapshot {}: {field} of {bytes} bytes is more than {maximum}; check what the origin lists", .path.display())]
    TooLong {
        /// The snapshot's file.
        path: PathBuf,
        /// Which value.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The most that fits, in bytes.
        maximum: usize,
    },
    /// More entries than there are ids.
    #[error("snapshot {}: more than {maximum} files and directories; mount a longer prefix", .path.display())]
    TooMany {
        /// The snapshot's file.
        path: PathBuf,
        /// The most that fits.
        maximum: u64,
    },
    /// A page was lost before, so finishing would publish a list with holes.
    #[error("snapshot {}: not published, because writing a part of it failed before; see the first error", .path.display())]
    Incomplete {
        /// The snapshot's file.
        path: PathBuf,
    },
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "the disk is full: free some space",
        Some(libc::EACCES | libc::EPERM) => "give this user access to its directory",
        Some(libc::EROFS) => "the file system is read-only: mount it read-write",
        Some(libc::ENOENT) => "its directory is missing: create it",
        _ => "check the disk",
    }
}

impl SnapshotError {
    /// A stable word for programs, e.g. `snapshot-corrupt`.
    pub fn code(&self) -> &'static str {
        match self {
            SnapshotError::Io { cause, .. } => match cause.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => "snapshot-disk-full",
                _ => "snapshot-io",
            },
            SnapshotError::Absent { .. } => "snapshot-absent",
            SnapshotError::NotASnapshot { .. } => "snapshot-not-a-snapshot",
            SnapshotError::UnknownFormat { .. } => "snapshot-unknown-format",
            SnapshotError::Corrupt { .. } => "snapshot-corrupt",
            SnapshotError::TooLong { .. } => "snapshot-too-long",
            SnapshotError::TooMany { .. } => "snapshot-too-many",
            SnapshotError::Incomplete { .. } => "snapshot-incomplete",
        }
    }

    /// Turns what the system said while doing `operation` on `path` into an error; for `map_err`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| SnapshotError::Io { operation, path, cause }
    }
}
