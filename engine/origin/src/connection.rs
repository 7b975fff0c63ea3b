//! One HTTP/1.1 connection: requests out, heads and bodies in.

use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Longest head of a response.
const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;
const READ_STEP: usize = 16 * 1024;

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Plain(socket) => socket.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// The head of a response.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The connection can be used again after the body.
    keep: bool,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// True when it has a header more than once, with different values.
    pub(crate) fn contradicts_itself(&self, name: &str) -> bool {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim());
        values.next().is_some_and(|first| values.any(|value| value != first))
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }
}

/// A connection; `clean` between requests.
pub(crate) struct Connection {
    stream: Stream,
    /// Bytes read beyond a head.
    ahead: Vec<u8>,
    taken: usize,
    keep: bool,
    /// It has carried a request before: a failure may only mean that the server closed it meanwhile.
    pub(crate) reused: bool,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, ahead: Vec::new(), taken: 0, keep: true, reused: false }
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.stream.socket().as_raw_fd()
    }

    /// A handle that can shut the socket down from another thread.
    pub(crate) fn handle(&self) -> io::Result<TcpStream> {
        self.stream.socket().try_clone()
    }

    /// How long one read or write may wait.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let patience = Some(patience.max(Duration::from_millis(1)));
        self.stream.socket().set_read_timeout(patience)?;
        self.stream.socket().set_write_timeout(patience)
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(request),
            Stream::Tls(stream) => stream.write_all(request).and_then(|()| stream.flush()),
        }
    }

    pub(crate) fn read_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some((head, length)) = parse_head(&self.ahead[self.taken..])? {
                self.taken += length;
                self.keep = head.keep;
                return Ok(head);
            }
            if self.ahead.len() - self.taken > HEAD_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the response's head is too long"));
            }
            let start = self.ahead.len();
            self.ahead.resize(start + READ_STEP, 0);
            let count = self.stream.read(&mut self.ahead[start..]);
            self.ahead.truncate(start + *count.as_ref().unwrap_or(&0));
            if count? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Body bytes: first those that came with the head, then straight from the socket.
    pub(crate) fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = &self.ahead[self.taken..];
        if ahead.is_empty() {
            return self.stream.read(buffer);
        }
        let count = ahead.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ahead[..count]);
        self.taken += count;
        if self.taken == self.ahead.len() {
            self.ahead.clear();
            self.taken = 0;
        }
        Ok(count)
    }

    /// A whole body of at most `limit` bytes: by length, chunked, or up to the end of the connection.
    pub(crate) fn read_text(&mut self, head: &Head, limit: usize) -> io::Result<Vec<u8>> {
        let chunked = head.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        if chunked {
            return self.read_chunked(limit);
        }
        match head.content_length() {
            Some(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > limit {
                    return Err(too_long());
                }
                let mut body = Vec::new();
                self.read_onto(&mut body, length)?;
                Ok(body)
            }
            None => {
                self.keep = false;
                let mut body = Vec::new();
                let mut part = vec![0; READ_STEP];
                loop {
                    let count = self.read_body(&mut part)?;
                    if count == 0 {
                        return Ok(body);
                    }
                    body.extend_from_slice(&part[..count]);
                    if body.len() > limit {
                        return Err(too_long());
                    }
                }
            }
        }
    }

    fn read_chunked(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = chunk_length(&self.read_line()?)?;
            if length == 0 {
                self.skip_trailer()?;
                return Ok(body);
            }
            if length > limit.saturating_sub(body.len()) {
                return Err(too_long());
            }
            self.read_onto(&mut body, length)?;
            if !self.read_line()?.is_empty() {
                return Err(malformed_chunk());
            }
        }
    }

    /// Reads so many bytes behind those that are there. Room is made for what comes, not for what the server says will come.
    fn read_onto(&mut self, body: &mut Vec<u8>, length: usize) -> io::Result<()> {
        let end = body.len() + length;
        while body.len() < end {
            let start = body.len();
            body.resize(end.min(start + READ_STEP), 0);
            self.read_exact(&mut body[start..])?;
        }
        Ok(())
    }

    /// What may follow the last chunk: headers that nobody needs, and not more of them than a head may have.
    fn skip_trailer(&mut self) -> io::Result<()> {
        let mut bytes = 0;
        loop {
            let line = self.read_line()?.len();
            bytes += line;
            match line {
                0 => return Ok(()),
                _ if bytes > HEAD_MAX => return Err(too_long()),
                _ => {}
            }
        }
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < HEAD_MAX {
            self.read_exact(&mut byte)?;
            if byte[0] == b'\n' {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            line.push(byte[0]);
        }
        Err(too_long())
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_body(&mut buffer[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// True when the next request may go over it: the server keeps it, and nothing lies unread.
    pub(crate) fn clean(&self) -> bool {
        self.keep && self.taken == self.ahead.len()
    }

    /// True while the server has neither closed it nor sent anything; for an idle connection.
    pub(crate) fn still_open(&self) -> bool {
        let mut byte = 0u8;
        // SAFETY: peeks one byte into a live variable, without waiting.
        let count = unsafe { libc::recv(self.raw(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
    }

    pub(crate) fn abort(&self) {
        // It may be closed already; then there is nothing to abort.
        let _ = self.stream.socket().shutdown(Shutdown::Both);
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the response is longer than it may be")
}

fn malformed_chunk() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed chunk")
}

/// The number at the start of a chunk's first line; `from_str_radix` alone would take a sign too.
fn chunk_length(line: &[u8]) -> io::Result<usize> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or_else(malformed_chunk)
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {e}")))?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let mut head = Head { status: response.code.unwrap_or(0), keep: response.version == Some(1), ..Head::default() };
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value).into_owned();
        if header.name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
            head.keep = false;
        }
        head.headers.push((header.name.to_owned(), value));
    }
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_an_error_and_a_part_is_not() {
        assert!(parse_head(b"\x00\x01\x02").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap().is_none());
        let (head, length) = parse_head(b"HTTP/1.1 206 P\r\nContent-Length: 5\r\n\r\nhello").unwrap().unwrap();
        assert_eq!((head.status, head.content_length(), length), (206, Some(5), 37));
    }
}
