//! What is in the cache, for `status` and `cache ls`.

use std::io;
use std::path::PathBuf;

use crate::directory::Directory;
use crate::format::{RECORD_LEN, Record};
use crate::load::{read_head, read_or_zero};
use crate::presence::Bitmap;
use crate::shared::Shared;
use crate::{ObjectId, ObjectIdentity};

/// How much of one object is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Bytes present.
    pub present_bytes: u64,
    /// Whether that is all of them.
    pub complete: bool,
    /// Whether the disk has confirmed all of them, and works, so that the file can be given out.
    pub durable: bool,
}

/// What the cache occupies. While [`crate::Cache::scan_done`] is false, files from before are still being counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of all cached files, also of unlinked ones that are held, in bytes.
    pub allocated_bytes: u64,
    /// Sum of the directories' limits, in bytes.
    pub limit_bytes: u64,
    /// Cached files.
    pub files: u64,
    /// Of these, complete ones.
    pub complete_files: u64,
    /// Blocks of unlinked files that are still held, in bytes.
    pub held_unlinked_bytes: u64,
    /// Each directory.
    pub directories: Vec<DirectoryUsage>,
}

/// What one directory occupies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryUsage {
    /// The directory.
    pub path: PathBuf,
    /// Its limit, in bytes.
    pub limit_bytes: u64,
    /// Blocks allocated, in bytes.
    pub allocated_bytes: u64,
    /// Cached files.
    pub files: u64,
    /// Why the directory is out of use.
    pub failed: Option<String>,
    /// What it lacks, with the remedy, while it has no room for what is read.
    pub lacks: Option<String>,
}

/// One cached object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedEntry {
    /// What it is.
    pub identity: ObjectIdentity,
    /// Its size in bytes.
    pub size: u64,
    /// Blocks allocated, in bytes.
    pub allocated: u64,
    /// All bytes are present.
    pub complete: bool,
    /// Never evicted for room or age.
    pub pinned: bool,
    /// Nanoseconds since 1970; coarse for what was used in an earlier process.
    pub last_used: u64,
}

impl Shared {
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for directory in &self.directories {
            let lacks = self.shortage(directory);
            let ledger = directory.ledger.lock();
            usage.allocated_bytes += ledger.allocated();
            usage.limit_bytes += directory.limit_bytes;
            usage.files += ledger.files();
            usage.complete_files += ledger.complete_files();
            usage.held_unlinked_bytes += ledger.unlinked;
            usage.directories.push(DirectoryUsage {
                path: directory.path.clone(),
                limit_bytes: directory.limit_bytes,
                allocated_bytes: ledger.allocated(),
                files: ledger.files(),
                failed: directory.failure(),
                lacks,
            });
        }
        usage
    }

    /// All cached objects, by id. Reads each one's head.
    pub fn entries(&self) -> Vec<CachedEntry> {
        let mut out = Vec::new();
        for directory in &self.directories {
            let mut ids = directory.ledger.lock().ids();
            ids.sort_unstable();
            for id in ids {
                let (identity, last_used) = match self.live(&id) {
                    Some(file) => (Some(file.identity().clone()), file.last_used()),
                    None => (self.identity_on_disk(directory, &id), 0),
                };
                let entry = directory.ledger.lock().get(&id);
                if let (Some(identity), Some(entry)) = (identity, entry) {
                    out.push(CachedEntry {
                        size: identity.size,
                        identity,
                        allocated: entry.allocated,
                        complete: entry.complete,
                        pinned: entry.pinned,
                        last_used: entry.last_used.max(last_used),
                    });
                }
            }
        }
        out
    }

    fn identity_on_disk(&self, directory: &Directory, id: &ObjectId) -> Option<ObjectIdentity> {
        match directory.open_meta(id).and_then(|meta| read_head(&meta)) {
            Ok(found) => found.map(|(_, identity)| identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                directory.note_error(&self.counters, "reading a cached file's head", &error);
                None
            }
        }
    }

    /// How much of an object is cached, without opening it.
    pub fn peek(&self, id: &ObjectId) -> Option<Presence> {
        if let Some(file) = self.live(id).filter(|file| !file.is_evicted()) {
            file.load();
            let present_bytes = file.present_bytes();
            return (file.disk.read().is_some()).then(|| Presence {
                present_bytes,
                complete: file.is_complete(),
                durable: file.may_leave(),
            });
        }
        // As a file is opened: what lies on a disk out of use is as if it were not there.
        self.directories.iter().filter(|directory| !directory.is_failed()).find_map(|directory| {
            {
                let ledger = directory.ledger.lock();
                if ledger.is_scanned() && ledger.get(id).is_none() {
                    return None;
                }
            }
            match self.presence_on_disk(directory, id) {
                Ok(presence) => presence,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    directory.note_error(&self.counters, "reading a cached file's records", &error);
                    None
                }
            }
        })
    }

    fn presence_on_disk(&self, directory: &Directory, id: &ObjectId) -> io::Result<Option<Presence>> {
        let meta = directory.open_meta(id)?;
        let Some((head, _)) = read_head(&meta)? else {
            return Ok(None);
        };
        if head.complete {
            return Ok(Some(Presence { present_bytes: head.size, complete: true, durable: head.synced }));
        }
        let bitmap = Bitmap::new(head.size);
        let mut records = vec![0; bitmap.block_count() * RECORD_LEN];
        read_or_zero(&meta, &mut records, head.record_offset(0))?;
        for (block, bytes) in records.chunks_exact(RECORD_LEN).enumerate() {
            let record = Record::decode(bytes.try_into().expect("32 bytes"), block);
            bitmap.mark(block, record.chunks & bitmap.full(block), 0);
        }
        Ok(Some(Presence { present_bytes: bitmap.present_bytes(), complete: false, durable: false }))
    }
}
