//! Counters and events.

use crate::engine::Engine;
use headrace_origin::OriginCounters;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

#[pymethods]
impl Engine {
    /// Every counter by name, without the product's prefix.
    fn counters(&self) -> HashMap<String, f64> {
        let mut all = HashMap::new();
        for (name, value) in self.fetcher.counters().snapshot() {
            all.insert(name.to_owned(), value as f64);
        }
        let pool = self.fetcher.pool();
        all.insert("buffer_limit_bytes".to_owned(), pool.limit_bytes as f64);
        all.insert("buffer_used_bytes".to_owned(), pool.used_bytes as f64);
        all.insert("buffer_peak_bytes".to_owned(), pool.peak_bytes as f64);
        all.insert("flights_queued".to_owned(), self.fetcher.queued() as f64);
        for origin in self.origins.lock().values() {
            for (name, value) in origin.counters().named() {
                *all.entry(format!("origin_{name}")).or_default() += value as f64;
            }
        }
        for (name, _, value) in self.cache.counters().all() {
            all.insert(format!("cache_{name}_total"), value as f64);
        }
        all.insert("cache_files_to_read_back".to_owned(), self.cache.to_read_back() as f64);
        for mount in self.mounts.lock().values() {
            let counters = &mount.counters;
            for (name, value) in [
                ("mount_opens_total", &counters.opens),
                ("mount_opens_passthrough_total", &counters.passthrough_opens),
                ("mount_reads_total", &counters.reads),
                ("mount_read_bytes_total", &counters.read_bytes),
                ("mount_reads_failed_total", &counters.failed_reads),
            ] {
                *all.entry(name.to_owned()).or_default() += value.load(Relaxed) as f64;
            }
        }
        all
    }

    /// By origin: bytes received from it, bytes that readers were answered with, and bytes of files at each opening that left the node out.
    fn traffic(&self) -> HashMap<String, (u64, u64, u64)> {
        let origins = self.origins.lock();
        let of = |counters: OriginCounters| (counters.body_bytes, counters.answered_bytes, counters.handed_out_bytes);
        origins.iter().map(|(name, origin)| (name.clone(), of(origin.counters()))).collect()
    }

    fn events<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let mut answer = Vec::new();
        for event in self.fetcher.events(limit) {
            let item = PyDict::new(py);
            item.set_item("time_ns", event.time_ns)?;
            item.set_item("kind", event.kind)?;
            item.set_item("object", event.object)?;
            item.set_item("message", event.message)?;
            answer.push(item);
        }
        Ok(answer)
    }
}
