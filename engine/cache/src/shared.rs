//! What all parts of one open cache share: the directories, the map of open files, the callbacks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, UNIX_EPOCH};

use headrace_sync::atomic::{AtomicU32, Ordering::Relaxed};
use headrace_sync::{Mutex, RwLock, SystemTime};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::counters::Counters;
use crate::directory::Directory;
use crate::pages::Pages;
use crate::steward::Chores;
use crate::{CacheConfig, CacheFile, ObjectId, ObjectIdentity, format};

pub type Callback = Box<dyn Fn(&ObjectId) + Send + Sync>;
pub type FullCallback = Box<dyn Fn(&Path, &str) + Send + Sync>;

pub struct Shared {
    pub directories: Vec<Arc<Directory>>,
    pub boot: u32,
    pub reserve_bytes: u64,
    pub max_age: Option<Duration>,
    /// Blocks are compared with their digests each time this process reads them.
    pub verify_reads: bool,
    pub counters: Counters,
    pub chores: Chores,
    pub pages: Pages,
    /// Larger files are not read back into memory, in bytes.
    pub page_bytes: u64,
    /// Files somebody holds an `Arc` of. Locked briefly; whoever takes an `Arc` out of it drops that `Arc`
    /// only after the lock, because a file that goes takes the lock itself.
    pub files: Mutex<BTreeMap<ObjectId, Weak<CacheFile>>>,
    pub on_complete: RwLock<Vec<Arc<Callback>>>,
    pub on_evict: RwLock<Vec<Arc<Callback>>>,
    pub on_full: RwLock<Vec<Arc<FullCallback>>>,
    tick: AtomicU32,
}

impl Shared {
    pub fn new(directories: Vec<Directory>, config: &CacheConfig) -> Shared {
        Shared {
            directories: directories.into_iter().map(Arc::new).collect(),
            boot: format::boot_tag(&config.boot_id),
            reserve_bytes: config.reserve_bytes,
            max_age: config.max_age,
            verify_reads: config.verify_reads,
            counters: Counters::default(),
            chores: Chores::default(),
            pages: Pages::default(),
            page_bytes: config.page_bytes,
            files: Mutex::default(),
            on_complete: RwLock::default(),
            on_evict: RwLock::default(),
            on_full: RwLock::default(),
            tick: AtomicU32::new(0),
        }
    }

    /// The one `CacheFile` of an object, which may still have to look at the disk.
    pub fn file(self: &Arc<Shared>, identity: &ObjectIdentity) -> Arc<CacheFile> {
        let id = identity.id();
        let mut files = self.files.lock();
        let known = files.get(&id).and_then(Weak::upgrade);
        match known {
            Some(file) if !file.is_evicted() => file,
            replaced => {
                let file = Arc::new(CacheFile::new(self.clone(), identity.clone(), id));
                files.insert(id, Arc::downgrade(&file));
                drop(files);
                drop(replaced);
                file
            }
        }
    }

    pub fn live(&self, id: &ObjectId) -> Option<Arc<CacheFile>> {
        self.files.lock().get(id).and_then(Weak::upgrade)
    }

    pub fn live_files(&self) -> Vec<Arc<CacheFile>> {
        self.files.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Working directories in the order in which an object prefers them: weighted rendezvous by limit, so that
    /// adding or losing one moves only its share.
    pub fn placement(&self, id: &ObjectId) -> Vec<Arc<Directory>> {
        let mut scored: Vec<(f64, &Arc<Directory>)> =
            self.directories.iter().filter(|directory| !directory.is_failed()).map(|directory| (score(id, directory), directory)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().map(|(_, directory)| directory.clone()).collect()
    }

    /// The next moment of the clock that orders blocks by use.
    pub fn next_tick(&self) -> u32 {
        self.tick.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// The present moment of that clock.
    pub fn tick(&self) -> u32 {
        self.tick.load(Relaxed)
    }

    pub fn tell_complete(&self, id: &ObjectId) {
        Counters::add(&self.counters.completed_files, 1);
        let callbacks = self.on_complete.read().clone();
        callbacks.iter().for_each(|callback| callback(id));
    }

    pub fn tell_full(&self, directory: &Path, message: &str) {
        let callbacks = self.on_full.read().clone();
        callbacks.iter().for_each(|callback| callback(directory, message));
    }

    pub fn tell_evicted(&self, ids: &[ObjectId]) {
        if ids.is_empty() {
            return;
        }
        let callbacks = self.on_evict.read().clone();
        for id in ids {
            callbacks.iter().for_each(|callback| callback(id));
        }
    }
}

fn score(id: &ObjectId, directory: &Directory) -> f64 {
    let seed = u64::from_le_bytes(directory.id[..8].try_into().expect("8 bytes"));
    let hash = xxh3_64_with_seed(&id.0, seed);
    // In (0, 1): never exactly 0 or 1, whose logarithms have no use here.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    directory.limit_bytes as f64 / -uniform.ln()
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
