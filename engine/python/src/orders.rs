//! Learned orders, as Python keeps them.

use crate::engine::Engine;
use headrace_fetch::{Order, Step};
use pyo3::prelude::*;

type Files = Vec<(String, u64)>;
type Steps = Vec<(u32, u64, u64)>;

#[pymethods]
impl Engine {
    /// Has the next load of a directory (a key without its last slash) go by an earlier one: unless it is in the midst of another order, or with
    /// `replace` at once, in place of all that was recorded.
    fn follow(&self, py: Python<'_>, origin_id: &str, directory: &str, files: Files, steps: Steps, replace: bool) -> PyResult<()> {
        let (_, volume) = self.origin(origin_id)?;
        py.detach(|| {
            let steps = steps.into_iter().map(|(file, start, end)| Step { file, range: start..end }).collect();
            let order = Order { files, steps };
            if replace {
                volume.follow(directory, &order);
            } else {
                volume.follow_next(directory, &order);
            }
        });
        Ok(())
    }

    /// Forgets what was recorded of a directory and of all below it, and what they go by.
    fn forget_orders(&self, origin_id: &str, directory: &str) -> PyResult<()> {
        let (_, volume) = self.origin(origin_id)?;
        volume.forget(directory);
        Ok(())
    }

    /// `(directory, files, steps)` of the loads that have gone on since the last call.
    fn orders(&self, py: Python<'_>, origin_id: &str) -> PyResult<Vec<(String, Files, Steps)>> {
        let (_, volume) = self.origin(origin_id)?;
        let orders = py.detach(|| volume.orders()).into_iter().map(|(directory, order)| {
            let steps = order.steps.into_iter().map(|step| (step.file, step.range.start, step.range.end)).collect();
            (directory, order.files, steps)
        });
        Ok(orders.collect())
    }
}
