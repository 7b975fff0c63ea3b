//! Mounts.

use crate::engine::{Engine, duplicate};
use crate::errors::{engine_error, from_mount, unknown};
use crate::snapshots;
use headrace_mount::{KernelFeature, Mount, MountConfig};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

#[pymethods]
impl Engine {
    #[pyo3(name = "mount", signature = (mount_id, origin_id, snapshot, *, directory, uid, gid, file_mode, dir_mode, allow_other, passthrough))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn begin_mount(
        &self,
        py: Python<'_>,
        mount_id: String,
        origin_id: &str,
        snapshot: &str,
        directory: String,
        uid: Option<u32>,
        gid: Option<u32>,
        file_mode: u32,
        dir_mode: u32,
        allow_other: bool,
        passthrough: bool,
    ) -> PyResult<()> {
        let opened = snapshots::open(snapshot)?;
        let look = Look { uid, gid, file_mode, dir_mode, allow_other, passthrough };
        let config = self.mount_config(origin_id, directory, &opened.header().prefix, &look)?;
        let mount = py.detach(|| Mount::begin(config, opened, snapshot.into())).map_err(from_mount)?;
        self.mounts.lock().insert(mount_id, mount);
        Ok(())
    }

    fn mount_fds(&self, mount_id: &str) -> PyResult<(RawFd, RawFd)> {
        Ok(self.mount(mount_id)?.descriptors())
    }

    #[pyo3(signature = (mount_id, origin_id, snapshots, current_slot, *, fuse_fd, state_fd, directory, uid, gid, file_mode, dir_mode, allow_other, passthrough))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn mount_resume(
        &self,
        py: Python<'_>,
        mount_id: String,
        origin_id: &str,
        snapshots: HashMap<u16, String>,
        current_slot: u16,
        fuse_fd: RawFd,
        state_fd: RawFd,
        directory: String,
        uid: Option<u32>,
        gid: Option<u32>,
        file_mode: u32,
        dir_mode: u32,
        allow_other: bool,
        passthrough: bool,
    ) -> PyResult<()> {
        let mut slots = Vec::new();
        for (slot, path) in snapshots {
            slots.push((slot, snapshots::open(&path)?, path.into()));
        }
        let Some((_, current, _)) = slots.iter().find(|(slot, _, _)| *slot == current_slot) else {
            return Err(unknown("slot", &current_slot.to_string()));
        };
        let prefix = current.header().prefix.clone();
        let look = Look { uid, gid, file_mode, dir_mode, allow_other, passthrough };
        let config = self.mount_config(origin_id, directory, &prefix, &look)?;
        let (fuse, state) = (duplicate(fuse_fd)?, duplicate(state_fd)?);
        let mount = py.detach(|| Mount::resume(config, slots, fuse, state)).map_err(from_mount)?;
        self.mounts.lock().insert(mount_id, mount);
        Ok(())
    }

    fn mount_slots(&self, mount_id: &str) -> PyResult<HashMap<u16, String>> {
        let slots = self.mount(mount_id)?.slots();
        Ok(slots.into_iter().map(|(slot, path)| (slot, path.to_string_lossy().into_owned())).collect())
    }

    fn mount_current_slot(&self, mount_id: &str) -> PyResult<u16> {
        Ok(self.mount(mount_id)?.current_slot())
    }

    fn mount_reserve_slot(&self, mount_id: &str) -> PyResult<u16> {
        self.mount(mount_id)?.reserve_slot().map_err(from_mount)
    }

    fn mount_switch(&self, py: Python<'_>, mount_id: &str, slot: u16, snapshot: &str) -> PyResult<()> {
        let mount = self.mount(mount_id)?;
        let opened = snapshots::open(snapshot)?;
        py.detach(|| mount.switch(slot, opened, snapshot.into()));
        Ok(())
    }

    fn unmount(&self, py: Python<'_>, mount_id: &str, lazy: bool) -> PyResult<()> {
        let mount = self.mount(mount_id)?;
        py.detach(|| mount.end(lazy)).map_err(from_mount)?;
        self.mounts.lock().remove(mount_id);
        Ok(())
    }

    fn mount_alive(&self, mount_id: &str) -> PyResult<bool> {
        Ok(self.mount(mount_id)?.is_alive())
    }

    /// Forgets a mount that has ended by itself.
    fn mount_forget(&self, mount_id: &str) {
        self.mounts.lock().remove(mount_id);
    }

    fn mount_status<'py>(&self, py: Python<'py>, mount_id: &str) -> PyResult<Bound<'py, PyDict>> {
        let mount = self.mount(mount_id)?;
        let counters = &mount.counters;
        let answer = PyDict::new(py);
        answer.set_item("alive", mount.is_alive())?;
        answer.set_item("passthrough", mount.passthrough())?;
        answer.set_item("opens", counters.opens.load(Relaxed))?;
        answer.set_item("opens_passthrough", counters.passthrough_opens.load(Relaxed))?;
        answer.set_item("opens_failed", counters.failed_opens.load(Relaxed))?;
        answer.set_item("open_by_passthrough", mount.open_by_passthrough())?;
        answer.set_item("reads", counters.reads.load(Relaxed))?;
        answer.set_item("bytes_read", counters.read_bytes.load(Relaxed))?;
        answer.set_item("reads_failed", counters.failed_reads.load(Relaxed))?;
        answer.set_item("requests_pending", mount.waiting())?;
        answer.set_item("current_slot", mount.current_slot())?;
        Ok(answer)
    }
}

/// How files look to programs.
struct Look {
    uid: Option<u32>,
    gid: Option<u32>,
    file_mode: u32,
    dir_mode: u32,
    allow_other: bool,
    passthrough: bool,
}

impl Engine {
    fn mount_config(&self, origin_id: &str, directory: String, prefix: &str, look: &Look) -> PyResult<MountConfig> {
        let (_, volume) = self.origin(origin_id)?;
        if !directory.starts_with('/') {
            return Err(engine_error("bad-setting", format!("directory: {directory:?} is not an absolute path"), libc::EINVAL));
        }
        let source = format!("s3://{}/{prefix}", volume.bucket).trim_end_matches('/').to_owned();
        // SAFETY: these can't fail.
        let (own_uid, own_gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        Ok(MountConfig {
            volume,
            directory,
            source,
            uid: look.uid.unwrap_or(own_uid),
            gid: look.gid.unwrap_or(own_gid),
            file_mode: look.file_mode & 0o777,
            dir_mode: look.dir_mode & 0o777,
            allow_other: look.allow_other,
            mask: if look.passthrough { self.kernel_mask } else { self.kernel_mask.with(KernelFeature::Passthrough) },
        })
    }
}
