//! What happened, in numbers and in words.

use headrace_sync::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Counters of the way of a byte; all only grow, except the gauges.
#[derive(Debug, Default)]
pub struct FetchCounters {
    /// Reads asked for by doors.
    pub reads: AtomicU64,
    /// Bytes answered from the cache file.
    pub hit_bytes: AtomicU64,
    /// Bytes answered from memory, on their way from the network.
    pub miss_bytes: AtomicU64,
    /// Reads that waited for the network.
    pub waited_reads: AtomicU64,
    /// Nanoseconds that reads waited, summed.
    pub wait_ns: AtomicU64,
    /// Flights started because a reader waited.
    pub demand_flights: AtomicU64,
    /// Flights started ahead of readers.
    pub prefetch_flights: AtomicU64,
    /// Bytes of large files asked for ahead of readers.
    pub prefetched_bytes: AtomicU64,
    /// Those of them that a reader asked for afterwards.
    pub prefetched_used_bytes: AtomicU64,
    /// Bytes that arrived from sources.
    pub fetched_bytes: AtomicU64,
    /// Bytes that arrived but were not kept: no room, or the disk did not keep up.
    pub unkept_bytes: AtomicU64,
    /// Bytes given up unread because memory was needed; fetched again if asked for.
    pub dropped_bytes: AtomicU64,
    /// Reads that failed.
    pub failed_reads: AtomicU64,
    /// Objects found replaced in the bucket.
    pub replaced_objects: AtomicU64,
    /// Readers that gave up waiting.
    pub interrupted_reads: AtomicU64,
    /// Gauge: reads waiting now.
    pub waiting: AtomicU64,
}

impl FetchCounters {
    /// Every counter with its name, for metrics.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("reads_total", self.reads.load(Relaxed)),
            ("cache_hit_bytes_total", self.hit_bytes.load(Relaxed)),
            ("cache_miss_bytes_total", self.miss_bytes.load(Relaxed)),
            ("waited_reads_total", self.waited_reads.load(Relaxed)),
            ("wait_nanoseconds_total", self.wait_ns.load(Relaxed)),
            ("demand_flights_total", self.demand_flights.load(Relaxed)),
            ("prefetch_flights_total", self.prefetch_flights.load(Relaxed)),
            ("prefetched_bytes_total", self.prefetched_bytes.load(Relaxed)),
            ("prefetched_used_bytes_total", self.prefetched_used_bytes.load(Relaxed)),
            ("fetched_bytes_total", self.fetched_bytes.load(Relaxed)),
            ("unkept_bytes_total", self.unkept_bytes.load(Relaxed)),
            ("dropped_bytes_total", self.dropped_bytes.load(Relaxed)),
            ("failed_reads_total", self.failed_reads.load(Relaxed)),
            ("replaced_objects_total", self.replaced_objects.load(Relaxed)),
            ("interrupted_reads_total", self.interrupted_reads.load(Relaxed)),
            ("reads_waiting", self.waiting.load(Relaxed)),
        ]
    }
}

/// Something an operator may want to know.
#[derive(Clone, Debug)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// `replaced`, `read-failed`, `cache-full`, …
    pub kind: &'static str,
    /// The key, or the cache directory.
    pub object: String,
    /// Operation, cause and remedy.
    pub message: String,
}

/// The last events; older ones are forgotten (the log has them).
#[derive(Default)]
pub(crate) struct Events(Mutex<VecDeque<Event>>);

const KEPT_EVENTS: usize = 256;

impl Events {
    pub(crate) fn push(&self, kind: &'static str, object: &str, message: &str) {
        log::warn!("{kind}: {object}: {message}");
        let time_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        let mut events = self.0.lock();
        if events.len() == KEPT_EVENTS {
            events.pop_front();
        }
        events.push_back(Event { time_ns, kind, object: object.to_owned(), message: message.to_owned() });
    }

    pub(crate) fn latest(&self, limit: usize) -> Vec<Event> {
        let events = self.0.lock();
        events.iter().skip(events.len().saturating_sub(limit)).cloned().collect()
    }
}
