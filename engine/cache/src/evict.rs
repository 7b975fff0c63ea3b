//! Making room. First, by last use, files that nobody holds: unlinked whole. Then blocks, oldest use first, of
//! incomplete files that are open through the mount or being written (the node answers for what is missing):
//! said absent, then punched. A held complete file keeps its blocks whatever happens, so unlinking it for room
//! would free nothing: it stays, and when all is held new bytes pass through unkept.
//!
//! A punch takes at least 1/64 of the limit at once, so that looking for the oldest blocks is paid for rarely.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use headrace_sync::RwLockWriteGuard;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::file::{Disk, Writing};
use crate::format::Record;
use crate::ledger::Turn;
use crate::shared::Shared;
use crate::{BLOCK, CacheFile, ObjectId, space};

/// What became of a file that was to go.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Unlinked; this many bytes are free.
    Unlinked(u64),
    /// Unlinked; the blocks, this many bytes, are free when the last holder lets go.
    UnlinkedHeld(u64),
    /// Emptied, because it is incomplete and in use; this many bytes are free.
    Emptied(u64),
    /// Held or pinned: still there.
    Stays,
}

impl Shared {
    /// Frees about as many bytes for `writer` as are lacking when its turn has come; returns how many.
    pub fn make_room(&self, directory: &Arc<Directory>, lacking: impl Fn() -> u64, writer: Option<&CacheFile>) -> u64 {
        let mut gone = Vec::new();
        let freed = {
            let _alone = directory.evicting.lock();
            let need = lacking();
            let mut freed = self.unlink_oldest(directory, writer, &mut gone, |freed, _| freed >= need);
            if freed < need && directory.can_punch.load(Relaxed) {
                freed += self.punch_oldest(directory, need - freed, writer);
            }
            freed
        };
        directory.free_space.lock().forget();
        self.tell_evicted(&gone);
        freed
    }

    /// Unlinks files not used since `before` (nanoseconds since 1970).
    pub fn evict_older(&self, directory: &Arc<Directory>, before: u64) -> u64 {
        let mut gone = Vec::new();
        let freed = {
            let _alone = directory.evicting.lock();
            self.unlink_oldest(directory, None, &mut gone, |_, turn| turn.0 >= before)
        };
        self.tell_evicted(&gone);
        freed
    }

    fn unlink_oldest(
        &self,
        directory: &Arc<Directory>,
        writer: Option<&CacheFile>,
        gone: &mut Vec<ObjectId>,
        enough: impl Fn(u64, Turn) -> bool,
    ) -> u64 {
        let mut freed = 0;
        let mut turn = None;
        let mut rebooked = HashSet::new();
        loop {
            let Some((next, _)) = directory.ledger.lock().next(turn) else {
                break;
            };
            if enough(freed, next) {
                break;
            }
            turn = Some(next);
            let id = next.1;
            if writer.is_some_and(|writer| writer.id() == id) {
                continue;
            }
            if let Some(file) = self.live(&id) {
                let used = file.last_used();
                // Once a round: a file in constant use would otherwise move ahead of us for ever.
                if used > next.0 && rebooked.insert(id) {
                    directory.ledger.lock().touch(id, used);
                    continue;
                }
            }
            match self.evict_one(directory, &id, false) {
                Ok(Outcome::Unlinked(bytes)) => {
                    freed += bytes;
                    gone.push(id);
                }
                Ok(_) => {}
                Err(error) => directory.note_error(&self.counters, "unlinking a cached file", &error),
            }
        }
        freed
    }

    /// Unlinks one file. `asked_for` takes it from its holders too; a pinned file stays in any case.
    pub fn evict_one(&self, directory: &Arc<Directory>, id: &ObjectId, asked_for: bool) -> io::Result<Outcome> {
        let files = self.files.lock();
        if files.get(id).is_some_and(|file| file.strong_count() > 0) {
            drop(files);
            if let Some(file) = self.live(id).filter(|file| !file.is_evicted()) {
                return file.evict(directory, asked_for);
            }
            // Closed or replaced at this very moment; the next round sees it settled.
            return Ok(Outcome::Stays);
        }
        if directory.ledger.lock().get(id).is_none_or(|entry| entry.pinned) {
            return Ok(Outcome::Stays);
        }
        // With the map locked nobody opens the file meanwhile.
        let trash = directory.unlink(id)?;
        let bytes = directory.leave(id);
        drop(files);
        drop(trash);
        directory.left(bytes);
        self.count_evicted(bytes);
        Ok(Outcome::Unlinked(bytes))
    }

    pub fn count_evicted(&self, bytes: u64) {
        Counters::add(&self.counters.evicted_files, 1);
        Counters::add(&self.counters.evicted_bytes, bytes);
    }

    fn punch_oldest(&self, directory: &Arc<Directory>, need: u64, writer: Option<&CacheFile>) -> u64 {
        let want = need.max(directory.limit_bytes / 64);
        let files = self.live_files();
        let mut blocks: Vec<(u32, usize, usize)> = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let in_use = file.is_held() || writer.is_some_and(|writer| writer.id() == file.id());
            if in_use && file.may_be_punched(directory) && !directory.ledger.lock().is_protected(&file.id()) {
                blocks.extend(file.presence.used_blocks().map(|(used, block)| (used, index, block)));
            }
        }
        // The clock wraps; ages do not.
        let now = self.tick();
        blocks.sort_unstable_by_key(|&(used, index, block)| (std::cmp::Reverse(now.wrapping_sub(used)), index, block));
        let mut freed = 0;
        for (_, index, block) in blocks {
            if freed >= want {
                break;
            }
            match files[index].punch(directory, block) {
                Ok(bytes) => freed += bytes,
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    directory.can_punch.store(false, Relaxed);
                    log::warn!(
                        "cache directory {}: its file system cannot punch holes; incomplete files keep their blocks",
                        directory.path.display()
                    );
                    break;
                }
                Err(error) => {
                    directory.note_error(&self.counters, "punching a cached file", &error);
                    break;
                }
            }
        }
        Counters::add(&self.counters.punched_bytes, freed);
        freed
    }
}

impl Directory {
    /// Moves a file's blocks in the books from the named to the unlinked ones; returns their bytes.
    pub fn leave(&self, id: &ObjectId) -> u64 {
        let mut ledger = self.ledger.lock();
        let bytes = ledger.remove(id).map_or(0, |entry| entry.allocated);
        ledger.unlinked += bytes;
        bytes
    }

    /// The blocks of an unlinked file are free.
    pub fn left(&self, bytes: u64) {
        self.ledger.lock().unlinked -= bytes;
    }
}

impl CacheFile {
    fn may_be_punched(&self, directory: &Arc<Directory>) -> bool {
        !self.was_complete.load(Acquire)
            && !self.is_evicted()
            && !self.pinned.load(Relaxed)
            && self.disk.read().as_ref().is_some_and(|disk| Arc::ptr_eq(&disk.directory, directory))
    }

    /// Drops one block of an incomplete file; returns the bytes freed.
    pub fn punch(&self, directory: &Arc<Directory>, block: usize) -> io::Result<u64> {
        let mut writing = self.writing.lock();
        if !self.may_be_punched(directory) || self.presence.chunks(block) == 0 {
            return Ok(0);
        }
        // Absent on disk first: after a kill a record that outlives its block would be trusted.
        self.write_record(&mut writing, block, Record::default())?;
        let disk = {
            let disk = self.disk.write();
            self.presence.clear(block);
            // Whoever read under the read lock is done; from here on nobody takes the block for present.
            RwLockWriteGuard::downgrade(disk)
        };
        let Some(disk) = disk.as_ref() else {
            return Ok(0);
        };
        let before = space::allocated(&disk.data)?;
        punch_hole(&disk.data, block as u64 * BLOCK, BLOCK)?;
        let after = space::allocated(&disk.data)?;
        self.book(&writing, &disk.directory, after);
        Ok(before.saturating_sub(after))
    }

    /// Takes the file's name away, as far as its holders allow.
    fn evict(&self, directory: &Arc<Directory>, asked_for: bool) -> io::Result<Outcome> {
        self.load();
        let mut writing = self.writing.lock();
        let mut disk = self.disk.write();
        if self.is_evicted() {
            // Another eviction was faster: who has the name by now is another file.
            return Ok(Outcome::Stays);
        }
        if !disk.as_ref().is_some_and(|disk| Arc::ptr_eq(&disk.directory, directory)) {
            // Open from another directory (this one had failed meanwhile): the copy here is nobody's.
            let trash = directory.unlink(&self.id())?;
            let bytes = directory.leave(&self.id());
            drop((disk, writing, trash));
            directory.left(bytes);
            return Ok(Outcome::Unlinked(bytes));
        }
        if self.pinned.load(Relaxed) || (self.is_held() && !asked_for) {
            return Ok(Outcome::Stays);
        }
        if self.is_held() && !self.was_complete.load(Acquire) {
            drop((disk, writing));
            let mut freed = 0;
            for block in 0..self.presence.block_count() {
                freed += self.punch(directory, block)?;
            }
            Counters::add(&self.shared.counters.punched_bytes, freed);
            return Ok(Outcome::Emptied(freed));
        }
        let trash = directory.unlink(&self.id())?;
        let bytes = directory.leave(&self.id());
        self.shared.count_evicted(bytes);
        if self.is_held() {
            self.unlinked_bytes.store(bytes, Release);
            self.evicted.store(true, Release);
            writing.close();
            return Ok(Outcome::UnlinkedHeld(bytes));
        }
        // Nobody outside has a descriptor: the file is as if it had never been cached.
        let closed = self.start_over(&mut writing, &mut disk);
        drop((disk, writing));
        drop((closed, trash));
        directory.left(bytes);
        Ok(Outcome::Unlinked(bytes))
    }

    /// Back to a file of which nothing is cached; returns what has to be closed once the locks are free.
    pub(crate) fn start_over(&self, writing: &mut Writing, disk: &mut Option<Disk>) -> Option<Disk> {
        self.presence.clear_all();
        writing.reset();
        self.was_complete.store(false, Release);
        self.durable.store(false, Release);
        *self.lost.lock() = false;
        disk.take()
    }

    /// After the last holder of an unlinked file let go: closes it, which frees its blocks.
    pub fn close_if_unlinked(&self) {
        if !self.is_evicted() {
            return;
        }
        let mut disk = self.disk.write();
        if self.is_held() {
            return;
        }
        let Some(closed) = disk.take() else { return };
        self.presence.clear_all();
        drop(disk);
        let directory = closed.directory.clone();
        drop(closed);
        directory.left(self.unlinked_bytes.swap(0, AcqRel));
    }
}

pub fn punch_hole(data: &File, offset: u64, length: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: fallocate takes a descriptor, open for the call, and numbers.
    match unsafe { libc::fallocate(data.as_raw_fd(), mode, offset as libc::off_t, length as libc::off_t) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
