//! One cached object version: its state in memory, who holds it, and the few writes to its meta file.
//!
//! There is at most one `CacheFile` for an object at a time (an unlinked one that is still held aside), so its
//! locks are the object's locks. `writing` serialises every change of data, records and presence; the kernel
//! serialises buffered writes to one file anyway. `disk` is held for reading while bytes are read, and for
//! writing for the moment in which bytes are taken away.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use headrace_sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use headrace_sync::{Mutex, RwLock};

use crate::directory::Directory;
use crate::format::{self, Head, Record};
use crate::ledger::Entry;
use crate::presence::Bitmap;
use crate::shared::{Shared, now_ns};
use crate::steward::Chore;
use crate::{BLOCK, ObjectId, ObjectIdentity, direct};

/// The last use is kept on disk (as the meta file's time of change) to this precision.
const LAST_USE_PRECISION_NS: u64 = 60_000_000_000;

/// A cached object version. Cheap to keep: two descriptors at most while it has bytes on disk.
pub struct CacheFile {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: ObjectIdentity,
    id: ObjectId,
    pub(crate) presence: Bitmap,
    pub(crate) writing: Mutex<Writing>,
    pub(crate) disk: RwLock<Option<Disk>>,
    pub(crate) loaded: AtomicBool,
    pub(crate) evicted: AtomicBool,
    pub(crate) pinned: AtomicBool,
    /// As `synced` in the head: the disk has confirmed every byte.
    pub(crate) durable: AtomicBool,
    /// Held while asking whether a write was lost; true once one was.
    pub(crate) lost: Mutex<bool>,
    /// As in the head: punching is over for this file.
    pub(crate) was_complete: AtomicBool,
    /// What the file occupied when it was unlinked from under its holders, in bytes.
    pub(crate) unlinked_bytes: AtomicU64,
    holds: AtomicUsize,
    pub(crate) doors: AtomicUsize,
    last_used: AtomicU64,
    pub(crate) last_use_on_disk: AtomicU64,
}

/// The data file, open.
pub(crate) struct Disk {
    pub directory: Arc<Directory>,
    pub data: File,
}

/// What only the holder of the `writing` lock may look at.
pub(crate) struct Writing {
    pub directory: Option<Arc<Directory>>,
    /// Open while there is something to write; a synced file needs none.
    pub meta: Option<File>,
    /// The data file once more, for writes past the page cache; open as long as `meta`.
    pub direct: Option<File>,
    pub head: Head,
    /// Completion has been told.
    pub announced: bool,
    /// How often blocks were dropped: a sync that began before a drop proves nothing.
    pub drops: u64,
}

impl Writing {
    /// Closes what is open for writing: a file without a name, or one that is synced, is not written any more, and what stays
    /// open keeps its blocks on the disk.
    pub fn close(&mut self) {
        self.meta = None;
        self.direct = None;
    }

    /// Back to a file that was never written.
    pub fn reset(&mut self) {
        self.directory = None;
        self.close();
        self.head = Head { complete: false, synced: false, pinned: false, was_complete: false, ..self.head };
        self.announced = false;
        self.drops += 1;
    }
}

impl CacheFile {
    pub(crate) fn new(shared: Arc<Shared>, identity: ObjectIdentity, id: ObjectId) -> CacheFile {
        let head = Head::new(identity.size, &format::encode_identity(&identity));
        CacheFile {
            shared,
            presence: Bitmap::new(identity.size),
            identity,
            id,
            writing: Mutex::new(Writing { directory: None, meta: None, direct: None, head, announced: false, drops: 0 }),
            disk: RwLock::new(None),
            loaded: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            pinned: AtomicBool::new(false),
            durable: AtomicBool::new(false),
            lost: Mutex::new(false),
            was_complete: AtomicBool::new(false),
            unlinked_bytes: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            doors: AtomicUsize::new(0),
            last_used: AtomicU64::new(0),
            last_use_on_disk: AtomicU64::new(0),
        }
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// What the object is.
    pub fn identity(&self) -> &ObjectIdentity {
        &self.identity
    }

    /// The object's size in bytes.
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// What of `range` is not present: whole chunks (the last one clipped to the size), merged, in order.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.presence.missing(range)
    }

    /// Whether every chunk that `range` touches is present. A block in doubt counts as present until
    /// [`CacheFile::read_at`] has checked it.
    pub fn is_present(&self, range: Range<u64>) -> bool {
        self.presence.covers(range)
    }

    /// How many of the object's bytes are present.
    pub fn present_bytes(&self) -> u64 {
        self.presence.present_bytes()
    }

    /// Whether all bytes are present and none of them is in doubt.
    pub fn is_complete(&self) -> bool {
        self.presence.is_complete()
    }

    /// Whether all bytes are present, but some of them are from another boot and are being compared with their digests.
    pub fn awaits_check(&self) -> bool {
        self.presence.is_whole() && self.presence.has_suspects()
    }

    /// Whether all bytes are present and the disk has confirmed them. Only such a file is given out by a door: what is
    /// merely written can still be lost on its way to the disk, and nobody reading it elsewhere would notice.
    pub fn is_durable(&self) -> bool {
        self.is_complete() && (self.durable.load(Acquire) || self.size() == 0)
    }

    /// Whether [`CacheFile::door`] gives one at once: the disk has confirmed all bytes, and has not failed since. Whoever
    /// reads a failing disk through a descriptor of their own gets its errors; we read elsewhere.
    pub fn may_leave(&self) -> bool {
        self.is_durable() && self.disk.read().as_ref().is_some_and(|disk| !disk.directory.is_failed())
    }

    /// Whether the file lost its name while it was held. Its bytes stay readable until the last holder lets go;
    /// what is written is not kept any more. Ask the cache for the object anew.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Acquire)
    }

    /// Whether eviction by use passes the object over.
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Relaxed)
    }

    /// Notes a use: the file goes to the end of the order of eviction.
    pub fn touch(&self) {
        self.last_used.store(now_ns(), Relaxed);
    }

    /// Nanoseconds since 1970 of the last use.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    /// Keeps the file from being unlinked for room while it is open through the mount.
    pub fn hold(self: &Arc<Self>) -> Hold {
        // Under the lock an evictor sees either the hold or none.
        let _disk = self.disk.read();
        self.holds.fetch_add(1, AcqRel);
        self.touch();
        Hold { file: self.clone() }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Acquire) > 0 || self.doors.load(Acquire) > 0
    }

    /// Opening is no use (the steward and `cache verify` open files too): the last one stays what it was.
    pub(crate) fn adopt_last_use(&self, on_disk: u64, booked: Option<u64>) {
        self.last_use_on_disk.store(on_disk, Relaxed);
        self.last_used.fetch_max(booked.unwrap_or(on_disk), Relaxed);
    }

    /// Writes one record. Call for named files only: an unlinked one has no meta file.
    pub(crate) fn write_record(&self, writing: &mut Writing, block: usize, record: Record) -> io::Result<()> {
        let offset = writing.head.record_offset(block);
        self.meta(writing)?.write_all_at(&record.encode(block), offset)
    }

    pub(crate) fn write_head(&self, writing: &mut Writing) -> io::Result<()> {
        let head = writing.head.encode();
        self.meta(writing)?.write_all_at(&head, 0)
    }

    pub(crate) fn meta<'a>(&self, writing: &'a mut Writing) -> io::Result<&'a File> {
        if writing.meta.is_none() {
            if self.is_evicted() {
                return Err(io::ErrorKind::NotFound.into()); // what has the name by now is another file's
            }
            let directory = writing.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
            writing.meta = Some(directory.open_meta(&self.id)?);
        }
        writing.meta.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Enters what the file occupies now into the directory's books.
    pub(crate) fn book(&self, writing: &Writing, directory: &Directory, data_allocated: u64) {
        if self.is_evicted() {
            return;
        }
        let meta_allocated = writing.head.meta_len().next_multiple_of(4096);
        let entry = Entry {
            allocated: data_allocated + meta_allocated,
            last_used: self.last_used(),
            complete: self.is_complete(),
            pinned: writing.head.pinned,
        };
        directory.book(self.id, entry);
    }

    /// After presence changed: brings the head in line with it. True when the file became complete just now and
    /// that is to be told.
    pub(crate) fn settle(&self, writing: &mut Writing) -> io::Result<bool> {
        let complete = self.is_complete();
        if writing.head.complete && !self.presence.is_whole() {
            writing.head.complete = false;
            writing.head.synced = false;
            self.durable.store(false, Release);
            writing.announced = false;
            self.write_head(writing)?;
            // What is written over dropped blocks must never be found under a head that still says synced.
            self.meta(writing)?.sync_data()?;
        } else if complete && !writing.head.complete {
            writing.head.complete = true;
            writing.head.was_complete = true;
            self.was_complete.store(true, Release);
            self.write_head(writing)?;
            if let Some(disk) = self.disk.read().as_ref() {
                direct::expect_pieces(&disk.data, false);
            }
        }
        if complete && !writing.head.synced {
            self.shared.chores.add(Chore::Sync(self.id));
        }
        if self.awaits_check() {
            self.shared.chores.add(Chore::Verify(self.id));
        }
        Ok(complete && !std::mem::replace(&mut writing.announced, complete))
    }

    /// Forgets a block whose bytes turned out wrong or unreadable. Its blocks on disk stay: the right bytes will
    /// be written over them, and whoever may still read there must not find zeros.
    pub(crate) fn drop_block(&self, writing: &mut Writing, block: usize) {
        writing.drops += 1;
        {
            let _disk = self.disk.write();
            self.presence.clear(block);
        }
        let noted = self.write_record(writing, block, Record::default()).and_then(|()| self.settle(writing));
        if let (Err(error), Some(directory)) = (noted, &writing.directory) {
            directory.note_error(&self.shared.counters, "noting a dropped block", &error);
        }
    }

    pub(crate) fn block_length(&self, block: usize) -> usize {
        let range = self.presence.block_range(block);
        debug_assert!(range.end - range.start <= BLOCK);
        (range.end - range.start) as usize
    }

    /// Keeps the last use on disk, coarsely, for the next node.
    pub(crate) fn persist_last_use(&self) {
        let last_used = self.last_used();
        if last_used < self.last_use_on_disk.load(Relaxed).saturating_add(LAST_USE_PRECISION_NS) {
            return;
        }
        let Some(directory) = self.disk.read().as_ref().map(|disk| disk.directory.clone()) else {
            return;
        };
        if self.is_evicted() {
            return;
        }
        self.last_use_on_disk.store(last_used, Relaxed);
        let when = UNIX_EPOCH + Duration::from_nanos(last_used);
        let kept = directory.open_meta(&self.id).and_then(|meta| meta.set_modified(when));
        if let Err(error) = kept {
            log::debug!("cached object {}: cannot keep its last use: {error}", self.id);
        }
    }
}

impl Drop for CacheFile {
    fn drop(&mut self) {
        self.persist_last_use();
        if let Some(disk) = self.disk.get_mut()
            && !*self.evicted.get_mut()
        {
            disk.directory.ledger.lock().touch(self.id, *self.last_used.get_mut());
        }
        let mut files = self.shared.files.lock();
        if files.get(&self.id).is_some_and(|known| std::ptr::eq(known.as_ptr(), self)) {
            files.remove(&self.id);
        }
    }
}

/// Keeps a file in use; see [`CacheFile::hold`].
pub struct Hold {
    file: Arc<CacheFile>,
}

impl Hold {
    /// The file held.
    pub fn file(&self) -> &Arc<CacheFile> {
        &self.file
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.file.touch();
        {
            // Under the lock an evictor sees either the hold, and leaves closing to us, or none.
            let _disk = self.file.disk.read();
            self.file.holds.fetch_sub(1, AcqRel);
        }
        self.file.close_if_unlinked();
    }
}
