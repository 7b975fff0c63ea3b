//! Why a read failed, as a door reports it.

use headrace_origin::OriginError;
use std::sync::Arc;

/// A failed read. Cheap to clone: many readers may wait for the same flight.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The object was replaced or deleted in the bucket; the bytes of this version can't be had any more.
    #[error("{0}")]
    Replaced(Arc<str>),
    /// The reader gave up (a signal).
    #[error("the reader was interrupted")]
    Interrupted,
    /// No answer within the deadline.
    #[error("no bytes within the deadline of {seconds} s; last cause: {last}")]
    Deadline {
        /// The deadline, in seconds.
        seconds: u64,
        /// What the last attempt said.
        last: Arc<str>,
    },
    /// Anything else, with its errno.
    #[error("{message}")]
    Failed {
        /// The errno a door answers with.
        errno: i32,
        /// A stable code, such as `access-denied`.
        code: &'static str,
        /// Operation, object, cause and remedy.
        message: Arc<str>,
    },
}

impl ReadError {
    /// The errno a door answers with.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Replaced(_) => libc::ESTALE,
            Self::Interrupted => libc::EINTR,
            Self::Deadline { .. } => libc::EIO,
            Self::Failed { errno, .. } => *errno,
        }
    }

    /// A stable code for status and events.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Replaced(_) => "replaced",
            Self::Interrupted => "interrupted",
            Self::Deadline { .. } => "deadline",
            Self::Failed { code, .. } => code,
        }
    }

    pub(crate) fn from_origin(error: &OriginError) -> Self {
        let message: Arc<str> = error.to_string().into();
        // A pinned object that is gone is the same to a reader as one that was replaced.
        if matches!(error.errno(), libc::ESTALE | libc::ENOENT) {
            return Self::Replaced(message);
        }
        Self::Failed { errno: error.errno(), code: error.code(), message }
    }
}
