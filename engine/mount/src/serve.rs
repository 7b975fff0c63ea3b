//! The threads that read the device, and what each request gets.

use crate::mount::Mount;
use crate::wire::{Request, op};
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

const REQUEST_BYTES: usize = 128 * 1024;

impl Mount {
    /// Serves until the mount ends.
    pub(crate) fn serve(self: &Arc<Self>) {
        let mut buffer = vec![0; REQUEST_BYTES];
        loop {
            match self.device.read(&mut buffer) {
                Ok(Some(count)) => match Request::parse(&buffer[..count]) {
                    Some(request) => self.dispatch(&request),
                    None => log::error!("a malformed request of {count} bytes from the kernel"),
                },
                Ok(None) => break,
                Err(error) => {
                    log::error!("reading /dev/fuse: {error}; the mount of {} ends", self.config.directory);
                    break;
                }
            }
        }
        self.alive.store(false, Release);
        self.pool.close();
    }

    fn dispatch(self: &Arc<Self>, request: &Request<'_>) {
        match request.opcode {
            op::LOOKUP => self.lookup(request),
            op::GETATTR => self.getattr(request),
            op::OPEN => self.open(request),
            op::READ => self.read(request),
            op::RELEASE => self.release(request),
            op::OPENDIR => self.opendir(request),
            op::READDIR => self.readdir(request, false),
            op::READDIRPLUS => self.readdir(request, true),
            op::RELEASEDIR | op::DESTROY => self.device.reply(request.unique, &[]),
            op::STATFS => self.statfs(request.unique),
            op::INTERRUPT => self.interrupt(request),
            // These two have no answer.
            op::FORGET => self.nodes.forget(request.node),
            op::BATCH_FORGET => self.batch_forget(request),
            op::READLINK => self.device.error(request.unique, libc::EINVAL),
            op::SETATTR
            | op::SYMLINK
            | op::MKNOD
            | op::MKDIR
            | op::UNLINK
            | op::RMDIR
            | op::RENAME
            | op::RENAME2
            | op::LINK
            | op::WRITE
            | op::SETXATTR
            | op::REMOVEXATTR
            | op::CREATE
            | op::FALLOCATE
            | op::COPY_FILE_RANGE
            | op::TMPFILE => self.device.error(request.unique, libc::EROFS),
            // The kernel stops asking and does without: extended attributes, flush, fsync, access, seek, poll, statx.
            _ => self.device.error(request.unique, libc::ENOSYS),
        }
    }

    fn batch_forget(&self, request: &Request<'_>) {
        let count = request.u32(0).unwrap_or(0) as usize;
        for index in 0..count {
            let Some(node) = request.u64(8 + index * 16) else { return };
            self.nodes.forget(node);
        }
    }
}
