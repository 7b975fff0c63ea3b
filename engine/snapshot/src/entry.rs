//! The plain values that go into a snapshot and come out of it.

/// One object as the origin listed it.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// Relative to the volume's prefix; a trailing `/` makes it a directory marker.
    pub key: &'a str,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970, UTC.
    pub mtime_ns: i64,
    /// As the origin sent it, with its quotes.
    pub etag: &'a str,
    /// Version id, where the bucket has versions.
    pub version: Option<&'a str>,
    /// In an archived storage class: listed, but not readable before it is restored.
    pub archived: bool,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Normalised endpoint.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Prefix of every key, empty or ending in `/`; a file's key is prefix + path.
    pub prefix: String,
    /// When the listing began, nanoseconds since 1970, UTC.
    pub created_ns: i64,
    /// Entries carry version ids. The builder also sets it when it meets one other than `null`.
    pub versioned: bool,
}

/// Number of an entry within one snapshot, in the order of keys; 0 is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(
    /// The number.
    pub u32,
);

impl EntryId {
    /// The root directory of every snapshot.
    pub const ROOT: EntryId = EntryId(0);
}

/// File or directory: there is nothing else in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An object.
    File,
    /// A common prefix of objects, or a marker.
    Directory,
}

/// One entry, borrowed from the mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// File or directory.
    pub kind: EntryKind,
    /// Last part of the path, UTF-8; empty for the root.
    pub name: &'a [u8],
    /// Directory it is in; the root is its own parent.
    pub parent: EntryId,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Nanoseconds since 1970, UTC. For a directory see the crate's rules.
    pub mtime_ns: i64,
    /// As the origin sent it, with its quotes; empty for a directory.
    pub etag: &'a str,
    /// Version id, where the bucket has versions.
    pub version: Option<&'a str>,
    /// In an archived storage class.
    pub archived: bool,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Directories, without the root.
    pub dirs: u64,
    /// Sum of the files' sizes, in bytes.
    pub bytes: u64,
    /// Keys that could not be paths.
    pub skipped: u64,
}
