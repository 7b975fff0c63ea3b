//! `/dev/fuse`: reading requests, writing replies and notifications.

use crate::outstanding::Outstanding;
use crate::wire::{OUT_HEADER, Packer, notify};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

/// The connection to the kernel. Dropping every duplicate of it ends the mount.
pub(crate) struct Device {
    fd: OwnedFd,
    /// Where unanswered requests are kept, if the kernel can't send them again.
    outstanding: OnceLock<Arc<Outstanding>>,
}

/// More pieces than this in one reply are merged by the caller; the kernel takes 1024.
pub(crate) const PIECES_MAX: usize = 512;

impl Device {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, outstanding: OnceLock::new() }
    }

    /// From now on every answer empties the request's place.
    pub(crate) fn keep_requests_in(&self, outstanding: Arc<Outstanding>) {
        assert!(self.outstanding.set(outstanding).is_ok(), "set once, before the device is served");
    }

    pub(crate) fn open() -> io::Result<OwnedFd> {
        // SAFETY: a constant path and flags; the result is checked and owned at once.
        unsafe {
            let fd = libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
        }
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// One request into `buffer`; `Ok(None)` when the mount has ended.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            // SAFETY: the buffer is valid for its length.
            let count = unsafe { libc::read(self.raw(), buffer.as_mut_ptr().cast(), buffer.len()) };
            if count >= 0 {
                return Ok(Some(count as usize));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // ENOENT: the request was interrupted before we read it.
                Some(libc::EINTR | libc::EAGAIN | libc::ENOENT) => {}
                Some(libc::ENODEV) => return Ok(None),
                _ => return Err(error),
            }
        }
    }

    pub(crate) fn reply(&self, unique: u64, body: &[u8]) {
        self.reply_pieces(unique, &[body]);
    }

    pub(crate) fn reply_pieces(&self, unique: u64, pieces: &[&[u8]]) {
        self.send(unique, 0, pieces);
    }

    pub(crate) fn error(&self, unique: u64, errno: i32) {
        self.send(unique, -errno, &[]);
    }

    /// A notification; blocks as long as the kernel needs to take its locks.
    pub(crate) fn notify(&self, code: i32, body: &[u8]) -> io::Result<()> {
        self.write(0, code, &[body])
    }

    pub(crate) fn resend(&self) -> io::Result<()> {
        self.notify(notify::RESEND, &[])
    }

    fn send(&self, unique: u64, error: i32, pieces: &[&[u8]]) {
        if let Err(failure) = self.write(unique, error, pieces) {
            // ENOENT: the caller was killed and no longer waits; ENODEV: the mount has ended.
            if !matches!(failure.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) {
                log::error!("reply to request {unique}: {failure}");
            }
        }
        if let Some(outstanding) = self.outstanding.get() {
            outstanding.answered(unique);
        }
    }

    fn write(&self, unique: u64, error: i32, pieces: &[&[u8]]) -> io::Result<()> {
        let length = OUT_HEADER + pieces.iter().map(|p| p.len()).sum::<usize>();
        let mut header = Packer::with_capacity(OUT_HEADER);
        let total = u32::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        header.u32(total).i32(error).u64(unique);
        let mut vectors = Vec::with_capacity(pieces.len() + 1);
        vectors.push(vector(&header.0));
        vectors.extend(pieces.iter().filter(|p| !p.is_empty()).map(|p| vector(p)));
        // SAFETY: every vector points into a slice that outlives the call.
        let count = unsafe { libc::writev(self.raw(), vectors.as_ptr(), vectors.len() as libc::c_int) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}
