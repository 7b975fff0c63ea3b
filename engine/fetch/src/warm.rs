//! Pulling ahead of use: bounded, with progress, and resumable because what is present is skipped.

use crate::{Fetcher, Object, ReadError};
use headrace_cache::BLOCK;
use headrace_sync::{Condvar, Instant, Mutex};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Bytes of one request.
const PIECE: u64 = 8 * BLOCK;
/// Requests under way at once.
const IN_FLIGHT: usize = 12;
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Files looked at ahead of the one being pulled, so that small files fill the flights too.
const OPEN_FILES: usize = 64;

/// How far a warm-up has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct WarmProgress {
    /// Files held whole.
    pub files: u64,
    /// Files asked for.
    pub files_total: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes asked for.
    pub bytes_total: u64,
    /// Bytes that came from the origin for it.
    pub origin_bytes: u64,
}

/// A file that could not be held whole.
#[derive(Clone, Debug)]
pub struct WarmFailure {
    /// The key.
    pub key: String,
    /// Why.
    pub message: String,
}

struct Pulled {
    object: Arc<Object>,
    /// What was on its way for somebody else, or was found damaged, may be missing after all: asked for once more.
    again: bool,
    missing: VecDeque<Range<u64>>,
    flying: Arc<Mutex<usize>>,
    counted: u64,
    /// What the object last failed with; the object itself forgets it soon.
    error: Option<ReadError>,
}

struct Gate {
    flying: Mutex<usize>,
    landed: Condvar,
}

impl Fetcher {
    /// Pulls every object of `objects` into the cache. `report` is called about five times a second and stops
    /// the warm-up by answering false: nothing is lost, the next one goes on from there.
    pub fn warm(
        &self,
        mut objects: Box<dyn Iterator<Item = Arc<Object>> + '_>,
        totals: (u64, u64),
        report: &mut dyn FnMut(&WarmProgress) -> bool,
    ) -> (WarmProgress, Vec<WarmFailure>) {
        self.shared().writer.offer_again(usize::MAX);
        let fetched_before = self.counters().fetched_bytes.load(Relaxed);
        let gate = Arc::new(Gate { flying: Mutex::new(0), landed: Condvar::new() });
        let mut progress = WarmProgress { files_total: totals.0, bytes_total: totals.1, ..Default::default() };
        let mut failures = Vec::new();
        let mut open: VecDeque<Pulled> = VecDeque::new();
        let mut last = Instant::now();
        let mut exhausted = false;
        loop {
            while !exhausted && open.len() < OPEN_FILES {
                match objects.next() {
                    Some(object) => open.push_back(begin(object, &mut progress)),
                    None => exhausted = true,
                }
            }
            let launched = launch(&mut open, &gate);
            settle(&mut open, &mut progress, &mut failures);
            if open.is_empty() && exhausted {
                break;
            }
            if last.elapsed() >= REPORT_EVERY {
                last = Instant::now();
                progress.origin_bytes = self.counters().fetched_bytes.load(Relaxed) - fetched_before;
                if !report(&progress) || self.shared().stopping.load(Relaxed) {
                    break;
                }
            }
            if !launched {
                let mut flying = gate.flying.lock();
                gate.landed.wait_for(&mut flying, Duration::from_millis(20));
            }
        }
        progress.origin_bytes = self.counters().fetched_bytes.load(Relaxed) - fetched_before;
        report(&progress);
        (progress, failures)
    }
}

fn begin(object: Arc<Object>, progress: &mut WarmProgress) -> Pulled {
    let held = object.cache_file().map_or(0, |f| f.present_bytes());
    progress.bytes += held;
    let missing = missing_pieces(&object);
    Pulled { object, again: true, missing, flying: Arc::default(), counted: held, error: None }
}

fn missing_pieces(object: &Arc<Object>) -> VecDeque<Range<u64>> {
    let mut missing = VecDeque::new();
    if !object.spec().archived {
        for part in object.uncovered(&(0..object.spec().size)) {
            let mut at = part.start;
            while at < part.end {
                let end = ((at / PIECE + 1) * PIECE).min(part.end);
                missing.push_back(at..end);
                at = end;
            }
        }
    }
    missing
}

fn launch(open: &mut VecDeque<Pulled>, gate: &Arc<Gate>) -> bool {
    let mut launched = false;
    for pulled in open.iter_mut() {
        while let Some(range) = pulled.missing.front().cloned() {
            if *gate.flying.lock() >= IN_FLIGHT {
                return launched;
            }
            if let Some(error) = pulled.object.standing_error() {
                pulled.error = Some(error);
                pulled.missing.clear();
                break;
            }
            *gate.flying.lock() += 1;
            *pulled.flying.lock() += 1;
            let (gate2, own) = (Arc::clone(gate), Arc::clone(&pulled.flying));
            let landed = Box::new(move || {
                *own.lock() -= 1;
                *gate2.flying.lock() -= 1;
                gate2.landed.notify_all();
            });
            if pulled.object.prefetch(range, landed) {
                launched = true;
            } else {
                *gate.flying.lock() -= 1;
                *pulled.flying.lock() -= 1;
                pulled.missing.pop_front();
            }
        }
    }
    launched
}

fn settle(open: &mut VecDeque<Pulled>, progress: &mut WarmProgress, failures: &mut Vec<WarmFailure>) {
    open.retain_mut(|pulled| {
        let object = &pulled.object;
        pulled.error = object.standing_error().or_else(|| pulled.error.take());
        // Asked before completeness: the last bytes may be kept between the two questions.
        let waiting = !pulled.missing.is_empty() || *pulled.flying.lock() > 0 || object.busy() || object.awaits_check();
        // And completeness before what is held: a file that counts as whole counts with all its bytes.
        let complete = object.spec().size == 0 || object.is_complete();
        let held = object.cache_file().map_or(0, |f| f.present_bytes());
        progress.bytes = (progress.bytes + held).saturating_sub(pulled.counted);
        pulled.counted = held;
        if complete {
            progress.files += 1;
            return false;
        }
        if waiting {
            return true;
        }
        if std::mem::take(&mut pulled.again) && pulled.error.is_none() {
            pulled.missing = missing_pieces(object);
            if !pulled.missing.is_empty() {
                return true;
            }
        }
        let message = if object.spec().archived {
            "in an archive storage class; restore it in the bucket first".to_owned()
        } else {
            pulled.error.as_ref().map_or_else(
                || "the cache could not keep it: no room, or the disk failed; see `headrace status`".to_owned(),
                ToString::to_string,
            )
        };
        failures.push(WarmFailure { key: object.spec().key.clone(), message });
        false
    });
}
