//! One version of one object: what is present, what is on its way, who waits.

use crate::at_hand::{Memory, assemble, uncovered};
use crate::failures::Failures;
use crate::fetcher::{ObjectSpec, Shared};
use crate::flight::{Flight, Landed};
use crate::layout::Layout;
use crate::part::Part;
use crate::ranges::{cut, overlaps};
use crate::segment::{SEGMENT, Segment};
use crate::source::Source;
use crate::stream::Streams;
use crate::{Piece, ReadError, ReadReply};
use headrace_cache::{CHUNK, CacheFile, DoorHandle, ObjectIdentity};
use headrace_origin::{OriginError, Pinned};
use headrace_sync::{Instant, Mutex};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The largest flight. Larger ones gain nothing; smaller ones cost requests.
const FLIGHT_MAX: u64 = 8 * 1024 * 1024;
/// A reader's own flight may go on into its prefetch by this much: one request instead of two.
const DEMAND_EXTENSION: u64 = SEGMENT;
/// The largest window of prefetch.
const WINDOW_MAX: u64 = 64 * 1024 * 1024;
/// All windows along learned orders take at most one part in so many of the cache.
const CACHE_SHARE: u64 = 4;

struct Waiter {
    token: u64,
    range: Range<u64>,
    since: Instant,
    reply: Box<dyn ReadReply>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    flights: Vec<Arc<Flight>>,
    waiters: Vec<Waiter>,
    streams: Streams,
    failures: Failures,
    replaced: Option<ReadError>,
    layout: Option<Layout>,
}

type Answer = (Box<dyn ReadReply>, Result<Vec<Piece>, ReadError>);

/// One version of one object, shared by every door.
pub struct Object {
    spec: ObjectSpec,
    identity: ObjectIdentity,
    pinned: Pinned,
    source: Arc<dyn Source>,
    shared: Arc<Shared>,
    part: Option<Part>,
    /// `None` while no cache directory can take it; replaced after an eviction.
    file: Mutex<Option<Arc<CacheFile>>>,
    state: Mutex<State>,
}

impl Object {
    pub(crate) fn new(
        spec: ObjectSpec,
        identity: ObjectIdentity,
        source: Arc<dyn Source>,
        shared: Arc<Shared>,
        part: Option<Part>,
    ) -> Self {
        let pinned = Pinned { key: spec.key.clone(), etag: spec.etag.clone(), version: spec.version.clone(), size: spec.size };
        Self { spec, identity, pinned, source, shared, part, file: Mutex::new(None), state: Mutex::default() }
    }

    /// What the snapshot says of it.
    pub fn spec(&self) -> &ObjectSpec {
        &self.spec
    }

    /// Its name in the cache.
    pub fn identity(&self) -> &ObjectIdentity {
        &self.identity
    }

    /// How long a read may wait.
    pub fn deadline(&self) -> Duration {
        self.shared.config.deadline
    }

    /// Drops the cache file, after the disk failed to give its bytes back: the next read fetches them again.
    pub fn discard(&self) {
        if let Err(error) = self.shared.cache.evict(&self.identity.id()) {
            log::warn!("dropping the unreadable cache file of {}: {error}", self.spec.key);
        }
    }

    pub(crate) fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Its cache file; a fresh one when the last was evicted. `None` when no cache directory can take it.
    pub fn cache_file(&self) -> Option<Arc<CacheFile>> {
        let mut slot = self.file.lock();
        if let Some(file) = slot.as_ref().filter(|f| !f.is_evicted()) {
            return Some(Arc::clone(file));
        }
        match self.shared.cache.file(&self.identity) {
            Ok(file) => {
                *slot = Some(Arc::clone(&file));
                Some(file)
            }
            Err(error) => {
                *slot = None;
                self.shared.events.push_limited("cache-failed", &self.spec.key, &error.to_string());
                None
            }
        }
    }

    /// True when a read needs no look at the disk to find the cache file.
    pub fn is_at_hand(&self) -> bool {
        self.file.try_lock().is_some_and(|slot| slot.as_ref().is_some_and(|file| !file.is_evicted()))
    }

    /// Fetches the whole object ahead of any reader, unless it is cached, on its way, or can't be had.
    pub fn fetch_ahead(self: &Arc<Self>) {
        if self.standing_error().is_none() {
            self.prefetch(0..self.spec.size, Box::new(|| ()));
        }
    }

    /// True when the cache file holds every byte.
    pub fn is_complete(&self) -> bool {
        self.cache_file().is_some_and(|f| f.is_complete())
    }

    /// A descriptor of the complete cache file; `None` while it is incomplete or can't be opened. Waits for the disk to
    /// confirm the file if it has not yet.
    pub fn door(&self) -> Option<DoorHandle> {
        let file = self.cache_file()?;
        if !file.is_complete() {
            return None;
        }
        match file.door() {
            Ok(door) => Some(door),
            Err(error) => {
                log::warn!("no descriptor for {}: {error}", self.spec.key);
                None
            }
        }
    }

    /// Its door was given to a reader, who reads it without us from now on.
    pub fn was_handed_out(&self) {
        self.source.handed_out(self.spec.size);
    }

    /// Answers `reply` with `len` bytes from `offset` (fewer at the end of the object), now or later. Never
    /// waits. `token` names the read for [`Object::interrupt`]; it must be unique among the waiting reads.
    pub fn read(self: &Arc<Self>, offset: u64, len: u64, token: u64, reply: Box<dyn ReadReply>) {
        self.shared.counters.reads.fetch_add(1, Relaxed);
        let range = offset.min(self.spec.size)..offset.saturating_add(len).min(self.spec.size);
        if range.is_empty() {
            return reply.ready(Vec::new());
        }
        let file = self.cache_file();
        let learned = self.part.as_ref().and_then(|p| p.note(&range, |places| self.learned_limit(places), &self.shared.counters));
        let mut state = self.state.lock();
        let own =
            if learned.as_ref().is_none_or(|learned| learned.lost) { self.look_ahead(&mut state, &range) } else { range.end..range.end };
        let ahead = learned.as_ref().map(|learned| learned.next(&range)).filter(|next| !next.is_empty()).unwrap_or_else(|| own.clone());
        let mut flights = Vec::new();
        let answer = if let Some(pieces) = assemble(&state.memory, file.as_deref(), &range) {
            Some((reply, Ok(pieces)))
        } else if let Some(error) = self.known_failure(&mut state, file.as_deref(), &range) {
            Some((reply, Err(error)))
        } else {
            self.shared.counters.waited_reads.fetch_add(1, Relaxed);
            self.shared.counters.waiting.fetch_add(1, Relaxed);
            state.waiters.push(Waiter { token, range: range.clone(), since: Instant::now(), reply });
            self.plan_demand(&mut state, file.as_deref(), &range, &ahead, &mut flights);
            None
        };
        self.plan_prefetch(&mut state, file.as_deref(), &own, &mut flights);
        for part in learned.iter().flat_map(|learned| &learned.here) {
            self.plan_prefetch(&mut state, file.as_deref(), part, &mut flights);
        }
        drop(state);
        self.launch(flights);
        if let Some((part, learned)) = self.part.as_ref().zip(learned) {
            part.send(&self.shared.errands, learned.elsewhere);
        }
        if let Some(answer) = answer {
            self.send(answer);
        }
    }

    /// Gives up a waiting read; its reply gets [`ReadError::Interrupted`]. False when it no longer waits.
    pub fn interrupt(&self, token: u64) -> bool {
        let mut state = self.state.lock();
        let Some(at) = state.waiters.iter().position(|w| w.token == token) else { return false };
        let waiter = state.waiters.swap_remove(at);
        drop(state);
        self.shared.counters.waiting.fetch_sub(1, Relaxed);
        self.shared.counters.interrupted_reads.fetch_add(1, Relaxed);
        waiter.reply.failed(ReadError::Interrupted);
        true
    }

    /// Ranges that are neither kept, nor in memory, nor on their way.
    pub(crate) fn uncovered(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let file = self.cache_file();
        let state = self.state.lock();
        uncovered(&state.memory, &state.flights, file.as_deref(), range, self.spec.size)
    }

    /// Fetches a range ahead of any reader, in one flight; `landed` is called when it has ended. False (and
    /// not called) when nothing of it is missing.
    pub(crate) fn prefetch(self: &Arc<Self>, range: Range<u64>, landed: Landed) -> bool {
        let file = self.cache_file();
        let mut state = self.state.lock();
        let Some(part) = uncovered(&state.memory, &state.flights, file.as_deref(), &range, self.spec.size).into_iter().next() else {
            return false;
        };
        let flight = Flight::new(self, part, false, Some(landed));
        state.flights.push(Arc::clone(&flight));
        drop(state);
        self.launch(vec![flight]);
        true
    }

    /// The error that every missing byte of this object now gets, if any.
    pub(crate) fn standing_error(&self) -> Option<ReadError> {
        let mut state = self.state.lock();
        state.replaced.clone().or_else(|| state.failures.standing())
    }

    /// True while bytes from another boot are being compared with their digests before the file counts as whole.
    pub(crate) fn awaits_check(&self) -> bool {
        self.cache_file().is_some_and(|f| f.awaits_check())
    }

    /// True while bytes are on their way or wait for the disk.
    pub(crate) fn busy(&self) -> bool {
        let state = self.state.lock();
        !state.flights.is_empty() || state.memory.values().any(|s| !s.is_refused() && !s.is_kept())
    }

    /// Fetches a part for a reader that is about to come.
    pub(crate) fn fetch_part_ahead(self: &Arc<Self>, range: &Range<u64>) {
        let file = self.cache_file();
        let mut flights = Vec::new();
        self.plan_prefetch(&mut self.state.lock(), file.as_deref(), range, &mut flights);
        self.launch(flights);
    }

    /// The largest window of each of so many places that are read (bytes).
    fn window_limit(&self, places: u64) -> u64 {
        let budget = self.shared.pool.limit() as u64 / 2;
        (budget / places / 2).clamp(SEGMENT, WINDOW_MAX)
    }

    /// The same along a learned order. What it fetches is read later than what a file's own streams fetch, at most a window later: a small
    /// cache must not drop it before.
    fn learned_limit(&self, places: u64) -> u64 {
        let budget = (self.shared.pool.limit() as u64 / 2).min(self.shared.cache_bytes / CACHE_SHARE);
        (budget / places / 2).clamp(SEGMENT, WINDOW_MAX)
    }

    fn look_ahead(&self, state: &mut State, range: &Range<u64>) -> Range<u64> {
        let limit = self.window_limit(state.streams.active());
        let size = self.spec.size;
        let tensor = state.layout.get_or_insert_with(|| Layout::for_key(&self.spec.key)).tensor(range.start, size);
        state.streams.note(range, limit, &tensor, size)
    }

    fn known_failure(&self, state: &mut State, file: Option<&CacheFile>, range: &Range<u64>) -> Option<ReadError> {
        if self.spec.archived {
            return Some(self.archived());
        }
        if let Some(error) = &state.replaced {
            return Some(error.clone());
        }
        if state.failures.tell_nobody() {
            return None;
        }
        let missing = uncovered(&state.memory, &[], file, range, self.spec.size);
        let not_on_their_way = uncovered(&state.memory, &state.flights, file, range, self.spec.size);
        state.failures.of(&missing, &not_on_their_way)
    }

    /// Tells, where people look for it, why an archived object can't be opened.
    pub fn tell_archived(&self) {
        self.shared.events.push_limited("archived", &self.spec.key, &self.archived().to_string());
    }

    fn archived(&self) -> ReadError {
        ReadError::Failed {
            errno: libc::EIO,
            code: "archived",
            message: format!(
                "{}: the object is in an archive storage class and has no bytes to read; restore it in the bucket, then run `headrace refresh`",
                self.spec.key
            )
            .into(),
        }
    }

    fn plan_demand(
        self: &Arc<Self>,
        state: &mut State,
        file: Option<&CacheFile>,
        range: &Range<u64>,
        ahead: &Range<u64>,
        flights: &mut Vec<Arc<Flight>>,
    ) {
        for flight in &state.flights {
            if overlaps(&flight.range, range) && flight.make_urgent() {
                self.shared.queue.promote(flight);
            }
        }
        let parts = uncovered(&state.memory, &state.flights, file, range, self.spec.size);
        let last = parts.len().saturating_sub(1);
        for (index, mut part) in parts.into_iter().enumerate() {
            // One request instead of two where the prefetch goes on from here.
            if index == last && ahead.start <= part.end && ahead.end > part.end {
                let border = (part.end + DEMAND_EXTENSION) / SEGMENT * SEGMENT;
                let wanted = part.end..border.min(ahead.end).max(part.end);
                if let Some(more) = uncovered(&state.memory, &state.flights, file, &wanted, self.spec.size).into_iter().next()
                    && more.start == part.end
                {
                    self.note_ahead(&more);
                    part.end = more.end;
                }
            }
            for piece in cut(&part, FLIGHT_MAX) {
                self.add_flight(state, piece, true, flights);
            }
        }
    }

    fn plan_prefetch(self: &Arc<Self>, state: &mut State, file: Option<&CacheFile>, ahead: &Range<u64>, flights: &mut Vec<Arc<Flight>>) {
        if ahead.is_empty() || self.spec.archived || state.replaced.is_some() || state.failures.standing().is_some() {
            return;
        }
        let window = ahead.end - ahead.start;
        let size = (window / 4).clamp(SEGMENT, FLIGHT_MAX) / SEGMENT * SEGMENT;
        for part in uncovered(&state.memory, &state.flights, file, ahead, self.spec.size) {
            for piece in cut(&part, size) {
                self.add_flight(state, piece, false, flights);
            }
        }
    }

    fn note_ahead(&self, range: &Range<u64>) {
        if let Some(part) = &self.part {
            part.note_ahead(range, &self.shared.counters);
        }
    }

    fn add_flight(self: &Arc<Self>, state: &mut State, range: Range<u64>, urgent: bool, flights: &mut Vec<Arc<Flight>>) {
        if !urgent {
            self.note_ahead(&range);
        }
        let flight = Flight::new(self, range, urgent, None);
        state.flights.push(Arc::clone(&flight));
        flights.push(flight);
    }

    fn launch(&self, flights: Vec<Arc<Flight>>) {
        for flight in flights {
            if let Some(refused) = self.shared.queue.push(flight) {
                refused.abandon();
            }
        }
    }

    pub(crate) fn segment_begun(&self, segment: &Arc<Segment>) {
        self.state.lock().memory.insert(segment.base(), Arc::clone(segment));
    }

    /// Answers the readers whose last missing bytes have just arrived.
    pub(crate) fn segment_grew(&self, segment: &Segment) {
        let reach = segment.base()..segment.base() + segment.filled() as u64;
        let mut state = self.state.lock();
        if !state.waiters.iter().any(|w| overlaps(&w.range, &reach)) {
            return;
        }
        let file = self.file.lock().clone();
        let answers = self.take_ready(&mut state, file.as_deref(), &reach);
        drop(state);
        self.send_all(answers);
    }

    pub(crate) fn segment_full(self: &Arc<Self>, segment: Arc<Segment>) {
        self.shared.writer.push(Arc::clone(self), segment);
    }

    /// The bytes of a segment that can be kept: whole chunks, or up to the end of the object.
    pub(crate) fn keepable(&self, segment: &Segment) -> usize {
        let end = segment.base() + segment.filled() as u64;
        let whole = if end == self.spec.size { end } else { end / CHUNK * CHUNK };
        usize::try_from(whole.saturating_sub(segment.base())).unwrap_or(0)
    }

    /// From now on a segment is a copy of what the cache file has. Said under the lock: whoever looks what is missing asks the
    /// file first and memory second, and must find the bytes in one of them.
    pub(crate) fn note_kept(&self, segment: &Segment) {
        let _state = self.state.lock();
        segment.set_kept();
    }

    /// Takes a segment out of memory: the cache file holds it, or it was given up. Readers that counted on it get new flights.
    pub(crate) fn release_segment(self: &Arc<Self>, segment: &Arc<Segment>, kept: bool) {
        if !segment.release_once() {
            return;
        }
        let mut state = self.state.lock();
        if state.memory.get(&segment.base()).is_some_and(|s| Arc::ptr_eq(s, segment)) {
            state.memory.remove(&segment.base());
        }
        if kept || state.waiters.is_empty() {
            return;
        }
        let flights = self.rescue(&mut state);
        drop(state);
        self.launch(flights);
    }

    /// A flight that began at `begun` has ended at `reached`; what it did not bring fails for those who wait for it. Who came while it was
    /// under way has waited for less than it, though, and gets another flight where only time was lacking: one, for it is there when that begins.
    pub(crate) fn flight_ended(self: &Arc<Self>, flight: &Arc<Flight>, begun: Instant, reached: u64, error: Option<OriginError>) {
        let mut answers = Vec::new();
        let mut state = self.state.lock();
        state.flights.retain(|f| !Arc::ptr_eq(f, flight));
        let left = reached / CHUNK * CHUNK..flight.range.end;
        if let Some(error) = error.filter(|_| reached < flight.range.end) {
            self.note_failure(&mut state, &left, &error, begun, &mut answers);
        }
        let file = self.file.lock().clone();
        let reach = flight.range.clone();
        answers.extend(self.take_ready(&mut state, file.as_deref(), &reach));
        let flights = if state.waiters.is_empty() { Vec::new() } else { self.rescue(&mut state) };
        drop(state);
        self.launch(flights);
        self.send_all(answers);
    }

    fn note_failure(&self, state: &mut State, left: &Range<u64>, error: &OriginError, begun: Instant, answers: &mut Vec<Answer>) {
        let cancelled = matches!(error, OriginError::Cancelled);
        if cancelled && !self.shared.stopping.load(Relaxed) {
            return;
        }
        let failure = ReadError::from_origin(error);
        if let Some(part) = self.part.as_ref().filter(|_| !cancelled) {
            part.give_up();
        }
        let lacked_time = error.ran_out_of_time();
        let failed = take_waiters(state, |w| overlaps(&w.range, left) && !(lacked_time && w.since > begun));
        if let ReadError::Replaced(message) = &failure {
            if state.replaced.replace(failure.clone()).is_none() {
                self.shared.counters.replaced_objects.fetch_add(1, Relaxed);
                self.shared.events.push("replaced", &self.spec.key, message);
            }
        } else if !cancelled {
            self.shared.events.push_limited("read-failed", &self.spec.key, &failure.to_string());
            state.failures.note(left.clone(), failure.clone(), !lacked_time || !failed.is_empty());
        }
        if !cancelled {
            for waiter in &failed {
                state.failures.refuse(waiter.range.clone(), failure.clone());
            }
        }
        self.shared.counters.waiting.fetch_sub(failed.len() as u64, Relaxed);
        answers.extend(failed.into_iter().map(|waiter| (waiter.reply, Err(failure.clone()))));
    }

    /// Flights for what waiting readers lack and nobody fetches: a segment was given up, or a chunk punched, while they waited.
    fn rescue(self: &Arc<Self>, state: &mut State) -> Vec<Arc<Flight>> {
        let file = self.file.lock().clone();
        let wanted: Vec<_> = state.waiters.iter().map(|w| w.range.clone()).collect();
        let mut flights = Vec::new();
        for range in wanted {
            self.plan_demand(state, file.as_deref(), &range, &(0..0), &mut flights);
        }
        flights
    }

    /// Something that arrived could not be kept because the disk lagged: it is filled in later, when things are quiet.
    pub(crate) fn note_unkept(self: &Arc<Self>) {
        self.shared.fill.note(self);
    }

    /// Fails reads that have waited for longer than the deadline.
    pub(crate) fn expire(&self, now: Instant) {
        let limit = self.shared.config.deadline;
        let mut state = self.state.lock();
        let late = take_waiters(&mut state, |w| now.duration_since(w.since) > limit);
        if late.is_empty() {
            return;
        }
        let last: Arc<str> = match state.failures.last() {
            Some(ReadError::Deadline { last, .. }) => last,
            Some(failure) => failure.to_string().into(),
            None => "the origin did not answer in time".into(),
        };
        let error = ReadError::Deadline { seconds: limit.as_secs(), last };
        for waiter in &late {
            state.failures.refuse(waiter.range.clone(), error.clone());
        }
        drop(state);
        self.shared.counters.waiting.fetch_sub(late.len() as u64, Relaxed);
        self.send_all(late.into_iter().map(|waiter| (waiter.reply, Err(error.clone()))).collect());
    }

    fn take_ready(&self, state: &mut State, file: Option<&CacheFile>, reach: &Range<u64>) -> Vec<Answer> {
        let counters = &self.shared.counters;
        let mut answers = Vec::new();
        let mut index = 0;
        while index < state.waiters.len() {
            let range = state.waiters[index].range.clone();
            let pieces = if overlaps(&range, reach) { assemble(&state.memory, file, &range) } else { None };
            let Some(pieces) = pieces else {
                index += 1;
                continue;
            };
            let waiter = state.waiters.swap_remove(index);
            let waited = u64::try_from(waiter.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            counters.wait_ns.fetch_add(waited, Relaxed);
            answers.push((waiter.reply, Ok(pieces)));
        }
        counters.waiting.fetch_sub(answers.len() as u64, Relaxed);
        answers
    }

    fn send_all(&self, answers: Vec<Answer>) {
        for answer in answers {
            self.send(answer);
        }
    }

    fn send(&self, (reply, result): Answer) {
        let counters = &self.shared.counters;
        match result {
            Ok(pieces) => {
                self.source.answered(pieces.iter().map(|piece| piece.len() as u64).sum());
                for piece in &pieces {
                    match piece {
                        Piece::Memory { segment, len, .. } => {
                            segment.serve(*len);
                            counters.miss_bytes.fetch_add(*len as u64, Relaxed);
                        }
                        Piece::File { len, .. } => {
                            counters.hit_bytes.fetch_add(*len as u64, Relaxed);
                        }
                    }
                }
                self.learn_layout(&pieces);
                reply.ready(pieces);
            }
            Err(error) => {
                counters.failed_reads.fetch_add(1, Relaxed);
                if matches!(error, ReadError::Deadline { .. }) {
                    self.shared.events.push_limited("read-failed", &self.spec.key, &error.to_string());
                }
                reply.failed(error);
            }
        }
    }

    /// A header that has just come by tells where the tensors lie.
    fn learn_layout(&self, pieces: &[Piece]) {
        let Some(Piece::Memory { segment, offset, .. }) = pieces.first() else { return };
        if segment.base() != 0 || *offset != 0 {
            return;
        }
        if let Some(layout) = self.state.lock().layout.as_mut() {
            layout.learn(segment.bytes());
        }
    }
}

fn take_waiters(state: &mut State, wanted: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
    let (taken, left) = std::mem::take(&mut state.waiters).into_iter().partition(wanted);
    state.waiters = left;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Held;
    use crate::{FetchConfig, Fetcher};
    use headrace_cache::{Cache, CacheConfig, CacheDirectory};
    use headrace_origin::BodySink;

    struct Nothing;

    impl Source for Nothing {
        fn fetch(&self, _: &Pinned, _: Range<u64>, _: std::time::Instant, _: &mut dyn BodySink) -> Result<(), OriginError> {
            Err(OriginError::Cancelled)
        }
    }

    fn fetcher(directory: &std::path::Path) -> Arc<Fetcher> {
        let cache = Cache::open(CacheConfig {
            directories: vec![CacheDirectory { path: directory.to_owned(), limit_bytes: 64 * SEGMENT }],
            reserve_bytes: 0,
            max_age: None,
            verify_reads: false,
            page_bytes: u64::MAX,
            boot_id: "a-boot".into(),
            locks: Vec::new(),
        });
        let config = FetchConfig { memory_bytes: 8 * SEGMENT, workers: 1, writers: 1, deadline: Duration::from_secs(5) };
        Fetcher::start(cache.unwrap(), config).unwrap()
    }

    /// Whoever looks what is missing holds the lock, has asked the file (which had the bytes not yet) and goes on to memory: a
    /// segment that became a mere copy in between would be in neither, and its bytes be asked for twice.
    #[test]
    fn a_segment_becomes_a_copy_only_while_nobody_looks_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let fetcher = fetcher(directory.path());
        let spec = ObjectSpec { key: "o".into(), size: SEGMENT, etag: "\"e\"".into(), version: None, archived: false };
        let identity =
            ObjectIdentity { endpoint: "http://s".into(), bucket: "b".into(), key: "o".into(), pin: "\"e\"".into(), size: SEGMENT };
        let source: Arc<dyn Source> = Arc::new(Nothing);
        let object = fetcher.object("origin", identity, &source, spec, None);
        let buffer = object.shared.pool.take(SEGMENT as usize, true).unwrap();
        let segment = Arc::new(Segment::new(0, SEGMENT as usize, buffer, true));
        let held = Held::default();
        std::thread::scope(|scope| {
            let looking = object.state.lock();
            scope.spawn(|| assert!(held.keep(&object, &segment)));
            while held.count() == 0 {
                std::thread::yield_now();
            }
            assert!(!segment.is_kept(), "somebody looks");
            drop(looking);
        });
        assert!(segment.is_kept());
        held.close();
        fetcher.stop();
    }
}
