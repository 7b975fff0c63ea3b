//! Learned orders, as Python keeps them.

use crate::engine::Engine;
use headrace_fetch::{Order, Step};
use pyo3::prelude::*;

type Files = Vec<(String, u64)>;
type Steps = Vec<(u32, u64, u64)>;

#[pymethods]
impl Engine {
    /// Has the next load of a directory (a key without its last slash) go by an earlier one.
    fn follow(&self, origin_id: &str, directory: &str, files: Files, steps: Steps) -> PyResult<()> {
        let (_, volume) = self.origin(origin_id)?;
        let steps = steps.into_iter().map(|(file, start, end)| Step { file, range: start..end }).collect();
        volume.follow(directory, &Order { files, steps });
        Ok(())
    }

    /// `(directory, files, steps)` of the loads that have gone on since the last call.
    fn orders(&self, origin_id: &str) -> PyResult<Vec<(String, Files, Steps)>> {
        let (_, volume) = self.origin(origin_id)?;
        let orders = volume.orders().into_iter().map(|(directory, order)| {
            let steps = order.steps.into_iter().map(|step| (step.file, step.range.start, step.range.end)).collect();
            (directory, order.files, steps)
        });
        Ok(orders.collect())
    }
}
