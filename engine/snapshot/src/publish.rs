//! From a file in the making to a snapshot that others may open.
//!
//! What is being written lies beside the target under a hidden name, locked, so that the next builder can tell
//! what a killed one has left behind from what a living one is working on. One `rename` publishes it.
//!
//! Order makes it hold through a power loss: the bytes reach the disk, then the name changes, then the directory
//! reaches the disk. At every moment the target is absent, the older snapshot or the whole new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SUFFIX: &str = ".snapshot-partial";
/// Names within this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file without a name in the directory of `target`: whatever happens, nothing is left of it.
pub(crate) fn unnamed_file(target: &Path) -> io::Result<File> {
    let (file, path) = create_hidden(target)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// The snapshot while it is written; removed unless published.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        sweep(directory(target))?;
        loop {
            let (file, path) = create_hidden(target)?;
            // Another builder's sweep may have come between creation and lock.
            if try_lock(&file) && file.metadata()?.nlink() > 0 {
                return Ok(Partial { file, path });
            }
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Makes it the file `target`, replacing one that is there.
    pub(crate) fn publish(self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        File::open(directory(target))?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After publication the name is gone already.
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

/// Where `target` is, and everything beside it.
pub(crate) fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn create_hidden(target: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!(".{}-{number}{SUFFIX}", std::process::id());
        let path = directory(target).join(name);
        let created = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match created {
            // Left behind by a process that had our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return Ok((created?, path)),
        }
    }
}

/// Removes what killed builders have left.
fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with('.') && n.ends_with(SUFFIX));
        if !ours {
            continue;
        }
        // Another sweep may be quicker, and what cannot be opened or removed does no harm here.
        let abandoned = File::open(entry.path()).is_ok_and(|file| try_lock(&file));
        if abandoned && fs::remove_file(entry.path()).is_ok() {
            log::info!("removed {}, left by an interrupted listing", entry.path().display());
        }
    }
    Ok(())
}

fn try_lock(file: &File) -> bool {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and no memory.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}
