//! The cache, for `headrace cache` and `status`.

use crate::engine::Engine;
use crate::errors::{engine_error, from_cache};
use crate::snapshots;
use crate::warm::chosen;
use headrace_cache::ObjectId;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[pymethods]
impl Engine {
    fn cache_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = py.detach(|| self.cache.usage());
        let answer = PyDict::new(py);
        answer.set_item("allocated_bytes", usage.allocated_bytes)?;
        answer.set_item("limit_bytes", usage.limit_bytes)?;
        answer.set_item("files", usage.files)?;
        answer.set_item("complete_files", usage.complete_files)?;
        answer.set_item("held_unlinked_bytes", usage.held_unlinked_bytes)?;
        answer.set_item("scan_done", self.cache.scan_done())?;
        let mut directories = Vec::new();
        for directory in usage.directories {
            let item = PyDict::new(py);
            item.set_item("path", directory.path.to_string_lossy())?;
            item.set_item("limit_bytes", directory.limit_bytes)?;
            item.set_item("allocated_bytes", directory.allocated_bytes)?;
            item.set_item("failed", directory.failed)?;
            item.set_item("lacks", directory.lacks)?;
            directories.push(item);
        }
        answer.set_item("directories", directories)?;
        Ok(answer)
    }

    fn cache_entries<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let entries = py.detach(|| self.cache.entries());
        let mut answer = Vec::new();
        for entry in entries.into_iter().take(limit) {
            let item = PyDict::new(py);
            item.set_item("id", entry.identity.id().to_string())?;
            item.set_item("endpoint", entry.identity.endpoint)?;
            item.set_item("bucket", entry.identity.bucket)?;
            item.set_item("key", entry.identity.key)?;
            item.set_item("pin", entry.identity.pin)?;
            item.set_item("size", entry.size)?;
            item.set_item("allocated", entry.allocated)?;
            item.set_item("complete", entry.complete)?;
            item.set_item("pinned", entry.pinned)?;
            item.set_item("last_used", entry.last_used)?;
            answer.push(item);
        }
        Ok(answer)
    }

    /// Drops the given files, or all; pinned ones too when they are named. Returns the bytes freed.
    fn cache_evict(&self, py: Python<'_>, ids: Option<Vec<String>>) -> PyResult<u64> {
        py.detach(|| {
            let ids: Vec<ObjectId> = match ids {
                Some(ids) => ids.iter().map(|id| parse(id)).collect::<PyResult<_>>()?,
                None => self.cache.entries().into_iter().filter(|e| !e.pinned).map(|e| e.identity.id()).collect(),
            };
            let mut freed = 0;
            for id in ids {
                freed += self.cache.evict(&id).map_err(from_cache)?;
            }
            Ok(freed)
        })
    }

    fn cache_ids(&self, py: Python<'_>, origin_id: &str, snapshot: &str, paths: Vec<String>) -> PyResult<Vec<String>> {
        let (_, volume) = self.origin(origin_id)?;
        let snapshot = snapshots::open(snapshot)?;
        py.detach(|| {
            let files = chosen(&snapshot, &paths)?;
            Ok(files.into_iter().filter_map(|id| volume.identity(&snapshot, id)).map(|i| i.id().to_string()).collect())
        })
    }

    fn cache_pin(&self, py: Python<'_>, origin_id: &str, snapshot: &str, paths: Vec<String>, pinned: bool) -> PyResult<usize> {
        let (_, volume) = self.origin(origin_id)?;
        let snapshot = snapshots::open(snapshot)?;
        py.detach(|| {
            let files = chosen(&snapshot, &paths)?;
            for identity in files.iter().filter_map(|id| volume.identity(&snapshot, *id)) {
                self.cache.set_pinned(&identity, pinned).map_err(from_cache)?;
            }
            Ok(files.len())
        })
    }

    /// These files stay until others are named; asked for, they go all the same.
    fn cache_protect(&self, py: Python<'_>, ids: Vec<String>) -> PyResult<()> {
        py.detach(|| {
            let ids = ids.iter().map(|id| parse(id)).collect::<PyResult<_>>()?;
            self.cache.protect(&ids);
            Ok(())
        })
    }

    /// Checks every digest; bad blocks are dropped and fetched again when asked for.
    fn cache_verify<'py>(&self, py: Python<'py>, progress: Py<PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let report = py.detach(|| {
            self.cache.verify(
                &|files, bytes| Python::attach(|py| progress.call1(py, (files, bytes)).and_then(|a| a.is_truthy(py)).unwrap_or(false)),
                true,
            )
        });
        let answer = PyDict::new(py);
        answer.set_item("files", report.files)?;
        answer.set_item("bytes", report.bytes)?;
        answer.set_item("blocks", report.blocks)?;
        answer.set_item("bad_blocks", report.bad_blocks)?;
        let bad: Vec<(String, u64)> = report.bad.into_iter().map(|b| (b.identity.key, b.block)).collect();
        answer.set_item("bad", bad)?;
        Ok(answer)
    }
}

fn parse(id: &str) -> PyResult<ObjectId> {
    ObjectId::parse(id).ok_or_else(|| engine_error("bad-id", format!("{id:?} is not an object id (32 hexadecimal digits)"), libc::EINVAL))
}
