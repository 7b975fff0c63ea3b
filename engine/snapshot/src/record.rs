//! One entry in 36 bytes.
//!
//! Lengths of names, ETags and version ids are enough beside one offset, because the three lie together in the
//! text section. A directory has neither size nor ETag and keeps its children's place there.

pub(crate) const RECORD_BYTES: usize = 36;

/// One entry as it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where its name begins in the text section; ETag and version id follow.
    pub(crate) text: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) parent: u32,
    pub(crate) name_bytes: u8,
    pub(crate) body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    File {
        size: u64,
        etag_bytes: u16,
        version_bytes: Option<u16>,
        archived: bool,
        /// Gave way to a directory of the same path: an id without an entry.
        dropped: bool,
    },
    Directory {
        /// Index of its first child in the children section, in ids.
        first_child: u64,
        children: u32,
    },
}

const DIRECTORY: u8 = 1;
const ARCHIVED: u8 = 2;
const VERSION: u8 = 4;
const DROPPED: u8 = 8;

impl Record {
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        let (number, lengths, flags) = match self.body {
            Body::File { size, etag_bytes, version_bytes, archived, dropped } => {
                let lengths = u32::from(etag_bytes) | u32::from(version_bytes.unwrap_or(0)) << u16::BITS;
                let flags = if archived { ARCHIVED } else { 0 }
                    | if version_bytes.is_some() { VERSION } else { 0 }
                    | if dropped { DROPPED } else { 0 };
                (size, lengths, flags)
            }
            Body::Directory { first_child, children } => (first_child, children, DIRECTORY),
        };
        let mut out = [0; RECORD_BYTES];
        out[..8].copy_from_slice(&self.text.to_le_bytes());
        out[8..16].copy_from_slice(&number.to_le_bytes());
        out[16..24].copy_from_slice(&self.mtime_ns.to_le_bytes());
        out[24..28].copy_from_slice(&self.parent.to_le_bytes());
        out[28..32].copy_from_slice(&lengths.to_le_bytes());
        out[32] = self.name_bytes;
        out[33] = flags;
        out
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_BYTES]) -> Self {
        let word = |at: usize| -> [u8; 8] { std::array::from_fn(|i| bytes[at + i]) };
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let (number, lengths, flags) = (u64::from_le_bytes(word(8)), half(28), bytes[33]);
        let body = if flags & DIRECTORY != 0 {
            Body::Directory { first_child: number, children: lengths }
        } else {
            Body::File {
                size: number,
                etag_bytes: lengths as u16,
                version_bytes: (flags & VERSION != 0).then_some((lengths >> u16::BITS) as u16),
                archived: flags & ARCHIVED != 0,
                dropped: flags & DROPPED != 0,
            }
        };
        Record { text: u64::from_le_bytes(word(0)), mtime_ns: i64::from_le_bytes(word(16)), parent: half(24), name_bytes: bytes[32], body }
    }
}
