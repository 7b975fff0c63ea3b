//! The file: what lies where.
//!
//! ```text
//! header    magic, format, lengths, totals, checksums, texts      (checksummed by its last 8 bytes)
//! records   36 bytes for each entry, in the order of ids
//! text      for each entry its name, ETag and version id, one after the other
//! children  u32 ids, for each directory one run sorted by name
//! skipped   reason (u8), length (u32), key
//! ```
//!
//! All numbers are little-endian. Sections follow each other without gaps, so that every byte of the file is
//! under some checksum.

use crate::entry::{SnapshotHeader, Totals};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"HEADRSNP";
/// Changes with every change of the layout; there is no reading of other formats, listing again is cheap.
pub(crate) const FORMAT: u32 = 1;
/// Bytes of the header before its texts.
const FIXED_BYTES: usize = 8 + 4 + 4 + 8 + 4 * 8 + SECTIONS * 16 + 1 + 3 * 4;
const CHECKSUM_BYTES: usize = 8;
/// Endpoint, bucket and prefix together; S3's own limits are far below.
pub(crate) const HEADER_BYTES_MAX: usize = 64 * 1024;

pub(crate) const SECTIONS: usize = 4;
pub(crate) const RECORDS: usize = 0;
pub(crate) const TEXT: usize = 1;
pub(crate) const CHILDREN: usize = 2;
pub(crate) const SKIPPED: usize = 3;
/// Names of the sections, for messages.
pub(crate) const SECTION_NAMES: [&str; SECTIONS] = ["records", "text", "children", "skipped keys"];

/// Bytes before the key of one skipped key: reason, length.
pub(crate) const SKIPPED_HEAD_BYTES: usize = 5;

/// Length and checksum of a section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) bytes: u64,
    pub(crate) xxh3: u64,
}

/// Everything the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) about: SnapshotHeader,
    pub(crate) totals: Totals,
    pub(crate) sections: [Section; SECTIONS],
}

/// Why bytes are not a header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    NotASnapshot,
    UnknownFormat(u32),
    Corrupt(&'static str),
}

/// Length of the header of a snapshot; known before anything is listed.
pub(crate) fn header_bytes(about: &SnapshotHeader) -> usize {
    FIXED_BYTES + about.endpoint.len() + about.bucket.len() + about.prefix.len() + CHECKSUM_BYTES
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let about = &self.about;
        let length = header_bytes(about);
        let mut out = Vec::with_capacity(length);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend((length as u32).to_le_bytes());
        out.extend(about.created_ns.to_le_bytes());
        let totals = &self.totals;
        for number in [totals.files, totals.dirs, totals.bytes, totals.skipped] {
            out.extend(number.to_le_bytes());
        }
        for section in &self.sections {
            out.extend(section.bytes.to_le_bytes());
            out.extend(section.xxh3.to_le_bytes());
        }
        out.push(u8::from(about.versioned));
        let texts = [&about.endpoint, &about.bucket, &about.prefix];
        for text in texts {
            out.extend((text.len() as u32).to_le_bytes());
        }
        for text in texts {
            out.extend(text.as_bytes());
        }
        out.extend(xxh3_64(&out).to_le_bytes());
        out
    }

    /// Reads the header at the start of `file`; also returns its length.
    pub(crate) fn decode(file: &[u8]) -> Result<(Self, usize), BadHeader> {
        if file.get(..8) != Some(&MAGIC) {
            return Err(BadHeader::NotASnapshot);
        }
        let format = u32_at(file, 8).ok_or(BadHeader::Corrupt("the header is cut off"))?;
        if format != FORMAT {
            return Err(BadHeader::UnknownFormat(format));
        }
        let length = u32_at(file, 12).ok_or(BadHeader::Corrupt("the header is cut off"))? as usize;
        if !(FIXED_BYTES + CHECKSUM_BYTES..=HEADER_BYTES_MAX).contains(&length) {
            return Err(BadHeader::Corrupt("the header's length"));
        }
        let header = file.get(..length).ok_or(BadHeader::Corrupt("the header is cut off"))?;
        let (body, checksum) = header.split_at(length - CHECKSUM_BYTES);
        if checksum != xxh3_64(body).to_le_bytes() {
            return Err(BadHeader::Corrupt("the header's checksum"));
        }
        Self::decode_body(body).map(|decoded| (decoded, length)).ok_or(BadHeader::Corrupt("the header's content"))
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let created_ns = u64_at(body, 16)? as i64;
        let totals = Totals { files: u64_at(body, 24)?, dirs: u64_at(body, 32)?, bytes: u64_at(body, 40)?, skipped: u64_at(body, 48)? };
        let mut sections = [Section::default(); SECTIONS];
        for (index, section) in sections.iter_mut().enumerate() {
            section.bytes = u64_at(body, 56 + index * 16)?;
            section.xxh3 = u64_at(body, 64 + index * 16)?;
        }
        let flag = 56 + SECTIONS * 16;
        let versioned = *body.get(flag)? != 0;
        let mut texts = body.get(FIXED_BYTES..)?;
        let mut take = |index: usize| {
            let bytes = u32_at(body, flag + 1 + index * 4)? as usize;
            let (text, rest) = texts.split_at_checked(bytes)?;
            texts = rest;
            String::from_utf8(text.to_vec()).ok()
        };
        let about = SnapshotHeader { endpoint: take(0)?, bucket: take(1)?, prefix: take(2)?, created_ns, versioned };
        texts.is_empty().then_some(FileHeader { about, totals, sections })
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}
