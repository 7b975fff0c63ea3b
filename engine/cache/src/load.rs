//! Adoption: what an earlier process left of a file, and how much of it is trusted. The rules are those of
//! [`Record::adopt`]; no data is read here, whatever the size of the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::evict::punch_hole;
use crate::file::{Disk, Writing};
use crate::format::{self, Adopted, HEAD_LEN, Head, RECORD_LEN, Record};
use crate::{BLOCK, CacheFile, ObjectIdentity, direct, space};

/// Records read at once: 64 KiB stand for 2 GiB of data.
const RECORDS_AT_ONCE: usize = 2048;

impl CacheFile {
    /// Looks, once, for what is on disk.
    pub(crate) fn load(&self) {
        if self.loaded.load(Acquire) {
            return;
        }
        let mut writing = self.writing.lock();
        if self.loaded.load(Acquire) {
            return;
        }
        for directory in self.shared.placement(&self.id()) {
            match self.adopt(&directory, &mut writing) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    directory.note_error(&self.shared.counters, "opening a cached file", &error);
                    self.presence.clear_all();
                    writing.reset();
                }
            }
        }
        self.loaded.store(true, Release);
    }

    fn adopt(&self, directory: &Arc<Directory>, writing: &mut Writing) -> io::Result<bool> {
        let meta = match directory.open_meta(&self.id()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let data = directory.open_data(&self.id());
        let (head, data) = match (read_head(&meta)?, data) {
            (Some((head, identity)), Ok(data)) if identity == self.identity && data.metadata()?.len() == head.size => (head, data),
            (_, Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                log::warn!("cached object {}: its meta file is torn or does not fit; dropped", self.id());
                Counters::add(&self.shared.counters.torn_files, 1);
                drop(directory.unlink(&self.id())?);
                directory.ledger.lock().remove(&self.id());
                return Ok(false);
            }
        };
        let last_used = meta.metadata().map(|meta| modified_ns(&meta))?;
        let booked = directory.ledger.lock().get(&self.id());
        self.adopt_last_use(last_used, booked.map(|entry| entry.last_used));
        self.pinned.store(head.pinned, Relaxed);
        self.was_complete.store(head.was_complete, Release);
        self.durable.store(head.synced, Release);
        writing.head = head;
        writing.directory = Some(directory.clone());
        let unprovable = self.adopt_records(&meta, &head)?;
        writing.meta = Some(meta);
        for block in unprovable {
            // Nothing of another boot can have it open, and it is incomplete: its blocks may go.
            self.write_record(writing, block, Record::default())?;
            if let Err(error) = punch_hole(&data, block as u64 * BLOCK, BLOCK) {
                log::debug!("cached object {}: cannot punch a dropped block: {error}", self.id());
            }
            Counters::add(&self.shared.counters.unprovable_blocks, 1);
        }
        let allocated = space::allocated(&data)?;
        writing.announced = self.is_complete();
        self.settle(writing)?;
        if writing.head.synced {
            writing.meta = None;
        }
        direct::expect_pieces(&data, !self.is_complete());
        *self.disk.write() = Some(Disk { directory: directory.clone(), data });
        self.book(writing, directory, allocated);
        if self.present_bytes() > 0 {
            Counters::add(&self.shared.counters.adopted_files, 1);
        }
        Ok(true)
    }

    /// Marks what the records claim and is believed; returns the blocks whose claims nothing can prove.
    fn adopt_records(&self, meta: &File, head: &Head) -> io::Result<Vec<usize>> {
        let mut unprovable = Vec::new();
        let count = self.presence.block_count();
        let mut buffer = vec![0; RECORDS_AT_ONCE.min(count) * RECORD_LEN];
        for first in (0..count).step_by(RECORDS_AT_ONCE) {
            let records = &mut buffer[..RECORDS_AT_ONCE.min(count - first) * RECORD_LEN];
            read_or_zero(meta, records, head.record_offset(first))?;
            for (index, bytes) in records.chunks_exact(RECORD_LEN).enumerate() {
                let block = first + index;
                let full = self.presence.full(block);
                let record = Record::decode(bytes.try_into().expect("32 bytes"), block);
                match record.adopt(full, self.shared.boot, head.synced) {
                    Adopted::Absent => {}
                    Adopted::Trusted(chunks) => self.presence.mark(block, chunks, 0),
                    Adopted::Suspect => {
                        self.presence.set_suspect(block, true);
                        self.presence.mark(block, full, 0);
                    }
                    Adopted::Unprovable => unprovable.push(block),
                }
            }
        }
        Ok(unprovable)
    }
}

/// The head and identity of a meta file; `None` when they are torn.
pub fn read_head(meta: &File) -> io::Result<Option<(Head, ObjectIdentity)>> {
    let mut bytes = [0; HEAD_LEN];
    read_or_zero(meta, &mut bytes, 0)?;
    let Ok(head) = Head::decode(&bytes) else {
        return Ok(None);
    };
    let mut text = vec![0; head.identity_len as usize];
    read_or_zero(meta, &mut text, HEAD_LEN as u64)?;
    Ok(format::decode_identity(&head, &text).ok().map(|identity| (head, identity)))
}

/// What lies beyond a file's end reads as zeros, which no check accepts.
pub fn read_or_zero(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer[filled..].fill(0);
    Ok(())
}

/// A file's time of change, in nanoseconds since 1970.
pub fn modified_ns(metadata: &std::fs::Metadata) -> u64 {
    (metadata.mtime().max(0) as u64) * 1_000_000_000 + metadata.mtime_nsec() as u64
}
