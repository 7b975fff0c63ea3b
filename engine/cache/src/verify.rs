//! Comparing blocks with their digests: before the first use of a block that a power loss may have touched, and
//! for `cache verify`, which reads everything.

use std::io;
use std::sync::Arc;

use crate::counters::Counters;
use crate::format::{RECORD_LEN, Record};
use crate::load::read_or_zero;
use crate::shared::Shared;
use crate::{CacheFile, ObjectId, ObjectIdentity};

/// A block that does not match its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// The object.
    pub identity: ObjectIdentity,
    /// Index of the block, in units of [`crate::BLOCK`].
    pub block: u64,
}

/// What a check of all cached files found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files looked at.
    pub files: u64,
    /// Bytes read and hashed.
    pub bytes: u64,
    /// Blocks compared with their digests.
    pub blocks: u64,
    /// Blocks that are present in part and so have no digest yet.
    pub blocks_without_digest: u64,
    /// How many blocks did not match.
    pub bad_blocks: u64,
    /// The first thousand of them.
    pub bad: Vec<BadBlock>,
    /// The progress function asked to stop before the end.
    pub stopped: bool,
}

const BAD_BLOCKS_LISTED: usize = 1000;

impl CacheFile {
    /// Checks one block in doubt; a wrong one is dropped. True when the block may be used.
    pub(crate) fn verify_suspect(&self, block: usize) -> bool {
        let mut writing = self.writing.lock();
        if !self.presence.is_suspect(block) {
            return self.presence.is_full(block);
        }
        let proved = self.stored_record(&mut writing, block).and_then(|record| {
            let good = self.matches(block, record.digest)?;
            if good {
                // Of this boot now: a kill after this must not put it in doubt again.
                self.write_record(&mut writing, block, Record { boot: self.shared.boot, ..record })?;
            }
            Ok(good)
        });
        let good = proved.unwrap_or_else(|error| {
            if let Some(directory) = &writing.directory {
                directory.note_error(&self.shared.counters, "checking a cached block", &error);
            }
            false
        });
        if !good {
            log::warn!("cached object {}: block {block} did not survive a power loss; dropped", self.id());
            self.drop_block(&mut writing, block);
            return false;
        }
        self.presence.set_suspect(block, false);
        let told = self.settle(&mut writing);
        drop(writing);
        match told {
            Ok(true) => self.shared.tell_complete(&self.id()),
            Ok(false) => {}
            Err(error) => log::debug!("cached object {}: cannot note that it is complete: {error}", self.id()),
        }
        true
    }

    /// Checks the full blocks that a range touches, and drops what is wrong or can't be read.
    pub(crate) fn verify_blocks(&self, range: std::ops::Range<u64>) {
        for (block, _) in self.presence.spans(range) {
            if !self.presence.is_full(block) {
                continue; // it has no digest yet: its bytes came from the origin a moment ago
            }
            let mut writing = self.writing.lock();
            let good = self.stored_record(&mut writing, block).and_then(|record| self.matches(block, record.digest));
            if let (Err(error), Some(directory)) = (&good, &writing.directory) {
                directory.note_error(&self.shared.counters, "checking a cached block", error);
            }
            if !good.unwrap_or(false) {
                log::warn!("cached object {}: block {block} does not match its digest; dropped", self.id());
                self.drop_block(&mut writing, block);
            }
        }
    }

    /// Checks all blocks in doubt.
    pub(crate) fn verify_suspects(&self) {
        while let Some(block) = self.presence.first_suspect(0..self.size()) {
            self.verify_suspect(block);
        }
    }

    fn stored_record(&self, writing: &mut crate::file::Writing, block: usize) -> io::Result<Record> {
        let offset = writing.head.record_offset(block);
        let mut bytes = [0; RECORD_LEN];
        read_or_zero(self.meta(writing)?, &mut bytes, offset)?;
        Ok(Record::decode(&bytes, block))
    }

    fn matches(&self, block: usize, digest: u128) -> io::Result<bool> {
        let disk = self.disk.read();
        let disk = disk.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let found = match self.digest_on_disk(disk, block) {
            // Shorter than it was: wrong, and not a fault of the disk.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            other => Some(other?),
        };
        let good = found == Some(digest);
        Counters::add(&self.shared.counters.verified_blocks, 1);
        Counters::add(&self.shared.counters.digest_failures, u64::from(!good));
        Ok(good)
    }

    /// Notes an error; true when it means that the disk does not give back what it holds.
    fn is_the_disks(&self, writing: &crate::file::Writing, error: &io::Error) -> bool {
        let Some(directory) = &writing.directory else { return false };
        directory.note_error(&self.shared.counters, "checking a cached block", error);
        directory.is_failed()
    }

    /// Compares every full block; with `repair` drops the wrong ones, and those that can't be read.
    fn scrub(&self, repair: bool, report: &mut VerifyReport, go_on: &mut dyn FnMut(&VerifyReport) -> bool) -> io::Result<()> {
        for block in 0..self.presence.block_count() {
            let mut writing = self.writing.lock();
            if writing.directory.is_none() || self.is_evicted() || self.presence.chunks(block) == 0 {
                continue;
            }
            if !self.presence.is_full(block) {
                report.blocks_without_digest += 1;
                continue;
            }
            let good = match self.stored_record(&mut writing, block).and_then(|record| self.matches(block, record.digest)) {
                Ok(good) => good,
                Err(error) if self.is_the_disks(&writing, &error) => false,
                Err(error) => return Err(error),
            };
            report.blocks += 1;
            report.bytes += self.block_length(block) as u64;
            if !good {
                report.bad_blocks += 1;
                if report.bad.len() < BAD_BLOCKS_LISTED {
                    report.bad.push(BadBlock { identity: self.identity.clone(), block: block as u64 });
                }
                log::warn!("cached object {}: block {block} does not match its digest", self.id());
                if repair {
                    self.drop_block(&mut writing, block);
                }
            }
            let failed = writing.directory.as_ref().is_some_and(|directory| directory.is_failed());
            drop(writing);
            if !go_on(report) || failed {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Checks every cached file; see [`crate::Cache::verify`].
    pub fn verify(self: &Arc<Shared>, progress: &dyn Fn(u64, u64) -> bool, repair: bool) -> VerifyReport {
        let mut report = VerifyReport::default();
        for directory in &self.directories {
            let ids = directory.ledger.lock().ids();
            for id in ids {
                if directory.is_failed() {
                    break; // nothing of it is used any more
                }
                let Some(file) = self.open_by_id(directory, &id) else {
                    continue;
                };
                report.files += 1;
                let mut stopped = false;
                let scrubbed = file.scrub(repair, &mut report, &mut |report| {
                    stopped = !progress(report.files, report.bytes);
                    !stopped
                });
                if let Err(error) = scrubbed {
                    directory.note_error(&self.counters, "checking a cached file", &error);
                }
                if stopped {
                    report.stopped = true;
                    return report;
                }
            }
        }
        report
    }

    /// The `CacheFile` of something that lies in `directory`.
    pub fn open_by_id(self: &Arc<Shared>, directory: &crate::directory::Directory, id: &ObjectId) -> Option<Arc<CacheFile>> {
        if let Some(file) = self.live(id).filter(|file| !file.is_evicted()) {
            file.load();
            return Some(file);
        }
        let identity = directory.open_meta(id).and_then(|meta| crate::load::read_head(&meta));
        match identity {
            Ok(Some((_, identity))) if identity.id() == *id => {
                let file = self.file(&identity);
                file.load();
                Some(file)
            }
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                directory.note_error(&self.counters, "opening a cached file", &error);
                None
            }
        }
    }
}
