//! The file `headrace-cache` in a cache directory names the format's version and the directory's own random
//! name, which decides what it is given to keep. A directory in any other format is set aside, never misread:
//! its `objects` and its marker are renamed, and a warning says where they went.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const NAME: &str = "headrace-cache";
const FIRST_LINE: &str = "headrace-cache 1";

/// The random name of a directory.
pub type DirectoryId = [u8; 16];

/// Reads the marker, or prepares a fresh directory. Call with the lock held.
pub fn read_or_create(path: &Path) -> io::Result<DirectoryId> {
    match fs::read(path.join(NAME)) {
        Ok(bytes) => match parse(&bytes) {
            Some(id) => return Ok(id),
            None => set_aside(path)?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.join("objects").exists() {
                set_aside(path)?;
            }
        }
        Err(error) => return Err(error),
    }
    create(path)
}

fn parse(bytes: &[u8]) -> Option<DirectoryId> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    Some(crate::ObjectId::parse(lines.next()?)?.0)
}

fn set_aside(path: &Path) -> io::Result<()> {
    let free = |number: &u32| {
        !path.join(format!("objects.set-aside-{number}")).exists() && !path.join(format!("{NAME}.set-aside-{number}")).exists()
    };
    let number = (1..).find(free).unwrap_or(u32::MAX);
    for name in ["objects", NAME] {
        let aside = path.join(format!("{name}.set-aside-{number}"));
        match fs::rename(path.join(name), &aside) {
            Ok(()) => log::warn!(
                "cache directory {}: its format is not known here; it was set aside as {}, and may be deleted",
                path.display(),
                aside.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<DirectoryId> {
    let mut id = DirectoryId::default();
    // SAFETY: the buffer is valid for its length; 16 bytes are always delivered whole.
    if unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) } != id.len() as isize {
        return Err(io::Error::last_os_error());
    }
    let fresh = path.join(format!("{NAME}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{FIRST_LINE}\n{}", crate::ObjectId(id))?;
    file.sync_all()?;
    fs::rename(fresh, path.join(NAME))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_once_then_read() {
        let dir = tempfile::tempdir().unwrap();
        let id = read_or_create(dir.path()).unwrap();
        assert_eq!(read_or_create(dir.path()).unwrap(), id);
    }

    #[test]
    fn an_unknown_format_is_set_aside_and_nothing_of_it_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..3 {
            fs::write(dir.path().join(NAME), "headrace-cache 99\nfuture\n").unwrap();
            fs::create_dir(dir.path().join("objects")).unwrap();
            fs::write(dir.path().join("objects/x"), "bytes").unwrap();
            read_or_create(dir.path()).unwrap();
            assert!(!dir.path().join("objects").exists());
            let aside = dir.path().join(format!("objects.set-aside-{round}/x"));
            assert_eq!(fs::read(aside).unwrap(), b"bytes");
        }
    }

    #[test]
    fn objects_without_a_marker_are_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("objects")).unwrap();
        read_or_create(dir.path()).unwrap();
        assert!(dir.path().join("objects.set-aside-1").exists());
    }
}
