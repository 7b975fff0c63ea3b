//! INIT: what the kernel offers and what we take.

use crate::device::Device;
use crate::kernel::{KernelFeature, KernelMask};
use crate::wire::{MAJOR, MINOR, MINOR_MIN, Packer, Request, init, notify, op};
use std::io;

/// What was agreed, remembered in the ledger for a successor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) flags: u64,
    pub(crate) minor: u32,
}

impl Agreed {
    pub(crate) fn passthrough(self) -> bool {
        self.flags & init::PASSTHROUGH != 0
    }

    /// True when what is opened past the page cache can still be mapped.
    pub(crate) fn direct_with_mmap(self) -> bool {
        self.flags & init::DIRECT_IO_ALLOW_MMAP != 0
    }

    pub(crate) fn resend(self) -> bool {
        self.flags & init::HAS_RESEND != 0
    }
}

/// Requests in the background (read-ahead) that the kernel may have under way at once; its default of 12 starves a fast link.
const MAX_BACKGROUND: u16 = 128;
/// What we ask for; the kernel takes less if its limit is lower.
const PAGES_WANTED: u16 = 1024;
const PAGE: u32 = 4096;
/// Read-ahead and request size that every kernel has.
const SMALL_READ: u32 = 128 * 1024;

/// Waits for INIT and answers it.
pub(crate) fn negotiate(device: &Device, mask: KernelMask) -> io::Result<Agreed> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = device.read(&mut buffer)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let Some(request) = Request::parse(&buffer[..count]) else { continue };
        if request.opcode != op::INIT {
            device.error(request.unique, libc::EIO);
            continue;
        }
        let (Some(major), Some(minor)) = (request.u32(0), request.u32(4)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a short INIT request"));
        };
        if major != MAJOR || minor < MINOR_MIN {
            device.error(request.unique, libc::EPROTO);
            let message = format!("the kernel's FUSE protocol {major}.{minor} is older than 7.{MINOR_MIN}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        return Ok(answer(device, &request, minor, mask));
    }
}

fn answer(device: &Device, request: &Request<'_>, minor: u32, mask: KernelMask) -> Agreed {
    let low = u64::from(request.u32(12).unwrap_or(0));
    let high = if low & init::INIT_EXT == 0 { 0 } else { u64::from(request.u32(16).unwrap_or(0)) };
    let offered = low | high << 32;
    let wanted = init::ASYNC_READ
        | init::PARALLEL_DIROPS
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::MAX_PAGES
        | init::EXPLICIT_INVAL_DATA
        | init::INIT_EXT
        | init::NO_EXPORT_SUPPORT
        | init::HAS_RESEND
        | init::PASSTHROUGH
        | init::DIRECT_IO_ALLOW_MMAP;
    let masked = [
        (KernelFeature::Passthrough, init::PASSTHROUGH),
        (KernelFeature::Resend, init::HAS_RESEND),
        (KernelFeature::DirectMmap, init::DIRECT_IO_ALLOW_MMAP),
        (KernelFeature::LargeReads, init::MAX_PAGES),
    ];
    let without = masked.iter().filter(|(feature, _)| mask.masks(*feature)).fold(0, |flags, (_, flag)| flags | flag);
    let minor = if mask.masks(KernelFeature::Epoch) { minor.min(notify::INC_EPOCH_MINOR - 1) } else { minor };
    let read_ahead = if mask.masks(KernelFeature::LargeReads) { SMALL_READ } else { u32::from(PAGES_WANTED) * PAGE };
    let flags = wanted & offered & !without;
    let mut reply = Packer::with_capacity(64);
    reply
        .u32(MAJOR)
        .u32(MINOR)
        .u32(read_ahead)
        .u32(flags as u32)
        .u16(MAX_BACKGROUND)
        .u16(MAX_BACKGROUND * 3 / 4)
        .u32(PAGE)
        .u32(1)
        .u16(pages_limit())
        .u16(0)
        .u32((flags >> 32) as u32)
        .u32(u32::from(flags & init::PASSTHROUGH != 0));
    reply.zeros(64 - reply.0.len());
    device.reply(request.unique, &reply.0);
    Agreed { flags, minor: minor.min(MINOR) }
}

fn pages_limit() -> u16 {
    let limit = std::fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit").ok();
    limit.and_then(|l| l.trim().parse::<u16>().ok()).map_or(256, |l| l.clamp(32, PAGES_WANTED))
}
