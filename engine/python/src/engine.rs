//! The engine: cache, fetcher, and by name the origins and mounts.

use crate::errors::{engine_error, from_cache, unknown};
use crate::logging;
use headrace_cache::{Cache, CacheConfig, CacheDirectory};
use headrace_fetch::{FetchConfig, Fetcher};
use headrace_mount::{KernelFeature, KernelMask, Mount};
use headrace_origin::Origin;
use headrace_volume::Volume;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Owns the cache directory; every door stands on it.
#[pyclass(frozen, module = "headrace._engine")]
pub(crate) struct Engine {
    pub(crate) cache: Arc<Cache>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) origins: Mutex<HashMap<String, Arc<Origin>>>,
    /// Shared with the hand-out door.
    pub(crate) volumes: Arc<Mutex<HashMap<String, Arc<Volume>>>>,
    pub(crate) mounts: Mutex<HashMap<String, Arc<Mount>>>,
    /// Features of the kernel that mounts do without.
    pub(crate) kernel_mask: KernelMask,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, cache_directories, reserve_bytes, memory_bytes, max_age_seconds, lock_fds, boot_id, log_file, deadline_seconds=300.0, workers=32, kernel_mask=Vec::new(), verify_reads=false, page_bytes=0))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python constructor")]
    fn new(
        py: Python<'_>,
        cache_directories: Vec<(String, u64)>,
        reserve_bytes: u64,
        memory_bytes: u64,
        max_age_seconds: Option<f64>,
        lock_fds: Vec<RawFd>,
        boot_id: String,
        log_file: Option<String>,
        deadline_seconds: f64,
        workers: usize,
        kernel_mask: Vec<String>,
        verify_reads: bool,
        page_bytes: u64,
    ) -> PyResult<Self> {
        let kernel_mask = masked(&kernel_mask)?;
        logging::start(log_file.map(Into::into));
        let locks = lock_fds.into_iter().map(duplicate).collect::<PyResult<Vec<_>>>()?;
        let directories =
            cache_directories.into_iter().map(|(path, limit_bytes)| CacheDirectory { path: path.into(), limit_bytes }).collect();
        let max_age = max_age_seconds.map(Duration::from_secs_f64);
        let config = CacheConfig { directories, reserve_bytes, max_age, verify_reads, page_bytes, boot_id, locks };
        let fetch = FetchConfig { memory_bytes, workers, deadline: Duration::from_secs_f64(deadline_seconds), ..FetchConfig::default() };
        py.detach(|| {
            let cache = Cache::open(config).map_err(from_cache)?;
            let fetcher = Fetcher::start(Arc::clone(&cache), fetch)
                .map_err(|e| engine_error("threads", format!("starting the engine's threads: {e}"), libc::EAGAIN))?;
            Ok(Self { cache, fetcher, origins: Mutex::default(), volumes: Arc::default(), mounts: Mutex::default(), kernel_mask })
        })
    }

    fn lock_fds(&self) -> Vec<RawFd> {
        self.cache.lock_fds()
    }

    fn shutdown(&self, py: Python<'_>) {
        py.detach(|| {
            for origin in self.origins.lock().values() {
                origin.shutdown();
            }
            self.fetcher.stop();
            self.cache.shutdown();
        });
    }
}

impl Engine {
    pub(crate) fn origin(&self, name: &str) -> PyResult<(Arc<Origin>, Arc<Volume>)> {
        let origin = self.origins.lock().get(name).cloned();
        let volume = self.volumes.lock().get(name).cloned();
        origin.zip(volume).ok_or_else(|| unknown("origin", name))
    }

    pub(crate) fn mount(&self, name: &str) -> PyResult<Arc<Mount>> {
        self.mounts.lock().get(name).cloned().ok_or_else(|| unknown("mount", name))
    }
}

fn masked(names: &[String]) -> PyResult<KernelMask> {
    names.iter().try_fold(KernelMask::default(), |mask, name| {
        let known = KernelFeature::ALL.map(|(name, _)| name).join(", ");
        let feature = KernelFeature::named(name).ok_or_else(|| {
            engine_error("bad-setting", format!("kernel mask: there is no feature {name:?}; the features are {known}"), libc::EINVAL)
        })?;
        Ok(mask.with(feature))
    })
}

/// A descriptor of our own: Python keeps, and closes, the one it gave.
pub(crate) fn duplicate(fd: RawFd) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(engine_error("bad-descriptor", format!("{fd} is not a descriptor"), libc::EBADF));
    }
    // SAFETY: only borrowed for the duplication; a descriptor that is not open gives an error.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|e| engine_error("bad-descriptor", format!("descriptor {fd}: {e}"), libc::EBADF))
}
