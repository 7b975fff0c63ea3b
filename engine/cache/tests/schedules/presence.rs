//! No byte is present before it is in the file, for those who look at the same time and for those who come after a kill.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use headrace_cache::CacheFile;
use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::stage::{BLOCK, CHUNK, Stage, file, read, write_all};
use crate::support::{bytes, check, data_path, object};

const SIZE: u64 = 2 * BLOCK + CHUNK + 100;

#[test]
fn what_is_said_to_be_present_is_in_the_file() {
    explore(&Exploration { name: "presence", schedules: 400 }, || {
        let stage = Stage::new();
        let cache = stage.open();
        let identity = object("o", SIZE);
        let known = file(&cache, &identity);
        thread::scope(|scope| {
            scope.spawn(|| write_all(&cache, &identity, &[0..BLOCK, BLOCK + CHUNK..2 * BLOCK]));
            scope.spawn(|| write_all(&cache, &identity, &[CHUNK..2 * BLOCK, 2 * BLOCK..SIZE]));
            scope.spawn(|| (0..3).for_each(|_| compare_with_the_disk(stage.path(), &known)));
        });
        assert!(known.is_complete());
        assert_eq!(check(&known), SIZE.div_ceil(CHUNK));
        assert_eq!(cache.counters().completed_files, 1, "told once");
        drop(known);
        stage.settled(&cache);
    });
}

fn compare_with_the_disk(root: &Path, file: &Arc<CacheFile>) {
    for start in (0..SIZE).step_by(CHUNK as usize) {
        let range = start..(start + CHUNK).min(SIZE);
        if !file.is_present(range.clone()) {
            continue;
        }
        let mut found = vec![0; (range.end - range.start) as usize];
        File::open(data_path(root, &file.id())).unwrap().read_exact_at(&mut found, start).unwrap();
        assert!(found == bytes(&file.id(), range), "present and not in the file, at {start}");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_only_right_bytes() {
    explore(&Exploration { name: "kill", schedules: 400 }, || {
        let (stage, wrecks) = (Stage::new(), [Stage::new(), Stage::new(), Stage::new()]);
        let cache = stage.open();
        let identity = object("o", SIZE);
        // Held and incomplete: what is evicted of it is punched.
        let hold = file(&cache, &identity).hold();
        thread::scope(|scope| {
            scope.spawn(|| write_all(&cache, &identity, &[0..BLOCK, BLOCK..SIZE]));
            scope.spawn(|| {
                some_time(60);
                cache.evict(&identity.id()).unwrap();
                write_all(&cache, &identity, &[0..2 * CHUNK, 2 * CHUNK..SIZE]);
            });
            scope.spawn(|| {
                for wreck in &wrecks {
                    some_time(60);
                    // No scheduling point in here: the directory as it is at one moment.
                    copy(stage.path(), wreck.path());
                }
            });
        });
        drop(hold);
        stage.settled(&cache);
        for wreck in &wrecks {
            let adopted = wreck.open();
            read(&adopted, &identity, 1);
            wreck.settled(&adopted);
        }
    });
}

/// Copies a directory, holes as holes.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            fs::create_dir(&target).unwrap();
            if entry.file_name() != "trash" {
                copy(&entry.path(), &target); // the trash is emptied by another process only, and this is the same
            }
        } else if entry.file_name() != "lock" {
            let all = fs::read(entry.path()).unwrap();
            let file = File::create(&target).unwrap();
            file.set_len(about.len()).unwrap();
            for (index, page) in all.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
                file.write_all_at(page, index as u64 * 4096).unwrap();
            }
        }
    }
}
