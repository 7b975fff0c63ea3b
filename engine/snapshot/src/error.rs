//! What can go wrong with a snapshot.

use std::io;
use std::path::{Path, PathBuf};

/// A failed build or open.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error("snapshot {path}: {cause}; check the space and the permissions of the cache directory")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is not what it should be.
    #[error("snapshot {path} can't be used: {detail}; remove it and run `headrace refresh`")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
    /// More entries than ids.
    #[error("snapshot {path}: more than 4,294,967,294 files and directories; mount a smaller prefix")]
    TooMany {
        /// The file.
        path: PathBuf,
    },
}

impl SnapshotError {
    pub(crate) fn disk(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |cause| Self::Disk { path: path.to_owned(), cause }
    }

    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "cache-disk",
            Self::Corrupt { .. } => "snapshot-corrupt",
            Self::TooMany { .. } => "too-many-files",
        }
    }
}
