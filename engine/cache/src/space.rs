//! Room on the disk: what `statvfs` says is free, asked once a second or every 64 MiB, and the blocks that
//! files really occupy.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use headrace_sync::Instant;

/// How many bytes may be written before the disk is asked again.
const ASK_EVERY_BYTES: u64 = 64 * crate::BLOCK;
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Free and used bytes of a file system, and free inodes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// What this user may still take.
    pub free: u64,
    pub used: u64,
    /// Inodes that this user may still take; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

pub fn of_file_system(directory: &File) -> io::Result<Space> {
    // SAFETY: an all-zero statvfs is a valid value of that plain C struct.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the call and `stat` outlives it.
    if unsafe { libc::fstatvfs(directory.as_raw_fd(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let unit = stat.f_frsize;
    let inodes = (stat.f_files > 0).then_some(stat.f_favail);
    Ok(Space { free: stat.f_bavail * unit, used: (stat.f_blocks - stat.f_bfree) * unit, inodes })
}

/// The blocks of a file, in bytes.
pub fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// A remembered answer of the disk, less what was written since.
#[derive(Default)]
pub struct FreeSpace {
    known: Option<(Instant, u64)>,
    written: u64,
}

impl FreeSpace {
    /// Free bytes, asking the disk when the answer is old.
    pub fn get(&mut self, directory: &File) -> io::Result<u64> {
        match self.known {
            Some((when, free)) if when.elapsed() < ASK_EVERY && self.written < ASK_EVERY_BYTES => Ok(free.saturating_sub(self.written)),
            _ => {
                let free = of_file_system(directory)?.free;
                *self = FreeSpace { known: Some((Instant::now(), free)), written: 0 };
                Ok(free)
            }
        }
    }

    pub fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
    }

    /// Something was freed, or the disk turned out full: ask again next time.
    pub fn forget(&mut self) {
        self.known = None;
    }
}
