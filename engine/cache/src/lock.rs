//! One node owns a cache directory: an exclusive `flock` on `<dir>/lock`. The lock belongs to the open file
//! description, so a keeper that holds a duplicate of the descriptor keeps the lock while the node is replaced,
//! and the successor is handed the same descriptor instead of taking the lock anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::CacheError;

const NAME: &str = "lock";
const PATIENCE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(10);

/// Takes the lock of `path`, or goes on with the one among `inherited` that is this directory's.
pub fn take(path: &Path, inherited: &mut Vec<OwnedFd>) -> Result<File, CacheError> {
    let broken = |cause| CacheError::directory(path, "opening the lock", cause);
    let ours = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path.join(NAME))
        .map_err(broken)?;
    let file = match find(&ours, inherited).map_err(broken)? {
        Some(handed_on) => handed_on,
        None => ours,
    };
    lock_soon(&file).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => CacheError::Locked { path: path.into(), pid: holder(&file) },
        _ => CacheError::directory(path, "taking the lock", cause),
    })?;
    if let Err(cause) = leave_pid(&file) {
        // Only the error message of a second node is poorer for it; a full disk must not stop adoption.
        log::debug!("cache directory {}: cannot note the process id in the lock: {cause}", path.display());
    }
    Ok(file)
}

/// Tries for a moment: a node that is just ending lets go soon, and so does a child of one, which has a
/// duplicate of the descriptor between its `fork` and its `exec`.
fn lock_soon(file: &File) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // SAFETY: flock takes a descriptor, open for the call, and touches no memory.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock || Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(RETRY);
    }
}

fn find(lock: &File, inherited: &mut Vec<OwnedFd>) -> io::Result<Option<File>> {
    let wanted = lock.metadata()?;
    for index in 0..inherited.len() {
        let candidate = File::from(inherited[index].try_clone()?).metadata()?;
        if (candidate.dev(), candidate.ino()) == (wanted.dev(), wanted.ino()) {
            return Ok(Some(File::from(inherited.swap_remove(index))));
        }
    }
    Ok(None)
}

fn holder(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

fn leave_pid(file: &File) -> io::Result<()> {
    let text = format!("{:<10}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path(), &mut Vec::new()).unwrap();
        let error = take(dir.path(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.code(), "cache-locked");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        take(dir.path(), &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_lock_handed_on_is_never_free_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path(), &mut Vec::new()).unwrap();
        let mut inherited = vec![OwnedFd::from(held.try_clone().unwrap())];
        drop(held);
        assert!(take(dir.path(), &mut Vec::new()).is_err());
        let successor = take(dir.path(), &mut inherited).unwrap();
        assert!(inherited.is_empty());
        drop(successor);
        take(dir.path(), &mut Vec::new()).unwrap();
    }
}
