//! What is trusted after a kill, after a power loss, and after somebody damaged the files.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use headrace_cache::{BLOCK, CHUNK, Cache, Kept};
use support::*;

const SIZE: u64 = 3 * BLOCK + 5 * CHUNK + 7;
const LIMIT: u64 = 64 * BLOCK;

/// Ends a cache as a kill would: nothing is synced, nothing is written on the way out.
fn kill(cache: Arc<Cache>) {
    cache.shutdown();
    drop(cache);
}

#[test]
fn after_a_kill_everything_written_is_there_and_nothing_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let whole = object("whole", SIZE);
    let part = object("part", SIZE);
    let cache = open(dir.path(), LIMIT, BOOT);
    fill(&cache.file(&whole).unwrap());
    assert_eq!(write(&cache.file(&part).unwrap(), CHUNK..3 * CHUNK), Kept::Yes);
    kill(cache);

    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&whole).unwrap();
    assert!(file.is_complete());
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
    let file = cache.file(&part).unwrap();
    assert_eq!(file.missing(0..4 * CHUNK), vec![0..CHUNK, 3 * CHUNK..4 * CHUNK]);
    assert_eq!(check(&file), 2);
    assert_eq!(cache.counters().verified_blocks, 0);
    assert_eq!(cache.counters().adopted_files, 2);
    assert_eq!(cache.usage().complete_files, 1);
}

#[test]
fn a_process_killed_while_writing_leaves_only_right_bytes() {
    // The test program calls itself: the child writes until it is killed.
    if let Some(dir) = std::env::var_os("HEADRACE_TEST_CHILD") {
        let cache = open(dir.as_ref(), LIMIT, BOOT);
        for round in 0.. {
            let file = cache.file(&object(&format!("k{}", round % 8), SIZE)).unwrap();
            let start = (round / 8 * 37 * CHUNK) % SIZE / CHUNK * CHUNK;
            assert_eq!(write(&file, start..start + 5 * CHUNK), Kept::Yes);
            println!("{round}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_killed_while_writing_leaves_only_right_bytes", "--nocapture"])
            .env("HEADRACE_TEST_CHILD", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        lines.nth(200).unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = open(dir.path(), LIMIT, BOOT);
        let present: u64 = (0..8).map(|n| check(&cache.file(&object(&format!("k{n}"), SIZE)).unwrap())).sum();
        assert!(present > 0);
    }
}

#[test]
fn after_a_power_loss_a_synced_file_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    fill(&cache.file(&object("a", SIZE)).unwrap());
    assert!(cache.sync_all(PATIENCE));
    assert_eq!(cache.counters().synced_files, 1);
    kill(cache);

    let cache = open(dir.path(), LIMIT, OTHER_BOOT);
    let file = cache.file(&object("a", SIZE)).unwrap();
    assert!(file.is_complete());
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
    assert_eq!(cache.counters().verified_blocks, 0);
}

/// Two full blocks and part of a third, never synced.
fn leave_unsynced(dir: &std::path::Path) -> headrace_cache::ObjectIdentity {
    let identity = object("a", SIZE);
    let cache = open(dir, LIMIT, BOOT);
    let file = cache.file(&identity).unwrap();
    assert_eq!(write(&file, 0..2 * BLOCK), Kept::Yes);
    assert_eq!(write(&file, 2 * BLOCK..2 * BLOCK + CHUNK), Kept::Yes);
    drop(file);
    kill(cache);
    identity
}

#[test]
fn after_a_power_loss_digests_decide_before_first_use() {
    let dir = tempfile::tempdir().unwrap();
    let identity = leave_unsynced(dir.path());
    let data = OpenOptions::new().write(true).open(data_path(dir.path(), &identity.id())).unwrap();
    data.write_all_at(&[0], BLOCK + 77).unwrap(); // never zero in an object

    let cache = open(dir.path(), LIMIT, OTHER_BOOT);
    let file = cache.file(&identity).unwrap();
    assert_eq!(file.present_bytes(), 2 * BLOCK, "what has no digest is dropped");
    assert_eq!(cache.counters().unprovable_blocks, 1);
    let mut buffer = vec![0; CHUNK as usize];
    assert_eq!(file.try_read_nowait(0, &mut buffer).unwrap(), None, "in doubt until checked");
    assert_eq!(check(&file), BLOCK / CHUNK);
    assert_eq!(cache.counters().digest_failures, 1);
    assert_eq!(file.missing(0..SIZE), vec![BLOCK..SIZE]);
    fill(&file);
    assert!(file.is_complete());
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
}

#[test]
fn a_kill_between_the_checks_keeps_the_rest_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let identity = leave_unsynced(dir.path());
    let cache = open(dir.path(), LIMIT, OTHER_BOOT);
    let mut one = [0];
    cache.file(&identity).unwrap().read_at(0, &mut one).unwrap().unwrap();
    kill(cache);

    let data = OpenOptions::new().write(true).open(data_path(dir.path(), &identity.id())).unwrap();
    data.write_all_at(&[0], BLOCK).unwrap();
    let cache = open(dir.path(), LIMIT, OTHER_BOOT);
    let file = cache.file(&identity).unwrap();
    assert_eq!(check(&file), BLOCK / CHUNK);
    assert_eq!(cache.counters().verified_blocks, 1, "the first was proved before, the second is not");
}

#[test]
fn a_whole_file_in_doubt_is_checked_in_the_background_and_then_told() {
    let dir = tempfile::tempdir().unwrap();
    let identity = object("a", SIZE);
    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&identity).unwrap();
    fill(&file);
    drop(file);
    kill(cache);
    // As if the sync had not happened: its only trace is a flag of the head, whose check is not ours to forge,
    // so take the flag away by writing the file anew without a steward.
    fs::remove_dir_all(dir.path().join("objects")).unwrap();
    fs::create_dir(dir.path().join("objects")).unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    cache.shutdown();
    fill(&cache.file(&identity).unwrap());
    kill(cache);

    let cache = open(dir.path(), LIMIT, OTHER_BOOT);
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    cache.on_complete(Box::new(move |_| {
        count.fetch_add(1, SeqCst);
    }));
    let file = cache.file(&identity).unwrap();
    wait_until("all blocks are checked", || file.is_complete());
    wait_until("completion is told", || told.load(SeqCst) == 1);
    assert!(cache.sync_all(PATIENCE));
    assert_eq!(cache.counters().verified_blocks, 4);
    assert_eq!(told.load(SeqCst), 1);
}

#[test]
fn torn_meta_files_and_orphans_are_dropped_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ["cut", "flipped", "gone", "short", "no-data"];
    let cache = open(dir.path(), LIMIT, BOOT);
    for key in keys {
        fill(&cache.file(&object(key, SIZE)).unwrap());
    }
    kill(cache);
    let meta = |key: &str| meta_path(dir.path(), &object(key, SIZE).id());
    let data = |key: &str| data_path(dir.path(), &object(key, SIZE).id());
    OpenOptions::new().write(true).open(meta("cut")).unwrap().set_len(40).unwrap();
    OpenOptions::new().write(true).open(meta("flipped")).unwrap().write_all_at(&[9], 20).unwrap();
    fs::remove_file(meta("gone")).unwrap();
    OpenOptions::new().write(true).open(data("short")).unwrap().set_len(SIZE - 1).unwrap();
    fs::remove_file(data("no-data")).unwrap();

    let cache = open(dir.path(), LIMIT, BOOT);
    for key in keys {
        let file = cache.file(&object(key, SIZE)).unwrap();
        assert_eq!(file.present_bytes(), 0, "{key}");
        fill(&file);
        assert_eq!(check(&file), SIZE.div_ceil(CHUNK), "{key}");
    }
    assert_eq!(cache.counters().torn_files + cache.counters().orphan_files, 5);
}

#[test]
fn a_torn_record_costs_its_block_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let identity = object("a", SIZE);
    let cache = open(dir.path(), LIMIT, BOOT);
    fill(&cache.file(&identity).unwrap());
    kill(cache);
    let path = meta_path(dir.path(), &identity.id());
    let length = fs::metadata(&path).unwrap().len();
    let meta = OpenOptions::new().write(true).open(path).unwrap();
    meta.write_all_at(&[0xA5], length - 3 * 32 + 3).unwrap(); // the second of four records

    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&identity).unwrap();
    assert_eq!(file.missing(0..SIZE), vec![BLOCK..2 * BLOCK]);
    assert!(!file.is_complete());
    fill(&file);
    assert_eq!(check(&file), SIZE.div_ceil(CHUNK));
}

#[test]
fn verify_finds_and_repairs_what_rotted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let identity = object("a", SIZE);
    let file = cache.file(&identity).unwrap();
    fill(&file);
    assert!(cache.sync_all(PATIENCE));
    let data = OpenOptions::new().write(true).open(data_path(dir.path(), &identity.id())).unwrap();
    data.write_all_at(&[0], 2 * BLOCK + 9).unwrap();

    let report = cache.verify(&|_, _| true, false);
    assert_eq!((report.files, report.blocks, report.bad_blocks), (1, 4, 1));
    assert_eq!((report.bad[0].block, report.bytes), (2, SIZE));
    assert!(file.is_complete(), "only looked");
    assert_eq!(cache.verify(&|_, _| true, true).bad_blocks, 1);
    assert_eq!(file.missing(0..SIZE), vec![2 * BLOCK..3 * BLOCK]);
    fill(&file);
    assert_eq!(cache.verify(&|_, _| true, true).bad_blocks, 0);
    assert!(cache.verify(&|_, _| false, true).stopped);
}

#[test]
fn a_file_that_is_filled_up_after_another_boot_is_checked_without_anybody_reading_it() {
    let dir = tempfile::tempdir().unwrap();
    let identity = object("half", SIZE);
    let cache = open(dir.path(), 64 * BLOCK, BOOT);
    assert_eq!(write(&cache.file(&identity).unwrap(), 0..BLOCK), Kept::Yes);
    drop(cache);
    let cache = open(dir.path(), 64 * BLOCK, OTHER_BOOT);
    let file = cache.file(&identity).unwrap();
    assert!(!file.is_complete() && file.present_bytes() == BLOCK);
    fill(&file);
    wait_until("what is in doubt is checked", || file.is_complete());
    assert!(!file.awaits_check());
}
