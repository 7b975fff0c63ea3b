//! An object as part of a load.

use crate::counters::FetchCounters;
use crate::errands::Errands;
use crate::load::Load;
use crate::order::Step;
use std::ops::Range;
use std::sync::Arc;

/// The load that an object belongs to, and its number there.
pub(crate) struct Part {
    load: Arc<Load>,
    file: u32,
}

/// What an earlier load asked for next.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Of the object that was read.
    pub(crate) here: Vec<Range<u64>>,
    elsewhere: Vec<Step>,
}

impl Part {
    /// `None` when the load has too many files.
    pub(crate) fn of(load: &Arc<Load>, name: &str, size: u64) -> Option<Self> {
        load.number(name, size).map(|file| Self { load: Arc::clone(load), file })
    }

    /// Notes what a reader asks for, and says what comes next if an earlier load tells. `limit` gives the largest window (bytes) of each
    /// of so many places that are read.
    pub(crate) fn note(&self, range: &Range<u64>, limit: impl Fn(u64) -> u64, counters: &FetchCounters) -> Option<Ahead> {
        let steps = self.load.note(self.file, range, limit, counters)?;
        let (here, elsewhere): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.file == self.file);
        Some(Ahead { here: here.into_iter().map(|step| step.range).collect(), elsewhere })
    }

    /// Notes what is fetched ahead of readers.
    pub(crate) fn note_ahead(&self, range: &Range<u64>, counters: &FetchCounters) {
        self.load.note_ahead(self.file, range, counters);
    }

    /// Has what comes next of other files fetched.
    pub(crate) fn send(&self, errands: &Errands, ahead: Ahead) {
        for step in ahead.elsewhere {
            errands.push(&self.load, step.file, step.range);
        }
    }
}

impl Ahead {
    /// What goes on, in this object, where a read ends.
    pub(crate) fn next(&self, read: &Range<u64>) -> Range<u64> {
        self.here.first().filter(|part| part.start <= read.end).cloned().unwrap_or(read.end..read.end)
    }
}
