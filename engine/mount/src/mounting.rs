//! mount(2) and umount(2); without root, `fusermount3`.

use crate::device::Device;
use crate::mount::MountConfig;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Why a mount could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// FUSE is not available.
    #[error(
        "FUSE is not available: {cause}. Load the fuse module or give the container /dev/fuse (and fuse3's fusermount3 where you are not root); without FUSE use the Python door: headrace.open(\"s3://…\")"
    )]
    Unavailable {
        /// What the system said.
        cause: String,
    },
    /// The mount was refused.
    #[error("can't mount at {directory}: {cause}")]
    Refused {
        /// Mount point.
        directory: String,
        /// What the system said.
        cause: String,
    },
    /// Files are open.
    #[error("{directory} is busy: files or working directories are open in it; close them, or use --lazy")]
    Busy {
        /// Mount point.
        directory: String,
    },
}

impl MountError {
    pub(crate) fn refused(directory: &str, cause: &io::Error) -> Self {
        Self::Refused { directory: directory.to_owned(), cause: cause.to_string() }
    }

    pub(crate) fn out_of_slots(directory: &str) -> Self {
        let cause = "it was refreshed 65,535 times; unmount and mount it again".to_owned();
        Self::Refused { directory: directory.to_owned(), cause }
    }

    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "fuse-unavailable",
            Self::Refused { .. } => "mount-failed",
            Self::Busy { .. } => "busy",
        }
    }

    /// The errno it comes closest to.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Unavailable { .. } => libc::ENODEV,
            Self::Refused { .. } => libc::EIO,
            Self::Busy { .. } => libc::EBUSY,
        }
    }
}

/// Unmounts on drop, unless disarmed: a mount that could not be served is not left behind.
pub(crate) struct Undo(Option<String>);

impl Undo {
    pub(crate) fn new(directory: &str) -> Self {
        Self(Some(directory.to_owned()))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|d| detach(&d, true)) {
            log::warn!("taking back an unfinished mount: {error}");
        }
    }
}

/// Mounts and returns `/dev/fuse`.
pub(crate) fn attach(config: &MountConfig) -> Result<OwnedFd, MountError> {
    // SAFETY: geteuid can't fail.
    if unsafe { libc::geteuid() } == 0 { attach_directly(config) } else { attach_by_helper(config) }
}

fn attach_directly(config: &MountConfig) -> Result<OwnedFd, MountError> {
    let fd = Device::open().map_err(|e| MountError::Unavailable { cause: format!("opening /dev/fuse: {e}") })?;
    let mut options = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", fd.as_raw_fd());
    if config.allow_other {
        options.push_str(",allow_other");
    }
    let text = |s: &str| CString::new(s).map_err(|_| MountError::refused(&config.directory, &io::Error::from_raw_os_error(libc::EINVAL)));
    let (source, target, options) = (text(&config.source)?, text(&config.directory)?, text(&options)?);
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME;
    // SAFETY: all pointers are to NUL-terminated strings that outlive the call.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), c"fuse.headrace".as_ptr(), flags, options.as_ptr().cast()) };
    if result < 0 {
        let cause = io::Error::last_os_error();
        if cause.raw_os_error() == Some(libc::ENODEV) {
            return Err(MountError::Unavailable { cause: "the kernel has no FUSE".to_owned() });
        }
        return Err(MountError::refused(&config.directory, &cause));
    }
    Ok(fd)
}

fn attach_by_helper(config: &MountConfig) -> Result<OwnedFd, MountError> {
    let refused = |e: io::Error| MountError::refused(&config.directory, &e);
    let (ours, theirs) = UnixStream::pair().map_err(refused)?;
    // The helper inherits its end, so that end must outlive an exec.
    // SAFETY: a valid descriptor; clearing the close-on-exec flag touches nothing else.
    unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_SETFD, 0) };
    let source = config.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = format!("ro,nosuid,nodev,noatime,default_permissions,subtype=headrace,fsname={source}");
    if config.allow_other {
        options.push_str(",allow_other");
    }
    let output = Command::new("fusermount3")
        .args(["-o", &options, "--", &config.directory])
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .output()
        .map_err(|e| MountError::Unavailable { cause: format!("running fusermount3: {e}") })?;
    drop(theirs);
    if !output.status.success() {
        let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MountError::Refused { directory: config.directory.clone(), cause });
    }
    receive_descriptor(ours.as_raw_fd()).map_err(refused)
}

fn receive_descriptor(socket: RawFd) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: an all-zero msghdr is valid; its pointers are set to live buffers with their sizes.
    let (message, count) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let count = libc::recvmsg(socket, &mut message, libc::MSG_CMSG_CLOEXEC);
        (message, count)
    };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the control buffer; the header is checked before its data is read, and the descriptor is new and ours.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "fusermount3 sent no descriptor"));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    }
}

/// Unmounts; `lazy` detaches at once and ends when the last user is gone.
pub(crate) fn detach(directory: &str, lazy: bool) -> Result<(), MountError> {
    // SAFETY: geteuid can't fail.
    if unsafe { libc::geteuid() } != 0 {
        return detach_by_helper(directory, lazy);
    }
    let target = CString::new(directory).map_err(|_| MountError::refused(directory, &io::Error::from_raw_os_error(libc::EINVAL)))?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    // SAFETY: a NUL-terminated path.
    if unsafe { libc::umount2(target.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    let cause = io::Error::last_os_error();
    match cause.raw_os_error() {
        Some(libc::EBUSY) => Err(MountError::Busy { directory: directory.to_owned() }),
        // Somebody else has unmounted it: what was asked for holds.
        Some(libc::EINVAL) => Ok(()),
        _ => Err(MountError::refused(directory, &cause)),
    }
}

fn detach_by_helper(directory: &str, lazy: bool) -> Result<(), MountError> {
    let option = if lazy { "-uz" } else { "-u" };
    let output = Command::new("fusermount3")
        .args([option, "--", directory])
        .output()
        .map_err(|e| MountError::Unavailable { cause: format!("running fusermount3: {e}") })?;
    if output.status.success() {
        return Ok(());
    }
    let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if cause.to_lowercase().contains("busy") {
        return Err(MountError::Busy { directory: directory.to_owned() });
    }
    Err(MountError::Refused { directory: directory.to_owned(), cause })
}

/// Raises the kernel's read-ahead for this mount; needs root, and without it large reads stay at 128 KiB requests.
pub(crate) fn set_read_ahead(directory: &str, kib: u32) {
    let Some(device) = device_number(directory) else {
        return log::warn!("no read-ahead set: {directory} is not in /proc/self/mountinfo");
    };
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, kib.to_string()) {
        log::info!("no read-ahead set for {directory}: {path}: {error}");
    }
}

/// `major:minor` of the mount at `directory`, the last one listed (the topmost).
fn device_number(directory: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let escaped = directory.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    let line = table.lines().rev().find(|l| l.split(' ').nth(4) == Some(escaped.as_str()))?;
    line.split(' ').nth(2).map(str::to_owned)
}
