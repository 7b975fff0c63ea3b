//! Which keys are paths. The written rule is in the crate's documentation.

use std::fmt;

/// Longest name of a file or directory, in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// Longest path, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// How the name of an object begins that a connection check of the control plane writes, reads back and removes.
const CHECK: &[u8] = b".headrace-check-";

/// Whether a key is none of the user's: what a connection check left for a moment. It is not in the tree, and not told of.
pub(crate) fn is_ours(key: &[u8]) -> bool {
    key.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(CHECK))
}

/// Why a key is not in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SkipReason {
    /// A leading `/`, or `//`.
    EmptyPart = 1,
    /// A part is `.` or `..`.
    DotPart = 2,
    /// It holds a NUL byte.
    NulByte = 3,
    /// A part is longer than 255 bytes.
    LongName = 4,
    /// It is longer than 4096 bytes.
    LongPath = 5,
    /// A directory has the same path, and wins.
    BesideDirectory = 6,
    /// The origin listed the key twice.
    Duplicate = 7,
}

impl SkipReason {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::EmptyPart,
            2 => Self::DotPart,
            3 => Self::NulByte,
            4 => Self::LongName,
            5 => Self::LongPath,
            6 => Self::BesideDirectory,
            7 => Self::Duplicate,
            _ => return None,
        })
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyPart => "a part of the key is empty",
            Self::DotPart => "a part of the key is . or ..",
            Self::NulByte => "the key holds a NUL byte",
            Self::LongName => "a part of the key is longer than 255 bytes",
            Self::LongPath => "the key is longer than 4096 bytes",
            Self::BesideDirectory => "a directory has the same path",
            Self::Duplicate => "the origin listed the key twice",
        })
    }
}

/// Whether a key (file or marker) can be a path.
pub(crate) fn check(key: &[u8]) -> Result<(), SkipReason> {
    let path = key.strip_suffix(b"/").unwrap_or(key);
    if path.len() > PATH_MAX {
        return Err(SkipReason::LongPath);
    }
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" => return Err(SkipReason::EmptyPart),
            b"." | b".." => return Err(SkipReason::DotPart),
            _ if part.len() > NAME_MAX => return Err(SkipReason::LongName),
            _ if part.contains(&0) => return Err(SkipReason::NulByte),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_pass() {
        for key in ["a", "a/b", "a/", "a/b/", "...", ".a", "a..", " ", "\n", "é/ü", "a\\b", "-"] {
            assert_eq!(check(key.as_bytes()), Ok(()), "{key:?}");
        }
        assert_eq!(check("ü".repeat(127).as_bytes()), Ok(()));
    }

    #[test]
    fn others_have_a_reason() {
        use SkipReason::*;
        let cases = [
            ("", EmptyPart),
            ("/", EmptyPart),
            ("/a", EmptyPart),
            ("a//", EmptyPart),
            ("a//b", EmptyPart),
            (".", DotPart),
            ("..", DotPart),
            ("../a", DotPart),
            ("a/./b", DotPart),
            ("a/../", DotPart),
            ("a\0b", NulByte),
        ];
        for (key, reason) in cases {
            assert_eq!(check(key.as_bytes()), Err(reason), "{key:?}");
        }
        assert_eq!(check("ü".repeat(128).as_bytes()), Err(LongName));
        assert_eq!(check("a/".repeat(2049).as_bytes()), Err(LongPath));
        assert_eq!(check("a/".repeat(2048).as_bytes()), Ok(()));
    }

    #[test]
    fn what_a_connection_check_writes_is_ours_and_nothing_else() {
        for key in [".headrace-check-1f", "a/.headrace-check-1f", "a/b/.headrace-check-"] {
            assert!(is_ours(key.as_bytes()), "{key:?}");
        }
        for key in ["", ".headrace-check", ".headrace-check-1/a", ".headrace-check-1/", "a.headrace-check-1", "headrace-check-1"] {
            assert!(!is_ours(key.as_bytes()), "{key:?}");
        }
    }

    #[test]
    fn reasons_survive_their_byte() {
        for byte in 0..=255 {
            if let Some(reason) = SkipReason::from_byte(byte) {
                assert_eq!(reason as u8, byte);
                assert!(!reason.to_string().is_empty());
            }
        }
    }
}
