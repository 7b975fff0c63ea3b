//! Writes that are lost on their way to the disk.
//!
//! `pwrite` puts bytes into memory; the kernel writes them out later. When that fails (a broken device, a thinly
//! provisioned one that is full) the kernel keeps the page, marks it clean, and may forget it: the next read gives
//! what the disk has, zeros most likely. Nothing tells the reader. So until the disk has confirmed a file (`fdatasync`
//! returned) two rules hold:
//!
//! - no door is given: whoever reads through a descriptor of their own could not be warned;
//! - every read of ours is followed by the question whether a write of this file has failed by now. The kernel
//!   remembers that for each open file (`errseq_t`), and `sync_file_range` over a range without pages asks for nothing
//!   else. A page can only be forgotten after its writing failed, and that is remembered first: so bytes read before
//!   a clean answer are right.
//!
//! A file that lost a write is given up whole, and its disk taken out of use.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use headrace_sync::{MutexGuard, RwLockWriteGuard};

use crate::CacheFile;
use crate::directory::Directory;
use crate::file::{Disk, Writing};

/// Beyond the end of every file, and small enough that adding to it does not overflow.
const NOWHERE: i64 = i64::MAX - 8191;

impl CacheFile {
    /// An error when a write to this file was lost.
    pub(crate) fn writes_arrived(&self, disk: &Disk) -> io::Result<()> {
        if self.durable.load(Acquire) {
            return Ok(());
        }
        // One asks at a time: the kernel tells an error once, and then everybody must know.
        let mut lost = self.lost.lock();
        if *lost {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        // SAFETY: takes a descriptor, open for the call, and numbers.
        let result = unsafe { libc::sync_file_range(disk.data.as_raw_fd(), NOWHERE, 4096, libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
        if result == 0 {
            return Ok(());
        }
        *lost = true;
        Err(io::Error::last_os_error())
    }

    /// Gives the file up after a lost write: as if it had never been cached.
    pub(crate) fn abandon(&self, error: &io::Error) {
        let writing = self.writing.lock();
        let disk = self.disk.write();
        let Some(directory) = disk.as_ref().map(|disk| Arc::clone(&disk.directory)) else { return };
        log::warn!("cached object {}: its bytes did not reach the disk ({error}); dropped", self.id());
        directory.note_loss(&self.shared.counters, error);
        self.give_up_file(writing, disk, &directory);
    }

    /// Somebody deleted the file under its name: as if it had never been cached. Otherwise its name would lead here for as long
    /// as anybody has it in memory, and every open by that name would fail.
    pub(crate) fn note_deleted(&self) {
        let writing = self.writing.lock();
        let disk = self.disk.write();
        let Some(directory) = disk.as_ref().map(|disk| Arc::clone(&disk.directory)) else { return };
        if !self.is_evicted() {
            log::warn!("cached object {}: its file was deleted from {}; fetched again", self.id(), directory.path.display());
        }
        self.give_up_file(writing, disk, &directory);
    }

    fn give_up_file(&self, mut writing: MutexGuard<'_, Writing>, mut disk: RwLockWriteGuard<'_, Option<Disk>>, directory: &Arc<Directory>) {
        if self.is_evicted() {
            return;
        }
        let trash = match directory.unlink(&self.id()) {
            Ok(trash) => Some(trash),
            Err(error) => {
                log::warn!("cached object {}: its name can't be taken away: {error}", self.id());
                None
            }
        };
        let bytes = directory.leave(&self.id());
        self.shared.count_evicted(bytes);
        if self.doors.load(Acquire) > 0 {
            // Given out when it was durable, and damaged since: its holders keep what they have.
            self.unlinked_bytes.store(bytes, Release);
            self.evicted.store(true, Release);
            writing.close();
            return;
        }
        let closed = self.start_over(&mut writing, &mut disk);
        drop((disk, writing));
        drop((closed, trash));
        directory.left(bytes);
        self.shared.tell_evicted(&[self.id()]);
    }

    /// Has the disk confirm every byte of a complete file. True when it has; a file that lost a write is given up.
    pub(crate) fn make_durable(&self) -> bool {
        let Some(drops) = self.drops_if_to_sync() else { return self.is_durable() };
        if let Err(error) = self.sync_data() {
            self.abandon(&error);
            return false;
        }
        self.confirm(drops)
    }

    /// Notes that a sync begun at `drops` has returned.
    pub(crate) fn confirm(&self, drops: u64) -> bool {
        match self.mark_synced(drops) {
            Ok(durable) => durable,
            Err(error) => {
                if let Some(directory) = self.directory() {
                    directory.note_error(&self.shared.counters, "marking a cached file", &error);
                }
                false
            }
        }
    }

    fn directory(&self) -> Option<Arc<Directory>> {
        self.disk.read().as_ref().map(|disk| Arc::clone(&disk.directory))
    }
}
