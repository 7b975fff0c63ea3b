//! Admission: before bytes are written, room is promised to them or they are not kept. Room means the
//! directory's limit and the free space that must stay on the disk. Where there is none, it is made: see
//! [`crate::evict`].

use std::sync::Arc;
use std::time::Duration;

use crate::directory::Directory;
use crate::ledger::Ledger;
use crate::shared::Shared;
use crate::shortage::Lack;
use crate::{CacheFile, Unkept, space};

/// Room for what a write allocates besides its data: the meta file's first blocks and the file system's own
/// lists of extents.
const OVERHEAD_BYTES: u64 = 16 * 1024;
/// How long a write waits for the scan to tell what the directory holds. Counting 100,000 files takes about a
/// second; a reader has long been answered from memory, so going on unkept costs a fetch and no more.
const WAIT_FOR_SCAN: Duration = Duration::from_millis(250);
/// Other writers may take the room that was just made; after this many rounds the bytes pass unkept.
const ROUNDS: usize = 8;

/// Room promised to a write, given back when dropped.
pub struct Reservation {
    directory: Arc<Directory>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.directory.ledger.lock().reserved -= self.bytes;
    }
}

impl Shared {
    /// Promises room for `bytes` more of `writer`, evicting if there is no other way.
    pub fn admit(&self, directory: &Arc<Directory>, bytes: u64, writer: &CacheFile) -> Result<Reservation, Unkept> {
        let bytes = bytes + OVERHEAD_BYTES;
        let mut waited = false;
        for _ in 0..ROUNDS {
            if let Some(reservation) = self.try_admit(directory, bytes)? {
                return Ok(reservation);
            }
            // Another writer may make enough room while this one waits for its turn to.
            let lacking = || self.lacking(directory, bytes).unwrap_or(bytes);
            let mut ledger = directory.ledger.lock();
            if !ledger.is_scanned() && !waited {
                waited = true;
                directory.scanned.wait_for(&mut ledger, WAIT_FOR_SCAN);
                continue;
            }
            let scanned = ledger.is_scanned();
            drop(ledger);
            if !scanned && lacking() == 0 {
                // Only what is not counted yet stands in the way: no reason to evict anything.
                return Err(Unkept::Scanning);
            }
            if self.make_room(directory, lacking, Some(writer)) == 0 && lacking() > 0 {
                return Err(Unkept::NoRoom);
            }
        }
        Err(Unkept::NoRoom)
    }

    fn try_admit(&self, directory: &Arc<Directory>, bytes: u64) -> Result<Option<Reservation>, Unkept> {
        let free = self.free(directory)?;
        let mut ledger = directory.ledger.lock();
        if self.lacking_in(ledger.total() + ledger.uncounted, &ledger, directory, free, bytes) > 0 {
            return Ok(None);
        }
        ledger.reserved += bytes;
        Ok(Some(Reservation { directory: directory.clone(), bytes }))
    }

    /// What eviction has to free; what the scan has not counted yet is no reason to evict.
    fn lacking(&self, directory: &Directory, bytes: u64) -> Result<u64, Unkept> {
        let free = self.free(directory)?;
        let ledger = directory.ledger.lock();
        Ok(self.lacking_in(ledger.total(), &ledger, directory, free, bytes))
    }

    fn lacking_in(&self, total: u64, ledger: &Ledger, directory: &Directory, free: u64, bytes: u64) -> u64 {
        let over_limit = (total + bytes).saturating_sub(directory.limit_bytes);
        let under_reserve = (self.reserve_bytes + ledger.reserved + bytes).saturating_sub(free);
        over_limit.max(under_reserve)
    }

    /// Bytes were refused: tells it, the first time of an episode.
    pub fn note_shortage(&self, directory: &Directory, reason: Unkept) {
        let Some(lack) = directory.shortage.note(|| self.lack(directory, reason == Unkept::DiskFull)) else { return };
        let message = format!(
            "cache directory {}: {lack}. Until then what is read is not kept, and fetched again each time",
            directory.path.display()
        );
        self.tell_full(&directory.path, &message);
    }

    /// What a directory lacks at this moment, if it refused anything for want of room and still would.
    pub fn shortage(&self, directory: &Directory) -> Option<String> {
        directory.shortage.now(|| self.lack(directory, false)).map(|lack| lack.to_string())
    }

    fn lack(&self, directory: &Directory, refused: bool) -> Lack {
        match space::of_file_system(&directory.root) {
            Ok(space) => Lack::of(&space, self.reserve_bytes, directory.limit_bytes, refused),
            Err(error) => {
                directory.note_error(&self.counters, "asking for free space", &error);
                Lack::Limit { limit_bytes: directory.limit_bytes }
            }
        }
    }

    fn free(&self, directory: &Directory) -> Result<u64, Unkept> {
        directory.free_space.lock().get(&directory.root).map_err(|error| {
            directory.note_error(&self.counters, "asking for free space", &error);
            Unkept::Failing
        })
    }
}
