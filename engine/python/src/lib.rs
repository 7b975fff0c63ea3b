//! The Python boundary: it translates, and decides nothing. One file a noun; every blocking call releases the GIL.

mod cache;
mod counters;
mod engine;
mod errors;
mod file;
mod logging;
mod mounts;
mod orders;
mod origins;
mod snapshots;
mod warm;

use pyo3::prelude::*;

/// The engine of Headrace: bytes pass here, decisions are Python's.
#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("EngineError", module.py().get_type::<errors::EngineError>())?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<file::File>()?;
    module.add_class::<file::Client>()?;
    module.add_function(wrap_pyfunction!(file::connect, module)?)?;
    Ok(())
}
