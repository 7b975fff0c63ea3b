//! The node's side: one thread a connection, a bounded number of them.

use crate::PROTOCOL;
use crate::frame::{
    CLOSE, DESCRIPTOR, ERROR, Fields, HELLO, HandoutError, OK, OPEN, READ, READ_MAX, header, malformed, put_string, read_body, read_header,
};
use headrace_fetch::{Object, Piece, ReadError};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::HashMap;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};

/// Finds what a client asks for. Implemented by whoever knows origins and snapshots.
pub trait Resolver: Send + Sync {
    /// The object at `path` of a snapshot file, read with the right of `origin`.
    ///
    /// # Errors
    /// When there is none, or the client may not have it.
    fn resolve(&self, origin: &str, snapshot: &str, path: &str) -> Result<Arc<Object>, HandoutError>;
}

/// Connections served at once; one more is closed at once.
const CONNECTIONS_MAX: usize = 256;
/// Files one connection may have open.
const FILES_MAX: usize = 4096;
/// Bytes copied at a time from a cache file.
const COPY: usize = 256 * 1024;

/// The listening half of the door.
pub struct Server {
    resolver: Arc<dyn Resolver>,
    connections: AtomicUsize,
}

impl Server {
    /// Serves `listener` on threads of its own until the process ends.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(listener: UnixListener, resolver: Arc<dyn Resolver>) -> io::Result<()> {
        let server = Arc::new(Self { resolver, connections: AtomicUsize::new(0) });
        std::thread::Builder::new().name("handout".to_owned()).spawn(move || server.accept(&listener))?;
        Ok(())
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn serve_one(stream: UnixStream, resolver: Arc<dyn Resolver>) {
        let server = Self { resolver, connections: AtomicUsize::new(1) };
        Connection { server: &server, stream, files: HashMap::new(), next: 1 }.serve();
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    log::error!("hand-out: accepting a connection: {error}");
                    return;
                }
            };
            if let Err(error) = may_connect(&stream) {
                log::warn!("hand-out: a connection was refused: {error}");
                continue;
            }
            if self.connections.fetch_add(1, AcqRel) >= CONNECTIONS_MAX {
                self.connections.fetch_sub(1, AcqRel);
                log::warn!("hand-out: more than {CONNECTIONS_MAX} connections; one was closed");
                continue;
            }
            let server = Arc::clone(self);
            let spawned = std::thread::Builder::new().name("handout-client".to_owned()).spawn(move || {
                Connection { server: &server, stream, files: HashMap::new(), next: 1 }.serve();
                server.connections.fetch_sub(1, AcqRel);
            });
            if let Err(error) = spawned {
                self.connections.fetch_sub(1, AcqRel);
                log::error!("hand-out: starting a thread: {error}");
            }
        }
    }
}

/// The node's own user and root, by what the kernel says of the peer.
fn may_connect(stream: &UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    let own = rustix::process::geteuid();
    if peer.uid == own || peer.uid.is_root() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {} is not the node's", peer.uid.as_raw())))
}

struct Connection<'a> {
    server: &'a Server,
    stream: UnixStream,
    files: HashMap<u32, Arc<Object>>,
    next: u32,
}

impl Connection<'_> {
    fn serve(&mut self) {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    log::info!("hand-out: a connection ended: {error}");
                    return;
                }
            }
        }
    }

    fn step(&mut self) -> io::Result<bool> {
        let Some((kind, length)) = read_header(&mut self.stream)? else { return Ok(false) };
        let body = read_body(&mut self.stream, length)?;
        let mut fields = Fields(&body);
        match kind {
            HELLO => {
                let version = fields.u32()?;
                if version != PROTOCOL {
                    let message = format!(
                        "hand-out protocol {version} is not spoken here (this is {PROTOCOL}); use the same version of headrace on both sides"
                    );
                    self.refuse(libc::EPROTO, "version", &message)?;
                    return Ok(false);
                }
                self.answer(&PROTOCOL.to_le_bytes())?;
            }
            OPEN => self.open(&fields.string()?, &fields.string()?, &fields.string()?)?,
            READ => self.read(fields.u32()?, fields.u64()?, fields.u32()? as usize)?,
            DESCRIPTOR => self.descriptor(fields.u32()?)?,
            CLOSE => {
                self.files.remove(&fields.u32()?);
                self.answer(&[])?;
            }
            _ => return Err(malformed("an unknown kind")),
        }
        Ok(true)
    }

    fn open(&mut self, origin: &str, snapshot: &str, path: &str) -> io::Result<()> {
        if self.files.len() >= FILES_MAX {
            return self.refuse(libc::EMFILE, "too-many-files", "this connection has too many files open; close some");
        }
        match self.server.resolver.resolve(origin, snapshot, path) {
            Ok(object) => {
                let handle = self.next;
                self.next = self.next.wrapping_add(1);
                let mut body = handle.to_le_bytes().to_vec();
                body.extend_from_slice(&object.spec().size.to_le_bytes());
                self.files.insert(handle, object);
                self.answer(&body)
            }
            Err(error) => self.refuse(error.errno(), error.code(), &error.to_string()),
        }
    }

    fn read(&mut self, handle: u32, offset: u64, length: usize) -> io::Result<()> {
        let Some(object) = self.files.get(&handle).cloned() else { return self.unknown(handle) };
        if length > READ_MAX {
            return self.refuse(libc::EINVAL, "too-long", "a read of more than 4 MiB");
        }
        match object.pieces_blocking(offset, length as u64) {
            Ok(pieces) => self.send_pieces(&object, &pieces),
            Err(error) => self.read_failed(&error),
        }
    }

    /// Memory goes out as it lies; bytes of the cache file are copied, because an incomplete file may be punched at any moment.
    fn send_pieces(&mut self, object: &Arc<Object>, pieces: &[Piece]) -> io::Result<()> {
        let total = pieces.iter().map(Piece::len).sum();
        self.stream.write_all(&header(OK, total)?)?;
        let mut scratch = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Memory { segment, offset, len } => self.stream.write_all(&segment.bytes()[*offset..*offset + *len])?,
                Piece::File { offset, len } => {
                    scratch.resize(COPY.min(*len), 0);
                    let mut done = 0;
                    while done < *len {
                        let part = COPY.min(*len - done);
                        let buffer = &mut scratch[..part];
                        // Half an answer is out: an error now can only end the connection, and the client asks again.
                        object.read_blocking(*offset + done as u64, buffer).map_err(io::Error::other)?;
                        self.stream.write_all(buffer)?;
                        done += part;
                    }
                }
            }
        }
        Ok(())
    }

    fn descriptor(&mut self, handle: u32) -> io::Result<()> {
        let Some(object) = self.files.get(&handle) else { return self.unknown(handle) };
        let Some(door) = object.door() else { return self.answer(&[0]) };
        object.was_handed_out();
        let mut frame = header(OK, 1)?.to_vec();
        frame.push(1);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // SAFETY: the door owns the descriptor until after the send.
        let borrowed = [unsafe { BorrowedFd::borrow_raw(door.as_raw_fd()) }];
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        let sent = sendmsg(self.stream.as_fd(), &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)?;
        // The frame is six bytes: a stream socket takes it whole or fails.
        if sent == frame.len() { Ok(()) } else { Err(malformed("a short send")) }
    }

    fn unknown(&mut self, handle: u32) -> io::Result<()> {
        self.refuse(libc::EBADF, "bad-handle", &format!("handle {handle} is not open on this connection"))
    }

    fn read_failed(&mut self, error: &ReadError) -> io::Result<()> {
        self.refuse(error.errno(), error.code(), &error.to_string())
    }

    fn refuse(&mut self, errno: i32, code: &str, message: &str) -> io::Result<()> {
        let mut body = errno.to_le_bytes().to_vec();
        put_string(&mut body, code);
        put_string(&mut body, message);
        self.stream.write_all(&header(ERROR, body.len())?)?;
        self.stream.write_all(&body)
    }

    fn answer(&mut self, body: &[u8]) -> io::Result<()> {
        let mut frame = header(OK, body.len())?.to_vec();
        frame.extend_from_slice(body);
        self.stream.write_all(&frame)
    }
}
