//! The crate's front: objects by identity, the threads, the counters.

use crate::budget::{Pool, PoolStatus, Relief};
use crate::counters::{Event, Events, FetchCounters};
use crate::errands::Errands;
use crate::fill::Fill;
use crate::load::Load;
use crate::object::Object;
use crate::part::Part;
use crate::queue::Queue;
use crate::source::Source;
use crate::writer::Writer;
use headrace_cache::{Cache, ObjectId, ObjectIdentity};
use headrace_sync::atomic::{AtomicBool, Ordering::Relaxed};
use headrace_sync::thread::{self, JoinHandle};
use headrace_sync::{Condvar, Instant, Mutex};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Settings of the fetcher.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Budget for buffers, in bytes; at least 8 MiB are taken.
    pub memory_bytes: u64,
    /// Flights under way at once.
    pub workers: usize,
    /// Threads that write to the cache disks.
    pub writers: usize,
    /// A read that could not be answered for this long fails with EIO.
    pub deadline: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, workers: 32, writers: 2, deadline: Duration::from_secs(300) }
    }
}

/// One version of one object, as a snapshot lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSpec {
    /// The whole key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// As listed, with its quotes.
    pub etag: String,
    /// The version id where the bucket has versions.
    pub version: Option<String>,
    /// In a storage class without bytes to read.
    pub archived: bool,
}

pub(crate) struct Shared {
    pub(crate) config: FetchConfig,
    pub(crate) cache: Arc<Cache>,
    /// What the cache may hold, in bytes.
    pub(crate) cache_bytes: u64,
    pub(crate) pool: Arc<Pool>,
    pub(crate) queue: Queue,
    pub(crate) writer: Arc<Writer>,
    pub(crate) counters: Arc<FetchCounters>,
    pub(crate) events: LimitedEvents,
    pub(crate) fill: Fill,
    pub(crate) errands: Errands,
    pub(crate) stopping: AtomicBool,
}

/// Events, with those that could come a thousand times a second held to one a second.
#[derive(Default)]
pub(crate) struct LimitedEvents {
    events: Events,
    last: Mutex<Option<Instant>>,
}

impl LimitedEvents {
    pub(crate) fn push(&self, kind: &'static str, object: &str, message: &str) {
        self.events.push(kind, object, message);
    }

    pub(crate) fn push_limited(&self, kind: &'static str, object: &str, message: &str) {
        let mut last = self.last.lock();
        if last.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        self.events.push(kind, object, message);
    }
}

type ObjectKey = (ObjectId, String);

/// Every object that a door has asked for, and the threads that bring their bytes.
pub struct Fetcher {
    shared: Arc<Shared>,
    objects: Mutex<HashMap<ObjectKey, Weak<Object>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    bell: Arc<(Mutex<bool>, Condvar)>,
}

const TICK: Duration = Duration::from_millis(250);
const STACK_BYTES: usize = 512 * 1024;

impl Fetcher {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(cache: Arc<Cache>, config: FetchConfig) -> std::io::Result<Arc<Self>> {
        let counters = Arc::new(FetchCounters::default());
        let pool = Pool::new(config.memory_bytes);
        let writer = Writer::new(Arc::clone(&counters), pool.limit() as u64 / 2);
        let relief: Arc<dyn Relief> = writer.clone();
        pool.set_relief(Arc::downgrade(&relief));
        let shared = Arc::new(Shared {
            queue: Queue::new(config.workers),
            config,
            cache_bytes: cache.usage().limit_bytes,
            cache,
            pool,
            writer,
            counters,
            events: LimitedEvents::default(),
            fill: Fill::default(),
            errands: Errands::default(),
            stopping: AtomicBool::new(false),
        });
        let fetcher = Arc::new(Self { shared, objects: Mutex::default(), threads: Mutex::default(), bell: Arc::default() });
        fetcher.start_threads()?;
        Ok(fetcher)
    }

    fn start_threads(self: &Arc<Self>) -> std::io::Result<()> {
        let config = &self.shared.config;
        for index in 0..config.workers.max(1) {
            let shared = Arc::clone(&self.shared);
            self.spawn(format!("fetch-{index}"), move || work(&shared))?;
        }
        for index in 0..config.writers.max(1) {
            let shared = Arc::clone(&self.shared);
            self.spawn(format!("write-{index}"), move || shared.writer.run())?;
        }
        let shared = Arc::clone(&self.shared);
        self.spawn("errands".to_owned(), move || shared.errands.run())?;
        let weak = Arc::downgrade(self);
        let bell = Arc::clone(&self.bell);
        self.spawn("deadline".to_owned(), move || tick(&weak, &bell))
    }

    fn spawn(&self, name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(body)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// The object of `spec`, one for every `origin` name: bytes are fetched with the right of the one who asks. `load` is that of
    /// its directory, with its name there, if reading it is worth learning from.
    pub fn object(
        &self,
        origin: &str,
        identity: ObjectIdentity,
        source: &Arc<dyn Source>,
        spec: ObjectSpec,
        load: Option<(&Arc<Load>, &str)>,
    ) -> Arc<Object> {
        let key = (identity.id(), origin.to_owned());
        let mut objects = self.objects.lock();
        if let Some(object) = objects.get(&key).and_then(Weak::upgrade) {
            return object;
        }
        if objects.len() >= 1024 && objects.len().is_power_of_two() {
            objects.retain(|_, object| object.strong_count() > 0);
        }
        let object = Arc::new_cyclic(|object| {
            let part = load.and_then(|(load, name)| Part::of(load, name, spec.size, object));
            Object::new(spec, identity, Arc::clone(source), Arc::clone(&self.shared), part)
        });
        objects.insert(key, Arc::downgrade(&object));
        object
    }

    /// The cache behind it.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    /// The counters.
    pub fn counters(&self) -> &FetchCounters {
        &self.shared.counters
    }

    /// The last events, oldest first.
    pub fn events(&self, limit: usize) -> Vec<Event> {
        self.shared.events.events.latest(limit)
    }

    /// The memory budget.
    pub fn pool(&self) -> PoolStatus {
        self.shared.pool.status()
    }

    /// Flights that wait for a worker.
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn expire(&self) {
        if self.shared.counters.waiting.load(Relaxed) == 0 {
            return;
        }
        let live: Vec<_> = self.objects.lock().values().filter_map(Weak::upgrade).collect();
        let now = Instant::now();
        for object in live {
            object.expire(now);
        }
    }

    /// Stops: queued flights fail, what has arrived is written (for at most 10 s), threads end. The caller has
    /// shut the origins down, so that running flights end too.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Relaxed);
        self.shared.errands.close();
        for flight in self.shared.queue.close() {
            flight.abandon();
        }
        *self.bell.0.lock() = true;
        self.bell.1.notify_all();
        if !self.shared.writer.drain(Duration::from_secs(10)) {
            log::warn!("stopped before the cache disk had taken everything; the rest is fetched again when asked for");
        }
        self.shared.writer.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                log::error!("an engine thread had panicked");
            }
        }
    }
}

fn work(shared: &Shared) {
    while let Some((flight, prefetch)) = shared.queue.pop() {
        flight.run();
        if prefetch {
            shared.queue.prefetch_done();
        }
    }
}

fn tick(fetcher: &Weak<Fetcher>, bell: &(Mutex<bool>, Condvar)) {
    loop {
        let mut stopped = bell.0.lock();
        if *stopped {
            return;
        }
        bell.1.wait_for(&mut stopped, TICK);
        if *stopped {
            return;
        }
        drop(stopped);
        match fetcher.upgrade() {
            Some(fetcher) => {
                fetcher.expire();
                fetcher.shared.writer.offer_again(1);
                fetcher.shared.writer.expire_held();
                fetcher.shared.fill.step(&fetcher.shared);
            }
            None => return,
        }
    }
}
