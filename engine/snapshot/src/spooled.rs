//! Listed entries as they wait in the spool, and reading them back in the order they were written.

use crate::entry::NewEntry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Length of key, of ETag, of version id; flags; size; time.
const HEAD_BYTES: usize = 4 + 2 + 2 + 1 + 8 + 8;
const ARCHIVED: u8 = 1;
const VERSION: u8 = 2;

/// One listed entry, borrowed from a buffer. Its texts came in as UTF-8 and are only carried here.
#[derive(Clone, Copy)]
pub(crate) struct Spooled<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) etag: &'a [u8],
    pub(crate) version: Option<&'a [u8]>,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) archived: bool,
}

/// Appends an entry. The caller has checked the lengths: key within u32, ETag and version id within u16.
pub(crate) fn encode(out: &mut Vec<u8>, entry: &NewEntry<'_>) {
    let version = entry.version.unwrap_or("");
    let flags = if entry.archived { ARCHIVED } else { 0 } | if entry.version.is_some() { VERSION } else { 0 };
    out.extend((entry.key.len() as u32).to_le_bytes());
    out.extend((entry.etag.len() as u16).to_le_bytes());
    out.extend((version.len() as u16).to_le_bytes());
    out.push(flags);
    out.extend(entry.size.to_le_bytes());
    out.extend(entry.mtime_ns.to_le_bytes());
    for text in [entry.key, entry.etag, version] {
        out.extend(text.as_bytes());
    }
}

/// Bytes of the encoded entry that begins with `head`.
fn encoded_bytes(head: &[u8]) -> usize {
    let (key, etag, version) = lengths(head);
    HEAD_BYTES + key + etag + version
}

fn lengths(head: &[u8]) -> (usize, usize, usize) {
    let half = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let key = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    (key, half(4), half(6))
}

/// The key of one whole encoded entry.
pub(crate) fn key_of(encoded: &[u8]) -> &[u8] {
    &encoded[HEAD_BYTES..HEAD_BYTES + lengths(encoded).0]
}

/// Reads one whole encoded entry.
fn decode(encoded: &[u8]) -> Spooled<'_> {
    let (key_bytes, etag_bytes, _) = lengths(encoded);
    let word = |at: usize| -> [u8; 8] { std::array::from_fn(|i| encoded[at + i]) };
    let (key, rest) = encoded[HEAD_BYTES..].split_at(key_bytes);
    let (etag, version) = rest.split_at(etag_bytes);
    Spooled {
        key,
        etag,
        version: (encoded[8] & VERSION != 0).then_some(version),
        size: u64::from_le_bytes(word(9)),
        mtime_ns: i64::from_le_bytes(word(17)),
        archived: encoded[8] & ARCHIVED != 0,
    }
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Encoded entries that lie in several stretches of one file.
pub(crate) struct Run {
    pub(crate) file: Arc<File>,
    pub(crate) extents: Vec<Extent>,
}

/// Walks over a run with a buffer of bounded size.
pub(crate) struct RunReader {
    file: Arc<File>,
    extents: std::vec::IntoIter<Extent>,
    extent: Extent,
    buffer: Vec<u8>,
    /// The current entry is `buffer[begin..end]`; what follows it until `filled` is read ahead.
    begin: usize,
    end: usize,
    filled: usize,
}

impl RunReader {
    /// Stands before the first entry. The buffer grows beyond `buffer_bytes` only for a single larger entry.
    pub(crate) fn new(run: Run, buffer_bytes: usize) -> Self {
        RunReader {
            file: run.file,
            extents: run.extents.into_iter(),
            extent: Extent { offset: 0, bytes: 0 },
            buffer: vec![0; buffer_bytes.max(HEAD_BYTES)],
            begin: 0,
            end: 0,
            filled: 0,
        }
    }

    /// Goes to the next entry; false at the end.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        self.begin = self.end;
        if !self.read_ahead(HEAD_BYTES)? {
            return Ok(false);
        }
        let bytes = encoded_bytes(&self.buffer[self.begin..]);
        if !self.read_ahead(bytes)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end = self.begin + bytes;
        Ok(true)
    }

    /// The entry that the last `advance` went to.
    pub(crate) fn current(&self) -> Spooled<'_> {
        decode(self.encoded())
    }

    /// The same, as it lies in the spool.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    /// Makes `need` bytes from `begin` available; false when nothing at all is left.
    fn read_ahead(&mut self, need: usize) -> io::Result<bool> {
        while self.filled - self.begin < need {
            if self.begin > 0 {
                self.buffer.copy_within(self.begin..self.filled, 0);
                self.filled -= self.begin;
                (self.begin, self.end) = (0, 0);
            }
            if self.buffer.len() < need {
                self.buffer.resize(need, 0);
            }
            if self.extent.bytes == 0 {
                match self.extents.next() {
                    Some(next) => self.extent = next,
                    None if self.filled == 0 => return Ok(false),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
                continue;
            }
            let room = &mut self.buffer[self.filled..];
            let count = usize::try_from(self.extent.bytes).map_or(room.len(), |b| b.min(room.len()));
            self.file.read_exact_at(&mut room[..count], self.extent.offset)?;
            self.extent.offset += count as u64;
            self.extent.bytes -= count as u64;
            self.filled += count;
        }
        Ok(true)
    }
}
