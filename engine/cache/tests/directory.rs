//! Directories: locks, formats, several disks, full and read-only ones, doors.

mod support;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use headrace_cache::{BLOCK, CHUNK, Cache, CacheDirectory, Kept, MIN_LIMIT, Unkept};
use support::*;

const LIMIT: u64 = 64 * BLOCK;

/// A small tmpfs; `None`, said aloud, without the privilege to mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let target = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        let options = CString::new(format!("size={size},mode=700")).unwrap();
        // SAFETY: four C strings that outlive the call.
        let result = unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            skip(&format!("mounting a small disk needs root ({error})"));
            return None;
        }
        Some(SmallDisk(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount_read_only(&self) -> bool {
        let target = CString::new(self.path().as_os_str().as_bytes()).unwrap();
        let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
        // SAFETY: C strings that outlive the call; null data is allowed.
        unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), flags, std::ptr::null()) == 0 }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = CString::new(self.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn one_node_owns_a_directory_and_hands_it_on() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let error = try_open(dir.path(), LIMIT, BOOT).err().unwrap();
    assert_eq!(error.code(), "cache-locked");
    let text = error.to_string();
    assert!(text.contains(&std::process::id().to_string()) && text.contains("stop that node"), "{text}");

    // SAFETY: the cache keeps the descriptor open during the duplication.
    let lock = unsafe { BorrowedFd::borrow_raw(cache.lock_fds()[0]) }.try_clone_to_owned().unwrap();
    drop(cache);
    assert!(try_open(dir.path(), LIMIT, BOOT).is_err(), "the keeper holds the lock");
    let successor = Cache::open(headrace_cache::CacheConfig { locks: vec![lock], ..config(dir.path(), LIMIT, BOOT) });
    drop(successor.unwrap());
    drop(open(dir.path(), LIMIT, BOOT));
}

#[test]
fn only_the_owner_may_look_inside() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/deep");
    let cache = open(&root, LIMIT, BOOT);
    let file = cache.file(&object("a", BLOCK)).unwrap();
    fill(&file);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("objects")), 0o700);
    assert_eq!(mode(data_path(&root, &file.id()).parent().unwrap()), 0o700);
    assert_eq!(mode(&data_path(&root, &file.id())), 0o600);
    assert_eq!(mode(&meta_path(&root, &file.id())), 0o600);
}

#[test]
fn an_unknown_format_is_set_aside_and_the_cache_starts_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    fill(&cache.file(&object("a", BLOCK)).unwrap());
    drop(cache);
    fs::write(dir.path().join("headrace-cache"), "headrace-cache 2\n").unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    assert_eq!(cache.file(&object("a", BLOCK)).unwrap().present_bytes(), 0);
    assert_eq!(cache.usage().files, 0);
    assert!(dir.path().join("objects.set-aside-1").is_dir());
}

#[test]
fn a_limit_below_the_least_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = try_open(dir.path(), MIN_LIMIT - 1, BOOT).err().unwrap();
    assert_eq!(error.code(), "cache-too-small");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing left behind");
}

#[test]
fn a_door_is_read_only_and_outlives_eviction() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&object("a", 2 * BLOCK + 1)).unwrap();
    assert_eq!(write(&file, 0..BLOCK), Kept::Yes);
    assert_eq!(file.door().err().unwrap().code(), "cache-not-complete");
    fill(&file);
    let door = file.door().unwrap();
    assert!(cache.evict(&file.id()).is_ok());
    let descriptor = fs::File::from(door.as_fd().try_clone_to_owned().unwrap());
    let mut all = vec![0; file.size() as usize];
    descriptor.read_exact_at(&mut all, 0).unwrap();
    assert!(all == bytes(&file.id(), 0..file.size()));
    assert!(descriptor.write_at(&[0], 0).is_err());
    assert_eq!(file.door().err().unwrap().code(), "cache-evicted");

    let reopened = fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", door.as_raw_fd()));
    if cache.door_is_private() {
        assert_eq!(reopened.unwrap_err().raw_os_error(), Some(libc::EROFS));
    } else {
        skip("without privilege a door can be reopened for writing by its own user");
    }
}

#[test]
fn an_empty_object_has_a_door() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), LIMIT, BOOT);
    let file = cache.file(&object("empty", 0)).unwrap();
    assert!(file.is_complete());
    let door = file.door().unwrap();
    assert_eq!(fs::File::from(door.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().len(), 0);
}

#[test]
fn files_spread_by_limit_and_are_found_again_wherever_they_lie() {
    let (small, large) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let two = || headrace_cache::CacheConfig {
        directories: vec![
            CacheDirectory { path: small.path().into(), limit_bytes: 16 * BLOCK },
            CacheDirectory { path: large.path().into(), limit_bytes: 48 * BLOCK },
        ],
        ..config(small.path(), LIMIT, BOOT)
    };
    let cache = Cache::open(two()).unwrap();
    assert!(cache.wait_scanned(PATIENCE));
    for n in 0..200 {
        fill(&cache.file(&object(&format!("k{n}"), CHUNK)).unwrap());
    }
    let usage = cache.usage();
    let share = usage.directories[0].files as f64 / usage.files as f64;
    assert!((0.15..0.35).contains(&share), "{share}");
    drop(cache);

    // The small one alone has become the better place for everything, and what lies in the large one is found.
    let mut turned = two();
    turned.directories[0].limit_bytes = 1 << 50;
    let cache = Cache::open(turned).unwrap();
    for n in 0..200 {
        assert!(cache.file(&object(&format!("k{n}"), CHUNK)).unwrap().is_complete(), "{n}");
    }
    drop(cache);
    // A lost disk loses its share and no more.
    let cache = open(large.path(), LIMIT, BOOT);
    assert_eq!(cache.usage().files, 200 - usage.directories[0].files);
}

#[test]
fn a_full_disk_keeps_nothing_more_and_breaks_nothing() {
    let Some(disk) = SmallDisk::mount(12 * BLOCK) else {
        return;
    };
    let cache = open(disk.path(), LIMIT, BOOT);
    let file = cache.file(&object("a", 32 * BLOCK)).unwrap();
    cache.set_pinned(file.identity(), true).unwrap(); // nothing may be evicted for room
    let mut unkept = 0;
    for block in 0..32 {
        match write(&file, block * BLOCK..(block + 1) * BLOCK) {
            Kept::Yes => {}
            Kept::No(Unkept::NoRoom | Unkept::DiskFull) => unkept += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((20..28).contains(&unkept), "{unkept}");
    assert_eq!(check(&file) * CHUNK, file.present_bytes());
    assert_eq!(cache.usage().directories[0].failed, None, "full is not broken");
    drop(file);
    drop(cache);
    let cache = open(disk.path(), LIMIT, BOOT);
    assert!(check(&cache.file(&object("a", 32 * BLOCK)).unwrap()) > 0);
}

#[test]
fn a_disk_that_others_filled_makes_room_from_the_cache() {
    let Some(disk) = SmallDisk::mount(24 * BLOCK) else {
        return;
    };
    let mut config = config(&disk.path().join("cache"), LIMIT, BOOT);
    config.reserve_bytes = 4 * BLOCK;
    let cache = Cache::open(config).unwrap();
    assert!(cache.wait_scanned(PATIENCE));
    for n in 0..20 {
        fill(&cache.file(&object(&format!("k{n}"), 2 * BLOCK)).unwrap());
    }
    let used = |path: &Path| allocated(path);
    assert!(used(disk.path()) <= 20 * BLOCK, "the reserve stays free: {}", used(disk.path()));
    fs::write(disk.path().join("others"), vec![1; 4 * BLOCK as usize]).unwrap();
    wait_until("the remembered free space is asked for again", || {
        cache.look_after_space();
        used(disk.path()) <= 20 * BLOCK
    });
    fill(&cache.file(&object("more", 2 * BLOCK)).unwrap());
    assert!(used(disk.path()) <= 20 * BLOCK);
}

#[test]
fn a_read_only_disk_is_an_error_at_start_and_a_warning_later() {
    let Some(disk) = SmallDisk::mount(32 * BLOCK) else {
        return;
    };
    let spare = tempfile::tempdir().unwrap();
    let cache = open(disk.path(), LIMIT, BOOT);
    let file = cache.file(&object("a", 2 * BLOCK)).unwrap();
    assert_eq!(write(&file, 0..BLOCK), Kept::Yes);
    drop(file);
    drop(cache);
    assert!(disk.remount_read_only());
    let error = try_open(disk.path(), LIMIT, BOOT).err().unwrap();
    assert_eq!(error.code(), "cache-read-only");
    assert!(error.to_string().contains("mount it read-write"));
    let directories = vec![
        CacheDirectory { path: disk.path().into(), limit_bytes: LIMIT },
        CacheDirectory { path: spare.path().into(), limit_bytes: LIMIT },
    ];
    let both = headrace_cache::CacheConfig { directories, ..config(spare.path(), LIMIT, BOOT) };
    let cache = Cache::open(both).unwrap();
    assert_eq!(cache.usage().directories.len(), 1);
    fill(&cache.file(&object("a", 2 * BLOCK)).unwrap());
}

#[test]
fn a_disk_that_fails_while_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spare = tempfile::tempdir().unwrap();
    let directories = [dir.path(), spare.path()].map(|path| CacheDirectory { path: path.into(), limit_bytes: LIMIT }).into();
    let cache = Cache::open(headrace_cache::CacheConfig { directories, ..config(dir.path(), LIMIT, BOOT) }).unwrap();
    assert!(cache.wait_scanned(PATIENCE));
    let file = (0..)
        .map(|n| cache.file(&object(&format!("k{n}"), 2 * BLOCK)).unwrap())
        .find(|file| {
            assert_eq!(write(file, 0..BLOCK), Kept::Yes);
            data_path(dir.path(), &file.id()).exists()
        })
        .unwrap();
    let whole = (0..)
        .map(|n| cache.file(&object(&format!("whole{n}"), 2 * BLOCK)).unwrap())
        .find(|file| {
            fill(file);
            data_path(dir.path(), &file.id()).exists()
        })
        .unwrap();
    assert!(cache.sync_all(PATIENCE));
    let closed = whole.identity().clone();
    drop(whole);
    assert!(cache.peek(&closed.id()).unwrap().durable);
    // A data file cut short under us stands for a disk that does not give back what it was given.
    let data = fs::OpenOptions::new().write(true).open(data_path(dir.path(), &file.id())).unwrap();
    data.set_len(10).unwrap();
    let mut buffer = vec![0; CHUNK as usize];
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), None);
    assert_eq!(file.missing(0..BLOCK), vec![0..BLOCK], "to be fetched again");
    assert_eq!(write(&file, 0..BLOCK), Kept::No(Unkept::Failing));
    assert_eq!(cache.counters().failed_directories, 1);
    assert!(cache.usage().directories[0].failed.is_some());
    // What lies whole on it, and is not open, is as if it were not there: for whoever looks as for whoever opens.
    assert_eq!(cache.peek(&closed.id()), None);
    assert_eq!(cache.file(&closed).unwrap().present_bytes(), 0);
    for n in 1000..1010 {
        let file = cache.file(&object(&format!("k{n}"), BLOCK)).unwrap();
        fill(&file);
        assert!(data_path(spare.path(), &file.id()).exists());
    }
}

#[test]
fn a_file_deleted_under_its_name_is_as_if_it_had_never_been_cached() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 64 * BLOCK, BOOT);
    let identity = object("deleted", 2 * BLOCK);
    let file = cache.file(&identity).unwrap();
    fill(&file);
    let door = file.door().unwrap();
    std::fs::remove_file(data_path(dir.path(), &identity.id())).unwrap();
    assert!(file.door().is_err());
    assert!(cache.peek(&identity.id()).is_none_or(|found| !found.complete), "nobody is led to it any more");
    assert_eq!(check(door.file()), 2 * BLOCK / CHUNK, "whoever has it keeps its bytes");
    let again = cache.file(&identity).unwrap();
    fill(&again);
    assert!(again.door().is_ok());
}
