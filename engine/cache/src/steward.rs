//! The steward: one background thread that syncs completed files and marks them so, checks whole files that a
//! power loss may have touched, and once a minute lets old files go and keeps the promised space free.
//!
//! One thread is a limit on purpose: syncing must not take the disk away from readers. Many small files are
//! synced by one `syncfs`, since one journal commit for each would keep the disk busy for minutes.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::{Duration, UNIX_EPOCH};

use headrace_sync::{Condvar, Instant, Mutex};

use crate::counters::Counters;
use crate::directory::Directory;
use crate::shared::{Shared, now_ns};
use crate::{CacheFile, ObjectId};

/// How often age and free space are looked after.
const ROUND: Duration = Duration::from_secs(60);
/// From this many files on, one `syncfs` is cheaper than an `fdatasync` each.
const SYNC_TOGETHER: usize = 16;
/// Files taken at once: each has two descriptors open until the batch is done.
const BATCH: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chore {
    /// Sync a complete file.
    Sync(ObjectId),
    /// Check the blocks in doubt of a whole file.
    Verify(ObjectId),
}

/// What the steward has to do. Each chore is there at most once, so the queue is bounded by the files.
#[derive(Default)]
pub struct Chores {
    queue: Mutex<Queue>,
    wake: Condvar,
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Chore>,
    known: HashSet<Chore>,
    busy: bool,
    stopped: bool,
}

impl Chores {
    pub fn add(&self, chore: Chore) {
        let mut queue = self.queue.lock();
        if !queue.stopped && queue.known.insert(chore) {
            queue.waiting.push_back(chore);
            self.wake.notify_one();
        }
    }

    pub fn stop(&self) {
        self.queue.lock().stopped = true;
        self.wake.notify_all();
        self.idle.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        self.queue.lock().stopped
    }

    /// Waits until nothing is left to do, at most until `deadline`; false when something is.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        let mut queue = self.queue.lock();
        while (queue.busy || !queue.waiting.is_empty()) && !queue.stopped {
            if self.idle.wait_until(&mut queue, deadline).timed_out() {
                return false;
            }
        }
        queue.waiting.is_empty() && !queue.busy
    }

    /// The next few chores; none when the round is due; `None` when stopped.
    fn next(&self, round: Instant) -> Option<Vec<Chore>> {
        let mut queue = self.queue.lock();
        queue.busy = false;
        loop {
            if queue.stopped {
                return None;
            }
            if !queue.waiting.is_empty() {
                queue.busy = true;
                let count = queue.waiting.len().min(BATCH);
                let batch: Vec<Chore> = queue.waiting.drain(..count).collect();
                batch.iter().for_each(|chore| {
                    queue.known.remove(chore);
                });
                return Some(batch);
            }
            self.idle.notify_all();
            if self.wake.wait_until(&mut queue, round).timed_out() {
                return Some(Vec::new());
            }
        }
    }
}

/// The steward's thread.
pub fn serve(shared: &Arc<Shared>) {
    let mut round = Instant::now() + ROUND;
    while let Some(chores) = shared.chores.next(round) {
        let mut to_sync = Vec::new();
        for chore in chores {
            match chore {
                Chore::Sync(id) => to_sync.push(id),
                Chore::Verify(id) => {
                    if let Some(file) = shared.live(&id) {
                        file.verify_suspects();
                    }
                }
            }
        }
        shared.sync_files(&to_sync);
        if Instant::now() >= round {
            shared.look_after_space();
            round = Instant::now() + ROUND;
        }
    }
}

impl Shared {
    fn sync_files(self: &Arc<Shared>, ids: &[ObjectId]) {
        for directory in &self.directories {
            let mut together = ids.len() >= SYNC_TOGETHER;
            let mut files = Vec::new();
            for id in ids.iter().filter(|id| directory.ledger.lock().get(id).is_some()) {
                // A file that was closed meanwhile may have been forgotten with its errors; those of the whole file
                // system are not.
                together |= self.live(id).is_none();
                let file = self.open_by_id(directory, id);
                files.extend(file.and_then(|file| file.drops_if_to_sync().map(|drops| (file, drops))));
            }
            if together {
                self.sync_together(directory, &files);
            } else {
                files.iter().for_each(|(file, _)| {
                    if file.make_durable() {
                        Counters::add(&self.counters.synced_files, 1);
                    }
                });
            }
        }
    }

    fn sync_together(&self, directory: &Directory, files: &[(Arc<CacheFile>, u64)]) {
        // SAFETY: syncfs takes a descriptor, open for the call, and touches no memory.
        if !files.is_empty() && unsafe { libc::syncfs(directory.root.as_raw_fd()) } != 0 {
            let error = io::Error::last_os_error();
            files.iter().for_each(|(file, _)| file.abandon(&error));
            return;
        }
        let confirmed = files.iter().filter(|(file, drops)| file.confirm(*drops)).count();
        Counters::add(&self.counters.synced_files, confirmed as u64);
    }

    /// Lets files go that are older than the limit of age, and frees what must stay free on the disk.
    pub fn look_after_space(&self) {
        for file in self.live_files() {
            file.persist_last_use();
        }
        for directory in self.directories.iter().filter(|directory| !directory.is_failed()) {
            if let Some(age) = self.max_age {
                self.evict_older(directory, now_ns().saturating_sub(age.as_nanos() as u64));
            }
            let free = directory.free_space.lock().get(&directory.root);
            match free {
                Ok(free) if free < self.reserve_bytes && directory.ledger.lock().is_scanned() => {
                    self.make_room(directory, || self.reserve_bytes - free, None);
                }
                Ok(_) => {}
                Err(error) => directory.note_error(&self.counters, "asking for free space", &error),
            }
        }
    }
}

impl CacheFile {
    pub(crate) fn drops_if_to_sync(&self) -> Option<u64> {
        let writing = self.writing.lock();
        (self.is_complete() && !writing.head.synced && !self.is_evicted()).then_some(writing.drops)
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        let data = match self.disk.read().as_ref() {
            // A descriptor of its own: syncing takes long, and the lock is needed for punching and closing.
            Some(disk) => disk.data.try_clone()?,
            None => return Ok(()),
        };
        data.sync_data()
    }

    /// Notes that the data survives a power loss, unless it changed since the sync began.
    pub(crate) fn mark_synced(&self, drops: u64) -> io::Result<bool> {
        let mut writing = self.writing.lock();
        if writing.drops != drops || !self.is_complete() || self.is_evicted() {
            return Ok(false);
        }
        writing.head.synced = true;
        // No sync of the head: if it is lost, the blocks are checked once more, and that is all.
        self.write_head(&mut writing)?;
        let read_back = self.announce_read_back();
        self.durable.store(true, Release);
        // Syncing is no use of the file, and the time of change stands for the last use.
        let used = UNIX_EPOCH + Duration::from_nanos(self.last_used());
        let dated = self.meta(&mut writing).and_then(|meta| meta.set_modified(used));
        writing.close();
        drop(writing);
        if read_back {
            self.read_back();
        }
        dated.map(|()| true)
    }
}
