//! Doors: descriptors of complete files for programs and for the kernel.
//!
//! A door is opened read-only. With privilege it is opened through a private, read-only, detached mount of the
//! cache directory (`open_tree`, `mount_setattr`), so that nobody who has it can reopen the file for writing
//! through `/proc/self/fd`. Without privilege a program of the same user could; [`crate::Cache::door_is_private`]
//! says which it is.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::file::Disk;
use crate::{CacheError, CacheFile};

/// A read-only descriptor of a complete file. The file counts as held until this is dropped: keep it as long as
/// anybody, the kernel included, may read through a duplicate of the descriptor.
pub struct DoorHandle {
    fd: OwnedFd,
    _opened: Opened,
}

impl DoorHandle {
    /// The file behind the door.
    pub fn file(&self) -> &Arc<CacheFile> {
        &self._opened.0
    }
}

impl AsFd for DoorHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for DoorHandle {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// One count of `doors`.
struct Opened(Arc<CacheFile>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.touch();
        {
            let _disk = self.0.disk.read();
            self.0.doors.fetch_sub(1, AcqRel);
        }
        self.0.close_if_unlinked();
    }
}

impl CacheFile {
    /// Opens the file for somebody outside. Blocks that a power loss may have touched are all checked first,
    /// which reads them; and what the disk has not confirmed is synced, which waits for it ([`CacheFile::is_durable`]
    /// tells beforehand).
    ///
    /// # Errors
    /// [`CacheError::NotComplete`], [`CacheError::Evicted`], or what the system said.
    pub fn door(self: &Arc<Self>) -> Result<DoorHandle, CacheError> {
        let failed = |cause| CacheError::Object { id: self.id(), operation: "opening a door", cause };
        if self.presence.is_whole() {
            self.verify_suspects();
        }
        self.make_durable();
        if self.size() == 0 {
            self.create_empty().map_err(failed)?;
        }
        let opened = {
            // Under the lock an evictor or a checker sees either the door or none.
            let disk = self.disk.read();
            if self.is_evicted() {
                return Err(CacheError::Evicted { id: self.id() });
            }
            if !self.is_durable() || disk.as_ref().is_none_or(|disk| disk.directory.is_failed()) {
                return Err(CacheError::NotComplete { id: self.id() });
            }
            self.doors.fetch_add(1, AcqRel);
            Opened(self.clone())
        };
        self.touch();
        // From here on the file keeps its blocks; it may still lose its name on request.
        let disk = self.disk.read();
        let result = disk.as_ref().ok_or(CacheError::Evicted { id: self.id() }).and_then(|disk| {
            let fd = open_read_only(disk, self).map_err(failed)?;
            fd.ok_or(CacheError::Evicted { id: self.id() })
        });
        drop(disk); // before `opened` may go: that takes the lock too
        if matches!(result, Err(CacheError::Evicted { .. })) {
            drop(opened);
            self.note_deleted();
            return Err(CacheError::Evicted { id: self.id() });
        }
        let fd = result?;
        Counters::add(&self.shared.counters.doors_opened, 1);
        Ok(DoorHandle { fd, _opened: opened })
    }

    fn create_empty(&self) -> io::Result<()> {
        let home = self.shared.placement(&self.id()).into_iter().next();
        let home = home.ok_or_else(|| io::Error::other("no cache directory works"))?;
        let mut writing = self.writing.lock();
        self.ensure_on_disk(&mut writing, &home)?;
        // An empty object was complete from the start: nothing to tell.
        self.settle(&mut writing).map(drop)
    }
}

/// `None` when the name belongs to another file by now.
fn open_read_only(disk: &Disk, file: &CacheFile) -> io::Result<Option<OwnedFd>> {
    let name = CString::new(Directory::relative_data(&file.id())).expect("hex digits");
    let folder = disk.directory.door_tree.as_ref().map_or(disk.directory.root.as_fd(), |tree| tree.as_fd());
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the name is a C string and the descriptor open for the call.
    let raw = unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), flags) };
    if raw < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) };
    }
    // SAFETY: openat has just returned this descriptor and nobody else has it.
    let opened = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
    let (theirs, ours) = (opened.metadata()?, disk.data.metadata()?);
    let same = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
    Ok(same.then(|| opened.into()))
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A detached read-only mount of `path`; `None`, with a line in the log, where that is not permitted.
pub fn private_mount(path: &Path) -> Option<OwnedFd> {
    match clone_read_only(path) {
        Ok(tree) => Some(tree),
        Err(error) => {
            log::info!(
                "cache directory {}: no private read-only mount for doors ({error}); they are plain read-only descriptors",
                path.display()
            );
            None
        }
    }
}

fn clone_read_only(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string that outlives the call.
    let raw = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open_tree has just returned this descriptor and nobody else has it.
    let tree = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    let attributes =
        MountAttr { attr_set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: an empty C string with AT_EMPTY_PATH means the descriptor itself; the attributes are of the size
    // given and outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &attributes, size_of::<MountAttr>())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tree)
}
