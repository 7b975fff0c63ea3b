//! Passthrough's backing ids: the kernel reads the cache file itself.

use std::io;
use std::os::fd::RawFd;

const MAGIC: u64 = 229;

#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

const fn write_ioctl(number: u64, size: usize) -> libc::c_ulong {
    (1 << 30 | (size as u64) << 16 | MAGIC << 8 | number) as libc::c_ulong
}

/// Registers `file` with the connection; needs CAP_SYS_ADMIN and a file system that isn't stacked.
pub(crate) fn open(device: RawFd, file: RawFd) -> io::Result<i32> {
    let map = BackingMap { fd: file, flags: 0, padding: 0 };
    // SAFETY: the kernel reads one BackingMap from the pointer.
    let id = unsafe { libc::ioctl(device, write_ioctl(1, size_of::<BackingMap>()), &map) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// Forgets a backing id; files that are open through it go on.
pub(crate) fn close(device: RawFd, id: i32) -> io::Result<()> {
    let id = id as u32;
    // SAFETY: the kernel reads one u32 from the pointer.
    let result = unsafe { libc::ioctl(device, write_ioctl(2, size_of::<u32>()), &id) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
