//! Names and attributes, from the snapshots: look-ups, attributes, directories.

use crate::mount::Mount;
use crate::node_id::NodeId;
use crate::wire::{Packer, ROOT_ID, Request, open};
use headrace_snapshot::{EntryId, EntryKind, Snapshot};
use std::sync::Arc;

/// Snapshots never change, so the kernel may keep names and attributes for as long as it likes.
const FOREVER_SECONDS: u64 = 365 * 24 * 3600;
/// Below this a file stays with the node when complete: the kernel keeps its pages anyway, and an open by passthrough costs more
/// than it brings.
pub(crate) const SWITCH_MIN_BYTES: u64 = 1024 * 1024;
const DIRENT_BYTES: usize = 24;
const ENTRY_OUT_BYTES: usize = 128;
const NAME_MAX: u32 = 255;
const BLOCK_SIZE: u64 = 4096;

/// How long the kernel may believe a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Forever,
    /// Ask again at the next open: the file may be complete by then.
    Never,
}

impl Mount {
    pub(crate) fn node(&self, raw: u64) -> NodeId {
        NodeId::decode(raw, self.ledger.current_slot())
    }

    pub(crate) fn snapshot(&self, slot: u16) -> Option<Arc<Snapshot>> {
        self.slots.read().get(&slot).map(|s| Arc::clone(&s.snapshot))
    }

    /// LOOKUP; what may need the disk (is this file complete?) is answered from the pool.
    pub(crate) fn lookup(self: &Arc<Self>, request: &Request<'_>) {
        let parent = self.node(request.node);
        let (Some(snapshot), Some(name)) = (self.snapshot(parent.slot), request.name()) else {
            return self.device.error(request.unique, libc::ESTALE);
        };
        let Some(entry) = snapshot.lookup(parent.entry, name) else {
            return self.absent(request.unique, request.node == ROOT_ID);
        };
        let node = NodeId { slot: parent.slot, entry, copy: 0 };
        if !self.may_switch(&snapshot, entry) {
            return self.reply_entry(request.unique, &snapshot, node, Trust::Forever);
        }
        let (mount, unique) = (Arc::clone(self), request.unique);
        self.pool.run(move || {
            let ready = mount.is_ready(&snapshot, entry);
            let node = NodeId { copy: u16::from(ready), ..node };
            let trust = if ready { Trust::Forever } else { Trust::Never };
            mount.reply_entry(unique, &snapshot, node, trust);
        });
    }

    /// Absent names are remembered too, except where a refresh may make them appear.
    fn absent(&self, unique: u64, in_root: bool) {
        if in_root {
            return self.device.error(unique, libc::ENOENT);
        }
        let mut reply = Packer::with_capacity(ENTRY_OUT_BYTES);
        reply.u64(0).u64(0).u64(FOREVER_SECONDS).zeros(ENTRY_OUT_BYTES - 24);
        self.device.reply(unique, &reply.0);
    }

    pub(crate) fn may_switch(&self, snapshot: &Snapshot, entry: EntryId) -> bool {
        self.passthrough() && snapshot.entry(entry).is_some_and(|e| e.kind == EntryKind::File && e.size >= SWITCH_MIN_BYTES)
    }

    /// Complete, and given out by the cache without waiting for the disk.
    fn is_ready(&self, snapshot: &Snapshot, entry: EntryId) -> bool {
        let cache = self.config.volume.fetcher.cache();
        let identity = self.config.volume.identity(snapshot, entry);
        identity.and_then(|i| cache.peek(&i.id())).is_some_and(|p| p.durable)
    }

    fn reply_entry(&self, unique: u64, snapshot: &Snapshot, node: NodeId, trust: Trust) {
        let mut reply = Packer::with_capacity(ENTRY_OUT_BYTES);
        if self.pack_entry(&mut reply, snapshot, node, trust) {
            self.device.reply(unique, &reply.0);
        } else {
            self.device.error(unique, libc::EIO);
        }
    }

    fn pack_entry(&self, out: &mut Packer, snapshot: &Snapshot, node: NodeId, trust: Trust) -> bool {
        let seconds = if trust == Trust::Forever { FOREVER_SECONDS } else { 0 };
        out.u64(node.encode()).u64(0).u64(seconds).u64(FOREVER_SECONDS).u32(0).u32(0);
        self.pack_attributes(out, snapshot, node)
    }

    pub(crate) fn getattr(&self, request: &Request<'_>) {
        let node = self.node(request.node);
        let Some(snapshot) = self.snapshot(node.slot) else {
            return self.device.error(request.unique, libc::ESTALE);
        };
        // The root changes with a refresh; everything else never does.
        let seconds = if request.node == ROOT_ID { 1 } else { FOREVER_SECONDS };
        let mut reply = Packer::with_capacity(104);
        reply.u64(seconds).u32(0).u32(0);
        if self.pack_attributes(&mut reply, &snapshot, node) {
            self.device.reply(request.unique, &reply.0);
        } else {
            self.device.error(request.unique, libc::EIO);
        }
    }

    fn pack_attributes(&self, out: &mut Packer, snapshot: &Snapshot, node: NodeId) -> bool {
        let Some(entry) = snapshot.entry(node.entry) else { return false };
        let config = &self.config;
        let (mode, links, size) = match entry.kind {
            EntryKind::File => (libc::S_IFREG | config.file_mode, 1, entry.size),
            EntryKind::Directory => (libc::S_IFDIR | config.dir_mode, 2, 0),
        };
        let inode = if node.entry.0 == 0 { ROOT_ID } else { node.inode() };
        let seconds = entry.mtime_ns.div_euclid(1_000_000_000) as u64;
        let nanos = entry.mtime_ns.rem_euclid(1_000_000_000) as u32;
        out.u64(inode).u64(size).u64(size.div_ceil(512));
        out.u64(seconds).u64(seconds).u64(seconds).u32(nanos).u32(nanos).u32(nanos);
        out.u32(mode).u32(links).u32(config.uid).u32(config.gid).u32(0).u32(128 * 1024).u32(0);
        true
    }

    /// OPENDIR: an open directory stays with the snapshot it was opened in; its handle is the slot.
    pub(crate) fn opendir(&self, request: &Request<'_>) {
        let node = self.node(request.node);
        let cache = if request.node == ROOT_ID { 0 } else { open::KEEP_CACHE | open::CACHE_DIR };
        let mut reply = Packer::with_capacity(16);
        reply.u64(u64::from(node.slot)).u32(cache).i32(0);
        self.device.reply(request.unique, &reply.0);
    }

    pub(crate) fn readdir(&self, request: &Request<'_>, plus: bool) {
        let mut node = self.node(request.node);
        let (Some(handle), Some(offset), Some(size)) = (request.u64(0), request.u64(8), request.u32(16)) else {
            return self.device.error(request.unique, libc::EINVAL);
        };
        if request.node == ROOT_ID {
            node.slot = handle as u16;
        }
        let Some(snapshot) = self.snapshot(node.slot) else {
            return self.device.error(request.unique, libc::ESTALE);
        };
        let mut list = Listing { mount: self, snapshot: &snapshot, plus, limit: size as usize, out: Packer::default() };
        let children = snapshot.children(node.entry);
        let mut index = offset;
        while list.fits_next(index, &children, node) {
            index += 1;
        }
        self.device.reply(request.unique, &list.out.0);
    }

    pub(crate) fn statfs(&self, unique: u64) {
        let slot = self.ledger.current_slot();
        let totals = self.snapshot(slot).map(|s| s.totals()).unwrap_or_default();
        let mut reply = Packer::with_capacity(80);
        reply.u64(totals.bytes.div_ceil(BLOCK_SIZE)).u64(0).u64(0).u64(totals.files + totals.dirs).u64(0);
        reply.u32(BLOCK_SIZE as u32).u32(NAME_MAX).u32(BLOCK_SIZE as u32).zeros(28);
        self.device.reply(unique, &reply.0);
    }
}

/// One READDIR(PLUS) answer in the making.
struct Listing<'a> {
    mount: &'a Mount,
    snapshot: &'a Snapshot,
    plus: bool,
    limit: usize,
    out: Packer,
}

impl Listing<'_> {
    /// Adds the entry at `index` (0 and 1 are the dots); false at the end or when it doesn't fit.
    fn fits_next(&mut self, index: u64, children: &headrace_snapshot::Children<'_>, directory: NodeId) -> bool {
        match index {
            0 => self.add(directory, b".", index, true),
            1 => {
                let parent = self.snapshot.entry(directory.entry).map_or(directory.entry, |e| e.parent);
                self.add(NodeId { entry: parent, ..directory }, b"..", index, true)
            }
            _ => {
                let Some(id) = usize::try_from(index - 2).ok().and_then(|i| children.get(i)) else { return false };
                let Some(entry) = self.snapshot.entry(id) else { return false };
                self.add(NodeId { entry: id, ..directory }, entry.name, index, false)
            }
        }
    }

    fn add(&mut self, node: NodeId, name: &[u8], index: u64, dot: bool) -> bool {
        let head = if self.plus { ENTRY_OUT_BYTES } else { 0 };
        let padded = (DIRENT_BYTES + name.len()).next_multiple_of(8);
        if self.out.0.len() + head + padded > self.limit {
            return false;
        }
        let kind = self.snapshot.entry(node.entry).map(|e| e.kind);
        if self.plus {
            // Without a node id the kernel takes the name only and asks when it is opened: so a file that may
            // switch to passthrough costs no look at the disk here.
            if dot || self.mount.may_switch(self.snapshot, node.entry) {
                self.out.zeros(ENTRY_OUT_BYTES);
            } else if !self.mount.pack_entry(&mut self.out, self.snapshot, node, Trust::Forever) {
                return false;
            }
        }
        let kind = if kind == Some(EntryKind::Directory) { libc::DT_DIR } else { libc::DT_REG };
        let inode = if node.entry.0 == 0 { ROOT_ID } else { node.inode() };
        self.out.u64(inode).u64(index + 1).u32(name.len() as u32).u32(u32::from(kind)).bytes(name);
        self.out.zeros(padded - DIRENT_BYTES - name.len());
        true
    }
}
