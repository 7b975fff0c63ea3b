//! Reading for callers that wait: the SDK.

use crate::{Object, Piece, ReadError, ReadReply};
use headrace_sync::mpsc::{SyncSender, sync_channel};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes asked for at once; larger reads go in pieces, so that memory stays within the budget.
const STEP: usize = 4 * 1024 * 1024;
/// Tokens of blocking reads count from here: those of a mount are the kernel's request ids, which are even and far below.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1 << 62 | 1);

struct Handover(SyncSender<Result<Vec<Piece>, ReadError>>);

impl ReadReply for Handover {
    fn ready(self: Box<Self>, pieces: Vec<Piece>) {
        // The receiver waits for exactly this; if its thread is gone, nobody wants the bytes.
        let _ = self.0.send(Ok(pieces));
    }

    fn failed(self: Box<Self>, error: ReadError) {
        let _ = self.0.send(Err(error));
    }
}

impl Object {
    /// Fills `buffer` from `offset`; returns the bytes read, fewer only at the end of the object.
    ///
    /// # Errors
    /// As for any read: replaced, deadline, refused by the origin.
    pub fn read_blocking(self: &Arc<Self>, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        while done < buffer.len() {
            let end = buffer.len().min(done + STEP);
            let wanted = end - done;
            let count = self.read_step(offset + done as u64, &mut buffer[done..end])?;
            done += count;
            if count < wanted {
                break;
            }
        }
        Ok(done)
    }

    /// The pieces of a range, waiting for them; fewer bytes at the end of the object.
    ///
    /// # Errors
    /// As for any read.
    pub fn pieces_blocking(self: &Arc<Self>, offset: u64, len: u64) -> Result<Vec<Piece>, ReadError> {
        let (sender, receiver) = sync_channel(1);
        let token = NEXT_TOKEN.fetch_add(2, Relaxed);
        self.read(offset, len, token, Box::new(Handover(sender)));
        receiver.recv().unwrap_or(Err(ReadError::Interrupted))
    }

    fn read_step(self: &Arc<Self>, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            let pieces = self.pieces_blocking(offset, buffer.len() as u64)?;
            if let Some(count) = self.copy(&pieces, buffer) {
                return Ok(count);
            }
            // Evicted between the answer and the copy: ask again.
        }
    }

    fn copy(&self, pieces: &[Piece], buffer: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        for piece in pieces {
            let part = &mut buffer[at..at + piece.len()];
            at += piece.len();
            match piece {
                Piece::Memory { segment, offset, len } => part.copy_from_slice(&segment.bytes()[*offset..*offset + *len]),
                Piece::File { offset, .. } => match self.cache_file()?.read_at(*offset, part) {
                    Ok(Some(())) => {}
                    Ok(None) => return None,
                    Err(error) => {
                        log::error!("reading {} back from the cache disk: {error}", self.spec().key);
                        self.discard();
                        return None;
                    }
                },
            }
        }
        Some(at)
    }
}
