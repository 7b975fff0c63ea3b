//! One cache directory on one disk: its lock, its files by object id, its books, and whether its disk works.
//!
//! ```text
//! <dir>/headrace-cache         format version and the directory's own name
//! <dir>/lock                   flock of the owner
//! <dir>/objects/ab/abcd….meta  head, identity, records
//! <dir>/objects/ab/abcd….data  the object, sparse
//! <dir>/trash/                 being deleted
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use headrace_sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use headrace_sync::{Condvar, Mutex};

use crate::counters::Counters;
use crate::direct::Ways;
use crate::ledger::{Entry, Ledger};
use crate::marker::DirectoryId;
use crate::shortage::Shortage;
use crate::space::{self, FreeSpace};
use crate::{CacheDirectory, CacheError, MIN_LIMIT, ObjectId, door, lock, marker};

pub struct Directory {
    pub path: PathBuf,
    pub limit_bytes: u64,
    pub id: DirectoryId,
    pub lock: File,
    /// The directory itself, for statvfs and syncfs.
    pub root: File,
    /// A private read-only mount of the directory, for doors; `None` without privilege.
    pub door_tree: Option<OwnedFd>,
    pub ledger: Mutex<Ledger>,
    /// Signalled when the scan has ended.
    pub scanned: Condvar,
    pub free_space: Mutex<FreeSpace>,
    /// One thread at a time makes room, so that several do not evict for the same need.
    pub evicting: Mutex<()>,
    /// Cleared when the file system turns out not to punch holes.
    pub can_punch: AtomicBool,
    /// Whether it has no room.
    pub shortage: Shortage,
    /// How fast the disk takes bytes.
    pub ways: Ways,
    failed: Mutex<Option<String>>,
    is_failed: AtomicBool,
    trash_number: AtomicU64,
}

impl Directory {
    pub fn open(config: &CacheDirectory, locks: &mut Vec<OwnedFd>) -> Result<Directory, CacheError> {
        let path = &config.path;
        if config.limit_bytes < MIN_LIMIT {
            return Err(CacheError::TooSmall { path: path.clone(), limit_bytes: config.limit_bytes, minimum_bytes: MIN_LIMIT });
        }
        let failed = |operation| move |cause| CacheError::directory(path, operation, cause);
        create_private(path).map_err(failed("creating the directory"))?;
        closed_to_others(path).map_err(failed("looking who may write to it"))?;
        let lock = lock::take(path, locks)?;
        let id = marker::read_or_create(path).map_err(failed("reading the format version"))?;
        for name in ["objects", "trash"] {
            create_private(&path.join(name)).map_err(failed("creating a folder"))?;
        }
        let root = File::open(path).map_err(failed("opening the directory"))?;
        let used = space::of_file_system(&root).map_err(failed("asking for free space"))?.used;
        Ok(Directory {
            path: path.clone(),
            limit_bytes: config.limit_bytes,
            id,
            lock,
            door_tree: door::private_mount(path),
            root,
            ledger: Mutex::new(Ledger::unscanned(used)),
            scanned: Condvar::new(),
            free_space: Mutex::new(FreeSpace::default()),
            evicting: Mutex::new(()),
            can_punch: AtomicBool::new(true),
            shortage: Shortage::default(),
            ways: Ways::default(),
            failed: Mutex::new(None),
            is_failed: AtomicBool::new(false),
            trash_number: AtomicU64::new(0),
        })
    }

    pub fn is_failed(&self) -> bool {
        self.is_failed.load(Acquire)
    }

    pub fn failure(&self) -> Option<String> {
        self.failed.lock().clone()
    }

    /// Notes an error of the disk. Errors that say nothing about the disk (no descriptor, no memory, no room)
    /// do not take the directory out of use.
    pub fn note_error(&self, counters: &Counters, operation: &str, error: &io::Error) {
        const NOT_THE_DISK: [i32; 9] = [
            libc::ENOENT, // somebody deletes our files under us
            libc::EFBIG,
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::EINTR,
            libc::EAGAIN,
        ];
        if error.raw_os_error().is_some_and(|code| NOT_THE_DISK.contains(&code)) {
            log::debug!("cache directory {}: {operation} failed: {error}", self.path.display());
            return;
        }
        self.take_out_of_use(counters, operation, error);
    }

    /// Notes that the disk lost what it was given, whatever it says about the reason.
    pub fn note_loss(&self, counters: &Counters, error: &io::Error) {
        self.take_out_of_use(counters, "writing cached files out", error);
    }

    fn take_out_of_use(&self, counters: &Counters, operation: &str, error: &io::Error) {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            log::warn!("cache directory {}: {operation} failed ({error}); it is out of use until the node restarts", self.path.display());
            *failed = Some(format!("{operation}: {error}"));
            self.is_failed.store(true, Release);
            Counters::add(&counters.failed_directories, 1);
        }
    }

    pub fn relative_data(id: &ObjectId) -> String {
        let hex = id.to_string();
        format!("objects/{}/{hex}.data", &hex[..2])
    }

    pub fn data_path(&self, id: &ObjectId) -> PathBuf {
        self.path.join(Self::relative_data(id))
    }

    pub fn meta_path(&self, id: &ObjectId) -> PathBuf {
        self.data_path(id).with_extension("meta")
    }

    pub fn open_data(&self, id: &ObjectId) -> io::Result<File> {
        open_existing(&self.data_path(id))
    }

    pub fn open_meta(&self, id: &ObjectId) -> io::Result<File> {
        open_existing(&self.meta_path(id))
    }

    /// Creates both files of an object, meta first: a data file without a meta file is nobody's.
    ///
    /// What lies there under these names is unlinked, never truncated: the kernel may still be reading it for
    /// programs that opened it through a previous node.
    pub fn create(&self, id: &ObjectId) -> io::Result<(File, File)> {
        let both = || -> io::Result<(File, File)> { Ok((create_file(&self.meta_path(id))?, create_file(&self.data_path(id))?)) };
        match both() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_private(self.meta_path(id).parent().expect("objects/ab"))?;
                both()
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                drop(self.unlink(id)?);
                both()
            }
            other => other,
        }
    }

    /// Takes an object's name away, quickly; the blocks go when the result is dropped.
    pub fn unlink(&self, id: &ObjectId) -> io::Result<Trash> {
        let number = self.trash_number.fetch_add(1, Relaxed);
        let trash = self.path.join("trash").join(format!("{id}.{}.{number}", std::process::id()));
        // The meta file first: without it a left-over data file is nobody's.
        absent_is_fine(fs::remove_file(self.meta_path(id)))?;
        absent_is_fine(fs::rename(self.data_path(id), &trash))?;
        Ok(Trash(trash))
    }

    /// Books what a file occupies.
    pub fn book(&self, id: ObjectId, entry: Entry) {
        self.ledger.lock().set(id, entry);
    }
}

/// An unlinked file on its way out. Deleting a large one takes a while, so no lock is held when this drops.
pub struct Trash(PathBuf);

impl Drop for Trash {
    fn drop(&mut self) {
        if let Err(error) = absent_is_fine(fs::remove_file(&self.0)) {
            log::warn!("cache: cannot delete {}: {error}; the next start tries again", self.0.display());
        }
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Whoever can write to the directory decides what every reader gets.
fn closed_to_others(path: &Path) -> io::Result<()> {
    let about = fs::metadata(path)?;
    // SAFETY: the call has no preconditions.
    let ours = unsafe { libc::geteuid() };
    if about.uid() != ours && about.uid() != 0 {
        return Err(io::Error::other(format!(
            "it belongs to the user {}, who could change what is cached; use a directory of your own",
            about.uid()
        )));
    }
    if about.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it, and so change what is cached; run `chmod go-w` on it, or use another"));
    }
    Ok(())
}
