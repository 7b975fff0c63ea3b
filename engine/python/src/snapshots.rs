//! Snapshots: listing an origin into one, and reading them.

use crate::engine::Engine;
use crate::errors::{engine_error, from_origin, from_snapshot, unknown};
use headrace_origin::{ListSink, ListedObject, OriginError, Stop};
use headrace_snapshot::{Builder, ChangeKind, EntryId, EntryKind, NewEntry, Snapshot, SnapshotError, SnapshotHeader, diff};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Takes the pages of a listing into the builder.
struct Pages<'a> {
    builder: &'a Builder,
    prefix: &'a str,
    failure: Mutex<Option<SnapshotError>>,
}

impl ListSink for Pages<'_> {
    fn page(&self, segment: u32, objects: &[ListedObject]) -> Result<(), Stop> {
        let entries: Vec<NewEntry<'_>> = objects
            .iter()
            .filter_map(|object| {
                let key = object.key.strip_prefix(self.prefix).filter(|k| !k.is_empty())?;
                Some(NewEntry {
                    key,
                    size: object.size,
                    mtime_ns: object.mtime_ns,
                    etag: &object.etag,
                    version: object.version.as_deref(),
                    archived: object.archived,
                })
            })
            .collect();
        self.builder.push(segment, &entries).map_err(|error| {
            *self.failure.lock() = Some(error);
            Stop
        })
    }
}

#[pymethods]
impl Engine {
    /// Lists `prefix` into the snapshot file `target`; `progress(files, bytes)` answering false cancels.
    fn list<'py>(
        &self,
        py: Python<'py>,
        origin_id: &str,
        prefix: &str,
        target: &str,
        workers: usize,
        progress: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (origin, volume) = self.origin(origin_id)?;
        let created_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        let header = SnapshotHeader {
            endpoint: volume.endpoint.clone(),
            bucket: volume.bucket.clone(),
            prefix: prefix.to_owned(),
            created_ns,
            versioned: false,
        };
        let builder = Builder::create(Path::new(target), header).map_err(from_snapshot)?;
        let begun = Instant::now();
        let cancel = AtomicBool::new(false);
        let summary = py.detach(|| {
            let pages = Pages { builder: &builder, prefix, failure: Mutex::default() };
            let listed = std::thread::scope(|scope| {
                let listing = scope.spawn(|| origin.list(prefix, workers, &cancel, &pages));
                let mut last = Instant::now();
                while !listing.is_finished() {
                    std::thread::park_timeout(Duration::from_millis(2));
                    if last.elapsed() >= REPORT_EVERY && !report(&progress, &builder) {
                        cancel.store(true, Relaxed);
                    }
                    if last.elapsed() >= REPORT_EVERY {
                        last = Instant::now();
                    }
                }
                listing.join()
            });
            match (pages.failure.into_inner(), listed) {
                (Some(error), _) => Err(from_snapshot(error)),
                (None, Ok(Ok(summary))) => Ok(summary),
                (None, Ok(Err(OriginError::Cancelled))) => {
                    Err(engine_error("cancelled", "the listing was cancelled".to_owned(), libc::EINTR))
                }
                (None, Ok(Err(error))) => Err(from_origin(error)),
                (None, Err(_)) => Err(engine_error("internal", "the listing thread panicked; see the log".to_owned(), libc::EIO)),
            }
        })?;
        let listed = begun.elapsed();
        let begun = Instant::now();
        let built = py.detach(|| builder.finish()).map_err(from_snapshot)?;
        let answer = PyDict::new(py);
        answer.set_item("files", built.files)?;
        answer.set_item("dirs", built.dirs)?;
        answer.set_item("bytes", built.bytes)?;
        answer.set_item("skipped", built.skipped)?;
        answer.set_item("external_sort", built.external_sort)?;
        answer.set_item("versioned", summary.versioned)?;
        answer.set_item("list_seconds", listed.as_secs_f64())?;
        answer.set_item("build_seconds", begun.elapsed().as_secs_f64())?;
        Ok(answer)
    }

    #[staticmethod]
    fn snapshot_info<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = open(path)?;
        let (header, totals) = (snapshot.header(), snapshot.totals());
        let answer = PyDict::new(py);
        answer.set_item("files", totals.files)?;
        answer.set_item("dirs", totals.dirs)?;
        answer.set_item("bytes", totals.bytes)?;
        answer.set_item("skipped", totals.skipped)?;
        answer.set_item("created_ns", header.created_ns)?;
        answer.set_item("endpoint", &header.endpoint)?;
        answer.set_item("bucket", &header.bucket)?;
        answer.set_item("prefix", &header.prefix)?;
        answer.set_item("versioned", header.versioned)?;
        Ok(answer)
    }

    #[staticmethod]
    fn snapshot_skipped(path: &str, limit: usize) -> PyResult<Vec<(String, String)>> {
        let snapshot = open(path)?;
        Ok(snapshot.skipped().take(limit).map(|(key, reason)| (key, reason.to_string())).collect())
    }

    #[staticmethod]
    fn snapshot_list<'py>(py: Python<'py>, path: &str, directory: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let snapshot = open(path)?;
        let top = snapshot.find(directory.trim_matches('/')).ok_or_else(|| unknown("path", directory))?;
        let children = snapshot.children(top);
        (0..children.len()).filter_map(|i| children.get(i)).map(|id| describe(py, &snapshot, id)).collect()
    }

    #[staticmethod]
    fn snapshot_stat<'py>(py: Python<'py>, path: &str, file: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let snapshot = open(path)?;
        snapshot.find(file.trim_matches('/')).map(|id| describe(py, &snapshot, id)).transpose()
    }

    /// The size of each file of these paths; None where there is no such file.
    #[staticmethod]
    fn snapshot_sizes(py: Python<'_>, path: &str, files: Vec<String>) -> PyResult<Vec<Option<u64>>> {
        let snapshot = open(path)?;
        let size = |file: &String| {
            let entry = snapshot.find(file.trim_matches('/')).and_then(|id| snapshot.entry(id));
            entry.filter(|entry| entry.kind == EntryKind::File).map(|entry| entry.size)
        };
        Ok(py.detach(|| files.iter().map(size).collect()))
    }

    /// Every file's path, in the tree's order; for choosing by pattern.
    #[staticmethod]
    fn snapshot_paths(py: Python<'_>, path: &str) -> PyResult<Vec<String>> {
        let snapshot = open(path)?;
        Ok(py.detach(|| snapshot.files().map(|id| snapshot.path(id)).collect()))
    }

    #[staticmethod]
    fn diff<'py>(py: Python<'py>, old: &str, new: &str, limit: usize) -> PyResult<Bound<'py, PyDict>> {
        let (old, new) = (open(old)?, open(new)?);
        let (mut added, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let counts = py.detach(|| {
            diff(&old, &new, &mut |change| {
                let list = match change.kind {
                    ChangeKind::New => &mut added,
                    ChangeKind::Changed => &mut changed,
                    ChangeKind::Gone => &mut gone,
                };
                if list.len() < limit {
                    list.push(change.path);
                }
            })
        });
        let answer = PyDict::new(py);
        answer.set_item("new", counts.new)?;
        answer.set_item("changed", counts.changed)?;
        answer.set_item("gone", counts.gone)?;
        answer.set_item("new_paths", added)?;
        answer.set_item("changed_paths", changed)?;
        answer.set_item("gone_paths", gone)?;
        Ok(answer)
    }
}

fn report(progress: &Py<PyAny>, builder: &Builder) -> bool {
    let (files, bytes) = builder.count();
    Python::attach(|py| {
        // A callback that raises (Ctrl-C) stops the listing too.
        progress.call1(py, (files, bytes)).and_then(|answer| answer.is_truthy(py)).unwrap_or(false)
    })
}

pub(crate) fn open(path: &str) -> PyResult<Arc<Snapshot>> {
    Snapshot::open(Path::new(path)).map(Arc::new).map_err(from_snapshot)
}

fn describe<'py>(py: Python<'py>, snapshot: &Snapshot, id: EntryId) -> PyResult<Bound<'py, PyDict>> {
    let entry =
        snapshot.entry(id).ok_or_else(|| engine_error("snapshot-corrupt", "an entry lies outside the snapshot".to_owned(), libc::EIO))?;
    let answer = PyDict::new(py);
    answer.set_item("name", String::from_utf8_lossy(entry.name))?;
    answer.set_item("kind", if entry.kind == EntryKind::File { "file" } else { "dir" })?;
    answer.set_item("size", entry.size)?;
    answer.set_item("mtime_ns", entry.mtime_ns)?;
    answer.set_item("etag", entry.etag)?;
    answer.set_item("version", entry.version)?;
    answer.set_item("archived", entry.archived)?;
    Ok(answer)
}
