//! The threads that read the device, and what each request gets.

use crate::mount::Mount;
use crate::wire::{Request, op};
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

const REQUEST_BYTES: usize = 128 * 1024;

impl Mount {
    /// Serves until the mount ends, as the `reader`-th of the threads that read the device.
    pub(crate) fn serve(self: &Arc<Self>, reader: usize) {
        let mut own = vec![0; REQUEST_BYTES];
        loop {
            let buffer = match &self.outstanding {
                // SAFETY: each reader's number is given to one thread, and the last slice ended with the last turn.
                Some(outstanding) => unsafe { outstanding.buffer(reader) },
                None => &mut own[..],
            };
            match self.device.read(buffer) {
                Ok(Some(count)) => self.take(reader, &buffer[..count]),
                Ok(None) => break,
                Err(error) => {
                    log::error!("reading /dev/fuse: {error}; the mount of {} ends", self.config.directory);
                    break;
                }
            }
        }
        self.alive.store(false, Release);
        self.pool.close();
        self.signals.close();
    }

    fn take(self: &Arc<Self>, reader: usize, bytes: &[u8]) {
        let Some(request) = Request::parse(bytes) else {
            return log::error!("a malformed request of {} bytes from the kernel", bytes.len());
        };
        if let Some(outstanding) = &self.outstanding
            && request.is_answered()
            && !outstanding.keep(reader, bytes, request.unique)
        {
            log::warn!("too many requests wait in {}: request {} is lost if the node dies", self.config.directory, request.unique);
        }
        self.dispatch(&request);
    }

    /// Answers what a predecessor had read and not answered.
    pub(crate) fn answer_left(self: &Arc<Self>, left: &[Vec<u8>]) {
        for bytes in left {
            match Request::parse(bytes) {
                Some(request) => self.dispatch(&Request { left: true, ..request }),
                None => log::error!("a malformed request of {} bytes was left by the last node", bytes.len()),
            }
        }
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
