//! The other process's side.

use crate::PROTOCOL;
use crate::frame::{
    CLOSE, DESCRIPTOR, ERROR, Fields, HELLO, HandoutError, OK, OPEN, READ, READ_MAX, header, malformed, put_string, read_body, read_header,
};
use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// A connection to the node; one call at a time.
pub struct Client {
    stream: Mutex<UnixStream>,
}

/// A file open on the node.
pub struct RemoteFile {
    client: Arc<Client>,
    handle: u32,
    /// Bytes.
    pub size: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the node does not listen there, or speaks another version.
    pub fn connect(path: &Path) -> Result<Arc<Self>, HandoutError> {
        let stream = UnixStream::connect(path)?;
        let client = Self { stream: Mutex::new(stream) };
        client.call(HELLO, &PROTOCOL.to_le_bytes())?;
        Ok(Arc::new(client))
    }

    /// Opens a file of a snapshot.
    ///
    /// # Errors
    /// When there is none, or this user may not have it.
    pub fn open(self: &Arc<Self>, origin: &str, snapshot: &str, path: &str) -> Result<RemoteFile, HandoutError> {
        let mut body = Vec::new();
        for text in [origin, snapshot, path] {
            put_string(&mut body, text);
        }
        let answer = self.call(OPEN, &body)?;
        let mut fields = Fields(&answer);
        let (handle, size) = (fields.u32()?, fields.u64()?);
        Ok(RemoteFile { client: Arc::clone(self), handle, size })
    }

    fn call(&self, kind: u8, body: &[u8]) -> Result<Vec<u8>, HandoutError> {
        let mut stream = self.stream.lock();
        send(&mut stream, kind, body)?;
        let length = answer_length(&mut stream)?;
        Ok(read_body(&mut stream, length)?)
    }
}

fn send(stream: &mut UnixStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let mut frame = header(kind, body.len())?.to_vec();
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}

/// The length of a good answer's body; an error answer becomes an error.
fn answer_length(stream: &mut UnixStream) -> Result<usize, HandoutError> {
    let (kind, length) = read_header(stream)?.ok_or_else(|| malformed("the node closed the connection"))?;
    match kind {
        OK => Ok(length),
        ERROR => {
            let body = read_body(stream, length)?;
            let mut fields = Fields(&body);
            let errno = fields.u32()? as i32;
            Err(HandoutError::Refused { errno, code: fields.string()?, message: fields.string()? })
        }
        _ => Err(malformed("an unknown kind").into()),
    }
}

impl RemoteFile {
    /// Fills `buffer` from `offset`; returns the bytes read, fewer only at the end of the file.
    ///
    /// # Errors
    /// As the node's read failed, or the connection broke.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, HandoutError> {
        let mut done = 0;
        while done < buffer.len() {
            let end = buffer.len().min(done + READ_MAX);
            let wanted = end - done;
            let count = self.read_step(offset + done as u64, &mut buffer[done..end])?;
            done += count;
            if count < wanted {
                break;
            }
        }
        Ok(done)
    }

    fn read_step(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, HandoutError> {
        let mut body = self.handle.to_le_bytes().to_vec();
        body.extend_from_slice(&offset.to_le_bytes());
        body.extend_from_slice(&(buffer.len() as u32).to_le_bytes());
        let mut stream = self.client.stream.lock();
        send(&mut stream, READ, &body)?;
        let length = answer_length(&mut stream)?;
        let part = buffer.get_mut(..length).ok_or_else(|| malformed("more bytes than asked for"))?;
        stream.read_exact(part)?;
        Ok(length)
    }

    /// A descriptor of the complete cache file; `None` while it is incomplete.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn descriptor(&self) -> Result<Option<OwnedFd>, HandoutError> {
        let mut stream = self.client.stream.lock();
        send(&mut stream, DESCRIPTOR, &self.handle.to_le_bytes())?;
        // The descriptor travels with the first byte of the answer: take it there, then go on as always.
        let mut first = [0u8; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut first)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(io::Error::from)?;
        if received.bytes == 0 {
            return Err(malformed("the node closed the connection").into());
        }
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let mut rest = [0u8; 4];
        stream.read_exact(&mut rest)?;
        let length = u32::from_le_bytes([first[0], rest[0], rest[1], rest[2]]) as usize;
        let body = read_body(&mut stream, length.saturating_sub(1))?;
        match (rest[3], Fields(&body).u8()) {
            (OK, Ok(0)) => Ok(None),
            (OK, Ok(1)) => descriptor.map(Some).ok_or_else(|| malformed("no descriptor came").into()),
            (ERROR, _) => {
                let mut fields = Fields(&body);
                let errno = fields.u32()? as i32;
                Err(HandoutError::Refused { errno, code: fields.string()?, message: fields.string()? })
            }
            _ => Err(malformed("an unknown kind").into()),
        }
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        if let Err(error) = self.client.call(CLOSE, &self.handle.to_le_bytes()) {
            log::debug!("closing a remote file: {error}");
        }
    }
}
