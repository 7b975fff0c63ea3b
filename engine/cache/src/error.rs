//! What can go wrong when a cache is opened or a door is asked for. Failures to *keep* bytes are no errors:
//! they are [`crate::Unkept`], and reading goes on.

use std::io;
use std::path::{Path, PathBuf};

use crate::ObjectId;

/// An error of the cache: the operation, the object, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The configuration names no directory.
    #[error("cache: no directory is configured; name one with --cache-dir")]
    NoDirectory,
    /// A directory's limit is below [`crate::MIN_LIMIT`].
    #[error("cache size: {limit_bytes} bytes for {path} is too small; the least is {minimum_bytes} bytes")]
    TooSmall {
        /// The directory.
        path: PathBuf,
        /// The limit given, in bytes.
        limit_bytes: u64,
        /// The least that works, in bytes.
        minimum_bytes: u64,
    },
    /// Another node owns the directory.
    #[error("cache directory {path}: in use by {}; stop that node, attach to it, or choose another directory", holder(.pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that took the lock, if it left its number.
        pid: Option<u32>,
    },
    /// The directory cannot be written.
    #[error("cache directory {path}: cannot be written ({cause}); mount it read-write, give this user access, or choose another directory")]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The disk has no room even for the cache's own few files.
    #[error("cache directory {path}: the disk is full; free some space or choose another directory")]
    DiskFull {
        /// The directory.
        path: PathBuf,
    },
    /// Any other failure while preparing the directory.
    #[error("cache directory {path}: {operation} failed ({cause}); check the disk or choose another directory")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A background thread could not be started.
    #[error("cache: cannot start a thread ({cause}); raise the limit of processes (ulimit -u)")]
    Thread {
        /// What the system said.
        cause: io::Error,
    },
    /// The object is larger than [`crate::MAX_OBJECT`].
    #[error("object {key}: {size} bytes are more than a cache file holds ({maximum}); check the size that the origin lists")]
    TooLarge {
        /// Its key.
        key: String,
        /// Its size in bytes, as listed.
        size: u64,
        /// The most that works, in bytes.
        maximum: u64,
    },
    /// A door was asked for while bytes are missing.
    #[error("cached object {id}: not complete, so its descriptor stays here; read it through the node until it is")]
    NotComplete {
        /// The object.
        id: ObjectId,
    },
    /// A door was asked for after the file was evicted.
    #[error("cached object {id}: evicted meanwhile; open it again")]
    Evicted {
        /// The object.
        id: ObjectId,
    },
    /// An operation on one cached object failed.
    #[error("cached object {id}: {operation} failed ({cause}); check the cache disk")]
    Object {
        /// The object.
        id: ObjectId,
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl CacheError {
    /// A stable word for programs, e.g. `cache-locked`.
    pub fn code(&self) -> &'static str {
        match self {
            CacheError::NoDirectory => "cache-no-directory",
            CacheError::TooSmall { .. } => "cache-too-small",
            CacheError::Locked { .. } => "cache-locked",
            CacheError::ReadOnly { .. } => "cache-read-only",
            CacheError::DiskFull { .. } => "cache-disk-full",
            CacheError::Directory { .. } | CacheError::Object { .. } => "cache-io",
            CacheError::Thread { .. } => "cache-thread",
            CacheError::TooLarge { .. } => "cache-object-too-large",
            CacheError::NotComplete { .. } => "cache-not-complete",
            CacheError::Evicted { .. } => "cache-evicted",
        }
    }

    /// The error that fits what the system said about a directory.
    pub(crate) fn directory(path: &Path, operation: &'static str, cause: io::Error) -> CacheError {
        let path = path.to_path_buf();
        match cause.raw_os_error() {
            Some(libc::EROFS | libc::EACCES | libc::EPERM) => CacheError::ReadOnly { path, cause },
            Some(libc::ENOSPC | libc::EDQUOT) => CacheError::DiskFull { path },
            _ => CacheError::Directory { path, operation, cause },
        }
    }
}
