//! Warm-up and coverage.

use crate::engine::Engine;
use crate::errors::unknown;
use crate::snapshots;
use headrace_fetch::{Object, WarmProgress};
use headrace_snapshot::{EntryId, Snapshot};
use headrace_volume::select;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

#[pymethods]
impl Engine {
    /// Pulls the selection into the cache; `progress(dict)` answering false stops.
    fn warm<'py>(
        &self,
        py: Python<'py>,
        origin_id: &str,
        snapshot: &str,
        paths: Vec<String>,
        progress: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (_, volume) = self.origin(origin_id)?;
        let snapshot = snapshots::open(snapshot)?;
        let (progress_end, failures) = py.detach(|| {
            let files = chosen(&snapshot, &paths)?;
            let bytes = files.iter().filter_map(|id| snapshot.entry(*id)).map(|e| e.size).sum();
            let totals = (files.len() as u64, bytes);
            let objects: Box<dyn Iterator<Item = Arc<Object>>> = Box::new(files.into_iter().filter_map(|id| volume.object(&snapshot, id)));
            let mut report = |at: &WarmProgress| {
                Python::attach(|py| {
                    let answer = to_dict(py, at).and_then(|d| progress.call1(py, (d,)));
                    // A callback that raises (Ctrl-C) stops the warm-up too.
                    answer.and_then(|a| a.is_truthy(py)).unwrap_or(false)
                })
            };
            PyResult::Ok(self.fetcher.warm(objects, totals, &mut report))
        })?;
        let answer = to_dict(py, &progress_end)?;
        let failed: Vec<(String, String)> = failures.into_iter().map(|f| (f.key, f.message)).collect();
        answer.set_item("failed", failed)?;
        Ok(answer)
    }

    /// What the cache holds of the selection.
    fn coverage<'py>(&self, py: Python<'py>, origin_id: &str, snapshot: &str, paths: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
        let (_, volume) = self.origin(origin_id)?;
        let snapshot = snapshots::open(snapshot)?;
        let (mut files, mut bytes, mut complete, mut durable, mut present) = (0u64, 0u64, 0u64, 0u64, 0u64);
        py.detach(|| {
            for id in chosen(&snapshot, &paths)? {
                let size = snapshot.entry(id).map_or(0, |e| e.size);
                files += 1;
                bytes += size;
                let held = volume.identity(&snapshot, id).and_then(|i| self.cache.peek(&i.id()));
                complete += u64::from(size == 0 || held.as_ref().is_some_and(|p| p.complete));
                durable += u64::from(size == 0 || held.as_ref().is_some_and(|p| p.durable));
                present += held.map_or(0, |p| p.present_bytes);
            }
            PyResult::Ok(())
        })?;
        let answer = PyDict::new(py);
        answer.set_item("files", files)?;
        answer.set_item("bytes", bytes)?;
        answer.set_item("files_complete", complete)?;
        answer.set_item("files_durable", durable)?;
        answer.set_item("bytes_present", present)?;
        Ok(answer)
    }
}

pub(crate) fn chosen(snapshot: &Snapshot, paths: &[String]) -> PyResult<Vec<EntryId>> {
    let (files, absent) = select(snapshot, paths);
    match absent.first() {
        Some(path) => Err(unknown("path", path)),
        None => Ok(files),
    }
}

fn to_dict<'py>(py: Python<'py>, progress: &WarmProgress) -> PyResult<Bound<'py, PyDict>> {
    let answer = PyDict::new(py);
    answer.set_item("files", progress.files)?;
    answer.set_item("files_total", progress.files_total)?;
    answer.set_item("bytes", progress.bytes)?;
    answer.set_item("bytes_total", progress.bytes_total)?;
    answer.set_item("origin_bytes", progress.origin_bytes)?;
    Ok(answer)
}
