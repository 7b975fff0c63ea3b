//! The file: a header, then four columns. Everything is little-endian.
//!
//! header | entries (64 bytes each) | text (names, ETags, versions, header strings) | children (u32 each) | skipped
//!
//! The file is synced before it gets its name, so a torn one is never seen; the header has a checksum, and every access to the columns is
//! checked against their bounds, so that damage gives wrong names at worst, never a crash.
//!
//! An entry: kind u8, flags u8, name length u16, parent u32, name offset u64, then for a file size u64, mtime i64, ETag offset u64,
//! ETag length u16, version length u16, reserved u32, version offset u64; for a directory first child u64 in place of the size and the number of children u32 in place of the ETag's offset.

use xxhash_rust::xxh3::xxh3_64;

pub(crate) const MAGIC: &[u8; 8] = b"HRSNAP\x01\n";
pub(crate) const ENTRY: usize = 64;
pub(crate) const HEADER: usize = 256;
pub(crate) const KIND_FILE: u8 = 1;
pub(crate) const KIND_DIRECTORY: u8 = 2;
pub(crate) const FLAG_ARCHIVED: u8 = 1;

/// Where the columns are and what they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of entries, text, children, skipped.
    pub(crate) columns: [u64; 4],
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) bytes: u64,
    pub(crate) skipped: u64,
    pub(crate) created_ns: u64,
    pub(crate) versioned: u64,
    /// Offset in text and lengths of endpoint, bucket, prefix, which lie one after the other.
    pub(crate) origin: [u64; 4],
}

impl Header {
    pub(crate) fn pack(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(MAGIC);
        for (index, word) in self.words().into_iter().enumerate() {
            out[8 + index * 8..16 + index * 8].copy_from_slice(&word.to_le_bytes());
        }
        let sum = xxh3_64(&out[..HEADER - 8]);
        out[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn unpack(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.get(..HEADER).ok_or("it is too short")?;
        if &bytes[..8] != MAGIC {
            return Err("it has another format");
        }
        let word = |index: usize| u64_at(bytes, 8 + index * 8).unwrap_or(0);
        if u64_at(bytes, HEADER - 8) != Some(xxh3_64(&bytes[..HEADER - 8])) {
            return Err("its header is damaged");
        }
        Ok(Self {
            columns: [word(0), word(1), word(2), word(3)],
            files: word(4),
            directories: word(5),
            bytes: word(6),
            skipped: word(7),
            created_ns: word(8),
            versioned: word(9),
            origin: [word(10), word(11), word(12), word(13)],
        })
    }

    fn words(&self) -> [u64; 14] {
        let [a, b, c, d] = self.columns;
        let [e, f, g, h] = self.origin;
        [a, b, c, d, self.files, self.directories, self.bytes, self.skipped, self.created_ns, self.versioned, e, f, g, h]
    }
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
