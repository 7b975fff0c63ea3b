//! A section while it is written: appended in order, with late changes to what was written before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Large, because a directory's record is completed when the directory ends: nearly all of them are still here.
const BUFFER_BYTES: usize = 1024 * 1024;

pub(crate) struct Column {
    file: File,
    /// Where the section begins in the file.
    base: u64,
    /// Bytes of the section that are in the file already.
    written: u64,
    buffer: Vec<u8>,
}

impl Column {
    pub(crate) fn new(file: File, base: u64) -> Self {
        Column { file, base, written: 0, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// Bytes appended so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Overwrites bytes appended before. They must not straddle an append: one is in the buffer or in the file.
    pub(crate) fn replace(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match at.checked_sub(self.written) {
            Some(inside) => {
                let inside = inside as usize;
                self.buffer[inside..inside + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            None => self.file.write_all_at(bytes, self.base + at),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.base + self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        // One append larger than the buffer must not make it larger for good.
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    /// The file; all that was appended is in it after [`Column::flush`].
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where the section begins in the file.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }
}
