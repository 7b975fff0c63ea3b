//! An open file of the SDK: bytes go into a buffer that the caller owns.

use crate::engine::Engine;
use crate::errors::{engine_error, from_handout, from_read, unknown};
use crate::snapshots;
use headrace_fetch::Object;
use headrace_handout::{Client as Connection, HandoutError, RemoteFile, Resolver, Server};
use headrace_volume::Volume;
use parking_lot::Mutex;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

enum Way {
    Local(Arc<Object>),
    Remote(RemoteFile),
}

/// A file of a snapshot, read through an engine in this process or in the node.
#[pyclass(frozen, module = "headrace._engine")]
pub(crate) struct File(Way);

/// A connection to the node's hand-out door.
#[pyclass(frozen, module = "headrace._engine")]
pub(crate) struct Client(Arc<Connection>);

/// Connects to the node's hand-out socket.
#[pyfunction]
pub(crate) fn connect(py: Python<'_>, path: &str) -> PyResult<Client> {
    py.detach(|| Connection::connect(Path::new(path))).map(Client).map_err(from_handout)
}

#[pymethods]
impl Client {
    fn open(&self, py: Python<'_>, origin_id: &str, snapshot: &str, path: &str) -> PyResult<File> {
        let file = py.detach(|| self.0.open(origin_id, snapshot, path)).map_err(from_handout)?;
        Ok(File(Way::Remote(file)))
    }
}

/// Finds objects for clients of the hand-out door among this engine's origins.
struct Origins(Arc<Mutex<HashMap<String, Arc<Volume>>>>);

impl Resolver for Origins {
    fn resolve(&self, origin: &str, snapshot: &str, path: &str) -> Result<Arc<Object>, HandoutError> {
        let refused = |what: &str, name: &str| HandoutError::Refused {
            errno: libc::ENOENT,
            code: "unknown".to_owned(),
            message: format!("no {what} named {name:?} on this node"),
        };
        let volume = self.0.lock().get(origin).cloned().ok_or_else(|| refused("origin", origin))?;
        let snapshot = headrace_snapshot::Snapshot::open(Path::new(snapshot)).map_err(|_| refused("snapshot", snapshot))?;
        let snapshot = Arc::new(snapshot);
        let object = snapshot.find(path.trim_matches('/')).and_then(|id| volume.object(&snapshot, id));
        object.ok_or_else(|| refused("file", path))
    }
}

#[pymethods]
impl Engine {
    fn open(&self, py: Python<'_>, origin_id: &str, snapshot: &str, path: &str) -> PyResult<File> {
        let (_, volume) = self.origin(origin_id)?;
        let snapshot = snapshots::open(snapshot)?;
        let object = py.detach(|| snapshot.find(path.trim_matches('/')).and_then(|id| volume.object(&snapshot, id)));
        Ok(File(Way::Local(object.ok_or_else(|| unknown("file", path))?)))
    }

    /// Serves the hand-out door on a listening Unix socket, until the process ends.
    fn handout_serve(&self, listen_fd: RawFd) -> PyResult<()> {
        let listener = UnixListener::from(crate::engine::duplicate(listen_fd)?);
        let failed = |e: std::io::Error| engine_error("handout", format!("serving the hand-out socket: {e}"), libc::EIO);
        listener.set_nonblocking(false).map_err(failed)?;
        Server::start(listener, Arc::new(Origins(Arc::clone(&self.volumes)))).map_err(failed)
    }
}

#[pymethods]
impl File {
    #[getter]
    fn size(&self) -> u64 {
        match &self.0 {
            Way::Local(object) => object.spec().size,
            Way::Remote(file) => file.size,
        }
    }

    /// Fills `buffer` from `offset`; returns the bytes read, 0 at the end.
    fn read_into(&self, py: Python<'_>, offset: u64, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyBuffer::<u8>::get(buffer)?;
        if view.readonly() || !view.is_c_contiguous() {
            return Err(engine_error("bad-buffer", "buffer: it must be writable and contiguous".to_owned(), libc::EINVAL));
        }
        let (address, length) = (view.buf_ptr() as usize, view.len_bytes());
        py.detach(|| {
            // SAFETY: the exported buffer stays in place while `view` lives, is writable and contiguous, and holds `length` bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) };
            match &self.0 {
                Way::Local(object) => object.read_blocking(offset, bytes).map_err(from_read),
                Way::Remote(file) => file.read(offset, bytes).map_err(from_handout),
            }
        })
    }

    /// A read-only descriptor of the complete cache file, which the caller closes; None while it is incomplete.
    fn descriptor(&self, py: Python<'_>) -> PyResult<Option<RawFd>> {
        match &self.0 {
            Way::Local(object) => {
                let Some(door) = py.detach(|| object.door()) else { return Ok(None) };
                object.was_handed_out();
                own_copy(door.as_raw_fd()).map(Some)
            }
            Way::Remote(file) => {
                let fd = py.detach(|| file.descriptor()).map_err(from_handout)?;
                Ok(fd.map(IntoRawFd::into_raw_fd))
            }
        }
    }
}

fn own_copy(fd: RawFd) -> PyResult<RawFd> {
    // SAFETY: the caller's door owns the descriptor for the length of this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let own = borrowed.try_clone_to_owned();
    own.map(IntoRawFd::into_raw_fd).map_err(|e| engine_error("descriptor", format!("duplicating a descriptor: {e}"), libc::EMFILE))
}
