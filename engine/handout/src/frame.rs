//! Frames and their fields.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

pub(crate) const HELLO: u8 = 1;
pub(crate) const OPEN: u8 = 2;
pub(crate) const READ: u8 = 3;
pub(crate) const DESCRIPTOR: u8 = 4;
pub(crate) const CLOSE: u8 = 5;
pub(crate) const OK: u8 = 64;
pub(crate) const ERROR: u8 = 65;

/// Requests and error answers are small; a longer frame is refused.
pub(crate) const SMALL_MAX: usize = 64 * 1024;
/// Most bytes of one READ.
pub(crate) const READ_MAX: usize = 4 * 1024 * 1024;

/// A failed call of the hand-out door.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandoutError {
    /// The node answered with an error.
    #[error("{message}")]
    Refused {
        /// The closest errno.
        errno: i32,
        /// A stable code.
        code: String,
        /// Operation, object, cause and remedy.
        message: String,
    },
    /// The connection broke; the node may be restarting: connect again.
    #[error("the connection to the node broke: {0}; connect again")]
    Broken(String),
}

impl HandoutError {
    /// A stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Broken(_) => "node-unreachable",
        }
    }

    /// The closest errno.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Refused { errno, .. } => *errno,
            Self::Broken(_) => libc::ECONNRESET,
        }
    }
}

impl From<io::Error> for HandoutError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a malformed frame: {what}"))
}

/// The header of a frame, packed.
pub(crate) fn header(kind: u8, body: usize) -> io::Result<[u8; 5]> {
    let length = u32::try_from(body + 1).map_err(|_| malformed("too long"))?;
    let mut header = [0; 5];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind;
    Ok(header)
}

/// Reads a frame's header: kind and length of the body. `Ok(None)` at a clean end.
pub(crate) fn read_header(stream: &mut UnixStream) -> io::Result<Option<(u8, usize)>> {
    let mut header = [0; 5];
    let mut got = 0;
    while got < header.len() {
        match stream.read(&mut header[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [a, b, c, d, kind] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let body = length.checked_sub(1).ok_or_else(|| malformed("empty"))?;
    Ok(Some((kind, body)))
}

/// Reads a small body.
pub(crate) fn read_body(stream: &mut UnixStream, length: usize) -> io::Result<Vec<u8>> {
    if length > SMALL_MAX {
        return Err(malformed("too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Takes fields off a body.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(|| malformed("a field is missing"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| malformed("u32"))?))
    }

    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| malformed("u64"))?))
    }

    pub(crate) fn string(&mut self) -> io::Result<String> {
        let length = self.u32()? as usize;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a string is not UTF-8"))
    }
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
