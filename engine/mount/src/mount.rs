//! A living mount: begun, resumed after a killed node, switched to another snapshot, ended.

use crate::device::Device;
use crate::kernel::{KernelFeature, KernelMask};
use crate::ledger::Ledger;
use crate::mounting::{self, MountError};
use crate::negotiate::{Agreed, negotiate};
use crate::nodes::Nodes;
use crate::outstanding::{Outstanding, READERS};
use crate::pool::Pool;
use crate::read::Waiting;
use crate::siblings::Siblings;
use crate::signals::Signals;
use crate::wire::{Packer, ROOT_ID, notify};
use headrace_cache::DoorHandle;
use headrace_snapshot::{EntryId, Snapshot};
use headrace_volume::Volume;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Settings of one mount.
pub struct MountConfig {
    /// Where its bytes come from.
    pub volume: Arc<Volume>,
    /// Absolute path of the mount point.
    pub directory: String,
    /// What `mount` shows as the source, such as `s3://bucket/prefix`.
    pub source: String,
    /// Owner of every file.
    pub uid: u32,
    /// Group of every file.
    pub gid: u32,
    /// Permission bits of files, such as 0o444.
    pub file_mode: u32,
    /// Permission bits of directories, such as 0o555.
    pub dir_mode: u32,
    /// Other users may read it, as far as the modes allow.
    pub allow_other: bool,
    /// Features of the kernel to do without.
    pub mask: KernelMask,
}

/// A snapshot in use, with the file it came from.
pub(crate) struct Slot {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) path: PathBuf,
}

/// What the mount did.
#[derive(Debug, Default)]
pub struct MountCounters {
    /// Opens of files.
    pub opens: AtomicU64,
    /// Of these, by passthrough.
    pub passthrough_opens: AtomicU64,
    /// Opens refused.
    pub failed_opens: AtomicU64,
    /// Reads answered by the node; those of passthrough don't pass here.
    pub reads: AtomicU64,
    /// Bytes of these.
    pub read_bytes: AtomicU64,
    /// Reads answered with an error.
    pub failed_reads: AtomicU64,
}

/// A mount.
pub struct Mount {
    pub(crate) config: MountConfig,
    pub(crate) device: Device,
    pub(crate) ledger: Ledger,
    /// Requests kept until they are answered, where the kernel can't send them again.
    pub(crate) outstanding: Option<Arc<Outstanding>>,
    pub(crate) slots: RwLock<HashMap<u16, Arc<Slot>>>,
    pub(crate) nodes: Nodes,
    pub(crate) siblings: Siblings,
    /// Descriptors of files open by passthrough: while one is here its cache file counts as held.
    pub(crate) doors: Mutex<HashMap<u64, DoorHandle>>,
    /// Reads that wait, by the id of their request.
    pub(crate) pending: Mutex<HashMap<u64, Waiting>>,
    /// Those of them that a signal may end.
    pub(crate) signals: Signals,
    pub(crate) pool: Arc<Pool>,
    pub(crate) alive: AtomicBool,
    /// What the mount did.
    pub counters: MountCounters,
    pub(crate) agreed: Agreed,
    passthrough: AtomicBool,
}

const DISK_THREADS: usize = 8;
/// What the kernel reads ahead for a sequential reader, in KiB: its default of 128 starves every fast link.
const READ_AHEAD_KIB: u32 = 4096;

impl Mount {
    /// Mounts and serves.
    ///
    /// # Errors
    /// When FUSE is not to be had or the mount is refused; nothing is left behind.
    pub fn begin(config: MountConfig, snapshot: Arc<Snapshot>, path: PathBuf) -> Result<Arc<Self>, MountError> {
        let fd = mounting::attach(&config)?;
        let undo = mounting::Undo::new(&config.directory);
        let device = Device::new(fd);
        let agreed = negotiate(&device, config.mask).map_err(|e| MountError::refused(&config.directory, &e))?;
        let ledger = Ledger::create().map_err(|e| MountError::refused(&config.directory, &e))?;
        ledger.set_init(agreed.flags, agreed.minor);
        let slot = ledger.take_slot().ok_or_else(|| MountError::out_of_slots(&config.directory))?;
        ledger.set_current_slot(slot);
        let slots = HashMap::from([(slot, Arc::new(Slot { snapshot, path }))]);
        let mount = Self::assemble(config, device, ledger, slots, agreed)?;
        mount.start()?;
        undo.disarm();
        if !mount.config.mask.masks(KernelFeature::LargeReads) {
            mounting::set_read_ahead(&mount.config.directory, READ_AHEAD_KIB);
        }
        Ok(mount)
    }

    /// Goes on with a mount whose node has died: the kernel sends again what was not answered.
    ///
    /// # Errors
    /// When the ledger was written by another version, or a thread can't be started.
    pub fn resume(
        config: MountConfig,
        slots: Vec<(u16, Arc<Snapshot>, PathBuf)>,
        fuse: OwnedFd,
        ledger: OwnedFd,
    ) -> Result<Arc<Self>, MountError> {
        let ledger = Ledger::adopt(ledger).map_err(|e| MountError::refused(&config.directory, &e))?;
        let (flags, minor) = ledger.init();
        let agreed = Agreed { flags, minor };
        let slots = slots.into_iter().map(|(slot, snapshot, path)| (slot, Arc::new(Slot { snapshot, path }))).collect();
        let mount = Self::assemble(config, Device::new(fuse), ledger, slots, agreed)?;
        mount.hold_again();
        match &mount.outstanding {
            Some(outstanding) => mount.answer_left(&outstanding.left()),
            None => {
                if let Err(error) = mount.device.resend() {
                    log::warn!("the kernel would not send unanswered requests of {} again: {error}", mount.config.directory);
                }
            }
        }
        mount.start()?;
        Ok(mount)
    }

    pub(crate) fn assemble(
        config: MountConfig,
        device: Device,
        ledger: Ledger,
        slots: HashMap<u16, Arc<Slot>>,
        agreed: Agreed,
    ) -> Result<Arc<Self>, MountError> {
        let outstanding = (!agreed.resend()).then(|| Arc::new(ledger.outstanding()));
        if let Some(outstanding) = &outstanding {
            device.keep_requests_in(Arc::clone(outstanding));
        }
        let pool = Pool::start(DISK_THREADS).map_err(|e| MountError::refused(&config.directory, &e))?;
        Ok(Arc::new(Self {
            device,
            ledger,
            outstanding,
            slots: RwLock::new(slots),
            nodes: Nodes::default(),
            siblings: Siblings::default(),
            doors: Mutex::default(),
            pending: Mutex::default(),
            signals: Signals::default(),
            pool,
            alive: AtomicBool::new(true),
            counters: MountCounters::default(),
            passthrough: AtomicBool::new(agreed.passthrough()),
            agreed,
            config,
        }))
    }

    pub(crate) fn start(self: &Arc<Self>) -> Result<(), MountError> {
        for index in 0..READERS {
            self.spawn(format!("fuse-{index}"), move |mount| mount.serve(index))?;
        }
        self.spawn("mount-signals".to_owned(), |mount| mount.heed_signals())
    }

    fn spawn(self: &Arc<Self>, name: String, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> Result<(), MountError> {
        let mount = Arc::clone(self);
        let spawned = std::thread::Builder::new().name(name).spawn(move || work(&mount));
        spawned.map(drop).map_err(|e| MountError::refused(&self.config.directory, &e))
    }

    /// False once the mount has ended, whoever ended it.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Acquire)
    }

    /// True while complete files are opened by passthrough.
    pub fn passthrough(&self) -> bool {
        self.passthrough.load(Relaxed)
    }

    pub(crate) fn disable_passthrough(&self, cause: &io::Error) {
        if self.passthrough.swap(false, Relaxed) {
            log::warn!("no passthrough for {}: {cause}; complete files are served by the node", self.config.directory);
        }
    }

    /// `/dev/fuse` and the ledger, for the keeper to duplicate.
    pub fn descriptors(&self) -> (RawFd, RawFd) {
        (self.device.raw(), self.ledger.raw())
    }

    /// The slots in use and their snapshot files.
    pub fn slots(&self) -> Vec<(u16, PathBuf)> {
        self.slots.read().iter().map(|(slot, s)| (*slot, s.path.clone())).collect()
    }

    /// The slot that the root stands for.
    pub fn current_slot(&self) -> u16 {
        self.ledger.current_slot()
    }

    /// Requests waiting for bytes.
    pub fn waiting(&self) -> usize {
        self.pending.lock().len()
    }

    /// Files open by passthrough.
    pub fn open_by_passthrough(&self) -> usize {
        self.ledger.open_nodes().len()
    }

    /// Takes the next slot number. The caller makes it known to the keeper before [`Mount::switch`].
    ///
    /// # Errors
    /// When all 65,535 were used: mount again.
    pub fn reserve_slot(&self) -> Result<u16, MountError> {
        self.ledger.take_slot().ok_or_else(|| MountError::out_of_slots(&self.config.directory))
    }

    /// Paths looked up from the root from now on are those of `snapshot`; what is open stays.
    pub fn switch(&self, slot: u16, snapshot: Arc<Snapshot>, path: PathBuf) {
        let old = self.snapshot(self.current_slot());
        self.slots.write().insert(slot, Arc::new(Slot { snapshot, path }));
        self.ledger.set_current_slot(slot);
        if let Err(error) = self.expire_names(old.as_deref()) {
            log::warn!("telling the kernel of the new snapshot of {}: {error}", self.config.directory);
        }
    }

    /// Called from the thread of whoever asked for the switch, with no lock held: it may wait for the kernel's locks.
    fn expire_names(&self, old: Option<&Snapshot>) -> io::Result<()> {
        let mut attributes = Packer::default();
        attributes.u64(ROOT_ID).u64(u64::MAX).u64(0);
        ignore_absent(self.device.notify(notify::INVAL_INODE, &attributes.0))?;
        if self.agreed.minor >= notify::INC_EPOCH_MINOR {
            return self.device.notify(notify::INC_EPOCH, &[]);
        }
        let Some(old) = old else { return Ok(()) };
        let children = old.children(EntryId(0));
        for name in (0..children.len()).filter_map(|i| children.get(i)).filter_map(|id| old.entry(id)).map(|e| e.name) {
            let mut body = Packer::default();
            body.u64(ROOT_ID).u32(name.len() as u32).u32(notify::EXPIRE_ONLY).bytes(name).zeros(1);
            ignore_absent(self.device.notify(notify::INVAL_ENTRY, &body.0))?;
        }
        Ok(())
    }

    /// Unmounts.
    ///
    /// # Errors
    /// `busy` while files are open, unless `lazy`.
    pub fn end(&self, lazy: bool) -> Result<(), MountError> {
        mounting::detach(&self.config.directory, lazy)?;
        if !lazy {
            self.alive.store(false, Release);
        }
        Ok(())
    }
}

/// The kernel does not know the name or inode: nothing to expire.
fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
