//! The door of engine/fuzz: a mount whose kernel is a socket that keeps messages apart.

use crate::device::Device;
use crate::ledger::Ledger;
use crate::mount::{Mount, MountConfig, Slot};
use crate::mounting::MountError;
use crate::negotiate::Agreed;
use crate::wire::{MINOR, init};
use headrace_snapshot::Snapshot;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Serves `snapshot`, as slot 1, to whoever holds the other end of `kernel`; `keeps` has unanswered requests kept, as for an old kernel.
///
/// # Errors
/// When a thread can't be started, or there is no memory file for the ledger.
pub fn attach(config: MountConfig, snapshot: Arc<Snapshot>, kernel: OwnedFd, keeps: bool) -> Result<Arc<Mount>, MountError> {
    let ledger = Ledger::create().map_err(|e| MountError::refused(&config.directory, &e))?;
    let resend = if keeps { 0 } else { init::HAS_RESEND };
    let agreed = Agreed { flags: init::PASSTHROUGH | init::DIRECT_IO_ALLOW_MMAP | resend, minor: MINOR };
    ledger.set_init(agreed.flags, agreed.minor);
    let slot = ledger.take_slot().ok_or_else(|| MountError::out_of_slots(&config.directory))?;
    ledger.set_current_slot(slot);
    let slots = HashMap::from([(slot, Arc::new(Slot { snapshot, path: PathBuf::new() }))]);
    let mount = Mount::assemble(config, Device::new(kernel), ledger, slots, agreed)?;
    mount.start()?;
    Ok(mount)
}
