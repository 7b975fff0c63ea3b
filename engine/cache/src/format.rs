//! The meta file, byte by byte, as pure functions.
//!
//! ```text
//! 0    head, 64 bytes: magic, version, digest algorithm, size, flags, identity length and check, check
//! 64   identity: endpoint, bucket, key, pin, each u32 length + bytes; written once
//! ...  records, 32 bytes for each block, aligned to 32:
//!      chunks u64 (bit = chunk present) | xxh3-128 of the block (when full) | boot u32 | check u32
//! ```
//!
//! All numbers are little endian. Head and records never straddle a 512-byte sector, so a disk writes each
//! whole or not at all; and each has its own check, so one that was torn nevertheless is taken for absent.
//!
//! A record tells in which *boot* it was written. That makes trust a matter of each block, without a pass over
//! the file after a reboot, and lets a kill in the middle of checking a file lose nothing: see [`Record::adopt`].

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use crate::{BLOCK, CHUNK, ObjectIdentity};

pub const HEAD_LEN: usize = 64;
pub const RECORD_LEN: usize = 32;
/// The longest identity accepted, in bytes: a key has at most 1024, the rest is endpoint, bucket and pin.
const IDENTITY_MAX: u32 = 64 * 1024;
const MAGIC: &[u8; 8] = b"HRCACHE\x01";
const VERSION: u32 = 1;
/// xxh3-128, the only digest so far.
const DIGEST_XXH3_128: u32 = 1;
const COMPLETE: u32 = 1;
const SYNCED: u32 = 2;
const PINNED: u32 = 4;
const WAS_COMPLETE: u32 = 8;

/// The part of a meta file that changes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    /// All blocks were present. A hint for listings: the records decide.
    pub complete: bool,
    /// The data was complete and `fdatasync` had returned: it survives a power loss as it is.
    pub synced: bool,
    pub pinned: bool,
    /// It was complete once, so its descriptor may be out (the kernel keeps some over a restart of the node):
    /// never punched, even if a wrong block has been dropped since.
    pub was_complete: bool,
    pub identity_len: u32,
    pub identity_check: u64,
}

/// Why a meta file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the head is torn or not ours")]
    Head,
    #[error("the identity is torn")]
    Identity,
}

impl Head {
    pub fn new(size: u64, identity: &[u8]) -> Head {
        Head {
            size,
            complete: false,
            synced: false,
            pinned: false,
            was_complete: false,
            identity_len: identity.len() as u32,
            identity_check: xxh3_64(identity),
        }
    }

    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let flags = u32::from(self.complete) * COMPLETE
            + u32::from(self.synced) * SYNCED
            + u32::from(self.pinned) * PINNED
            + u32::from(self.was_complete) * WAS_COMPLETE;
        let mut out = [0; HEAD_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&DIGEST_XXH3_128.to_le_bytes());
        out[16..24].copy_from_slice(&self.size.to_le_bytes());
        out[24..28].copy_from_slice(&flags.to_le_bytes());
        out[28..32].copy_from_slice(&self.identity_len.to_le_bytes());
        out[32..40].copy_from_slice(&self.identity_check.to_le_bytes());
        out[40..44].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        out[44..48].copy_from_slice(&(CHUNK as u32).to_le_bytes());
        let check = xxh3_64(&out[..56]);
        out[56..].copy_from_slice(&check.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; HEAD_LEN]) -> Result<Head, Unreadable> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let flags = u32_at(24);
        let ours = &bytes[..8] == MAGIC
            && u64_at(56) == xxh3_64(&bytes[..56])
            && u32_at(8) == VERSION
            && u32_at(12) == DIGEST_XXH3_128
            && u32_at(28) <= IDENTITY_MAX
            && u64::from(u32_at(40)) == BLOCK
            && u64::from(u32_at(44)) == CHUNK;
        if !ours {
            return Err(Unreadable::Head);
        }
        Ok(Head {
            size: u64_at(16),
            complete: flags & COMPLETE != 0,
            synced: flags & SYNCED != 0,
            pinned: flags & PINNED != 0,
            was_complete: flags & WAS_COMPLETE != 0,
            identity_len: u32_at(28),
            identity_check: u64_at(32),
        })
    }

    /// Where a block's record lies in the meta file.
    pub fn record_offset(&self, block: usize) -> u64 {
        (HEAD_LEN as u64 + u64::from(self.identity_len)).next_multiple_of(RECORD_LEN as u64) + (block * RECORD_LEN) as u64
    }

    /// The length of the whole meta file, in bytes.
    pub fn meta_len(&self) -> u64 {
        self.record_offset(self.size.div_ceil(BLOCK) as usize)
    }
}

pub fn encode_identity(identity: &ObjectIdentity) -> Vec<u8> {
    let mut out = Vec::new();
    for field in [&identity.endpoint, &identity.bucket, &identity.key, &identity.pin] {
        out.extend_from_slice(&(field.len() as u32).to_le_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    out
}

pub fn decode_identity(head: &Head, mut bytes: &[u8]) -> Result<ObjectIdentity, Unreadable> {
    if xxh3_64(bytes) != head.identity_check {
        return Err(Unreadable::Identity);
    }
    let mut field = || -> Option<String> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let mut next = || field().ok_or(Unreadable::Identity);
    Ok(ObjectIdentity { endpoint: next()?, bucket: next()?, key: next()?, pin: next()?, size: head.size })
}

/// What is known of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// One bit for each chunk that is present.
    pub chunks: u64,
    /// Digest of the block; means something only when all its chunks are present.
    pub digest: u128,
    /// [`boot_tag`] of the boot in which this was written.
    pub boot: u32,
}

/// What a record found on disk is worth now.
#[derive(Debug, PartialEq, Eq)]
pub enum Adopted {
    Absent,
    /// These chunks are there.
    Trusted(u64),
    /// All chunks are claimed, a power loss may have touched them: compare the digest before first use.
    Suspect,
    /// Some chunks are claimed, and nothing can prove them after a power loss.
    Unprovable,
}

impl Record {
    pub fn encode(&self, block: usize) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        if self.chunks == 0 {
            return out; // an absent block looks like the hole it is
        }
        out[..8].copy_from_slice(&self.chunks.to_le_bytes());
        out[8..24].copy_from_slice(&self.digest.to_le_bytes());
        out[24..28].copy_from_slice(&self.boot.to_le_bytes());
        let check = xxh3_64_with_seed(&out[..28], block as u64) as u32;
        out[28..].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// Reads a record; a torn one, or one of another block, is an absent one.
    pub fn decode(bytes: &[u8; RECORD_LEN], block: usize) -> Record {
        let check = u32::from_le_bytes(bytes[28..].try_into().expect("4 bytes"));
        if check != xxh3_64_with_seed(&bytes[..28], block as u64) as u32 {
            return Record::default();
        }
        Record {
            chunks: u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")),
            digest: u128::from_le_bytes(bytes[8..24].try_into().expect("16 bytes")),
            boot: u32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes")),
        }
    }

    /// Decides what is trusted: everything of this boot (the page cache outlived any kill), everything of a
    /// synced file, and otherwise only what a digest can prove.
    pub fn adopt(&self, full: u64, boot: u32, synced: bool) -> Adopted {
        let chunks = self.chunks & full;
        if chunks == 0 {
            Adopted::Absent
        } else if self.boot == boot || synced {
            Adopted::Trusted(chunks)
        } else if chunks == full {
            Adopted::Suspect
        } else {
            Adopted::Unprovable
        }
    }
}

/// A boot id in four bytes.
pub fn boot_tag(boot_id: &str) -> u32 {
    xxh3_64(boot_id.trim().as_bytes()) as u32
}

/// The digest of a block's bytes.
pub fn digest(block: &[u8]) -> u128 {
    xxh3_128(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> ObjectIdentity {
        ObjectIdentity {
            endpoint: "https://s3".into(), bucket: "b".into(), key: "模型/a".into(), pin: "\"e\"".into(), size: 5 * BLOCK + 3
        }
    }

    #[test]
    fn head_and_identity_and_back() {
        let text = encode_identity(&identity());
        let head = Head { complete: true, pinned: true, ..Head::new(identity().size, &text) };
        let read = Head::decode(&head.encode()).unwrap();
        assert_eq!(read, head);
        assert_eq!(decode_identity(&read, &text).unwrap(), identity());
        assert_eq!(read.meta_len() - read.record_offset(0), 6 * RECORD_LEN as u64);
        assert_eq!(read.record_offset(0) % RECORD_LEN as u64, 0);
    }

    #[test]
    fn any_flipped_bit_of_a_head_or_record_is_noticed() {
        let text = encode_identity(&identity());
        let head = Head::new(9, &text).encode();
        for bit in 0..HEAD_LEN * 8 {
            let mut torn = head;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&torn), Err(Unreadable::Head), "bit {bit}");
        }
        let record = Record { chunks: 7, digest: 99, boot: 3 }.encode(4);
        assert_eq!(Record::decode(&record, 5), Record::default(), "record of another block");
        for bit in 0..RECORD_LEN * 8 {
            let mut torn = record;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&torn, 4).chunks, 0, "bit {bit}");
        }
        let mut cut = text.clone();
        cut.pop();
        assert!(decode_identity(&Head::new(9, &text), &cut).is_err());
    }

    #[test]
    fn trust_after_a_kill_and_after_a_power_loss() {
        let (full, mine, other) = (0b1111, boot_tag("a"), boot_tag("b"));
        let whole = Record { chunks: full, digest: 1, boot: mine };
        let part = Record { chunks: 1, ..whole };
        assert_eq!(whole.adopt(full, mine, false), Adopted::Trusted(full));
        assert_eq!(part.adopt(full, mine, false), Adopted::Trusted(1));
        assert_eq!(whole.adopt(full, other, true), Adopted::Trusted(full));
        assert_eq!(whole.adopt(full, other, false), Adopted::Suspect);
        assert_eq!(part.adopt(full, other, false), Adopted::Unprovable);
        assert_eq!(Record::default().adopt(full, mine, true), Adopted::Absent);
    }
}
