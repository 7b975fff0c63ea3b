//! The one place where engine errors become Python's.

use headrace_cache::CacheError;
use headrace_fetch::ReadError;
use headrace_handout::HandoutError;
use headrace_mount::MountError;
use headrace_origin::OriginError;
use headrace_snapshot::SnapshotError;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    headrace._engine,
    EngineError,
    PyException,
    "A failed engine call: `code` is stable, `message` names operation, object, cause and remedy, `errno` is the closest one."
);

pub(crate) fn engine_error(code: &str, message: String, errno: i32) -> PyErr {
    Python::attach(|py| {
        let error = EngineError::new_err((code.to_owned(), message.clone()));
        let value = error.value(py);
        let set = value.setattr("code", code).and_then(|()| value.setattr("message", message)).and_then(|()| value.setattr("errno", errno));
        set.map_or_else(|failure| failure, |()| error)
    })
}

pub(crate) fn from_origin(error: OriginError) -> PyErr {
    engine_error(error.code(), error.to_string(), error.errno())
}

pub(crate) fn from_read(error: ReadError) -> PyErr {
    engine_error(error.code(), error.to_string(), error.errno())
}

pub(crate) fn from_handout(error: HandoutError) -> PyErr {
    engine_error(error.code(), error.to_string(), error.errno())
}

pub(crate) fn from_mount(error: MountError) -> PyErr {
    engine_error(error.code(), error.to_string(), error.errno())
}

pub(crate) fn from_cache(error: CacheError) -> PyErr {
    engine_error(error.code(), error.to_string(), libc::EIO)
}

pub(crate) fn from_snapshot(error: SnapshotError) -> PyErr {
    engine_error(error.code(), error.to_string(), libc::EIO)
}

pub(crate) fn unknown(what: &str, name: &str) -> PyErr {
    engine_error("unknown", format!("no {what} named {name:?} in this engine"), libc::ENOENT)
}
