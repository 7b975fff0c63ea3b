//! How a read is answered.

use crate::{ReadError, Segment};
use std::sync::Arc;

/// A part of an answer. Pieces come in order and cover the range exactly.
#[derive(Clone)]
pub enum Piece {
    /// Bytes in memory: `offset` and `len` within the segment's buffer.
    Memory {
        /// Holds the bytes alive.
        segment: Arc<Segment>,
        /// First byte, within the segment.
        offset: usize,
        /// Number of bytes.
        len: usize,
    },
    /// Bytes the cache file held when the answer was made. It may be punched before they are read: then
    /// `CacheFile::read_at` says so, and the door asks the object again.
    File {
        /// First byte, within the object.
        offset: u64,
        /// Number of bytes.
        len: usize,
    },
}

impl Piece {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory { len, .. } | Self::File { len, .. } => *len,
        }
    }

    /// True for a piece without bytes; the engine makes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Receives the answer of one read, exactly once, on any thread and with no engine lock held.
pub trait ReadReply: Send {
    /// Every byte of the range is at hand.
    fn ready(self: Box<Self>, pieces: Vec<Piece>);
    /// The range can't be had.
    fn failed(self: Box<Self>, error: ReadError);
}
