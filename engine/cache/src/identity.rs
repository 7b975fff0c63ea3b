//! What makes two objects the same: endpoint, bucket, key, pin and size. The 16-byte id is a BLAKE3 hash of
//! these fields, each with its length in front so that no two sets of fields can read alike.

use std::fmt;

/// An object version, as the origin names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectIdentity {
    /// Normalised endpoint, e.g. `https://s3.example.com`.
    pub endpoint: String,
    /// Bucket name.
    pub bucket: String,
    /// Full key, decoded.
    pub key: String,
    /// Version id when it is not `null`, else the ETag as sent.
    pub pin: String,
    /// Object size in bytes.
    pub size: u64,
}

impl ObjectIdentity {
    /// The id under which the object lies in a cache directory.
    pub fn id(&self) -> ObjectId {
        let mut hasher = blake3::Hasher::new();
        for field in [&self.endpoint, &self.bucket, &self.key, &self.pin] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.update(&self.size.to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        ObjectId(id)
    }
}

/// 16 bytes that name an object version; written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 16]);

impl ObjectId {
    /// Reads 32 hex digits; `None` when `text` is anything else.
    pub fn parse(text: &str) -> Option<ObjectId> {
        let bytes = text.as_bytes();
        if bytes.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(bytes.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(ObjectId(id))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(bucket: &str, key: &str) -> ObjectIdentity {
        ObjectIdentity { endpoint: "http://s3".into(), bucket: bucket.into(), key: key.into(), pin: "\"e\"".into(), size: 7 }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(identity("ab", "c").id(), identity("a", "bc").id());
        assert_eq!(identity("a", "b").id(), identity("a", "b").id());
        let longer = ObjectIdentity { size: 8, ..identity("a", "b") };
        assert_ne!(longer.id(), identity("a", "b").id());
    }

    #[test]
    fn hex_and_back() {
        let id = identity("a", "b").id();
        assert_eq!(ObjectId::parse(&id.to_string()), Some(id));
        assert_eq!(ObjectId::parse("xyz"), None);
        assert_eq!(ObjectId::parse(&"é".repeat(16)), None);
    }
}
