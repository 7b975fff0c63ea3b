//! Entries on their way into the tree: spooled to a file as they arrive, read back in byte order of their keys.

use crate::build::NewEntry;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const BUFFER: usize = 128 * 1024;
/// Memory for one sorted run, in bytes of records.
const RUN: usize = 32 * 1024 * 1024;
/// A record longer than this can't have been written by us.
const RECORD_MAX: usize = 64 * 1024;

/// One entry, owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) key: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) archived: bool,
    pub(crate) etag: Vec<u8>,
    pub(crate) version: Vec<u8>,
}

impl Record {
    pub(crate) fn from_entry(entry: &NewEntry<'_>) -> Self {
        Self {
            key: entry.key.as_bytes().to_vec(),
            size: entry.size,
            mtime_ns: entry.mtime_ns,
            archived: entry.archived,
            etag: entry.etag.as_bytes().to_vec(),
            version: entry.version.unwrap_or("").as_bytes().to_vec(),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let lengths = [self.key.len(), self.etag.len(), self.version.len()];
        let mut head = [0; 29];
        for (index, length) in lengths.into_iter().enumerate() {
            let length = u32::try_from(length).map_err(io::Error::other)?;
            head[index * 4..index * 4 + 4].copy_from_slice(&length.to_le_bytes());
        }
        head[12..20].copy_from_slice(&self.size.to_le_bytes());
        head[20..28].copy_from_slice(&self.mtime_ns.to_le_bytes());
        head[28] = u8::from(self.archived);
        out.write_all(&head)?;
        out.write_all(&self.key)?;
        out.write_all(&self.etag)?;
        out.write_all(&self.version)
    }

    fn read(source: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 29];
        match source.read_exact(&mut head[..1]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        source.read_exact(&mut head[1..])?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let mut field = |length: usize| -> io::Result<Vec<u8>> {
            if length > RECORD_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a damaged spool"));
            }
            let mut bytes = vec![0; length];
            source.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let (key, etag, version) = (field(word(0))?, field(word(4))?, field(word(8))?);
        let long = |at: usize| {
            u64::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3], head[at + 4], head[at + 5], head[at + 6], head[at + 7]])
        };
        Ok(Some(Self { key, etag, version, size: long(12), mtime_ns: long(20).cast_signed(), archived: head[28] != 0 }))
    }

    fn weight(&self) -> usize {
        128 + self.key.len() + self.etag.len() + self.version.len()
    }
}

/// What one segment of the listing brought.
pub(crate) struct Spool {
    out: BufWriter<File>,
    last: Vec<u8>,
    pub(crate) ordered: bool,
}

impl Spool {
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self { out: BufWriter::with_capacity(BUFFER, file), last: Vec::new(), ordered: true })
    }

    pub(crate) fn push(&mut self, record: &Record) -> io::Result<()> {
        if self.ordered && record.key < self.last {
            self.ordered = false;
        }
        self.last.clone_from(&record.key);
        record.write(&mut self.out)
    }

    /// The records in byte order of their keys: as they came, or as sorted runs.
    pub(crate) fn into_runs(self, directory: &Path) -> io::Result<Vec<Run>> {
        let ordered = self.ordered;
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut all = Run(BufReader::with_capacity(BUFFER, file));
        if ordered {
            return Ok(vec![all]);
        }
        let mut runs = Vec::new();
        let mut batch = Vec::new();
        let mut weight = 0;
        loop {
            let record = all.next()?;
            let last = record.is_none();
            if let Some(record) = record {
                weight += record.weight();
                batch.push(record);
            }
            if (last || weight >= RUN) && !batch.is_empty() {
                batch.sort_unstable();
                runs.push(write_run(directory, &batch)?);
                batch.clear();
                weight = 0;
            }
            if last {
                return Ok(runs);
            }
        }
    }
}

fn write_run(directory: &Path, batch: &[Record]) -> io::Result<Run> {
    let mut out = BufWriter::with_capacity(BUFFER, tempfile::tempfile_in(directory)?);
    for record in batch {
        record.write(&mut out)?;
    }
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Run(BufReader::with_capacity(BUFFER, file)))
}

/// Records in byte order.
pub(crate) struct Run(BufReader<File>);

impl Run {
    fn next(&mut self) -> io::Result<Option<Record>> {
        Record::read(&mut self.0)
    }
}

/// All runs as one, in byte order.
pub(crate) struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merge {
    pub(crate) fn new(mut runs: Vec<Run>) -> io::Result<Self> {
        let mut heads = BinaryHeap::new();
        for (index, run) in runs.iter_mut().enumerate() {
            if let Some(record) = run.next()? {
                heads.push(Reverse((record, index)));
            }
        }
        Ok(Self { runs, heads })
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        // One run needs no heap.
        if self.runs.len() == 1 {
            if let Some(Reverse((record, _))) = self.heads.pop() {
                return Ok(Some(record));
            }
            return self.runs[0].next();
        }
        let Some(Reverse((record, index))) = self.heads.pop() else { return Ok(None) };
        if let Some(next) = self.runs[index].next()? {
            self.heads.push(Reverse((next, index)));
        }
        Ok(Some(record))
    }
}
