//! Which keys can be paths.

use std::fmt;

/// Why a key is not in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SkipReason {
    /// An empty, `.` or `..` part.
    BadPart = 1,
    /// A NUL byte.
    Nul = 2,
    /// A part of more than 255 bytes.
    LongPart = 3,
    /// More than 4,096 bytes in all.
    LongPath = 4,
    /// An object beside a directory of the same name.
    Shadowed = 5,
    /// The same key a second time.
    Repeated = 6,
}

impl SkipReason {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::BadPart, Self::Nul, Self::LongPart, Self::LongPath, Self::Shadowed, Self::Repeated].into_iter().find(|r| *r as u8 == byte)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPart => "an empty, \".\" or \"..\" part can't be a file name",
            Self::Nul => "a NUL byte can't be in a file name",
            Self::LongPart => "a part is longer than 255 bytes",
            Self::LongPath => "the path is longer than 4,096 bytes",
            Self::Shadowed => "a directory has the same name",
            Self::Repeated => "the key was listed twice",
        })
    }
}

/// Checks a key; a trailing slash (a directory's marker) is allowed.
pub(crate) fn check(key: &[u8]) -> Result<(), SkipReason> {
    if key.contains(&0) {
        return Err(SkipReason::Nul);
    }
    let path = key.strip_suffix(b"/").unwrap_or(key);
    if path.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(SkipReason::BadPart);
    }
    if path.split(|b| *b == b'/').any(|part| part.len() > 255) {
        return Err(SkipReason::LongPart);
    }
    if path.len() > 4096 {
        return Err(SkipReason::LongPath);
    }
    Ok(())
}
