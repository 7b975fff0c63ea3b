//! Keeping bytes: admission, `pwrite`, digest, record, presence, in this order. A whole 1 MiB block costs one
//! `pwrite`, one hash of the buffer (before any lock), one 32-byte `pwrite` and one `fstat` for the books.
//!
//! Not keeping is no error: the caller has already served the bytes.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use crate::counters::Counters;
use crate::direct::Haste;
use crate::directory::Directory;
use crate::file::{Disk, Writing};
use crate::format::{self, Record};
use crate::presence::Warmth;
use crate::{BLOCK, CHUNK, CacheError, CacheFile, direct, evict, space};

/// What became of bytes handed to [`CacheFile::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// They are in the cache.
    Yes,
    /// They are not.
    No(Unkept),
}

/// Why bytes were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// Everything that could make room is in use or pinned.
    NoRoom,
    /// The disk is full.
    DiskFull,
    /// The disk fails, or no directory works.
    Failing,
    /// It is not yet known how much the directory holds.
    Scanning,
    /// The file was evicted; ask the cache for the object anew.
    Evicted,
    /// The range does not consist of whole chunks inside the object.
    Misaligned,
}

impl CacheFile {
    /// Keeps whole chunks: `offset` a multiple of [`CHUNK`], and `data` a multiple of it or reaching the end of
    /// the object. Chunks already present are not written again.
    pub fn write(&self, offset: u64, data: &[u8]) -> Kept {
        self.write_with(offset, data, Haste::None)
    }

    /// As [`CacheFile::write`], by a writer that may have fallen behind.
    pub fn write_with(&self, offset: u64, data: &[u8], haste: Haste) -> Kept {
        let end = offset.saturating_add(data.len() as u64);
        let aligned = offset.is_multiple_of(CHUNK) && (end.is_multiple_of(CHUNK) || end == self.size());
        if data.is_empty() || !aligned || end > self.size() {
            return self.unkept(Unkept::Misaligned, data.len());
        }
        if self.is_present(offset..end) {
            return Kept::Yes;
        }
        let digests = self.digests_of_whole_blocks(offset, data);
        let mut kept = self.keep(offset, data, &digests, haste);
        if kept == Err(Unkept::DiskFull) && self.make_room_after_all(data.len() as u64) {
            kept = self.keep(offset, data, &digests, haste);
        }
        if kept.is_ok() && haste == Haste::Behind {
            self.read_back_steps(offset..end);
        }
        match kept {
            Ok(false) => Kept::Yes,
            Ok(true) => {
                self.shared.tell_complete(&self.id());
                Kept::Yes
            }
            Err(reason) => self.unkept(reason, data.len()),
        }
    }

    fn unkept(&self, reason: Unkept, bytes: usize) -> Kept {
        let counters = &self.shared.counters;
        let counter = match reason {
            Unkept::NoRoom => &counters.unkept_no_room_bytes,
            Unkept::DiskFull => &counters.unkept_disk_full_bytes,
            Unkept::Failing => &counters.unkept_failing_bytes,
            Unkept::Scanning | Unkept::Evicted | Unkept::Misaligned => &counters.unkept_other_bytes,
        };
        Counters::add(counter, bytes as u64);
        if matches!(reason, Unkept::NoRoom | Unkept::DiskFull)
            && let Some(directory) = self.home()
        {
            self.shared.note_shortage(&directory, reason);
        }
        Kept::No(reason)
    }

    /// The disk said it is full although the books had room: others write to it too.
    fn make_room_after_all(&self, bytes: u64) -> bool {
        self.home().is_some_and(|directory| self.shared.make_room(&directory, || bytes, Some(self)) > 0)
    }

    /// The directory that has the file or will have it.
    fn home(&self) -> Option<Arc<Directory>> {
        let present = self.disk.read().as_ref().map(|disk| disk.directory.clone());
        match present {
            Some(directory) => (!directory.is_failed()).then_some(directory),
            None => self.shared.placement(&self.id()).into_iter().next(),
        }
    }

    /// Digests of the blocks that lie wholly in `data`, from the first of them on.
    fn digests_of_whole_blocks(&self, offset: u64, data: &[u8]) -> Vec<(usize, u128)> {
        let end = offset + data.len() as u64;
        (offset.div_ceil(BLOCK) as usize..self.presence.block_count())
            .map(|block| (block, self.presence.block_range(block)))
            .take_while(|(_, range)| range.end <= end)
            .map(|(block, range)| {
                let bytes = &data[(range.start - offset) as usize..(range.end - offset) as usize];
                (block, format::digest(bytes))
            })
            .collect()
    }

    /// True when this write made the file complete.
    fn keep(&self, offset: u64, data: &[u8], digests: &[(usize, u128)], haste: Haste) -> Result<bool, Unkept> {
        if self.is_evicted() {
            return Err(Unkept::Evicted);
        }
        let directory = self.home().ok_or(Unkept::Failing)?;
        let reservation = self.shared.admit(&directory, data.len() as u64, self)?;
        let mut writing = self.writing.lock();
        if self.is_evicted() {
            return Err(Unkept::Evicted);
        }
        let range = offset..offset + data.len() as u64;
        let result = self
            .ensure_on_disk(&mut writing, &directory)
            .and_then(|()| self.write_missing(&mut writing, range.clone(), data, digests, haste))
            .and_then(|()| self.settle(&mut writing));
        let completed = result.map_err(|error| self.failed_write(&mut writing, &directory, range, &error))?;
        directory.free_space.lock().wrote(data.len() as u64);
        directory.shortage.kept();
        drop(writing);
        drop(reservation); // only now: the blocks have been booked
        Ok(completed)
    }

    fn write_missing(
        &self,
        writing: &mut Writing,
        range: Range<u64>,
        data: &[u8],
        digests: &[(usize, u128)],
        haste: Haste,
    ) -> io::Result<()> {
        let disk = self.disk.read();
        let disk = disk.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let haste = if writing.head.was_complete { Haste::None } else { haste };
        for absent in self.presence.missing(range.clone()) {
            let bytes = &data[(absent.start - range.start) as usize..(absent.end - range.start) as usize];
            if disk.directory.ways.write(&disk.data, &mut writing.direct, bytes, absent.start, haste)? {
                Counters::add(&self.shared.counters.direct_bytes, bytes.len() as u64);
                self.presence.spans(absent).for_each(|(block, _)| self.presence.set_warmth(block, Warmth::Cold));
            }
            Counters::add(&self.shared.counters.written_bytes, bytes.len() as u64);
        }
        let tick = self.shared.next_tick();
        for (block, bits) in self.presence.spans(range) {
            let before = self.presence.chunks(block);
            let chunks = before | bits;
            if chunks == before {
                continue;
            }
            let digest = match digests.iter().find(|known| known.0 == block) {
                Some(known) => known.1,
                None if chunks == self.presence.full(block) => self.digest_on_disk(disk, block)?,
                None => 0,
            };
            self.write_record(writing, block, Record { chunks, digest, boot: self.shared.boot })?;
            self.presence.mark(block, chunks, tick);
        }
        self.touch();
        self.last_use_on_disk.store(self.last_used(), Relaxed); // the records just written carry the time
        self.book(writing, &disk.directory, space::allocated(&disk.data)?);
        Ok(())
    }

    /// The digest of a block that became full piece by piece: its bytes are in the page cache.
    pub(crate) fn digest_on_disk(&self, disk: &Disk, block: usize) -> io::Result<u128> {
        let mut bytes = vec![0; self.block_length(block)];
        disk.data.read_exact_at(&mut bytes, block as u64 * BLOCK)?;
        self.writes_arrived(disk)?;
        Ok(format::digest(&bytes))
    }

    /// Creates the file at its first byte.
    pub(crate) fn ensure_on_disk(&self, writing: &mut Writing, directory: &Arc<Directory>) -> io::Result<()> {
        if writing.directory.is_some() {
            return Ok(());
        }
        let (meta, data) = directory.create(&self.id())?;
        let created = (|| {
            let mut start = writing.head.encode().to_vec();
            start.extend(format::encode_identity(&self.identity));
            meta.write_all_at(&start, 0)?;
            meta.set_len(writing.head.meta_len())?;
            data.set_len(self.size())
        })();
        if let Err(error) = created {
            if let Err(leftover) = directory.unlink(&self.id()).map(drop) {
                log::warn!("cached object {}: cannot remove its half-made files: {leftover}", self.id());
            }
            return Err(error);
        }
        writing.meta = Some(meta);
        writing.directory = Some(directory.clone());
        self.touch();
        direct::expect_pieces(&data, true);
        *self.disk.write() = Some(Disk { directory: directory.clone(), data });
        self.book(writing, directory, 0);
        Ok(())
    }

    fn failed_write(&self, writing: &mut Writing, directory: &Directory, range: Range<u64>, error: &io::Error) -> Unkept {
        directory.note_error(&self.shared.counters, "writing a cached file", error);
        if let Some(disk) = self.disk.read().as_ref() {
            // What a torn write left behind is marked absent and would only take room.
            let absent = self.presence.missing(range);
            let freed = absent
                .iter()
                .try_for_each(|gap| evict::punch_hole(&disk.data, gap.start, gap.end - gap.start))
                .and_then(|()| space::allocated(&disk.data));
            match freed {
                Ok(allocated) => self.book(writing, directory, allocated),
                Err(error) => {
                    log::debug!("cached object {}: cannot undo a write: {error}", self.id())
                }
            }
        }
        directory.free_space.lock().forget();
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Unkept::DiskFull,
            _ => Unkept::Failing,
        }
    }

    /// Pins or unpins the object; a pinned one is never evicted for room or age. Pinning an object that is not
    /// cached creates its empty file, so that the pin survives.
    pub fn set_pinned(&self, pinned: bool) -> Result<(), CacheError> {
        let failed = |cause| CacheError::Object { id: self.id(), operation: "pinning", cause };
        let home = self.home().ok_or_else(|| failed(io::Error::other("no cache directory works")))?;
        let mut writing = self.writing.lock();
        if self.is_evicted() {
            return Err(CacheError::Evicted { id: self.id() });
        }
        if !pinned && writing.directory.is_none() {
            return Ok(());
        }
        self.ensure_on_disk(&mut writing, &home).map_err(failed)?;
        writing.head.pinned = pinned;
        self.write_head(&mut writing).map_err(failed)?;
        self.pinned.store(pinned, Relaxed);
        let disk = self.disk.read();
        if let Some(disk) = disk.as_ref() {
            self.book(&writing, &disk.directory, space::allocated(&disk.data).map_err(failed)?);
        }
        Ok(())
    }
}
