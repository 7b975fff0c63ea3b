//! The scan: a background thread that counts what each directory holds, so that opening a cache of a hundred
//! thousand files takes no time. Files are opened by name in the meanwhile, as always. It reads a head and two
//! `stat`s for each file, no records and no data, and removes what has no partner.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Weak};

use headrace_sync::thread;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::format::{HEAD_LEN, Head};
use crate::ledger::Entry;
use crate::load::modified_ns;
use crate::shared::Shared;
use crate::{CacheFile, ObjectId};

impl Shared {
    /// Counts one directory, unless the cache is shut down meanwhile.
    pub fn scan(&self, directory: &Directory) {
        if let Err(error) = self.count_objects(directory) {
            directory.note_error(&self.counters, "scanning", &error);
        }
        directory.ledger.lock().end_scan();
        directory.scanned.notify_all();
        if let Err(error) = empty_trash(&directory.path.join("trash")) {
            directory.note_error(&self.counters, "emptying the trash", &error);
        }
        directory.free_space.lock().forget();
    }

    fn count_objects(&self, directory: &Directory) -> io::Result<()> {
        for folder in fs::read_dir(directory.path.join("objects"))? {
            let folder = folder?.path();
            let mut names: [BTreeSet<ObjectId>; 2] = Default::default();
            for entry in fs::read_dir(&folder)? {
                if self.chores.is_stopped() {
                    return Ok(());
                }
                let name = entry?.file_name();
                let Some((stem, kind)) = name.to_str().and_then(|name| name.rsplit_once('.')) else {
                    continue;
                };
                let kinds = ["meta", "data"];
                if let (Some(id), Some(kind)) = (ObjectId::parse(stem), kinds.iter().position(|k| *k == kind)) {
                    names[kind].insert(id);
                }
            }
            let [metas, datas] = names;
            for id in metas.intersection(&datas) {
                self.count_file(directory, id)?;
            }
            for id in metas.symmetric_difference(&datas) {
                self.remove_orphan(directory, id)?;
            }
        }
        Ok(())
    }

    fn count_file(&self, directory: &Directory, id: &ObjectId) -> io::Result<()> {
        let read = || -> io::Result<Option<Entry>> {
            let meta = fs::File::open(directory.meta_path(id))?;
            let mut head = [0; HEAD_LEN];
            match meta.read_exact_at(&mut head, 0) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            let Ok(head) = Head::decode(&head) else {
                return Ok(None);
            };
            let about = meta.metadata()?;
            let data = fs::metadata(directory.data_path(id))?;
            Ok(Some(Entry {
                allocated: (about.blocks() + data.blocks()) * 512,
                last_used: modified_ns(&about),
                complete: head.complete,
                pinned: head.pinned,
            }))
        };
        match read() {
            Ok(Some(entry)) => directory.ledger.lock().set_scanned(*id, entry),
            Ok(None) => {
                Counters::add(&self.counters.torn_files, 1);
                log::warn!("cached object {id}: its meta file is torn; dropped");
                self.unlink_unless_used(directory, id, |_| true)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // evicted meanwhile
            // One unreadable file must not leave the others uncounted.
            Err(error) => directory.note_error(&self.counters, "counting a cached file", &error),
        }
        Ok(())
    }

    fn remove_orphan(&self, directory: &Directory, id: &ObjectId) -> io::Result<()> {
        let alone = |directory: &Directory| !directory.meta_path(id).exists() || !directory.data_path(id).exists();
        if self.unlink_unless_used(directory, id, alone)? {
            Counters::add(&self.counters.orphan_files, 1);
        }
        Ok(())
    }

    fn unlink_unless_used(&self, directory: &Directory, id: &ObjectId, still: impl Fn(&Directory) -> bool) -> io::Result<bool> {
        let files = self.files.lock();
        if let Some(file) = files.get(id).and_then(Weak::upgrade) {
            drop(files);
            return file.unlink_unless_used(directory, still);
        }
        if !still(directory) {
            return Ok(false);
        }
        let trash = directory.unlink(id)?;
        drop(files);
        drop(trash);
        Ok(true)
    }
}

impl CacheFile {
    /// Open does not mean used: whoever only looks at an object leaves alone what lies under its name. Under the lock
    /// nobody creates the file.
    fn unlink_unless_used(&self, directory: &Directory, still: impl Fn(&Directory) -> bool) -> io::Result<bool> {
        let writing = self.writing.lock();
        if writing.directory.is_some() || !still(directory) {
            return Ok(false);
        }
        drop(directory.unlink(&self.id())?);
        Ok(true)
    }
}

/// What was being deleted when an earlier process ended, and nothing younger.
fn empty_trash(trash: &Path) -> io::Result<()> {
    let ours = format!(".{}.", std::process::id());
    for entry in fs::read_dir(trash)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().contains(&ours) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Scans all directories, each by a thread of its own: they are different disks.
pub fn scan_all(shared: &Arc<Shared>) {
    thread::scope(|scope| {
        for directory in &shared.directories[1..] {
            let thread = thread::Builder::new().name("cache-scan".into());
            if thread.spawn_scoped(scope, || shared.scan(directory)).is_err() {
                shared.scan(directory); // no thread to be had: one after the other
            }
        }
        shared.scan(&shared.directories[0]);
    });
}
