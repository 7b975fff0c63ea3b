//! Failures of a moment ago, so that nobody waits twice for what has just failed, and a loader's retries don't pile up.

use crate::ReadError;
use crate::ranges::overlaps;
use headrace_sync::Instant;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How long what a request did not bring is remembered.
const MEMORY: Duration = Duration::from_secs(3);
/// How long what a reader was refused is remembered. The kernel asks again for a page whose read-ahead has failed, at once: one read
/// would wait for two deadlines. Whoever tries again by itself comes later, and bytes may be on their way all the time.
const SECOND_QUESTION: Duration = Duration::from_millis(500);
/// Failures of each kind remembered for one object.
const MOST: usize = 64;

struct Failure {
    range: Range<u64>,
    until: Instant,
    error: ReadError,
}

/// Of one kind, oldest first.
#[derive(Default)]
struct Recent(VecDeque<Failure>);

impl Recent {
    fn note(&mut self, range: Range<u64>, error: ReadError, memory: Duration) {
        self.forget();
        self.0.retain(|f| f.range.start < range.start || f.range.end > range.end);
        let until = Instant::now() + memory;
        if self.0.len() < MOST {
            return self.0.push_back(Failure { range, until, error });
        }
        // So many at once are no matter of single ranges.
        let whole = self.0.drain(..).map(|f| f.range).fold(range, |all, one| all.start.min(one.start)..all.end.max(one.end));
        self.0.push_back(Failure { range: whole, until, error });
    }

    fn last(&mut self) -> Option<ReadError> {
        self.forget();
        self.0.back().map(|f| f.error.clone())
    }

    fn of(&mut self, missing: &[Range<u64>]) -> Option<ReadError> {
        self.forget();
        self.0.iter().find(|f| missing.iter().any(|m| overlaps(m, &f.range))).map(|f| f.error.clone())
    }

    fn forget(&mut self) {
        if !self.0.is_empty() {
            let now = Instant::now();
            self.0.retain(|f| f.until > now);
        }
    }
}

/// Those of one object.
#[derive(Default)]
pub(crate) struct Failures {
    /// What requests did not bring, and readers had waited for.
    told: Recent,
    /// What requests did not bring, and nobody had waited for: it stops what is fetched ahead, and no reader.
    untold: Recent,
    /// What readers were refused.
    refused: Recent,
}

impl Failures {
    /// A request did not bring this; `told` says that readers were failed by it.
    pub(crate) fn note(&mut self, range: Range<u64>, error: ReadError, told: bool) {
        let recent = if told { &mut self.told } else { &mut self.untold };
        recent.note(range, error, MEMORY);
    }

    /// A reader was refused this, wherever the bytes are.
    pub(crate) fn refuse(&mut self, range: Range<u64>, error: ReadError) {
        self.refused.note(range, error, SECOND_QUESTION);
    }

    /// Why nothing should be fetched ahead now.
    pub(crate) fn standing(&mut self) -> Option<ReadError> {
        self.told.last().or_else(|| self.untold.last())
    }

    /// The last cause there is.
    pub(crate) fn last(&mut self) -> Option<ReadError> {
        self.standing().or_else(|| self.refused.last())
    }

    /// True when no reader is told anything at once.
    pub(crate) fn tell_nobody(&mut self) -> bool {
        self.told.last().is_none() && self.refused.last().is_none()
    }

    /// What a reader is told at once who lacks ranges, some of them on their way for somebody else.
    pub(crate) fn of(&mut self, missing: &[Range<u64>], not_on_their_way: &[Range<u64>]) -> Option<ReadError> {
        self.refused.of(missing).or_else(|| self.told.of(not_on_their_way))
    }
}
