//! Reading bytes that are present. The check and the `pread` happen under one read lock, whose write side
//! punching takes: bytes that were present when the read began are bytes of the object when it ends.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::CacheFile;

impl CacheFile {
    /// Fills `buf` from `offset` if all of it is present; `Ok(None)` if not. Blocks that a power loss may have
    /// touched are checked first and dropped when wrong; what the disk cannot read is dropped too, and its
    /// directory taken out of use, so that the bytes come from the origin.
    ///
    /// An error means that the range lies outside the object.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<Option<()>> {
        let range = self.range_of(offset, buf.len())?;
        while let Some(block) = self.presence.first_suspect(range.clone()) {
            self.verify_suspect(block);
        }
        if self.shared.verify_reads {
            self.verify_blocks(range.clone());
        }
        let error = {
            let disk = self.disk.read();
            let Some(disk) = disk.as_ref().filter(|_| self.is_readable(range.clone())) else {
                return Ok(None);
            };
            match disk.data.read_exact_at(buf, offset).map(|()| self.writes_arrived(disk)) {
                Ok(Ok(())) => {
                    self.use_blocks(range);
                    return Ok(Some(()));
                }
                Ok(Err(lost)) => Err(lost),
                Err(error) => Ok(error),
            }
        };
        match error {
            Ok(error) => self.give_up(range, &error),
            Err(lost) => self.abandon(&lost),
        }
        Ok(None)
    }

    /// Reads what is in the page cache, without waiting for the disk or a lock: how many bytes, from the front of
    /// `buf`; `None` when not even the first is to be had like that.
    pub fn try_read_nowait(&self, offset: u64, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let range = self.range_of(offset, buf.len())?;
        if self.shared.verify_reads {
            return Ok(None); // the blocking read checks first
        }
        let Some(disk) = self.disk.try_read() else {
            return Ok(None);
        };
        let Some(disk) = disk.as_ref().filter(|_| self.is_readable(range.clone())) else {
            return Ok(None);
        };
        let vector = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        // SAFETY: the vector describes `buf`, which outlives the call; the descriptor is open under the lock.
        let count = unsafe { libc::preadv2(disk.data.as_raw_fd(), &vector, 1, offset as libc::off_t, libc::RWF_NOWAIT) };
        if count <= 0 {
            // Not cached, not supported by this file system, or an error that the blocking read will meet too.
            return Ok(None);
        }
        if self.writes_arrived(disk).is_err() {
            // The blocking read meets the same, and acts on it.
            return Ok(None);
        }
        self.use_blocks(range.start..range.start + count as u64);
        Ok(Some(count as usize))
    }

    fn range_of(&self, offset: u64, length: usize) -> io::Result<Range<u64>> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.size() => Ok(offset..end),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "read past the end of a cached object")),
        }
    }

    fn is_readable(&self, range: Range<u64>) -> bool {
        self.presence.covers(range.clone()) && self.presence.first_suspect(range).is_none()
    }

    fn use_blocks(&self, range: Range<u64>) {
        let tick = self.shared.tick();
        self.presence.spans(range).for_each(|(block, _)| self.presence.use_block(block, tick));
        self.touch();
    }

    /// The disk does not give what it was given.
    fn give_up(&self, range: Range<u64>, error: &io::Error) {
        let mut writing = self.writing.lock();
        if let Some(directory) = &writing.directory {
            directory.note_error(&self.shared.counters, "reading a cached file", error);
        }
        let blocks: Vec<usize> = self.presence.spans(range).map(|(block, _)| block).collect();
        blocks.into_iter().for_each(|block| self.drop_block(&mut writing, block));
    }
}
