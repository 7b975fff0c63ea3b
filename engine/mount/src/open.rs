//! OPEN and RELEASE: by the node (copy 0) or by passthrough (copy 1).

use crate::backing;
use crate::mount::Mount;
use crate::node_id::NodeId;
use crate::siblings::SMALL_FILE;
use crate::wire::{Packer, Request, UNIQUE_RESEND, open};
use headrace_fetch::Object;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Mount {
    /// OPEN; answered from the pool, because the cache file may have to be opened.
    pub(crate) fn open(self: &Arc<Self>, request: &Request<'_>) {
        let flags = request.u32(0).unwrap_or(0) as i32;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if writes {
            return self.device.error(request.unique, libc::EROFS);
        }
        let (mount, unique, raw) = (Arc::clone(self), request.unique, request.node);
        if self.open_small(unique, raw) {
            return;
        }
        self.pool.run(move || mount.open_now(unique, raw));
    }

    /// Opens a small file without a look at the disk: the kernel may have its pages, and if not, its READ takes that look.
    fn open_small(self: &Arc<Self>, unique: u64, raw: u64) -> bool {
        let node = self.node(raw);
        if node.copy != 0 {
            return false;
        }
        let Some(object) = self.resolve(node).filter(|o| o.spec().size <= SMALL_FILE && !o.spec().archived) else { return false };
        self.counters.opens.fetch_add(1, Relaxed);
        self.nodes.enter_small(raw, &object);
        self.reply_open(unique, open::KEEP_CACHE, 0);
        self.look_beyond(node);
        true
    }

    fn open_now(self: &Arc<Self>, unique: u64, raw: u64) {
        let node = self.node(raw);
        let Some(object) = self.resolve(node) else {
            return self.device.error(unique, libc::ESTALE);
        };
        if object.spec().archived && !object.is_complete() {
            object.tell_archived();
            self.counters.failed_opens.fetch_add(1, Relaxed);
            return self.device.error(unique, libc::EIO);
        }
        self.counters.opens.fetch_add(1, Relaxed);
        if node.copy == 0 {
            self.nodes.enter(raw, &object, 1);
            let flags = if self.reads_past_the_page_cache(node) { open::DIRECT_IO } else { open::KEEP_CACHE };
            return self.reply_open(unique, flags, 0);
        }
        match self.open_passthrough(unique & !UNIQUE_RESEND, raw, &object) {
            Ok(id) => {
                self.counters.passthrough_opens.fetch_add(1, Relaxed);
                object.was_handed_out();
                self.reply_open(unique, open::PASSTHROUGH, id);
            }
            // The kernel answers ESTALE by looking the name up again, which gives the file under the id it now has.
            Err(cause) => {
                log::info!("{} can't be opened by passthrough now: {cause}", object.spec().key);
                self.device.error(unique, libc::ESTALE);
            }
        }
    }

    /// The pages to keep are the cache file's own, which the kernel reads itself once the file is complete. Pages of an
    /// incomplete file that will switch would hold every byte a second time, and filling them costs as much as the rest.
    fn reads_past_the_page_cache(&self, node: NodeId) -> bool {
        self.agreed.direct_with_mmap() && self.snapshot(node.slot).is_some_and(|snapshot| self.may_switch(&snapshot, node.entry))
    }

    fn reply_open(&self, unique: u64, flags: u32, backing: i32) {
        let mut reply = Packer::with_capacity(16);
        reply.u64(0).u32(flags).i32(backing);
        self.device.reply(unique, &reply.0);
    }

    fn open_passthrough(&self, unique: u64, raw: u64, object: &Arc<Object>) -> Result<i32, String> {
        // Never waits for the disk here: until it has confirmed the file, and once it has failed, the node answers.
        if !object.cache_file().is_some_and(|f| f.may_leave()) {
            return Err("it is not, or no longer, whole on a disk that works".to_owned());
        }
        // Held over the whole: two opens of one node must not make two backing ids.
        let mut doors = self.doors.lock();
        if let Some(id) = self.ledger.join(raw, unique) {
            if let Some(file) = object.cache_file() {
                file.touch();
            }
            return Ok(id);
        }
        let door = object.door().ok_or("it was dropped a moment ago")?;
        let id = backing::open(self.device.raw(), door.as_raw_fd()).map_err(|e| {
            // Without the privilege, or on a stacked file system, it never works here: stop offering it.
            self.disable_passthrough(&e);
            e.to_string()
        })?;
        if !self.ledger.begin(raw, id, unique) {
            self.close_backing(id);
            return Err("too many files are open by passthrough".to_owned());
        }
        if let Some(file) = object.cache_file() {
            file.touch();
        }
        doors.insert(raw, door);
        Ok(id)
    }

    fn close_backing(&self, id: i32) {
        if let Err(error) = backing::close(self.device.raw(), id) {
            log::warn!("closing backing id {id}: {error}");
        }
    }

    /// RELEASE: answered first, counted after; a node killed in between leaves one count too many, never one too few.
    pub(crate) fn release(&self, request: &Request<'_>) {
        self.device.reply(request.unique, &[]);
        if self.node(request.node).copy == 0 {
            self.nodes.leave(request.node);
            return;
        }
        let mut doors = self.doors.lock();
        if let Some(id) = self.ledger.leave(request.node) {
            self.close_backing(id);
            let door = doors.remove(&request.node);
            drop(doors);
            drop(door);
        }
    }

    /// The object behind a node, known or from its snapshot.
    pub(crate) fn resolve(&self, node: NodeId) -> Option<Arc<Object>> {
        if let Some(object) = self.nodes.get(node.encode()) {
            return Some(object);
        }
        let snapshot = self.snapshot(node.slot)?;
        self.config.volume.object(&snapshot, node.entry)
    }

    /// After a take-over: files open by passthrough are held again.
    pub(crate) fn hold_again(&self) {
        let mut doors = self.doors.lock();
        for raw in self.ledger.open_nodes() {
            if let Some(door) = self.resolve(self.node(raw)).and_then(|o| o.door()) {
                doors.insert(raw, door);
            }
        }
    }
}
