//! The FUSE wire: what the kernel sends and expects, field by field (linux/fuse.h, protocol 7.44).
//!
//! Everything is native-endian and packed by hand into byte vectors: a reply is one `writev`, and no struct layout is
//! trusted to match the kernel's.

/// Protocol version we speak; the kernel's minor may be older.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 44;
/// Oldest kernel protocol we accept (Linux 5.14 speaks 7.34).
pub(crate) const MINOR_MIN: u32 = 31;
pub(crate) const ROOT_ID: u64 = 1;
pub(crate) const IN_HEADER: usize = 40;
pub(crate) const OUT_HEADER: usize = 16;
/// Set in the unique id of a request that the kernel sends again.
pub(crate) const UNIQUE_RESEND: u64 = 1 << 63;

pub(crate) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const TMPFILE: u32 = 51;
}

pub(crate) mod init {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    /// Files opened with DIRECT_IO may be mapped shared (Linux 6.6).
    pub(crate) const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
    pub(crate) const PASSTHROUGH: u64 = 1 << 37;
    pub(crate) const NO_EXPORT_SUPPORT: u64 = 1 << 38;
    pub(crate) const HAS_RESEND: u64 = 1 << 39;
}

pub(crate) mod open {
    pub(crate) const DIRECT_IO: u32 = 1;
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const CACHE_DIR: u32 = 1 << 3;
    pub(crate) const PASSTHROUGH: u32 = 1 << 7;
}

pub(crate) mod notify {
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
    pub(crate) const RESEND: i32 = 7;
    pub(crate) const INC_EPOCH: i32 = 8;
    /// Protocol minor from which INC_EPOCH is understood.
    pub(crate) const INC_EPOCH_MINOR: u32 = 44;
    /// INVAL_ENTRY that only expires the name, instead of dropping what hangs below it.
    pub(crate) const EXPIRE_ONLY: u32 = 1;
}

/// Little helper to pack native-endian fields.
#[derive(Default)]
pub(crate) struct Packer(pub(crate) Vec<u8>);

impl Packer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}

/// A request as read from the device.
pub(crate) struct Request<'a> {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    /// The thread that asks, as the mount's pid namespace counts; 0 when it is not in there.
    pub(crate) thread: u32,
    /// Left unanswered by the last node.
    pub(crate) left: bool,
    pub(crate) body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Parses what one read of the device gave; `None` when it is shorter than its header says.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = u32_at(bytes, 0)? as usize;
        let bytes = bytes.get(..length)?;
        Some(Self {
            opcode: u32_at(bytes, 4)?,
            unique: u64_at(bytes, 8)?,
            node: u64_at(bytes, 16)?,
            thread: u32_at(bytes, 32)?,
            left: false,
            body: bytes.get(IN_HEADER..)?,
        })
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        u32_at(self.body, at)
    }

    pub(crate) fn u64(&self, at: usize) -> Option<u64> {
        u64_at(self.body, at)
    }

    /// False for the few requests that get no answer.
    pub(crate) fn is_answered(&self) -> bool {
        !matches!(self.opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT)
    }

    /// A NUL-terminated name at the start of the body.
    pub(crate) fn name(&self) -> Option<&'a [u8]> {
        let end = self.body.iter().position(|b| *b == 0)?;
        Some(&self.body[..end])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
