//! What of an object is at hand: in the cache file, in memory, or on its way.

use crate::Piece;
use crate::flight::Flight;
use crate::ranges::subtract;
use crate::segment::{SEGMENT, Segment};
use headrace_cache::{CHUNK, CacheFile};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Segments by base: what the cache file does not hold yet, and copies of what it does.
pub(crate) type Memory = BTreeMap<u64, Arc<Segment>>;

/// What of a range is neither kept, nor in memory, nor on its way, in whole chunks. The file is asked first and memory second: the
/// caller holds the object's state, under which a segment becomes a mere copy of what the file has.
pub(crate) fn uncovered(
    memory: &Memory,
    flights: &[Arc<Flight>],
    file: Option<&CacheFile>,
    range: &Range<u64>,
    size: u64,
) -> Vec<Range<u64>> {
    let aligned = range.start / CHUNK * CHUNK..range.end.div_ceil(CHUNK).saturating_mul(CHUNK).min(size);
    let mut missing = match file {
        Some(file) => file.missing(aligned),
        None if aligned.is_empty() => Vec::new(),
        None => vec![aligned],
    };
    if missing.is_empty() {
        return missing;
    }
    for flight in flights {
        missing = subtract(missing, &flight.range);
    }
    // What the cache file was given is for the file to tell: it may have dropped it again.
    for segment in memory.values().filter(|s| !s.is_kept()) {
        let end = segment.base() + segment.filled() as u64;
        // A partly filled chunk is not covered: it can't be kept, and its rest must be fetched.
        let end = if end == size { end } else { end / CHUNK * CHUNK };
        if end > segment.base() {
            missing = subtract(missing, &(segment.base()..end));
        }
    }
    missing
}

/// The answer to a range, when every byte of it is at hand.
pub(crate) fn assemble(memory: &Memory, file: Option<&CacheFile>, range: &Range<u64>) -> Option<Vec<Piece>> {
    if memory.is_empty() {
        return file.is_some_and(|f| f.is_present(range.clone())).then(|| vec![file_piece(range)]);
    }
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if let Some((segment, end)) = in_memory(memory, file, at) {
            let stop = end.min(range.end);
            let offset = usize::try_from(at - segment.base()).ok()?;
            let len = usize::try_from(stop - at).ok()?;
            pieces.push(Piece::Memory { segment: Arc::clone(segment), offset, len });
            at = stop;
            continue;
        }
        let next = memory.range(at + 1..).next().map_or(range.end, |(base, _)| (*base).min(range.end));
        if !file.is_some_and(|f| f.is_present(at..next)) {
            return None;
        }
        pieces.push(file_piece(&(at..next)));
        at = next;
    }
    Some(pieces)
}

fn file_piece(range: &Range<u64>) -> Piece {
    Piece::File { offset: range.start, len: usize::try_from(range.end - range.start).unwrap_or(usize::MAX) }
}

fn in_memory<'a>(memory: &'a Memory, file: Option<&CacheFile>, at: u64) -> Option<(&'a Arc<Segment>, u64)> {
    // Segments never reach over a multiple of their size, so only those from the last one on can hold `at`.
    let floor = at / SEGMENT * SEGMENT;
    memory.range(floor..=at).rev().find_map(|(base, segment)| {
        let end = base + segment.filled() as u64;
        (end > at && counts(segment, file, end)).then_some((segment, end))
    })
}

/// A copy of what the cache file was given is good as long as the file has it: an eviction is meant to be seen.
fn counts(segment: &Segment, file: Option<&CacheFile>, end: u64) -> bool {
    !segment.is_kept() || file.is_some_and(|f| f.is_present(segment.base()..end))
}
