//! The cache as its users see it: opened once by the node that owns the directories, shared by all threads.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headrace_sync::thread::{self, JoinHandle};
use headrace_sync::{Instant, Mutex};

use crate::counters::CounterValues;
use crate::directory::Directory;
use crate::evict::Outcome;
use crate::shared::{FullCallback, Shared};
use crate::{
    CacheError, CacheFile, CachedEntry, MAX_OBJECT, ObjectId, ObjectIdentity, Presence, Usage, VerifyReport, pages, scan, steward,
};

/// One directory of a cache.
#[derive(Clone, Debug)]
pub struct CacheDirectory {
    /// Created, with its parents, when absent.
    pub path: PathBuf,
    /// How much may be allocated there, in bytes; at least [`crate::MIN_LIMIT`].
    pub limit_bytes: u64,
}

/// How to open a cache.
#[derive(Debug)]
pub struct CacheConfig {
    /// One or several, best on different disks: a file lies whole on one of them.
    pub directories: Vec<CacheDirectory>,
    /// Free space to leave on each file system, in bytes.
    pub reserve_bytes: u64,
    /// Files not used for so long are evicted; `None` keeps them until the room is needed.
    pub max_age: Option<Duration>,
    /// Compare blocks with their digests each time this process reads them, not only where they are in doubt.
    pub verify_reads: bool,
    /// The largest file that is read back into memory after it was written past the page cache, in bytes.
    pub page_bytes: u64,
    /// This boot's id (`/proc/sys/kernel/random/boot_id`): decides what is trusted.
    pub boot_id: String,
    /// Locks handed on by a keeper ([`Cache::lock_fds`] of a predecessor); empty to take them.
    pub locks: Vec<OwnedFd>,
}

/// An open cache. Dropping it stops its threads; the directories stay locked until the last file is dropped too.
pub struct Cache {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cache {
    /// Opens the directories: takes their locks, checks their format, starts counting in the background. With
    /// several directories, one that cannot be used is left out with a warning, as long as one works.
    ///
    /// # Errors
    /// Any error of [`CacheError`] about directories; a directory owned by another node is one in any case.
    pub fn open(config: CacheConfig) -> Result<Arc<Cache>, CacheError> {
        let mut config = config;
        let mut locks = std::mem::take(&mut config.locks);
        let mut directories = Vec::new();
        let mut first_error = None;
        for directory in &config.directories {
            match Directory::open(directory, &mut locks) {
                Ok(opened) => directories.push(opened),
                Err(error @ (CacheError::Locked { .. } | CacheError::TooSmall { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    log::warn!("{error}");
                    first_error.get_or_insert(error);
                }
            }
        }
        if directories.is_empty() {
            return Err(first_error.unwrap_or(CacheError::NoDirectory));
        }
        let shared = Arc::new(Shared::new(directories, &config));
        let cache = Arc::new(Cache { shared, threads: Mutex::default() });
        cache.start("cache-scan", scan::scan_all)?;
        cache.start("cache-steward", steward::serve)?;
        cache.start("cache-pages", pages::serve)?;
        Ok(cache)
    }

    fn start(&self, name: &str, work: fn(&Arc<Shared>)) -> Result<(), CacheError> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(&shared));
        self.threads.lock().push(thread.map_err(|cause| CacheError::Thread { cause })?);
        Ok(())
    }

    /// The locks' descriptors, for a keeper to duplicate and hand on.
    pub fn lock_fds(&self) -> Vec<RawFd> {
        self.shared.directories.iter().map(|directory| directory.lock.as_raw_fd()).collect()
    }

    /// The cached file of an object; nothing is written to the disk before its first byte.
    ///
    /// # Errors
    /// [`CacheError::TooLarge`]. A disk that fails is no error: it is taken out of use, and the file is as if it
    /// were not cached.
    pub fn file(&self, identity: &ObjectIdentity) -> Result<Arc<CacheFile>, CacheError> {
        if identity.size > MAX_OBJECT {
            return Err(CacheError::TooLarge { key: identity.key.clone(), size: identity.size, maximum: MAX_OBJECT });
        }
        let file = self.shared.file(identity);
        file.load();
        Ok(file)
    }

    /// How much of an object is cached; `None` when nothing of it ever was. Opens nothing for long.
    pub fn peek(&self, id: &ObjectId) -> Option<Presence> {
        self.shared.peek(id)
    }

    /// What is occupied.
    pub fn usage(&self) -> Usage {
        self.shared.usage()
    }

    /// What was counted since the cache was opened.
    pub fn counters(&self) -> CounterValues {
        self.shared.counters.values()
    }

    /// All cached objects. Reads the head of each.
    pub fn entries(&self) -> Vec<CachedEntry> {
        self.shared.entries()
    }

    /// Evicts an object because somebody asks; returns the bytes freed. A complete file that is held is unlinked
    /// and freed when its last holder lets go; an incomplete one that is held is emptied; a pinned one stays.
    ///
    /// # Errors
    /// [`CacheError::Object`] when the disk refuses.
    pub fn evict(&self, id: &ObjectId) -> Result<u64, CacheError> {
        let mut freed = 0;
        for directory in &self.shared.directories {
            let failed = |cause| CacheError::Object { id: *id, operation: "evicting", cause };
            match self.shared.evict_one(directory, id, true).map_err(failed)? {
                Outcome::Unlinked(bytes) => {
                    freed += bytes;
                    self.shared.tell_evicted(&[*id]);
                }
                Outcome::UnlinkedHeld(_) => self.shared.tell_evicted(&[*id]),
                Outcome::Emptied(bytes) => freed += bytes,
                Outcome::Stays => {}
            }
            directory.free_space.lock().forget();
        }
        Ok(freed)
    }

    /// Pins or unpins an object; a pinned one is never evicted. Survives restarts, also for what is not cached yet.
    ///
    /// # Errors
    /// [`CacheError::Object`] when the disk refuses.
    pub fn set_pinned(&self, identity: &ObjectIdentity, pinned: bool) -> Result<(), CacheError> {
        self.file(identity)?.set_pinned(pinned)
    }

    /// None of these objects is evicted to make room or for its age, until the next set is given; when it is asked for, it goes all the
    /// same. Remembered by nobody: a new process has to be told again.
    pub fn protect(&self, ids: &HashSet<ObjectId>) {
        for directory in &self.shared.directories {
            directory.ledger.lock().protect(ids.clone());
        }
    }

    /// Compares every full block with its digest; with `repair` wrong ones are dropped. `progress` is told files
    /// and bytes done after each block, and stops the check by returning false.
    pub fn verify(&self, progress: &dyn Fn(u64, u64) -> bool, repair: bool) -> VerifyReport {
        self.shared.verify(progress, repair)
    }

    /// Whether everything from before has been counted.
    pub fn scan_done(&self) -> bool {
        self.shared.directories.iter().all(|directory| directory.ledger.lock().is_scanned())
    }

    /// Waits for [`Cache::scan_done`], at most so long; false when it took longer.
    pub fn wait_scanned(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        self.shared.directories.iter().all(|directory| {
            let mut ledger = directory.ledger.lock();
            while !ledger.is_scanned() {
                if directory.scanned.wait_until(&mut ledger, deadline).timed_out() {
                    return ledger.is_scanned();
                }
            }
            true
        })
    }

    /// Whether doors go through a private read-only mount in every directory, so that nobody can reopen one for
    /// writing.
    pub fn door_is_private(&self) -> bool {
        self.shared.directories.iter().all(|directory| directory.door_tree.is_some())
    }

    /// Called once when a file became complete, with no lock held.
    pub fn on_complete(&self, callback: Box<dyn Fn(&ObjectId) + Send + Sync>) {
        self.shared.on_complete.write().push(Arc::new(callback));
    }

    /// Called after a file was unlinked, with no lock of a file held.
    pub fn on_evict(&self, callback: Box<dyn Fn(&ObjectId) + Send + Sync>) {
        self.shared.on_evict.write().push(Arc::new(callback));
    }

    /// Called with a directory and what it lacks, once for each time that it has no room for what is read, with no lock held.
    pub fn on_full(&self, callback: FullCallback) {
        self.shared.on_full.write().push(Arc::new(callback));
    }

    /// Runs now what else runs once a minute: eviction by age, and keeping the promised space free.
    pub fn look_after_space(&self) {
        self.shared.look_after_space();
    }

    /// Waits until all complete files are synced and checked, at most so long; false when it took longer.
    pub fn sync_all(&self, at_most: Duration) -> bool {
        self.shared.chores.wait_idle(Instant::now() + at_most)
    }

    /// Files that came too fast for the page cache and are still to be read back into memory.
    pub fn to_read_back(&self) -> usize {
        self.shared.pages.pending()
    }

    /// Stops the background threads and keeps the last uses. Files stay readable.
    pub fn shutdown(&self) {
        self.shared.chores.stop();
        self.shared.pages.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A callback may drop the last `Cache` on one of these threads.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                log::error!("cache: a background thread panicked");
            }
        }
        for file in self.shared.live_files() {
            file.persist_last_use();
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.shutdown();
    }
}
