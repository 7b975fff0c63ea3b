//! Failures of a moment ago: what has just failed fails at once, so that a loader's retries don't pile up.

use crate::ReadError;
use crate::ranges::overlaps;
use headrace_sync::Instant;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How long a failure is remembered.
const MEMORY: Duration = Duration::from_secs(3);
/// Failures remembered for one object.
const MOST: usize = 64;

struct Failure {
    range: Range<u64>,
    until: Instant,
    error: ReadError,
    told: bool,
}

/// Those of one object, oldest first.
#[derive(Default)]
pub(crate) struct Failures(VecDeque<Failure>);

impl Failures {
    /// Remembers one. `told` says that a reader was failed by it; what nobody has waited for stops what is fetched ahead, and no reader.
    pub(crate) fn note(&mut self, range: Range<u64>, error: ReadError, told: bool) {
        self.forget();
        self.0.retain(|f| f.range.start < range.start || f.range.end > range.end || f.told && !told);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Failure { range, until: Instant::now() + MEMORY, error, told });
    }

    /// The last one, if it is not long over.
    pub(crate) fn last(&mut self) -> Option<&ReadError> {
        self.forget();
        self.0.back().map(|f| &f.error)
    }

    /// What a reader is told at once who lacks these ranges.
    pub(crate) fn of(&mut self, missing: &[Range<u64>]) -> Option<ReadError> {
        self.forget();
        let hit = self.0.iter().find(|f| f.told && missing.iter().any(|m| overlaps(m, &f.range)));
        hit.map(|f| f.error.clone())
    }

    fn forget(&mut self) {
        if !self.0.is_empty() {
            let now = Instant::now();
            self.0.retain(|f| f.until > now);
        }
    }
}
